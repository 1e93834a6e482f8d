"""Which findings does a comment in the code suppress, and which comments suppress nothing? Pure.

How a directive is written is told in `plugins.analyzers.directives`, whose configuration is the policy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from plugins.analyzers.directives import (
    NAME,
    Directive,
    Kind,
    Policy,
    find_directives,
    judge,
    make_finding,
    reported_kind,
)
from plugins.contract import Finding, RuleSpec

__all__ = ["NAME", "Applied", "Directive", "Kind", "Policy", "Report", "apply", "find_directives", "to_findings"]


class Report(NamedTuple):
    """A directive that suppresses nothing: `kind` is malformed, forbidden, expired or unused; `detail` says why."""

    kind: str
    directive: Directive
    detail: str


@dataclass
class Applied:
    """What the directives of a file come to."""

    suppressed: dict[Finding, Directive] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    """In the order of the file."""


def apply(
    findings: Iterable[Finding],
    directives: Sequence[Directive],
    rules_by_name: Mapping[str, RuleSpec],
    policy: Policy,
    today: date,
    *,
    ran: Collection[str] | None = None,
) -> Applied:
    """What `directives` do to the `findings` of the same file.

    `rules_by_name` are the rules of the run. `ran` are those that were asked about this file and did not fail, so that
    what they did not find is not there (None: all of `rules_by_name`); rules that look at the whole tree come later and
    do not belong to them. A directive is unused if all of its rules ran and it suppresses nothing.
    """
    applied = Applied()
    index: dict[tuple[int, str], Directive] = {}
    valid: list[Directive] = []
    for directive in directives:
        said = judge(directive, policy, today) or _check_names(directive, rules_by_name, policy)
        if said is not None:
            if not directive.quoted:
                applied.reports.append(Report(said[0].value, directive, said[1]))
            continue
        valid.append(directive)
    # One on the line itself is closer than one above it.
    for line_of in (_own_line, _line_below):
        for directive in valid:
            for name in directive.names:
                index.setdefault((line_of(directive), name), directive)
    if index:
        for finding in findings:
            found = index.get((finding.start_line, finding.rule))
            if found is not None:
                applied.suppressed[finding] = found
    used = set(applied.suppressed.values())
    asked = rules_by_name if ran is None else ran
    applied.reports += [
        Report(Kind.UNUSED.value, each, _say_unused(each))
        for each in valid
        if each not in used and not each.quoted and all(name in asked for name in each.names)
    ]
    applied.reports.sort(key=lambda report: (report.directive.line, report.directive.column))
    return applied


def to_findings(reports: Iterable[Report], rules: Iterable[RuleSpec], path: str) -> list[Finding]:
    """The reports as findings of those `rules` (of the plugin `directives`) that ask for their kind, in file `path`."""
    by_kind: dict[str, list[RuleSpec]] = {}
    for rule in rules:
        if rule.plugin == NAME:
            by_kind.setdefault(reported_kind(rule), []).append(rule)
    return [
        make_finding(rule, path, report.directive, report.detail)
        for report in reports
        for rule in by_kind.get(report.kind, ())
    ]


def _check_names(directive: Directive, rules: Mapping[str, RuleSpec], policy: Policy) -> tuple[Kind, str] | None:
    unknown = [name for name in directive.names if name not in rules and name not in policy.known]
    if unknown:
        return Kind.MALFORMED, f"There is no rule {', '.join(map(repr, unknown))}."
    hard = [name for name in directive.names if name in rules and not _may_be_suppressed(rules[name])]
    if hard:
        return Kind.FORBIDDEN, f"{', '.join(hard)} may not be suppressed by a comment."
    return None


def _may_be_suppressed(rule: RuleSpec) -> bool:
    # What is said about directives is not settled by another directive.
    return rule.suppressible and rule.plugin != NAME


def _own_line(directive: Directive) -> int:
    return directive.line


def _line_below(directive: Directive) -> int:
    return directive.covers


def _say_unused(directive: Directive) -> str:
    return f"{', '.join(directive.names)} found nothing here."
