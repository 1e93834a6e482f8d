"""Annotations, summaries and JUnit reports: what they say, and that no reviewed file can say anything else in them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from plugins.analyzers.directives import Directive
from plugins.contract import Finding, RuleSpec
from reviews import annotations, junit, summary
from reviews.choices import IssueState, Triage
from reviews.engine import SEVERITIES, Failure
from reviews.issues import Issue, Listing, list_issues
from reviews.report import escape

RULES = tuple(
    RuleSpec(name=f"rule-{severity}", title=f"A {severity} matter", severity=severity, remediation="Write it anew.")
    for severity in SEVERITIES
)
REASON = Directive(1, 1, 9, reason="Read from our own file", until=date(2030, 1, 31))

# What means something to one of the readers, between letters and anything else that Unicode has.
SIGNS = st.sampled_from(
    [
        *"`*_~|<>&#@![](){}:;,%$\\/-+=.\"'\n\r\t\0\x1b\u2028\u2029\x85\u200b\u202e\ufffe\x0b\x0c\x1c",
        "::error::", "##[error]", "\n::set-output name=a::b", "@octocat", "octo/cat#1", "http://evil.example/x",
        "www.evil.example", "me@evil.example", "![x](//evil.example/p.png)", "[x](javascript:1)",
        "<img src=x onerror=y>", "</pre>", "</details>", "</code>", "<!--", "-->", "]]>", "<script>", "```", "~~~",
        "\n\n", "\n# h\n", "- [ ] ", "1. ", "1) ", "    ", "&lt;", "&#64;", "%0A", "%25", "$$x$$", ":octocat:",
        "GH-1", "| a | b |", "\n---\n", "\udc80",
    ]
)  # fmt: skip
HOSTILE = st.lists(SIGNS | st.text(max_size=8), max_size=12).map("".join)


def finding(severity: str = "high", **fields: Any) -> Finding:
    plain = Finding(f"rule-{severity}", "a.py", 3, 5, 3, 9, "eval runs whatever it is given.", "  eval(text)")
    return replace(plain, **fields)


def issue(severity: str = "high", state: str = IssueState.NEW, triage: str = Triage.OPEN,
          suppressed: Directive | None = None, **fields: Any) -> Issue:  # fmt: skip
    return Issue(finding(severity, **fields), state=state, triage=triage, suppressed=suppressed)


def numbered(*severities: str) -> list[Issue]:
    return [issue(severity, start_line=number, end_line=number) for number, severity in enumerate(severities, start=1)]


@st.composite
def hostile_issues(draw: st.DrawFn) -> Issue:
    return issue(
        draw(st.sampled_from(SEVERITIES)),
        path=draw(HOSTILE.filter(bool)),
        message=draw(HOSTILE),
        snippet=draw(HOSTILE),
        state=draw(st.sampled_from(IssueState.values)),
        suppressed=draw(st.none() | HOSTILE.map(lambda reason: replace(REASON, reason=reason))),
    )


def tell(issues: list[Issue], **choice: Any) -> Listing:
    return list_issues(issues, **choice)


# Workflow commands

COMMAND = re.compile(r"::(?P<kind>error|warning|notice) (?P<properties>[^:]*)::(?P<message>.*)")


def read_commands(text: str) -> list[dict[str, str]]:
    """The commands as the runner reads them."""
    commands = []
    for line in text.splitlines():
        command = COMMAND.fullmatch(line)
        assert command is not None, line
        pairs = [pair.split("=", 1) for pair in command["properties"].split(",")]
        values = {name: unquote_only(value) for name, value in pairs}
        commands.append({"kind": command["kind"], "message": unquote_only(command["message"]), **values})
    return commands


def unquote_only(text: str) -> str:
    assert set(re.findall("%..", text)) <= {"%25", "%0D", "%0A", "%3A", "%2C"}
    return unquote(text)


def commands(issues: list[Issue], **options: Any) -> list[dict[str, str]]:
    return read_commands(annotations.to_commands(tell(issues), RULES, **options))


def test_an_annotation_says_where_what_and_how_bad() -> None:
    (command,) = commands([issue(path="a, b: 100%.py")], prefix="packages/one/")
    assert command == {
        "kind": "error",
        "file": "packages/one/a, b: 100%.py",
        "line": "3",
        "endLine": "3",
        "col": "5",
        "endColumn": "9",
        "title": "high: A high matter (rule-high)",
        "message": "eval runs whatever it is given.",
    }
    assert annotations.to_commands(tell([issue(path="a, b: 100%.py")]), RULES).startswith(
        "::error file=a%2C b%3A 100%25.py,line=3,endLine=3,col=5,endColumn=9,title=high%3A A high matter (rule-high)::"
    )


def test_columns_are_told_only_inside_of_one_line() -> None:
    (command,) = commands([issue(end_line=4)])
    assert command.keys() == {"kind", "file", "line", "endLine", "title", "message"}


def test_severities_become_errors_warnings_and_notices() -> None:
    kinds = [command["kind"] for command in commands(numbered(*SEVERITIES))]
    assert kinds == ["error", "error", "warning", "notice", "notice"]


def test_only_as_many_as_are_shown_are_told_and_the_rest_is_counted() -> None:
    told = commands(numbered(*["low"] * 15, *["medium"] * 15, *["high"] * 15, "critical"))
    assert Counter(each["kind"] for each in told) == {"error": 10, "warning": 10, "notice": 10}
    assert told[0]["title"].startswith("critical")
    assert told[-1]["message"] == "17 more findings are not shown at their lines (6 high, 5 medium, 6 low)."


def test_ten_of_each_need_no_closing_notice() -> None:
    told = commands(numbered(*["low"] * 10, *["medium"] * 10, *["high"] * 10))
    assert len(told) == 30
    assert all("file" in each for each in told)


def test_failures_take_the_place_of_one_warning() -> None:
    failures = [Failure("patterns", None, "a.py", "odd\n::error::x"), Failure("patterns", None, "b.py", "odd")]
    told = commands(numbered(*["medium"] * 10), failures=failures)
    assert [each["kind"] for each in told].count("warning") == 10
    assert told[-2]["message"] == "2 analyzer failures; the first: patterns: odd\n::error::x"
    assert told[-1]["message"].startswith("1 more finding is not")


def test_what_does_not_count_gets_no_annotation() -> None:
    issues = [issue(suppressed=REASON), issue(triage=Triage.FALSE_POSITIVE)]
    assert annotations.to_commands(tell(issues, show_suppressed=True), RULES) == ""


@given(st.lists(hostile_issues(), max_size=5), HOSTILE)
def test_whatever_a_file_holds_commands_stay_one_line_each_and_read_back(issues: list[Issue], failure: str) -> None:
    text = annotations.to_commands(tell(issues), RULES, failures=[Failure("patterns", None, None, failure)])
    told = read_commands(text)
    counting = [each for each in issues if each.counts]
    assert len(told) == len(counting) + 1
    assert all(letter.isprintable() or letter in "\t\n" for letter in text)
    keep = "\t\n\r"
    paths = Counter("".join(letter if letter in keep else escape(letter) for letter in each.finding.path)
                    for each in counting)  # fmt: skip
    assert Counter(each["file"] for each in told if "file" in each) == paths


# Summaries

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# No other tag can come out of a summary. The style of a column is what its alignment becomes.
TAGS = {"h2", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "details", "summary", "pre", "ul", "li"}


class Reader(HTMLParser):
    """What a browser gets to see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.codes: list[str] = []
        self.pres: list[str] = []
        self.loose = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert attrs in ([], [("style", "text-align:right")])
        self.tags[tag] += 1
        self.open.append(tag)
        for name, texts in (("td", self.cells), ("code", self.codes), ("pre", self.pres)):
            if tag == name:
                texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for name, texts in (("td", self.cells), ("code", self.codes), ("pre", self.pres)):
            if name in self.open:
                texts[-1] += data
        if not {"code", "pre"} & set(self.open):
            self.loose += data

    def handle_comment(self, data: str) -> None:
        assert (data, self.open[-1]) == (" ", "code")  # what keeps an address apart

    def handle_decl(self, data: str) -> None:
        raise AssertionError(data)

    handle_pi = unknown_decl = handle_decl


