"""Who could approve before a change set, and who can after it? Accounts that are active and hold the right by name.

What was before is read from the change set itself, backwards: its changes are written already when it is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db.models import Q

from audit.journal import Change

APPROVE = "approve_governanceruleoverride"
IN_ROLES = Q(permissions__content_type__app_label="overrides", permissions__codename=APPROVE)


@dataclass(frozen=True)
class Approvers:
    """Names of the accounts by their key in the journal."""

    before: dict[str, str]
    after: dict[str, str]

    def besides(self, key: str) -> bool:
        """Whether, before the change set, somebody else than the account `key` could approve."""
        return bool(self.before.keys() - {key})

    def find_lost(self, key: str) -> dict[str, str]:
        """Accounts that can no longer approve, if too few are left: less than two, or nobody but the account `key`.

        Taking rights away is free as long as a second person remains; else it would be the way to need none.
        """
        too_few = len(self.after) < 2 <= len(self.before)
        alone = self.besides(key) and not self.after.keys() - {key}
        lost = {other: name for other, name in self.before.items() if other not in self.after}
        return lost if too_few or alone else {}


def find_approvers(changes: Sequence[Change]) -> Approvers:
    """Who could approve before `changes`, and who can now."""
    state = _State(changes)
    after = state.list()
    for change in reversed(changes):
        state.undo(change)
    return Approvers(state.list(), after)


class _State:
    """Accounts, roles that approve, who is in them, and who holds the right by himself."""

    def __init__(self, changes: Sequence[Change]) -> None:
        users = get_user_model()._default_manager
        touched = [change.entity_id for change in changes if change.entity_type in ("user", "role_membership")]
        self.roles = set(Group.objects.filter(IN_ROLES).values_list("name", flat=True))
        named = self.roles | {change.entity_name for change in changes if change.entity_type == "role_permission"}
        rows = users.filter(groups__name__in=named).values_list("pk", "groups__name")
        self.members: dict[str, set[str]] = {}
        for key, role in rows:
            self.members.setdefault(str(key), set()).add(role)
        own = Q(user_permissions__content_type__app_label="overrides", user_permissions__codename=APPROVE)
        self.holders = {str(key) for key in users.filter(own).values_list("pk", flat=True)}
        known = Q(is_superuser=True) | Q(pk__in={*self.members, *self.holders, *touched})
        self.accounts: dict[str, tuple[str, bool, bool]] = {
            str(key): (name, active, superuser)
            for key, name, active, superuser in users.filter(known).values_list(
                "pk", "username", "is_active", "is_superuser"
            )
        }

    def list(self) -> dict[str, str]:
        """Names of those who can approve, by key."""
        return {
            key: name
            for key, (name, active, superuser) in self.accounts.items()
            if active and (superuser or key in self.holders or self.members.get(key, set()) & self.roles)
        }

    def undo(self, change: Change) -> None:
        """Go back to before `change`."""
        document: dict[str, Any] = change.new or change.old or {}
        given, rights = change.action == "created", set(document.get("rights", ()))
        if change.entity_type == "user":
            self._undo_account(change)
        elif change.entity_type == "role_membership":
            _toggle(self.members.setdefault(change.entity_id, set()), rights, present=not given)
        elif change.entity_type == "user_permission" and APPROVE in rights:
            _toggle(self.holders, {change.entity_id}, present=not given)
        elif change.entity_type == "role_permission" and APPROVE in rights:
            _toggle(self.roles, {change.entity_name}, present=not given)

    def _undo_account(self, change: Change) -> None:
        if change.old is None:
            self.accounts.pop(change.entity_id, None)
        else:
            old = change.old
            self.accounts[change.entity_id] = (old["username"], old["is_active"], old["is_superuser"])


def _toggle(found: set[str], names: set[str], *, present: bool) -> None:
    if present:
        found |= names
    else:
        found -= names
