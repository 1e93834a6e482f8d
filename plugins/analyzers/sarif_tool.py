"""What does somebody else's tool, one that writes SARIF, find in a codebase? The base of such analyzers.

The tool runs for all rules together, over chunks of files. What it cannot do is told, never taken for "nothing found":
a chunk that fails is halved until the file is known that the tool cannot bear, and if nothing at all could be had, that
is an error. Files that do not parse were not looked at, so they are failures as well and no findings; no rule governs
how severe that is.

The real files are handed over where they lie, so that nothing is copied. A file that lies nowhere (an example of a
rule) is written to a temporary folder first.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from plugins import schemas
from plugins.analyzers.patterns import check_configuration, shorten
from plugins.analyzers.regions import Regions
from plugins.analyzers.sarif_reader import CODE_POINTS, Notice, Report, Result
from plugins.analyzers.tool_files import Asked, Given, lies_somewhere
from plugins.analyzers.tool_runs import Runs
from plugins.contract import Executable, Finding, PartialFailure, RuleError, RuleSpec, SourceTree, TreeFile
from plugins.processes import MEGABYTE, Limits, ToolError, detect_version, find_executable, run

SECONDS_PROPERTY = {
    "type": "integer",
    "title": "Seconds",
    "description": "How long the tool may take for one review. What is not done by then is reported.",
    "format": "int32",
    "minimum": 5,
    "maximum": 1800,
    "default": 300,
}
MEMORY_PROPERTY = {
    "type": "integer",
    "title": "Memory (MB)",
    "description": "Addresses that the tool may use. What it cannot do with them is reported.",
    "format": "int32",
    "minimum": 256,
    "maximum": 16_384,
    "default": 2048,
}
CONFIGURATION_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"seconds": SECONDS_PROPERTY, "memory": MEMORY_PROPERTY},
    "additionalProperties": False,
}

_LIST_LIMITS = Limits(seconds=30, output=32 * MEGABYTE)


class SarifTool:
    """An analyzer that runs a tool. A subclass says how the tool is called and which of its codes a rule selects."""

    name: str
    title: str
    description: str
    version: str
    requires: Sequence[str] = ()
    configuration_schema: Mapping[str, Any] = CONFIGURATION_SCHEMA
    rule_schema: Mapping[str, Any]
    executables: Sequence[Executable]
    seconds_per_tree = 1860
    """More than `SECONDS_PROPERTY` allows: the tool's own limit is the one that tells what was left out."""

    file_types: ClassVar[Sequence[str]]
    """Endings of the files that the tool reads."""
    exit_codes: ClassVar[Collection[int]]
    """Those with which the tool has written a report."""
    columns: ClassVar[str] = CODE_POINTS
    """What the tool counts columns in, where its report does not say."""
    takes_any_name: ClassVar[bool] = False
    """Whether the tool can be given, and name, a file whose name is not UTF-8."""
    sensitive_codes: ClassVar[Collection[str]] = ()
    """Those of findings whose lines hold a credential."""
    messages_show_credentials: ClassVar[bool] = False
    output: ClassVar[int] = 64 * MEGABYTE
    """Bytes of one report."""
    memory_megabytes = 768
    """What reading such a report takes: about eight times as much, and what is made of it."""
    chunk_files: ClassVar[int] = 500
    chunk_bytes: ClassVar[int] = 500_000
    """Of the paths of one run. Linux allows 2 MB for all arguments."""

    def __init__(self) -> None:
        self.prepare((), {})

    # ---- what a subclass says

    def command(self, codes: Collection[str], report: Path) -> list[str]:
        """The arguments before the files, so that the tool looks for `codes` and writes `report`."""
        raise NotImplementedError

    def read_codes(self, text: str) -> set[str]:
        """The codes in what `list_arguments` prints."""
        raise NotImplementedError

    list_arguments: ClassVar[Sequence[str]]
    """Arguments with which the tool lists the codes it knows."""

    def selected(self, rule: RuleSpec, known: Collection[str]) -> tuple[set[str], list[str]]:
        """Which of the known codes a rule selects, and which entries of its selection select none."""
        raise NotImplementedError

    def weigh(self, rule: RuleSpec, result: Result) -> int | None:
        """How closely a rule selects a result, or None if it does not."""
        raise NotImplementedError

    def is_failure(self, result: Result) -> bool:
        """Whether a result says that the file could not be looked at."""
        return not result.code

    def missing(self, report: Report, files: Collection[bytes]) -> Iterable[bytes]:
        """Those of `files` that the report owns up to having left out, beside its notices."""
        return ()

    def refine(self, results: Sequence[Result], content: bytes) -> Sequence[Result]:
        """The results in one file, with what the tool is known to report wrongly put right."""
        return results

    # ---- the analyzer

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if the configuration does not fit, the rule asks for files that the tool does not read, or
        the tool, where it is installed, does not know what is selected."""
        check_configuration(rule, self.rule_schema)
        if rule.file_types and not any(each.lower().endswith(tuple(self.file_types)) for each in rule.file_types):
            raise RuleError(
                f"{self.name} reads files of the types {', '.join(self.file_types)}.", field="file_types", code="unread"
            )
        executable = find_executable(self.executables[0].name)
        if executable is None:
            return
        with suppress(ToolError):
            unknown = self.selected(rule, self._known_codes(executable))[1]
            if unknown:
                raise RuleError(
                    f"{self._tool(executable)} has no stable rule {unknown[0]!r}.",
                    field="configuration/select",
                    code="unknown",
                )

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Take the limits of a run; raises `RuleError` for a rule whose configuration does not fit."""
        for rule in rules:
            check_configuration(rule, self.rule_schema)
        settings = schemas.with_defaults(self.configuration_schema, configuration)
        self._limits = Limits(settings["seconds"], settings["memory"] * MEGABYTE, self.output)

    def analyze_tree(self, tree: SourceTree, rules: Sequence[RuleSpec]) -> Iterator[Finding | PartialFailure]:
        """Findings of the rules, each result of the tool given to the one rule that selects it most closely.

        Raises `ToolError` if the tool is not there, or if nothing could be had from it.
        """
        asked = Asked(rules)
        # An example of a rule that asks for any file has a path of any type.
        readable = (
            file
            for file in tree.files
            if file.path.lower().endswith(tuple(self.file_types)) or not lies_somewhere(file)
        )
        wanted = [(file, asking) for file in readable if (asking := asked.by(file.path))]
        if not wanted:
            return
        executable = self._find(tree.root)
        known = self._known_codes(executable)
        codes: set[str] = set()
        for rule in rules:
            selected, unknown = self.selected(rule, known)
            codes |= selected
            for each in unknown:
                yield PartialFailure(f"{self._tool(executable)} has no stable rule {each!r}.", rule=rule.name)
        if not codes:
            return
        with tempfile.TemporaryDirectory(prefix="code-review-") as folder:
            given = Given(tree, Path(folder) / "files", self.file_types, self.takes_any_name)
            for file, asking in wanted:
                refusal = given.add(file, asking)
                if refusal:
                    yield PartialFailure(f"{self.name} {refusal}.", path=file.path)
            if given.files:
                yield from self._run(executable, codes, given, Path(folder))

    def _run(
        self, executable: Path, codes: Collection[str], given: Given, folder: Path
    ) -> Iterator[Finding | PartialFailure]:
        runs = Runs(
            tool=self._tool(executable),
            command=lambda report: [str(executable), *self.command(codes, report), "--"],
            exit_codes=self.exit_codes,
            limits=self._limits,
            chunks=given.chunks(self.chunk_files, self.chunk_bytes),
            folder=folder,
        )
        outside: list[bytes | None] = []
        for done in runs.run():
            if isinstance(done, PartialFailure):
                yield PartialFailure(done.message, path=given.path(done.path))
                continue
            report, files = done
            by_file: dict[TreeFile, list[Result]] = defaultdict(list)
            notices = list(report.notices)
            notices += [Notice("left it out and does not say why", each) for each in self.missing(report, files)]
            for result in report.results:
                file = given.find(result.location)
                if self.is_failure(result):
                    notices.append(Notice(result.message or result.code, result.location, result.region))
                elif file is None:
                    outside.append(result.location)
                else:
                    by_file[file].append(result)
            yield from self._tell(executable, given, notices)
            for file in sorted(by_file, key=lambda each: each.path):
                yield from self._find_in(given, file, by_file[file])
        if outside:
            example = os.fsdecode(next((each for each in outside if each), b"no file at all"))
            yield PartialFailure(
                f"{self._tool(executable)} reported {len(outside)} results in files that are not under review, "
                f"such as {shorten(example)}; they were left out."
            )

    def _tell(self, executable: Path, given: Given, notices: Iterable[Notice]) -> Iterator[PartialFailure]:
        """One failure for each file, with its first reason; more of them rarely say more."""
        by_file: dict[TreeFile | None, list[Notice]] = defaultdict(list)
        for notice in notices:
            by_file[given.find(notice.location)].append(notice)
        for file, mine in by_file.items():
            if file is not None and given.tree.read(file) is None:
                continue  # no text, so the review has left it out
            for notice in mine if file is None else mine[:1]:
                line = f"line {notice.region.start_line}: " if notice.region.start_line else ""
                more = f" (and {len(mine) - 1} more)" if file is not None and len(mine) > 1 else ""
                path = None if file is None else file.path
                yield PartialFailure(f"{self._tool(executable)}: {line}{notice.message}{more}", path=path)

    def _find_in(self, given: Given, file: TreeFile, results: Sequence[Result]) -> Iterator[Finding]:
        content = given.tree.read(file)
        if content is None:
            return
        regions = Regions(file.path, content)
        placed = []
        for result in self.refine(results, content):
            rule = self._choose(given.asking(file), result)
            if rule is not None:
                placed.append((regions.span(result.region, result.column_kind or self.columns), result, rule))
        placed.sort(key=lambda each: (each[0], each[1].code, each[2].name))
        # Lines that begin with code and hold a credential further on, and those that may begin in the middle of one.
        begun: set[int] = set()
        inside: set[int] = set()
        places = [(regions.place(span), span, result, rule) for span, result, rule in placed]
        for place, _, result, _ in places:
            if result.code in self.sensitive_codes:
                begun.add(place[0])
                inside.update(range(place[0] + 1, place[2] + 1))
        for place, span, result, rule in places:
            sensitive = result.code in self.sensitive_codes
            message = _hide(result.message) if sensitive and self.messages_show_credentials else result.message
            snippet = regions.snippet(span)
            if place[0] in inside:
                snippet = "***"
            elif place[0] in begun:
                snippet = _hide(regions.beginning(span))
            yield Finding(
                rule=rule.name,
                path=file.path,
                start_line=place[0],
                start_column=place[1],
                end_line=place[2],
                end_column=place[3],
                message=f"{result.code} {message}".strip(),
                snippet=snippet,
                code=result.code,
                sensitive=sensitive,
            )

    def _choose(self, rules: Sequence[RuleSpec], result: Result) -> RuleSpec | None:
        weighed = [(weight, rule) for rule in rules if (weight := self.weigh(rule, result)) is not None]
        return min(weighed, key=lambda each: (-each[0], each[1].name))[1] if weighed else None

    def _find(self, root: Path) -> Path:
        needed = self.executables[0]
        executable = find_executable(needed.name)
        if executable is None:
            raise ToolError(f"{needed.name} is not installed ({needed.install}).")
        beside = executable.parent == Path(sys.executable).parent
        # What is under review may not say what runs, whatever the search path says.
        if not beside and root.is_absolute() and executable.resolve().is_relative_to(root.resolve()):
            raise ToolError(f"{executable} lies in the codebase under review, so it is not run ({needed.install}).")
        return executable

    def _tool(self, executable: Path) -> str:
        return f"{self.executables[0].name} {detect_version(executable) or 'of unknown version'}"

    def _known_codes(self, executable: Path) -> frozenset[str]:
        try:
            state = executable.stat()
        except OSError as error:
            raise ToolError(f"{executable} cannot be run: {error.strerror}") from error
        return _list_codes(type(self), executable, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=32)
def _list_codes(kind: type[SarifTool], executable: Path, modified: int, size: int) -> frozenset[str]:
    """What the tool knows. It is not asked again until its file changes, which the last two arguments tell."""
    with tempfile.TemporaryDirectory(prefix="code-review-") as folder:
        outcome = run([executable, *kind.list_arguments], folder=Path(folder), limits=_LIST_LIMITS)
        codes: set[str] = set()
        if outcome.exit_code == 0:
            with suppress(OSError, ValueError):
                codes = kind().read_codes(outcome.stdout.read_text("utf-8"))
        if not codes:
            tool = f"{executable.name} {detect_version(executable) or 'of unknown version'}"
            raise ToolError(f"{tool} was asked for its rules, {outcome.describe()} and named none. {outcome.tail()}")
    return frozenset(codes)


def _hide(text: str) -> str:
    """`text` up to its first quotation mark: what is a credential stands in quotation marks."""
    ends = [index for mark in "\"'`" if (index := text.find(mark)) != -1]
    return text[: min(ends)] + "***" if ends else "***"
