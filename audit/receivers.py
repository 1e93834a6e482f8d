"""Which doors are guarded by signals? All of the kernel's receivers, each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, NoReturn

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import signals
from django.utils import timezone
from guardian.models import BaseObjectPermission
from knox.models import AuthToken
from simple_history.signals import post_create_historical_record

from audit.changes import change_set
from audit.errors import UngovernedWrite
from audit.governed import GovernedModel, record
from audit.journal import Change
from audit.models import ConfigurationAuditLog, Revision

USER_FIELDS = ("username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser")


def connect() -> None:
    """Connect every receiver once, after all models are loaded.

    Each names its sender: a receiver for all models would turn every fast deletion in the project into a slow one.
    """
    user_model = get_user_model()
    signals.post_migrate.connect(begin_stream, dispatch_uid="audit.begin")
    post_create_historical_record.connect(journal_history_row, dispatch_uid="audit.history")
    for model in apps.get_models():
        if issubclass(model, GovernedModel | ConfigurationAuditLog | Revision) or is_history(model):
            signals.pre_save.connect(refuse_raw_save, sender=model, dispatch_uid=f"audit.raw.{model._meta.label}")
        if issubclass(model, BaseObjectPermission):
            signals.post_save.connect(journal_grant, sender=model, dispatch_uid=f"audit.grant.{model._meta.label}")
            signals.post_delete.connect(
                journal_revoked_grant, sender=model, dispatch_uid=f"audit.revoked.{model._meta.label}"
            )
    signals.pre_save.connect(remember_user, sender=user_model, dispatch_uid="audit.user.before")
    signals.post_save.connect(journal_user, sender=user_model, dispatch_uid="audit.user")
    signals.pre_delete.connect(journal_deleted_user, sender=user_model, dispatch_uid="audit.user.deleted")
    signals.post_save.connect(journal_role, sender=Group, dispatch_uid="audit.role")
    signals.pre_delete.connect(journal_deleted_role, sender=Group, dispatch_uid="audit.role.deleted")
    signals.post_save.connect(journal_token, sender=AuthToken, dispatch_uid="audit.token")
    signals.post_delete.connect(journal_revoked_token, sender=AuthToken, dispatch_uid="audit.token.revoked")
    _store_with_record(user_model, quiet=["last_login"])
    _store_with_record(Group)
    _store_with_record(AuthToken)
    _delete_once(AuthToken)
    govern_accounts(user_model)
    govern_membership(user_model.groups.through, "role_membership")
    govern_membership(user_model.user_permissions.through, "user_permission")
    govern_membership(Group.permissions.through, "role_permission")


def begin_stream(app_config: Any, **_: Any) -> None:
    """An emptied database begins a new stream; a migration that finds the revision row leaves it."""
    if app_config.name == "audit":
        models.QuerySet(Revision).get_or_create(pk=1)


def journal_history_row(sender: type[models.Model], instance: models.Model, history_instance: Any, **_: Any) -> None:
    """Every history row has its journal row, also when a cascade from an ungoverned object wrote it.

    A cascade runs inside the collector's transaction; a change set opened here is stored or lost together with it.
    """
    if isinstance(instance, GovernedModel):
        with change_set() as changes:
            record(instance, history_instance, changes)


def refuse_raw_save(sender: type[models.Model], instance: models.Model, raw: bool, **_: Any) -> None:
    """`loaddata` writes rows without validation and history: configuration comes in by `import_config`."""
    if raw:
        raise UngovernedWrite(
            f"loaddata would write {instance._meta.verbose_name_plural} past validation and the journal. "
            "Use `manage.py import_config FILE --plan` and `--apply`."
        )


def is_history(model: type[models.Model]) -> bool:
    """Whether `model` keeps the history of another."""
    return hasattr(model, "instance_type") and hasattr(model, "history_type")


def _user_document(user: models.Model) -> dict[str, Any]:
    return {name: getattr(user, name) for name in USER_FIELDS}


def remember_user(sender: type[models.Model], instance: models.Model, **_: Any) -> None:
    """Rights hang on accounts: keep what is stored to tell what a save changes (a sign-in only moves `last_login`)."""
    stored = sender._base_manager.filter(pk=instance.pk).first() if instance.pk else None
    instance._stored_document = _user_document(stored) if stored else None
    instance._password_changed = stored is not None and stored.password != instance.password


def journal_user(
    sender: type[models.Model], instance: Any, created: bool, update_fields: frozenset[str] | None, **_: Any
) -> None:
    """An account that is created, changed, locked or made superuser is a change of who may do what."""
    old, new = instance._stored_document, _user_document(instance)
    if update_fields is not None and old is not None:
        new = {name: new[name] if name in update_fields else old[name] for name in USER_FIELDS}
    # Django rehashes an old hash at sign-in, by a save of just that field with no new password at hand.
    rehashed = update_fields == {"password"} and instance._password is None
    password_changed = (
        instance._password_changed and (update_fields is None or "password" in update_fields) and not rehashed
    )
    key, name = str(instance.pk), instance.get_username()
    if old != new:
        action = "created" if created else "updated"
        _add(action, f"user_{action}", "user", key, name, old, new)
    if password_changed:
        # A row of its own: among other changes of the account it would not be seen.
        _add("updated", "user_password_changed", "user", key, name, new, new)


def journal_deleted_user(sender: type[models.Model], instance: Any, **_: Any) -> None:
    """A deleted account stays in the journal by name."""
    _add("deleted", "user_deleted", "user", str(instance.pk), instance.get_username(), _user_document(instance), None)


def _describe_token(token: AuthToken) -> tuple[str, str, dict[str, Any]]:
    """Key and name in the journal, and the document: whose it is and how it begins, never enough to use it."""
    key, name = token.token_key[:8], token.user.get_username()
    document = {"user": name, "expiry": token.expiry.isoformat() if token.expiry else None}
    return key, f"{name} {key}", document


def journal_token(sender: type[models.Model], instance: AuthToken, created: bool, **_: Any) -> None:
    """A token is a way in, so its coming is a change of who may do what."""
    if created:
        key, name, document = _describe_token(instance)
        _add("created", "token_created", "token", key, name, None, document)


def journal_revoked_token(sender: type[models.Model], instance: AuthToken, **_: Any) -> None:
    """A token that was revoked, or found expired and swept away."""
    key, name, document = _describe_token(instance)
    expired = instance.expiry is not None and instance.expiry < timezone.now()
    _add("deleted", "token_expired" if expired else "token_revoked", "token", key, name, document, None)


def journal_role(sender: type[models.Model], instance: Any, created: bool, **_: Any) -> None:
    """A role that comes into being; its rights follow as `role_permission_added`."""
    if created:
        _add("created", "role_created", "role", str(instance.pk), instance.name, None, {"name": instance.name})


def journal_deleted_role(sender: type[models.Model], instance: Any, **_: Any) -> None:
    """A deleted role takes rights from everybody in it."""
    _add("deleted", "role_deleted", "role", str(instance.pk), instance.name, {"name": instance.name}, None)


def _grant_document(grant: Any) -> dict[str, Any]:
    holder = {"user": grant.user.get_username()} if hasattr(grant, "user_id") else {"role": grant.group.name}
    target = grant.content_object
    kind = getattr(target, "entity_type", target._meta.label_lower)
    return {**holder, "permission": grant.permission.codename, "entity_type": kind, "entity": str(target)}


def journal_grant(sender: type[models.Model], instance: models.Model, created: bool, **_: Any) -> None:
    """guardian's shortcuts write grants directly: they are journalled here, by whichever call they came."""
    if created:
        document = _grant_document(instance)
        _add(
            "created", "grant_added", "grant", f"{sender.__name__}:{instance.pk}", _grant_name(document), None, document
        )


