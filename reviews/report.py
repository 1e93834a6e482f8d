"""How does a person, or a script, read the result of a review?

Everything that comes from a reviewed file, its name included, is escaped before it is printed: a file under review must
not be able to drive the terminal of its reviewer.
"""

from __future__ import annotations

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

from plugins.contract import Finding, RuleSpec
from reviews.engine import SEVERITIES, Failure, Result, rank, route

SHOWN = 50
"""Findings shown on a terminal unless another number is asked for."""
TOP_RULES = 10
SHOWN_FAILURES = 10
UNASSIGNED = "unassigned"
"""Stands where a persona would for rules that nobody speaks for."""

_STYLES = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "yellow",
    "low": "cyan",
    "info": "bright_black",
}
_WORST_FIRST = tuple(reversed(SEVERITIES))
_REDRAW = 0.05  # seconds between updates of the progress bar
_REASONS = {"too_large": "too large", "no_rule": "no rule asks for them", "symlink": "links"}


def count(result: Result, rules: Sequence[RuleSpec]) -> dict[str, dict[str, int]]:
    """Number of findings `by_severity` (all of them), `by_persona` and `by_rule` (those that have any, most first).

    A finding of a rule that several personas speak for counts for each of them.
    """
    by_rule = Counter(finding.rule for finding in result.findings)
    by_severity = dict.fromkeys(_WORST_FIRST, 0)
    by_persona: Counter[str] = Counter()
    for rule in rules:
        number = by_rule[rule.name]
        if number:
            by_severity[rule.severity] = by_severity.get(rule.severity, 0) + number
            for persona in route(rule) or (UNASSIGNED,):
                by_persona[persona] += number
    return {"by_severity": by_severity, "by_persona": _most_first(by_persona), "by_rule": _most_first(by_rule)}


def to_json(
    result: Result,
    *,
    rules: Sequence[RuleSpec],
    revision: int,
    root: str,
    started_at: datetime,
    session: int | None = None,
) -> dict[str, Any]:
    """The whole result as plain values, ready for `json.dump`. Keys may be added to this shape, never renamed."""
    by_name = {rule.name: rule for rule in rules}
    return {
        "revision": revision,
        "session": session,
        "root": root,
        "started_at": started_at.isoformat(),
        "seconds": round(result.seconds, 3),
        "files": {"analyzed": result.files_analyzed, "skipped": dict(sorted(result.files_skipped.items()))},
        "counts": count(result, rules),
        "findings": [
            {
                "rule": finding.rule,
                "severity": by_name[finding.rule].severity,
                "rule_type": by_name[finding.rule].rule_type,
                "personas": list(route(by_name[finding.rule])),
                "path": finding.path,
                "start_line": finding.start_line,
                "start_column": finding.start_column,
                "end_line": finding.end_line,
                "end_column": finding.end_column,
                "message": finding.message,
                "snippet": finding.snippet,
            }
            for finding in result.findings
        ],
        "failures": [failure._asdict() for failure in result.failures],
    }


def print_table(
    result: Result,
    *,
    rules: Sequence[RuleSpec],
    console: Console,
    personas: Iterable[str] = (),
    show: int | None = SHOWN,
    revision: int | None = None,
) -> None:
    """Print the result: tables on a terminal, else a line for each finding that `grep` and editors understand.

    `personas` gives their order. On a terminal `show` findings are listed (None: all), the most severe first; the lines
    are always complete.
    """
    by_name = {rule.name: rule for rule in rules}
    if not console.is_terminal:
        _print_lines(result, by_name, console, revision)
        return
    if result.findings:
        console.print()
        console.print(_summary_table(result, rules, personas))
        console.print()
        console.print(_rule_table(result, by_name))
        shown = _choose(result.findings, by_name, show)
        for path, group in groupby(shown, key=lambda finding: finding.path):
            _print_file(path, list(group), by_name, console)
        hidden = len(result.findings) - len(shown)
        if hidden and shown:
            console.print(Text(f"\n… and {hidden:,} more; --show {len(result.findings)} lists all", "bright_black"))
    _print_failures(result.failures, console)
    console.print()
    conclusion, circumstances = _conclude(result, rules, revision)
    console.print(Text(conclusion, "bold" if result.findings else "bold green"))
    console.print(Text(circumstances, "bright_black"))


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


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _print_lines(result: Result, rules: Mapping[str, RuleSpec], console: Console, revision: int | None) -> None:
    lines = [
        f"{escape(each.path)}:{each.start_line}:{each.start_column}: "
        f"{rules[each.rule].severity} {escape(each.rule)} {escape(each.message)}"
        for each in result.findings
    ]
    lines += [f"failure: {escape(_tell(failure))}" for failure in result.failures]
    lines += _conclude(result, list(rules.values()), revision)
    # Not through the console, which would fold long lines.
    encoding = console.encoding or "utf-8"
    for line in lines:
        console.file.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _summary_table(result: Result, rules: Sequence[RuleSpec], personas: Iterable[str]) -> Table:
    by_rule = Counter(finding.rule for finding in result.findings)
    rows: dict[str, Counter[str]] = {name: Counter() for name in personas}
    everything: Counter[str] = Counter()
    for rule in rules:
        for persona in route(rule) or (UNASSIGNED,):
            rows.setdefault(persona, Counter())[rule.severity] += by_rule[rule.name]
        everything[rule.severity] += by_rule[rule.name]
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


