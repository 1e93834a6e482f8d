"""Which configuration was in force at a revision? The present one, with what changed since as history has it.

The clock stood at the moment of that change: an override counts that had not lapsed by then. The answer is the one that
was given then, to the byte, under the fields and the secrets' masks of this release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db.models import Max, QuerySet

from audit.models import ConfigurationAuditLog
from overrides.configuration import Configuration, put_in_force
from overrides.effective import find_rules, load_configuration
from overrides.stored import ENTITY_TYPES, KINDS, Mark, parts, put_history, without


class HistoryMissing(Exception):
    """Rows of history that the journal names are not there: somebody has taken them away."""


def recall_configuration(revision: int) -> Configuration:
    """The configuration in force right after `revision`, which must be in the journal and the last of its batch."""
    present = load_configuration()
    row = ConfigurationAuditLog.objects.only("created_at", "row_hash").get(revision=revision)
    touched = _list_touched(revision, present.revision)
    stored = without(present.stored, touched)
    for model in KINDS:
        keys = _find_former(model.entity_type, touched.get(model.entity_type, set()), revision)
        if sum(model.history.filter(history_id__in=part).count() for part in parts(keys)) != len(keys):
            raise HistoryMissing(f"History of revision {revision} is missing: run `verify_audit`.")
        stored = put_history(stored, model, keys)
    stored = replace(stored, mark=Mark(present.epoch, revision, row.row_hash), changed_at=row.created_at)
    return put_in_force(stored, row.created_at, present, find_rules(present.stored, stored, touched))


def _list_touched(start: int, end: int) -> dict[str, set[str]]:
    """Entity type → ids of what changed after `start`."""
    rows = ConfigurationAuditLog.objects.filter(
        revision__gt=start, revision__lte=end, entity_type__in=ENTITY_TYPES
    ).order_by()
    touched: dict[str, set[str]] = {}
    for entity_type, key in rows.values_list("entity_type", "entity_id").distinct():
        touched.setdefault(entity_type, set()).add(key)
    return touched


def _find_former(entity_type: str, ids: set[str], revision: int) -> list[int]:
    """Keys of the history rows that say how the objects `ids` were at `revision`; none for those not there."""
    found: list[int] = []
    for part in parts(sorted(ids)):
        rows = ConfigurationAuditLog.objects.filter(entity_type=entity_type, entity_id__in=part, revision__lte=revision)
        last = _last_of_each(rows)
        there = ConfigurationAuditLog.objects.filter(revision__in=last, new_config__isnull=False)
        found += there.values_list("history_id", flat=True)
    return found


def _last_of_each(rows: QuerySet[ConfigurationAuditLog]) -> list[int]:
    groups: QuerySet[ConfigurationAuditLog, Mapping[str, Any]] = rows.order_by().values("entity_id")
    return list(groups.annotate(last=Max("revision")).values_list("last", flat=True))
