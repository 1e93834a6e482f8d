"""How does the database itself keep the journal append-only? Triggers in both databases, and how tests lift them.

SQL of each vendor because no library covers both: on SQLite the known ones install silently nothing.
"""

from __future__ import annotations

from typing import Any

MESSAGE = "the journal is append-only"
JOURNAL = "configuration_audit_log"

INSTALL = {
    "sqlite": [
        f"""CREATE TRIGGER IF NOT EXISTS journal_refuses_{verb} BEFORE {verb} ON {JOURNAL}
            BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"""
        for verb in ("UPDATE", "DELETE")
    ]
    # INSERT OR REPLACE deletes the old row without telling the trigger of DELETE.
    + [
        f"""CREATE TRIGGER IF NOT EXISTS journal_refuses_REPLACE BEFORE INSERT ON {JOURNAL}
            WHEN EXISTS (SELECT 1 FROM {JOURNAL} WHERE revision = NEW.revision)
            BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"""  # noqa: S608, constants
    ],
    "postgresql": [
        f"""CREATE OR REPLACE FUNCTION refuse_journal_change() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION '{MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; END $$""",
        f"DROP TRIGGER IF EXISTS journal_refuses_change ON {JOURNAL}",
        f"""CREATE TRIGGER journal_refuses_change BEFORE UPDATE OR DELETE ON {JOURNAL}
            FOR EACH ROW EXECUTE FUNCTION refuse_journal_change()""",
        f"DROP TRIGGER IF EXISTS journal_refuses_truncate ON {JOURNAL}",
        f"""CREATE TRIGGER journal_refuses_truncate BEFORE TRUNCATE ON {JOURNAL}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_journal_change()""",
    ],
}
LIFT = {
    "sqlite": [f"DROP TRIGGER IF EXISTS journal_refuses_{verb}" for verb in ("UPDATE", "DELETE", "REPLACE")],
    "postgresql": [
        f"DROP TRIGGER IF EXISTS journal_refuses_change ON {JOURNAL}",
        f"DROP TRIGGER IF EXISTS journal_refuses_truncate ON {JOURNAL}",
    ],
}


def install(connection: Any) -> None:
    """Make the database refuse to change or delete a journal row."""
    _execute(connection, INSTALL)


def lift(connection: Any) -> None:
    """Take the triggers away. For tests that empty their database, and for a restore into an empty one."""
    _execute(connection, LIFT)


def _execute(connection: Any, statements: dict[str, list[str]]) -> None:
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
