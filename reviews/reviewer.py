"""What do analyzers find in a file, or in the whole tree? They are made and asked in this process.

A `Reviewer` is made once from the assignments of a run and reviews one file after another; it holds nothing of the
files it has seen. An analyzer may be anybody's. One that fails costs what it would have found there and nothing else,
and the outcome says so. What raises an error is dealt with here; what crashes, hangs or eats memory can only be dealt
with from outside: `reviews.worker` runs a reviewer in a process of its own, and `Watch` tells what it is about to do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from time import perf_counter
from typing import Any

from plugins.contract import Finding, PartialFailure, RuleError, RuleSpec, SourceFile, SourceTree
from reviews.assignments import Assignment, load
from reviews.discovery import Entry, Skip, read
from reviews.marks import Marker, hide
from reviews.outcome import Failure, Outcome
from reviews.selection import Selection, Tasks
from reviews.suppressions import find_directives

MAX_FAILURES = 100
"""Failures of one plugin that are told one by one; what comes after is counted."""
MAX_FAILURE_LENGTH = 500
MAX_FINDINGS = 50_000
"""Findings of one plugin in one file; what comes after is not taken."""
MAX_TREE_FINDINGS = 500_000
MAX_TEXT = 4000
"""Characters of a message or a snippet; the rest is cut off."""
MAX_PATH = 4096
SPLIT_SECONDS = 1.0
"""An analyzer that takes longer until it fails is not asked again rule by rule."""

_PLACES = ("start_line", "start_column", "end_line", "end_column")
_LARGEST = (1 << 31) - 1


class Watch:
    """Is told what the reviewer is about to do. This one does not care."""

    def preparing(self, plugin: str) -> None:
        """The plugin is made ready now."""

    def asking(self, plugin: str) -> None:
        """The plugin is asked now."""

    def answered(self) -> None:
        """The plugin that was made ready, or asked, is done."""


class Reviewer:
    """The analyzers of a run, ready. `seconds` is the time each has taken, `failures` what could not be made ready.

    Errors of the classes `fatal` end the run, whoever raises them.
    """

    def __init__(
        self,
        assignments: Iterable[Assignment],
        *,
        watch: Watch | None = None,
        fatal: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.failures: list[Failure] = []
        self._watch = watch or Watch()
        self._fatal = fatal
        self._analyzers: dict[str, Any] = {}
        self._usable: dict[str, RuleSpec] = {}
        self._failed: Counter[str] = Counter()
        self.out_of_memory: list[str] = []
        """Plugins that ran out of memory, as often as they did."""
        for assignment in assignments:
            with _Stopwatch(self.seconds, assignment.plugin):
                self._watch.preparing(assignment.plugin)
                usable = self._prepare(assignment)
                self._watch.answered()
            self._usable |= {rule.name: rule for rule in usable}

    def review(self, source: SourceFile, tasks: Tasks, without: frozenset[str] = frozenset()) -> Outcome:
        """What the analyzers find in one file. Those `without` which it is to be done are not asked."""
        outcome = Outcome()
        marker = Marker(source)
        found: dict[Finding, None] = {}
        failed: set[str] = set()
        for plugin, names in tasks:
            rules = [self._usable[name] for name in names if name in self._usable]
            if plugin in without:
                rules = []
            if len(rules) < len(names):
                failed.update(set(names) - {rule.name for rule in rules})
            if not rules:
                continue
            with _Stopwatch(self.seconds, plugin):
                self._watch.asking(plugin)
                findings, failures = self._ask(plugin, source, rules, marker, perf_counter())
                self._watch.answered()
            found |= dict.fromkeys(findings)
            if failures:
                outcome.failures += failures
                failed.update(_rules_of(failures, names))
        outcome.findings = list(found)
        outcome.failed = frozenset(failed)
        return self._finish(outcome, source, marker)

    def review_tree(
        self, assignment: Assignment, tree: SourceTree, *, max_bytes: int
    ) -> tuple[dict[str, Outcome], list[Failure]]:
        """What an analyzer of the tree finds, by path, and what it could not do."""
        plugin = assignment.plugin
        rules = [rule for rule in assignment.rules if rule.name in self._usable]
        if not rules:
            return {}, []
        with _Stopwatch(self.seconds, plugin):
            self._watch.asking(plugin)
            answer = _TreeAnswer(plugin, rules, tree, max_bytes)
            try:
                answer.take(self._analyzers[plugin].analyze_tree(tree, rules))
            except self._fatal:
                raise
            except BaseException as error:
                answer.add_failure(self._fail(plugin, None, None, error))
            outcomes = answer.outcomes()
            self._watch.answered()
        return outcomes, answer.failures()

    def _prepare(self, assignment: Assignment) -> Sequence[RuleSpec]:
        """Make the analyzer ready, if need be without the rules it cannot run; returns those it can."""
        plugin, rules = assignment.plugin, assignment.rules
        try:
            load(assignment.source)
        except self._fatal:
            raise
        # Native code panics with classes that are no Exception, and a module may call sys.exit when imported.
        except BaseException as error:
            self.failures.append(self._fail(plugin, None, None, error))
            return []
        try:
            self._analyzers[plugin] = _ready(assignment, rules)
            return rules
        except self._fatal:
            raise
        except BaseException as error:
            first = error
        usable = []
        for rule in rules:
            try:
                _ready(assignment, [rule])
            except self._fatal:
                raise
            except BaseException as error:
                self.failures.append(self._fail(plugin, rule.name, None, error))
            else:
                usable.append(rule)
        try:
            if usable:
                self._analyzers[plugin] = _ready(assignment, usable)
                if len(usable) == len(rules):
                    self.failures.append(self._fail(plugin, None, None, first))
            return usable
        except self._fatal:
            raise
        except BaseException as error:
            self.failures.append(self._fail(plugin, None, None, error))
            return []

    def _ask(
        self, plugin: str, source: SourceFile, rules: Sequence[RuleSpec], marker: Marker, started: float
    ) -> tuple[list[Finding], list[Failure]]:
        try:
            return _collect(self._analyzers[plugin], plugin, source, rules, marker)
        except self._fatal:
            raise
        except BaseException as error:
            slow = perf_counter() - started > SPLIT_SECONDS
            if len(rules) == 1 or slow or self._failed[plugin] > MAX_FAILURES:
                name = rules[0].name if len(rules) == 1 else None
                return [], [self._fail(plugin, name, source.path, error)]
        # Asked rule by rule, those that do not fail keep what they find.
        findings, failures = [], []
        for rule in rules:
            more_findings, more_failures = self._ask(plugin, source, (rule,), marker, started)
            findings += more_findings
            failures += more_failures
        return findings, failures

    def _fail(self, plugin: str, rule: str | None, path: str | None, error: BaseException) -> Failure:
        self._failed[plugin] += 1
        if isinstance(error, MemoryError):
            self.out_of_memory.append(plugin)
        text = error.message if isinstance(error, RuleError) else f"{type(error).__name__}: {_say(error)}"
        return Failure(plugin, rule, path, _storable(text)[:MAX_FAILURE_LENGTH])

    def _finish(self, outcome: Outcome, source: SourceFile, marker: Marker) -> Outcome:
        outcome.directives = find_directives(source.content)
        for directive in outcome.directives:
            marker.add((directive.line, directive.line))
        outcome.hashes = marker.hashes()
        if outcome.hashes:
            outcome.lines = hide(marker.lines(), outcome.findings)
        return outcome


class _TreeAnswer:
    """What an analyzer of the tree gives back: checked, without what no rule asks for, marked."""

    def __init__(self, plugin: str, rules: Sequence[RuleSpec], tree: SourceTree, max_bytes: int) -> None:
        self._failures: list[Failure] = []
        self._untold = 0
        self._plugin = plugin
        self._asked = {rule.name for rule in rules}
        self._selection = Selection({plugin: rules})
        self._locations = {file.path: file.location for file in tree.files}
        self._max_bytes = max_bytes
        self._found: defaultdict[str, dict[Finding, None]] = defaultdict(dict)

    def take(self, answer: Iterable[Any]) -> None:
        """Take findings and failures. One that makes no sense is a failure and costs only itself."""
        number = 0
        for number, each in enumerate(islice(answer, MAX_TREE_FINDINGS + 1)):
            if number == MAX_TREE_FINDINGS:
                self._fail(None, None, f"found more than {MAX_TREE_FINDINGS:,} times; the rest was not taken")
            elif isinstance(each, PartialFailure):
                self.add_failure(_partial(self._plugin, each, self._asked, each.path))
            else:
                self._take(each)

    def add_failure(self, failure: Failure) -> None:
        """Add what went wrong; of many failures the first are told, and their number."""
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(failure)
        else:
            self._untold += 1

    def failures(self) -> list[Failure]:
        """What went wrong."""
        more = [Failure(self._plugin, None, None, f"failed {self._untold:,} more times")] if self._untold else []
        return [*self._failures, *more]

    def _take(self, finding: Any) -> None:
        try:
            path = finding.path if isinstance(finding, Finding) else None
            checked = _checked(finding, path, _LARGEST, self._asked)
            if checked.path not in self._locations and not _is_relative(checked.path):
                raise ValueError(f"returned a finding in {checked.path!r}")
        except ValueError as error:
            self._fail(None, None, str(error))
            return
        if any(checked.rule in names for _, names in self._selection.tasks(checked.path)):
            self._found[checked.path][checked] = None

    def outcomes(self) -> dict[str, Outcome]:
        """What was found by path, with the marks of the files that can be read."""
        outcomes = {}
        for path, findings in self._found.items():
            outcome = Outcome(findings=list(findings))
            location = self._locations.get(path)
            source = Skip.UNREADABLE if location is None else read(Entry(path, location), max_bytes=self._max_bytes)
            if isinstance(source, SourceFile):
                self._mark(outcome, source)
            if outcome.findings:
                outcomes[path] = outcome
        return outcomes

    def _mark(self, outcome: Outcome, source: SourceFile) -> None:
        marker = Marker(source)
        for finding in list(outcome.findings):
            try:
                marker.add((finding.start_line, finding.end_line))
            except IndexError as error:
                outcome.findings.remove(finding)
                self._fail(finding.rule, source.path, f"found something that is not in the file: {error}")
        outcome.directives = find_directives(source.content)
        for directive in outcome.directives:
            marker.add((directive.line, directive.line))
        outcome.hashes = marker.hashes()
        outcome.lines = hide(marker.lines(), outcome.findings)

    def _fail(self, rule: str | None, path: str | None, message: str) -> None:
        self.add_failure(Failure(self._plugin, rule, path, _storable(message)[:MAX_FAILURE_LENGTH]))


class _Stopwatch:
    """Adds the time that passes inside to an entry of `seconds`."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds = seconds
        self._name = name

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = self._seconds.get(self._name, 0.0) + perf_counter() - self._started


