"""Which files does a review read?

Every regular file below the root that no `.gitignore` at or below the root ignores. Files above the root are not
looked at: naming a folder inside an ignored one reviews it. Ignored files are left out even if they are tracked.
Symbolic links are not followed, devices and pipes never opened. `.git`, `.hg` and `.svn` are never entered;
`node_modules`, `__pycache__`, `.venv` and `venv` below the root are skipped unless an `exclude` line such as `!venv/`
takes them back.

File names are bytes to the system. Here they are bytes as long as something is matched or opened, and a text with
`\\xNN` for what is not UTF-8 wherever they are shown or stored.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import re2
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from plugins.contract import SourceFile
from reviews.generated import is_generated

MAX_BYTES = 1_000_000
"""Size of a file above which it is not read."""
BINARY_PROBE = 8192
"""Bytes at the start of a file in which a NUL byte makes it binary."""
NEVER_ENTERED = frozenset({b".git", b".hg", b".svn"})
SKIPPED_BY_DEFAULT = ("node_modules/", "__pycache__/", ".venv/", "venv/")

# Longer files of ignore lines are read up to here; nobody writes them by hand.
_IGNORE_FILE_BYTES = 1 << 20
_IGNORE_MEMORY = 64 << 20
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The last name is not followed if it is a link, and opening a pipe does not wait for a writer: what lies there may have
# changed since the folder was listed.
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_FILE = "file"
_FOLDER = "folder"


class RootError(OSError):
    """What should be reviewed is not there, cannot be read, or is neither a folder nor a regular file."""


class Skip(StrEnum):
    """Why a file is not reviewed."""

    IGNORED = "ignored"
    """A folder that is ignored counts once, whatever is in it."""
    BINARY = "binary"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    SYMLINK = "symlink"
    SPECIAL = "special"
    """A device, pipe or socket."""
    NO_RULE = "no_rule"
    """No rule asks for files of this kind or place; it was not opened."""
    UNCHANGED = "unchanged"
    """Only what changed was to be reviewed."""
    GENERATED = "generated"
    """One of the Copilot files that an earlier review has written, and nobody has edited."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to read: `path` relative to the root with forward slashes, as shown; `location` as the system knows it."""

    path: str
    location: bytes


@dataclass
class Discovery:
    """The files below `root`, found while it is iterated; `skipped` counts those left out so far, by reason."""

    root: Path
    max_bytes: int
    exclude: tuple[str, ...] = ()
    only: frozenset[str] | None = None
    """Paths, as entries have them, besides which nothing is looked at; None: everything is."""
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def is_whole(self) -> bool:
        """Whether the root is a codebase: a folder, and not one inside of a repository of git."""
        if not self.root.is_dir():
            return False
        # A file of that name in a worktree or a submodule.
        return (self.root / ".git").exists() or not any((each / ".git").exists() for each in self.root.parents)

    def __iter__(self) -> Iterator[Entry]:
        """Files in an order that depends on their names alone: a folder's files, then its folders."""
        self.skipped.clear()
        root = os.fsencode(self.root)
        if not stat.S_ISDIR(os.stat(root).st_mode):
            shown = _show(os.path.basename(root))
            if self.only is None or shown in self.only:
                yield Entry(shown, root)
            return
        # Later lines win: what the caller excludes, or takes back, is stronger than what is skipped by default.
        base = IgnoreLines(_encode([*SKIPPED_BY_DEFAULT, *self.exclude]))
        wanted = None if self.only is None else self.only | {folder for path in self.only for folder in _above(path)}
        pending: list[tuple[bytes, tuple[_Scope, ...]]] = [(b"", ())]
        while pending:
            folder, scopes = pending.pop()
            try:
                children = _list(os.path.join(root, folder))
            except OSError:
                self.skipped[Skip.UNREADABLE] += 1
                continue
            if (b".gitignore", _FILE) in children:
                lines = _read_ignore_lines(os.path.join(root, folder, b".gitignore"))
                if lines is not None:
                    scopes = (_Scope(len(folder), lines), *scopes)
            folders = []
            for name, kind in children:
                if wanted is not None and _show(folder + name) not in wanted:
                    continue
                if isinstance(kind, Skip):
                    self.skipped[kind] += 1
                    continue
                if kind is _FOLDER and name in NEVER_ENTERED:
                    continue
                path = folder + name + (b"/" if kind is _FOLDER else b"")
                if _is_ignored(path, base, scopes):
                    self.skipped[Skip.IGNORED] += 1
                elif kind is _FOLDER:
                    folders.append((path, scopes))
                else:
                    yield Entry(_show(path), os.path.join(root, path))
            pending.extend(reversed(folders))


