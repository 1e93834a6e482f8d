"""Who may do what? `may` and `permitted` answer for admin, API, WebSocket and commands alike.

Rights come from roles (groups) over all objects, and from grants (guardian) on one object. A change of either is
journalled by the kernel's receivers.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.contrib.auth.models import Group, Permission
from django.db import models
from guardian.core import ObjectPermissionChecker
from guardian.managers import GroupObjectPermissionManager, UserObjectPermissionManager
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase
from guardian.shortcuts import assign_perm, get_objects_for_user, remove_perm

from audit.changes import change_set
from audit.errors import NotPermitted, UngovernedWrite

VIEW, ADD, CHANGE, DELETE = "view", "add", "change", "delete"
BREAK_GLASS = "overrides.break_glass"


class _System:
    """The actor of commands without `--as`: whoever can start a process on the server. It may all but approve."""

    is_authenticated = True
    is_active = True


SYSTEM_ACTOR = _System()


def permission_name(action: str, model: type[models.Model] | models.Model) -> str:
    """The Django permission that `action` on `model` needs, such as ``rules.change_analysisrule``."""
    return f"{model._meta.app_label}.{action}_{model._meta.model_name}"


def may(user: Any, action: str, target: type[models.Model] | models.Model) -> bool:
    """Whether `user` may do `action` (view, add, change, delete or one of the model's own) on a model or an object."""
    if user is SYSTEM_ACTOR:
        return action != "approve"
    if user is None or not user.is_authenticated or not user.is_active:
        return False
    name = permission_name(action, target)
    if user.has_perm(name):
        return True
    # Grants exist where a model has its own grant tables.
    is_object = isinstance(target, models.Model)
    return is_object and has_grants(type(target)) and target.pk is not None and user.has_perm(name, target)


def require(user: Any, action: str, target: type[models.Model] | models.Model) -> None:
    """Raise `NotPermitted` with a sentence unless `user` may."""
    if not may(user, action, target):
        name = user.get_username() if isinstance(user, models.Model) else "An anonymous user"
        what = target if isinstance(target, models.Model) else target._meta.verbose_name_plural
        raise NotPermitted(f"{name} may not {action} {what}.")


def holds(user: Any, name: str) -> bool:
    """Whether `user` has the right ``app.codename``, for rights that are about no kind of object alone."""
    if user is SYSTEM_ACTOR:
        return True
    return user is not None and user.is_authenticated and user.is_active and user.has_perm(name)


def may_break_glass(user: Any) -> bool:
    """Whether `user` may pass over governance rules in an emergency: by a role or a right of his own.

    A superuser does not have it by being one.
    """
    if user is SYSTEM_ACTOR:
        return True
    if user is None or not user.is_authenticated or not user.is_active:
        return False
    app, _, codename = BREAK_GLASS.partition(".")
    named = Permission.objects.filter(content_type__app_label=app, codename=codename)
    return named.filter(models.Q(user=user) | models.Q(group__user=user)).exists()


def require_holding(user: Any, name: str) -> None:
    """Raise `NotPermitted` naming the right unless `user` has it."""
    if not holds(user, name):
        who = user.get_username() if isinstance(user, models.Model) else "An anonymous user"
        raise NotPermitted(f"{who} may not {name.partition('.')[2].replace('_', ' ')}.")


def permitted(user: Any, action: str, queryset: models.QuerySet) -> models.QuerySet:
    """The part of `queryset` on which `user` may do `action`."""
    model = queryset.model
    if may(user, action, model):
        return queryset
    if user is None or not user.is_authenticated or not user.is_active or not has_grants(model):
        return queryset.none()
    return get_objects_for_user(user, permission_name(action, model), queryset, accept_global_perms=False)


def may_see_some(user: Any, action: str, model: type[models.Model]) -> bool:
    """Whether a list of `model` is for `user` at all: by role, or by a grant on any object."""
    return may(user, action, model) or permitted(user, action, model._default_manager.all()).exists()


def object_permissions(user: Any, objects: list[models.Model], actions: tuple[str, ...]) -> dict[Any, list[str]]:
    """For each object's key the actions that `user` may do on it, with a constant number of queries."""
    if not objects:
        return {}
    model = type(objects[0])
    everywhere = [action for action in actions if may(user, action, model)]
    rest = [action for action in actions if action not in everywhere]
    if not rest or not has_grants(model):
        return {item.pk: everywhere for item in objects}
    checker = ObjectPermissionChecker(user)
    checker.prefetch_perms(objects)
    allowed = {}
    for item in objects:
        granted = [action for action in rest if checker.has_perm(f"{action}_{model._meta.model_name}", item)]
        allowed[item.pk] = everywhere + granted
    return allowed


def has_grants(model: type[models.Model]) -> bool:
    """Whether objects of `model` can be granted one by one."""
    return any(
        issubclass(relation.related_model, UserGrant) and relation.field.name == "content_object"
        for relation in model._meta.related_objects
    )


def list_actions(model: type[models.Model]) -> list[str]:
    """What can be allowed on a model: Django's actions as far as it has them, and its own, such as toggle."""
    own = f"_{model._meta.model_name}"
    codenames = [codename for codename, _ in model._meta.permissions if codename.endswith(own)]
    return [*model._meta.default_permissions, *(codename.removesuffix(own) for codename in codenames)]


def list_grantable(model: type[models.Model]) -> list[str]:
    """What can be allowed on one object of `model`: all but adding one."""
    return [action for action in list_actions(model) if action != ADD] if has_grants(model) else []


def grant_tables(model: type[models.Model]) -> tuple[type[Any], type[Any]]:
    """The tables of the grants on objects of `model`: to users, and to roles."""
    tables = [
        relation.related_model
        for relation in model._meta.related_objects
        if relation.field.name == "content_object" and issubclass(relation.related_model, UserGrant | RoleGrant)
    ]
    users, roles = sorted(tables, key=lambda table: issubclass(table, RoleGrant))
    return users, roles


class GrantQuerySet(models.QuerySet):
    """Grants are written one by one, so that each is journalled."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("Grants are journalled one by one: use audit.permissions.grant() and revoke().")

    update = bulk_create = bulk_update = _refuse
    aupdate = abulk_create = abulk_update = _refuse

    def delete(self) -> tuple[int, dict[str, int]]:
        with change_set():
            return super().delete()

    delete.alters_data = True
    delete.queryset_only = True


class Grant(models.Model):
    """What all grants have in common: each is made or taken away, and never becomes another one."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise UngovernedWrite("A grant is not changed: revoke it and grant another.")
        with change_set():
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with change_set():
            return super().delete(*args, **kwargs)


class UserGrant(Grant, UserObjectPermissionBase):
    """Base of a model's table of grants to users. Direct foreign keys: a deleted object takes its grants along."""

    objects = UserObjectPermissionManager.from_queryset(GrantQuerySet)()

    class Meta(UserObjectPermissionBase.Meta):
        abstract = True
        base_manager_name = "objects"


class RoleGrant(Grant, GroupObjectPermissionBase):
    """Base of a model's table of grants to roles."""

    objects = GroupObjectPermissionManager.from_queryset(GrantQuerySet)()

    class Meta(GroupObjectPermissionBase.Meta):
        abstract = True
        base_manager_name = "objects"


def grant(*, action: str, holder: models.Model, target: models.Model) -> None:
    """Give `holder` (a user, a group) the right to do `action` on `target`; journalled."""
    with change_set():
        assign_perm(permission_name(action, target), holder, target)


def revoke(*, action: str, holder: models.Model, target: models.Model) -> None:
    """Take that right away again; journalled."""
    with change_set():
        remove_perm(permission_name(action, target), holder, target)


def sync_roles(roles: dict[str, list[str]]) -> None:
    """Make the groups named by `roles` hold exactly the permissions listed (``app.codename``); journalled."""
    known = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in Permission.objects.select_related("content_type")
    }
    with change_set(reason="roles of this release"):
        for name, wanted in roles.items():
            group, _ = Group.objects.get_or_create(name=name)
            present = set(group.permissions.all())
            target = {known[codename] for codename in wanted}
            if target - present:
                group.permissions.add(*(target - present))
            if present - target:
                group.permissions.remove(*(present - target))
