"""What does a text say, and where? YAML and JSON documents are read within bounds, and every place in them has a line.

YAML is read as what JSON can say: no aliases, no tags, no name twice; dates are text. What is refused names the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from django.core.exceptions import ValidationError

from audit.documents import MAX_DEPTH

MAX_BYTES = 20_000_000
TOLD = 200  # problems that are told one by one; nobody corrects more at once
DEPTH = 2 * MAX_DEPTH
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
JSON_START = re.compile(r"\s*\{\s*[\"}]")
JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
PLAIN_TAGS = ("bool", "int", "float", "null")


@dataclass(frozen=True)
class Problem:
    """What is wrong at one place of a document. `pointer` is a JSON pointer without ``#``, `line` counts from 1."""

    pointer: str
    detail: str
    name: str = ""
    line: int | None = None
    code: str = "invalid"

    def __str__(self) -> str:
        place = f"{self.pointer}{f' ({self.name})' if self.name else ''}"
        line = f"line {self.line}" if self.line is not None else ""
        head = ", ".join(part for part in (line, place) if part)
        return f"{head}: {self.detail}" if head else self.detail


class InvalidDocument(ValidationError):
    """A document that cannot be applied, with every problem found. Nothing was written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__([ValidationError(str(problem), code=problem.code) for problem in self.problems[:TOLD]])

    @property
    def is_conflict(self) -> bool:
        """Whether the document is well made, and only today's rules or the state of other objects forbid it."""
        return all(problem.code in ("conflict", "governance", "needs_override") for problem in self.problems)

    def lines(self) -> list[str]:
        """What to tell a person: a bounded number of problems, and how many more there are."""
        more = len(self.problems) - TOLD
        told = [str(problem) for problem in self.problems[:TOLD]]
        return [*told, f"… and {more:,} more"] if more > 0 else told


class SourceDocument(dict[str, Any]):
    """A document that knows the text it was read from."""

    text: str = ""

    def locate(self, problems: Sequence[Problem]) -> list[Problem]:
        """`problems`, the first of them with their lines: of the place, or of the nearest one around it."""
        wanted = {pointer for problem in problems[:TOLD] if problem.line is None for pointer in _climb(problem.pointer)}
        if not wanted:
            return list(problems)
        lines = _find_lines(self.text, wanted)
        located = [
            replace(problem, line=next((lines[place] for place in _climb(problem.pointer) if place in lines), None))
            if problem.line is None
            else problem
            for problem in problems[:TOLD]
        ]
        return [*located, *problems[TOLD:]]


def _climb(pointer: str) -> Iterator[str]:
    """`pointer` and the places around it, from the inside out; the document as a whole has no line worth telling."""
    while pointer:
        yield pointer
        pointer = pointer.rpartition("/")[0]


def escape(step: Any) -> str:
    """One step of a JSON pointer."""
    return str(step).replace("~", "~0").replace("/", "~1")


def parse(text: str | bytes) -> SourceDocument:
    """The document in `text`, YAML or JSON. Raises `InvalidDocument` with the line."""
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise _refuse(f"The document has {size:,} bytes; at most {MAX_BYTES:,} are read.")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise _refuse("This is not UTF-8.", line) from error
    try:
        value = _read_json(text) if JSON_START.match(text) else _Reader(text).read()
    except RecursionError as error:
        raise _refuse(f"It is nested more than {DEPTH} levels deep.") from error
    if not isinstance(value, dict):
        raise _refuse("The document must be an object with sections.", 1)
    document = SourceDocument(value)
    document.text = text
    return document


def _refuse(detail: str, line: int | None = None) -> InvalidDocument:
    return InvalidDocument([Problem("", detail, line=line)])