def journal_revoked_grant(sender: type[models.Model], instance: models.Model, **_: Any) -> None:
    """A right taken away, directly or because its object or holder was deleted."""
    document = _grant_document(instance)
    key = f"{sender.__name__}:{instance.pk}"
    _add("deleted", "grant_removed", "grant", key, _grant_name(document), document, None)


def _grant_name(document: dict[str, Any]) -> str:
    holder = document.get("user") or document.get("role")
    return f"{holder} {document['permission']} {document['entity']}"


class AccountQuerySet(models.QuerySet):
    """Accounts are written one by one: `update` and `bulk_*` send no signal, and would change rights unrecorded."""

    def update(self, **kwargs: Any) -> int:
        if set(kwargs) & {*USER_FIELDS, "password"}:
            raise UngovernedWrite("Rights hang on accounts: change them one by one with save(), which is journalled.")
        return super().update(**kwargs)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("Rights hang on accounts: write them one by one with save(), which is journalled.")

    update.alters_data = True
    bulk_create = bulk_update = abulk_create = abulk_update = _refuse


def govern_accounts(user_model: type[models.Model]) -> None:
    """Let the account model's managers hand out `AccountQuerySet`s. They stay what they are: migrations name them."""
    type(user_model._default_manager)._queryset_class = AccountQuerySet
    user_model._base_manager._queryset_class = AccountQuerySet


