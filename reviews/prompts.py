"""How is a task told to a developer who hands it to Copilot? Pure: no ORM, no HTTP.

A prompt file says who speaks, what is wrong and why it matters, shows each place with its code, and says what to do,
what not to do, and how to see that it is done. `grouping` says what one task is. The texts are in `templates/copilot`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from posixpath import commonpath, dirname
from typing import NamedTuple

from django.template import Context, Engine, Template

from plugins.contract import RuleSpec
from reviews import generated, quoting
from reviews.grouping import FOLDER, NOBODY, Place, Task, group_places, order_tasks, position

MAX_PROMPTS = 50
MAX_BODY = 12_000
"""Characters of a prompt file."""

_TO_ROOT = "../../"
"""Links in a prompt file are relative to its folder."""
_VIEWS = ((5, 12), (3, 8), (1, 5), (0, 2))
"""Lines shown before and after a place, and of a place that is longer: the most that fit."""
_FILES_CHECKED = 3
"""Files that are reviewed one by one to see whether a task is done; more are reviewed with their folder."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A persona, as far as a prompt needs it."""

    name: str
    title: str = ""
    description: str = ""
    voice: str = ""


def find_speaker(name: str, speakers: Iterable[Speaker]) -> Speaker:
    """The persona called `name`; a plain reviewer for rules that nobody speaks for."""
    return next((each for each in speakers if each.name == name), Speaker(name, "Reviewer" if name == NOBODY else ""))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file: `body` is its whole text."""

    name: str
    title: str
    persona: str
    severity: str
    rule_names: tuple[str, ...]
    finding_keys: tuple[str, ...]
    paths: tuple[str, ...]
    body: str

    @property
    def path(self) -> str:
        """Where the file belongs, below the root."""
        return file_path(self.name)


class Made(NamedTuple):
    """The prompts of a review, most severe first, and how many findings did not get into any."""

    prompts: list[Prompt]
    left_out: int


def make_prompts(
    places: Iterable[Place], personas: Iterable[Speaker], *, revision: int, maximum: int = MAX_PROMPTS
) -> Made:
    """The prompts for the open findings among `places`: not suppressed, not dismissed, and worse than info."""
    speakers = list(personas)
    prompts: list[Prompt] = []
    left_out = 0
    names: set[str] = set()
    for task in order_tasks(group_places(places)):
        if len(prompts) >= maximum:
            left_out += len(task.places)
            continue
        for part, body in _fit(task, find_speaker(task.persona, speakers), revision):
            if len(prompts) >= maximum:
                left_out += len(part.places)
                continue
            prompt = _make(part, body, names)
            names.add(prompt.name)
            prompts.append(prompt)
    return Made(prompts, left_out)


def file_path(name: str) -> str:
    """Where the prompt called `name` belongs, below the root."""
    return f"{FOLDER}/{name}.prompt.md"


@cache
def template(name: str) -> Template:
    """A text of `templates/copilot`. What is put into it is ready: quoted, or a rule's own words."""
    folder = Path(__file__).resolve().parent.parent / "templates" / "copilot"
    return Engine(dirs=[str(folder)], autoescape=False).get_template(name)


def _fit(task: Task, speaker: Speaker, revision: int) -> Iterator[tuple[Task, str]]:
    """The task with its text, with as many lines of code as fit, or in halves if none do."""
    for view in _VIEWS:
        body = _write(task, speaker, revision, view)
        if len(body) <= MAX_BODY:
            yield task, body
            return
    if len(task.places) == 1:
        # The limits of each piece add up to less.
        raise ValueError(f"the prompt {task.name} cannot be shortened to {MAX_BODY} characters")
    middle = len(task.places) // 2
    for number, places in enumerate((task.places[:middle], task.places[middle:]), start=1):
        yield from _fit(replace(task, places=places, part=task.part * 10 + number), speaker, revision)


def _make(task: Task, body: str, names: set[str]) -> Prompt:
    name = task.name
    if name in names:
        # Two paths can have one name in letters, digits and hyphens.
        mark = sha256("\0".join([task.label, *task.paths, str(task.part)]).encode("utf-8", "replace"))
        name = f"{name[: generated.NAME - 9]}-{mark.hexdigest()[:8]}"
    return Prompt(
        name=name,
        title=_title(task),
        persona=task.persona,
        severity=task.rules[0].severity,
        rule_names=tuple(rule.name for rule in task.rules),
        finding_keys=tuple(dict.fromkeys(place.key for place in task.places if place.key)),
        paths=tuple(task.paths),
        body=body,
    )


def _title(task: Task) -> str:
    where = f"in {task.paths[0].rpartition('/')[2]}" if len(task.paths) == 1 else f"in {len(task.paths)} files"
    if task.mixed:
        return quoting.prose(f"{_some(len(task.places), 'finding')} {where}", 200)
    what = quoting.prose(task.rules[0].title or task.rules[0].name, 120)
    return quoting.prose(f"{what} ({_some(len(task.places), 'place')} {where})", 200)


