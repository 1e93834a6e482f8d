"""A large installation to measure: many rules with personas, and a long journal whose hashes are true.

    DATABASE_URL=… .venv/bin/python -m tests.masses RULES JOURNAL_ROWS

fills an installation that is migrated and has no rules yet; what is in its journal already counts.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta

import django

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "governance_config.settings")
    django.setup()

from django.db import connection, models, transaction
from django.utils import timezone

from audit.changes import change_set
from audit.governed import save_all
from audit.journal import hash_row, lock
from audit.models import ConfigurationAuditLog, Revision
from personas.models import Persona
from rules.models import AnalysisRule
from tests.factories import build_rule, make_persona, make_plugins

PART = 2_000  # rows written at once
PEOPLE = 50  # who changed something
KINDS = (("rule_updated", "analysis_rule"), ("plugin_toggled", "plugin"), ("persona_assigned", "persona_assignment"))


def fill_rules(count: int) -> None:
    """`count` rules, each with the persona of its type, through the kernel."""
    make_plugins()
    for name, types in (("security", ["security"]), ("guest", [])):
        if not Persona.objects.filter(name=name).exists():
            make_persona(name, rule_types=types)
    present = AnalysisRule.objects.count()
    for first in range(present, count, PART):
        with change_set(reason="a large installation"):
            save_all([build_rule(name=f"mass-{number:06}") for number in range(first, min(first + PART, count))])


def fill_journal(count: int) -> None:
    """Lengthen the journal to `count` rows, as years of changes would; their objects need not exist any more."""
    while (missing := count - models.QuerySet(Revision).get(pk=1).value) > 0:
        with transaction.atomic():
            revision, last_hash = lock()
            rows = []
            for row in build_changes(revision, min(missing, PART)):
                row.previous_hash = last_hash
                last_hash = row.row_hash = hash_row(row)
                rows.append(row)
            models.QuerySet(ConfigurationAuditLog).bulk_create(rows, batch_size=500)
            models.QuerySet(Revision).filter(pk=1).update(value=rows[-1].revision, last_hash=last_hash)


def build_changes(revision: int, count: int) -> Iterator[ConfigurationAuditLog]:
    """`count` unsaved journal rows after `revision`, without their hashes; ten make a batch."""
    document = {"title": "No eval", "severity": "high", "enabled": True, "message": "eval runs whatever it is given."}
    # Three years ago, then a change each minute and a half.
    start, batch = timezone.now() - timedelta(days=3 * 365), uuid.uuid4()
    for number in range(revision + 1, revision + count + 1):
        change_type, entity_type = KINDS[0] if number % 10 else KINDS[1 + number // 10 % 2]
        batch = uuid.uuid4() if number % 10 == 0 else batch
        yield ConfigurationAuditLog(
            revision=number,
            change_type=change_type,
            entity_type=entity_type,
            entity_id=str(number % 10_007),
            entity_name=f"mass-{number % 10_007:06}",
            old_config=document,
            new_config={**document, "severity": "low", "tags": [f"t{number % 7}"]},
            changed_by=f"person-{number % PEOPLE}",
            actor_kind="user",
            actor_id=str(number % PEOPLE),
            change_reason="tighten the rule",
            source="api",
            batch=batch,
            ip_address="192.0.2.1",
            user_agent="bench",
            created_at=start + timedelta(seconds=90 * number),
        )


def main(rules: int, rows: int) -> None:
    """Fill the installation, and let PostgreSQL count what is there."""
    fill_rules(rules)
    fill_journal(rows)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