def discover(
    root: Path, *, exclude: Sequence[str] = (), max_bytes: int = MAX_BYTES, only: Collection[str] | None = None
) -> Discovery:
    """The files of `root`, a folder or a single file, for a review.

    `exclude` are lines as in a `.gitignore` at the root; they are stronger than any such file. `only` are paths as
    entries have them: nothing else is looked at, nor counted. Raises `RootError`.
    """
    try:
        # The root itself may be a link: somebody named it.
        resolved = root.resolve(strict=True)
        mode = resolved.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RootError(f"{_show(os.fsencode(root))} cannot be reviewed: {reason}.") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise RootError(f"{_show(os.fsencode(root))} is neither a folder nor a regular file.")
    if not os.access(resolved, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise RootError(f"{_show(os.fsencode(root))} cannot be reviewed: Permission denied.")
    return Discovery(resolved, max_bytes, tuple(exclude), None if only is None else frozenset(only))


def read(entry: Entry, *, max_bytes: int = MAX_BYTES) -> SourceFile | Skip:
    """The file as UTF-8, or why it is not reviewed. UTF-16 and UTF-32 are known by their byte order mark."""
    content = read_bytes(entry, max_bytes=max_bytes)
    return content if isinstance(content, Skip) else decode(entry, content)


def read_bytes(entry: Entry, *, max_bytes: int = MAX_BYTES) -> bytes | Skip:
    """The file as it is, or why it cannot be read."""
    content = _read_regular(entry.location, max_bytes)
    return Skip.TOO_LARGE if isinstance(content, bytes) and len(content) > max_bytes else content


def decode(entry: Entry, content: bytes) -> SourceFile | Skip:
    """What was read, as UTF-8, or why it is not reviewed."""
    if content.startswith(_MARKS):
        encoding = next(name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark))
        try:
            content = content.decode(encoding).encode()
        except UnicodeError:
            return Skip.BINARY
    if content.find(b"\0", 0, BINARY_PROBE) != -1:
        return Skip.BINARY
    if is_generated(entry.path, content):
        return Skip.GENERATED
    return SourceFile(entry.path, content)


_MARKS = tuple(mark for mark, _ in _BYTE_ORDER_MARKS)


