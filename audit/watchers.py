"""How does Python code follow the configuration? `watch(callback)`: every change in order, at least once.

    def forget_rule(change: WatchedChange) -> None: ...

    watch(forget_rule, filter_types=["rule_updated", "rule_deleted"])
    watch(post_to_chat, name="chat")

An unnamed watcher hears, in each process, of what happens from now on. A named one has its place stored and goes on
there after a restart; of all processes that register it, the one that holds its lease calls it. A callback may get the
same revision again after a crash: the revision is the key to drop repeats. One that fails is asked again, later and
later, with the same change; the other watchers go on meanwhile.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, connection

from audit import leases
from audit.metrics import subscribing
from audit.models import ConfigurationAuditLog
from audit.relay import Desk, Relay, accompany, ensure_relay, stop_relay
from audit.stream import Position

logger = logging.getLogger(__name__)
BACK_OFF = (0.5, 1, 2, 5, 10, 30, 60)
"""Seconds before a callback that failed is asked again: after the first time, the second, …"""
PAGE = 100  # changes read at once, with their documents
IDLE = 3600.0  # seconds
ENDING = 5.0  # seconds for a callback that runs when its watcher is stopped


@dataclass(frozen=True)
class WatchedChange:
    """One change, with the masked documents before and after it; None for a created or deleted object."""

    revision: int
    change_type: str
    entity_type: str
    entity_id: str
    entity_name: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    changed_by: str
    change_reason: str | None
    created_at: datetime
    batch: UUID


FIELDS = (
    *("revision", "change_type", "entity_type", "entity_id", "entity_name", "old_config", "new_config"),
    *("changed_by", "change_reason", "created_at", "batch"),
)
Callback = Callable[[WatchedChange], Any]
"""A function, which is called in a thread of its own, or a coroutine function, which must not block."""


@dataclass(frozen=True, eq=False)
class Watcher:
    """A registered callback; `stop()` ends it in this process."""

    callback: Callback
    filter_types: frozenset[str]
    name: str | None

    @property
    def label(self) -> str:
        """How the log calls it."""
        return self.name or getattr(self.callback, "__qualname__", repr(self.callback))

    def stop(self) -> None:
        """Call it no more."""
        with suppress(ValueError):
            _watchers.remove(self)
        for tasks in list(_running):
            tasks.refresh()


_watchers: list[Watcher] = []
_running: list[Watching] = []


def watch(callback: Callback, *, filter_types: Iterable[str] | None = None, name: str | None = None) -> Watcher:
    """Call `callback` with every change, or with those of the types named, from now on.

    In a server this begins with it; a command or a script calls `start_watching()`. Raises `ValueError` for a name
    that is taken in this process.
    """
    if isinstance(filter_types, str):
        raise TypeError("filter_types is a list of change types, not one text.")
    if name is not None and any(watcher.name == name for watcher in _watchers):
        raise ValueError(f"A watcher is called {name!r} already.")
    watcher = Watcher(callback, frozenset(filter_types or ()), name)
    _watchers.append(watcher)
    for running in list(_running):
        running.refresh()
    return watcher


class Watching:
    """The watchers of one process at work: a task for each, on the loop of the relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Watcher, asyncio.Task[None]] = {}
        self._followers: dict[Watcher, Follower] = {}

    def refresh(self) -> None:
        """Begin what was registered, end what was stopped; from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._refresh)

    def _refresh(self) -> None:
        for watcher in _watchers:
            if watcher not in self._tasks:
                follower = self._followers[watcher] = Follower(self._relay, watcher)
                self._tasks[watcher] = asyncio.create_task(follower.run())
        for watcher in [watcher for watcher in self._tasks if watcher not in _watchers]:
            del self._followers[watcher]
            self._tasks.pop(watcher).cancel()

    async def wait_ready(self) -> None:
        """Until each watcher that is registered now follows, or waits for another process."""
        self._refresh()
        await asyncio.gather(*(follower.ready.wait() for follower in self._followers.values()))

    async def run(self) -> None:
        """Until cancelled."""
        _running.append(self)
        try:
            self._refresh()
            while True:
                await asyncio.sleep(IDLE)
        finally:
            _running.remove(self)
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)


class Follower:
    """One watcher following the stream."""

    def __init__(self, relay: Relay, watcher: Watcher) -> None:
        self._relay, self._watcher = relay, watcher
        self._desk = Desk(f"watcher {watcher.label}")
        self._lease = leases.Lease(watcher.name) if watcher.name else None
        self._position: Position | None = None
        self._stored = 0
        self.ready = asyncio.Event()  # it follows, or knows that another process does

    async def run(self) -> None:
        """Follow until cancelled; what goes wrong with the database is tried again."""
        try:
            while True:
                try:
                    await (self._follow() if self._lease is None else self._follow_leased(self._lease))
                except (DatabaseError, InterfaceError) as error:
                    logger.warning("watcher %s waits for the database: %s", self._watcher.label, type(error).__name__)
                except leases.Lost:
                    logger.info("watcher %s goes on in another process", self._watcher.label)
                except Exception:
                    logger.exception("watcher %s could not follow", self._watcher.label)
                await asyncio.sleep(leases.RETRY)
        finally:
            await self._end()

    async def _end(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(ENDING):
                await self._desk.close()  # what runs is finished, and its place stored
                if self._lease is not None:
                    await self._relay.ask(self._lease.release)

    async def _follow_leased(self, lease: leases.Lease) -> None:
        """Follow from the stored place, if no other process does."""
        if not await self._relay.ask(lease.acquire):
            self.ready.set()
            return
        self._position = await self._relay.ask(lease.read_place)
        tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._renew(lease))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, lease: leases.Lease) -> None:
        while True:
            await asyncio.sleep(leases.RENEWAL)
            await self._relay.ask(lease.renew)

    async def _follow(self) -> None:
        place = self._position = self._position or await self._relay.find_position()
        self.ready.set()
        with subscribing("watcher"):
            await self._pass_on(place)

    async def _pass_on(self, place: Position) -> None:
        while True:
            if place.epoch != self._relay.epoch:
                # What a restored backup holds are no changes; what was missed before it is gone.
                place = await self._relay.find_position()
                logger.warning(
                    "watcher %s goes on at revision %s of another history", self._watcher.label, place.revision
                )
                await self._store(place)
            if not await self._relay.wait_beyond(place, IDLE) or place.epoch != self._relay.epoch:
                continue
            end = self._relay.position
            changes = await self._relay.ask(read_changes, place.revision, end, self._watcher.filter_types)
            for change in changes:
                place = Position(place.epoch, change.revision)
                await self._call(change, place)
                self._position, self._stored = place, place.revision
            if len(changes) < PAGE:
                place = self._position = Position(place.epoch, end)
            if place.revision - self._stored >= PAGE:
                await self._store(place)

    async def _store(self, place: Position) -> None:
        self._position, self._stored = place, place.revision
        if self._lease is not None:
            await self._relay.ask(self._lease.store_place, place)

    async def _call(self, change: WatchedChange, place: Position) -> None:
        """Call until it succeeds, for what comes later would not be in order; then `place` is stored."""
        failures = 0
        while True:
            try:
                if inspect.iscoroutinefunction(self._watcher.callback):
                    await _await_once(self._watcher.callback, change)
                    if self._lease is not None:
                        await self._relay.ask(self._lease.store_place, place)
                else:
                    await self._desk.ask(_call_once, self._watcher.callback, change, self._lease, place)
                return
            except Failed as failed:
                error = failed.__cause__
            delay = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
            failures += 1
            logger.error(
                *("watcher %s failed at revision %s; again in %s s", self._watcher.label, change.revision, delay),
                exc_info=error,
            )
            if self._lease is not None:
                await self._relay.ask(self._lease.note_failure, failures, type(error).__name__)
            await asyncio.sleep(delay)


class Failed(Exception):
    """The callback raised what is the cause of this."""


async def _await_once(callback: Callback, change: WatchedChange) -> None:
    try:
        await callback(change)
    except Exception as error:
        raise Failed from error


def _call_once(callback: Callback, change: WatchedChange, lease: leases.Lease | None, place: Position) -> None:
    """Call and store the place in one go: a process that ends in good order has nobody called twice."""
    try:
        try:
            callback(change)
        except Exception as error:
            raise Failed from error
        if lease is not None:
            lease.store_place(place)
    finally:
        connection.close()  # watchers are many and mostly idle, connections are few


def read_changes(after: int, upto: int, filter_types: frozenset[str]) -> list[WatchedChange]:
    """The next changes with their masked documents, one page at most."""
    rows = ConfigurationAuditLog.objects.filter(revision__gt=after, revision__lte=upto)
    if filter_types:
        rows = rows.filter(change_type__in=filter_types)
    return [WatchedChange(*row) for row in rows.order_by("revision").values_list(*FIELDS)[:PAGE]]


async def run_watchers(relay: Relay) -> None:
    """The watchers of this process, beside its relay."""
    await Watching(relay).run()


def connect() -> None:
    """Have every relay run the watchers of its process."""
    accompany(run_watchers)


class Background:
    """The watchers of a process that is no server, on a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="watching", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    async def _start(self) -> None:
        relay = await ensure_relay()
        await asyncio.sleep(0)  # the relay's companions begin
        for watching in [each for each in _running if each._relay is relay]:
            await watching.wait_ready()

    @property
    def running(self) -> bool:
        """Whether it was not stopped."""
        return not self._loop.is_closed()

    def stop(self) -> None:
        """End them all; a callback that runs is waited for, for some seconds."""
        asyncio.run_coroutine_threadsafe(stop_relay(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def start_watching() -> Background:
    """Follow the journal in this process, which is a command or a script; a server does so by itself.

    Returns when changes from now on are seen.
    """
    return Background()
