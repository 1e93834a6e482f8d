"""How many requests may somebody send in a minute? A count for each user (or address) and scope, without the database.

The counts are shared through Redis where there is one, and kept by the process where there is none. Each minute of the
clock has a count of its own, which forgets nobody and costs one step. When Redis does not answer, reads and writes are
let through, for the limit protects the server from mistakes; signing in is counted by each process alone, for there it
protects passwords.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from audit.middleware import read_address
from audit.problems import Problem

WINDOW = 60  # seconds
MAX_COUNTED = 100_000  # callers that a process counts in one window
PATIENCE = 5  # seconds without asking a Redis that did not answer

logger = logging.getLogger(__name__)


class LocalCounts:
    """The counts of this process, for the running window."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window = 0
        self._counts: dict[str, int] = {}

    def count(self, key: str, window: int) -> int:
        """One more for `key`; how many it are in `window`."""
        with self._lock:
            if window != self._window or len(self._counts) >= MAX_COUNTED:
                self._window, self._counts = window, {}
            self._counts[key] = self._counts.get(key, 0) + 1
            return self._counts[key]

    def clear(self) -> None:
        """Forget everybody."""
        with self._lock:
            self._counts = {}


class SharedCounts:
    """The counts of all processes, in Redis. After a failure it is left alone for a while: each attempt takes time."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    def count(self, key: str, window: int, now: float) -> int | None:
        """One more for `key`; how many it are in `window`, or None if Redis does not answer."""
        if now < self._silent_until:
            return None
        name = f"rate:{window}:{key}"
        try:
            cache.add(name, 0, 2 * WINDOW)
            return cache.incr(name)
        except Exception as error:
            self._silent_until = now + PATIENCE
            logger.warning("requests are not counted together: %s", type(error).__name__)
            return None

    def clear(self) -> None:
        """Ask again."""
        self._silent_until = 0.0


local, shared = LocalCounts(), SharedCounts()


def count_request(scope: str, caller: str, now: float | None = None) -> int | None:
    """Count a request of `caller`; the seconds to wait if it is one too many, else None."""
    limit = settings.RATES[scope]
    if not limit:
        return None
    moment = time.time() if now is None else now
    window = int(moment // WINDOW)
    key = f"{scope}:{caller}"
    seen = shared.count(key, window, moment) if settings.REDIS_URL else local.count(key, window)
    if seen is None:
        seen = local.count(key, window) if scope == "auth" else 0
    return int((window + 1) * WINDOW - moment) + 1 if seen > limit else None


def refuse(scope: str, wait: int) -> Problem:
    """The answer to a request too many."""
    return Problem(
        "throttled",
        f"More than {settings.RATES[scope]} requests to {NOUNS[scope]} in a minute. Wait {wait} seconds.",
        headers={"Retry-After": str(wait)},
    )


NOUNS = {"read": "read", "write": "write", "bulk": "change many things at once", "auth": "sign in"}


def name_caller(request: HttpRequest | Request, scope: str) -> str:
    """Who is counted: the user, or the address if nobody has signed in. Whoever signs in is nobody yet."""
    user = getattr(request, "user", None)
    if scope != "auth" and user is not None and user.is_authenticated:
        # Whoever has only a token of the environment has no row, and its own count.
        return f"user-{getattr(user, 'pk', None) or user.get_username()}"
    return f"address-{read_address(getattr(request, '_request', request))}"


class ScopeThrottle(BaseThrottle):
    """The limit of every route of the API: the scope is said by the view, or by the method."""

    def allow_request(self, request: Request, view: Any) -> bool:
        scope = find_scope(request, view)
        wait = count_request(scope, name_caller(request, scope))
        if wait is not None:
            raise refuse(scope, wait)
        return True


def find_scope(request: Request, view: Any) -> str:
    """Which of the rates a request counts for; a view of a package that knows of none only reads."""
    return view.find_rate_scope(request) if hasattr(view, "find_rate_scope") else "read"
