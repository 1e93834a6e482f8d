"""What is a finding of a review, once it is known whether it was there before and what people decided? Pure.

Reports, SARIF and prompts read `Issue`s. Those that a comment suppresses, and those that people dismissed, are listed
but do not count against the codebase.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from plugins.contract import Finding, RuleSpec
from reviews.choices import DISMISSED, IssueState, Triage
from reviews.engine import SEVERITIES, route
from reviews.suppressions import Directive

UNASSIGNED = "unassigned"
"""Stands where a persona would for rules that nobody speaks for."""


@dataclass(frozen=True, slots=True)
class Issue:
    """A finding of a review, compared with what was known of the codebase before."""

    finding: Finding
    key: str = ""
    """Names the problem in every review that sees it."""
    state: str = IssueState.NEW
    triage: str = Triage.OPEN
    suppressed: Directive | None = None
    """The comment that suppresses it."""
    rule: RuleSpec | None = field(default=None, compare=False)
    """The rule as it is in force in the file; None: as it is everywhere."""

    def judge(self, rules: Mapping[str, RuleSpec]) -> RuleSpec:
        """The rule of the finding as it is in force there; `rules` are those of the review by name."""
        return self.rule or rules[self.finding.rule]

    @property
    def is_dismissed(self) -> bool:
        """Whether people decided that it does not count."""
        return self.triage in DISMISSED

    @property
    def counts(self) -> bool:
        """Whether it counts against the codebase: neither suppressed nor dismissed."""
        return self.suppressed is None and not self.is_dismissed


@dataclass(frozen=True)
class Listing:
    """The issues of a review that are to be told, and how many are not."""

    issues: Sequence[Issue]
    suppressed: int = 0
    """How many a comment suppresses."""
    dismissed: int = 0
    """How many people dismissed."""
    known: int = 0
    """How many count and are left out, because the review that this one is compared with had them too."""
    gone: Mapping[str, int] | None = None
    """How many findings of before are `fixed`, and how many lost their rule (`rule_removed`); None: there was no
    earlier review."""
    baselined: bool = False
    """Whether there is a review that this one is compared with: what that one had is not listed."""
    shows_suppressed: bool = False
    """Whether those that do not count are listed as well."""

    @property
    def counting(self) -> list[Issue]:
        """Those that count."""
        return [issue for issue in self.issues if issue.counts]

    @property
    def is_compared(self) -> bool:
        """Whether it is known what was there before."""
        return self.baselined or self.gone is not None

    def state(self, issue: Issue) -> str:
        """What a listed issue is: new, too, if it is as old as the last review, and the baseline is older."""
        if self.baselined and issue.state == IssueState.EXISTING:
            return IssueState.NEW.value
        return str(issue.state)


def list_new(findings: Iterable[Finding]) -> Listing:
    """The findings of a review before which nothing was known."""
    return Listing([Issue(finding) for finding in findings])


def list_issues(
    issues: Sequence[Issue],
    *,
    gone: Mapping[str, int] | None = None,
    baseline: Collection[str] | None = None,
    show_suppressed: bool = False,
) -> Listing:
    """Choose what is told: what counts and is not in the `baseline` (keys of an earlier review), and with
    `show_suppressed` what does not count as well."""
    fresh = [issue for issue in issues if baseline is None or issue.key not in baseline]
    return Listing(
        [issue for issue in fresh if issue.counts or show_suppressed],
        suppressed=sum(issue.suppressed is not None for issue in issues),
        dismissed=sum(issue.suppressed is None and issue.is_dismissed for issue in issues),
        known=sum(issue.counts for issue in issues) - sum(issue.counts for issue in fresh),
        gone=gone,
        baselined=baseline is not None,
        shows_suppressed=show_suppressed,
    )


def count(issues: Iterable[Issue], rules: Sequence[RuleSpec]) -> dict[str, dict[str, int]]:
    """Number of issues that count `by_severity` (worst first), `by_persona`, `by_rule` (those that have any,
    most first) and `by_state` (new, existing, reappeared).

    An issue of a rule that several personas speak for counts for each of them.
    """
    counting = [issue for issue in issues if issue.counts]
    by_rule = Counter(issue.finding.rule for issue in counting)
    states = Counter(str(issue.state) for issue in counting)
    by_severity = dict.fromkeys(reversed(SEVERITIES), 0)
    by_persona: Counter[str] = Counter()
    for rule, number in count_by_rule(counting, rules):
        by_severity[rule.severity] = by_severity.get(rule.severity, 0) + number
        for persona in route(rule) or (UNASSIGNED,):
            by_persona[persona] += number
    return {
        "by_severity": by_severity,
        "by_persona": _most_first(by_persona),
        "by_rule": _most_first(by_rule),
        "by_state": {state: states[state] for state in IssueState.values},
    }


def count_by_rule(issues: Iterable[Issue], rules: Iterable[RuleSpec]) -> list[tuple[RuleSpec, int]]:
    """How many issues each rule has; one that is not as severe everywhere comes once for each severity."""
    by_name = {rule.name: rule for rule in rules}
    numbers: Counter[tuple[str, str]] = Counter()
    judged: dict[tuple[str, str], RuleSpec] = {}
    for issue in issues:
        rule = issue.judge(by_name)
        numbers[rule.name, rule.severity] += 1
        judged.setdefault((rule.name, rule.severity), rule)
    return [(judged[key], number) for key, number in numbers.items()]


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
