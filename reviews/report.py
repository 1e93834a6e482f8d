"""How does a person, or a script, read the result of a review?

Everything that comes from a reviewed file, its name included, is escaped before it is printed: a file under review must
not be able to drive the terminal of its reviewer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from time import monotonic
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from plugins.contract import RuleSpec
from reviews.choices import GONE, IssueState
from reviews.engine import SEVERITIES, Failure, Result, rank, route
from reviews.issues import UNASSIGNED, Issue, Listing, count, count_by_rule, list_new

SHOWN = 50
"""Findings shown on a terminal unless another number is asked for."""
TOP_RULES = 10
SHOWN_FAILURES = 10

_STYLES = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "yellow",
    "low": "cyan",
    "info": "bright_black",
}
_WORST_FIRST = tuple(reversed(SEVERITIES))
# GitHub Actions obeys `##[…]`, Azure Pipelines `##vso[…]`, wherever it stands in a line.
_PIPELINE_COMMAND = re.compile(r"##(?=\w*\[)")
_REDRAW = 0.05  # seconds between updates of the progress bar
_REASONS = {"too_large": "too large", "no_rule": "no rule asks for them", "symlink": "links"}


def to_json(
    result: Result,
    *,
    rules: Sequence[RuleSpec],
    revision: int,
    root: str,
    started_at: datetime,
    session: int | None = None,
    listing: Listing | None = None,
) -> dict[str, Any]:
    """The result as plain values, ready for `json.dump`. Keys may be added to this shape, never renamed.

    `listing` says which findings are told; by default all, as if none had been seen before.
    """
    listing = listing or list_new(result.findings)
    by_name = {rule.name: rule for rule in rules}
    counts: dict[str, Any] = count(listing.issues, rules)
    counts["by_state"] |= {name: (listing.gone or {}).get(name, 0) for name in GONE}
    counts |= {"suppressed": listing.suppressed, "dismissed": listing.dismissed}
    return {
        "revision": revision,
        "session": session,
        "root": root,
        "started_at": started_at.isoformat(),
        "seconds": round(result.seconds, 3),
        "files": {"analyzed": result.files_analyzed, "skipped": dict(sorted(result.files_skipped.items()))},
        "counts": counts,
        "findings": [_describe(issue, issue.judge(by_name)) for issue in listing.issues],
        "failures": [failure._asdict() for failure in result.failures],
    }


def _describe(issue: Issue, rule: RuleSpec) -> dict[str, Any]:
    finding, directive = issue.finding, issue.suppressed
    return {
        "rule": finding.rule,
        "severity": rule.severity,
        "rule_type": rule.rule_type,
        "personas": list(route(rule)),
        "path": finding.path,
        "start_line": finding.start_line,
        "start_column": finding.start_column,
        "end_line": finding.end_line,
        "end_column": finding.end_column,
        "message": finding.message,
        "snippet": finding.snippet,
        "code": finding.code,
        "key": issue.key,
        "state": str(issue.state),
        "triage": str(issue.triage),
        "suppressed": None
        if directive is None
        else {
            "reason": directive.reason,
            "until": directive.until.isoformat() if directive.until else None,
            "line": directive.line,
        },
    }


def print_table(
    result: Result,
    *,
    rules: Sequence[RuleSpec],
    console: Console,
    personas: Iterable[str] = (),
    show: int | None = SHOWN,
    origin: str = "",
    listing: Listing | None = None,
) -> None:
    """Print the result: tables on a terminal, else a line for each finding that `grep` and editors understand.

    `personas` gives their order. On a terminal `show` findings are listed (None: all), the most severe first; the lines
    are always complete. `listing` says which findings are told; by default all, as if none had been seen before.
    `origin` says which review this is, such as "review 17, configuration revision 42".
    """
    listing = listing or list_new(result.findings)
    by_name = {rule.name: rule for rule in rules}
    if not console.is_terminal:
        _print_lines(result, listing, by_name, console, origin)
        return
    if listing.issues:
        if listing.counting:
            console.print()
            console.print(_summary_table(listing.counting, rules, personas))
            console.print()
            console.print(_rule_table(listing.counting, by_name))
        shown = _choose(listing.issues, by_name, show)
        for path, group in groupby(shown, key=lambda issue: issue.finding.path):
            _print_file(path, list(group), by_name, console, compared=listing.gone is not None)
        hidden = len(listing.issues) - len(shown)
        if hidden and shown:
            console.print(Text(f"\n… and {hidden:,} more; --show {len(listing.issues)} lists all", "bright_black"))
    _print_failures(result.failures, console)
    console.print()
    conclusion, *circumstances = conclude(result, listing, rules, origin)
    console.print(Text(conclusion, "bold" if listing.counting else "bold green"))
    for line in circumstances:
        console.print(Text(line, "bright_black"))


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A function for the engine that draws a bar on `console` (of standard error), and nothing if it is no terminal."""
    if not console.is_terminal:
        yield _ignore
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[files]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Looking for files", total=None, files="")
        drawn = float("-inf")

        def draw(done: int, total: int) -> None:
            nonlocal drawn
            now = monotonic()
            # The bar would cost more than the review if each file drew it.
            if now - drawn >= _REDRAW or done == total:
                drawn = now
                files = f"{done:,} of {total:,} files"
                progress.update(task, description="Reviewing", completed=done, total=total, files=files)

        yield draw


