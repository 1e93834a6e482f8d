"""What tells a process that something was committed? A hint that may be lost: readers also look by themselves.

PostgreSQL notifies a session of our own. SQLite is asked for the revision, over a connection that does nothing else: it
sees the commits of every other connection, of this process or another.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection

from audit import hints
from audit.journal import WAKE_UP_CHANNEL
from audit.readiness import note_state

logger = logging.getLogger(__name__)
POLL = 0.02  # seconds between two questions to SQLite: some 20 µs each
PATIENCE = (0.05, 0.2, 0.5, 1.0)  # seconds before the first, second, … attempt to listen again
DEAF = "The database cannot be listened to: changes are seen within a second instead of at once."
KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}
NOT_OF_LIBPQ = ("cursor_factory", "context", "prepare_threshold")


async def watch_commits(hint: Callable[[], None]) -> None:
    """Call `hint` soon after every commit, until cancelled; and after a gap in which one may be missed."""
    try:
        if settings.WAKE_UP == "redis":
            await hints.hear(hint)
        elif connection.vendor == "postgresql":
            await _listen(hint)
        else:
            await _poll(hint)
    finally:
        note_state("wakeups", "")


async def _listen(hint: Callable[[], None]) -> None:
    failures = 0
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(**_session_parameters(), autocommit=True) as session:
                await session.execute(f"LISTEN {WAKE_UP_CHANNEL}")
                if failures:
                    logger.info("listening to the database again")
                failures = 0
                note_state("wakeups", "")
                hint()  # what was notified while nobody listened is not repeated
                async for _ in session.notifies():
                    hint()
        except (psycopg.Error, OSError) as error:
            if not failures:
                logger.warning("the database cannot be listened to: %s", type(error).__name__)
            note_state("wakeups", DEAF)
        await asyncio.sleep(PATIENCE[min(failures, len(PATIENCE) - 1)])
        failures += 1


def _session_parameters() -> dict[str, Any]:
    """A session of its own: one from a pool, or behind a pooler, hears nothing."""
    given = connection.get_connection_params()
    # No statement is long here, and the session is idle by design.
    own = {name: value for name, value in given.items() if name not in NOT_OF_LIBPQ}
    return {**KEEPALIVE, "connect_timeout": 5, **own, "application_name": "governance listener"}


async def _poll(hint: Callable[[], None]) -> None:
    session = sqlite3.connect(connection.get_connection_params()["database"], timeout=0, isolation_level=None)
    try:
        seen: object = None
        while True:
            found = _ask(session)
            if found is None or found != seen:
                seen = found
                hint()
            await asyncio.sleep(POLL)
    finally:
        session.close()


def _ask(session: sqlite3.Connection) -> object:
    """Where the journal stands; None if it cannot be said now."""
    try:
        return session.execute("SELECT value, epoch FROM configuration_revision").fetchone()
    except sqlite3.Error:
        return None
