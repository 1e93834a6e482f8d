"""Who may pass over the governance rules in an emergency, and who hears of it?

A change breaks the glass when its origin says why (`Origin.break_glass`). Its journal rows are marked, and hashed with
the mark. Validation, database constraints and rights hold all the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from django.core.exceptions import ValidationError
from django.db import models, transaction

from audit.changes import ChangeSet
from audit.errors import NotPermitted
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR, may_break_glass


@dataclass(frozen=True)
class Emergency:
    """A change that was stored past the governance rules: its rows in the journal, who, and why."""

    first: int  # revisions
    last: int
    batch: uuid.UUID
    changed_by: str
    reason: str


Watcher = Callable[[Emergency], None]
_watchers: list[Watcher] = []


def register_watcher(watcher: Watcher) -> None:
    """Call `watcher` after each commit of a change that broke the glass. What it raises is logged only."""
    if watcher not in _watchers:
        _watchers.append(watcher)


def list_emergencies(since: int = 0) -> models.QuerySet[ConfigurationAuditLog]:
    """The journal rows after revision `since` that were stored past the governance rules, oldest first."""
    return ConfigurationAuditLog.objects.filter(break_glass=True, revision__gt=since).order_by("revision")


def check_right(changes: ChangeSet) -> Sequence[ValidationError]:
    """Raise `NotPermitted` if somebody breaks the glass who may not; tell the watchers after the commit."""
    if not changes.break_glass:
        return []
    kind, name, _ = changes.origin.actor()
    actor = SYSTEM_ACTOR if kind == "system" else changes.origin.acting_user()
    if not may_break_glass(actor):
        _refuse(name)
    emergency = Emergency(changes.first_free, changes.revision, changes.origin.batch, name, changes.break_glass)
    for watcher in _watchers:
        transaction.on_commit(partial(watcher, emergency), robust=True)
    return []


def _refuse(name: str) -> NoReturn:
    raise NotPermitted(
        f"{name} may not break the glass: that takes the right overrides.break_glass, by a role or given to the "
        "account itself. Being a superuser is not enough."
    )
