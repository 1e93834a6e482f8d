"""What has a review found so far, and what does it come to in the end?

Outcomes come file by file, and for the whole tree from other analyzers; a file's suppressions are judged when all of
them are there. What several analyzers say of a file is shown together: where one of them sees a credential, the others
show nothing of it.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import accumulate

from plugins.contract import Finding, RuleSpec
from reviews.marks import HIDDEN, Marks, gather, hide
from reviews.outcome import ENGINE, Failure, Hashes, Lines, Outcome
from reviews.plan import Plan
from reviews.reviewer import MAX_FAILURES
from reviews.scopes import name_rule
from reviews.selection import Tasks
from reviews.suppressions import NAME as DIRECTIVES
from reviews.suppressions import Directive, Policy, apply, to_findings
from reviews.work import TreeDone

# What stands for code of the finding in the message of a rule.
_QUOTING = re.compile(r"\$+[A-Z_][A-Z0-9_]*")


@dataclass
class PluginTally:
    """How an analyzer did in a review."""

    seconds: float = 0.0
    """Of its own work, in all processes together; none for what came from the cache."""
    files: int = 0
    findings: int = 0
    failures: int = 0
    detail: str = ""
    """The first failure."""


@dataclass
class Result:
    """What a review found, and what it could not do."""

    findings: list[Finding] = field(default_factory=list)
    """Sorted by path, line and rule, without duplicates; those that are `suppressed` as well."""
    fingerprints: dict[tuple[str, int], str] = field(default_factory=dict)
    """`primaryLocationLineHash` of each line, by path and number, where a finding starts."""
    marks: dict[Finding, Marks] = field(default_factory=dict)
    """By what each finding is known again."""
    suppressed: dict[Finding, Directive] = field(default_factory=dict)
    """Findings that a comment in the code asks to leave alone. Whoever counts findings leaves them out."""
    files: frozenset[str] = frozenset()
    """Paths that were looked at: what is not found there is not there."""
    files_analyzed: int = 0
    files_skipped: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    seconds: float = 0.0
    analyzer_seconds: dict[str, float] = field(default_factory=dict)
    plugin_runs: dict[str, PluginTally] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    cancelled: bool = False
    """It was ended before everything was done: what was found until then."""


class Ledger:
    """Takes what happens in a run of `plan`; `close` makes the result of it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._result = Result()
        self._reviewed: set[str] = set()
        self._only_in_tree: set[str] = set()
        self._whole_trees: set[str] = set()
        self._outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
        self._tallies = {each.plugin: PluginTally() for each in plan.assignments}
        self._untold: Counter[str] = Counter()
        self._failed: defaultdict[str | None, set[str]] = defaultdict(set)
        for failure in plan.failures:
            self.add_failure(failure)

    def skip(self, reason: str, number: int = 1) -> None:
        """So many files are not reviewed."""
        self._result.files_skipped[reason] += number

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Analyzers have taken so many seconds more."""
        for plugin, number in seconds.items():
            self._tallies[plugin].seconds += number

    def add_file(self, path: str, size: int, tasks: Tasks, outcome: Outcome) -> None:
        """A file of `size` bytes was reviewed by `tasks`."""
        self._reviewed.add(path)
        self._result.bytes += size
        for plugin, names in tasks:
            self._tallies[plugin].files += not outcome.failed.issuperset(names)
        self._add(path, outcome)

    def add_tree(self, done: TreeDone) -> None:
        """An analyzer of the tree has ended."""
        plugin = done.tree.assignment.plugin
        for failure in done.failures:
            self.add_failure(failure)
        if not any(failure.rule is None and failure.path is None for failure in done.failures):
            self._whole_trees.add(plugin)
            asked = [file.path for file in done.tree.files if plugin in dict(self._plan.tree_tasks(file.path))]
            self._tallies[plugin].files += len(asked)
            self._only_in_tree.update(path for path in asked if not self._plan.tasks(path))
        for path, outcome in done.outcomes.items():
            self._add(path, outcome)

    def add_failure(self, failure: Failure) -> None:
        """Something could not be done."""
        self._failed[failure.path] |= {failure.rule} if failure.rule else self._plan.names(failure.plugin)
        self._tell(failure)

    def _tell(self, failure: Failure) -> None:
        """Of a plugin that fails everywhere the first failures are told, and their number."""
        plugin = failure.plugin
        tally = self._tallies.setdefault(plugin, PluginTally())
        tally.failures += 1
        tally.detail = tally.detail or failure.message
        if tally.failures <= MAX_FAILURES:
            self._result.failures.append(failure._replace(rule=failure.rule and name_rule(failure.rule)))
        else:
            self._untold[plugin] += 1

    def close(self, policy: Policy | None, today: date) -> Result:
        """The result. Without a policy no suppression is honoured."""
        result = self._result
        for path in sorted(self._outcomes):
            self._settle(path, self._outcomes[path], policy, today)
        result.findings.sort(key=_place)
        result.failures += [
            Failure(plugin, None, None, f"failed {number} more times") for plugin, number in self._untold.items()
        ]
        result.files = frozenset(self._reviewed | self._only_in_tree)
        result.files_analyzed = len(result.files)
        result.analyzer_seconds = {each.plugin: self._tallies[each.plugin].seconds for each in self._plan.assignments}
        if policy is not None or self._plan.directive_rules:
            self._tallies.setdefault(DIRECTIVES, PluginTally()).files = len(self._reviewed)
        for finding in result.findings:
            self._tallies[self._plan.by_name[finding.rule].plugin].findings += 1
        result.plugin_runs = {plugin: tally for plugin, tally in self._tallies.items() if plugin != ENGINE}
        return result

    def _add(self, path: str, outcome: Outcome) -> None:
        for failure in outcome.failures:
            self._tell(failure)
        # Only directives ask what ran; a plugin may fail at every file.
        if outcome.failed and outcome.directives:
            self._failed[path] |= outcome.failed
        if outcome.findings or outcome.directives:
            self._outcomes[path].append(outcome)

    def _settle(self, path: str, outcomes: Sequence[Outcome], policy: Policy | None, today: date) -> None:
        """What all that was said of one file comes to."""
        hashes: dict[Lines, Hashes] = {}
        lines: dict[int, str] = {}
        for outcome in outcomes:
            hashes |= outcome.hashes
            lines |= outcome.lines
        found = dict.fromkeys(each for outcome in outcomes for each in outcome.findings)
        # An analyzer of the tree is asked about all variants of a rule everywhere.
        in_force = [each for each in found if self._plan.scopes.is_in_force(each.rule, path)]
        findings = _of_rules(_without_credentials(in_force, self._plan.rules))
        lines = hide(lines, findings)
        if policy is not None:
            directives = list(dict.fromkeys(each for outcome in outcomes for each in outcome.directives))
            applied = apply(findings, directives, self._plan.by_name, policy, today, ran=self._ran(path))
            self._result.suppressed |= applied.suppressed
            findings += _of_rules(to_findings(applied.reports, self._plan.directive_rules_for(path), path))
        for finding in findings:
            marks = gather(finding, hashes, lines)
            self._result.marks[finding] = marks
            if marks.line_hash:
                self._result.fingerprints[path, finding.start_line] = marks.line_hash
        self._result.findings += findings

    def _ran(self, path: str) -> set[str]:
        """The rules that looked at a file and did not fail."""
        tasks = [*self._plan.tasks(path)] if path in self._reviewed else []
        tasks += [task for task in self._plan.tree_tasks(path) if task[0] in self._whole_trees]
        labels = {name for _, names in tasks for name in names} - self._failed[None] - self._failed[path]
        return set(map(name_rule, labels))


def _of_rules(findings: Iterable[Finding]) -> list[Finding]:
    """The findings of variants as those of their rules."""
    return [each if (name := name_rule(each.rule)) == each.rule else replace(each, rule=name) for each in findings]


def _without_credentials(findings: list[Finding], rules: Mapping[str, RuleSpec]) -> list[Finding]:
    """The findings, none of which shows or quotes a line in which another one sees a credential."""
    places = sorted((each.start_line, each.end_line) for each in findings if each.sensitive)
    if not places:
        return findings
    hidden = hide(dict.fromkeys((each.start_line for each in findings), ""), findings)
    ends = list(accumulate((end for _, end in places), max))

    def cover(finding: Finding) -> Finding:
        if finding.sensitive:
            return finding
        snippet, message = hidden[finding.start_line] or finding.snippet, finding.message
        before = bisect_right(places, (finding.end_line, math.inf))
        if before and ends[before - 1] >= finding.start_line and _QUOTING.search(rules[finding.rule].message):
            message = _QUOTING.sub(HIDDEN, rules[finding.rule].message)
        return replace(finding, snippet=snippet, message=message)

    return [cover(each) for each in findings]


def _place(finding: Finding) -> tuple[str, int, str, int, int, int, str, str]:
    return (
        finding.path,
        finding.start_line,
        finding.rule,
        finding.start_column,
        finding.end_line,
        finding.end_column,
        finding.code,
        finding.message,
    )
