"""Who is told of an override or of a broken glass, and how? In the server, and by mail where one is set up.

It is told after the commit, and a notification is a hint. Nothing depends on it: what waits for whom is told by the
overrides themselves, and a mail server that fails breaks no change.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from audit.changes import current_origin
from overrides.break_glass import Emergency
from overrides.choices import DecisionKind, NotificationKind, OverrideStatus
from overrides.decisions import list_authors
from overrides.independence import RIGHT, explain_puppet, is_one_of
from overrides.models import GovernanceRuleOverride, Notification
from overrides.tasks import send_mails

logger = logging.getLogger(__name__)
REMINDER = timedelta(days=3)  # before the end
MAX_RECIPIENTS = 200

TEXTS: Mapping[str, str] = {
    NotificationKind.TO_APPROVE: "{by} asks for an override of {rule}, which waits for your approval.",
    NotificationKind.EMERGENCY: "{by} has put an override of {rule} in force in an emergency. Please review it.",
    NotificationKind.APPROVED: "{by} has approved your override of {rule}{more}.",
    NotificationKind.REJECTED: "{by} has rejected your override of {rule}.",
    NotificationKind.REVOKED: "{by} has revoked your override of {rule}: it is out of force.",
    NotificationKind.CONFIRMED: "{by} has confirmed your emergency override of {rule}.",
    NotificationKind.ENDS_SOON: "The override of {rule} ends on {end}.",
}
_HELD = Q(user_permissions__codename=RIGHT) | Q(groups__permissions__codename=RIGHT)
TO_REQUESTER: Mapping[str, NotificationKind] = {
    DecisionKind.APPROVED: NotificationKind.APPROVED,
    DecisionKind.REJECTED: NotificationKind.REJECTED,
    DecisionKind.REVOKED: NotificationKind.REVOKED,
    DecisionKind.CONFIRMED: NotificationKind.CONFIRMED,
}


def announce(override: GovernanceRuleOverride, decision: str) -> None:
    """Tell whom it concerns what the running change set has done with `override`, once it is committed."""
    waits = override.status == OverrideStatus.PROPOSED and decision in (
        *(DecisionKind.REQUESTED, DecisionKind.EDITED, DecisionKind.PROPOSED),
    )
    kind = TO_REQUESTER.get(decision)
    if not waits and decision != DecisionKind.BREAK_GLASS and not override.needs_review:
        transaction.on_commit(lambda: settle(override), robust=True)
    if waits:
        kind = NotificationKind.TO_APPROVE
    elif decision == DecisionKind.BREAK_GLASS:
        kind = NotificationKind.EMERGENCY
    if kind is None:
        return
    by = current_origin().actor()[1]

    def tell() -> None:
        deliver(override, kind, by)

    # Robust: whatever goes wrong in here is logged, and the change stands.
    transaction.on_commit(tell, robust=True)


def settle(override: GovernanceRuleOverride) -> None:
    """Nobody has to decide about `override` any more: what asked people to is read."""
    asking = (NotificationKind.TO_APPROVE, NotificationKind.EMERGENCY)
    if override.status != OverrideStatus.PROPOSED:
        unread = Notification.objects.filter(override=override, kind__in=asking, read_at=None)
        unread.update(read_at=timezone.now())


def deliver(override: GovernanceRuleOverride, kind: NotificationKind, by: str) -> list[Notification]:
    """Store a notification for each of those whom `kind` concerns, but not for `by`; queue the mails."""
    if kind == NotificationKind.TO_APPROVE:
        people: Iterable[Any] = find_second_people(override)
    elif kind == NotificationKind.EMERGENCY:
        people = find_approvers(override)
    elif kind == NotificationKind.ENDS_SOON:
        people = [*find_approvers(override), *_find_requester(override)]
    else:
        people = _find_requester(override)
    return _tell(people, by, kind=kind, override=override, text=_say(override, kind, by))


def report_emergency(emergency: Emergency) -> list[Notification]:
    """Tell all who may approve, but not its author, of a change that was stored past the governance rules."""
    revisions = f"revision {emergency.first}"
    if emergency.last > emergency.first:
        revisions = f"revisions {emergency.first} to {emergency.last}"
    text = f"{emergency.changed_by} has broken the glass ({revisions}). Please review it: {emergency.reason}"
    approvers = _list_people(_HELD)
    return _tell(
        approvers, emergency.changed_by, kind=NotificationKind.EMERGENCY, revision=emergency.first, text=text[:500]
    )


def _tell(people: Iterable[Any], by: str, **content: Any) -> list[Notification]:
    concerned = {person.pk: person for person in people if person.get_username() != by}
    now = timezone.now()
    told = Notification.objects.bulk_create(
        Notification(user=person, created_at=now, **content) for person in list(concerned.values())[:MAX_RECIPIENTS]
    )
    if told and settings.SENDS_MAIL:
        send_mails.enqueue([each.pk for each in told])
    return told


def find_approvers(override: GovernanceRuleOverride) -> models.QuerySet:
    """Everybody with the right to approve `override`, by role or by grant. Superusers have it without being asked."""
    granted = Q(overrideusergrant__permission__codename=RIGHT, overrideusergrant__content_object=override) | Q(
        groups__overriderolegrant__permission__codename=RIGHT,
        groups__overriderolegrant__content_object=override,
    )
    return _list_people(_HELD | granted)


def _list_people(condition: Q) -> models.QuerySet:
    return get_user_model()._default_manager.filter(condition, is_active=True).distinct().order_by("pk")


def find_second_people(override: GovernanceRuleOverride) -> list[Any]:
    """The approvers who may decide on `override`: not who asked for it, nor their puppets."""
    authors = list_authors(list(override.decisions.all()), override)
    people = [person for person in find_approvers(override)[:MAX_RECIPIENTS] if not is_one_of(person, authors)]
    if settings.FLAG_DEPENDENT_APPROVERS:
        return people
    return [person for person in people if explain_puppet(person, authors) is None]


def remind_of_end(*, now: datetime) -> int:
    """Tell approvers and requesters, once, of overrides in force that end within `REMINDER`. Number of those told."""
    ending = GovernanceRuleOverride.objects.filter(enabled=True, expires_at__gt=now, expires_at__lte=now + REMINDER)
    reminded = Notification.objects.filter(kind=NotificationKind.ENDS_SOON).values("override")
    return sum(len(deliver(each, NotificationKind.ENDS_SOON, "")) for each in ending.exclude(pk__in=reminded))


def mark_read(*, user: Any, keys: Sequence[int] | None = None) -> int:
    """Note that `user` has read these of his notifications, by default all. Number of those that were unread."""
    unread = Notification.objects.filter(user=user, read_at=None)
    if keys is not None:
        unread = unread.filter(pk__in=keys)
    return unread.update(read_at=timezone.now())


def mark_seen(*, user: Any, override: GovernanceRuleOverride) -> None:
    """Whoever looks at an override needs no telling of it any more."""
    unread = Notification.objects.filter(user=user, override=override, read_at=None)
    if unread.exists():
        unread.update(read_at=timezone.now())


def _find_requester(override: GovernanceRuleOverride) -> models.QuerySet:
    return get_user_model()._default_manager.filter(username=override.created_by, is_active=True)


def _say(override: GovernanceRuleOverride, kind: NotificationKind, by: str) -> str:
    more = "" if override.status == OverrideStatus.ACTIVE else "; it waits for another approval"
    end = f"{override.expires_at:%-d %B %Y, %H:%M} UTC" if override.expires_at else ""
    return TEXTS[kind].format(by=by, rule=override.rule_name, more=more, end=end)[:500]
