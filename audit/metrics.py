"""What is counted while the server runs? The figures of one process, or of all processes of one server, for Prometheus.

`manage.py serve` gives its processes one folder (PROMETHEUS_MULTIPROC_DIR); then each of them can tell the figures of
all. Names of routes, plugins and outcomes are labels; what a client writes never is, so their number is bounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
METHODS = frozenset("GET HEAD OPTIONS POST PUT PATCH DELETE".split())
UNMATCHED = "unmatched"
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds
SLOW = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)  # seconds

REQUESTS = Histogram(
    "governance_http_request_seconds",
    "Time until the answer was there, by route name and status class.",
    ["route", "method", "status"],
    buckets=FAST,
)
THROTTLED = Counter("governance_throttled_requests", "Requests answered with 429.", ["route"])
CACHE = Counter(
    "governance_cache_requests",
    "Readings of a cache: hit (kept by the process), shared (built by another one), delta (rebuilt where it changed), "
    "miss (built).",
    ["cache", "result"],
)
PROPAGATION = Histogram(
    "governance_propagation_seconds", "Time from a change to its being seen by a process's relay.", buckets=FAST
)
RELAY = Gauge(
    "governance_relay_revision",
    "Revision that the relay furthest behind has seen.",
    multiprocess_mode="livemin",
)
SUBSCRIBERS = Gauge(
    "governance_subscribers",
    "Open subscriptions to changes: websocket, sse, watcher.",
    ["kind"],
    multiprocess_mode="livesum",
)
REVIEWS = Histogram(
    "governance_review_seconds", "Reviews that ended in these processes, by outcome.", ["outcome"], buckets=SLOW
)
PLUGIN_FAILURES = Counter("governance_plugin_failures", "What analyzers could not do.", ["plugin"])

_relay_revision: int | None = None


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """A request was answered. `route` is the name of its route, empty if there is none."""
    route = route or UNMATCHED
    REQUESTS.labels(route, method if method in METHODS else "other", f"{status // 100}xx").observe(seconds)
    if status == 429:
        THROTTLED.labels(route).inc()


def count_cache(cache: str, result: str) -> None:
    """A cache was read; `result` is hit, shared, delta or miss."""
    CACHE.labels(cache, result).inc()


def note_relay(revision: int, changed_at: datetime | None = None, now: datetime | None = None) -> None:
    """This process's relay has come to `revision`, whose change was made at `changed_at`; give `now` with it."""
    global _relay_revision
    _relay_revision = revision
    RELAY.set(revision)
    if changed_at is not None and now is not None:
        PROPAGATION.observe(max(0.0, (now - changed_at).total_seconds()))


def forget_relay() -> None:
    """This process's relay has stopped: it is behind nothing any more."""
    global _relay_revision
    _relay_revision = None


def relay_revision() -> int | None:
    """How far this process's relay has come; None if none has run."""
    return _relay_revision


def count_subscribers(kind: str, number: int) -> None:
    """So many subscriptions more, or less if negative."""
    SUBSCRIBERS.labels(kind).inc(number)


@contextmanager
def subscribing(kind: str) -> Iterator[None]:
    """A subscription of this kind is open inside, however it ends."""
    count_subscribers(kind, 1)
    try:
        yield
    finally:
        count_subscribers(kind, -1)


def observe_review(outcome: str, seconds: float) -> None:
    """A review ended."""
    REVIEWS.labels(outcome).observe(seconds)


def count_plugin_failures(plugin: str, number: int) -> None:
    """So many things that `plugin` could not do."""
    if number:
        PLUGIN_FAILURES.labels(plugin).inc(number)


class Collector(Protocol):
    """Gives figures when they are asked for."""

    def collect(self) -> Iterable[Any]: ...


def render(stored: Collector) -> bytes:
    """All figures in Prometheus's text format: those counted, and those that `stored` reads from the database."""
    registry = CollectorRegistry()
    folder = os.environ.get(FOLDER)
    if folder:
        forget_dead(Path(folder))
        MultiProcessCollector(registry, folder)
        counted = generate_latest(registry)
    else:
        counted = generate_latest(REGISTRY)
    alone = CollectorRegistry()
    alone.register(stored)
    return counted + generate_latest(alone)


def forget_dead(folder: Path) -> None:
    """Remove the gauges of processes that have ended; what they counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _lives(int(pid)):
            file.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
