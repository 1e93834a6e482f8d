"""What may somebody do with what he has created? Whoever may add, but not change all of a kind, keeps what he adds."""

from __future__ import annotations

from typing import Any

from audit.changes import ChangeSet
from audit.governed import GovernedModel
from audit.permissions import CHANGE, DELETE, VIEW, grant, has_grants, list_grantable, may

KEPT = (VIEW, CHANGE, DELETE)


def keep_own(changes: ChangeSet) -> None:
    """Grant the acting user, on every object that he has created in `changes`, what he may not do with all of them.

    The right to add alone means: to create, and to look after what one has created.
    """
    user = changes.origin.acting_user()
    if user is None:
        return
    for change in changes.changes:
        item = change.instance
        if change.action != "created" or not isinstance(item, GovernedModel) or not has_grants(type(item)):
            continue
        if may(user, CHANGE, type(item)) or not _exists(item):
            continue
        _grant_own(user, item)


def _grant_own(user: Any, item: GovernedModel) -> None:
    for action in KEPT:
        if action in list_grantable(type(item)) and not may(user, action, type(item)):
            grant(action=action, holder=user, target=item)


def _exists(item: GovernedModel) -> bool:
    """Whether the object is still there: it may have been deleted in the same change set."""
    return item.pk is not None and type(item)._base_manager.filter(pk=item.pk).exists()