def read_summary(text: str) -> Reader:
    reader = Reader()
    reader.feed(MARKDOWN.render(text))
    reader.close()
    assert reader.open == []
    return reader


def summarise(issues: list[Issue], *, failures: Any = (), codebase: str = "shop", files: int = 7, **choice: Any) -> str:
    return summary.to_markdown(
        tell(issues, **choice), RULES, issues=issues, codebase=codebase, failures=failures, files=files
    )


def rows_of(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells}


def test_a_summary_counts_by_severity_and_by_what_became_of_them() -> None:
    issues = [
        *numbered("critical", "high", "low"),
        issue("high", IssueState.REAPPEARED, start_line=11),
        issue("medium", IssueState.EXISTING, start_line=12),
        issue("medium", IssueState.EXISTING, start_line=13),
        issue("info", suppressed=REASON, start_line=14),
        issue("info", triage=Triage.WONT_FIX, start_line=15),
    ]
    text = summarise(issues, gone={"fixed": 1234, "rule_removed": 1})
    assert text.startswith("## Code review of shop: 4 new findings (1 critical, 2 high, 1 low)\n")
    assert rows_of(text)[""] == ["critical", "high", "medium", "low", "info", "total"]
    assert rows_of(text)["new"] == ["1", "1", "·", "1", "·", "3"]
    assert rows_of(text)["reappeared"] == ["·", "1", "·", "·", "·", "1"]
    assert rows_of(text)["existing"] == ["·", "·", "2", "·", "·", "2"]
    assert rows_of(text)["suppressed"] == rows_of(text)["dismissed"] == ["·", "·", "·", "·", "1", "1"]
    assert rows_of(text)["fixed"][-1] == "1,234"
    assert rows_of(text)["rule removed"][-1] == "1"
    assert [row for row in rows_of(text) if row in {*SEVERITIES, "high (reappeared)"}] == [
        "critical", "high", "high (reappeared)", "low"
    ]  # fmt: skip