class IgnoreLines:
    """The lines of one `.gitignore`, asked about paths relative to its folder; folders end with a slash.

    Each path is judged by itself, as git does, and not by the folders above it: those were judged before.
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._verdicts: list[bool] = []
        expressions: list[bytes] = []
        for line in lines:
            expression, ignores = _translate(line)
            if expression is not None:
                expressions.append(expression)
                self._verdicts.append(ignores)
        self._sets = _compile(expressions, 0)

    def judge(self, path: bytes) -> bool | None:
        """True if the last line that speaks of `path` ignores it, False if it takes it back, None if none does."""
        last = -1
        for first, lines in self._sets:
            found = lines.Match(path)
            if found:
                last = first + max(found)
        return None if last < 0 else self._verdicts[last]


@dataclass(frozen=True, slots=True)
class _Scope:
    """The lines that hold below a folder, and the length of its path with the slash."""

    prefix: int
    lines: IgnoreLines


def _is_ignored(path: bytes, base: IgnoreLines, scopes: tuple[_Scope, ...]) -> bool:
    verdict = base.judge(path)
    if verdict is not None:
        return verdict
    for scope in scopes:
        verdict = scope.lines.judge(path[scope.prefix :])
        if verdict is not None:
            return verdict
    return False


def _read_ignore_lines(location: bytes) -> IgnoreLines | None:
    # Like git, no link is followed here: what it points to may lie outside the root.
    content = _read_regular(location, _IGNORE_FILE_BYTES, cut=True)
    if isinstance(content, Skip):
        return None
    return IgnoreLines(content[:_IGNORE_FILE_BYTES].removeprefix(codecs.BOM_UTF8).split(b"\n"))


def _translate(line: bytes) -> tuple[bytes | None, bool]:
    """An expression for the whole of a path, and whether the line ignores it; None for a line that says nothing."""
    try:
        expression, ignores = GitIgnoreSpecPattern.pattern_to_regex(line.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None, False
    if expression is None or ignores is None:
        return None, False
    # The library's expressions also fit everything below a folder that fits. Here each path is judged by itself.
    for ending, whole in _ENDINGS:
        if expression.endswith(ending):
            expression = expression.removesuffix(ending) + whole
            break
    try:
        source = expression.encode("utf-8", "surrogateescape")
        re2.compile(source, _options())
    except (re2.error, UnicodeError):
        # Git discards what it cannot read, such as the class `[z-a]`.
        return None, False
    return source, ignores


_ENDINGS = (
    ("(?:(?P<ps_d>/)|$)", "/?$"),
    ("(?P<ps_d>/)", "/$"),
    ("/", "/[^/]"),
)


def _compile(expressions: Sequence[bytes], first: int) -> list[tuple[int, Any]]:
    if not expressions:
        return []
    automaton = re2.Set.SearchSet(_options())
    for expression in expressions:
        automaton.Add(expression)
    try:
        automaton.Compile()
    except re2.error:
        if len(expressions) == 1:
            return []
        half = len(expressions) // 2
        return [*_compile(expressions[:half], first), *_compile(expressions[half:], first + half)]
    return [(first, automaton)]


def _options() -> Any:
    options = re2.Options()
    # One byte is one character, as to git: names need not be valid in any encoding.
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = _IGNORE_MEMORY
    return options


def _read_regular(location: bytes, limit: int, *, cut: bool = False) -> bytes | Skip:
    """At most `limit` bytes and one more of a regular file; a larger one is refused unless it may be `cut`."""
    try:
        descriptor = os.open(location, _OPEN_FLAGS)
    except OSError as error:
        return {errno.ELOOP: Skip.SYMLINK, errno.ENXIO: Skip.SPECIAL}.get(error.errno or 0, Skip.UNREADABLE)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Skip.SPECIAL
        if status.st_size > limit and not cut:
            return Skip.TOO_LARGE
        # The size is a hint: the file may grow while it is read, and some say 0 and hold more.
        wanted = min(status.st_size, limit) + 1
        content = os.read(descriptor, wanted)
        while 0 < len(content) <= limit:
            more = os.read(descriptor, limit + 1 - len(content))
            if not more:
                break
            content += more
        return content
    except OSError:
        return Skip.UNREADABLE
    finally:
        os.close(descriptor)


def _list(location: bytes) -> list[tuple[bytes, str | Skip]]:
    """Names in a folder, sorted, each with what it is: a file, a folder, or the reason to skip it."""
    with os.scandir(location) as listing:
        return sorted([(child.name, _kind(child)) for child in listing])


def _kind(child: os.DirEntry[bytes]) -> str | Skip:
    try:
        if child.is_symlink():
            return Skip.SYMLINK
        if child.is_dir(follow_symlinks=False):
            return _FOLDER
        return _FILE if child.is_file(follow_symlinks=False) else Skip.SPECIAL
    except OSError:
        # Some file systems say what an entry is only when asked for it, and then it may be gone.
        return Skip.UNREADABLE


def _above(path: str) -> Iterator[str]:
    """The folders that a path leads through."""
    position = path.find("/")
    while position != -1:
        yield path[:position]
        position = path.find("/", position + 1)


def _encode(lines: Sequence[str]) -> list[bytes]:
    return [line.encode("utf-8", "surrogateescape") for line in lines]


def _show(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
