"""What came of reviewing one file? Pure, and plain enough to pass between processes and to be kept in a cache.

What comes from another process, or from a file, is judged here before it is used: `decode` raises `ValueError` on
anything that `encode` does not write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from datetime import date
from typing import Any, NamedTuple

from plugins.contract import Finding
from reviews.suppressions import Directive

ENGINE = "engine"
"""Stands where a plugin would for what went wrong between them."""

_DIRECTIVE = tuple(each.name for each in fields_of(Directive))
_TYPES = {name: type(getattr(Directive(1, 1, 1), name)) for name in _DIRECTIVE}


class Failure(NamedTuple):
    """What an analyzer could not do. `rule` is None if it concerns all rules, `path` if it concerns all files."""

    plugin: str
    rule: str | None
    path: str | None
    message: str


class Hashes(NamedTuple):
    """By what the lines of a finding are known again; see `reviews.marks`."""

    code: str
    context: str
    line: str


Lines = tuple[int, int]
"""The first and the last line of a finding."""


@dataclass
class Outcome:
    """What the analyzers found in one file, and what its lines are like there."""

    findings: list[Finding] = field(default_factory=list)
    """Each once, in no order."""
    directives: list[Directive] = field(default_factory=list)
    hashes: dict[Lines, Hashes] = field(default_factory=dict)
    """Of the lines of every finding and directive."""
    lines: dict[int, str] = field(default_factory=dict)
    """The lines in and around them, cut to a length."""
    failures: list[Failure] = field(default_factory=list)
    failed: frozenset[str] = frozenset()
    """Rules that were to look at the file and did not, or not at all of it."""


def encode(outcome: Outcome) -> list[Any]:
    """The outcome as values that JSON can hold. The path is not in it, but for those of failures."""
    if not (outcome.findings or outcome.directives or outcome.failures or outcome.failed):
        return []
    return [
        [
            (
                each.rule,
                each.start_line,
                each.start_column,
                each.end_line,
                each.end_column,
                each.message,
                each.snippet,
                each.code,
                each.sensitive,
            )
            for each in outcome.findings
        ],
        [_encode_directive(each) for each in outcome.directives],
        [(*lines, *hashes) for lines, hashes in outcome.hashes.items()],
        list(outcome.lines.items()),
        outcome.failures,
        sorted(outcome.failed),
    ]


def decode(path: str, plain: Any, rules: Collection[str]) -> Outcome:
    """The outcome of the file at `path`, by some of the `rules`, that `encode` made these values of.

    Raises `ValueError` on others.
    """
    if plain == []:
        return Outcome()
    try:
        findings, directives, hashes, lines, failures, failed = plain
        return Outcome(
            [_decode_finding(path, each, rules) for each in findings],
            [_decode_directive(each) for each in directives],
            {
                (_number(first), _number(last)): Hashes(_text(code), _text(context), _text(line))
                for first, last, code, context, line in hashes
            },
            {_number(number): _text(line) for number, line in lines},
            decode_failures(failures),
            frozenset(map(_text, failed)),
        )
    except TypeError as error:
        raise ValueError(f"no outcome: {error}") from error


def decode_failures(plain: Any) -> list[Failure]:
    """Failures from values that JSON can hold. Raises `ValueError`."""
    if not isinstance(plain, list):
        raise ValueError("failures come as a list")
    failures = []
    for each in plain:
        plugin, rule, path, message = _row(each)
        failures.append(Failure(_text(plugin), _maybe(rule), _maybe(path), _text(message)))
    return failures


def _decode_finding(path: str, plain: Any, rules: Collection[str]) -> Finding:
    rule, start_line, start_column, end_line, end_column, message, snippet, code, sensitive = _row(plain)
    if _text(rule) not in rules:
        raise ValueError(f"a finding of the rule {rule!r}")
    return Finding(
        rule,
        path,
        _number(start_line),
        _number(start_column),
        _number(end_line),
        _number(end_column),
        _text(message),
        _text(snippet),
        _text(code),
        sensitive is True,
    )


def _encode_directive(directive: Directive) -> list[Any]:
    values = (getattr(directive, name) for name in _DIRECTIVE)
    return [each.isoformat() if isinstance(each, date) else each for each in values]


def _decode_directive(plain: Any) -> Directive:
    values = dict(zip(_DIRECTIVE, _row(plain), strict=True))
    values["names"] = tuple(map(_text, _row(values["names"])))
    until = values["until"]
    values["until"] = None if until is None else date.fromisoformat(_text(until))
    for name, value in values.items():
        if type(value) is not _TYPES[name] and name != "until":
            raise ValueError(f"a directive whose {name} is {type(value).__name__}")
    _number(values["line"])
    return Directive(**values)


def _row(value: Any) -> Iterable[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{type(value).__name__} where a list was due")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("a line or column that is no number from 1")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} where a text was due")
    return value


def _maybe(value: Any) -> str | None:
    return None if value is None else _text(value)
