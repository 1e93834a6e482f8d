"""What do the rules find in these files?

`Reviewer` is made once from the rules of a run and reviews one file after another; it holds nothing of the files it has
seen, so that several processes may each make their own from the same rules. `run` feeds one with every file of a review
and puts the result together.

An analyzer may be anybody's. One that fails costs what it would have found there and nothing else, and the result says
so: only `KeyboardInterrupt` and `SystemExit` end a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, NamedTuple

from plugins import registry
from plugins.contract import Analyzer, Finding, RuleError, RuleSpec, SourceFile
from plugins.expressions import ExpressionSet, compile_expression, compile_set
from reviews import discovery
from reviews.discovery import Discovery, Entry, Skip
from reviews.fingerprints import fingerprint_lines

SEVERITIES = ("info", "low", "medium", "high", "critical")
"""Least first."""
MAX_FAILURES = 100
"""Failures of one plugin that are told one by one; what comes after is counted."""
MAX_FAILURE_LENGTH = 500


class Failure(NamedTuple):
    """What an analyzer could not do. `rule` is None if it concerns all rules, `path` if it concerns all files."""

    plugin: str
    rule: str | None
    path: str | None
    message: str


@dataclass
class Result:
    """What a review found, and what it could not do."""

    findings: list[Finding] = field(default_factory=list)
    """Sorted by path, line and rule, without duplicates."""
    fingerprints: dict[tuple[str, int], str] = field(default_factory=dict)
    """`primaryLocationLineHash` of each line, by path and number, where a finding starts."""
    files_analyzed: int = 0
    files_skipped: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    analyzer_seconds: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class Reviewed(NamedTuple):
    """What was found in one file, and the fingerprints of the lines where findings start."""

    findings: list[Finding]
    fingerprints: dict[int, str]


Task = tuple[str, tuple[RuleSpec, ...]]
"""A plugin and those of its rules that a file is asked about."""


def run(
    rules: Sequence[RuleSpec],
    files: Discovery | Iterable[Entry | SourceFile],
    *,
    plugin_configurations: Mapping[str, Mapping[str, Any]],
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Review `files` by `rules`. `progress` is told how many files of how many are done, first with 0."""
    started = perf_counter()
    reviewer = Reviewer(rules, plugin_configurations)
    max_bytes = files.max_bytes if isinstance(files, Discovery) else discovery.MAX_BYTES
    todo = list(files)
    result = Result()
    if isinstance(files, Discovery):
        result.files_skipped.update({str(reason): number for reason, number in files.skipped.items()})
    if progress is not None:
        progress(0, len(todo))
    for done, each in enumerate(todo, start=1):
        tasks = reviewer.tasks(each.path)
        source = (
            (each if isinstance(each, SourceFile) else discovery.read(each, max_bytes=max_bytes)) if tasks else None
        )
        if source is None:
            result.files_skipped[Skip.NO_RULE.value] += 1
        elif isinstance(source, Skip):
            result.files_skipped[source.value] += 1
        else:
            result.files_analyzed += 1
            result.bytes += len(source.content)
            reviewed = reviewer.review(source, tasks)
            result.findings += reviewed.findings
            for line, fingerprint in reviewed.fingerprints.items():
                result.fingerprints[source.path, line] = fingerprint
        if progress is not None:
            progress(done, len(todo))
    result.findings.sort(key=_place)
    result.analyzer_seconds = dict(reviewer.seconds)
    result.failures = reviewer.failures()
    result.seconds = perf_counter() - started
    return result


def route(rule: RuleSpec) -> tuple[str, ...]:
    """Who speaks for the findings of a rule: its personas, the one who speaks most first, each once."""
    return tuple(dict.fromkeys(rule.personas))


