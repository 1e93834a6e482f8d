"""Which doors are guarded by signals? All of the kernel's receivers, each with its reason."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import signals
from guardian.models import BaseObjectPermission
from simple_history.signals import post_create_historical_record

from audit.changes import change_set
from audit.errors import UngovernedWrite
from audit.governed import GovernedModel, record
from audit.journal import Change
from audit.models import ConfigurationAuditLog, Revision

USER_FIELDS = ("username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser")


def connect() -> None:
    """Connect every receiver once, after all models are loaded."""
    signals.post_migrate.connect(begin_stream, dispatch_uid="audit.begin")
    post_create_historical_record.connect(journal_history_row, dispatch_uid="audit.history")
    signals.pre_save.connect(refuse_raw_save, dispatch_uid="audit.raw")
    signals.pre_save.connect(remember_user, sender=get_user_model(), dispatch_uid="audit.user.before")
    signals.post_save.connect(journal_user, sender=get_user_model(), dispatch_uid="audit.user")
    signals.pre_delete.connect(journal_deleted_user, sender=get_user_model(), dispatch_uid="audit.user.deleted")
    signals.post_save.connect(journal_grant, dispatch_uid="audit.grant")
    signals.post_delete.connect(journal_revoked_grant, dispatch_uid="audit.grant.revoked")
    user_model = get_user_model()
    for through, noun in (
        (user_model.groups.through, "role_membership"),
        (user_model.user_permissions.through, "user_permission"),
        (Group.permissions.through, "role_permission"),
    ):
        memberships = MembershipJournal(noun)
        signals.m2m_changed.connect(memberships.added, sender=through, weak=False, dispatch_uid=f"audit.{noun}.added")
        signals.post_save.connect(memberships.saved, sender=through, weak=False, dispatch_uid=f"audit.{noun}.saved")
        signals.post_delete.connect(memberships.removed, sender=through, weak=False, dispatch_uid=f"audit.{noun}.gone")
    signals.post_save.connect(journal_role, sender=Group, dispatch_uid="audit.role")
    signals.pre_delete.connect(journal_deleted_role, sender=Group, dispatch_uid="audit.role.deleted")


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
    if raw and (isinstance(instance, GovernedModel | ConfigurationAuditLog | Revision) or is_history(sender)):
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
    password_changed = instance._password_changed and (update_fields is None or "password" in update_fields)
    if old == new and not password_changed:
        return
    action = "created" if created else "updated"
    change_type = "user_password_changed" if old == new else f"user_{action}"
    _add(action, change_type, "user", str(instance.pk), instance.get_username(), old, new)


def journal_deleted_user(sender: type[models.Model], instance: Any, **_: Any) -> None:
    """A deleted account stays in the journal by name."""
    _add("deleted", "user_deleted", "user", str(instance.pk), instance.get_username(), _user_document(instance), None)


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
    if isinstance(instance, BaseObjectPermission) and created:
        document = _grant_document(instance)
        _add(
            "created", "grant_added", "grant", f"{sender.__name__}:{instance.pk}", _grant_name(document), None, document
        )


def journal_revoked_grant(sender: type[models.Model], instance: models.Model, **_: Any) -> None:
    """A right taken away, directly or because its object or holder was deleted."""
    if isinstance(instance, BaseObjectPermission):
        document = _grant_document(instance)
        key = f"{sender.__name__}:{instance.pk}"
        _add("deleted", "grant_removed", "grant", key, _grant_name(document), document, None)


def _grant_name(document: dict[str, Any]) -> str:
    holder = document.get("user") or document.get("role")
    return f"{holder} {document['permission']} {document['entity']}"


class MembershipJournal:
    """Journals what a many-to-many relation of rights gains and loses.

    Gains are told by `m2m_changed`; losses by the deleted rows, so that a clear, a deleted role and a deleted account
    are told as well.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun

    def added(
        self, sender: Any, instance: Any, action: str, reverse: bool, model: type[models.Model], pk_set: Any, **_: Any
    ) -> None:
        if action != "post_add":
            return
        related = sorted(model._base_manager.filter(pk__in=pk_set), key=str)
        if reverse:
            for holder in related:
                self._journal("added", holder, [instance])
        elif related:
            self._journal("added", instance, related)

    def saved(self, sender: Any, instance: Any, created: bool, **_: Any) -> None:
        """A row written directly to the table between, without `add()`."""
        if created:
            holder, right = self._ends(instance)
            self._journal("added", holder, [right])

    def removed(self, sender: Any, instance: Any, **_: Any) -> None:
        holder, right = self._ends(instance)
        self._journal("removed", holder, [right])

    @staticmethod
    def _ends(row: Any) -> tuple[Any, Any]:
        holder, right = [getattr(row, field.name) for field in row._meta.fields if field.is_relation]
        return holder, right

    def _journal(self, verb: str, holder: Any, rights: list[Any]) -> None:
        names = [getattr(right, "codename", None) or str(right) for right in rights]
        document = {"holder": str(holder), "rights": names}
        old, new = (None, document) if verb == "added" else (document, None)
        action = "created" if verb == "added" else "deleted"
        _add(action, f"{self.noun}_{verb}", self.noun, str(holder.pk), str(holder), old, new)


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
