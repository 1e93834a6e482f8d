"""Which keys encrypt secrets? Those of GOVERNANCE_ENCRYPTION_KEYS, else those of a file; the first one encrypts.

A key has an id, the beginning of its digest, so that a key that is missing is told from a secret that is damaged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography.fernet import Fernet
from django.conf import settings

from audit import key_files

SOURCE = "GOVERNANCE_ENCRYPTION_KEYS"


class WrongKeys(Exception):
    """The keys that were given cannot be used. Says which, never what they are."""


@dataclass(frozen=True)
class Key:
    """One key: 32 random bytes. Its id is no secret."""

    id: str
    fernet: Fernet


def load_keys() -> tuple[Key, ...]:
    """All keys that are there, the one that encrypts first. Raises `WrongKeys`.

    The file is looked at each time: another process may have put a new key into it.
    """
    if settings.ENCRYPTION_KEYS:
        return _parse(tuple(settings.ENCRYPTION_KEYS), SOURCE)
    path = Path(settings.ENCRYPTION_KEY_FILE)
    try:
        found = path.stat()
        return _read_file(path, (found.st_ino, found.st_mtime_ns, found.st_size))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise WrongKeys(f"{path} cannot be read: {error.strerror}.") from error


def first_key() -> Key:
    """The key that encrypts; where no key was given, one is made and kept in the file. Raises `WrongKeys`."""
    if not settings.ENCRYPTION_KEYS:
        path = Path(settings.ENCRYPTION_KEY_FILE)
        try:
            key_files.read_or_make(path, lambda: f"{make_key()}\n")
        except OSError as error:
            raise WrongKeys(f"{path} cannot be written: {error.strerror}.") from error
    keys = load_keys()
    if not keys:
        raise WrongKeys(f"{settings.ENCRYPTION_KEY_FILE} holds no key.")
    return keys[0]


def find_key(key_id: str) -> Key | None:
    """The key of this id, if it is there."""
    return next((key for key in load_keys() if key.id == key_id), None)


def add_key() -> Key:
    """Put a new key before those in the file. Raises `WrongKeys` where keys come from the environment."""
    if settings.ENCRYPTION_KEYS:
        raise WrongKeys(f"The keys come from {SOURCE}: put the new one first there, and keep the others behind it.")
    path = Path(settings.ENCRYPTION_KEY_FILE)
    try:
        before = path.read_text(encoding="ascii") if path.exists() else ""
        key_files.replace(path, f"{make_key()}\n{before}")
    except OSError as error:
        raise WrongKeys(f"{path} cannot be written: {error.strerror}.") from error
    return load_keys()[0]


def make_key() -> str:
    """A new key as text."""
    return Fernet.generate_key().decode("ascii")


@lru_cache(maxsize=4)
def _read_file(path: Path, seen: tuple[int, int, int]) -> tuple[Key, ...]:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return _parse(tuple(line.strip() for line in lines if line.strip()), str(path))


@lru_cache(maxsize=4)
def _parse(texts: tuple[str, ...], source: str) -> tuple[Key, ...]:
    keys = []
    for number, text in enumerate(texts, start=1):
        try:
            keys.append(Key(hashlib.sha256(text.encode("ascii")).hexdigest()[:8], Fernet(text)))
        except ValueError as error:  # not quoted: it may be a key with a typing error
            raise WrongKeys(f"Entry {number} of {source} is no key: a key is 32 bytes in URL-safe base64.") from error
    return tuple(keys)