def rank(severity: str) -> int:
    """Place of a severity among them, 0 for the least; an unknown one counts as the least."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0


def file_types(path: str) -> tuple[str, ...]:
    """The file types a path has, as rules name them: lower case with their dot.

    `a.test.ts` has `.ts` and `.test.ts`; `Dockerfile` has `.dockerfile`, and so has `Dockerfile.dev`; `.env` and
    `.env.local` have `.env`.
    """
    head, *parts = path.rpartition("/")[2].lower().split(".")
    endings = tuple("." + ".".join(parts[index:]) for index in range(len(parts) - 1, -1, -1))
    if head:
        return (*endings, f".{head}") if len(parts) == 0 or head in _NAMED_FILES else endings
    first = f".{parts[0]}" if parts else ""
    return endings if not first or first in endings else (*endings, first)


# Files known by their name; what follows the name is a variant of them.
_NAMED_FILES = frozenset({"dockerfile", "containerfile", "makefile", "jenkinsfile", "vagrantfile"})


class Reviewer:
    """The rules of a run with the analyzers that run them. `seconds` is the time each analyzer has taken."""

    def __init__(self, rules: Sequence[RuleSpec], plugin_configurations: Mapping[str, Mapping[str, Any]]) -> None:
        self.seconds: dict[str, float] = {}
        self._failures: list[Failure] = []
        self._untold: Counter[str] = Counter()
        self._analyzers: dict[str, Analyzer] = {}
        prepared: dict[str, list[RuleSpec]] = {}
        selectable = [rule for rule in _unique(rules) if self._has_valid_paths(rule)]
        for plugin in self._order(selectable):
            mine = [rule for rule in selectable if rule.plugin == plugin]
            prepared[plugin] = self._prepare(plugin, mine, plugin_configurations.get(plugin, {}))
        self._selection = _Selection(prepared)

    def tasks(self, path: str) -> tuple[Task, ...]:
        """What a file at `path` is asked about, by whom; nothing if no rule asks for it."""
        return self._selection.tasks(path)

    def review(self, source: SourceFile, tasks: Sequence[Task]) -> Reviewed:
        """What the analyzers find in one file, each place of a rule once."""
        found: list[Finding] = []
        for plugin, rules in tasks:
            started = perf_counter()
            found += self._ask(plugin, source, rules)
            self.seconds[plugin] += perf_counter() - started
        if not found:
            return _NOTHING
        findings = list({_place(finding): finding for finding in reversed(found)}.values())
        return Reviewed(findings, fingerprint_lines(source.content, {finding.start_line for finding in findings}))

    def failures(self) -> list[Failure]:
        """What went wrong so far. Of a plugin that fails everywhere the first failures are told, and their number."""
        untold = [Failure(plugin, None, None, f"failed {number} more times") for plugin, number in self._untold.items()]
        return [*self._failures, *untold]

    def _order(self, rules: Sequence[RuleSpec]) -> list[str]:
        installed = []
        for plugin in sorted({rule.plugin for rule in rules}):
            try:
                registry.get(plugin)
            except RuleError as error:
                self._fail(plugin, None, None, error)
            else:
                installed.append(plugin)
        return registry.dependency_order(installed)

    def _has_valid_paths(self, rule: RuleSpec) -> bool:
        try:
            for pattern in (*rule.file_patterns, *rule.exclude_patterns):
                _compile_path(pattern)
        except RuleError as error:
            self._fail(rule.plugin, rule.name, None, error)
            return False
        return True

    def _prepare(self, plugin: str, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> list[RuleSpec]:
        """Make the analyzer ready, if need be without the rules it cannot run; returns those it can."""
        self.seconds[plugin] = 0.0
        started = perf_counter()
        try:
            self._analyzers[plugin] = _ready(plugin, rules, configuration)
            return list(rules)
        except _FATAL:
            raise
        # Native code panics with classes that are no Exception.
        except BaseException as error:
            first = error
        finally:
            self.seconds[plugin] += perf_counter() - started
        usable = []
        for rule in rules:
            try:
                _ready(plugin, [rule], configuration)
            except _FATAL:
                raise
            except BaseException as error:
                self._fail(plugin, rule.name, None, error)
            else:
                usable.append(rule)
        try:
            if usable:
                self._analyzers[plugin] = _ready(plugin, usable, configuration)
                if len(usable) == len(rules):
                    self._fail(plugin, None, None, first)
            return usable
        except _FATAL:
            raise
        except BaseException as error:
            self._fail(plugin, None, None, error)
            return []

    def _ask(self, plugin: str, source: SourceFile, rules: Sequence[RuleSpec]) -> list[Finding]:
        try:
            return self._collect(plugin, source, rules)
        except _FATAL:
            raise
        except BaseException as error:
            # Asked rule by rule, those that do not fail keep what they find.
            if len(rules) == 1 or self._untold[plugin]:
                self._fail(plugin, rules[0].name if len(rules) == 1 else None, source.path, error)
                return []
        return [finding for rule in rules for finding in self._ask(plugin, source, (rule,))]

    def _collect(self, plugin: str, source: SourceFile, rules: Sequence[RuleSpec]) -> list[Finding]:
        findings = list(self._analyzers[plugin].analyze(source, rules))
        if findings:
            asked = {rule.name for rule in rules}
            last = source.content.count(b"\n") + 1
            return [_checked(finding, source.path, last, asked) for finding in findings]
        return findings

    def _fail(self, plugin: str, rule: str | None, path: str | None, error: BaseException) -> None:
        told = sum(failure.plugin == plugin for failure in self._failures)
        if told >= MAX_FAILURES:
            self._untold[plugin] += 1
            return
        text = error.message if isinstance(error, RuleError) else f"{type(error).__name__}: {_say(error)}"
        self._failures.append(Failure(plugin, rule, path, _storable(text)[:MAX_FAILURE_LENGTH]))


_FATAL = (KeyboardInterrupt, SystemExit)
_NOTHING = Reviewed([], {})


class _Selection:
    """Which rules ask for a path. Files of one type that the same path patterns fit share one answer."""

    def __init__(self, rules: Mapping[str, Sequence[RuleSpec]]) -> None:
        self._rules = [rule for mine in rules.values() for rule in mine]
        self._types = frozenset(each for rule in self._rules for each in rule.file_types)
        self._patterns: dict[str, int] = {}
        for rule in self._rules:
            for pattern in (*rule.file_patterns, *rule.exclude_patterns):
                self._patterns.setdefault(pattern, len(self._patterns))
        self._set: ExpressionSet | None = None
        if self._patterns:
            self._set = compile_set([_compile_path(pattern) for pattern in self._patterns])
        self._answers: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[Task, ...]] = {}

    def tasks(self, path: str) -> tuple[Task, ...]:
        types = tuple(each for each in file_types(path) if each in self._types)
        matched = () if self._set is None else tuple(self._set.matching(path.encode("utf-8", "replace")))
        key = (types, matched)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = self._choose(frozenset(types), frozenset(matched))
        return answer

    def _choose(self, types: frozenset[str], matched: frozenset[int]) -> tuple[Task, ...]:
        chosen: dict[str, list[RuleSpec]] = {}
        for rule in self._rules:
            if rule.file_types and types.isdisjoint(rule.file_types):
                continue
            if rule.file_patterns and not any(self._patterns[each] in matched for each in rule.file_patterns):
                continue
            if any(self._patterns[each] in matched for each in rule.exclude_patterns):
                continue
            chosen.setdefault(rule.plugin, []).append(rule)
        return tuple((plugin, tuple(rules)) for plugin, rules in chosen.items())


def _unique(rules: Sequence[RuleSpec]) -> list[RuleSpec]:
    """The rules in the order of their names, which does not depend on where they came from; of a name, the last."""
    return sorted({rule.name: rule for rule in rules}.values(), key=lambda rule: rule.name)


def _compile_path(pattern: str) -> Any:
    return compile_expression(pattern, multiline=False, field="file_patterns")


def _ready(plugin: str, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> Analyzer:
    analyzer = registry.get(plugin)()
    analyzer.prepare(rules, configuration)
    return analyzer


def _checked(finding: Any, path: str, last_line: int, asked: set[str]) -> Finding:
    """The finding, if it is one that can be shown and stored; raises ValueError if it makes no sense."""
    if not isinstance(finding, Finding):
        raise ValueError(f"returned {type(finding).__name__} where a Finding was due")
    if finding.rule not in asked:
        raise ValueError(f"returned a finding of the rule {finding.rule!r}, which it was not asked about")
    if finding.path != path:
        raise ValueError(f"returned a finding in {finding.path!r}")
    start, end = (finding.start_line, finding.start_column), (finding.end_line, finding.end_column)
    if min(*start, *end) < 1 or end < start or finding.end_line > last_line:
        raise ValueError(f"returned a finding of {finding.rule!r} at {start} to {end}, which is no place in the file")
    message, snippet = _storable(finding.message), _storable(finding.snippet)
    if message is finding.message and snippet is finding.snippet:
        return finding
    return replace(finding, message=message, snippet=snippet)


def _storable(text: str) -> str:
    """`text` without what a database or a document cannot hold: NUL, and surrogates that stand alone."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _say(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "it cannot say why"


def _place(finding: Finding) -> tuple[str, int, str, int, int, int]:
    return (
        finding.path,
        finding.start_line,
        finding.rule,
        finding.start_column,
        finding.end_line,
        finding.end_column,
    )
