"""Which lines of a working tree changed since it left another branch? Asks git, and trusts nothing in the repository.

Compared is the working tree, as it lies there, with the merge base of HEAD and the given commit. Files that git does
not track yet have changed as a whole.

The repository may be anybody's, so nothing that its configuration or its attributes name is run: no hook, no monitor,
no filter, no external diff, no fetch. Nor can an attribute hide a file from the comparison by calling it binary.
"""

from __future__ import annotations

import os
import re
import subprocess
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import IO

TIMEOUT = 120
"""Seconds that a question to git may take."""

_KEPT = ("PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CEILING_DIRECTORIES", "TMPDIR", "SYSTEMROOT")
_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
}
_OPTIONS = (
    "--no-pager",
    "--literal-pathspecs",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.quotePath=true"),
    *("-c", "diff.external="),
    *("-c", "protocol.allow=never"),
    *("-c", "safe.bareRepository=explicit"),
)
_DIFF = (
    "diff",
    "--unified=0",
    "--inter-hunk-context=0",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--no-relative",
    "--text",
    "--find-renames",
    "--ignore-submodules=all",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_ESCAPE = re.compile(rb"\\([abtnvfr\"\\]|[0-7]{3})")
_ESCAPES = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))

Range = tuple[int, int]
"""First and last line that changed. Where lines were only taken away: the line after them, and the one before."""


class ChangesError(Exception):
    """Git cannot tell what changed, and why."""


@dataclass(frozen=True)
class Changes:
    """What changed below a root: by path, as `reviews.discovery` shows it, the lines; None: the whole file."""

    base: str
    """The commit that was compared with."""
    files: Mapping[str, Sequence[Range] | None]

    @cached_property
    def _folders(self) -> tuple[str, ...]:
        """Repositories in the repository that it does not track: git names their folder only."""
        return tuple(path for path in self.files if path.endswith("/"))

    def include(self, path: str) -> bool:
        """Whether anything changed in a file."""
        return path in self.files or path.startswith(self._folders)

    def touch(self, path: str, first: int, last: int) -> bool:
        """Whether something changed in the lines from `first` to `last` of a file."""
        if not self.include(path):
            return False
        ranges = self.files.get(path)
        if ranges is None:
            return True
        # Ranges are in order and apart, so the first that does not end before these lines tells.
        index = bisect_left(ranges, first, key=lambda each: each[1])
        return any(low <= last and first <= high for low, high in ranges[index : index + 2])


def find_changes(root: Path, ref: str) -> Changes:
    """What changed below `root` (a folder, or one file) since its history left that of `ref`.

    Raises `ChangesError` if `root` is in no repository, or one that git does not trust, or `ref` is no commit in it.
    """
    if not ref or ref.startswith("-"):
        raise ChangesError(f"{ref!r} is no name of a commit.")
    git = _Git(root if root.is_dir() else root.parent)
    top = git.ask("rev-parse", "--show-toplevel").removesuffix(b"\n")
    commit = git.ask(
        *("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"),
        failing=f"There is no commit {ref!r} in the repository; if it is a branch elsewhere, fetch it first.",
    ).strip()
    base = git.ask(
        *("merge-base", "HEAD", commit.decode("ascii")),
        failing=f"{ref!r} and the present state have no commit in common; a shallow clone may lack it.",
    ).strip()
    inside = _place_in(root, top)
    with git.run(*_DIFF, base.decode("ascii"), "--") as output:
        changed: dict[bytes, Sequence[Range] | None] = dict(_parse_diff(output))
    untracked = git.ask("ls-files", "--others", "--exclude-standard", "-z", "--full-name")
    changed |= dict.fromkeys(name for name in untracked.split(b"\0") if name)
    return Changes(base.decode("ascii"), dict(_relate(changed, inside, is_folder=root.is_dir())))


