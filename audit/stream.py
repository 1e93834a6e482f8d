"""What has changed since revision n, and where does the journal stand? Reads only; the journal is the stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from django.db import models

from audit.journal import current_revision
from audit.models import ConfigurationAuditLog, Revision

__all__ = ["Event", "Position", "changes_since", "current_revision", "read_position"]

MAX_REPLAY = 10_000  # changes that are repeated to somebody who comes back; who missed more reads the present state
PAGE = 500  # changes in one read


@dataclass(frozen=True)
class Position:
    """Where a stream stands: revisions are comparable within one epoch only."""

    epoch: str
    revision: int


@dataclass(frozen=True)
class Event:
    """One change as subscribers see it: what, not how. The documents stand in the audit trail, for who may read it."""

    revision: int
    change_type: str
    entity_type: str
    entity_id: str
    entity_name: str
    changed_by: str
    created_at: datetime
    batch: UUID
    deleted: bool

    @cached_property
    def text(self) -> str:
        """The event as a JSON object, made once however many get it."""
        return json.dumps(
            {
                "type": "change",
                "revision": self.revision,
                "change_type": self.change_type,
                "entity_type": self.entity_type,
                "entity_id": self.entity_id,
                "entity_name": self.entity_name,
                "changed_by": self.changed_by,
                "created_at": self.created_at.isoformat(),
                "batch": str(self.batch),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )


FIELDS = tuple(name for name in Event.__dataclass_fields__ if name != "deleted")


def read_position() -> Position:
    """The last committed revision, and the epoch it belongs to."""
    epoch, value = models.QuerySet(Revision).values_list("epoch", "value").get(pk=1)
    return Position(str(epoch), value)


def changes_since(revision: int, limit: int = PAGE) -> list[Event]:
    """The changes after `revision` in commit order, at most `limit`. None is ever missing between two of them."""
    rows = (
        ConfigurationAuditLog.objects.filter(revision__gt=revision)
        .order_by("revision")
        .values_list(*FIELDS, models.Q(new_config__isnull=True))[:limit]
    )
    return [Event(*row) for row in rows]
