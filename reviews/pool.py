"""How do several workers review many files? The parent's side: starts workers, feeds them, watches and ends them.

`Pool.run` goes through the files as fast as the workers take them and tells what happens as events, at least five times
a second. An analyzer that crashes its worker, or hangs, loses the file it was asked about: the file is tried again
without it. After `STRIKES` of them it is not asked any more. Whoever stops listening ends everything.
"""

from __future__ import annotations

import math
import os
import selectors
import tempfile
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reviews.assignments import Assignment
from reviews.child import Child, GarbledError
from reviews.outcome import ENGINE, Failure, Outcome, decode, decode_failures
from reviews.pulse import Beat, Phase
from reviews.selection import names_in
from reviews.work import Batch, Event, FileDone, Job, Spent, Tree, TreeDone

MAX_JOBS = 8
MEMORY = 1536 << 20
"""Bytes that the analyzers of one worker may use together."""
BATCH_FILES = 64
BATCH_BYTES = 1 << 20
STRIKES = 3
"""How often an analyzer may crash or hang before it is switched off for the rest of the run."""

_AHEAD = 2  # batches that a worker has at once, so that it never waits
_TICK = 0.2  # seconds between two looks at the workers
_PATIENCE = 1.0  # seconds in which a worker that says nothing any more must end
_MAX_FALSE_STARTS = 5
_MAX_SUSPICIONS = 2


class PoolError(RuntimeError):
    """Workers cannot be started, or end for no reason that is anybody's."""


