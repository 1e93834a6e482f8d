"""Which comments in the code ask to leave a finding alone? The parser of directives, and the plugin `directives`.

A directive is a comment that begins with ``code-review: ignore[RULE-A, RULE-B] -- reason (until=2030-01-31)``, in any
language: after ``#``, ``//``, ``/*``, ``<!--``, ``--``, ``;``, ``%`` and their like. It stands on the first line of the
finding, or alone on the line before; several may be stacked, blank lines are not crossed. Where XML forbids ``--`` in a
comment, a dash (– or —) does as well. There is no form that names no rule.

What is meant as a directive and cannot be read suppresses nothing and is reported. Prose that mentions one is left in
peace: text in quotes or backticks, and text in the middle of a comment, never counts as a mistake.

The plugin's configuration is the policy. While the plugin is disabled no directive is honoured. `analyze` reports what
can be told from the text alone; what needs the findings and the other rules is told by `reviews.suppressions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

from plugins import schemas
from plugins.analyzers.patterns import check_configuration, normalise, shorten
from plugins.contract import Finding, RuleSpec, SourceFile

NAME = "directives"
"""The plugin, as rules name it."""
WORD = b"code-review"
"""A file without these bytes has no directive."""
MAX_LENGTH = 1000
"""Bytes of a directive that are read."""
MAX_REASON = 500
"""Characters of a reason that are kept."""

_LOOK_BACK = 1000  # bytes before a directive in which its comment, and the quotes round it, are looked for

# What opens a comment, at its end. The weaker signs count only after white space, a star only at the start of a line.
_OPENER = re.compile(
    rb"(?:\{?\#+[:!]?|//+!?|/\*[*!]*|<!--+|<%--|<%\#|\{\{!--|\{-+|\(\*+"
    rb"|(?<![^ \t])(?:--+|;+|%+|!|\.\.|[Rr][Ee][Mm]))$",
)
_LONGEST_OPENER = 80
_CLOSER = re.compile(r"\*/|--%?>|--\}\}|%>|#\}|\*\)|-\}")
_ONLY_CLOSER = re.compile(rb"[ \t]*(?:\*/|--%?>|--\}\}|%>|#\}|\*\)|-\})[ \t]*\}?\s*\Z")
_REQUEST = re.compile(rb"code-review([ \t]*)(:?)[ \t]*([A-Za-z][A-Za-z_-]*)[ \t]*(\[?)")
_SEPARATOR = re.compile(r"\s*(?:--|–|—)\s*")
# What opens the comment of the next directive on the same line.
_NEXT_OPENER = re.compile(r"(?:(?<=\s)|^)(?:#+|//+|/\*+|--+|;+|<!--)\s*$")
_OTHER_COMMENT = re.compile(r"\s*(?:#|//|/\*|<!--|;)")
_UNTIL = re.compile(r"\(\s*until\s*=([^()]*)\)")
_STRAY_UNTIL = re.compile(r"\buntil\s*[=:]\s*\d")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

FORM = "Write `code-review: ignore[RULE] -- reason`."


class Kind(StrEnum):
    """Why a directive is reported. Such a one suppresses nothing."""

    MALFORMED = "malformed"
    FORBIDDEN = "forbidden"
    EXPIRED = "expired"
    UNUSED = "unused"


@dataclass(frozen=True, slots=True)
class Directive:
    """A comment that asks to leave findings alone. Lines and columns as in `Finding`."""

    line: int
    column: int
    end_column: int
    names: tuple[str, ...] = ()
    """Rules whose findings it is about."""
    reason: str = ""
    until: date | None = None
    """The last day on which it holds; None: for ever."""
    problem: str = ""
    """What is wrong with how it is written; empty: nothing."""
    covers: int = 0
    """The line of code below it, if it stands alone on its own; otherwise 0. It always covers its own line."""
    quoted: bool = False
    """It looks like text in a string or in prose: honoured if it can be, never reported."""
    text: str = ""
    """The directive as it is written."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a directive must satisfy."""

    require_reason: bool = True
    max_days: int = 0
    """Days from now within which each must end; 0: it need not end."""
    known: frozenset[str] = frozenset()
    """Names of all rules there are, besides those of the run: naming one that is switched off is no mistake."""

    @classmethod
    def of(cls, configuration: Mapping[str, Any], known: Iterable[str] = ()) -> Policy:
        """The policy that a configuration of the plugin describes."""
        settings = schemas.with_defaults(Directives.configuration_schema, configuration)
        return cls(settings["require_reason"], settings["max_days"], frozenset(known))


