"""How does an override come into force, and how does it end? The verbs of its life, the same for every door.

    draft → proposed → active → expired or revoked        proposed → rejected or withdrawn        rejected → proposed

Each verb loads the override under the lock, asks for the right, moves it, and leaves a decision that nobody changes.
`user` is who acts: the journal must say the same. `seen` is the version that he decided on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from audit.changes import ChangeSet, change_set, current_origin
from audit.documents import canonical, plain
from audit.errors import NotPermitted, StaleVersion, StateConflict
from audit.permissions import SYSTEM_ACTOR, VIEW, may, may_break_glass, require
from overrides.choices import FINAL, DecisionKind, OverrideStatus, TargetType
from overrides.decisions import list_approvals, record
from overrides.independence import is_one_of, require_second_person
from overrides.models import GovernanceRuleOverride, OverrideDecision
from overrides.notifications import announce
from overrides.targets import (
    OverrideConflict,
    check_patch,
    find_conflicts,
    find_requirement,
    find_target,
    refuse_target,
    require_target,
)

Verb = Callable[..., GovernanceRuleOverride]
EDITABLE = ("override_config", "paths", "reason", "expires_at")
MIN_BREAK_GLASS_REASON = 20  # characters
MAX_BREAK_GLASS = timedelta(hours=72)
OWN_REQUEST = "This was your own request, so it is withdrawn, not rejected."


def request(
    *,
    user: Any,
    rule_name: str,
    override_config: Any,
    reason: str,
    expires_at: datetime | None = None,
    target_type: str = TargetType.ANALYSIS_RULE,
    paths: Any = (),
    draft: bool = False,
    break_glass: bool = False,
) -> GovernanceRuleOverride:
    """Ask for an override: proposed, or with `draft` kept back until it is proposed.

    With `break_glass` it is in force at once, for `MAX_BREAK_GLASS` at most, and reviewed afterwards.
    """
    require(user, "add", GovernanceRuleOverride)
    if break_glass:
        _require_break_glass(user, reason, draft)
    override = GovernanceRuleOverride(
        rule_name=rule_name,
        target_type=target_type,
        override_config=override_config,
        paths=list(paths) if isinstance(paths, tuple) else paths,
        reason=reason,
        expires_at=expires_at,
        status=OverrideStatus.DRAFT if draft else OverrideStatus.PROPOSED,
    )
    _require_sight(user, override)
    validate(override, now=timezone.now(), longest=MAX_BREAK_GLASS if break_glass else None)
    with change_set(reason=reason[:2000]) as changes:
        _require_actor(user)
        if break_glass:
            override.status, override.enabled = OverrideStatus.ACTIVE, True
            override.break_glass = override.needs_review = True
        override.created_by = changes.origin.actor()[1]
        _rebase(override)
        validate(override, now=changes.started_at, longest=MAX_BREAK_GLASS if break_glass else None)
        kind = DecisionKind.BREAK_GLASS if break_glass else DecisionKind.REQUESTED
        return _store(override, kind, "", comment=reason)


def edit(
    *, override: GovernanceRuleOverride, user: Any, values: Mapping[str, Any], seen: int | None = None
) -> GovernanceRuleOverride:
    """Change what an override says. Nobody has approved that: it goes back to where it waits for approval."""
    with change_set() as changes:
        current = _load(override, seen)
        require(user, "change", current)
        _require_actor(user)
        moved = {name: value for name, value in values.items() if _differs(current, name, value)}
        fixed = sorted(set(moved) - set(EDITABLE))
        if fixed:
            raise ValidationError(dict.fromkeys(fixed, "This is fixed: ask for another override."))
        if not moved:
            return current
        _refuse_ended(current, changes.started_at, "edited")
        if current.needs_review:
            raise StateConflict("It was put in force in an emergency and waits for a review: that comes first.")
        before = current.status
        for name, value in moved.items():
            setattr(current, name, value)
        in_draft = before in (OverrideStatus.DRAFT, OverrideStatus.REJECTED)
        current.status = OverrideStatus.DRAFT if in_draft else OverrideStatus.PROPOSED
        current.withdraw_approvals()
        _rebase(current)
        validate(current, now=changes.started_at)
        return _store(current, DecisionKind.EDITED, before, comment=changes.reason, seen=seen)


def propose(
    *, override: GovernanceRuleOverride, user: Any, comment: str = "", seen: int | None = None
) -> GovernanceRuleOverride:
    """Ask for approval of a draft or of what was rejected; of what waits already, if its rule has moved meanwhile."""
    with change_set(reason=comment) as changes:
        current = _load(override, seen)
        _require_author(user, current)
        _require_actor(user)
        before, original = current.status, current.original_config
        _refuse_ended(current, changes.started_at, "proposed")
        if before == OverrideStatus.ACTIVE:
            raise StateConflict("It is in force already.")
        current.status = OverrideStatus.PROPOSED
        current.withdraw_approvals()
        _rebase(current)
        if before == OverrideStatus.PROPOSED and canonical(original) == canonical(current.original_config):
            raise StateConflict("It waits for approval already.")
        validate(current, now=changes.started_at)
        return _store(current, DecisionKind.PROPOSED, before, comment=comment, seen=seen)


def approve(
    *, override: GovernanceRuleOverride, user: Any, comment: str = "", seen: int | None = None
) -> GovernanceRuleOverride:
    """Agree with what `override` says at version `seen`. The last approval that it needs puts it in force."""
    require(user, "approve", override)
    _check_early(override)
    with change_set(reason=comment) as changes:
        current, decisions, on_own = _load_for_decision(override, user, seen, changes)
        _require_status(current, "approved", OverrideStatus.PROPOSED)
        given = list_approvals(decisions, current.content_digest)
        if is_one_of(user, [(each.decided_by, each.decided_by_id) for each in given]):
            raise StateConflict("You have approved it already; it waits for somebody else.")
        target = _apply_checks(current, changes.started_at)
        if conflicts := find_conflicts(current, target):
            raise OverrideConflict(current, conflicts)
        current.approval_count = len(given) + 1
        if current.approval_count >= find_requirement(current).approvals:
            current.status, current.enabled = OverrideStatus.ACTIVE, True
            current.approved_by, current.self_approved = changes.origin.actor()[1], on_own
        return _store(current, DecisionKind.APPROVED, OverrideStatus.PROPOSED, comment=comment, seen=seen)


def reject(
    *, override: GovernanceRuleOverride, user: Any, comment: str = "", seen: int | None = None
) -> GovernanceRuleOverride:
    """Decline a proposal, with a comment. The requester's own is withdrawn: nobody decides on what he asked for."""
    with change_set(reason=comment) as changes:
        current = _load(override, seen)
        if is_one_of(user, [(current.created_by, "")]) if user is not SYSTEM_ACTOR else False:
            changes.warn(OWN_REQUEST)
            return withdraw(override=override, user=user, comment=comment, seen=seen)
        require(user, "approve", current)
        _require_actor(user)
        _require_status(current, "rejected", OverrideStatus.PROPOSED)
        _require_comment(comment)
        current.status = OverrideStatus.REJECTED
        current.withdraw_approvals()
        return _store(current, DecisionKind.REJECTED, OverrideStatus.PROPOSED, comment=comment, seen=seen)