def _ready(assignment: Assignment, rules: Sequence[RuleSpec]) -> Any:
    analyzer = load(assignment.source)()
    analyzer.prepare(rules, assignment.configuration)
    return analyzer


def _collect(
    analyzer: Any, plugin: str, source: SourceFile, rules: Sequence[RuleSpec], marker: Marker
) -> tuple[list[Finding], list[Failure]]:
    """The findings that make sense, marked, and what the analyzer says it could not do."""
    answer = analyzer.analyze(source, rules)
    answer = list(islice(answer, MAX_FINDINGS + 1))
    if not answer:
        return [], []
    findings: list[Finding] = []
    failures: list[Failure] = []
    if len(answer) > MAX_FINDINGS:
        message = f"found more than {MAX_FINDINGS:,} times; the rest was not taken"
        failures.append(Failure(plugin, None, source.path, message))
        answer.pop()
    untold = 0
    asked = {rule.name for rule in rules}
    last = source.content.count(b"\n") + 1
    for each in answer:
        if isinstance(each, PartialFailure):
            untold += len(failures) >= MAX_FAILURES
            if not untold:
                failures.append(_partial(plugin, each, asked, source.path))
        else:
            checked = _checked(each, source.path, last, asked)
            marker.add((checked.start_line, checked.end_line))
            findings.append(checked)
    if untold:
        # Which rules they were about is not known any more, so they are about all of them.
        failures.append(Failure(plugin, None, source.path, f"failed {untold:,} more times"))
    return findings, failures