def _rule_table(result: Result, rules: Mapping[str, RuleSpec]) -> Table:
    by_rule = Counter(finding.rule for finding in result.findings)
    top = sorted(by_rule, key=lambda name: (-rank(rules[name].severity), -by_rule[name], name))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column("Found", justify="right", no_wrap=True)
    table.add_column("Severity", no_wrap=True)
    table.add_column("Rule", no_wrap=True, overflow="ellipsis", max_width=32)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in top[:TOP_RULES]:
        title = Text(escape(rules[name].title), "bright_black")
        table.add_row(f"{by_rule[name]:,}", _label(rules[name].severity), Text(escape(name)), title)
    if len(top) > TOP_RULES:
        rest = sum(by_rule[name] for name in top[TOP_RULES:])
        more = f"… by {_some(len(top) - TOP_RULES, 'more rule')}"
        table.add_row(f"{rest:,}", "", Text(more, "bright_black"), "")
    return table


def _choose(findings: Sequence[Finding], rules: Mapping[str, RuleSpec], show: int | None) -> list[Finding]:
    """The most severe findings, so that files with worse ones come first, and in a file the worse rules."""
    ranks = {name: rank(rule.severity) for name, rule in rules.items()}
    chosen = sorted(findings, key=lambda each: -ranks[each.rule])
    if show is not None:
        del chosen[max(show, 0) :]
    worst: dict[str, int] = {}
    for each in chosen:
        worst[each.path] = max(worst.get(each.path, 0), ranks[each.rule])
    return sorted(
        chosen,
        key=lambda each: (-worst[each.path], each.path, -ranks[each.rule], each.rule, each.start_line),
    )


def _print_file(path: str, findings: Sequence[Finding], rules: Mapping[str, RuleSpec], console: Console) -> None:
    console.print()
    console.print(Text(escape(path), "bold underline"), soft_wrap=True)
    for (name, message), group in groupby(findings, key=lambda each: (each.rule, each.message)):
        heading = Table.grid(padding=(0, 2, 0, 0))
        heading.add_column(no_wrap=True, width=8)
        heading.add_column(overflow="fold")
        said = Text.assemble(escape(message), "  ", (escape(name), "bright_black"))
        heading.add_row(_label(rules[name].severity), said)
        console.print(Padding(heading, (0, 0, 0, 2)))
        for each in group:
            place = Text(f"{each.start_line}:{each.start_column}".rjust(10), "bright_black")
            line = Text.assemble("  ", place, "  ", escape(each.snippet.strip()))
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


def _conclude(result: Result, rules: Sequence[RuleSpec], revision: int | None) -> list[str]:
    """What was found, and under what circumstances."""
    found = count(result, rules)["by_severity"]
    parts = ", ".join(f"{number:,} {severity}" for severity, number in found.items() if number)
    files = len({finding.path for finding in result.findings})
    text = f"{_some(len(result.findings), 'finding')} ({parts}) in {files:,} of " if parts else "No findings in "
    conclusion = text + _some(result.files_analyzed, "file")
    circumstances = f"{result.seconds:.1f} s"
    circumstances += f", configuration revision {revision}" if revision is not None else ""
    circumstances += f", {_some(len(result.failures), 'failure')}" if result.failures else ""
    reasons = sorted(result.files_skipped.items())
    skipped = ", ".join(f"{number:,} {_REASONS.get(reason, reason)}" for reason, number in reasons if number)
    return [conclusion, circumstances + (f"; skipped {skipped}" if skipped else "")]


def _some(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
