"""Which findings are mended together? Pure: no ORM, no HTTP.

One task is what a person would do in one go: one persona, one rule over a few files, or several small findings in one
file. It is named after what it is about and never counted through, so that the same task keeps its name from review to
review.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from plugins.contract import Finding, RuleSpec
from reviews import generated
from reviews.choices import DISMISSED
from rules.choices import Severity

MAX_PLACES = 8
"""Places that one prompt is about."""
NOBODY = "reviewer"
"""Speaks for rules that no persona speaks for."""
FOLDER = ".github/prompts"
"""Where prompts are written, which quote the code they are about."""

_DISMISSED = frozenset(map(str, DISMISSED))
RANKS: dict[str, int] = {value: index for index, value in enumerate(Severity.values)}
"""Place of each severity, 0 for the least."""

_LEAST = "low"
"""What is less severe is something to know and no task."""
_SMALL = "medium"
"""Findings above this severity are never put together with those of other rules."""


@dataclass(frozen=True, slots=True)
class Place:
    """A finding with its rule, what is known of it, and the lines round it, the first of them `context_start`."""

    rule: RuleSpec
    finding: Finding
    key: str = ""
    state: str = "new"
    triage: str = "open"
    suppressed: bool = False
    context_start: int = 0
    context: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """Places of one persona that are mended together; `label` is the folder or file that tells it from its like."""

    persona: str
    places: tuple[Place, ...]
    label: str = ""
    part: int = 0
    mixed: bool = False

    @property
    def rules(self) -> list[RuleSpec]:
        """The rules of the places, most severe first."""
        # One rule may be judged differently in two places; the worse judgement stands.
        rules = {rule.name: rule for rule in sorted((place.rule for place in self.places), key=rank)}
        return sorted(rules.values(), key=lambda rule: (-rank(rule), rule.name))

    @property
    def paths(self) -> list[str]:
        """The files of the places, each once."""
        return list(dict.fromkeys(place.finding.path for place in self.places))

    @property
    def name(self) -> str:
        """What the file is called without its ending."""
        about = () if self.mixed else (self.rules[0].name,)
        part = str(self.part) if self.part else ""
        return generated.slug(self.persona, *about, self.label, part)


class _Share(NamedTuple):
    label: str
    part: int
    places: Sequence[Place]


def speaker_of(rule: RuleSpec) -> str:
    """The persona that speaks most for a rule."""
    return rule.personas[0] if rule.personas else NOBODY


def _is_open(place: Place) -> bool:
    # A prompt quotes the code it is about, which would be found there again.
    written = place.finding.path.startswith(f"{FOLDER}/") and place.finding.path.endswith(".prompt.md")
    return not (place.suppressed or place.triage in _DISMISSED or written or rank(place.rule) < RANKS[_LEAST])


def rank(rule: RuleSpec) -> int:
    """Place of a rule's severity, 0 for the least; an unknown one counts as the least."""
    return RANKS.get(rule.severity, 0)


def position(place: Place) -> tuple[str, int, int, str]:
    """Where a place stands among others."""
    return place.finding.path, place.finding.start_line, place.finding.start_column, place.rule.name


def group_places(places: Iterable[Place]) -> list[Task]:
    """The tasks: by persona and rule, then by folder where there are too many, and small ones of one file together."""
    by_rule: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in filter(_is_open, places):
        by_rule[speaker_of(place.rule), place.rule.name].append(place)
    tasks: list[Task] = []
    for (persona, _), mine in sorted(by_rule.items()):
        for share in _pack(_divide(sorted(mine, key=position))):
            tasks.append(Task(persona, tuple(share.places), share.label, share.part))
    return list(_join_small(tasks))


def _divide(places: Sequence[Place], folder: str = "") -> Iterator[_Share]:
    """The places in shares of at most `MAX_PLACES`, cut where folders and files end. `places` are sorted."""
    if len(places) <= MAX_PLACES:
        yield _Share(folder, 0, places)
    elif places[0].finding.path == places[-1].finding.path:
        yield from _cut(places)
    else:
        for child, inside in groupby(places, key=lambda place: _child(place.finding.path, folder)):
            yield from _divide(list(inside), child)


def _cut(places: Sequence[Place]) -> Iterator[_Share]:
    """The places of one file in even parts."""
    parts = -(-len(places) // MAX_PLACES)
    for part in range(parts):
        some = places[len(places) * part // parts : len(places) * (part + 1) // parts]
        yield _Share(places[0].finding.path, part + 1 if parts > 1 else 0, some)


def _pack(shares: Iterable[_Share]) -> list[_Share]:
    """Small shares put together with what comes after them as long as they fit; the first one gives the name."""
    packed: list[_Share] = []
    parts: list[_Share] = []
    for share in shares:
        if share.part:
            parts.append(share)
        elif packed and len(packed[-1].places) + len(share.places) <= MAX_PLACES:
            packed[-1] = packed[-1]._replace(places=[*packed[-1].places, *share.places])
        else:
            packed.append(share)
    return [*packed, *parts]


def _child(path: str, folder: str) -> str:
    """The file or folder right below `folder` that `path` is, or lies in."""
    start = len(folder) + 1 if folder else 0
    end = path.find("/", start)
    return path if end == -1 else path[:end]


def _join_small(tasks: Iterable[Task]) -> Iterator[Task]:
    """Tasks of one or two minor places in one file, put together if there are several of one persona in that file."""
    small: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in tasks:
        if len(task.places) <= 2 and len(task.paths) == 1 and all(rank(rule) <= RANKS[_SMALL] for rule in task.rules):
            small[task.persona, task.paths[0]].append(task)
        else:
            yield task
    for (persona, path), several in small.items():
        if len(several) == 1:
            yield several[0]
            continue
        places = sorted((place for task in several for place in task.places), key=position)
        for share in _cut(places):
            yield Task(persona, tuple(share.places), path, share.part, mixed=True)


def order_tasks(tasks: Sequence[Task]) -> list[Task]:
    """Most severe first; among equals each rule has its first task before any has its second, new findings first."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    keys: list[tuple[int, int, int, Task]] = []
    for task in sorted(tasks, key=lambda task: (-rank(task.rules[0]), _known(task), -len(task.places), task.name)):
        of_its_like = (task.persona, "" if task.mixed else task.rules[0].name)
        seen[of_its_like] += 1
        keys.append((-rank(task.rules[0]), seen[of_its_like], len(keys), task))
    return [task for *_, task in sorted(keys, key=lambda key: key[:3])]


def _known(task: Task) -> bool:
    return all(place.state == "existing" for place in task.places)