def withdraw(
    *, override: GovernanceRuleOverride, user: Any, comment: str = "", seen: int | None = None
) -> GovernanceRuleOverride:
    """Take back one's own request before it is in force."""
    with change_set(reason=comment):
        current = _load(override, seen)
        if user is SYSTEM_ACTOR or not is_one_of(user, [(current.created_by, "")]):
            raise NotPermitted(f"{current.created_by} asked for this and can withdraw it; an approver rejects it.")
        _require_actor(user)
        before = current.status
        _require_status(current, "withdrawn", OverrideStatus.DRAFT, OverrideStatus.PROPOSED, OverrideStatus.REJECTED)
        current.status = OverrideStatus.WITHDRAWN
        current.withdraw_approvals()
        return _store(current, DecisionKind.WITHDRAWN, before, comment=comment, seen=seen)


def revoke(
    *, override: GovernanceRuleOverride, user: Any, comment: str = "", seen: int | None = None
) -> GovernanceRuleOverride:
    """End an override that is in force, with a comment."""
    with change_set(reason=comment) as changes:
        current = _load(override, seen)
        require(user, "approve", current)
        _require_actor(user)
        _refuse_ended(current, changes.started_at, "revoked")
        _require_status(current, "revoked", OverrideStatus.ACTIVE)
        _require_comment(comment)
        current.status, current.enabled, current.needs_review = OverrideStatus.REVOKED, False, False
        return _store(current, DecisionKind.REVOKED, OverrideStatus.ACTIVE, comment=comment, seen=seen)


def confirm(
    *, override: GovernanceRuleOverride, user: Any, comment: str = "", seen: int | None = None
) -> GovernanceRuleOverride:
    """Review what an emergency put in force: it was right. What was not is revoked."""
    require(user, "approve", override)
    with change_set(reason=comment) as changes:
        current, _, on_own = _load_for_decision(override, user, seen, changes)
        if not current.needs_review:
            raise StateConflict("Nothing about it waits for a review.")
        _require_comment(comment)
        before = current.status
        if has_lapsed(current, changes.started_at):
            current.status, current.enabled = OverrideStatus.EXPIRED, False
        current.needs_review = False
        current.approved_by, current.self_approved = changes.origin.actor()[1], on_own
        return _store(current, DecisionKind.CONFIRMED, before, comment=comment, seen=seen)


