"""What may nobody change alone? Governance rules, the approval policy, roles, rights, and other people's accounts.

Governance protects itself: a change of what protects the configuration takes a second person, by a waiver that the one
who acts has asked for and somebody else has approved, or break-glass. The rule is built in: no row can be edited away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError

from audit.changes import SYSTEM, ChangeSet
from audit.errors import StateConflict
from audit.journal import Change
from audit.models import ConfigurationAuditLog
from overrides.approvers import Approvers, find_approvers
from overrides.choices import SECOND_PERSON, Enforcement, TargetType
from overrides.governance import MAX_PROBLEMS, NetChange, asked_by, covers, find_net_changes
from overrides.models import GovernanceRuleOverride
from overrides.validation import names_one

CODE = "second_person"  # of the refusals
WITHOUT_A_SECOND_PERSON = "Without a second person"  # begins the warnings of what passed all the same
STRICTNESS = (Enforcement.WARN, Enforcement.REQUIRE_OVERRIDE, Enforcement.BLOCK)
RIGHTS_CHANGED = ("role_membership", "role_permission", "user_permission", "user", "role")


@dataclass(frozen=True)
class Protected:
    """A change that takes a second person, and what it comes to."""

    change: NetChange
    what: str


def check_second_person(changes: ChangeSet) -> Sequence[ValidationError]:
    """What is refused because nobody else has agreed; what passes without a second person is told and journalled."""
    kind, name, key = changes.origin.actor()
    approvers = find_approvers(changes.changes) if _concerns_rights(changes.changes) else None
    found = list_protected(changes.changes, name, key, approvers)
    if not found:
        return []
    if kind == SYSTEM:
        return _flag(changes, found, WITHOUT_A_SECOND_PERSON)
    waivers = list_waivers(changes, name, key)
    open_ones = [each for each in found if not any(_covers(waiver, each.change, key) for waiver in waivers)]
    if changes.break_glass:
        return _flag(changes, open_ones, WITHOUT_A_SECOND_PERSON)
    approvers = approvers or find_approvers(changes.changes)
    if not approvers.besides(key):
        return _flag(changes, open_ones, "Nobody else could approve")
    return [StateConflict(_refuse(each), code=CODE) for each in open_ones][:MAX_PROBLEMS]


def _concerns_rights(changes: Sequence[Change]) -> bool:
    return any(change.entity_type in RIGHTS_CHANGED for change in changes)


def _flag(changes: ChangeSet, found: Sequence[Protected], how: str) -> list[ValidationError]:
    for each in found:
        changes.warn(f"{how}: {each.what}.")
    return []


def _refuse(protected: Protected) -> str:
    change = protected.change
    return (
        f"{protected.what[0].upper()}{protected.what[1:]}: that takes a second person. Ask for a waiver of "
        f"{SECOND_PERSON} about the {change.entity_type} {change.entity_name!r}, and let somebody else approve it; in "
        "an emergency, break the glass."
    )


def list_waivers(changes: ChangeSet, requester: str, key: str) -> list[GovernanceRuleOverride]:
    """Waivers in force that `requester`, with this key, has asked for and somebody else has approved."""
    waivers = GovernanceRuleOverride.objects.filter(
        target_type=TargetType.GOVERNANCE_RULE,
        rule_name=SECOND_PERSON,
        enabled=True,
        approved_by__isnull=False,
        expires_at__gt=changes.started_at,
    )
    return list(asked_by(waivers, requester, key).exclude(approved_by=requester).order_by("id"))


def _covers(waiver: GovernanceRuleOverride, change: NetChange, key: str) -> bool:
    """Whether the waiver is about the object of `change`, by name: to agree to everything is to agree to nothing.

    It serves one change: who asked has not changed that object since it was approved. `key` is that of his account.
    """
    return names_one(waiver.override_config) and covers(waiver, change) and not _is_spent(waiver, change, key)


def _is_spent(waiver: GovernanceRuleOverride, change: NetChange, key: str) -> bool:
    since = ConfigurationAuditLog.objects.filter(revision__gt=waiver.version, actor_kind="user", actor_id=key)
    return since.filter(
        entity_type=change.entity_type, entity_id=change.entity_id, entity_name=change.entity_name
    ).exists()


def list_protected(
    changes: Sequence[Change], actor: str, key: str, approvers: Approvers | None = None
) -> list[Protected]:
    """What of `changes` takes a second person when `actor` makes them; `key` is the key of his account."""
    created = {(change.entity_type, change.entity_name) for change in changes if change.old is None}
    found = []
    for change in find_net_changes(change for change in changes if change.entity_type in DESCRIBE):
        what = DESCRIBE[change.entity_type](change, actor)
        if what is not None and not _is_own(change, actor, created):
            found.append(Protected(change, what))
    found += [
        Protected(_one(change), f"the password of {change.entity_name} is set by another")
        for change in changes
        if change.change_type == "user_password_changed" and change.entity_id != key
    ]
    lost = approvers.find_lost(key) if approvers is not None else {}
    found += [
        Protected(_account(other, name), f"{name} can approve no more, and too few are left who can")
        for other, name in lost.items()
    ]
    return found


def _is_own(change: NetChange, actor: str, created: set[tuple[str, str]]) -> bool:
    """Whether it is a grant to `actor` on what he creates in the same go; to approve it is never his own."""
    new: Mapping[str, Any] = change.new or {}
    if change.entity_type != "grant" or new.get("user") != actor or new["permission"].startswith("approve"):
        return False
    return (new["entity_type"], new["entity"]) in created


def _one(change: Change) -> NetChange:
    return NetChange(
        change.entity_type,
        change.entity_id,
        change.entity_name,
        (change.change_type,),
        change.old,
        change.new,
        change.instance,
    )


def _account(key: str, name: str) -> NetChange:
    return NetChange("user", key, name, ("user_updated",), {"username": name}, {"username": name}, None)


def _describe_rule(change: NetChange, actor: str) -> str | None:
    """A governance rule that is added, enabled or made stricter, or that only says it differently, weakens nothing."""
    old, new = change.old, change.new
    if old is None:
        return None
    if new is None:
        return f"the governance rule {change.entity_name} is deleted"
    if old["enabled"] and not new["enabled"]:
        return f"the governance rule {change.entity_name} is switched off"
    milder = STRICTNESS.index(new["enforcement"]) < STRICTNESS.index(old["enforcement"])
    if milder or any(old[name] != new[name] for name in ("condition", "applies_to")):
        return f"what the governance rule {change.entity_name} demands is changed"
    return None


def _describe_policy(change: NetChange, actor: str) -> str | None:
    return f"the approval policy {change.entity_name} is changed"


def _describe_override(change: NetChange, actor: str) -> str | None:
    """Only a waiver of this rule itself, put in force by the one who has asked for it."""
    new: Mapping[str, Any] = change.new or {}
    puts_in_force = new.get("enabled") and not (change.old or {}).get("enabled")
    own = new.get("rule_name") == SECOND_PERSON and new.get("created_by") == actor
    return f"{actor} puts his own waiver of {SECOND_PERSON} in force" if puts_in_force and own else None


def _describe_gift(change: NetChange, actor: str) -> str | None:
    """Rights that are given; taking them away is judged by who is left."""
    if change.new is None:
        return None
    if change.entity_type == "grant":
        return f"a right is granted ({change.entity_name})"
    what = "the role" if change.entity_type == "role_membership" else "the right"
    holder = f"the role {change.entity_name}" if change.entity_type == "role_permission" else change.entity_name
    return f"{holder} gets {what} {', '.join(change.new['rights'])}"


def _describe_account(change: NetChange, actor: str) -> str | None:
    old, new = change.old, change.new
    if new is None:
        return None
    if new["is_superuser"] and not (old or {}).get("is_superuser"):
        return f"{change.entity_name} becomes a superuser"
    if old is None:
        return None
    if new["is_active"] and not old["is_active"]:
        return f"the account {change.entity_name} is switched on again"
    if new["username"] != old["username"]:
        return f"the account {old['username']} is renamed {new['username']}"
    return None


def _describe_token(change: NetChange, actor: str) -> str | None:
    owner = (change.new or {}).get("user")
    return f"a token of {owner} is made by another" if owner is not None and owner != actor else None


DESCRIBE: Mapping[str, Callable[[NetChange, str], str | None]] = {
    "governance_rule": _describe_rule,
    "approval_policy": _describe_policy,
    "governance_override": _describe_override,
    "role_membership": _describe_gift,
    "role_permission": _describe_gift,
    "user_permission": _describe_gift,
    "grant": _describe_gift,
    "user": _describe_account,
    "token": _describe_token,
}
