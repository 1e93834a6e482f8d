"""Whose account may somebody change, and which roles may he give? Nobody gives, or takes over, more than he holds."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.db import models

from audit.permissions import RoleGrant, UserGrant

VIEW_ACCOUNTS = "auth.view_user"
CHANGE_ACCOUNTS = "auth.change_user"


def outranks(actor: Any, account: Any) -> bool:
    """Whether `actor` holds every right that `account` holds, so that taking it over gains nothing.

    A right of `account` on a single object counts like the same right on all of them.
    """
    if actor.is_superuser or actor == account:
        return True
    return not account.is_superuser and list_rights(account) <= actor.get_all_permissions()


def list_rights(account: Any) -> set[str]:
    """The rights that `account` has, or would have: one that is switched off can be switched on again."""
    condition = models.Q(user=account) | models.Q(group__user=account)
    for table in list_grant_tables():
        holder = {"user": account} if issubclass(table, UserGrant) else {"group__user": account}
        condition |= models.Q(pk__in=table.objects.filter(**holder).values("permission"))
    rights = Permission.objects.filter(condition)
    return {f"{app}.{codename}" for app, codename in rights.values_list("content_type__app_label", "codename")}


def list_grant_tables() -> list[type[Any]]:
    """The tables of rights on single objects."""
    return [model for model in apps.get_models() if issubclass(model, UserGrant | RoleGrant)]


def grantable_roles(actor: Any) -> list[int]:
    """Keys of the roles that `actor` may give: those whose rights he holds himself."""
    held = actor.get_all_permissions()
    return [
        group.pk
        for group in Group.objects.prefetch_related("permissions__content_type")
        if actor.is_superuser
        or {f"{right.content_type.app_label}.{right.codename}" for right in group.permissions.all()} <= held
    ]
