"""How is a commit told where the database cannot tell it, behind a pooler? Through Redis, by hints that may be lost.

Used with GOVERNANCE_WAKE_UP=redis only. Without Redis everybody learns of the change by looking, a little later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import lru_cache

import redis
import redis.asyncio
from django.conf import settings

from audit.readiness import note_state

logger = logging.getLogger(__name__)
CHANNEL = "governance:changes"
PATIENCE = 1.0  # seconds for a connection
DEAF = "Announcements in Redis are not heard: changes are seen within a second instead of at once."
PAUSE = 5.0  # seconds without another attempt after one that failed: a writer must not wait for Redis each time

_paused_until = 0.0


@lru_cache(maxsize=1)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE)


def publish(revision: int) -> None:
    """Say that the journal has come to `revision`; called after the commit, which it cannot undo any more."""
    global _paused_until
    if time.monotonic() < _paused_until:
        return
    try:
        _client(settings.REDIS_URL).publish(CHANNEL, revision)
    except redis.RedisError as error:
        _paused_until = time.monotonic() + PAUSE
        logger.warning("changes are not announced in Redis: %s", type(error).__name__)


async def hear(hint: Callable[[], None]) -> None:
    """Call `hint` for whatever is published, until cancelled."""
    failing = False
    while True:
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=PATIENCE)
        try:
            async with client.pubsub() as session:
                await session.subscribe(CHANNEL)
                failing = False
                note_state("wakeups", "")
                async for _ in session.listen():  # the first one confirms the subscription
                    hint()
        except (redis.RedisError, OSError) as error:
            if not failing:
                logger.warning("announcements in Redis are not heard: %s", type(error).__name__)
            failing = True
            note_state("wakeups", DEAF)
        finally:
            await client.aclose()
        await asyncio.sleep(PATIENCE)
