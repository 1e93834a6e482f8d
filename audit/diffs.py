"""What differs between two versions of an object, as people read it? Pure: no database, no HTML.

A structured field is compared entry by entry, and a long text line by line, so that a reader sees what moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

CONTEXT = 2  # unchanged lines shown around a changed one
FULLY_COMPARED = 200  # lines of both texts; beyond, lines that are repeated often do not anchor the comparison
COMPARED = 2_000  # comparing more takes minutes where lines repeat
SHORT = 120  # characters of a text that is shown in one piece
LABELS = {"": "unchanged", "-": "removed", "+": "added", "…": "omitted"}


@dataclass(frozen=True)
class Line:
    """One line of a compared text: `sign` is "-", "+", "" (unchanged) or "…" (lines left out)."""

    sign: str
    text: str

    @property
    def label(self) -> str:
        """The sign as a word, for style sheets and screen readers."""
        return LABELS[self.sign]


@dataclass(frozen=True)
class Difference:
    """One field that differs: `old` and `new` as text (None: there is none), or `lines` where those say more."""

    path: str
    old: str | None
    new: str | None
    lines: tuple[Line, ...] = field(default=())

    @property
    def label(self) -> str:
        """The field as people call it: ``configuration.ignore_case`` → ``configuration › ignore case``."""
        return self.path.replace("_", " ").replace(".", " › ")


def compare(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[Difference]:
    """The differences of two documents. Of a created or deleted object (None) every field that says something."""
    found = []
    for path, before, after in _walk("", old, new):
        if old is None and _is_empty(after) or new is None and _is_empty(before):
            continue
        found.append(_describe(path, before, after))
    return found


def name_fields(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """The fields, not their entries, that differ."""
    old, new = old or {}, new or {}
    return [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]


_MISSING = object()


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    old = {} if old is None and not path else old
    new = {} if new is None and not path else new
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            before, after = old.get(name, _MISSING), new.get(name, _MISSING)
            if before != after:
                yield from _walk(f"{path}.{name}" if path else str(name), before, after)
    elif isinstance(new, Mapping) and new and old is _MISSING:
        yield from _walk(path, {}, new)
    elif isinstance(old, Mapping) and old and new is _MISSING:
        yield from _walk(path, old, {})
    else:
        yield path, old, new


def _is_empty(value: Any) -> bool:
    return value is _MISSING or value is None or value == "" or value == [] or value == {}


def _describe(path: str, old: Any, new: Any) -> Difference:
    before, after = spell(old), spell(new)
    long = (
        _is_list(old)
        or _is_list(new)
        or any(text is not None and ("\n" in text or len(text) > SHORT) for text in (before, after))
    )
    lines = _compare_lines(before or "", after or "") if long else ()
    return Difference(path, before, after, tuple(lines))


def _is_list(value: Any) -> bool:
    """Whether entries should stand on lines of their own: they are more than a few plain words."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return False
    return any(set(item) & set(" ,;()\n") for item in value) or sum(map(len, value)) > SHORT


def spell(value: Any) -> str | None:
    """A value as text: lists one entry a line, other structures as indented JSON, no value as None."""
    if value is _MISSING or value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) if not _is_list(value) else "\n".join(value)
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _compare_lines(old: str, new: str) -> Iterator[Line]:
    before, after = old.splitlines(), new.splitlines()
    if len(before) + len(after) > COMPARED:
        yield from (Line("-", text) for text in before)
        yield from (Line("+", text) for text in after)
        return
    groups = SequenceMatcher(
        None, before, after, autojunk=len(before) + len(after) > FULLY_COMPARED
    ).get_grouped_opcodes(CONTEXT)
    reached = 0
    for group in groups:
        if group[0][1] > reached:
            yield Line("…", f"{group[0][1] - reached} unchanged lines")
        for kind, start, end, new_start, new_end in group:
            if kind == "equal":
                yield from (Line("", text) for text in before[start:end])
                continue
            yield from (Line("-", text) for text in before[start:end])
            yield from (Line("+", text) for text in after[new_start:new_end])
        reached = group[-1][2]
    if len(before) > reached > 0:
        yield Line("…", f"{len(before) - reached} unchanged lines")