def list_verbs(*, override: GovernanceRuleOverride, user: Any, now: datetime) -> list[str]:
    """What `user` can do with `override` now. Buttons are drawn from this: what would fail is not offered."""
    if user is SYSTEM_ACTOR:
        return []
    status, lapsed = override.status, has_lapsed(override, now)
    own, approver = is_one_of(user, [(override.created_by, "")]), may(user, "approve", override)
    second = approver and _is_second_person(user, override)
    target = find_target(override) if status == OverrideStatus.PROPOSED else None
    moved = target is not None and bool(find_conflicts(override, target))
    author = own and may(user, "add", GovernanceRuleOverride) or may(user, "change", override)
    proposed = status == OverrideStatus.PROPOSED
    ripe = proposed and target is not None and not moved and (override.expires_at or now) > now
    offered = {
        "approve": ripe and second and not _has_approved(user, override),
        "reject": proposed and approver and not own,
        "confirm": override.needs_review and second,
        "revoke": status == OverrideStatus.ACTIVE and not lapsed and approver,
        "propose": author and (status in (OverrideStatus.DRAFT, OverrideStatus.REJECTED) or proposed and moved),
        "withdraw": own and status in (OverrideStatus.DRAFT, OverrideStatus.PROPOSED, OverrideStatus.REJECTED),
    }
    return [verb for verb, possible in offered.items() if possible]


def may_edit(*, override: GovernanceRuleOverride, user: Any, now: datetime) -> bool:
    """Whether `user` can still change what `override` says."""
    ended = override.status in FINAL or has_lapsed(override, now)
    return not ended and not override.needs_review and may(user, "change", override)


def _is_second_person(user: Any, override: GovernanceRuleOverride) -> bool:
    try:
        require_second_person(user=user, override=override, decisions=list(override.decisions.all()))
    except NotPermitted:
        return False
    return True


def _has_approved(user: Any, override: GovernanceRuleOverride) -> bool:
    given = list_approvals(list(override.decisions.all()), override.content_digest)
    return is_one_of(user, [(each.decided_by, each.decided_by_id) for each in given])


VERBS: dict[str, Verb] = {
    "propose": propose,
    "approve": approve,
    "reject": reject,
    "withdraw": withdraw,
    "revoke": revoke,
    "confirm": confirm,
}
"""The verbs of a decision, by the names that routes and pages use."""


def expire_due(*, now: datetime | None = None) -> list[GovernanceRuleOverride]:
    """Write down which overrides have ended by the clock. Nothing depends on it: readers judge by the clock."""
    moment = now or timezone.now()
    due = GovernanceRuleOverride.objects.filter(status=OverrideStatus.ACTIVE, expires_at__lte=moment).order_by("id")
    if not due.exists():
        return []
    with change_set(reason="its time is over") as changes:
        return [_expire(each, changes) for each in due.all()]


def _expire(override: GovernanceRuleOverride, changes: ChangeSet) -> GovernanceRuleOverride:
    override.status, override.enabled = OverrideStatus.EXPIRED, False
    return _store(override, DecisionKind.EXPIRED, OverrideStatus.ACTIVE, comment=changes.reason)


def has_lapsed(override: GovernanceRuleOverride, now: datetime) -> bool:
    """Whether the clock has ended an override that its row calls active."""
    return override.status == OverrideStatus.ACTIVE and override.expires_at <= now


def validate(override: GovernanceRuleOverride, *, now: datetime, longest: timedelta | None = None) -> None:
    """Raise unless `override` may be asked for: fields, its rule, the rule under it, and how long it lasts."""
    override.created_by = override.created_by or current_origin().actor()[1]
    override.full_clean(validate_constraints=False)
    check_patch(override, require_target(override))
    if override.status == OverrideStatus.DRAFT and override.expires_at is None:
        return
    _check_end(override, now, longest)


