"""What is measured on? Rules through the product's own door, and a journal of any length with a true hash chain.

Run as `python -m bench.data RULES JOURNAL` in the environment of a scratch installation: it fills up to those numbers
and prints how far it is, and at the end what a client needs to know, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import django

django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402
from knox.models import AuthToken  # noqa: E402

from audit import journal  # noqa: E402
from audit.changes import change_set  # noqa: E402
from audit.documents import digest  # noqa: E402
from audit.exchange import apply, parse  # noqa: E402
from audit.governed import save_all  # noqa: E402
from audit.models import ConfigurationAuditLog, Revision  # noqa: E402
from audit.permissions import SYSTEM_ACTOR  # noqa: E402
from plugins.services import sync_plugins  # noqa: E402
from rules.choices import RuleType, Severity  # noqa: E402
from rules.models import AnalysisRule  # noqa: E402

STARTER = Path(__file__).resolve().parent.parent / "governance_config" / "presets" / "starter.yaml"
ACCOUNT = "bench"
CHUNK = 1_000  # rules a change set
ROWS = 20_000  # journal rows a write
SEVERITIES = [str(each) for each in Severity if each != Severity.CRITICAL]
PEOPLE = [f"person-{number}" for number in range(50)]
COLUMNS = [field.column for field in ConfigurationAuditLog._meta.concrete_fields]


def lay_ground() -> None:
    """Plugins, personas and governance rules of the starter configuration, and an account that may administrate."""
    if User.objects.filter(username=ACCOUNT).exists():
        return
    sync_plugins()
    document = parse(STARTER.read_bytes())
    wanted = ("format", "title", "personas", "governance_rules")
    apply({name: document[name] for name in wanted}, user=SYSTEM_ACTOR, reason="ground of the benchmark")
    account = User(username=ACCOUNT, is_staff=True)
    account.set_unusable_password()
    with change_set(reason="account of the benchmark"):
        account.save()
        # Not a superuser: rights are asked as they are of everybody.
        account.groups.add(Group.objects.get(name="administrator"))


def build_rule(number: int) -> AnalysisRule:
    """A rule like those that people write."""
    types = list(RuleType.values)
    return AnalysisRule(
        name=f"bench-{number:05}",
        title=f"No call of legacy function {number}",
        description=f"Function legacy_{number} goes away with the next release; whoever calls it breaks then. " * 2,
        rule_type=types[number % len(types)],
        severity=SEVERITIES[number % len(SEVERITIES)],
        plugin_id="patterns",
        configuration={"pattern": rf"\blegacy_{number}\s*\("},
        file_types=[".py"] if number % 3 else [],
        file_patterns=[r"^src/"] if number % 5 == 0 else [],
        message=f"legacy_{number} goes away with the next release.",
        remediation="Call the function that replaces it.",
        references=["https://example.org/guide"],
        tags=["legacy", f"team-{number % 20}"],
        examples={"match": [f"legacy_{number}(value)"], "no_match": [f"modern_{number}(value)"]},
        enabled=True,
    )


def fill_rules(wanted: int) -> None:
    """Create rules until there are so many, validated like everybody's."""
    have = AnalysisRule.objects.count()
    while have < wanted:
        count = min(CHUNK, wanted - have)
        with change_set(reason="rules of the benchmark"):
            save_all([build_rule(have + each) for each in range(count)])
        have += count
        tell(have, wanted)


def fill_journal(wanted: int) -> None:
    """Append rows until the journal is so long: updates of rules, plugins and assignments by fifty people in turn."""
    rules = list(AnalysisRule.objects.order_by("pk").values_list("pk", "name"))
    state = models.QuerySet(Revision).get(pk=1)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            # Of this process alone, and of a file that nobody misses: five indexes grow in random places.
            cursor.execute("PRAGMA synchronous=OFF")
            cursor.execute("PRAGMA cache_size=-600000")
    value, last_hash = state.value, state.last_hash
    while value < wanted:
        count = min(ROWS, wanted - value)
        rows = list(invent_rows(value + 1, count, last_hash, rules))
        value, last_hash = rows[-1]["revision"], rows[-1]["row_hash"]
        with transaction.atomic():
            journal.lock()
            write_rows(rows)
            journal.store(value, last_hash)
        tell(value, wanted)


