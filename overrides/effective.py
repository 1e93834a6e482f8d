"""Which configuration is in force now? `load_configuration()`: frozen, plain values, all of one revision.

It is the same for everybody until the revision moves or `valid_until` passes, so each process keeps the last one. Each
reading asks for the revision, so nobody is told less than what was committed before; what the journal names since is
read again, and nothing else. With Redis a process that starts takes what another one has built and goes on from there;
Redis being down costs only that.
A lapse of an override changes the answer without a change of a row: readers judge by the clock.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone

from audit import encryption
from audit.changes import change_set, current_change_set
from audit.metrics import count_cache
from audit.models import ConfigurationAuditLog
from overrides import sharing
from overrides.configuration import Configuration, put_in_force
from overrides.models import GovernanceRuleOverride
from overrides.stored import ENTITY_TYPES, Mark, Stored, read_again, read_all, read_mark
from overrides.validation import merge_patch
from personas.models import PersonaRuleAssignment
from rules.models import AnalysisRule

ATTEMPTS = 5  # reads before the writers' lock is taken to get an undisturbed one
MAX_STEPS = 1_000  # changes that are followed one by one; after more of them everything is read

_kept: Configuration | None = None
_building = threading.Lock()


def load_configuration(now: datetime | None = None) -> Configuration:
    """The configuration in force at `now` (default: the present), built once for each revision and process."""
    global _kept
    moment = now or timezone.now()
    opened = current_change_set()
    if opened is not None and opened.changes:
        # What is not committed may be undone: it is nobody else's configuration.
        return put_in_force(read_all(read_mark()), moment)
    kept = seen = _kept
    if kept is not None and kept.answers(read_mark(), moment):
        count_cache("configuration", "hit")
        return kept
    with _building:
        kept = _kept
        if kept is None or kept is seen or not kept.answers(read_mark(), moment):
            _kept = kept = _renew(kept, moment)
    return kept


def reveal_rules(
    applied: Mapping[str, tuple[str, Sequence[int]]],
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The configurations of rules with some overrides applied, secrets in clear: never store or show them.

    `applied` tells, for each key of the answer, the name of the rule and the ids of the overrides. And of rules with
    secrets that cannot be decrypted, by name, what to do about it. Whoever asks makes sure that the revision has not
    moved.
    """
    overrides = GovernanceRuleOverride.objects.filter(pk__in={key for _, keys in applied.values() for key in keys})
    patches = dict(overrides.values_list("pk", "override_config"))
    rules = AnalysisRule.objects.filter(name__in={name for name, _ in applied.values()})
    configurations = dict(rules.values_list("name", "configuration"))
    found: dict[str, dict[str, Any]] = {}
    told: dict[str, str] = {}
    for label, (name, keys) in applied.items():
        if name not in configurations:
            continue
        row = {"configuration": configurations[name]}
        for key in keys:
            row = merge_patch(row, patches.get(key, {}))
        found[label], lost = encryption.reveal_readable(row["configuration"])
        if lost:
            told[name] = " ".join(
                f"The secret {place.strip('/')} of its configuration cannot be used. {error}"
                for place, error in lost.items()
            )
    return found, told


def _renew(kept: Configuration | None, moment: datetime) -> Configuration:
    """Bring `kept` up to date. Equal readings of the revision before and after: nothing was committed in between."""
    before = kept
    for _ in range(ATTEMPTS):
        before = _follow(before, moment)
        if read_mark() == before.stored.mark:
            return before
    with change_set():
        return _follow(before, moment)


def _follow(before: Configuration | None, moment: datetime) -> Configuration:
    """What is in force now, made from `before` if the journal tells what changed since.

    Rows that somebody changes meanwhile are newer than the mark; the next call reads them again, as the journal has it.
    """
    mark = read_mark()
    if before is None or before.epoch != mark.epoch:
        stored = sharing.fetch(mark)
        if stored is not None:
            count_cache("configuration", "shared")
        before = put_in_force(stored, moment) if stored is not None else None
    if before is not None and before.stored.mark == mark:
        return put_in_force(before.stored, moment, before, ())
    steps = _list_steps(before.stored.mark, mark) if before is not None else None
    if before is None or steps is None:
        count_cache("configuration", "miss")
        stored = read_all(mark)
        sharing.share_later(stored)
        return put_in_force(stored, moment)
    count_cache("configuration", "delta")
    touched, changed_at = steps
    stored = read_again(before.stored, mark, changed_at, touched)
    sharing.share_at_times(stored)
    return put_in_force(stored, moment, before, find_rules(before.stored, stored, touched))


def _list_steps(start: Mark, end: Mark) -> tuple[dict[str, set[str]], datetime] | None:
    """What changed between two marks of one history, and when last; None if that is too much or not to be told."""
    if start.epoch != end.epoch or not start.revision < end.revision <= start.revision + MAX_STEPS:
        return None
    rows = ConfigurationAuditLog.objects.filter(revision__gte=start.revision, revision__lte=end.revision)
    touched: dict[str, set[str]] = {}
    known, changed_at = start.revision == 0, None
    for revision, row_hash, entity_type, entity_id, created_at in rows.order_by("revision").values_list(
        "revision", "row_hash", "entity_type", "entity_id", "created_at"
    ):
        changed_at = created_at
        if revision == start.revision:
            known = row_hash == start.last_hash
        elif entity_type in ENTITY_TYPES:
            touched.setdefault(entity_type, set()).add(entity_id)
    return (touched, changed_at) if known and changed_at is not None else None


def find_rules(before: Stored, after: Stored, touched: dict[str, set[str]]) -> set[str]:
    """Names of the rules that changed, or whose personas did."""
    keys = {int(key) for key in touched.get(AnalysisRule.entity_type, ())}
    for key in map(int, touched.get(PersonaRuleAssignment.entity_type, ())):
        keys |= {stored.assignments[key].rule_id for stored in (before, after) if key in stored.assignments}
    return {stored.rules[key].name for stored in (before, after) for key in keys if key in stored.rules}
