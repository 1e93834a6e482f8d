"""Where does a generated key lie? In a file that only its owner may read, made once however many processes start.

Knows no models and no settings: the settings themselves are read with it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """The text in `path`; if there is no such file, what `make` gives, stored for its owner's eyes only.

    Of processes that begin at the same time one stores its text, whole, and all read that. Raises `OSError`.
    """
    if not path.exists():
        partial = _write_partial(path, make())
        try:
            with suppress(FileExistsError):
                _publish(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path.read_text(encoding="ascii")


def replace(path: Path, text: str) -> None:
    """Store `text` in `path` in place of what is there, whole or not at all. Raises `OSError`."""
    partial = _write_partial(path, text)
    try:
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def is_private(path: Path) -> bool:
    """Whether nobody but its owner may read or write the file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def _write_partial(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.{uuid4().hex}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return partial


def _publish(partial: Path, path: Path) -> None:
    """Give the file its name unless somebody was faster. A link is refused where a name exists, a rename is not."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError from None
        os.replace(partial, path)