class _Git:
    """Git, asked about one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _ENVIRONMENT
        self._disarm_filters()

    def ask(self, *arguments: str, failing: str = "", may_be_nothing: bool = False) -> bytes:
        """What git answers; raises `ChangesError`, with the sentence `failing` unless git's own trouble is known.

        Some questions git answers by exit code 1 alone if there is nothing.
        """
        with self.run(*arguments, failing=failing, may_be_nothing=may_be_nothing) as output:
            return output.read()

    @contextmanager
    def run(self, *arguments: str, failing: str = "", may_be_nothing: bool = False) -> Iterator[IO[bytes]]:
        """The output of git, to be read to its end."""
        with TemporaryFile() as said:
            process = self._start(arguments, said)
            assert process.stdout is not None
            timer = Timer(TIMEOUT, process.kill)
            timer.start()
            try:
                with process.stdout as output:
                    yield output
                process.wait()
            finally:
                in_time = timer.is_alive()
                timer.cancel()
                process.kill()
                process.wait()
            if not in_time:
                raise ChangesError(f"git did not answer for {TIMEOUT} seconds.")
            said.seek(0)
            complaint = said.read(10_000).decode("utf-8", "replace").strip()
        if process.returncode and not (may_be_nothing and process.returncode == 1 and not complaint):
            raise ChangesError(self._explain(complaint, failing))

    def _start(self, arguments: Sequence[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - no shell, and the one word from outside stands behind an end of options
                ["git", *_OPTIONS, *arguments],  # noqa: S607 - whichever git people use
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        except OSError as error:
            raise ChangesError(f"git is needed to find changes, and cannot be started: {error.strerror}.") from error

    def _explain(self, said: str, failing: str) -> str:
        if "dubious ownership" in said:
            return (
                f"The repository at {self._folder} belongs to somebody else, so git does not trust it. If you do: "
                f"git config --global --add safe.directory FOLDER"
            )
        if "not a git repository" in said:
            return f"{self._folder} is in no git repository, so nothing is known of its changes."
        return failing or f"git could not tell what changed: {said.splitlines()[-1] if said else 'it does not say why'}"

    def _disarm_filters(self) -> None:
        """Empty the programs that the repository itself names for its files; those of the user stay."""
        listed = self.ask(
            *("config", "--show-scope", "--includes", "-z", "--get-regexp", r"^filter\."), may_be_nothing=True
        )
        fields = listed.split(b"\0")
        names = {
            setting.partition(b"\n")[0].rpartition(b".")[0]
            for scope, setting in zip(fields[::2], fields[1::2], strict=False)
            if scope not in (b"global", b"command")
        }
        settings = [
            (name + ending, value)
            for name in sorted(names)
            for ending, value in ((b".clean", b""), (b".process", b""), (b".required", b"false"))
        ]
        self._environment["GIT_CONFIG_COUNT"] = str(len(settings))
        for index, (name, value) in enumerate(settings):
            self._environment[f"GIT_CONFIG_KEY_{index}"] = os.fsdecode(name)
            self._environment[f"GIT_CONFIG_VALUE_{index}"] = os.fsdecode(value)


def _parse_diff(lines: Iterable[bytes]) -> Iterator[tuple[bytes, list[Range]]]:
    """Path from the top of the repository, and changed lines, of each file that is still there."""
    name: bytes | None = None
    ranges: list[Range] = []
    removed = added = 0
    for line in lines:
        # A changed line may look like a header. The header before says how many there are.
        if removed or added:
            removed -= line.startswith(b"-")
            added -= line.startswith(b"+")
            continue
        if line.startswith(b"diff --git "):
            if name is not None:
                yield name, ranges
            name, ranges = None, []
        elif line.startswith(b"+++ "):
            name = _read_name(line[4:].rstrip(b"\n").removesuffix(b"\t"))
        elif name is not None and (hunk := _HUNK.match(line)):
            removed = int(hunk[1] or 1)
            first, added = int(hunk[2]), int(hunk[3] or 1)
            ranges.append((first, first + added - 1) if added else (first + 1, first))
    if name is not None:
        yield name, ranges


def _read_name(shown: bytes) -> bytes | None:
    """`b/name` as git shows it, in quotes if there is anything unusual in it; None for a file that is gone."""
    if shown == b"/dev/null":
        return None
    if shown.startswith(b'"'):
        shown = _ESCAPE.sub(_unescape, shown[1:-1])
    return shown.removeprefix(b"b/")


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([_ESCAPES[code[0]] if len(code) == 1 else int(code, 8) & 0xFF])


def _place_in(root: Path, top: bytes) -> bytes:
    """`root` relative to the top of the repository, "" if it is the top."""
    place = os.path.relpath(os.fsencode(root), top)
    if place == b".." or place.startswith(b"../"):
        raise ChangesError(f"The repository of {root} keeps its files in {os.fsdecode(top)}, and not there.")
    return b"" if place == b"." else place


def _relate(
    changed: Mapping[bytes, Sequence[Range] | None], inside: bytes, *, is_folder: bool
) -> Iterator[tuple[str, Sequence[Range] | None]]:
    """The changes below a folder of the repository, by the path from there."""
    prefix = inside + b"/" if inside and is_folder else b""
    for name, ranges in changed.items():
        if is_folder and name.startswith(prefix):
            yield name[len(prefix) :].decode("utf-8", "backslashreplace"), ranges
        elif not is_folder and name == inside:
            yield name.rpartition(b"/")[2].decode("utf-8", "backslashreplace"), ranges