def find_directives(content: bytes) -> list[Directive]:
    """The directives in a file, in its order. Costs next to nothing in a file that does not have the word."""
    if WORD not in content:
        return []
    source = normalise(SourceFile("", content))
    found = list(_parse(source))
    below = _find_lines_below(source, {each.line for each in found if each.covers})
    return [replace(each, covers=below[each.line]) if each.covers else each for each in found]


def judge(directive: Directive, policy: Policy, today: date) -> tuple[Kind, str] | None:
    """What its text and the policy say against a directive: kind and explanation, or None."""
    if directive.problem:
        return Kind.MALFORMED, directive.problem
    if policy.require_reason and not directive.reason:
        return Kind.MALFORMED, "It gives no reason: write one after ` -- `."
    if policy.max_days:
        last = today + timedelta(days=policy.max_days)
        if directive.until is None:
            return Kind.FORBIDDEN, f"It must end: add (until=YYYY-MM-DD), at most {policy.max_days} days from now."
        if directive.until > last:
            return Kind.FORBIDDEN, f"It may not last longer than {policy.max_days} days, until {last.isoformat()}."
    if directive.until is not None and directive.until < today:
        return Kind.EXPIRED, f"It ended on {directive.until.isoformat()}."
    return None


def make_finding(rule: RuleSpec, path: str, directive: Directive, detail: str) -> Finding:
    """The finding of `rule` that reports a directive."""
    return Finding(
        rule=rule.name,
        path=path,
        start_line=directive.line,
        start_column=directive.column,
        end_line=directive.line,
        end_column=directive.end_column,
        message=f"{rule.message or rule.title or rule.name} {detail}".strip(),
        snippet=directive.text,
    )


def reported_kind(rule: RuleSpec) -> str:
    """The kind of directive that a rule of this plugin reports."""
    return str(rule.configuration.get("report", ""))


