"""How do generated files get into a folder that may be anybody's, and what differs there from what should be?

The folder is opened step by step and no link is followed, so that a checkout cannot lead the writer out of itself. A
file that somebody else wrote, or has edited, is never touched: whoever wants it generated again deletes it first.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from enum import StrEnum
from errno import ELOOP, ENOENT, ENOTDIR
from pathlib import Path
from typing import NamedTuple

from reviews.generated import FOLDERS, Document, digest_of, read_stamp

REPOSITORY = ".github/copilot-instructions.md"
MAX_BYTES = 200_000
"""Size above which a file cannot be one of these."""

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ExportError(OSError):
    """The files cannot be written, or looked at, there."""


class Kind(StrEnum):
    """How a file differs from what should be there."""

    MISSING = "missing"
    OUTDATED = "outdated"
    """Generated, untouched, and not what would be written now."""
    EDITED = "edited by hand"
    UNEXPECTED = "unexpected"
    """Generated, untouched, and no longer wanted."""
    OCCUPIED = "written by somebody else"
    """A file that was not generated has the name of one that is."""


class Drift(NamedTuple):
    """A file below the root, and how it differs."""

    path: str
    kind: Kind


class Exported(NamedTuple):
    """Paths that were written and removed, and files that were left as they are although they differ."""

    written: list[str]
    removed: list[str]
    kept: list[Drift]


def compare(root: Path, documents: Iterable[Document]) -> list[Drift]:
    """How the generated files below `root` differ from `documents`; revisions alone make no difference.

    Raises `ExportError` if a folder is a link or cannot be read.
    """
    wanted = {document.path: digest_of(document.text) for document in documents}
    drifts = []
    with _opened(root) as top:
        for folder, ending in FOLDERS.items():
            mine = {path for path in wanted if path.rpartition("/")[0] == folder}
            with _folder(top, folder) as opened:
                present = set() if opened is None else _list(opened, folder, ending)
                for path in sorted(mine | present):
                    text = None if opened is None else _read(opened, path.rpartition("/")[2])
                    kind = _judge(path, text, wanted.get(path))
                    if kind is not None:
                        drifts.append(Drift(path, kind))
    return drifts


def write(root: Path, documents: Sequence[Document]) -> Exported:
    """Make the generated files below `root` what `documents` says, each whole or not at all. Raises `ExportError`."""
    drifts = compare(root, documents)
    texts = {document.path: document.text for document in documents}
    exported = Exported([], [], [])
    with _opened(root) as top:
        for path, kind in drifts:
            folder, _, name = path.rpartition("/")
            if kind in (Kind.EDITED, Kind.OCCUPIED):
                exported.kept.append(Drift(path, kind))
                continue
            if kind is Kind.MISSING:
                for each in (".github", folder):
                    _make_folder(top, each)
            with _folder(top, folder) as opened, _telling(path):
                if opened is None:
                    raise FileNotFoundError(ENOENT, "the folder has gone")
                if kind is Kind.UNEXPECTED:
                    os.unlink(name, dir_fd=opened)
                    exported.removed.append(path)
                else:
                    _replace(opened, name, texts[path])
                    exported.written.append(path)
    return exported


def _judge(path: str, text: str | None, wanted: str | None) -> Kind | None:
    """How a file differs from the wanted content hash (None: no such file is wanted), or None if it does not."""
    if text is None:
        return Kind.MISSING
    stamp = read_stamp(text)
    if stamp is None:
        # The instructions for the whole repository are often somebody's own, and then there need not be ours.
        return None if wanted is None or path == REPOSITORY else Kind.OCCUPIED
    if not stamp.intact:
        return Kind.EDITED
    if wanted is None:
        return Kind.UNEXPECTED
    return Kind.OUTDATED if stamp.digest != wanted else None


@contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror or error}.") from error


@contextmanager
def _opened(root: Path) -> Iterator[int]:
    # The root itself may be a link: somebody named it.
    with _telling(str(root)):
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield top
    finally:
        os.close(top)


@contextmanager
def _folder(top: int, path: str) -> Iterator[int | None]:
    """The folder at `path` below `top`, open; None if it is not there."""
    opened = os.dup(top)
    try:
        for name in path.split("/"):
            try:
                step = os.open(name, _OPEN_FOLDER, dir_fd=opened)
            except FileNotFoundError:
                yield None
                return
            except OSError as error:
                reason = "it is a link or no folder" if error.errno in (ELOOP, ENOTDIR) else str(error.strerror)
                raise ExportError(f"{path} cannot be used: {reason}.") from error
            os.close(opened)
            opened = step
        yield opened
    finally:
        os.close(opened)


def _make_folder(top: int, path: str) -> None:
    """Make the folder at `path` below `top`, those above it included, as far as it is not there."""
    above, _, name = path.rpartition("/")
    with _folder(top, above) if above else nullcontext(top) as parent, _telling(path), suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)


def _list(folder: int, path: str, ending: str) -> set[str]:
    """Paths in a folder of files whose names tell that they could be generated."""
    with _telling(path):
        names = os.listdir(folder)
    return {f"{path}/{name}" for name in names if name.endswith(ending) and (path != ".github" or name == ending)}


def _read(folder: int, name: str) -> str | None:
    """The text of a file; None if there is none, and empty if it is nothing that could have been generated."""
    try:
        opened = os.open(name, _OPEN_FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return ""
        with open(opened, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(opened)
    try:
        return "" if len(content) > MAX_BYTES else content.decode()
    except UnicodeDecodeError:
        return ""


def _replace(folder: int, name: str, text: str) -> None:
    temporary = f".{secrets.token_hex(8)}.tmp"
    try:
        with open(os.open(temporary, _CREATE, 0o666, dir_fd=folder), "wb") as file:
            file.write(text.encode())
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