def _check_end(override: GovernanceRuleOverride, now: datetime, longest: timedelta | None) -> None:
    if override.expires_at is None:
        raise ValidationError({"expires_at": ValidationError("Say when it ends: no override is for ever.", "required")})
    if override.expires_at <= now:
        raise ValidationError({"expires_at": "This has passed. Say when it ends."})
    allowed = longest or timedelta(days=find_requirement(override).max_days)
    if override.expires_at - now > allowed:
        hours = int(allowed.total_seconds() // 3600)
        most = f"{hours} hours" if longest else f"{allowed.days} days"
        raise ValidationError({"expires_at": f"It lasts {most} at most; what is needed for longer is another rule."})


def _check_early(override: GovernanceRuleOverride) -> None:
    """Pay for what is costly to judge before the lock; it is said under it."""
    try:
        check_patch(override, require_target(override))
    except ValidationError:
        return


def _apply_checks(override: GovernanceRuleOverride, now: datetime) -> Any:
    """The target, if the override may come into force today. What was valid when it was asked for may not be now."""
    try:
        validate(override, now=now)
        return require_target(override)
    except ValidationError as error:
        told = " ".join(
            f"{name}: {' '.join(message for item in items for message in item.messages)}"
            for name, items in error.error_dict.items()
        )
        raise StateConflict(f"It cannot come into force as it is. {told} Edit it, or reject it.") from error


def _store(
    override: GovernanceRuleOverride,
    kind: DecisionKind,
    before: str,
    *,
    comment: str = "",
    seen: int | None = None,
) -> GovernanceRuleOverride:
    override.save()
    record(override=override, kind=kind, from_status=before, comment=comment, seen=seen)
    announce(override, kind)
    return override


def _load(override: GovernanceRuleOverride, seen: int | None) -> GovernanceRuleOverride:
    """The row as it is now, under the lock; raises `StaleVersion` unless it is the version that was seen."""
    current = GovernanceRuleOverride.objects.filter(pk=override.pk).first()
    if current is None:
        raise StateConflict(f"The override of {override.rule_name} was deleted by somebody else.", code="gone")
    if seen is not None and seen != current.version:
        raise StaleVersion(f"The override of {current.rule_name}", seen, current.version)
    return current


def _load_for_decision(
    override: GovernanceRuleOverride, user: Any, seen: int | None, changes: ChangeSet
) -> tuple[GovernanceRuleOverride, list[OverrideDecision], bool]:
    """The row, its decisions, and whether a superuser decides on his own, as this server may allow."""
    current = _load(override, None)
    require(user, "approve", current)
    _require_actor(user)
    decisions = list(current.decisions.all())
    on_own = require_second_person(user=user, override=current, decisions=decisions, changes=changes)
    return _load(override, seen), decisions, on_own


def _rebase(override: GovernanceRuleOverride) -> None:
    """Compare the override with its rule as it is now."""
    override.original_config = plain(require_target(override).document())


def _differs(override: GovernanceRuleOverride, name: str, value: Any) -> bool:
    if name == "expires_at":
        return getattr(override, name) != value
    return canonical(plain(getattr(override, name))) != canonical(plain(value))


def _require_actor(user: Any) -> None:
    """Raise unless the journal will name the same person: nobody decides in another one's name."""
    acting = current_origin().acting_user()
    if (user is SYSTEM_ACTOR) != (acting is None) or (acting is not None and acting.pk != user.pk):
        raise NotPermitted("A decision is made by whoever acts: the change set has another origin.")


def _require_author(user: Any, override: GovernanceRuleOverride) -> None:
    own = user is not SYSTEM_ACTOR and is_one_of(user, [(override.created_by, "")])
    if not (own and may(user, "add", GovernanceRuleOverride)):
        require(user, "change", override)


def _require_sight(user: Any, override: GovernanceRuleOverride) -> None:
    """Raise as if there were no such rule if `user` may not see it: the answer shows what it says."""
    target = find_target(override)
    if target is not None and target.pk is not None and not may(user, VIEW, target):
        raise refuse_target(override)


def _require_status(override: GovernanceRuleOverride, what: str, *statuses: str) -> None:
    if override.status not in statuses:
        advice = "Ask for a new one." if override.status in FINAL else f"It must be {' or '.join(statuses)}."
        raise StateConflict(f"It is {override.status}, so it cannot be {what}. {advice}")


def _refuse_ended(override: GovernanceRuleOverride, now: datetime, what: str) -> None:
    """What has ended, by its row or by the clock, stays so: more time is a new request with a review of its own."""
    status = OverrideStatus.EXPIRED.value if has_lapsed(override, now) else override.status
    if status in FINAL:
        raise StateConflict(f"It is {status}, so it cannot be {what}. Ask for a new one.")


def _require_comment(comment: str) -> None:
    if not comment.strip():
        raise ValidationError({"comment": ValidationError("Say why.", code="required")})


def _require_break_glass(user: Any, reason: str, draft: bool) -> None:
    """Raise unless `user` has the right to an emergency override by a role or by himself, and says why.

    A superuser does not have it by being one: going past approval is granted by name.
    """
    if user is SYSTEM_ACTOR or not may_break_glass(user):
        raise NotPermitted("An emergency override needs the right overrides.break_glass, by a role or granted to you.")
    if draft:
        raise ValidationError({"draft": "An emergency override is in force at once: it is no draft."})
    if len(reason.strip()) < MIN_BREAK_GLASS_REASON:
        raise ValidationError(
            {"reason": f"Say in {MIN_BREAK_GLASS_REASON} characters or more what the emergency is: it is read later."}
        )
