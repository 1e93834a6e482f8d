"""Who brings the journal to the listeners of this process? One relay, which reads it from its cursor.

It keeps the last changes in memory. Each subscription reads them there at its own pace, and older ones from the
journal: nothing is queued for anybody, so nobody who is slow costs memory or holds up the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from audit.audience import Credential, Rights, load_rights
from audit.metrics import forget_relay, note_relay
from audit.stream import PAGE, Event, Position, changes_since, read_position
from audit.wakeups import watch_commits

logger = logging.getLogger(__name__)
SAFETY = 1.0  # seconds after which the relay looks by itself, whatever became of the hints
RECENT = 2_000  # changes kept in memory, at least
Result = TypeVar("Result")


class Desk:
    """A thread with its own database connection, where the loop's questions to the database are answered in turn."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def ask(self, question: Callable[..., Result], *arguments: Any) -> Result:
        """The answer; after an error of the database the next question gets a new connection."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, _answer, question, *arguments)

    async def close(self) -> None:
        """Give the connection back and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._executor, _leave)
        self._executor.shutdown(wait=False)


def _answer(question: Callable[..., Result], *arguments: Any) -> Result:
    try:
        return question(*arguments)
    except (DatabaseError, InterfaceError):
        with suppress(Exception):
            connection.close()
        raise


def _leave() -> None:
    connection.close()


Companion = Callable[["Relay"], Coroutine[Any, Any, None]]
_companions: list[Companion] = []


def accompany(companion: Companion) -> None:
    """Run `companion` beside every relay that starts from now on, until it stops."""
    if companion not in _companions:
        _companions.append(companion)


class Relay:
    """The stream as this process knows it: its position, the last changes, and the rights of those who listen."""

    def __init__(self) -> None:
        self.epoch = ""
        self.position = 0
        self._recent: list[Event] = []
        self._hint = asyncio.Event()
        self._moved = asyncio.Event()
        self._reading, self._serving = Desk("relay"), Desk("listeners")
        self._rights: WeakValueDictionary[Credential, Rights] = WeakValueDictionary()
        self._loading: dict[Credential, asyncio.Lock] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._beside: list[asyncio.Task[None]] = []
        self._started = asyncio.Event()
        self._failing = False

    async def start(self) -> None:
        """Read from now on. Returns once the position is known; if the database is down, when it is there again."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(watch_commits(self._hint.set))]
            self._beside = [asyncio.create_task(companion(self)) for companion in _companions]
        await self._started.wait()

    async def stop(self) -> None:
        """End all that was started, and give the connections back."""
        for tasks in (self._beside, self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        forget_relay()
        await asyncio.gather(self._reading.close(), self._serving.close())

    @property
    def running(self) -> bool:
        """Whether it reads the journal."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def ask(self, question: Callable[..., Result], *arguments: Any) -> Result:
        """What the database answers, asked in the listeners' thread."""
        return await self._serving.ask(question, *arguments)

    async def find_position(self) -> Position:
        """Where the journal stands now: a change that was answered before is not ahead of it."""
        while (found := await self._serving.ask(read_position)).epoch != self.epoch:
            self._hint.set()
            await self._moved.wait()
        return found

    async def wait_beyond(self, position: Position, timeout: float) -> bool:
        """Whether there is, within `timeout` seconds, something after `position`, or another epoch."""
        while self.epoch == position.epoch and self.position <= position.revision:
            try:
                async with asyncio.timeout(timeout):
                    await self._moved.wait()
            except TimeoutError:
                return False
        return True

    async def read(self, after: int) -> list[Event]:
        """The next changes after a revision: from memory, or else from the journal."""
        start = after + 1 - self._recent[0].revision if self._recent else -1  # revisions have no gaps
        if start >= 0:
            return self._recent[start : start + PAGE]
        return await self._serving.ask(changes_since, after)

    async def find_rights(self, credential: Credential, at_least: int) -> Rights:
        """The rights of a listener, not older than a revision; loaded once for all who show the same credential."""
        known = self._rights.get(credential)
        if known is not None and known.as_of >= at_least:
            return known
        return await self.load_rights(credential, at_least)

    async def load_rights(self, credential: Credential, at_least: int | None = None) -> Rights:
        """The rights of a listener, looked up now, unless another one who waits has just loaded what is new enough."""
        lock = self._loading.setdefault(credential, asyncio.Lock())
        try:
            async with lock:
                known = self._rights.get(credential)
                if at_least is not None and known is not None and known.as_of >= at_least:
                    return known
                while True:
                    epoch, known = self.epoch, await self._serving.ask(load_rights, credential)
                    if epoch == self.epoch:  # revisions of two epochs cannot be compared
                        self._rights[credential] = known
                        return known
        finally:
            if not lock.locked():
                self._loading.pop(credential, None)

    async def _run(self) -> None:
        while True:
            self._hint.clear()
            try:
                await self._advance()
                self._failing = False
            except (DatabaseError, InterfaceError) as error:
                if not self._failing:
                    logger.warning("the journal cannot be read: %s", type(error).__name__)
                self._failing = True
            except Exception:
                logger.exception("the journal could not be passed on")
            with suppress(TimeoutError):
                async with asyncio.timeout(SAFETY):
                    await self._hint.wait()

    async def _advance(self) -> None:
        """Read all that is new. Whoever waits is told after each page."""
        while True:
            found, events = await self._reading.ask(_read_news, self.epoch, self.position)
            if found.epoch != self.epoch:
                self._recent, self._rights = [], WeakValueDictionary()
                self.epoch, self.position = found.epoch, found.revision
                note_relay(self.position)
                self._started.set()
            elif events:
                self._keep(events)
            else:
                return
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
            if len(events) < PAGE:
                return

    def _keep(self, events: list[Event]) -> None:
        self.position = events[-1].revision
        note_relay(self.position, events[-1].created_at, timezone.now())
        self._recent += events
        if len(self._recent) > 2 * RECENT:
            self._recent = self._recent[-RECENT:]


def _read_news(epoch: str, position: int) -> tuple[Position, list[Event]]:
    found = read_position()
    fresh = found.epoch == epoch and found.revision > position
    return found, changes_since(position) if fresh else []


_relays: WeakKeyDictionary[asyncio.AbstractEventLoop, Relay] = WeakKeyDictionary()


async def ensure_relay() -> Relay:
    """The relay of this process (of this event loop, in tests), started by whoever asks first."""
    loop = asyncio.get_running_loop()
    relay = _relays.get(loop)
    if relay is None or (relay._tasks and not relay.running):
        relay = _relays[loop] = Relay()
    await relay.start()
    return relay


async def stop_relay() -> None:
    """Stop the relay of this event loop, if there is one."""
    relay = _relays.pop(asyncio.get_running_loop(), None)
    if relay is not None:
        await relay.stop()
