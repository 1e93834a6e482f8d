"""Who decided what about an override, and does that put it in force? The record of decisions, and the proof by it.

Every change of an override leaves one decision under the revision of its journal row. Approvals count for the content
that they were given for, and only until somebody edits it. That an override is in force is proved at the end of each
change set, whichever door it came through: a row that merely says so is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.dateparse import parse_datetime

from audit.changes import ChangeSet, current_change_set
from audit.errors import StateConflict
from audit.journal import Change
from audit.models import ConfigurationAuditLog
from overrides.choices import DecisionKind, OverrideStatus
from overrides.models import GovernanceRuleOverride, OverrideDecision, digest_content
from overrides.targets import find_requirement

OPENING = frozenset(
    (DecisionKind.REQUESTED, DecisionKind.EDITED, DecisionKind.PROPOSED, DecisionKind.RESTORED, DecisionKind.REJECTED)
)
"""After one of these nobody has approved yet."""

AUTHORING = (DecisionKind.REQUESTED, DecisionKind.EDITED, DecisionKind.PROPOSED, DecisionKind.BREAK_GLASS)
"""Whoever did one of these has asked for it, and does not approve it."""

BOOKKEEPING = ("enabled", "approved_by", "approval_count", "break_glass", "needs_review", "self_approved")


def record(
    *,
    override: GovernanceRuleOverride,
    kind: DecisionKind,
    from_status: str,
    comment: str = "",
    seen: int | None = None,
) -> None:
    """Write down what the running change set has just done with `override`."""
    changes = current_change_set()
    if changes is None or override.version <= 0:
        raise RuntimeError("A decision belongs to a stored change of an override, in its change set.")
    _write(
        OverrideDecision(
            revision=override.version,
            override_id=override.pk,
            kind=kind,
            from_status=from_status,
            to_status=override.status,
            comment=comment,
            version_seen=seen,
            content_digest=override.content_digest,
        ),
        changes,
    )


def _write(decision: OverrideDecision, changes: ChangeSet) -> None:
    _, decision.decided_by, decision.decided_by_id = changes.origin.actor()
    decision.created_at = changes.started_at
    models.QuerySet(OverrideDecision).bulk_create([decision])


def list_approvals(decisions: Sequence[OverrideDecision], content_digest: str) -> list[OverrideDecision]:
    """The approvals among the decisions on one override, in their order, that count for what it says now."""
    counting: dict[tuple[str, str], OverrideDecision] = {}
    for decision in decisions:
        if decision.kind in OPENING:
            counting.clear()
        elif decision.kind == DecisionKind.APPROVED and decision.content_digest == content_digest:
            counting[decision.decided_by, decision.decided_by_id] = decision
    return list(counting.values())


def list_authors(decisions: Sequence[OverrideDecision], override: GovernanceRuleOverride) -> list[tuple[str, str]]:
    """Name and key of everybody who asked for what `override` says; the key is empty where only the name is known."""
    authors = {(decision.decided_by, decision.decided_by_id) for decision in decisions if decision.kind in AUTHORING}
    return sorted({*authors, (override.created_by, "")})


def check_overrides(changes: ChangeSet) -> Sequence[ValidationError]:
    """What refuses a change set: an override that is in force, or left a state, without the decisions for it."""
    mine = [
        change
        for change in changes.changes
        if change.entity_type == GovernanceRuleOverride.entity_type and change.new is not None
    ]
    if not mine:
        return []
    known = {
        decision.revision: decision
        for decision in OverrideDecision.objects.filter(revision__in=[change.revision for change in mine])
    }
    problems = []
    for change in mine:
        problem = _judge(change, known.get(change.revision), changes)
        if problem is not None:
            problems.append(StateConflict(f"Override {change.entity_id} of {change.entity_name}: {problem}"))
    return problems


def _judge(change: Change, decision: OverrideDecision | None, changes: ChangeSet) -> str | None:
    """Why the change may not be, or None. What needs no decision of a verb is written down here."""
    new, old = change.new or {}, change.old or {}
    if decision is None:
        if (problem := _find_forgery(old, new)) is not None:
            return problem
        _write_implied(change, changes)
    if new["status"] != OverrideStatus.ACTIVE:
        return None
    return _disprove(change, changes)


def _find_forgery(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """Why a change that no verb has decided on may not be."""
    if new["status"] not in (OverrideStatus.DRAFT, OverrideStatus.PROPOSED) and (
        new["status"] != old.get("status") or digest_content(new) != digest_content(old)
    ):
        return (
            f"it does not become {new['status']} by being stored so. Approve, reject, withdraw or revoke it: "
            "overrides.approvals, POST /governance-overrides/{id}/approve, or the action in the admin."
        )
    fresh = GovernanceRuleOverride()
    moved = [name for name in BOOKKEEPING if new[name] != (old.get(name) if old else getattr(fresh, name))]
    if moved and any(new[name] != getattr(fresh, name) for name in moved):
        return f"{', '.join(moved)} tell of decisions, and are not set by hand."
    return None


def _write_implied(change: Change, changes: ChangeSet) -> None:
    new, old = change.new or {}, change.old or {}
    if not old:
        kind = DecisionKind.RESTORED if _has_past(change) else DecisionKind.REQUESTED
    elif old["status"] != new["status"] and new["status"] == OverrideStatus.DRAFT:
        kind = DecisionKind.RESTORED
    elif old["status"] != new["status"]:
        kind = DecisionKind.PROPOSED
    else:
        kind = DecisionKind.EDITED
    _write(
        OverrideDecision(
            revision=change.revision,
            override_id=int(change.entity_id),
            kind=kind,
            from_status=old.get("status", ""),
            to_status=new["status"],
            comment=changes.reason,
            content_digest=digest_content(new),
        ),
        changes,
    )


def _has_past(change: Change) -> bool:
    return OverrideDecision.objects.filter(override_id=int(change.entity_id)).exists()


def _disprove(change: Change, changes: ChangeSet) -> str | None:
    """Why the override that `change` leaves active is not in force by right, or None."""
    new = change.new or {}
    if parse_datetime(new["expires_at"] or "") is None or _ends(new) <= changes.started_at:
        return "its end has passed; ask for a new one."
    decisions = list(OverrideDecision.objects.filter(override_id=int(change.entity_id), revision__lte=change.revision))
    if new["break_glass"]:
        last = next((each for each in reversed(decisions) if each.kind in (*OPENING, DecisionKind.BREAK_GLASS)), None)
        return None if last is not None and last.kind == DecisionKind.BREAK_GLASS else "nobody broke the glass for it."
    override = GovernanceRuleOverride(**{name: new[name] for name in GovernanceRuleOverride.content})
    given = _find_proved(list_approvals(decisions, digest_content(new)), changes)
    authors = {each.decided_by for each in decisions if each.kind in AUTHORING} | {new["created_by"]}
    if not new["self_approved"]:
        given = [each for each in given if each.decided_by not in authors]
    required = find_requirement(override).approvals
    if len(given) < required:
        return f"it has {len(given)} of the {required} approvals that it needs for what it says."
    return None


def _ends(document: dict[str, Any]) -> datetime:
    return parse_datetime(document["expires_at"])


def _find_proved(approvals: list[OverrideDecision], changes: ChangeSet) -> list[OverrideDecision]:
    """The approvals of which the journal says that this user made them: a row written by hand has no such witness."""
    told = dict(
        ConfigurationAuditLog.objects.filter(
            revision__in=[each.revision for each in approvals], actor_kind="user"
        ).values_list("revision", "changed_by")
    )
    kind, name, _ = changes.origin.actor()
    if kind == "user":
        told |= {change.revision: name for change in changes.changes}
    return [each for each in approvals if told.get(each.revision) == each.decided_by]