def test_what_a_baseline_had_is_counted_and_not_listed() -> None:
    issues = [replace(issue("high", IssueState.EXISTING, path=f"{key}.py"), key=key) for key in ("old", "young")]
    text = summarise(issues, baseline={"old"})
    assert "1 new finding (1 high)" in text
    assert (rows_of(text)["new"][-1], rows_of(text)["existing"][-1]) == ("1", "1")
    assert "young.py" in text
    assert "old.py" not in text


def test_a_first_review_says_that_there_is_nothing_to_compare_with() -> None:
    text = summarise(numbered("high"))
    assert text.startswith("## Code review of shop: 1 finding (1 high)\n")
    assert "7 files reviewed. There was no complete review of this codebase before" in text


def test_a_review_that_finds_nothing_new_is_short() -> None:
    text = summarise([issue(state=IssueState.EXISTING)], gone={})
    assert text.startswith("## Code review of shop: no new findings\n")
    assert "<details>" not in text


def test_code_and_advice_are_folded_by_rule() -> None:
    reader = read_summary(summarise([issue(snippet="a < b && c"), issue(path="b.py", snippet="</pre>")]))
    assert reader.pres == ["a.py:3  a < b && c\nb.py:3  </pre>"]
    assert "Write it anew." in reader.loose
    assert "rule-high" in reader.codes


def test_failures_are_folded_and_counted() -> None:
    failures = [Failure("patterns", None, f"{number}.py", f"odd {number}") for number in range(12)]
    reader = read_summary(summarise([], failures=failures))
    assert "12 failures of analyzers: something may have been missed" in reader.loose
    assert reader.tags["li"] == 11


def test_a_summary_stays_short_enough_for_a_comment() -> None:
    issues = [
        issue("high", path="d/" * 500 + f"{number}.py", message="[!*" * 500, snippet="<&>" * 500)
        for number in range(2000)
    ]
    text = summarise(issues, failures=[Failure("p" * 900, None, None, "<" * 9000)] * 900, codebase="*" * 900)
    assert 30_000 < len(text) <= summary.MAX_CHARACTERS
    assert len(text.encode()) <= 1_000_000
    reader = read_summary(text)
    shown = reader.tags["tr"] - 3  # two heads, and the row of the new ones
    assert f"… and {2000 - shown:,} more." in reader.loose
    assert 10 < shown < 100


def test_at_most_a_hundred_rows_are_shown() -> None:
    assert "… and 150 more." in summarise(numbered(*["low"] * 250))


MENTION = re.compile(r"@[A-Za-z0-9]|#\d|https?://|www\.|:[a-z]+:|\bGH-\d", re.IGNORECASE)


@given(st.lists(hostile_issues(), max_size=5), HOSTILE, HOSTILE, st.booleans())
def test_whatever_a_file_holds_a_summary_keeps_its_shape(
    issues: list[Issue], codebase: str, failure: str, compared: bool
) -> None:
    text = summarise(
        issues,
        codebase=codebase,
        failures=[Failure("patterns", None, None, failure)],
        gone={} if compared else None,
    )
    reader = read_summary(text)  # fails on any tag or attribute that is not ours
    fresh = [each for each in issues if each.counts and each.state != IssueState.EXISTING]
    rules = {each.finding.rule for each in fresh}
    assert reader.tags["h2"] == reader.tags["ul"] == reader.tags["li"] == 1
    assert reader.tags["table"] == (2 if fresh else 1)
    assert reader.tags["details"] == reader.tags["summary"] == 1 + len(rules)
    assert reader.tags["pre"] == len(rules)
    shown = reader.cells[-4 * len(fresh) :][1::4] if fresh else []
    paths = [escape(each.finding.path) for each in fresh]
    assert Counter(shown) == Counter(f"{path if len(path) <= 150 else '…' + path[-149:]}:3" for path in paths)
    # Outside of code there is nothing that GitHub would make a mention, a reference, a link or a picture of.
    assert MENTION.search(reader.loose) is None
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_names_can_be_read_where_markdown_is_not_shown() -> None:
    assert summary.code("src/my_app/a-b.test.py") == "<code>src/my_app/a-b.test.py</code>"
    assert summary.prose("Call ast.literal_eval. No more.") == "Call ast.literal_eval. No more."


