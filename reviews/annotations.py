"""How does GitHub Actions show findings at the lines they are about? As workflow commands on standard output. Pure.

What comes from a reviewed file, its name included, must not end its line: the next one could be a command of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from plugins.contract import RuleSpec
from reviews.engine import SEVERITIES, Failure, rank
from reviews.issues import Issue, Listing

SHOWN = 10
"""Of errors, of warnings and of notices, that GitHub shows of one step. It drops what comes later."""
MAX_TITLE = 200
MAX_MESSAGE = 1_000

TITLE = "code-review"
ERROR, WARNING, NOTICE = "error", "warning", "notice"
_KINDS = {"critical": ERROR, "high": ERROR, "medium": WARNING, "low": NOTICE, "info": NOTICE}
_KEPT = "\t\n\r"


def to_commands(
    listing: Listing, rules: Sequence[RuleSpec], *, failures: Sequence[Failure] = (), prefix: str = ""
) -> str:
    """A command on each line for those that count, the most severe first, as many as GitHub shows.

    A last notice says how many are not among them. `prefix` leads from the root of the repository to the paths.
    """
    by_name = {rule.name: rule for rule in rules}
    issues = sorted(listing.counting, key=lambda issue: -rank(issue.judge(by_name).severity))
    kinds = [_kind(issue.judge(by_name)) for issue in issues]
    wanted = Counter(kinds)
    room = {ERROR: SHOWN, WARNING: SHOWN - bool(failures), NOTICE: SHOWN}
    if any(wanted[kind] > number for kind, number in room.items()):
        room[NOTICE] -= 1  # for the last one
    lines, missing = [], Counter[str]()
    for issue, kind in zip(issues, kinds, strict=True):
        rule = issue.judge(by_name)
        if room[kind] > 0:
            room[kind] -= 1
            lines.append(_annotate(kind, issue, rule, prefix))
        else:
            missing[rule.severity] += 1
    if failures:
        first = f"{failures[0].plugin}: {failures[0].message}"
        lines.append(_command(WARNING, f"{len(failures)} analyzer failures; the first: {first}", title=TITLE))
    if missing:
        lines.append(_command(NOTICE, _say_missing(missing), title=TITLE))
    return "".join(f"{line}\n" for line in lines)


def _kind(rule: RuleSpec) -> str:
    return _KINDS.get(rule.severity, WARNING)


def _annotate(kind: str, issue: Issue, rule: RuleSpec, prefix: str) -> str:
    finding = issue.finding
    place: dict[str, object] = {
        "file": prefix + finding.path,
        "line": finding.start_line,
        "endLine": finding.end_line,
    }
    if finding.start_line == finding.end_line:
        # GitHub takes columns only inside of one line.
        place |= {"col": finding.start_column, "endColumn": finding.end_column}
    title = f"{rule.severity}: {rule.title or rule.name} ({rule.name})"
    message = finding.message.strip() or rule.message.strip() or rule.title or rule.name
    return _command(kind, message, **place, title=_cut(title, MAX_TITLE))


def _command(kind: str, message: str, **properties: object) -> str:
    said = ",".join(f"{name}={_escape_property(str(value))}" for name, value in properties.items())
    return f"::{kind} {said}::{_escape(_cut(message, MAX_MESSAGE))}"


def _say_missing(missing: Counter[str]) -> str:
    counts = ", ".join(f"{missing[each]} {each}" for each in reversed(SEVERITIES) if missing[each])
    number = missing.total()
    return f"{number} more {'finding is' if number == 1 else 'findings are'} not shown at their lines ({counts})."


def _escape(text: str) -> str:
    """`text` as the data of a command: GitHub turns back what is escaped by percent signs, and nothing else."""
    return _show(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")


def _show(letters: Iterable[str]) -> str:
    """What cannot be printed as its escape, for it would reach the log; line ends are escaped in another way."""
    return "".join(
        letter if letter.isprintable() or letter in _KEPT else letter.encode("unicode_escape").decode()
        for letter in letters
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
