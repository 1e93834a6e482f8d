"""Are the keys in order? `manage.py check` tells; with `--database default` also which secrets cannot be decrypted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from audit.key_files import is_private
from audit.keys import SOURCE, WrongKeys, load_keys
from audit.readiness import register_state
from audit.rotation import list_lost
from audit.stream import Position, read_position

INTERVAL = 60.0  # seconds between two looks at all secrets, while changes go on and the keys are the same

_looked: tuple[tuple[str, ...], Position, float, int] | None = None  # keys, position, when, number of lost secrets


def connect() -> None:
    """Register the checks."""
    register(check_keys, Tags.security)
    register(check_secrets, Tags.database)
    register_state("secrets", judge_secrets)


def check_keys(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """The keys can be used, and the files that hold any are for their owner alone."""
    found: list[CheckMessage] = []
    try:
        load_keys()
    except WrongKeys as error:
        found.append(Error(str(error), hint=f"See {SOURCE} in docs/operations.md.", id="governance.E001"))
    home = Path(settings.ENCRYPTION_KEY_FILE).parent
    for path in (Path(settings.ENCRYPTION_KEY_FILE), home / "secret.key", home / "governance.sqlite3"):
        if path.exists() and not is_private(path):
            found.append(Warning(f"Others may read {path}.", hint=f"chmod 600 {path}", id="governance.W001"))
    return found


def check_secrets(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Every secret of the present configuration can be decrypted."""
    if "default" not in (databases or ()):
        return []
    try:
        lost = list_lost()
    except DatabaseError:
        return []  # not migrated yet
    hint = "Bring the key back, or set a new value. All else works meanwhile."
    return [Warning(f"A secret cannot be decrypted: {each}", hint=hint, id="governance.W002") for each in lost]


def judge_secrets() -> str:
    """Which secrets are of no use now, as a number; empty if there are none. Which they are `manage.py check` tells."""
    try:
        lost = count_lost(tuple(key.id for key in load_keys()), time.monotonic())
    except WrongKeys:
        return "The encryption keys cannot be used: `manage.py check` says why."
    return f"Secrets that cannot be decrypted: {lost}. `manage.py check --database default` lists them." if lost else ""


def count_lost(keys: tuple[str, ...], now: float) -> int:
    """How many secrets cannot be decrypted; looked up again only if the keys or, some time ago, the rows are others."""
    global _looked
    if _looked is not None and _looked[0] == keys:
        _, seen, looked_at, lost = _looked
        if now - looked_at < INTERVAL or seen == read_position():
            return lost
    position = read_position()
    lost = len(list_lost())
    _looked = keys, position, now, lost
    return lost
