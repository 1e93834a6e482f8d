"""What was found the last time in a file that has not changed since? One SQLite file for each codebase.

Keys are digests of everything that decides about a finding (the content, the path, the rules, the code that looks), so
nothing ever has to be made invalid. The file is worth only the time that it saves: whatever is wrong with it, it is
left alone or made anew, and a review never fails of it. Findings could be hidden by whoever may write it, so it is its
owner's alone, in a folder that is too.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from time import time
from typing import Any, Self

logger = logging.getLogger(__name__)

KEPT_DAYS = 30
"""Days after which an entry that nobody asked for is dropped."""
MAX_BYTES = 256 << 20
"""Of one file; then what was not asked for longest is dropped."""
MAX_ENTRY = 32 << 20

_APPLICATION = 0x63726576
_FORM = 1
_WAIT = 2.0  # seconds for which another review may hold the file
_FLUSH_ENTRIES = 500
_FLUSH_BYTES = 4 << 20
_CHECK = 8  # bytes before each value that say whether it is whole
_DAY = 86_400


class Cache:
    """Outcomes by key. `folder` is made if it is not there; None keeps nothing. `today` counts days since 1970."""

    def __init__(self, folder: Path | None, codebase: str, *, today: int | None = None) -> None:
        self._today = int(time() // _DAY) if today is None else today
        self._connection: sqlite3.Connection | None = None
        self._new: dict[bytes, bytes] = {}
        self._new_bytes = 0
        self._used: list[bytes] = []
        if folder is not None:
            name = blake2b(codebase.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
            self._path = folder / f"{name}.sqlite3"
            self._open(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether anything is kept."""
        return self._connection is not None

    def get(self, key: bytes) -> Any:
        """What was put there, or None."""
        if self._connection is None:
            return None
        try:
            row = self._connection.execute("SELECT value, used FROM entries WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        if row is None:
            return None
        value, used = row
        try:
            if value[:_CHECK] != _check(key, value[_CHECK:]):
                return None
            plain = json.loads(value[_CHECK:])
        except (TypeError, ValueError, RecursionError):
            return None
        if used != self._today:
            self._used.append(key)
        return plain

    def put(self, key: bytes, plain: Any) -> None:
        """Keep values that JSON can hold."""
        if self._connection is None:
            return
        value = json.dumps(plain, separators=(",", ":")).encode()
        if len(value) > MAX_ENTRY:
            return
        self._new[key] = _check(key, value) + value
        self._new_bytes += len(value)
        if len(self._new) >= _FLUSH_ENTRIES or self._new_bytes >= _FLUSH_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is new, and drop what is old."""
        self._flush()
        if self._connection is not None:
            try:
                self._prune(self._connection)
            except sqlite3.Error as error:
                self._give_up(error)
            self._drop_abandoned()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_private_folder(folder)
            self._connection = self._connect()
        except sqlite3.OperationalError as error:
            # Somebody else holds it, or the disk is full: that is no reason to take it away.
            self._give_up(error)
        except sqlite3.DatabaseError:
            self._replace()
        except OSError as error:
            logger.warning("The cache of reviews in %s is not used: %s", folder, error)

    def _replace(self) -> None:
        """What lies there is no cache, or a broken one."""
        logger.warning("The cache of reviews %s cannot be read and is made anew.", self._path)
        try:
            _remove(self._path)
            self._connection = self._connect()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def _connect(self) -> sqlite3.Connection:
        _require_private_file(self._path)
        os.utime(self._path)  # says that the codebase is still reviewed
        connection = sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None)
        connection.text_factory = bytes  # what should not be text need not be readable as such
        try:
            # A crash of the system may cost the cache, and nothing else: it need not wait for the disk.
            connection.execute("PRAGMA synchronous = OFF")
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (form,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables == 0:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_FORM}")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER"
                    " NOT NULL) WITHOUT ROWID"
                )
            elif (application, form) != (_APPLICATION, _FORM):
                raise sqlite3.DatabaseError("made by something else")
            connection.execute("SELECT key, value, used FROM entries LIMIT 1").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _flush(self) -> None:
        if self._connection is None or not (self._new or self._used):
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
                ((key, value, self._today) for key, value in self._new.items()),
            )
            self._connection.executemany(
                "UPDATE entries SET used = ? WHERE key = ?", ((self._today, key) for key in self._used)
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(error)
        self._new.clear()
        self._used.clear()
        self._new_bytes = 0

    def _prune(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM entries WHERE used < ?", (self._today - KEPT_DAYS,))
        (size,) = connection.execute("SELECT sum(length(value) + length(key)) FROM entries").fetchone()
        excess = (size or 0) - MAX_BYTES
        if excess > 0:
            oldest = connection.execute("SELECT key, length(value) + length(key) FROM entries ORDER BY used, key")
            dropped = []
            for key, length in oldest:
                if excess <= 0:
                    break
                dropped.append((key,))
                excess -= length
            connection.executemany("DELETE FROM entries WHERE key = ?", dropped)
        connection.execute("PRAGMA incremental_vacuum")

    def _drop_abandoned(self) -> None:
        """Remove the files of codebases that nobody has reviewed for as long: pipelines leave one a checkout."""
        for path in self._path.parent.glob("*.sqlite3"):
            with suppress(OSError):
                if path != self._path and path.lstat().st_mtime < (self._today - KEPT_DAYS) * _DAY:
                    _remove(path)

    def _give_up(self, error: Exception) -> None:
        logger.warning("The cache of reviews %s is not used any more: %s", self._path, error)
        broken = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if broken:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _check(key: bytes, value: bytes) -> bytes:
    return blake2b(value, key=key, digest_size=_CHECK).digest()


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _require_private_folder(folder: Path) -> None:
    """Make sure that nobody else may write there. Raises OSError."""
    state = os.lstat(folder)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not a folder of this user")
    if state.st_mode & 0o077:
        os.chmod(folder, 0o700)


def _require_private_file(path: Path) -> None:
    """Make sure that there is a file of this user alone. Raises OSError."""
    with suppress(FileNotFoundError):
        state = os.lstat(path)
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o077:
            path.unlink()
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
