"""Is somebody a second person? Not who asked, not who edited, and no account that one of them made or empowered.

The journal knows who created an account, who set its password, and who gave it the role or the grant by which it
approves. An account that a requester made is the requester once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db.models import Q

from audit.changes import ChangeSet
from audit.errors import NotPermitted
from audit.models import ConfigurationAuditLog
from overrides.decisions import list_authors
from overrides.models import GovernanceRuleOverride, OverrideDecision

CHAIN = 4  # accounts between two people that are looked at
RIGHT = "approve_governanceruleoverride"


def require_second_person(
    *,
    user: Any,
    override: GovernanceRuleOverride,
    decisions: Sequence[OverrideDecision],
    changes: ChangeSet | None = None,
) -> bool:
    """Raise `NotPermitted` unless `user` may stand beside who asked.

    True if a superuser approves his own request, which only a server that is set up so allows.
    """
    authors = list_authors(decisions, override)
    if is_one_of(user, authors):
        if user.is_superuser and settings.SUPERUSERS_APPROVE_OWN:
            return True
        what = "asked for this" if is_one_of(user, [(override.created_by, "")]) else "edited or proposed this"
        raise NotPermitted(
            f"You {what}, so somebody else approves it, whatever your rights are. "
            "To take it back, withdraw it, or revoke it once it is in force."
        )
    problem = explain_puppet(user, authors)
    if problem is None:
        if changes is not None and (chain := explain_chain(user, authors)) is not None:
            changes.warn(chain)
        return False
    if not settings.FLAG_DEPENDENT_APPROVERS:
        raise NotPermitted(f"{problem} Somebody who does not depend on the requester approves it.")
    if changes is not None:
        changes.warn(problem)
    return False


def is_one_of(user: Any, people: Iterable[tuple[str, str]]) -> bool:
    """Whether `user` is among people given by name and key; either is enough, since accounts are renamed."""
    return any(user.get_username() == name or (key and str(user.pk) == key) for name, key in people)


def explain_puppet(user: Any, authors: Sequence[tuple[str, str]]) -> str | None:
    """In which way one of `authors` stands behind the account of `user`, or None."""
    names, keys = {name for name, _ in authors}, {key for _, key in authors if key}
    for (name, key), what in find_makers(user).items():
        if name in names or key in keys:
            return f"{name} asked for this or edited it, and {what}."
    return None


def explain_chain(user: Any, authors: Sequence[tuple[str, str]]) -> str | None:
    """How one of `authors` stands behind `user` through other accounts, or None.

    Flagged, not refused: in many organisations one person has begun with everybody's accounts.
    """
    names, keys = {name for name, _ in authors}, {key for _, key in authors if key}
    seen, reached = {str(user.pk)}, [user]
    for _ in range(CHAIN):
        makers = {key: name for person in reached for name, key in find_makers(person) if key not in seen}
        found = next((name for key, name in makers.items() if key in keys or name in names), None)
        if found is not None:
            return f"{found} asked for this or edited it, and stands behind your account through others."
        seen |= set(makers)
        reached = list(get_user_model()._default_manager.filter(pk__in=[key for key in makers if key.isdecimal()]))
    return None


def find_makers(user: Any) -> Mapping[tuple[str, str], str]:
    """Name and key of everybody who stands behind the account of `user` or its right to approve, and how."""
    rows = ConfigurationAuditLog.objects.filter(actor_kind="user").exclude(actor_id=str(user.pk)).order_by("revision")
    makers: dict[tuple[str, str], str] = {}
    for what, row in [*_read_account(user, rows), *_read_rights(user, rows)]:
        makers.setdefault((row.changed_by, row.actor_id), what)
    return makers


def _read_account(user: Any, rows: Any) -> list[tuple[str, ConfigurationAuditLog]]:
    found = []
    password: ConfigurationAuditLog | None = None
    own = ConfigurationAuditLog.objects.filter(entity_type="user", entity_id=str(user.pk)).order_by("revision")
    for row in own:
        by_another = row.actor_kind == "user" and row.actor_id != str(user.pk)
        if row.change_type == "user_password_changed":
            password = row if by_another else None  # whoever has set his own since is himself again
        elif not by_another:
            continue
        elif row.change_type == "user_created":
            found.append(("created your account", row))
        elif (row.new_config or {}).get("is_superuser") and not (row.old_config or {}).get("is_superuser"):
            found.append(("made you a superuser", row))
    if password is not None:
        found.append(("set your password", password))
    return found


def _read_rights(user: Any, rows: Any) -> list[tuple[str, ConfigurationAuditLog]]:
    approving = Group.objects.filter(Q(permissions__codename=RIGHT) | Q(overriderolegrant__permission__codename=RIGHT))
    roles = {group.name: str(group.pk) for group in approving.filter(user=user).distinct()}
    key, name = str(user.pk), user.get_username()
    found: dict[str, tuple[str, ConfigurationAuditLog]] = {}
    for row in rows.filter(entity_type="role_membership", entity_id=key, change_type="role_membership_added"):
        for role in set((row.new_config or {}).get("rights", ())) & set(roles):
            found[f"role {role}"] = (f"gave you the role {role}", row)
    for row in rows.filter(entity_type="user_permission", entity_id=key, change_type="user_permission_added"):
        if RIGHT in (row.new_config or {}).get("rights", ()):
            found["permission"] = ("gave you the right to approve", row)
    for row in rows.filter(
        entity_type="role_permission", entity_id__in=list(roles.values()), change_type="role_permission_added"
    ):
        if RIGHT in (row.new_config or {}).get("rights", ()):
            found[f"permission of {row.entity_id}"] = ("gave your role the right to approve", row)
    holders = [name, *roles]
    granted = Q()
    for holder in holders:
        granted |= Q(entity_name__startswith=f"{holder} {RIGHT} ")
    for row in rows.filter(granted, change_type="grant_added"):
        found[f"grant {row.entity_id}"] = ("granted you the right to approve", row)
    return list(found.values())
