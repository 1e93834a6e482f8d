"""What does a page show of a review at a glance? Numbers, bars, a line of the last reviews, code with its numbers.

Plain values for templates; nothing here asks the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from reviews.choices import IssueState, Presence
from reviews.models import DiscoveredIssue, ReviewSession
from rules.choices import Severity

TREND = 12  # reviews in a line
CODE = re.compile(r"`([^`\n]+)`")
COLUMN, GAP, HEIGHT = 10, 3, 40  # of the line's drawing
STATES = {
    IssueState.NEW.value: "new",
    IssueState.REAPPEARED.value: "back again",
    Presence.FIXED.value: "fixed",
    Presence.RULE_REMOVED.value: "without their rule",
}
"""What differs from the last review, and how a page calls it."""
REASONS = {
    "ignored": "ignored by a .gitignore, an excluding line or by default",
    "binary": "binary",
    "too_large": "too large",
    "unreadable": "not readable",
    "symlink": "symbolic links, which are not followed",
    "special": "devices, pipes and sockets",
    "no_rule": "that no rule asks for",
    "unchanged": "without a changed line",
    "generated": "Copilot files that an earlier review has written",
}


def read_counts(session: ReviewSession) -> dict[str, int]:
    """Findings by severity, worst first, without those that do not occur."""
    counts = session.counts.get("by_severity", session.counts.get("severity", {}))
    return {item.value: counts[item.value] for item in reversed(Severity) if counts.get(item.value)}


def read_states(session: ReviewSession) -> dict[str, int]:
    """What differs from the review before, without what does not occur."""
    counts = session.counts.get("by_state", {})
    return {state: counts[state] for state in STATES if counts.get(state)}


def draw_bars(numbers: dict[str, int]) -> list[dict[str, Any]]:
    """Numbers by severity as bars, worst first: each with its share of the largest, in percent."""
    largest = max([*numbers.values(), 1])
    return [
        {
            "severity": item.value,
            "count": numbers.get(item.value, 0),
            "percent": round(100 * numbers.get(item.value, 0) / largest),
        }
        for item in reversed(Severity)
    ]


def measure_progress(session: ReviewSession) -> int:
    """How much of the files is done, in percent."""
    return min(100, 100 * session.files_done // session.files_total) if session.files_total else 0


def explain_left_out(session: ReviewSession) -> list[tuple[str, int]]:
    """Why files were left out, most first, and how many."""
    counted = sorted(session.files_skipped.items(), key=lambda item: (-item[1], item[0]))
    return [(REASONS.get(reason, reason.replace("_", " ")), number) for reason, number in counted]


@dataclass(frozen=True)
class Part:
    """A part of a column: findings of one severity."""

    severity: str
    y: float
    height: float


@dataclass(frozen=True)
class Column:
    """A review in the line: its findings, worst at the bottom."""

    session: ReviewSession
    x: int
    total: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Trend:
    """The last reviews of a codebase, as columns of a drawing."""

    columns: tuple[Column, ...]
    width: int
    height: int = HEIGHT
    column: int = COLUMN


def draw_trend(sessions: Sequence[ReviewSession]) -> Trend | None:
    """`sessions`, oldest first, as a drawing; None if one alone would be no line."""
    if len(sessions) < 2:
        return None
    counted = [read_counts(session) for session in sessions]
    largest = max(1, *(sum(counts.values()) for counts in counted))
    columns = tuple(
        Column(session, index * (COLUMN + GAP), sum(counts.values()), tuple(_stack(counts, largest)))
        for index, (session, counts) in enumerate(zip(sessions, counted, strict=True))
    )
    return Trend(columns, len(columns) * (COLUMN + GAP) - GAP)


def _stack(counts: dict[str, int], largest: int) -> Iterator[Part]:
    below = float(HEIGHT)
    for severity, number in counts.items():
        height = HEIGHT * number / largest
        below -= height
        yield Part(severity, round(below, 2), round(height, 2))


@dataclass(frozen=True)
class Line:
    """A line of code as a page shows it."""

    number: int
    text: str
    marked: bool


def mark_code(text: str) -> SafeString:
    """A text of a rule, with what stands between backticks shown as code, and its lines kept."""
    parts = [
        format_html("<code>{}</code>", part) if index % 2 else conditional_escape(part)
        for index, part in enumerate(CODE.split(text))
    ]
    return mark_safe("".join(parts).replace("\n", "<br>"))  # noqa: S308, every part is escaped


def list_lines(issue: DiscoveredIssue, around: int | None = None) -> list[Line]:
    """The code of `issue` with `around` lines before and after (None: all that are kept); the snippet if none are."""
    first, texts = issue.context_start, issue.context
    if not texts:
        first, texts = issue.start_line, issue.snippet.splitlines()
    lines = [
        Line(number, text, issue.start_line <= number <= issue.end_line) for number, text in enumerate(texts, first)
    ]
    if around is None:
        return lines
    return [line for line in lines if issue.start_line - around <= line.number <= issue.end_line + around]