def _write(task: Task, speaker: Speaker, revision: int, view: tuple[int, int]) -> str:
    title = _title(task)
    who = quoting.prose(speaker.title or speaker.name, 80)
    text = template("prompt.md").render(
        Context(
            {
                "title": title,
                "who": who[:1].lower() + who[1:],
                "voice": quoting.sentences(speaker.voice or speaker.description, 320),
                "rules": [_describe(rule, len(task.rules)) for rule in task.rules],
                "mixed": len(task.rules) > 1,
                "places": [_show(block, task, view) for block in _blocks(task.places)],
                "single": len(task.places) == 1,
                "files": ", ".join(quoting.link(path, base=_TO_ROOT) for path in task.paths),
                "secrets": any(place.finding.sensitive or place.rule.plugin == "secrets" for place in task.places),
                "check": _check(task),
            },
            autoescape=False,
        )
    )
    description = quoting.prose(f"{who}, {task.rules[0].severity}: {title}", 250)
    return generated.assemble({"description": description, "agent": "agent"}, text, revision)


def _describe(rule: RuleSpec, rules: int) -> dict[str, object]:
    # Eight rules with long texts must fit as well as one.
    limit = 1500 // rules
    return {
        "title": quoting.prose(rule.title or rule.name, 120),
        "name": rule.name,
        "severity": rule.severity,
        "description": quoting.sentences(rule.description or rule.message, limit),
        "remediation": quoting.sentences(rule.remediation, limit),
        "references": [quoting.prose(each, 300) for each in rule.references[: 3 if rules == 1 else 1]],
    }


def _blocks(places: Sequence[Place]) -> Iterator[list[Place]]:
    """The places, those on neighbouring lines of a file together."""
    block: list[Place] = []
    for place in sorted(places, key=position):
        if block and not _adjoins(block[-1], place):
            yield block
            block = []
        block.append(place)
    if block:
        yield block


def _adjoins(first: Place, second: Place) -> bool:
    return first.finding.path == second.finding.path and second.finding.start_line - first.finding.end_line <= 3


def _show(block: Sequence[Place], task: Task, view: tuple[int, int]) -> dict[str, object]:
    finding = block[0].finding
    lines = list(dict.fromkeys(place.finding.start_line for place in block))
    more = ", ".join(map(str, lines[1:]))
    return {
        "link": quoting.link(finding.path, finding.start_line, base=_TO_ROOT),
        "more": f"line{'s' if len(lines) > 2 else ''} {more}" if more else "",
        "notes": list(dict.fromkeys(filter(None, (_note(place, len(task.rules)) for place in block)))),
        "code": quoting.fence(_number(block, *view), quoting.language(finding.path)),
    }


def _note(place: Place, rules: int) -> str:
    """What is said of a place beside its code: its rule if there are several, and its message if that is its own."""
    own = place.finding.message if place.finding.message != place.rule.message else ""
    said = [place.rule.title or place.rule.name] if rules > 1 else []
    text = ": ".join(quoting.prose(each, 200) for each in (*said, own) if each)
    return f"Line {place.finding.start_line}: {text}" if text else ""


def _number(block: Sequence[Place], around: int, most: int) -> list[str]:
    """The lines of a block with their numbers, those of the findings marked with `>`."""
    texts: dict[int, str] = {}
    marked: set[int] = set()
    wanted: set[int] = set()
    for place in block:
        first, last = place.finding.start_line, place.finding.end_line
        stop = min(last + 1, first + most)
        marked.update(range(first, stop))
        wanted.update(range(first - around, stop + (around if stop > last else 0)))
        for number, line in enumerate(place.context, start=place.context_start):
            texts.setdefault(number, line)
        # What the finding says of its first line stands where nobody kept the lines round it.
        texts.setdefault(first, place.finding.snippet.partition("\n")[0])
    numbers = sorted(number for number in texts if number in wanted)
    width = len(str(numbers[-1]))
    shown, before = [], numbers[0]
    for number in numbers:
        shown += ["…"] if number > before + 1 else []
        shown.append(f"{'>' if number in marked else ' '} {number:>{width}} | {quoting.show(texts[number])}".rstrip())
        before = number
    hidden = max(place.finding.end_line for place in block) - before
    return [*shown, f"… {_some(hidden, 'more line')} of it"] if hidden > 0 else shown


def _check(task: Task) -> str:
    """Commands that print what is left of the findings, over as few files as the rules' own limits allow."""
    placed = any(rule.file_patterns for rule in task.rules)
    excluded = any(rule.exclude_patterns for rule in task.rules)
    if placed:
        # Paths are judged from the reviewed folder on: looked at alone, a file may be none that the rule asks for.
        targets = ["."]
    elif len(task.paths) <= _FILES_CHECKED:
        targets = task.paths
    else:
        targets = ["." if excluded else commonpath([dirname(path) for path in task.paths]) or "."]
    words = dict.fromkeys(quoting.shell_word(target) or "." for target in targets)
    names = [f" {rule.name} " for rule in task.rules]
    wanted = " ".join(f"-e {shlex.quote(name)}" for name in names)
    return quoting.fence([f"code-review {word} | grep -F {wanted}" for word in words], "sh")


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