def escape(text: str) -> str:
    """`text` on one line with nothing in it that a terminal obeys: what cannot be printed becomes its escape."""
    if text.isprintable():
        return text
    return "".join(
        " " if letter == "\t" else letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _ignore(done: int, total: int) -> None:
    """Nobody is watching."""


def _print_lines(
    result: Result, listing: Listing, rules: Mapping[str, RuleSpec], console: Console, origin: str
) -> None:
    lines = []
    for issue in listing.issues:
        each = issue.finding
        note = _note(issue, compared=listing.gone is not None)
        # Pipelines obey lines that begin with two colons.
        lead = "./" if ":" in each.path else ""
        place = f"{lead}{escape(each.path)}:{each.start_line}:{each.start_column}"
        text = f"{issue.judge(rules).severity} {escape(each.rule)} {escape(each.message)}"
        lines.append(f"{place}: {text}" + (f" ({note})" if note else ""))
    lines += [f"failure: {escape(_tell(failure))}" for failure in result.failures]
    lines += conclude(result, listing, list(rules.values()), origin)
    # Not through the console, which would fold long lines.
    encoding = console.encoding or "utf-8"
    for line in lines:
        line = _PIPELINE_COMMAND.sub(r"#\\x23", line)
        console.file.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _note(issue: Issue, *, compared: bool) -> str:
    """What is worth saying of an issue beside its place: that it is new, or why it does not count."""
    if issue.suppressed is not None:
        until = f" until {issue.suppressed.until}" if issue.suppressed.until else ""
        return f"suppressed{until}: {escape(issue.suppressed.reason)}" if issue.suppressed.reason else "suppressed"
    if issue.is_dismissed:
        return str(issue.triage).replace("_", " ")
    # At the first review everything is new.
    return str(issue.state) if compared and issue.state != IssueState.EXISTING else ""


def _summary_table(issues: Iterable[Issue], rules: Sequence[RuleSpec], personas: Iterable[str]) -> Table:
    rows: dict[str, Counter[str]] = {name: Counter() for name in personas}
    everything: Counter[str] = Counter()
    for rule, number in count_by_rule(issues, rules):
        for persona in route(rule) or (UNASSIGNED,):
            rows.setdefault(persona, Counter())[rule.severity] += number
        everything[rule.severity] += number
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_footer=True)
    table.add_column("Persona", footer="all", no_wrap=True, overflow="ellipsis", header_style="bold")
    for severity in _WORST_FIRST:
        style = _STYLES[severity] if everything[severity] else "bright_black"
        footer = _number(everything[severity], "bold")
        table.add_column(Text(severity, style), footer=footer, justify="right", no_wrap=True)
    table.add_column("total", footer=_number(everything.total(), "bold"), justify="right", no_wrap=True)
    for persona, counts in rows.items():
        if counts.total():
            numbers = (*(counts[severity] for severity in _WORST_FIRST), counts.total())
            table.add_row(Text(escape(persona)), *(_number(number) for number in numbers))
    return table


def _number(number: int, style: str = "") -> Text:
    return Text(f"{number:,}", style) if number else Text("·", "bright_black")


def _rule_table(issues: Iterable[Issue], rules: Mapping[str, RuleSpec]) -> Table:
    found = count_by_rule(issues, rules.values())
    top = sorted(found, key=lambda each: (-rank(each[0].severity), -each[1], each[0].name))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column("Found", justify="right", no_wrap=True)
    table.add_column("Severity", no_wrap=True)
    table.add_column("Rule", no_wrap=True, overflow="ellipsis", max_width=32)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for rule, number in top[:TOP_RULES]:
        title = Text(escape(rule.title), "bright_black")
        table.add_row(f"{number:,}", _label(rule.severity), Text(escape(rule.name)), title)
    if len(top) > TOP_RULES:
        rest = sum(number for _, number in top[TOP_RULES:])
        more = f"… by {_some(len(top) - TOP_RULES, 'more rule')}"
        table.add_row(f"{rest:,}", "", Text(more, "bright_black"), "")
    return table


