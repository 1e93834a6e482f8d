"""Are the keys in order? `manage.py check` tells; with `--database default` also which secrets cannot be decrypted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from audit.key_files import is_private
from audit.keys import SOURCE, WrongKeys, load_keys
from audit.rotation import list_lost


def connect() -> None:
    """Register the checks."""
    register(check_keys, Tags.security)
    register(check_secrets, Tags.database)


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
