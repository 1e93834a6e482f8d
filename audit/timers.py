"""What is due by the clock, and who does it? Timers that the storeys register; one process at a time runs each.

Nothing may depend on them: what lapses is judged by readers, a timer only writes it down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.utils import timezone

from audit.leases import claim_turn
from audit.relay import Desk, Relay, accompany

logger = logging.getLogger(__name__)
TICK = 5.0  # seconds between looks at the clock


@dataclass(frozen=True)
class Timer:
    """A function that is called with no arguments every so many seconds, by one of all processes."""

    name: str
    call: Callable[[], Any]
    every: float


_timers: dict[str, Timer] = {}


def register_timer(call: Callable[[], Any], *, name: str, every: float = 60.0) -> None:
    """Have the relays of all servers call `call` once in `every` seconds (at least some), between them."""
    _timers[name] = Timer(name, call, every)


def run_due() -> None:
    """Call what is due and not done by another process; one that fails waits for its next turn."""
    try:
        for timer in list(_timers.values()):
            try:
                if claim_turn(f"timer:{timer.name}", timer.every, timezone.now()):
                    timer.call()
            except Exception:
                logger.exception("timer %s failed", timer.name)
    finally:
        connection.close()


async def run_timers(relay: Relay) -> None:
    """Until cancelled."""
    desk = Desk("timers")
    try:
        while True:
            if _timers:
                await desk.ask(run_due)
            await asyncio.sleep(TICK)
    finally:
        await desk.close()


def connect() -> None:
    """Have every relay run the timers."""
    accompany(run_timers)