def _read_json(text: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=_read_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _refuse(f"This is not JSON: {error.msg} (column {error.colno}).", error.lineno) from error
    except _NameTwice as error:
        raise _refuse(f"The name {str(error)[:100]!r} stands twice in one object.", _find_twice(text)) from error
    except ValueError as error:
        raise _refuse(f"This is not JSON: {str(error).partition(';')[0]}.") from error
    _check_depth(text)
    return value


class _NameTwice(Exception):
    """A name stands twice in one object."""


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _NameTwice(name)
        found[name] = value
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _check_depth(text: str) -> None:
    depth = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', text):
        mark = match[0]
        depth += (mark in "{[") - (mark in "}]")
        if depth > DEPTH:
            raise _refuse(f"It is nested more than {DEPTH} levels deep.", text.count("\n", 0, match.start()) + 1)


def _find_twice(text: str) -> int | None:
    seen: set[str] = set()
    for pointer, line in _walk_json(text):
        if pointer in seen:
            return line
        seen.add(pointer)
    return None


def _find_lines(text: str, wanted: set[str]) -> dict[str, int]:
    """The line of each of the places `wanted` that exists."""
    if JSON_START.match(text):
        return {pointer: line for pointer, line in _walk_json(text) if pointer in wanted}
    lines: dict[str, int] = {}
    _Reader(text, lambda pointer, line: lines.setdefault(pointer, line) if pointer in wanted else None).read()
    return lines


@dataclass
class _Frame:
    """A list or an object that is being read."""

    value: Any
    line: int
    key: Any = None  # of an object: the name whose value comes next; None: a name comes next
    index: int = 0
    names: set[str] = field(default_factory=set)

    @property
    def step(self) -> str:
        return escape(self.key) if isinstance(self.value, dict) else str(self.index)


def _walk_json(text: str) -> Iterator[tuple[str, int]]:
    """Each place of a JSON text that is known to be well formed, with its line."""
    frames: list[_Frame] = []
    line, reached = 1, 0
    for match in JSON_TOKEN.finditer(text):
        line += text.count("\n", reached, match.start())
        reached, mark = match.start(), match[0]
        top = frames[-1] if frames else None
        if mark in "}]":
            frames.pop()
        elif mark == "," and top is not None:
            top.key, top.index = None, top.index + 1
        elif mark == ":":
            continue
        elif top is not None and isinstance(top.value, dict) and top.key is None:
            top.key = json.loads(mark)
        else:
            yield "".join(f"/{frame.step}" for frame in frames), line
            if mark in "{[":
                frames.append(_Frame({} if mark == "{" else [], line))


class _Reader:
    """Reads YAML event by event, without recursion, so that bounds hold before anything large is built."""

    def __init__(self, text: str, notice: Callable[[str, int], Any] | None = None) -> None:
        self.text, self.notice = text, notice
        self.frames: list[_Frame] = []
        self.result: Any = None
        self.documents = 0

    def read(self) -> Any:
        """The value of the one document in the text."""
        try:
            for event in yaml.parse(self.text, Loader=LOADER):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            words = error.problem or error.context or "it cannot be read"
            raise _refuse(f"This is not YAML: {words}.", mark.line + 1 if mark else None) from error
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else None
            raise _refuse(f"This is not YAML: {error.reason}.", line) from error
        except (yaml.YAMLError, UnicodeError) as error:
            raise _refuse(f"This is not YAML: {' '.join(str(error).split())}.") from error
        return self.result

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            frame = self.frames.pop()
            self._step_on()
            if not self.frames:
                self.result = frame.value
        elif isinstance(event, yaml.AliasEvent):
            # Aliases let a small file grow without end, and no export has any.
            raise _refuse("Aliases (*name) are not read.", event.start_mark.line + 1)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _refuse("A file holds one document.", event.start_mark.line + 1)

    def _open(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if event.tag not in (None, "!"):
            raise _refuse(f"Tags ({event.tag}) are not read.", line)
        if len(self.frames) >= DEPTH:
            raise _refuse(f"It is nested more than {DEPTH} levels deep.", line)
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(value, line)
        self.frames.append(_Frame(value, line))

    def _take_scalar(self, event: Any) -> None:
        line = event.start_mark.line + 1
        top = self.frames[-1] if self.frames else None
        if event.tag not in (None, "!"):
            raise _refuse(f"Tags ({event.tag}) are not read.", line)
        if top is not None and isinstance(top.value, dict) and top.key is None:
            if event.value in top.value:
                raise _refuse(f"The name {event.value[:100]!r} stands twice in one object.", line)
            top.key = event.value
            return
        self._put(_read_scalar(event, line), line)
        self._step_on()
        if top is None:
            self.result = event.value

    def _put(self, value: Any, line: int) -> None:
        if not self.frames:
            return
        top = self.frames[-1]
        if self.notice is not None:
            self.notice("".join(f"/{frame.step}" for frame in self.frames), line)
        if isinstance(top.value, dict):
            if top.key is None:
                raise _refuse("The name of a field must be plain text.", line)
            top.value[top.key] = value
        else:
            top.value.append(value)

    def _step_on(self) -> None:
        if self.frames:
            self.frames[-1].key = None
            self.frames[-1].index += 1


_RESOLVERS: Mapping[str, Iterable[tuple[str, Any]]] = yaml.SafeLoader.yaml_implicit_resolvers
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_CONSTRUCT = {f"tag:yaml.org,2002:{name}": getattr(_CONSTRUCTOR, f"construct_yaml_{name}") for name in PLAIN_TAGS}


def _read_scalar(event: Any, line: int) -> Any:
    """A text, number, true, false or null. Dates stay text: a document says what JSON can say."""
    text = event.value
    if not event.implicit[0]:
        return text
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if pattern.match(text):
            construct = _CONSTRUCT.get(tag)
            try:
                return text if construct is None else construct(yaml.ScalarNode(tag, text))
            except ValueError as error:
                raise _refuse(f"This is no number that can be read: {text[:40]}.", line) from error
    return text