def _choose(issues: Sequence[Issue], rules: Mapping[str, RuleSpec], show: int | None) -> list[Issue]:
    """The most severe issues, the new ones first, so that files with worse ones come first, and in a file the worse
    rules."""
    ranks = {id(each): rank(each.judge(rules).severity) for each in issues}
    chosen = sorted(issues, key=lambda each: (-ranks[id(each)], each.state == IssueState.EXISTING))
    if show is not None:
        del chosen[max(show, 0) :]
    worst: dict[str, int] = {}
    for each in chosen:
        path = each.finding.path
        worst[path] = max(worst.get(path, 0), ranks[id(each)])

    def order(each: Issue) -> tuple[int, str, int, str, int]:
        finding = each.finding
        return -worst[finding.path], finding.path, -ranks[id(each)], finding.rule, finding.start_line

    return sorted(chosen, key=order)


def _print_file(
    path: str, issues: Sequence[Issue], rules: Mapping[str, RuleSpec], console: Console, *, compared: bool
) -> None:
    console.print()
    console.print(Text(escape(path), "bold underline"), soft_wrap=True)
    for (name, message), found in groupby(issues, key=lambda each: (each.finding.rule, each.finding.message)):
        group = list(found)
        heading = Table.grid(padding=(0, 2, 0, 0))
        heading.add_column(no_wrap=True, width=8)
        heading.add_column(overflow="fold")
        said = Text.assemble(escape(message), "  ", (escape(name), "bright_black"))
        heading.add_row(_label(group[0].judge(rules).severity), said)
        console.print(Padding(heading, (0, 0, 0, 2)))
        for issue in group:
            each = issue.finding
            place = Text(f"{each.start_line}:{each.start_column}".rjust(10), "bright_black")
            note = _note(issue, compared=compared)
            style = "bold green" if issue.counts else "bright_black"
            mark = ((note, style), "  ") if note else ()
            line = Text.assemble("  ", place, "  ", *mark, escape(each.snippet.strip()))
            console.print(line, no_wrap=True, overflow="ellipsis")


def _label(severity: str) -> Text:
    return Text(severity, _STYLES.get(severity, ""))


def _print_failures(failures: Sequence[Failure], console: Console) -> None:
    if not failures:
        return
    console.print(Text("\nNot everything could be done", "bold red"))
    for failure in failures[:SHOWN_FAILURES]:
        console.print(Padding(Text(escape(_tell(failure))), (0, 0, 0, 2)))
    if len(failures) > SHOWN_FAILURES:
        console.print(Text(f"  … and {len(failures) - SHOWN_FAILURES:,} more", "bright_black"))


def _tell(failure: Failure) -> str:
    about = [f"plugin {failure.plugin}"]
    about += [f"rule {failure.rule}"] if failure.rule else []
    about += [failure.path] if failure.path else []
    return ", ".join(about) + f": {failure.message}"


def conclude(result: Result, listing: Listing, rules: Sequence[RuleSpec], origin: str = "") -> list[str]:
    """What was found, how that compares with what was known, and under what circumstances."""
    issues = listing.counting
    counts = count(issues, rules)
    parts = ", ".join(f"{number:,} {severity}" for severity, number in counts["by_severity"].items() if number)
    # A finding may be about a file that is not there.
    files = len(result.files.intersection(issue.finding.path for issue in issues))
    text = f"{_some(len(issues), 'finding')} ({parts}) in {files:,} of " if parts else "No findings in "
    lines = [text + _some(result.files_analyzed, "file")]
    if listing.gone is not None:
        states = {**counts["by_state"], **listing.gone}
        compared = [f"{number:,} {state.replace('_', ' ')}" for state, number in states.items() if number]
        compared += [f"{listing.known:,} known before and not listed"] if listing.known else []
        lines.append("Since the last review: " + (", ".join(compared) or "nothing has changed"))
    aside = [f"{listing.suppressed:,} suppressed in the code"] if listing.suppressed else []
    aside += [f"{listing.dismissed:,} dismissed"] if listing.dismissed else []
    if aside:
        lines.append(
            f"Not counted: {', '.join(aside)}" + ("" if _shows_all(listing) else "; --show-suppressed lists them")
        )
    circumstances = f"{result.seconds:.1f} s" + (f", {origin}" if origin else "")
    circumstances += f", {_some(len(result.failures), 'failure')}" if result.failures else ""
    reasons = sorted(result.files_skipped.items())
    skipped = ", ".join(f"{number:,} {_REASONS.get(reason, reason)}" for reason, number in reasons if number)
    return [*lines, circumstances + (f"; skipped {skipped}" if skipped else "")]


def _shows_all(listing: Listing) -> bool:
    return any(not issue.counts for issue in listing.issues)


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
