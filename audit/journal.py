"""How is a change written down? `append` is the one writer of the journal, `configuration_audit_log`.

Every row carries the hash of the row before it; the revision row carries the last one. A row's hash covers everything
the row says, over the masked documents, so that rotating an encryption key leaves it true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from django.conf import settings
from django.db import connection, models, transaction

from audit import hints
from audit.documents import digest
from audit.models import ConfigurationAuditLog, Revision

HASHED = (
    *("revision", "change_type", "entity_type", "entity_id", "entity_name", "old_config", "new_config"),
    *("changed_by", "actor_kind", "actor_id", "change_reason", "warnings", "source", "batch", "ip_address"),
    *("user_agent", "created_at", "history_id", "history_digest", "previous_hash"),
)
BATCH_SIZE = 500  # rows an INSERT: within SQLite's limit of bound values
WAKE_UP_CHANNEL = "governance"


@dataclass(frozen=True)
class Change:
    """One changed object: its journal row to be, and the object itself for the checks.

    `old` and `new` are masked documents; one of them is None for a created or deleted object.
    """

    revision: int
    action: str  # created, updated, deleted
    change_type: str
    entity_type: str
    entity_id: str
    entity_name: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    instance: models.Model | None = None
    history_id: int | None = None
    history_digest: str = ""


class Circumstances(Protocol):
    """What `append` needs of a change set."""

    origin: Any
    started_at: Any
    last_hash: str
    reason: str
    warnings: list[str]
    break_glass: str


def lock() -> tuple[int, str]:
    """Lock the revision row until the transaction ends; return its value and the last hash."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE configuration_revision SET value = value WHERE id = 1 RETURNING value, last_hash")
        row = cursor.fetchone()
    if row is None:
        raise RuntimeError("The revision row is missing: run `manage.py migrate`.")
    return row


def append(changes: Sequence[Change], circumstances: Circumstances) -> str:
    """Write one journal row for each change; return the hash of the last. The caller holds the lock."""
    kind, name, key = circumstances.origin.actor()
    previous, rows = circumstances.last_hash, []
    for change in changes:
        row = ConfigurationAuditLog(
            revision=change.revision,
            change_type=change.change_type,
            entity_type=change.entity_type,
            entity_id=change.entity_id[:100],
            entity_name=change.entity_name[:200],
            old_config=change.old,
            new_config=change.new,
            changed_by=name,
            actor_kind=kind,
            actor_id=key,
            change_reason=circumstances.reason or None,
            warnings=circumstances.warnings,
            break_glass=bool(circumstances.break_glass),
            source=circumstances.origin.source,
            batch=circumstances.origin.batch,
            ip_address=circumstances.origin.ip_address,
            user_agent=circumstances.origin.user_agent or None,
            created_at=circumstances.started_at,
            history_id=change.history_id,
            history_digest=change.history_digest,
            previous_hash=previous,
        )
        previous = row.row_hash = hash_row(row)
        rows.append(row)
    models.QuerySet(ConfigurationAuditLog).bulk_create(rows, batch_size=BATCH_SIZE)
    return previous


def store(value: int, last_hash: str) -> None:
    """Store how far the journal has come; on PostgreSQL wake the listeners when, and only if, this commits."""
    models.QuerySet(Revision).filter(pk=1).update(value=value, last_hash=last_hash)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [WAKE_UP_CHANNEL, str(value)])
    if settings.WAKE_UP == "redis":
        transaction.on_commit(partial(hints.publish, value))


def hash_row(row: ConfigurationAuditLog) -> str:
    """The hash that `row` should carry. A mark that is not there is not hashed: rows from before it keep theirs."""
    marks = {"break_glass": True} if row.break_glass else {}
    return digest({name: getattr(row, name) for name in HASHED} | marks)


def current_revision() -> int:
    """The last committed revision."""
    return models.QuerySet(Revision).values_list("value", flat=True).get(pk=1)