class MembershipQuerySet(models.QuerySet):
    """Journals every row that the table between two sides of a right gains or loses.

    Django sends no signal for rows of an automatic table that are created directly, cleared or cascaded; all of these
    end in `_insert` and `_raw_delete`.
    """

    noun: ClassVar[str]

    def _insert(self, objs: Sequence[models.Model], *args: Any, **kwargs: Any) -> Any:
        with change_set():
            holder, right = _ends(self.model)
            pairs = {(getattr(row, holder.attname), getattr(row, right.attname)) for row in objs}
            present = set(
                self.model._base_manager.filter(**{f"{holder.attname}__in": {pair[0] for pair in pairs}}).values_list(
                    holder.attname, right.attname
                )
            )
            result = super()._insert(objs, *args, **kwargs)
            self._journal("added", pairs - present)
        return result

    def _raw_delete(self, using: str) -> int:
        with change_set():
            holder, right = _ends(self.model)
            pairs = set(self.values_list(holder.attname, right.attname))
            count = super()._raw_delete(using)
            self._journal("removed", pairs)
        return count

    def update(self, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("Memberships are added and removed, so that each is journalled; they are not updated.")

    def _update(self, values: Any) -> NoReturn:
        """What `save()` of a stored row does."""
        self.update()

    def _journal(self, verb: str, pairs: Collection[tuple[Any, Any]]) -> None:
        holder, right = _ends(self.model)
        holders = holder.related_model._base_manager.in_bulk([pair[0] for pair in pairs])
        rights = right.related_model._base_manager.in_bulk([pair[1] for pair in pairs])
        for key, owner in sorted(holders.items()):
            names = sorted(
                getattr(rights[other], "codename", None) or str(rights[other]) for own, other in pairs if own == key
            )
            document = {"holder": str(owner), "rights": names}
            old, new = (None, document) if verb == "added" else (document, None)
            action = "created" if verb == "added" else "deleted"
            _add(action, f"{self.noun}_{verb}", self.noun, str(key), str(owner), old, new)


def _ends(through: type[models.Model]) -> tuple[models.Field, models.Field]:
    """The relation to the holder and the one to the right, of the table between them."""
    holder, right = (field for field in through._meta.fields if field.is_relation)
    return holder, right


def govern_membership(through: type[models.Model], noun: str) -> None:
    """Give the automatic table `through` a manager that journals as `noun`_added and `noun`_removed."""
    queryset = type(f"{through.__name__}QuerySet", (MembershipQuerySet,), {"noun": noun})
    through._meta.local_managers.clear()
    manager = models.Manager.from_queryset(queryset)()
    manager.auto_created = True
    through.add_to_class("objects", manager)
    through._meta.base_manager_name = "objects"
    through.delete = _delete_membership
    through._meta._expire_cache()


def _delete_membership(row: models.Model, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
    """Delete one row as a queryset does: by itself it would go past `_raw_delete`."""
    return type(row)._base_manager.filter(pk=row.pk).delete()


def _store_with_record(model: type[models.Model], quiet: Collection[str] = ()) -> None:
    """Store a row of `model` and its journal row together: Django commits a row before `post_save` tells of it.

    A save of nothing but the fields `quiet` says nothing about rights and takes no lock.
    """
    save_base = model.save_base

    def save_with_record(row: models.Model, *args: Any, **kwargs: Any) -> None:
        fields = kwargs.get("update_fields")
        if fields and set(fields) <= set(quiet):
            save_base(row, *args, **kwargs)
            return
        with change_set():
            save_base(row, *args, **kwargs)

    model.save_base = save_with_record


def _delete_once(model: type[models.Model]) -> None:
    """Delete a row of `model` under the lock, and only if it is still there: `post_delete` is sent either way."""
    delete = model.delete

    def delete_once(row: models.Model, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with change_set():
            there = type(row)._base_manager.filter(pk=row.pk).exists()
            return delete(row, *args, **kwargs) if there else (0, {})

    model.delete = delete_once


def _add(
    action: str,
    change_type: str,
    entity_type: str,
    entity_id: str,
    entity_name: str,
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
) -> None:
    with change_set() as changes:
        changes.add(Change(changes.next_revision(), action, change_type, entity_type, entity_id, entity_name, old, new))
