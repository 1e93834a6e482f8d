"""Which finding of a review is which of those known before? Pure.

Each finding has a rule, a place (path, line, message), a hash of its own code and one of the code around it. No mix of
them survives every edit, so they are compared in steps, from what proves most to what proves least. In each step the
findings that agree form groups, and inside a group each is matched once, nearest lines first: two equal findings stay
two, and one of them removed is one removed.

Findings that were there the last time are preferred over those that had gone. What was fixed comes back only if its
code is the same; what just was not looked at may have been edited meanwhile.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Any, NamedTuple

NEARBY = 2
"""Lines by which a finding may have moved whose code and surroundings were both edited."""


class Standing(IntEnum):
    """How likely a known finding is still there."""

    PRESENT = 0
    UNSEEN = 1
    """Nobody looked: its rule did not run, or its file was left out."""
    FIXED = 2


@dataclass(frozen=True, slots=True)
class Trace:
    """What can be told of a finding, and compared. An empty hash says nothing."""

    rule: str
    path: str
    line: int
    message: str
    code_hash: str
    context_hash: str

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class Known(NamedTuple):
    """A finding known before."""

    trace: Trace
    standing: Standing = Standing.PRESENT


@dataclass(frozen=True, slots=True)
class _Step:
    """What must agree, and what must not be empty for it to mean anything."""

    fields: tuple[str, ...]
    needed: str = ""
    within: int | None = None

    def key(self) -> Callable[[Trace], Any]:
        """What finds the values that must agree; None: the finding takes no part."""
        values = attrgetter("rule", *self.fields)
        if not self.needed:
            return values
        needed = attrgetter(self.needed)
        return lambda trace: values(trace) if needed(trace) else None


_IN_PLACE = (_Step(("path", "code_hash", "context_hash")), _Step(("path", "code_hash")))
_RENAMED = (
    _Step(("code_hash", "context_hash", "file_name"), "code_hash"),
    _Step(("code_hash", "context_hash"), "code_hash"),
)
_MOVED = (
    # Where the old file is still there, the message must agree as well: it may name what the finding is about.
    _Step(("code_hash", "context_hash", "message", "file_name"), "code_hash"),
    _Step(("code_hash", "context_hash", "message"), "code_hash"),
)
_RENAMED_AND_EDITED_NEAR_IT = (_Step(("code_hash", "file_name"), "code_hash"), _Step(("code_hash",), "code_hash"))
_EDITED = (_Step(("path", "context_hash"), "context_hash"), _Step(("path", "message"), within=NEARBY))


def match(
    seen: Sequence[Trace],
    known: Sequence[Known],
    *,
    is_gone: Callable[[Trace], bool] = lambda trace: False,
    was_looked_for: Callable[[Trace], bool] = lambda trace: True,
) -> dict[int, int]:
    """Which of `known` each of `seen` is, by index; those that are new are left out. None is matched twice.

    `is_gone` says whether the file of a known finding does not exist any more, `was_looked_for` whether it would have
    been seen, were it where it was. Both are asked only about findings that are not there. Takes O(n log n).
    """
    matching = _Matching(seen, known)

    def has_left(trace: Trace) -> bool:
        # What was not looked for where it was has not moved elsewhere.
        return not is_gone(trace) and was_looked_for(trace)

    for standing in Standing:
        matching.take(standing, _IN_PLACE)
        matching.take(standing, _RENAMED, is_gone)
        matching.take(standing, _MOVED, has_left)
        if standing is not Standing.FIXED:
            matching.take(standing, _RENAMED_AND_EDITED_NEAR_IT, is_gone)
    for standing in (Standing.PRESENT, Standing.UNSEEN):
        matching.take(standing, _EDITED)
    return matching.found


def make_keys(codebase_key: str, traces: Iterable[Trace], taken: Iterable[str]) -> list[str]:
    """A key of 32 hex digits for each new finding, the same again for the same input, none of them `taken`."""
    used = set(taken)
    occurrences: Counter[tuple[str, str, str]] = Counter()
    keys = []
    for trace in traces:
        identity = (trace.rule, trace.path, trace.code_hash)
        while True:
            text = "\0".join((codebase_key, *identity, str(occurrences[identity])))
            key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            occurrences[identity] += 1
            if key not in used:
                break
        used.add(key)
        keys.append(key)
    return keys


class _Matching:
    """Who is matched so far, and who is left."""

    def __init__(self, seen: Sequence[Trace], known: Sequence[Known]) -> None:
        self.found: dict[int, int] = {}
        self._seen, self._known = seen, known
        self._left_seen = list(range(len(seen)))
        self._left_known: dict[Standing, list[int]] = {standing: [] for standing in Standing}
        for index, each in enumerate(known):
            self._left_known[each.standing].append(index)

    def take(
        self, standing: Standing, steps: Iterable[_Step], condition: Callable[[Trace], bool] | None = None
    ) -> None:
        """Match known findings of one standing, those that fulfil the condition, with what is left."""
        for step in steps:
            if not self._left_seen or not self._left_known[standing]:
                return
            self._take(standing, step, condition)

    def _take(self, standing: Standing, step: _Step, condition: Callable[[Trace], bool] | None) -> None:
        key = step.key()
        groups: dict[Any, list[int]] = defaultdict(list)
        for index in self._left_known[standing]:
            trace = self._known[index].trace
            if condition is None or condition(trace):
                groups[key(trace)].append(index)
        groups.pop(None, None)
        candidates: dict[Any, list[int]] = defaultdict(list)
        if groups:
            for index in self._left_seen:
                value = key(self._seen[index])
                if value in groups:
                    candidates[value].append(index)
        matched: set[int] = set()
        for value, seen in candidates.items():
            known = groups[value]
            # In an order that does not depend on that of the input.
            if len(seen) > 1:
                seen.sort(key=lambda index: _order(self._seen[index]))
            if len(known) > 1:
                known.sort(key=lambda index: _order(self._known[index].trace))
            lines = [self._seen[index].line for index in seen], [self._known[index].trace.line for index in known]
            for one, other in _pair(*lines, step.within):
                self.found[seen[one]] = known[other]
                matched.add(known[other])
        if matched:
            self._left_seen = [index for index in self._left_seen if index not in self.found]
            self._left_known[standing] = [index for index in self._left_known[standing] if index not in matched]


def _order(trace: Trace) -> tuple[str, int, str, str, str, str]:
    return trace.path, trace.line, trace.rule, trace.message, trace.code_hash, trace.context_hash


def _pair(left: Sequence[int], right: Sequence[int], within: int | None) -> list[tuple[int, int]]:
    """Indices that belong together. As many on both sides: in order. Otherwise those with the nearest lines."""
    if len(left) == len(right) and within is None:
        return list(enumerate(range(len(right))))
    # The nearest two of different sides are always neighbours among those that are left, sorted by line.
    points = sorted(
        [(line, 0, index) for index, line in enumerate(left)] + [(line, 1, index) for index, line in enumerate(right)]
    )
    before = list(range(-1, len(points) - 1))
    after = list(range(1, len(points) + 1))

    def consider(one: int, other: int) -> tuple[int, int, int] | None:
        if one < 0 or other >= len(points) or points[one][1] == points[other][1]:
            return None
        distance = points[other][0] - points[one][0]
        return (distance, one, other) if within is None or distance <= within else None

    heap = [pair for index in range(len(points) - 1) if (pair := consider(index, index + 1)) is not None]
    heapify(heap)
    done = [False] * len(points)
    pairs = []
    while heap:
        _, one, other = heappop(heap)
        if done[one] or done[other]:
            continue
        done[one] = done[other] = True
        first, second = sorted((points[one], points[other]), key=lambda point: point[1])
        pairs.append((first[2], second[2]))
        earlier, later = before[one], after[other]
        if earlier >= 0:
            after[earlier] = later
        if later < len(points):
            before[later] = earlier
        pair = consider(earlier, later)
        if pair is not None:
            heappush(heap, pair)
    return pairs
