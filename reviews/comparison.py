"""What differs between two reviews of a codebase? By finding: what moved or was renamed is still the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Q, QuerySet

from audit.errors import StateConflict
from audit.listing import rank
from reviews.choices import DISMISSED, Scope, SessionStatus
from reviews.models import DiscoveredIssue, ReviewSession
from rules.choices import Severity

WORST_FIRST = (rank("severity", Severity.values).desc(), "path", "start_line", "id")


@dataclass(frozen=True)
class Comparison:
    """What is different in `session` from what was in `other`; without what people dismissed."""

    session: ReviewSession
    other: ReviewSession

    @property
    def new(self) -> QuerySet[DiscoveredIssue]:
        """In `session` and not in `other`, or suppressed there."""
        return self._only(self.session, self.other, suppressed=False)

    @property
    def fixed(self) -> QuerySet[DiscoveredIssue]:
        """In `other` and no longer in `session`; as they were then."""
        return self._only(self.other, self.session)

    @property
    def suppressed(self) -> QuerySet[DiscoveredIssue]:
        """In `session` still, but suppressed there since `other`."""
        before = _issues(self.other).filter(finding=OuterRef("finding"), suppressed=False)
        return _issues(self.session).filter(Exists(before), suppressed=True).order_by(*WORST_FIRST)

    @property
    def unchanged(self) -> QuerySet[DiscoveredIssue]:
        """In both."""
        before = _issues(self.other).filter(finding=OuterRef("finding"), suppressed=False)
        return _issues(self.session).filter(Exists(before), suppressed=False).order_by(*WORST_FIRST)

    def parts(self) -> Iterator[tuple[str, QuerySet[DiscoveredIssue]]]:
        """The four lists with their names."""
        for name in ("new", "fixed", "unchanged", "suppressed"):
            yield name, getattr(self, name)

    @staticmethod
    def _only(session: ReviewSession, other: ReviewSession, **there: bool) -> QuerySet[DiscoveredIssue]:
        same = _issues(other).filter(finding=OuterRef("finding"), **there)
        return _issues(session).filter(~Exists(same), suppressed=False).order_by(*WORST_FIRST)


def compare(session: ReviewSession, other: ReviewSession) -> Comparison:
    """Compare two reviews. Raises `ValidationError` if they are of different codebases or one and the same, and
    `StateConflict` if one cannot tell what is no longer there: it did not complete, or looked at changes only."""
    if session.pk == other.pk:
        raise ValidationError({"with": "Name another review than this one."})
    if not _is_same_codebase(session, other):
        raise ValidationError({"with": f"Review {other.pk} is of another codebase: {other.codebase}."})
    for each in (session, other):
        if each.status != SessionStatus.COMPLETED or each.scope != Scope.FULL:
            raise StateConflict(f"Review {each.pk} did not look at everything: it cannot tell what is gone.")
    return Comparison(session, other)


def find_comparable(session: ReviewSession) -> QuerySet[ReviewSession]:
    """The other reviews that `session` may be compared with, newest first."""
    complete = ReviewSession.objects.filter(status=SessionStatus.COMPLETED, scope=Scope.FULL)
    return _same_codebase(complete, session).exclude(pk=session.pk).order_by("-id")


def find_before(session: ReviewSession) -> ReviewSession | None:
    """The last one before `session` that it may be compared with."""
    return find_comparable(session).filter(pk__lt=session.pk).first()


def list_history(session: ReviewSession, limit: int) -> list[ReviewSession]:
    """The last completed reviews of everything in the codebase of `session`, oldest first, it the last of them."""
    complete = ReviewSession.objects.filter(status=SessionStatus.COMPLETED, scope=Scope.FULL, pk__lte=session.pk)
    return list(_same_codebase(complete, session).order_by("-id")[:limit])[::-1]


def _is_same_codebase(session: ReviewSession, other: ReviewSession) -> bool:
    if session.tracked_codebase_id is None:
        return other.tracked_codebase_id is None and session.root == other.root
    return session.tracked_codebase_id == other.tracked_codebase_id


def _same_codebase(sessions: QuerySet[ReviewSession], session: ReviewSession) -> QuerySet[ReviewSession]:
    if session.tracked_codebase_id is None:
        return sessions.filter(tracked_codebase=None, root=session.root)
    return sessions.filter(tracked_codebase=session.tracked_codebase_id)


def _issues(session: ReviewSession) -> QuerySet[DiscoveredIssue]:
    wanted = Q(finding=None) | ~Q(finding__triage__in=DISMISSED)
    return DiscoveredIssue.objects.filter(wanted, session=session)
