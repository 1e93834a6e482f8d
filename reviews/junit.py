"""How do GitLab, Jenkins and their like show findings? As failed tests in a JUnit report. Pure.

Each rule that has something to tell is a test suite, each finding a test case, known from one run to the next by its
rule, path and message rather than by its line. The report is ASCII, so no encoding of a terminal can break it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree as ET

from plugins.contract import RuleSpec
from reviews.choices import Triage
from reviews.engine import Failure, rank
from reviews.issues import Issue, Listing
from reviews.report import escape

SUITE = "code-review"
"""Of what the analyzers could not do."""
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def to_xml(
    listing: Listing,
    rules: Sequence[RuleSpec],
    *,
    failures: Sequence[Failure] = (),
    fail_on: str = "",
    seconds: float = 0.0,
    prefix: str = "",
) -> str:
    """The report. Findings at least as severe as `fail_on` (empty: all) are failures, others pass and say what they
    are; what is listed and does not count is skipped. `prefix` leads from the root of the repository to the paths."""
    by_name = {rule.name: rule for rule in rules}
    root = ET.Element("testsuites", name=SUITE)
    for name, group in groupby(sorted(listing.issues, key=_rule_of), key=_rule_of):
        suite = ET.SubElement(root, "testsuite", name=escape(name))
        numbers: Counter[tuple[str, str]] = Counter()
        for issue in group:
            _add_case(suite, issue, issue.judge(by_name), numbers, fail_on=fail_on, prefix=prefix)
    if failures:
        suite = ET.SubElement(root, "testsuite", name=SUITE)
        for number, failure in enumerate(failures, start=1):
            _add_error(suite, failure, number, prefix)
    for each in (*root, root):
        _count(each)
    root.set("time", f"{seconds:.3f}")
    ET.indent(root)
    text = ET.tostring(root, encoding="us-ascii", xml_declaration=False).decode("ascii")
    # In the log of a pipeline two of them may begin a command to it.
    return _DECLARATION + text.replace("##", "#&#35;") + "\n"


def _rule_of(issue: Issue) -> str:
    return issue.finding.rule


def _add_case(
    suite: ET.Element,
    issue: Issue,
    rule: RuleSpec,
    numbers: Counter[tuple[str, str]],
    *,
    fail_on: str,
    prefix: str,
) -> None:
    finding = issue.finding
    message = escape(finding.message or rule.message or rule.title or rule.name)
    path = escape(prefix + finding.path)
    numbers[path, message] += 1
    number = numbers[path, message]
    case = ET.SubElement(
        suite,
        "testcase",
        classname=escape(rule.name),
        name=f"{path}: {message}" + (f" ({number})" if number > 1 else ""),
        file=path,
        line=str(finding.start_line),
        time="0",
    )
    if not issue.counts:
        ET.SubElement(case, "skipped", message=_say_why(issue))
        return
    text = f"{path}:{finding.start_line}:{finding.start_column}: {rule.severity} {escape(rule.name)} {message}"
    lines = [text, *filter(None, [escape(finding.snippet), escape(rule.remediation)])]
    if not fail_on or rank(rule.severity) >= rank(fail_on):
        failure = ET.SubElement(case, "failure", type=rule.severity, message=message)
        failure.text = "\n".join(lines)
    else:
        ET.SubElement(case, "system-out").text = "\n".join(lines)


def _say_why(issue: Issue) -> str:
    """Why an issue does not count."""
    directive = issue.suppressed
    if directive is None:
        return str(Triage(issue.triage).label)
    until = f" until {directive.until.isoformat()}" if directive.until else ""
    return f"Suppressed{until}: {escape(directive.reason)}" if directive.reason else f"Suppressed{until}"


def _add_error(suite: ET.Element, failure: Failure, number: int, prefix: str) -> None:
    about = ", ".join(filter(None, [failure.plugin, failure.rule, failure.path and prefix + failure.path]))
    case = ET.SubElement(suite, "testcase", classname=SUITE, name=f"{escape(about)} ({number})", time="0")
    ET.SubElement(case, "error", type="analyzer", message=escape(failure.message)).text = escape(failure.message)


def _count(element: ET.Element) -> None:
    for name, path in (
        ("tests", ".//testcase"),
        ("failures", ".//failure"),
        ("errors", ".//error"),
        ("skipped", ".//skipped"),
    ):
        element.set(name, str(len(element.findall(path))))
