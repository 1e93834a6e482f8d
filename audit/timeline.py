"""What happened to an object, in the order in which it happened? Journal rows with their differences, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from django.db import models

from audit.diffs import Difference, compare
from audit.models import ConfigurationAuditLog

ENTRIES = 20  # on one page


@dataclass(frozen=True)
class Entry:
    """One change as it is shown."""

    row: ConfigurationAuditLog

    @property
    def action(self) -> str:
        """created, updated or deleted."""
        if self.row.old_config is None:
            return "created"
        return "deleted" if self.row.new_config is None else "updated"

    @property
    def title(self) -> str:
        """``rule_created`` → ``Rule created``."""
        return self.row.change_type.replace("_", " ").capitalize()

    @cached_property
    def differences(self) -> list[Difference]:
        """What the change changed."""
        return compare(self.row.old_config, self.row.new_config)


@dataclass(frozen=True)
class Timeline:
    """A page of entries; `older` is the revision to continue before, or None at the beginning of time."""

    entries: list[Entry]
    older: int | None
    newest: bool


def read_timeline(rows: models.QuerySet[ConfigurationAuditLog], *, before: int | None = None) -> Timeline:
    """The newest entries of `rows`, or those before a revision: by key, so that a long history costs no more."""
    ordered = rows.order_by("-revision")
    if before is not None:
        ordered = ordered.filter(revision__lt=before)
    found = list(ordered[: ENTRIES + 1])
    older = found[ENTRIES - 1].revision if len(found) > ENTRIES else None
    return Timeline([Entry(row) for row in found[:ENTRIES]], older, before is None)
