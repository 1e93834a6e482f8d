"""What every test stands on: a database whose journal can be emptied between tests, and passwords that hash fast."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection

from audit import triggers
from overrides import effective


def pytest_configure() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session", autouse=True)
def journal_can_be_flushed() -> Iterator[None]:
    """Lift the journal's triggers around the flush of transactional tests, and only there."""
    operations = type(connection.ops)
    flush = operations.execute_sql_flush

    def lifted_flush(self: object, statements: list[str]) -> None:
        triggers.lift(connection)
        try:
            flush(self, statements)
        finally:
            triggers.install(connection)

    operations.execute_sql_flush = lifted_flush
    yield
    operations.execute_sql_flush = flush


@pytest.fixture(autouse=True)
def nothing_kept_of_other_tests() -> None:
    """The configuration kept by the process, and in the cache, belongs to the database of the test before."""
    effective._kept = None
    # Not emptied: the other process that runs tests on the same Redis would lose what it counts.
    cache.key_prefix = uuid4().hex