@dataclass(eq=False)
class _Seat:
    """A worker and what it has to do."""

    child: Child
    batches: dict[int, list[Job | None]] = field(default_factory=dict)
    """The files of each batch that was not finished; None for those that are reviewed."""
    tree: Tree | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """What was found in the tree so far."""
    unready: list[Failure] = field(default_factory=list)
    """What the analyzer of the tree could not be made ready for."""
    is_worn: bool = False

    @property
    def owes(self) -> bool:
        return bool(self.batches) or self.tree is not None


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """At most `jobs` workers at once, each with `memory` bytes for its analyzers; 0: as many as there are."""

    def __init__(
        self,
        assignments: Iterable[Assignment],
        *,
        jobs: int,
        memory: int = MEMORY,
        search_path: Sequence[str | Path] = (),
    ) -> None:
        self._assignments = list(assignments)
        self._jobs = max(1, jobs)
        self._memory = memory
        self._search_path = search_path
        self._selector = selectors.DefaultSelector()
        self._seats: list[_Seat] = []
        self._next: list[Job] = []
        self._again: deque[Job] = deque()
        self._trees: deque[Tree] = deque()
        self._events: list[Event] = []
        self._strikes: Counter[str] = Counter()
        self._off: set[str] = set()
        self._missed: Counter[str] = Counter()
        self._told: set[Failure] = set()
        self._batches = 0
        self._false_starts = 0

    def run(self, jobs: Iterable[Job], trees: Iterable[Tree]) -> Generator[Event, None, None]:
        """Review everything. Raises `PoolError`."""
        feed = iter(jobs)
        self._trees.extend(trees)
        with tempfile.TemporaryDirectory(prefix="code-review-", ignore_cleanup_errors=True) as folder:
            self._folder = Path(folder)
            try:
                while self._hand_out(feed) or any(seat.owes for seat in self._seats):
                    self._listen()
                    self._watch()
                    yield from self._take_events()
                    yield None
                self._events += [
                    Failure(plugin, None, None, f"was switched off; {number:,} files were not reviewed by it")
                    for plugin, number in self._missed.items()
                ]
                yield from self._take_events()
            finally:
                for seat in list(self._seats):
                    self._dismiss(seat)
                self._selector.close()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # Who does what

    def _hand_out(self, feed: Iterator[Job]) -> bool:
        """Give work to all who can take some; whether there is more."""
        self._next = self._next or self._gather(feed)
        self._hand_out_trees(keep=1 if self._next else 0)
        while self._next:
            seat = self._find_seat()
            if seat is None:
                break
            self._give(seat, self._next)
            self._next = self._gather(feed)
        return bool(self._next or self._trees)

    def _gather(self, feed: Iterator[Job]) -> list[Job]:
        """The next batch; those that are tried again come first."""
        batch: list[Job] = []
        size = 0
        while len(batch) < BATCH_FILES and size < BATCH_BYTES:
            job = self._again.popleft() if self._again else next(feed, None)
            if job is None:
                break
            if job.suspicions and batch:
                self._again.appendleft(job)
                break
            batch.append(job)
            size += len(job.source.content)
            if job.suspicions:
                break
        return batch

    def _hand_out_trees(self, keep: int) -> None:
        """Start the analyzers of the tree, one in each worker, as long as `keep` workers remain for files."""
        while self._trees and sum(seat.owes for seat in self._seats) < self._jobs:
            if sum(seat.tree is not None for seat in self._seats) >= self._jobs - keep:
                break
            tree = self._trees.popleft()
            seat = self._start([tree.assignment])
            if seat is None:
                self._trees.appendleft(tree)
                break
            seat.tree = tree
            seat.child.send(tree)

    def _find_seat(self) -> _Seat | None:
        """The worker that has least to do, if it can take more; a new one if there is room."""
        seats = [seat for seat in self._seats if seat.tree is None]
        free = [seat for seat in seats if not seat.is_worn and len(seat.batches) < _AHEAD]
        if free:
            return min(free, key=lambda seat: len(seat.batches))
        trees = len(self._seats) - len(seats)
        if len(seats) >= max(1, self._jobs - trees):
            return None
        return self._start([each for each in self._assignments if each.plugin not in self._off])

    def _give(self, seat: _Seat, jobs: list[Job]) -> None:
        for job in jobs:
            off = self._off.intersection(plugin for plugin, _ in job.tasks) - job.without
            if off:
                self._missed.update(off)
                job.without |= off
        self._batches += 1
        if not seat.owes:
            seat.child.stir()
        seat.batches[self._batches] = list(jobs)
        seat.child.send(Batch(self._batches, jobs))

    def _start(self, assignments: Sequence[Assignment]) -> _Seat | None:
        try:
            child = Child(assignments, memory=self._memory, folder=self._folder, search_path=self._search_path)
        except OSError as error:
            if not self._seats:
                raise PoolError(f"No process can be started: {error}") from error
            # Those that run will do.
            self._jobs = len(self._seats)
            return None
        seat = _Seat(child)
        self._seats.append(seat)
        self._selector.register(child.answers, selectors.EVENT_READ, (seat, self._hear_answers))
        self._selector.register(child.noise, selectors.EVENT_READ, (seat, self._hear_noise))
        return seat

    # What they say

    def _listen(self) -> None:
        unsent = [seat for seat in self._seats if seat.child.has_unsent]
        for seat in unsent:
            self._selector.register(seat.child.orders, selectors.EVENT_WRITE, (seat, self._push))
        ready = self._selector.select(_TICK)
        for seat in unsent:
            self._selector.unregister(seat.child.orders)
        for key, _ in ready:
            seat, react = key.data
            if seat in self._seats:
                react(seat)

    def _push(self, seat: _Seat) -> None:
        seat.child.push()

    def _hear_noise(self, seat: _Seat) -> None:
        if not seat.child.hear():
            self._selector.unregister(seat.child.noise)

    def _hear_answers(self, seat: _Seat) -> None:
        try:
            messages, may_say_more = seat.child.receive()
            for message in messages:
                self._take(seat, message)
        except (GarbledError, ValueError, LookupError, TypeError):
            self._bury(seat, "said what makes no sense", said_nonsense=True)
            return
        if not may_say_more and seat in self._seats:
            self._bury(seat)

    def _take(self, seat: _Seat, message: list[Any]) -> None:
        """Believe what a worker says, if it makes sense; else raises ValueError, LookupError or TypeError."""
        match message:
            case ["ready", failures, seconds]:
                seat.child.is_ready = True
                self._false_starts = 0
                self._events.append(_check_seconds(seat, seconds))
                if seat.tree is not None:
                    seat.unready = decode_failures(failures)
                else:
                    for failure in decode_failures(failures):
                        self._tell(failure)
            case ["file", int(number), int(place), outcome] if place >= 0:
                job = seat.batches[number][place]
                if job is None:
                    raise ValueError("a file that was reviewed already")
                self._events.append(FileDone(job, decode(job.source.path, outcome, names_in(job.tasks))))
                seat.batches[number][place] = None
            case ["done", int(number), seconds, bool(is_worn)]:
                if any(job is not None for job in seat.batches[number]):
                    raise ValueError("a batch that is not done")
                self._events.append(_check_seconds(seat, seconds))
                del seat.batches[number]
                seat.is_worn |= is_worn
            case ["path", str(path), outcome] if seat.tree is not None:
                known = {rule.name for rule in seat.tree.assignment.rules}
                seat.outcomes[path] = decode(path, outcome, known)
            case ["tree", failures, seconds] if seat.tree is not None:
                self._events.append(_check_seconds(seat, seconds))
                self._events.append(TreeDone(seat.tree, seat.outcomes, [*seat.unready, *decode_failures(failures)]))
                self._dismiss(seat)
            case _:
                raise ValueError("a message of no known form")

    # How they end

    def _watch(self) -> None:
        for seat in list(self._seats):
            if seat.child.process.poll() is not None:
                # What it said before still counts, though somebody else may hold the other end of the pipe.
                self._hear_answers(seat)
                if seat in self._seats:
                    self._bury(seat)
                continue
            allowed = seat.child.overdue(seat.owes)
            if allowed is not None:
                self._hear_answers(seat)
                if seat in self._seats and seat.child.overdue(seat.owes) is not None:
                    self._bury(seat, f"took longer than {allowed:g} s and was stopped")
            elif seat.is_worn and not seat.owes:
                self._dismiss(seat)

    def _dismiss(self, seat: _Seat, patience: float = 0.0) -> str:
        """End a worker, if it does not end by itself within `patience` seconds; says how it ended by itself."""
        self._seats.remove(seat)
        for file in (seat.child.answers, seat.child.noise):
            if file in self._selector.get_map():
                self._selector.unregister(file)
        return seat.child.end(patience)

    def _bury(self, seat: _Seat, reason: str = "", *, said_nonsense: bool = False) -> None:
        """End a worker that went wrong, find out whose fault it was, and have done by others what it had to do."""
        # Who said something is not who is asked when it is heard: the worker has gone on. Only in the beginning, when
        # no file can be lost, who is made ready is taken for the speaker, so that the review goes on without it.
        beat = Beat() if said_nonsense and seat.child.is_ready else seat.child.beat()
        ended = self._dismiss(seat, 0.0 if reason else _PATIENCE)
        reason = reason or ended
        self._blame(seat, beat, reason)
        left = [job for batch in seat.batches.values() for job in batch if job is not None]
        self._again.extendleft(job for job in reversed(left) if job.suspicions <= _MAX_SUSPICIONS)

    def _blame(self, seat: _Seat, beat: Beat, reason: str) -> None:
        """Whose fault was it that a worker ended while it did what `beat` says?"""
        known = 0 <= beat.plugin < len(seat.child.assignments)
        plugin = seat.child.assignments[beat.plugin].plugin if known else ENGINE
        if beat.phase is Phase.PREPARING and known:
            self._off.add(plugin)
            self._blame_for_all(seat, Failure(plugin, None, None, f"could not be made ready: it {reason}"))
        elif not seat.child.is_ready:
            self._count_false_start(seat, reason)
        elif seat.tree is not None:
            # Nobody else was in that process.
            self._blame_for_all(seat, Failure(seat.tree.assignment.plugin, None, None, reason))
        else:
            batch = seat.batches.get(beat.batch, [])
            job = batch[beat.file] if 0 <= beat.file < len(batch) else None
            if job is not None and known:
                self._blame_for_file(job, plugin, reason)
            else:
                self._suspect([job] if job is not None else next(iter(seat.batches.values()), []), reason)

    def _blame_for_all(self, seat: _Seat, failure: Failure) -> None:
        if seat.tree is not None:
            self._events.append(TreeDone(seat.tree, {}, [*seat.unready, failure]))
        else:
            self._tell(failure)

    def _blame_for_file(self, job: Job, plugin: str, reason: str) -> None:
        self._tell(Failure(plugin, None, job.source.path, reason))
        job.without |= {plugin}
        self._strikes[plugin] += 1
        if self._strikes[plugin] >= STRIKES:
            self._off.add(plugin)

    def _suspect(self, jobs: Iterable[Job | None], reason: str) -> None:
        """Nobody knows which file it was, nor which analyzer: they are tried again one by one, and then given up."""
        for job in jobs:
            if job is not None:
                job.suspicions += 1
                if job.suspicions > _MAX_SUSPICIONS:
                    failure = Failure(ENGINE, None, job.source.path, reason)
                    outcome = Outcome(failures=[failure], failed=names_in(job.tasks))
                    self._events.append(FileDone(job, outcome))

    def _count_false_start(self, seat: _Seat, reason: str) -> None:
        self._false_starts += 1
        if self._false_starts > _MAX_FALSE_STARTS:
            raise PoolError(f"The processes that review end before they begin: the last one {reason}.")
        if seat.tree is not None:
            self._trees.append(seat.tree)

    def _tell(self, failure: Failure) -> None:
        if failure not in self._told:
            self._told.add(failure)
            self._events.append(failure)


def _check_seconds(seat: _Seat, plain: Any) -> Spent:
    known = {each.plugin for each in seat.child.assignments}
    if not isinstance(plain, dict) or not known.issuperset(plain):
        raise ValueError("seconds of nobody")
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in plain.values()):
        raise ValueError("seconds that are no numbers")
    return Spent(plain)