class Directives:
    """Reads the suppressions in the code, and reports those that suppress nothing."""

    name = NAME
    title = "Suppressions"
    description = (
        "Honours comments such as `code-review: ignore[RULE] -- reason (until=2030-01-31)` and reports those that are "
        "malformed, forbidden, expired or no longer needed. While it is disabled, no comment suppresses anything."
    )
    version = "1.0.0"
    requires: Sequence[str] = ()
    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Suppressions",
        "properties": {
            "require_reason": {
                "type": "boolean",
                "title": "Require a reason",
                "description": "A directive without ` -- reason` is malformed and suppresses nothing.",
                "format": "checkbox",
                "default": True,
            },
            "max_days": {
                "type": "integer",
                "title": "Longest time in days",
                "description": "Each directive must end, with (until=YYYY-MM-DD), at most so many days from now; "
                "0: it need not end.",
                "format": "int32",
                "minimum": 0,
                "maximum": 3650,
                "default": 0,
            },
        },
        "additionalProperties": False,
    }
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Report of suppressions",
        "properties": {
            "report": {
                "type": "string",
                "title": "Report",
                "description": "malformed: not understood. forbidden: of a rule that may not be suppressed, or for "
                "too long. expired: its time is over. unused: its rules found nothing there.",
                "enum": [kind.value for kind in Kind],
            }
        },
        "required": ["report"],
        "additionalProperties": False,
    }

    def __init__(self) -> None:
        self.prepare((), {})

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if the configuration does not fit the schema."""
        check_configuration(rule, self.rule_schema)

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Take the policy of a run."""
        self._policy = Policy.of(configuration)

    def analyze(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterable[Finding]:
        """Directives that their own text and the policy speak against. Never those that are unused."""
        findings = []
        # The day changes where the reviewer is, as people expect of a date in a comment.
        today = date.today()
        for directive in find_directives(source.content):
            said = None if directive.quoted else judge(directive, self._policy, today)
            if said is not None:
                kind, detail = said
                findings += [
                    make_finding(rule, source.path, directive, detail) for rule in rules if reported_kind(rule) == kind
                ]
        return findings


def _parse(source: SourceFile) -> Iterator[Directive]:
    """Every directive; `covers` is 1 for those that stand alone on their line."""
    content, starts = source.content, source.line_starts
    line, column, counted = 0, 1, 0
    position = content.find(WORD)
    while position != -1:
        following = content.find(WORD, position + len(WORD))
        while line < len(starts) and starts[line] <= position:
            counted, column = starts[line], 1
            line += 1
        end = starts[line] - 1 if line < len(starts) else len(content)
        opener = _find_opener(
            content[max(starts[line - 1], position - _LOOK_BACK) : position], position, starts[line - 1]
        )
        request = _REQUEST.match(content, position, end) if opener is not None else None
        if opener is not None and request is not None and _is_meant(request):
            column += len(content[counted:position].decode("utf-8", "replace"))
            counted = position
            stop = min(end, position + MAX_LENGTH, following if following != -1 else end)
            before, quotes = opener
            yield _read(
                content[position:stop],
                content[stop : min(end, stop + MAX_LENGTH)],
                request,
                line,
                column,
                before,
                quotes,
            )
        position = following


def _find_opener(before: bytes, position: int, line_start: int) -> tuple[bytes, list[bytes]] | None:
    """What stands on the line before the comment, and the quotes that are open there; None: it begins no comment."""
    cut = position - len(before) > line_start
    stripped = (b"x" if cut else b"") + before.rstrip(b" \t")
    match = _OPENER.search(stripped, max(0, len(stripped) - _LONGEST_OPENER))
    if match is not None:
        code = stripped[: match.start()]
    elif stripped.endswith(b"*") and not stripped.strip(b" \t*"):
        code = b""
    else:
        return None
    quotes = [mark for mark in (b'"', b"'", b"`") if (code.count(mark) - code.count(b"\\" + mark)) % 2]
    return code, quotes


def _is_meant(request: re.Match[bytes]) -> bool:
    """Whether this is a directive, be it a wrong one, and not prose."""
    _, colon, word, bracket = request.groups()
    verb = re.split(rb"[-_]", word.lower())[0]
    return bool(bracket) if verb != b"ignore" else bool(colon or bracket)


def _read(
    written: bytes, after: bytes, request: re.Match[bytes], line: int, column: int, before: bytes, quotes: list[bytes]
) -> Directive:
    text = written.decode("utf-8", "replace").replace("\0", "\ufffd").rstrip()
    closer = _CLOSER.search(text)
    rest = text[closer.end() :] + after.decode("utf-8", "replace") if closer else ""
    text = text[: closer.start()].rstrip() if closer else text
    sides = before.strip(), rest.strip()
    directive = Directive(
        line,
        column,
        column + len(text),
        covers=int(sides in ((b"", ""), (b"{", "}"))),
        quoted=before[-1:] in (b'"', b"'", b"`") or any(mark in written + after for mark in quotes),
        text=shorten(text),
    )
    space, colon, word, bracket = (part.decode() for part in request.groups())
    if word != "ignore":
        return replace(directive, problem=f"It says {word!r}, and only `ignore` is known. {FORM}")
    if space or not colon:
        return replace(directive, problem="`code-review` and its colon belong together. " + FORM)
    if not bracket:
        return replace(directive, problem=f"It names no rule. {FORM}")
    return _read_request(directive, text[request.end() - request.start() :])


def _read_request(directive: Directive, text: str) -> Directive:
    """The directive with what follows its opening bracket."""
    listed, bracket, text = text.partition("]")
    names = tuple(dict.fromkeys(name.strip() for name in listed.split(",")))
    if not bracket:
        return replace(directive, problem=f"Its bracket is not closed. {FORM}")
    if names == ("",):
        return replace(directive, problem=f"It names no rule. {FORM}")
    if "" in names:
        return replace(directive, problem="Between its commas a name is missing.")
    directive = replace(directive, names=names)
    dates = _UNTIL.findall(text)
    text = _UNTIL.sub("", text).strip()
    separator = _SEPARATOR.match(text)
    if text and separator is None and not _OTHER_COMMENT.match(text):
        return replace(directive, problem="Its reason follows after ` -- `. " + FORM)
    reason = _NEXT_OPENER.sub("", text[separator.end() :]) if separator else ""
    directive = replace(directive, reason=reason.strip()[:MAX_REASON])
    if len(dates) > 1:
        return replace(directive, problem="It ends on two days.")
    if dates:
        until = _read_date(dates[0].strip())
        if until is None:
            return replace(directive, problem="Its last day is no date: write (until=YYYY-MM-DD).")
        return replace(directive, until=until)
    if _STRAY_UNTIL.search(text) or "(until" in text:
        return replace(directive, problem="Its last day stands in brackets: write (until=YYYY-MM-DD).")
    return directive


def _read_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def _find_lines_below(source: SourceFile, alone: set[int]) -> dict[int, int]:
    """The line of code that a directive alone on its line speaks of: the next one that is not such a line itself; 0 if
    that is blank or the file ends."""
    below: dict[int, int] = {}
    starts = source.line_starts
    for line in sorted(alone, reverse=True):
        number = line + 1
        while number not in below and number <= len(starts):
            end = starts[number] if number < len(starts) else len(source.content)
            text = source.content[starts[number - 1] : end]
            if not _ONLY_CLOSER.match(text):
                below[line] = number if text.strip() else 0
                break
            number += 1
        below.setdefault(line, below.get(number, 0))
    return below
