"""What does a pull request, or the page of a pipeline, say of a review? A summary in Markdown. Pure.

File names, messages and code come from the reviewed repository. They must not break out of their cell, nor mention
people, link to anything or show pictures. So every sign that means something is written as its character reference,
which Markdown never takes for structure; names and code stand in `code` and `pre` besides, where GitHub looks for
neither mentions nor addresses.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from plugins.contract import RuleSpec
from reviews.choices import IssueState, Presence
from reviews.engine import SEVERITIES, Failure, rank
from reviews.issues import Issue, Listing
from reviews.report import escape

MAX_CHARACTERS = 60_000
"""Of a summary. A comment takes 65,536, the page of a pipeline 1 MB: four bytes for each at most."""
MAX_ROWS = 100
MAX_FAILURES = 10
_TABLE = 0.6  # of the characters; the details get the rest
_NOTES = 500  # characters that are kept for what is said at the end
_MAX_MESSAGE, _MAX_ADVICE, _MAX_PATH, _MAX_CODE, _MAX_NAME = 300, 1_000, 150, 200, 100

_WORST_FIRST = tuple(reversed(SEVERITIES))
_SUPPRESSED, _DISMISSED = "suppressed", "dismissed"
_ROWS = (*IssueState.values, _SUPPRESSED, _DISMISSED)
_GONE = {Presence.FIXED.value: "fixed", Presence.RULE_REMOVED.value: "rule removed"}

_ZERO_WIDTH = "&#8203;"
_AT = "&#64;"
# Every sign that could mean something. Inside of a word, and at the end of a sentence, some never do.
_SIGN = re.compile(
    r"(?P<plain>(?<=[A-Za-z0-9])(?<![Ww]{3})[._\-](?=[A-Za-z0-9])|(?<=[A-Za-z])\.(?= |\Z))"
    r"|[!#$&()*+\-.:<=>@\[\\\]^_`{|}~]"
)
# What GitHub makes links, mentions and pictures of, even out of character references.
_TEMPTING = re.compile(r"[@#]|:(?=\S)|www(?=\.)|GH(?=-\d)", re.IGNORECASE)


def to_markdown(
    listing: Listing,
    rules: Sequence[RuleSpec],
    *,
    issues: Iterable[Issue],
    codebase: str = "",
    failures: Sequence[Failure] = (),
    files: int = 0,
    prefix: str = "",
) -> str:
    """The summary. `issues` are all of the review, `listing` what is told of them; the new ones are listed.

    `files` were reviewed. `prefix` leads from the root of the repository to the paths.
    """
    by_name = {rule.name: rule for rule in rules}
    fresh = [issue for issue in listing.counting if listing.state(issue) != IssueState.EXISTING]
    fresh.sort(key=lambda issue: -rank(issue.judge(by_name).severity))
    parts = [_headline(listing, fresh, by_name, codebase), _matrix(listing, issues, by_name)]
    parts += _remarks(listing, failures, files)
    left = MAX_CHARACTERS - _NOTES - sum(map(len, parts)) - 2 * len(parts)
    if fresh:
        rows = [_row(issue, issue.judge(by_name), listing, prefix) for issue in fresh[:MAX_ROWS]]
        kept = _take(rows, int(left * _TABLE))
        head = "| Severity | Where | Rule | Finding |\n|---|---|---|---|\n"
        left -= len(head) + sum(map(len, kept))
        parts.append((head + "".join(kept)).rstrip("\n"))
        if len(kept) < len(fresh):
            parts.append(f"… and {len(fresh) - len(kept):,} more.")
        parts += _take(_details(fresh[: len(kept)], by_name, prefix), left)
    return "\n\n".join(parts) + "\n"


def prose(text: str, length: int = _MAX_MESSAGE) -> str:
    """`text` that is read as nothing but text, on one line."""
    plain = _cut(escape(" ".join(text.split())), length)
    marked = _TEMPTING.sub(lambda match: match[0] + "\0", plain)
    return _SIGN.sub(_refer, marked).replace("\0", _ZERO_WIDTH)


def code(text: str) -> str:
    """`text`, which is one line, in the type of code."""
    # GitHub finds e-mail addresses in text that it has put together again; a comment keeps it apart, and can be copied.
    return f"<code>{_SIGN.sub(_refer, text).replace(_AT, _AT + '<!-- -->')}</code>"


def _refer(match: re.Match[str]) -> str:
    return match[0] if match["plain"] else f"&#{ord(match[0])};"


def _headline(listing: Listing, fresh: Sequence[Issue], rules: Mapping[str, RuleSpec], codebase: str) -> str:
    severities = Counter(issue.judge(rules).severity for issue in fresh)
    counts = ", ".join(f"{severities[each]:,} {each}" for each in _WORST_FIRST if severities[each])
    kind = "new " if listing.is_compared else ""
    found = f"{_some(len(fresh), f'{kind}finding')} ({counts})" if fresh else f"no {kind}findings"
    name = f" of {prose(codebase, _MAX_NAME)}" if codebase.strip() else ""
    return f"## Code review{name}: {found}"


def _matrix(listing: Listing, issues: Iterable[Issue], rules: Mapping[str, RuleSpec]) -> str:
    """How many there are of each severity, and what became of them."""
    told = set(listing.issues)
    rows: dict[str, Counter[str]] = {name: Counter() for name in _ROWS}
    for issue in issues:
        rows[_classify(issue, listing, is_told=issue in told)][issue.judge(rules).severity] += 1
    lines = [f"| | {' | '.join(_WORST_FIRST)} | total |", "|---" + "|--:" * (len(_WORST_FIRST) + 1) + "|"]
    for name, counts in rows.items():
        if counts or name == IssueState.NEW:
            numbers = [counts[severity] for severity in _WORST_FIRST]
            lines.append(f"| {name} | {' | '.join(map(_number, numbers))} | {_number(counts.total())} |")
    for name, label in _GONE.items():
        number = (listing.gone or {}).get(name, 0)
        if number:
            lines.append(f"| {label} |{' |' * len(_WORST_FIRST)} {_number(number)} |")
    return "\n".join(lines)


def _classify(issue: Issue, listing: Listing, *, is_told: bool) -> str:
    if issue.suppressed is not None:
        return _SUPPRESSED
    if issue.is_dismissed:
        return _DISMISSED
    return listing.state(issue) if is_told else IssueState.EXISTING.value


def _remarks(listing: Listing, failures: Sequence[Failure], files: int) -> list[str]:
    remarks = [f"{_some(files, 'file')} reviewed."]
    if not listing.is_compared:
        remarks[0] += " There was no complete review of this codebase before, so everything is new."
    if failures:
        shown = [f"- {prose(f'{each.plugin}: {each.message}')}" for each in failures[:MAX_FAILURES]]
        if len(failures) > len(shown):
            shown.append(f"- … and {len(failures) - len(shown):,} more")
        title = f"{_some(len(failures), 'failure')} of analyzers: something may have been missed"
        remarks.append("\n\n".join([f"<details><summary>{title}</summary>", "\n".join(shown), "</details>"]))
    return remarks


def _row(issue: Issue, rule: RuleSpec, listing: Listing, prefix: str) -> str:
    finding = issue.finding
    severity = rule.severity
    if listing.state(issue) == IssueState.REAPPEARED:
        severity += " (reappeared)"
    message = prose(finding.message or rule.message or rule.title or rule.name)
    return f"| {severity} | {code(_where(issue, prefix))} | {code(_cut(escape(rule.name), _MAX_NAME))} | {message} |\n"


def _where(issue: Issue, prefix: str) -> str:
    path = escape(prefix + issue.finding.path)
    # The end of a path says most.
    return f"{path if len(path) <= _MAX_PATH else '…' + path[1 - _MAX_PATH :]}:{issue.finding.start_line}"


def _details(issues: Iterable[Issue], rules: Mapping[str, RuleSpec], prefix: str) -> list[str]:
    """For each rule, the worst first: what to do, and the code that it found."""
    groups: dict[str, list[Issue]] = {}
    for issue in issues:
        groups.setdefault(issue.finding.rule, []).append(issue)
    return [_detail(rules[name], group, prefix) for name, group in groups.items()]


def _detail(rule: RuleSpec, issues: Sequence[Issue], prefix: str) -> str:
    title = f"{code(_cut(escape(rule.name), _MAX_NAME))} {prose(rule.title, _MAX_NAME)}".rstrip()
    found = [f"{_where(issue, prefix)}  {_cut(escape(issue.finding.snippet), _MAX_CODE)}".rstrip() for issue in issues]
    parts = [f"<details><summary>{title}: {len(issues):,}</summary>"]
    if rule.remediation.strip():
        parts.append(prose(rule.remediation, _MAX_ADVICE))
    # Inside of this only `<` and `&` mean anything; in the log of a pipeline two hashes may begin a command to it.
    shown = html.escape("\n".join(found), quote=False).replace("##", "#&#35;")
    parts += [f"<pre>{shown}</pre>", "</details>"]
    return "\n\n".join(parts)


def _take(texts: Iterable[str], room: int) -> list[str]:
    """The first of the texts, as many as there is room for; two characters more go with each."""
    taken = []
    for text in texts:
        room -= len(text) + 2
        if room < 0:
            break
        taken.append(text)
    return taken


def _some(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _number(number: int) -> str:
    return f"{number:,}" if number else "·"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