def test_addresses_and_mentions_are_taken_apart_in_names_too() -> None:
    assert summary.code("a www.evil.example") == "<code>a www&#46;evil.example</code>"
    assert summary.code("me@evil.example") == "<code>me&#64;<!-- -->evil.example</code>"


@given(HOSTILE)
def test_text_is_read_as_it_was_written(text: str) -> None:
    plain = escape(" ".join(text.split()))[:300]
    shown = MARKDOWN.render(summary.prose(text, 10_000))
    reader = Reader()
    reader.feed(shown)
    assert reader.loose.replace("\u200b", "").rstrip("\n")[:300] == plain.strip()
    assert set(reader.tags) <= {"p"}


# JUnit


def report(issues: list[Issue], *, failures: Any = (), fail_on: str = "", **choice: Any) -> ET.Element:
    text = junit.to_xml(tell(issues, **choice), RULES, failures=failures, fail_on=fail_on, seconds=1.5, prefix="src/")
    assert text.isascii()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ')
    root = ET.fromstring(text)
    for element in (root, *root):
        for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.attrib[name]) == len(list(element.iter(tag)))
    return root


def test_a_rule_is_a_suite_and_a_finding_a_failed_test() -> None:
    root = report([issue("low"), issue("high"), issue("low", path="b.py", start_line=9)])
    assert [suite.get("name") for suite in root] == ["rule-high", "rule-low"]
    assert [len(suite) for suite in root] == [1, 2]
    case = root[0][0]
    assert case.attrib == {
        "classname": "rule-high",
        "name": "src/a.py: eval runs whatever it is given.",
        "file": "src/a.py",
        "line": "3",
        "time": "0",
    }
    failure = case[0]
    assert (failure.tag, failure.get("type"), failure.get("message")) == (
        "failure", "high", "eval runs whatever it is given."
    )  # fmt: skip
    assert failure.text == (
        "src/a.py:3:5: high rule-high eval runs whatever it is given.\n  eval(text)\nWrite it anew."
    )
    assert root.get("time") == "1.500"


def test_only_findings_that_fail_the_pipeline_are_failures() -> None:
    root = report(numbered(*SEVERITIES), fail_on="medium")
    assert {case.get("classname") for case in root.iter("testcase") if case.find("failure") is not None} == {
        "rule-medium", "rule-high", "rule-critical"
    }  # fmt: skip
    assert root.find(".//testcase[@classname='rule-low']/system-out") is not None
    assert root.get("failures") == "3"


def test_equal_findings_are_tests_of_different_names_wherever_they_move() -> None:
    root = report([issue(start_line=line, end_line=line) for line in (3, 8, 40)])
    names = [case.get("name") for case in root.iter("testcase")]
    assert names == [f"src/a.py: eval runs whatever it is given.{end}" for end in ("", " (2)", " (3)")]


def test_what_does_not_count_is_skipped_with_its_reason() -> None:
    issues = [issue(suppressed=REASON), issue(triage=Triage.FALSE_POSITIVE), issue(suppressed=Directive(1, 1, 2))]
    assert [each.get("message") for each in report(issues, show_suppressed=True).iter("skipped")] == [
        "Suppressed until 2030-01-31: Read from our own file",
        "False positive",
        "Suppressed",
    ]
    assert len(report(issues)) == 0


def test_what_analyzers_could_not_do_are_errors() -> None:
    root = report([], failures=[Failure("patterns", "rule-low", "a.py", "odd"), Failure("gone", None, None, "\0")])
    assert root.get("errors") == "2"
    assert [case.get("name") for case in root.iter("testcase")] == ["patterns, rule-low, src/a.py (1)", "gone (2)"]


@given(st.lists(hostile_issues(), max_size=5), HOSTILE, st.booleans(), st.sampled_from(["", *SEVERITIES]))
def test_whatever_a_file_holds_a_report_is_well_formed(
    issues: list[Issue], failure: str, show_suppressed: bool, fail_on: str
) -> None:
    root = report(
        issues, failures=[Failure("patterns", None, failure, failure)], fail_on=fail_on, show_suppressed=show_suppressed
    )
    told = [each for each in issues if each.counts or show_suppressed]
    cases = list(root.iter("testcase"))
    assert len(cases) == len(told) + 1
    assert Counter(case.get("file") for case in cases[:-1]) == Counter(
        f"src/{escape(each.finding.path)}" for each in told
    )
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)


@pytest.mark.parametrize("make", [annotations.to_commands, junit.to_xml])
def test_an_empty_message_falls_back_to_what_the_rule_says(make: Any) -> None:
    assert "A high matter" in make(tell([issue(message="")]), RULES)
