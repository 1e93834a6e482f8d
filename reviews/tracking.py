"""Which findings of a codebase are new, still there, back again or fixed after a review, and how is that stored?

What people decided about a finding is never touched here, and a review that looked at a part of the codebase, or failed
on one, never says that something was fixed there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import transaction

from plugins.contract import Finding, RuleSpec
from reviews.choices import DISMISSED, GONE, IssueState, Presence, SessionStatus, Triage
from reviews.coverage import Answer, Coverage
from reviews.engine import Result, route
from reviews.identity import Known, Standing, Trace, make_keys, match
from reviews.issues import Issue, count
from reviews.marks import Marks
from reviews.models import Codebase, DiscoveredIssue, ReviewSession, TrackedFinding
from reviews.scopes import Scopes

ROWS_A_STATEMENT = 500

_STANDINGS = {Presence.PRESENT: Standing.PRESENT, Presence.FIXED: Standing.FIXED}
# What is not seen any more becomes this.
_VERDICTS = {
    Answer.LOOKED: Presence.FIXED,
    Answer.GONE: Presence.FIXED,
    Answer.RULE_REMOVED: Presence.RULE_REMOVED,
    Answer.NOT_REVIEWED: Presence.NOT_REVIEWED,
}
# A hash of nothing proves nothing.
_NOTHING = hashlib.blake2b(b"", digest_size=16).hexdigest()
_WRITTEN = (
    *("rule_type", "severity", "path", "line", "message", "code_hash", "context_hash", "presence", "suppressed"),
    *("last_session", "last_seen_at", "resolved_at"),
)


class Tracked(NamedTuple):
    """A row of what was known before."""

    pk: int
    key: str
    trace: Trace
    presence: str
    suppressed: bool
    triage: str
    rule_type: str
    severity: str

    @property
    def counts(self) -> bool:
        """Whether it counted against the codebase."""
        return not self.suppressed and self.triage not in DISMISSED


@dataclass(frozen=True)
class Scene:
    """What part of a codebase a review looked at, and how."""

    coverage: Coverage
    root: str
    """The folder of the codebase, to be remembered if all of it was reviewed."""
    prefix: str = ""
    """Leads from there to the reviewed folder: with a slash at its end, or empty."""
    whole: bool = True
    """Whether what was not seen may be marked as gone."""
    scopes: Scopes = field(default_factory=Scopes)
    """Where rules are in force otherwise than elsewhere."""
    keep: Callable[[Finding], bool] | None = None
    """Which findings are wanted. All are compared, so that what moved is not taken for new."""


@transaction.atomic
def track(
    session: ReviewSession, result: Result, rules: Sequence[RuleSpec], *, scene: Scene, now: datetime
) -> list[Issue]:
    """Compare `result` with what is known of the session's codebase and store what came of it, with the session.

    Returns the issues that are wanted, in the order of the findings.
    """
    # On SQLite the transaction itself is the lock.
    codebase = Codebase.objects.select_for_update().get(pk=session.tracked_codebase_id)
    before = _load(codebase)
    traces = [_trace(finding, result.marks.get(finding), scene.prefix) for finding in result.findings]
    found = match(
        traces,
        [Known(each.trace, _STANDINGS.get(each.presence, Standing.UNSEEN)) for each in before],
        is_gone=lambda trace: not scene.coverage.is_there(trace.path),
        was_looked_for=lambda trace: scene.coverage.answer(trace.rule, trace.path) is Answer.LOOKED,
    )
    new = [index for index in range(len(traces)) if index not in found]
    keys = make_keys(codebase.key, [traces[index] for index in new], [each.key for each in before])
    known = {index: before[other] for index, other in found.items()}
    comparisons = list(_compare(result, rules, scene.scopes, traces, known, dict(zip(new, keys, strict=True))))
    if scene.keep is not None:
        comparisons = [each for each in comparisons if scene.keep(each.issue.finding)]
    _store(session, codebase, comparisons, now)
    gone: Counter[str] = Counter()
    if scene.whole:
        matched = set(found.values())
        gone = _mark_gone([each for index, each in enumerate(before) if index not in matched], scene.coverage, now)
        if codebase.root != scene.root:
            codebase.root = scene.root
            codebase.save(update_fields=["root"])
    issues = [each.issue for each in comparisons]
    _complete(session, issues, rules, gone, now)
    return issues


@dataclass
class _Comparison:
    """An issue, and what its rows are made of."""

    issue: Issue
    rule: RuleSpec
    trace: Trace
    marks: Marks | None
    known: Tracked | None
    pk: int = 0
    """Of its tracked finding."""

    def row(self, session: ReviewSession, codebase: Codebase, now: datetime) -> TrackedFinding:
        """The tracked finding as it is now; what people decided is left as it is."""
        return TrackedFinding(
            codebase=codebase,
            key=self.issue.key,
            rule_name=self.rule.name,
            rule_type=self.rule.rule_type,
            severity=self.rule.severity,
            path=self.trace.path,
            line=self.trace.line,
            message=self.trace.message,
            code_hash=self.trace.code_hash,
            context_hash=self.trace.context_hash,
            presence=Presence.PRESENT,
            suppressed=self.issue.suppressed is not None,
            first_session=session,
            last_session=session,
            first_seen_at=now,
            last_seen_at=now,
        )

    def has_changed(self) -> bool:
        """Whether more is to be written than that it was seen again."""
        known = self.known
        return known is None or (known.trace, known.presence, known.suppressed, known.rule_type, known.severity) != (
            self.trace,
            Presence.PRESENT,
            self.issue.suppressed is not None,
            self.rule.rule_type,
            self.rule.severity,
        )


def _load(codebase: Codebase) -> list[Tracked]:
    rows = TrackedFinding.objects.filter(codebase=codebase).order_by("pk")
    return [
        Tracked(pk, key, Trace(*trace), presence, suppressed, triage, rule_type, severity)
        for pk, key, presence, suppressed, triage, rule_type, severity, *trace in rows.values_list(
            *("pk", "key", "presence", "suppressed", "triage", "rule_type", "severity"),
            *("rule_name", "path", "line", "message", "code_hash", "context_hash"),
        ).iterator(chunk_size=5000)
    ]


def _trace(finding: Finding, marks: Marks | None, prefix: str) -> Trace:
    code, context = (marks.code_hash, marks.context_hash) if marks else ("", "")
    return Trace(
        finding.rule,
        prefix + finding.path,
        finding.start_line,
        finding.message,
        "" if code == _NOTHING else code,
        "" if context == _NOTHING else context,
    )


def _compare(
    result: Result,
    rules: Sequence[RuleSpec],
    scopes: Scopes,
    traces: Sequence[Trace],
    known: Mapping[int, Tracked],
    keys: Mapping[int, str],
) -> Iterator[_Comparison]:
    by_name = {rule.name: rule for rule in rules}
    for index, finding in enumerate(result.findings):
        before = known.get(index)
        rule = scopes.judge(by_name[finding.rule], traces[index].path)
        issue = Issue(
            finding,
            before.key if before else keys[index],
            _state(before),
            before.triage if before else Triage.OPEN.value,
            result.suppressed.get(finding),
            rule,
        )
        yield _Comparison(issue, rule, traces[index], result.marks.get(finding), before)


def _state(before: Tracked | None) -> str:
    if before is None:
        return IssueState.NEW.value
    return (IssueState.EXISTING if before.presence == Presence.PRESENT else IssueState.REAPPEARED).value


def _store(session: ReviewSession, codebase: Codebase, comparisons: Sequence[_Comparison], now: datetime) -> None:
    """Write the tracked findings that are new, those that changed, and that the others were seen; then the issues."""
    new = [(each, each.row(session, codebase, now)) for each in comparisons if each.known is None]
    TrackedFinding.objects.bulk_create([row for _, row in new], batch_size=ROWS_A_STATEMENT)
    for each, row in new:
        each.pk = row.pk
    changed, same = [], []
    for each in comparisons:
        if each.known is not None:
            each.pk = each.known.pk
            changed += [each.row(session, codebase, now)] if each.has_changed() else []
            same += [] if each.has_changed() else [each.pk]
    # The row is there, so only the update comes to pass, of many rows at once.
    TrackedFinding.objects.bulk_create(
        changed,
        batch_size=ROWS_A_STATEMENT,
        update_conflicts=True,
        unique_fields=["codebase", "key"],
        update_fields=_WRITTEN,
    )
    _update(same, last_session=session, last_seen_at=now)
    DiscoveredIssue.objects.bulk_create(
        (_issue_row(session, each, now) for each in comparisons), batch_size=ROWS_A_STATEMENT
    )


def _issue_row(session: ReviewSession, comparison: _Comparison, now: datetime) -> DiscoveredIssue:
    issue, rule, marks = comparison.issue, comparison.rule, comparison.marks
    finding, directive = issue.finding, issue.suppressed
    return DiscoveredIssue(
        session=session,
        finding_id=comparison.pk,
        state=issue.state,
        rule_name=rule.name,
        rule_type=rule.rule_type,
        severity=rule.severity,
        plugin=rule.plugin,
        code=finding.code[:100],
        personas=list(route(rule)),
        path=finding.path,
        start_line=finding.start_line,
        start_column=finding.start_column,
        end_line=finding.end_line,
        end_column=finding.end_column,
        message=finding.message,
        snippet=finding.snippet,
        context_start=marks.context_start if marks else 0,
        context=list(marks.context) if marks else [],
        suppressed=directive is not None,
        suppression_reason=directive.reason if directive else "",
        suppressed_until=directive.until if directive else None,
        line_hash=marks.line_hash if marks else "",
        created_at=now,
    )


def _mark_gone(unseen: Iterable[Tracked], coverage: Coverage, now: datetime) -> Counter[str]:
    """Say of each finding that was not seen what became of it; returns how many that counted have become what."""
    changed: dict[Presence, list[int]] = {}
    counts: Counter[str] = Counter()
    for each in unseen:
        if each.presence == Presence.FIXED:
            continue
        verdict = _VERDICTS.get(coverage.answer(each.trace.rule, each.trace.path))
        if verdict is not None and verdict != each.presence:
            changed.setdefault(verdict, []).append(each.pk)
            counts[verdict.value] += each.counts
    for verdict, pks in changed.items():
        resolved_at = None if verdict is Presence.NOT_REVIEWED else now
        _update(pks, presence=verdict.value, resolved_at=resolved_at)
    return counts


def _update(pks: Sequence[int], **fields: Any) -> None:
    for start in range(0, len(pks), ROWS_A_STATEMENT):
        TrackedFinding.objects.filter(pk__in=pks[start : start + ROWS_A_STATEMENT]).update(**fields)


def _complete(
    session: ReviewSession, issues: Sequence[Issue], rules: Sequence[RuleSpec], gone: Counter[str], now: datetime
) -> None:
    counts: dict[str, Any] = count(issues, rules)
    del counts["by_rule"]
    counts["by_state"] |= {verdict: gone[verdict] for verdict in GONE}
    counts["suppressed"] = sum(issue.suppressed is not None for issue in issues)
    counts["dismissed"] = sum(issue.suppressed is None and issue.is_dismissed for issue in issues)
    session.counts = counts
    session.status = SessionStatus.COMPLETED
    session.finished_at = now
    # The rest of the row may be changed meanwhile, by whoever asks for an end of the review.
    session.save(update_fields=["counts", "status", "finished_at"])
