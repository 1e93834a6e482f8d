"""Who sends to the webhooks? A companion of each relay, which looks what is due and has it sent by a few threads."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from django.db import connection
from django.utils import timezone

from audit.relay import Relay, accompany
from audit.stream import Position
from overrides.posting import TIMEOUT
from overrides.webhooks import deliver_pending, list_due

logger = logging.getLogger(__name__)
TICK = 2.0  # seconds between looks at the clock
WORKERS = 8  # webhooks that are sent to at once


async def run_webhooks(relay: Relay) -> None:
    """Until cancelled. A webhook that is slow or fails holds up no other one."""
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="webhooks")
    busy: dict[int, asyncio.Future[None]] = {}
    try:
        while True:
            place = Position(relay.epoch, relay.position)
            busy = {key: sending for key, sending in busy.items() if not sending.done()}
            for key in await _find_due(relay):
                if key not in busy:
                    busy[key] = asyncio.get_running_loop().run_in_executor(pool, _send, key)
            await relay.wait_beyond(place, TICK)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if busy:
            with suppress(Exception):
                await asyncio.wait(busy.values(), timeout=TIMEOUT)


async def _find_due(relay: Relay) -> list[int]:
    try:
        return await relay.ask(list_due, timezone.now())
    except Exception as error:
        logger.warning("webhooks wait for the database: %s", type(error).__name__)
        await asyncio.sleep(TICK)
        return []


def _send(key: int) -> None:
    try:
        deliver_pending(key)
    except Exception:
        logger.exception("webhook %s could not be sent to", key)
    finally:
        connection.close()  # what is sent is rare, connections are few


def connect() -> None:
    """Have every relay send to the webhooks."""
    accompany(run_webhooks)