def invent_rows(first: int, count: int, previous: str, rules: Sequence[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    """Rows of the journal, each with the hash of the one before."""
    # Before anything that really happens here, and one each second.
    start = timezone.now() - timedelta(days=400)
    for revision in range(first, first + count):
        key, name = rules[revision * 7 % len(rules)]
        kind = revision % 20
        change_type, entity_type, entity_id, entity_name = (
            ("plugin_toggled", "plugin", "metrics", "metrics")
            if kind == 0
            else ("persona_assigned", "persona_assignment", str(key), f"security for {name}")
            if kind == 1
            else ("rule_updated", "analysis_rule", str(key), name)
        )
        row = {
            "revision": revision,
            "change_type": change_type,
            "entity_type": entity_type,
            "entity_id": entity_id,
            "entity_name": entity_name,
            "old_config": {"severity": "low", "title": name, "message": "It goes away.", "enabled": True},
            "new_config": {"severity": "high", "title": name, "message": "It goes away.", "enabled": True},
            "changed_by": PEOPLE[revision % len(PEOPLE)],
            "actor_kind": "user",
            "actor_id": str(revision % len(PEOPLE)),
            "change_reason": "a change of the benchmark",
            "warnings": [],
            "source": "api",
            "batch": UUID(int=(0xBE << 120) | revision // 10),
            "ip_address": "192.0.2.1",
            "user_agent": "bench",
            "created_at": start + timedelta(seconds=revision),
            "history_id": None,
            "history_digest": "",
            "previous_hash": previous,
            "break_glass": False,
        }
        previous = row["row_hash"] = digest({name: row[name] for name in journal.HASHED})
        yield row


def write_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Store rows of the journal: by COPY on PostgreSQL, by one prepared INSERT on SQLite."""
    fields = ConfigurationAuditLog._meta.concrete_fields
    names = ", ".join(f'"{column}"' for column in COLUMNS)
    table = ConfigurationAuditLog._meta.db_table
    if connection.vendor == "postgresql":
        connection.ensure_connection()
        with connection.connection.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(
                    [json.dumps(row[f.column]) if isinstance(f, models.JSONField) else row[f.column] for f in fields]
                )
        return
    marks = ", ".join("?" for _ in COLUMNS)
    prepared = [[field.get_db_prep_save(row[field.column], connection) for field in fields] for row in rows]
    connection.connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", prepared)  # noqa: S608, own names


def describe() -> dict[str, Any]:
    """What a client needs: a token, objects to ask for, and how large everything is."""
    account = User.objects.get(username=ACCOUNT)
    revision = journal.current_revision()
    return {
        "token": AuthToken.objects.create(account)[1],
        "rules": list(AnalysisRule.objects.order_by("pk").values_list("pk", flat=True)[:1000]),
        "security_rules": list(
            AnalysisRule.objects.filter(rule_type="security").order_by("pk").values_list("pk", flat=True)[:500]
        ),
        "rule_count": AnalysisRule.objects.count(),
        "revision": revision,
        "middle": {
            name: str(value)
            for name, value in ConfigurationAuditLog.objects.filter(revision__gte=revision // 2)
            .order_by("revision")
            .values("entity_type", "entity_id", "changed_by", "batch", "change_type")[0]
            .items()
        },
    }


def tell(done: int, wanted: int) -> None:
    """One line of progress for the parent."""
    print("progress", done, wanted, flush=True)


def main(rules: int, length: int) -> None:
    """Fill, bring the planner's figures up to date, and describe."""
    lay_ground()
    fill_rules(rules)
    fill_journal(length)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    print(json.dumps(describe()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
