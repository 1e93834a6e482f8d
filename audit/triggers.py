"""How does the database itself keep append-only tables as they were written? Triggers in both databases.

SQL of each vendor because no library covers both: on SQLite the known ones install silently nothing.
"""

from __future__ import annotations

from typing import Any

MESSAGE = "the journal is append-only"
JOURNAL = "configuration_audit_log"
VERBS = ("UPDATE", "DELETE", "REPLACE")
_protected: dict[str, str] = {JOURNAL: "revision"}


def protect(table: str, key: str) -> None:
    """Let `install` and `lift` know of another append-only table and its primary key."""
    _protected[table] = key


def install(connection: Any, *tables: str) -> None:
    """Make the database refuse to change or delete a row of `tables`, by default of every append-only table."""
    for table in tables or _protected:
        _execute(connection, _list_installing(connection.vendor, table, _protected[table]))


def lift(connection: Any, *tables: str) -> None:
    """Take the triggers away. For tests that empty their database, and for a restore into an empty one."""
    for table in tables or _protected:
        _execute(connection, _list_lifting(connection.vendor, table))


def _name(table: str) -> str:
    return "journal_refuses" if table == JOURNAL else f"{table}_refuses"


def _list_installing(vendor: str, table: str, key: str) -> list[str]:
    name = _name(table)
    if vendor == "sqlite":
        conditions = {
            "UPDATE": f"BEFORE UPDATE ON {table}",
            "DELETE": f"BEFORE DELETE ON {table}",
            # INSERT OR REPLACE deletes the old row without telling the trigger of DELETE.
            "REPLACE": f"BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})",  # noqa: S608, constants
        }
        return [
            f"CREATE TRIGGER IF NOT EXISTS {name}_{verb} {when} BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
            for verb, when in conditions.items()
        ]
    return [
        f"""CREATE OR REPLACE FUNCTION refuse_journal_change() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION '{MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; END $$""",
        *_list_lifting(vendor, table),
        f"""CREATE TRIGGER {name}_change BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION refuse_journal_change()""",
        f"""CREATE TRIGGER {name}_truncate BEFORE TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_journal_change()""",
    ]


def _list_lifting(vendor: str, table: str) -> list[str]:
    name = _name(table)
    if vendor == "sqlite":
        return [f"DROP TRIGGER IF EXISTS {name}_{verb}" for verb in VERBS]
    return [f"DROP TRIGGER IF EXISTS {name}_{verb} ON {table}" for verb in ("change", "truncate")]


def _execute(connection: Any, statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
