"""Which process does what only one may do, and how far has it come? Rows that a process holds for a while.

A lease is taken by one conditional UPDATE. Who holds it renews it; if he dies, another process takes it when it has
run out. Times are of the servers' clocks, which have to agree within a few seconds.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from audit.models import WatchCursor
from audit.stream import Position, read_position

LENGTH = 10.0  # seconds that a lease holds without being renewed
RENEWAL = 3.0  # seconds between renewals
RETRY = 2.0  # seconds between attempts to take a lease that another process holds

Clock = Callable[[], datetime]


class Lost(Exception):
    """Another process has taken the lease."""


@dataclass(frozen=True)
class Lease:
    """A named cursor, as one holder sees it. Each method is one statement or two; `clock` is for tests."""

    name: str
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    clock: Clock = timezone.now

    def acquire(self) -> bool:
        """Take the lease unless another one holds it. A name that is new begins at the present revision."""
        now, rows = self.clock(), WatchCursor.objects.filter(name=self.name)
        if not rows.exists():
            position = read_position()
            WatchCursor.objects.bulk_create(
                [WatchCursor(name=self.name, epoch=position.epoch, revision=position.revision)], ignore_conflicts=True
            )
        free = models.Q(owner=self.owner) | models.Q(leased_until__isnull=True) | models.Q(leased_until__lt=now)
        return bool(rows.filter(free).update(owner=self.owner, leased_until=self._until(now)))

    def renew(self) -> None:
        """Hold it longer. Raises `Lost`."""
        self._update(leased_until=self._until(self.clock()))

    def read_place(self) -> Position:
        """How far the cursor has come. Raises `Lost`."""
        found = self._held().values_list("epoch", "revision").first()
        if found is None:
            raise Lost
        return Position(*found)

    def store_place(self, position: Position) -> None:
        """All up to `position` is done. Raises `Lost`."""
        self._update(
            epoch=position.epoch,
            revision=position.revision,
            failures=0,
            last_error="",
            leased_until=self._until(self.clock()),
        )

    def note_failure(self, failures: int, error: str) -> None:
        """What came after the cursor has failed so often. Raises `Lost`."""
        self._update(failures=failures, last_error=error[:200])

    def release(self) -> None:
        """Let another process take it at once."""
        self._held().update(owner="", leased_until=None)

    def _held(self) -> models.QuerySet[WatchCursor]:
        return WatchCursor.objects.filter(name=self.name, owner=self.owner)

    def _update(self, **values: object) -> None:
        if not self._held().update(**values):
            raise Lost

    def _until(self, now: datetime) -> datetime:
        return now + timedelta(seconds=LENGTH)


def claim_turn(name: str, every: float, now: datetime) -> bool:
    """Whether this process is the one that does `name` now: true once in `every` seconds over all processes."""
    rows = WatchCursor.objects.filter(name=name)
    if not rows.exists():
        WatchCursor.objects.bulk_create([WatchCursor(name=name)], ignore_conflicts=True)
    due = models.Q(leased_until__isnull=True) | models.Q(leased_until__lte=now)
    return bool(rows.filter(due).update(leased_until=now + timedelta(seconds=every)))
