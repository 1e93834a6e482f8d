"""Which messages does one listener get next? His place in the stream, what he asked for, and what he may see."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Self

from django.utils import timezone

from audit.audience import Credential, Rights
from audit.relay import Relay
from audit.stream import MAX_REPLAY, Event, Position

HEARTBEAT = 25.0  # seconds between messages that say that all is well: proxies cut silent connections
FOREVER = 10**12  # seconds


@dataclass(frozen=True)
class Message:
    """What is said to a listener, as a JSON object; `revision` is where he stands when he has read it."""

    kind: str  # hello, change, reset, ping
    epoch: str
    revision: int
    text: str


class Subscription:
    """A listener's place in the stream.

    He has been told, or may not know, of everything up to `position`; the next messages follow from there. Whether that
    is live, a replay, or catching up after being slow makes no difference.
    """

    def __init__(self, relay: Relay, credential: Credential, position: Position) -> None:
        self._relay, self.credential, self.position = relay, credential, position
        self.filter_types: frozenset[str] = frozenset()
        self._announcements: deque[Message] = deque([self._say("hello")])
        self._rights: Rights | None = None
        self._since_rights = position.revision
        self._beat_due: float | None = None  # by the clock of the event loop

    @classmethod
    async def open(cls, relay: Relay, credential: Credential) -> Self:
        """A subscription from now on. Raises `audit.audience.Ended` unless the listener may listen."""
        subscription = cls(relay, credential, await relay.find_position())
        await subscription.authorise()
        return subscription

    def _say(self, kind: str, **more: Any) -> Message:
        position = self.position
        content = {"type": kind, "epoch": position.epoch, "revision": position.revision, **more}
        return Message(kind, position.epoch, position.revision, json.dumps(content))

    async def authorise(self) -> None:
        """Raise `audit.audience.Ended` unless the listener may listen."""
        self._rights = await self._relay.find_rights(self.credential, self._since_rights)

    async def resume(self, epoch: str, since: int, filter_types: frozenset[str], *, greet: bool) -> None:
        """Go on after `since`, or from now on, with a `reset`, where that cannot be done.

        With `greet` a `hello` stands before what is repeated. Not while somebody waits for `next`.
        """
        self.filter_types = filter_types
        self._announcements.clear()
        now = await self._relay.find_position()
        reason = _find_obstacle(Position(epoch, since), now)
        self.position = now if reason else Position(epoch, since)
        if reason:
            self._announcements.append(self._say("reset", reason=reason))
        elif greet:
            self._announcements.append(self._say("hello"))

    async def next(self, heartbeat: float = HEARTBEAT) -> list[Message]:
        """The next messages, in order; an empty list if it is worth asking again at once.

        Raises `audit.audience.Ended` when the listener may listen no longer.
        """
        if self._announcements:
            return [self._announcements.popleft()]
        now = timezone.now()
        self.credential.check_clock(now)
        if self.position.epoch != self._relay.epoch:
            self.position = Position(self._relay.epoch, self._relay.position)
            self._since_rights = self.position.revision
            await self.authorise()
            return [self._say("reset", reason="epoch")]
        clock = asyncio.get_running_loop().time()
        if self._beat_due is None:
            self._beat_due = clock + heartbeat
        if clock >= self._beat_due:
            self._beat_due = clock + heartbeat
            return await self._beat()
        if not await self._relay.wait_beyond(self.position, min(self._beat_due - clock, self._seconds_left(now))):
            return []
        if self.position.epoch != self._relay.epoch:
            return []
        events = await self._relay.read(self.position.revision)
        if not events:
            return []
        messages = await self._judge(events)
        self.position = Position(self.position.epoch, events[-1].revision)
        return messages

    def _seconds_left(self, now: Any) -> float:
        expires_at = self.credential.expires_at
        return FOREVER if expires_at is None else max((expires_at - now).total_seconds(), 0)

    async def _beat(self) -> list[Message]:
        if self.credential.kind == "session":
            # Signing out ends a session without a word to the journal.
            self._rights = await self._relay.load_rights(self.credential)
        return [self._say("ping")]

    async def _judge(self, events: list[Event]) -> list[Message]:
        """What may be said of `events`, by rights that are as new as the last of them."""
        if self._rights is None:
            await self.authorise()
        concerning = [event.revision for event in events if self._rights.depend_on(event, self.credential)]
        if concerning:
            self._since_rights = max(self._since_rights, concerning[-1])
            await self.authorise()
        return [
            Message("change", self.position.epoch, event.revision, event.text)
            for event in events
            if (not self.filter_types or event.change_type in self.filter_types) and self._rights.show(event)
        ]


def _find_obstacle(asked: Position, now: Position) -> str | None:
    """Why the stream cannot go on at `asked`; None if it can."""
    if asked.epoch != now.epoch:
        return "epoch"
    if asked.revision > now.revision:
        return "future"
    if asked.revision < now.revision - MAX_REPLAY:
        return "too_old"
    return None