def _checked(finding: Any, path: str | None, last_line: int, asked: Iterable[str]) -> Finding:
    """The finding, if it is one that can be shown and stored; raises ValueError if it makes no sense."""
    if not isinstance(finding, Finding):
        raise ValueError(f"returned {type(finding).__name__} where a Finding was due")
    if finding.rule not in asked:
        raise ValueError(f"returned a finding of the rule {finding.rule!r}, which it was not asked about")
    if not isinstance(finding.path, str) or finding.path != path:
        raise ValueError(f"returned a finding in {finding.path!r}")
    for name in _PLACES:
        if type(getattr(finding, name)) is not int:
            raise ValueError(f"returned a finding of {finding.rule!r} whose {name} is no whole number")
    start, end = (finding.start_line, finding.start_column), (finding.end_line, finding.end_column)
    if min(*start, *end) < 1 or end < start or finding.end_line > last_line or max(*start, *end) > _LARGEST:
        raise ValueError(f"returned a finding of {finding.rule!r} at {start} to {end}, which is no place in the file")
    texts: dict[str, Any] = {}
    for name in ("message", "snippet", "code"):
        text = getattr(finding, name)
        if not isinstance(text, str):
            raise ValueError(f"returned a finding of {finding.rule!r} whose {name} is no text")
        storable = _storable(text)
        if storable is not text:
            texts[name] = storable
    return replace(finding, **texts) if texts else finding


def _partial(plugin: str, failure: PartialFailure, asked: Collection[str], path: str | None) -> Failure:
    rule = next((name for name in asked if name == failure.rule), None)
    shown = _storable(path)[:MAX_PATH] if isinstance(path, str) else None
    return Failure(plugin, rule, shown, _storable(str(failure.message))[:MAX_FAILURE_LENGTH])


def _rules_of(failures: Iterable[Failure], names: Sequence[str]) -> Iterator[str]:
    """Which of the rules `names` of a plugin its failures concern."""
    for failure in failures:
        if failure.rule is None:
            yield from names
        else:
            yield failure.rule


def _is_relative(path: str) -> bool:
    """Whether it may be the path of a file that is missing in the tree."""
    parts = path.split("/")
    return len(path) <= MAX_PATH and _storable(path) == path and not {"", ".", ".."} & set(parts)


def _storable(text: str) -> str:
    """`text` without what a database or a document cannot hold: NUL, and surrogates that stand alone."""
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    if type(text) is str and text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _say(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "it cannot say why"
