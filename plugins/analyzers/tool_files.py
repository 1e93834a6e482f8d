"""Which files is a tool given, who asks for them, and which of them does it mean by a path in its answer?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from plugins.contract import RuleSpec, SourceTree, TreeFile
from plugins.expressions import compile_expression

# A review leaves out files that are too large; only one beyond this size is asked about before it is handed over.
_LARGE = 250_000


class Asked:
    """Which rules ask for a path. Paths that the same rules ask for share one answer."""

    def __init__(self, rules: Sequence[RuleSpec]) -> None:
        self._rules = [
            (
                rule,
                tuple(each.lower() for each in rule.file_types),
                [compile_expression(each, multiline=False, field="file_patterns") for each in rule.file_patterns],
                [compile_expression(each, multiline=False, field="exclude_patterns") for each in rule.exclude_patterns],
            )
            for rule in rules
        ]
        self._answers: dict[tuple[str, ...], tuple[RuleSpec, ...]] = {}

    def by(self, path: str) -> tuple[RuleSpec, ...]:
        """The rules that ask for the file at `path`."""
        lowered = path.lower()
        subject = path.encode("utf-8", "replace")
        found = []
        for rule, types, patterns, exclusions in self._rules:
            if types and not lowered.endswith(types):
                continue
            if patterns and not any(each.search(subject) for each in patterns):
                continue
            if not any(each.search(subject) for each in exclusions):
                found.append(rule)
        return self._answers.setdefault(tuple(rule.name for rule in found), tuple(found))


class Given:
    """The files that a tool is given, by the place where it finds them."""

    def __init__(self, tree: SourceTree, folder: Path, file_types: Sequence[str], any_name: bool) -> None:
        self.tree = tree
        self.files: dict[bytes, TreeFile] = {}
        self._asking: dict[TreeFile, tuple[RuleSpec, ...]] = {}
        self._folder = folder
        self._file_types = tuple(file_types)
        self._any_name = any_name
        self._resolved: dict[bytes, TreeFile] | None = None

    def add(self, file: TreeFile, asking: tuple[RuleSpec, ...]) -> str:
        """Note a file, or write it down if it lies nowhere. Why it cannot be given, or "".

        One that the review leaves out, as no text or too large, is left out without a word.
        """
        if not lies_somewhere(file):
            content = self.tree.read(file)
            if content is not None:
                self._note(self._write(file, content), file, asking)
        elif not self._any_name and not _is_utf8(file.location):
            return "cannot be given a file whose name is not UTF-8"
        elif file.size <= _LARGE or self.tree.read(file) is not None:
            self._note(file.location, file, asking)
        return ""

    def asking(self, file: TreeFile) -> tuple[RuleSpec, ...]:
        """The rules that ask for a file."""
        return self._asking[file]

    def path(self, location: str | None) -> str | None:
        """The path in the review of what lies at `location`."""
        file = self.find(None if location is None else os.fsencode(location))
        return None if file is None else file.path

    def find(self, location: bytes | None) -> TreeFile | None:
        """The file that the tool means: by the path it was given, by one below the root, or by what a link leads to."""
        if location is None:
            return None
        absolute = os.path.join(os.fsencode(self.tree.root), location)
        file = self.files.get(location) or self.files.get(absolute)
        if file is None:
            if self._resolved is None:
                self._resolved = {os.path.realpath(each): file for each, file in self.files.items()}
            file = self._resolved.get(os.path.realpath(absolute))
        return file

    def chunks(self, files: int, size: int) -> list[list[bytes]]:
        """The places in chunks of at most so many, and of so many bytes."""
        chunks: list[list[bytes]] = []
        room = 0
        for location in self.files:
            room -= len(location) + 1
            if not chunks or room < 0 or len(chunks[-1]) >= files:
                chunks.append([])
                room = size - len(location) - 1
            chunks[-1].append(location)
        return chunks

    def _note(self, location: bytes, file: TreeFile, asking: tuple[RuleSpec, ...]) -> None:
        self.files[location] = file
        self._asking[file] = asking

    def _write(self, file: TreeFile, content: bytes) -> bytes:
        name = os.path.basename(file.path)
        if not name.lower().endswith(self._file_types):
            name = f"example{self._file_types[0]}"
        copy = self._folder / str(len(self.files)) / name
        copy.parent.mkdir(parents=True)
        copy.write_bytes(content)
        return os.fsencode(copy)


def lies_somewhere(file: TreeFile) -> bool:
    """Whether the system knows the file, which it does not if it is an example of a rule."""
    return os.path.isabs(file.location) and os.path.isfile(file.location)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
