"""What every test stands on: a database whose journal can be emptied between tests, and passwords that hash fast."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection

from audit import triggers
from governance_config import throttling
from overrides import effective

DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "live_server", "admin_client", "client"}


def pytest_configure() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL only what asks the database is run: the rest gives the same answers on both, and was run before."""
    if (
        connection.vendor != "postgresql"
        or os.environ.get("TESTS_ALL") == "1"
        or config.args != config.getini("testpaths")
    ):
        return
    asks = [item for item in items if needs_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(asks)])
    items[:] = asks


def needs_database(item: pytest.Item) -> bool:
    """Whether a test asks the database something that may be answered otherwise there, or starts what does."""
    marks = {mark.name for mark in item.iter_markers()}
    if "walk" in marks:
        return False
    return bool(marks & {"django_db", "postgresql"}) or not DATABASE_FIXTURES.isdisjoint(
        getattr(item, "fixturenames", ())
    )


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
    throttling.local.clear()
    throttling.shared.clear()
    # Not emptied: the other process that runs tests on the same Redis would lose what it counts.
    cache.key_prefix = uuid4().hex
