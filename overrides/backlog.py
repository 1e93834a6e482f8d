"""What waits, for whom, and what ends soon? Figures and lists of overrides, judged by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Count, Exists, Min, OuterRef, Q

from audit.permissions import SYSTEM_ACTOR, may_see_some, permitted
from overrides.choices import DecisionKind, OverrideStatus
from overrides.decisions import AUTHORING
from overrides.independence import find_makers
from overrides.models import GovernanceRuleOverride, OverrideDecision

SOON = timedelta(days=14)
RECENTLY = timedelta(days=30)


@dataclass(frozen=True)
class Backlog:
    """Figures over the overrides that somebody may see."""

    waiting: int
    waiting_for_me: int
    oldest: datetime | None
    """When the proposal that waits longest was asked for."""
    in_force: int
    expiring_soon: int
    expired: int
    """Ended by the clock within `RECENTLY`."""
    to_review: int
    """Put in force in an emergency, and not confirmed yet."""


def read_backlog(user: Any, now: datetime) -> Backlog:
    """The figures for `user`."""
    seen = permitted(user, "view", GovernanceRuleOverride.objects.all())
    waiting, in_force = Q(status=OverrideStatus.PROPOSED), Q(enabled=True, expires_at__gt=now)
    recently = Q(expires_at__gt=now - RECENTLY)
    figures = seen.order_by().aggregate(
        waiting=Count("pk", filter=waiting),
        oldest=Min("created_at", filter=waiting),
        in_force=Count("pk", filter=in_force),
        expiring_soon=Count("pk", filter=in_force & Q(expires_at__lte=now + SOON)),
        expired=Count("pk", filter=_ended(now) & recently),
        to_review=Count("pk", filter=Q(needs_review=True)),
    )
    return Backlog(waiting_for_me=find_waiting_for(user, seen, now).count(), **figures)


def find_expiring(overrides: models.QuerySet, now: datetime) -> models.QuerySet:
    """Those in force that end soon, the next first."""
    return overrides.filter(enabled=True, expires_at__gt=now, expires_at__lte=now + SOON).order_by("expires_at")


def _ended(now: datetime) -> Q:
    """Those that the clock has ended, whether or not their row says so."""
    return Q(status=OverrideStatus.EXPIRED) | Q(status=OverrideStatus.ACTIVE, expires_at__lte=now)


def find_waiting_for(user: Any, overrides: models.QuerySet, now: datetime) -> models.QuerySet:
    """Proposals that `user` can approve, and emergencies that he can review: he is asked, and a second person."""
    if user is SYSTEM_ACTOR or not may_see_some(user, "approve", GovernanceRuleOverride):
        return overrides.none()
    allowed = permitted(user, "approve", overrides)
    mine = OverrideDecision.objects.filter(Q(decided_by=user.get_username()) | Q(decided_by_id=str(user.pk)))
    authored = mine.filter(override=OuterRef("pk"), kind__in=AUTHORING)
    # An approval counts until somebody edits: then the override is asked about anew, by a later decision.
    later = OverrideDecision.objects.filter(override=OuterRef("override"), revision__gt=OuterRef("revision"))
    standing = mine.filter(override=OuterRef("pk"), kind=DecisionKind.APPROVED).exclude(
        Exists(later.exclude(kind=DecisionKind.APPROVED))
    )
    asked = Q(status=OverrideStatus.PROPOSED, expires_at__gt=now) | Q(needs_review=True)
    waiting = allowed.filter(asked).exclude(created_by=user.get_username())
    waiting = waiting.exclude(Exists(authored)).exclude(Exists(standing))
    if not settings.FLAG_DEPENDENT_APPROVERS:
        waiting = waiting.exclude(created_by__in=[name for name, _ in find_makers(user)])
    return waiting
