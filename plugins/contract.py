"""What is an analyzer, and what passes between it and the engine? Pure: no Django, no I/O.

A plugin is a class with the attributes and methods of `Analyzer`. The engine gives it rules (`RuleSpec`) once, then
files (`SourceFile`) one after another, and takes back `Finding` objects. A `TreeAnalyzer` is asked once about all files
of a review instead. Built-in analyzers live in `plugins.analyzers`; another package may add one by the entry point
group `code_review.analyzers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

ENTRY_POINT_GROUP = "code_review.analyzers"


class RuleError(ValueError):
    """A rule that its analyzer cannot run. `field` is a path such as ``configuration/pattern``; `code` a short key."""

    def __init__(self, message: str, *, field: str = "configuration", code: str = "invalid") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.code = code


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule as the engine sees it: plain values, no database row.

    `file_types` are lower-case extensions with their dot (empty: any file); `file_patterns` and `exclude_patterns` are
    RE2 expressions searched in the path relative to the reviewed root, with forward slashes (empty: any path).
    """

    name: str
    title: str = ""
    description: str = ""
    rule_type: str = ""
    severity: str = "medium"
    plugin: str = "patterns"
    configuration: Mapping[str, Any] = field(default_factory=dict)
    file_types: Sequence[str] = ()
    file_patterns: Sequence[str] = ()
    exclude_patterns: Sequence[str] = ()
    message: str = ""
    remediation: str = ""
    references: Sequence[str] = ()
    tags: Sequence[str] = ()
    personas: Sequence[str] = ()
    suppressible: bool = True
    """Whether a comment in the code may suppress its findings."""


@dataclass(frozen=True)
class SourceFile:
    """One file under review: `path` relative to the root with forward slashes, `content` UTF-8 bytes."""

    path: str
    content: bytes

    @cached_property
    def line_starts(self) -> list[int]:
        """Byte offset of the start of each line (the first is 0)."""
        starts = [0]
        find = self.content.find
        position = find(b"\n")
        while position != -1:
            starts.append(position + 1)
            position = find(b"\n", position + 1)
        return starts

    def line(self, number: int) -> str:
        """The text of line `number` (1 is the first) without its line end; undecodable bytes are replaced."""
        start = self.line_starts[number - 1]
        end = self.line_starts[number] if number < len(self.line_starts) else len(self.content)
        return self.content[start:end].decode("utf-8", "replace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class Finding:
    """Where a rule matched. Lines and columns start at 1, columns count characters, `end_column` is the one after."""

    rule: str
    path: str
    start_line: int
    start_column: int
    end_line: int
    end_column: int
    message: str
    snippet: str = ""
    code: str = ""
    """What the tool behind the analyzer calls its own rule, such as `S105`."""
    sensitive: bool = False
    """The lines of the finding hold a credential: nothing of them is shown but `snippet`, which masks it."""


@dataclass(frozen=True, slots=True)
class PartialFailure:
    """What an analyzer could not do while it did the rest: yielded among the findings, reported on the session."""

    message: str
    path: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a review: `path` relative to the root with forward slashes, `location` as the system knows it."""

    path: str
    location: bytes
    size: int
    """Bytes. Files that are too large to be read, or binary, are listed as well."""


@dataclass(frozen=True)
class SourceTree:
    """All files of a review, ignored ones left out. `read` gives the content of a file, or None if it is no text."""

    root: Path
    files: Sequence[TreeFile]
    read: Callable[[TreeFile], bytes | None]
    is_whole: bool = True
    """False if it is a single file, or a folder inside of a repository of git: the rest may be elsewhere."""


@dataclass(frozen=True, slots=True)
class Executable:
    """A program that an analyzer runs, and how people get it."""

    name: str
    install: str
    """Such as `pip install ruff`."""
    minimum: str = ""
    """The oldest version that will do, such as `0.5`; empty: any."""


@runtime_checkable
class Analyzer(Protocol):
    """An analyzer plugin. Class attributes describe it; an instance is made once for a run, in a process of its own.

    Optional class attributes: `executables` (a sequence of `Executable` that must be there), `seconds_per_file` (how
    long one call of `analyze` may take before it is ended; the engine has a default), `memory_megabytes` (what it needs
    beyond what the engine allows all of them). Optional static method: `default_file_types(rule)` (the file types that
    a rule which names none is for; its examples are run on these).
    """

    name: str
    title: str
    description: str
    version: str
    requires: Sequence[str]
    """Plugins that must be enabled for this one to work: names, if need be with versions, such as `patterns>=1.2`."""
    configuration_schema: Mapping[str, Any]
    """JSON Schema (2020-12, no remote `$ref`) of the plugin's own configuration."""
    rule_schema: Mapping[str, Any]
    """JSON Schema of `configuration` of a rule that this plugin runs."""

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if the rule cannot run. Bounded in time: it is called while a user waits."""

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Take the rules and the plugin's configuration of a run. Called once, before `analyze`."""

    def analyze(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterable[Finding | PartialFailure]:
        """Findings in one file of the given rules: those of the prepared ones that the engine chose for this path."""


@runtime_checkable
class TreeAnalyzer(Protocol):
    """An analyzer that looks at the whole of a codebase: `analyze_tree` stands where `Analyzer` has `analyze`.

    Optional class attributes: `executables`, `seconds_per_tree`, `memory_megabytes`.
    """

    name: str
    title: str
    description: str
    version: str
    requires: Sequence[str]
    configuration_schema: Mapping[str, Any]
    rule_schema: Mapping[str, Any]

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if the rule cannot run."""

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Take the rules and the plugin's configuration of a run."""

    def analyze_tree(self, tree: SourceTree, rules: Sequence[RuleSpec]) -> Iterable[Finding | PartialFailure]:
        """Findings of the given rules in any file of the tree. The engine drops those in files that a rule does not
        ask for (its file types and path patterns)."""
