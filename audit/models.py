"""What has changed, who changed it, and how far has the configuration come? The revision and the journal."""

from __future__ import annotations

import uuid
from typing import Any, NoReturn

from django.db import models

from audit.errors import UngovernedWrite


class Revision(models.Model):
    """One row: how far the journal has come. Its lock is the commit lock of every change set.

    `value` is the revision of the last journal row, `last_hash` that row's hash, `epoch` the identity of this stream: a
    restored backup starts a new one, so that a client never resumes in a history that is not its own.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    value = models.BigIntegerField(default=0)
    last_hash = models.CharField(max_length=64, default="", blank=True)
    epoch = models.UUIDField(default=uuid.uuid4)

    class Meta:
        db_table = "configuration_revision"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="configuration_revision_is_one_row")]

    def __str__(self) -> str:
        return f"revision {self.value}"


class JournalQuerySet(models.QuerySet["ConfigurationAuditLog"]):
    """Reads only: `journal.append` is the one writer, and the database refuses everybody else."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("The journal is append-only and written by change sets alone.")

    create = update = delete = bulk_create = bulk_update = get_or_create = update_or_create = _refuse
    acreate = aupdate = adelete = abulk_create = abulk_update = _refuse


class ConfigurationAuditLog(models.Model):
    """One row for each changed object, in commit order without gaps: the journal. Its key is the revision."""

    revision = models.BigIntegerField(primary_key=True)
    change_type = models.CharField(max_length=50)
    entity_type = models.CharField(max_length=50)
    entity_id = models.CharField(max_length=100)
    entity_name = models.CharField(max_length=200, blank=True)
    old_config = models.JSONField(null=True)
    new_config = models.JSONField(null=True)
    changed_by = models.CharField(max_length=150)
    actor_kind = models.CharField(max_length=20)
    actor_id = models.CharField(max_length=100, blank=True)
    change_reason = models.TextField(null=True)
    warnings = models.JSONField(default=list)
    break_glass = models.BooleanField(default=False, help_text="Stored past the governance rules, in an emergency.")
    source = models.CharField(max_length=20)
    batch = models.UUIDField()
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.TextField(null=True)
    created_at = models.DateTimeField()
    history_id = models.BigIntegerField(null=True)
    history_digest = models.CharField(max_length=64, blank=True)
    previous_hash = models.CharField(max_length=64, blank=True)
    row_hash = models.CharField(max_length=64)

    objects = JournalQuerySet.as_manager()

    class Meta:
        db_table = "configuration_audit_log"
        base_manager_name = "objects"
        ordering = ["-revision"]
        verbose_name = "change"
        verbose_name_plural = "journal"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["change_type", "-revision"], name="audit_change_type"),
            models.Index(fields=["entity_type", "entity_id", "-revision"], name="audit_entity"),
            models.Index(fields=["entity_type", "-revision"], name="audit_entity_type"),
            models.Index(fields=["entity_id", "-revision"], name="audit_entity_id"),
            models.Index(fields=["changed_by", "-revision"], name="audit_changed_by"),
            models.Index(fields=["changed_by", "change_type", "-revision"], name="audit_changed_by_type"),
            models.Index(fields=["batch", "-revision"], name="audit_batch"),
            models.Index(fields=["created_at", "-revision"], name="audit_created_at"),
            models.Index(fields=["-revision"], condition=models.Q(break_glass=True), name="audit_break_glass"),
        ]

    def __str__(self) -> str:
        return f"{self.revision}: {self.change_type} {self.entity_name or self.entity_id}"

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("The journal is append-only and written by change sets alone.")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite("The journal is append-only: nobody deletes a change.")


class WatchCursor(models.Model):
    """How far a named watcher or timer has come, and which process holds it until when. No configuration."""

    name = models.CharField(max_length=100, primary_key=True)
    epoch = models.CharField(max_length=36, blank=True)
    revision = models.BigIntegerField(default=0)
    owner = models.CharField(max_length=32, blank=True)
    leased_until = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0, help_text="How often what comes next has failed.")
    last_error = models.CharField(max_length=200, blank=True, help_text="Kind of the last error.")

    class Meta:
        db_table = "configuration_watch_cursors"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} at {self.revision}"
