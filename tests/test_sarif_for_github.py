"""What a SARIF document says of what was known before and of what is suppressed, and how large it may be."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from plugins.analyzers.directives import Directive
from plugins.contract import Finding, RuleSpec
from reviews import limits, sarif
from reviews.choices import IssueState, Triage
from reviews.engine import Failure, Result
from reviews.issues import Issue, list_issues
from tests.sarif import validate

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RULE = RuleSpec("no-eval", title="No eval", severity="high", message="eval runs whatever it is given.")
REASON = Directive(4, 3, 60, names=("no-eval",), reason="Read from our own file", until=date(2030, 1, 31))


def finding(number: int = 1, **fields: Any) -> Finding:
    return replace(Finding("no-eval", "a.py", number, 1, number, 5, "eval", snippet=f"eval({number})"), **fields)


def issue(number: int = 1, **fields: Any) -> Issue:
    return Issue(finding(number), key=f"{number:032x}", **fields)


def run_of(issues: list[Issue], *, result: Result | None = None, rules: Any = (RULE,), **choice: Any) -> dict[str, Any]:
    made = sarif.document(
        result or Result(),
        rules,
        tool_version="1",
        revision=1,
        root=Path("/src/project"),
        started_at=NOW,
        finished_at=NOW,
        listing=list_issues(issues, **choice),
        codebase="project",
        plugins={"patterns": "1.2", "secrets": ""},
    )
    validate(json.loads(json.dumps(made)))
    (run,) = made["runs"]
    return run


def notices(run: dict[str, Any]) -> list[str]:
    return [each["message"]["text"] for each in run["invocations"][0]["toolExecutionNotifications"]]


def test_a_result_carries_the_key_of_its_finding_beside_the_hash_of_its_line() -> None:
    result = Result(fingerprints={("a.py", 1): "abc:1"})
    first, second = run_of([issue(1), issue(2)], result=result)["results"]
    assert first["partialFingerprints"] == {"primaryLocationLineHash": "abc:1", "codeReviewFinding/v1": f"{1:032x}"}
    assert second["partialFingerprints"]["codeReviewFinding/v1"] == f"{2:032x}"


def test_a_finding_in_a_file_that_is_not_there_is_known_again_too() -> None:
    missing = [
        replace(issue(), finding=finding(message=message)) for message in ("no README", "no README", "no LICENSE")
    ]
    hashes = [each["partialFingerprints"]["primaryLocationLineHash"] for each in run_of(missing)["results"]]
    assert hashes[0] == hashes[1] != hashes[2]
    assert hashes[0].endswith(":1")


def test_a_result_says_whether_it_was_there_before() -> None:
    issues = [issue(number, state=state) for number, state in enumerate(IssueState.values, start=1)]
    results = run_of(issues, gone={"fixed": 3})["results"]
    assert [each["baselineState"] for each in results] == ["new", "unchanged", "new"]
    assert [each.get("properties") for each in results] == [None, None, {"state": "reappeared"}]


def test_without_an_earlier_review_no_result_says_whether_it_is_new() -> None:
    assert "baselineState" not in run_of([issue()])["results"][0]


def test_what_an_old_baseline_did_not_have_is_new() -> None:
    issues = [issue(1, state=IssueState.EXISTING), issue(2, state=IssueState.EXISTING)]
    (result,) = run_of(issues, baseline={issues[0].key})["results"]
    assert (result["locations"][0]["physicalLocation"]["region"]["startLine"], result["baselineState"]) == (2, "new")


def test_what_does_not_count_is_not_uploaded() -> None:
    issues = [issue(1), issue(2, suppressed=REASON), issue(3, triage=Triage.WONT_FIX)]
    (result,) = run_of(issues)["results"]
    assert "suppressions" not in result


def test_the_archive_says_of_each_result_what_suppresses_it() -> None:
    issues = [
        issue(1, triage=Triage.ACKNOWLEDGED),
        issue(2, suppressed=REASON),
        issue(3, triage=Triage.FALSE_POSITIVE),
        issue(4, suppressed=Directive(4, 1, 2), triage=Triage.WONT_FIX),
    ]
    results = run_of(issues, show_suppressed=True)["results"]
    by_comment, by_people = results[1]["suppressions"][0], results[2]["suppressions"][0]
    assert results[0]["suppressions"] == []
    assert results[0]["properties"] == {"triage": "acknowledged"}
    assert by_comment == {
        "kind": "inSource",
        "status": "accepted",
        "justification": "Read from our own file",
        "location": {
            "physicalLocation": {
                "artifactLocation": {"uri": "a.py", "uriBaseId": "SRCROOT"},
                "region": {"startLine": 4, "startColumn": 3, "endColumn": 60},
            }
        },
        "properties": {"until": "2030-01-31"},
    }
    assert by_people == {"kind": "external", "status": "accepted", "justification": "False positive"}
    assert [each["kind"] for each in results[3]["suppressions"]] == ["inSource", "external"]
    assert "justification" not in results[3]["suppressions"][0]  # GitHub refuses empty texts


def test_an_archive_without_anything_suppressed_says_so() -> None:
    assert run_of([issue()], show_suppressed=True)["results"][0]["suppressions"] == []


def test_what_the_tool_calls_its_own_rule_is_told() -> None:
    (result,) = run_of([replace(issue(), finding=finding(code="S307"))])["results"]
    assert result["properties"] == {"code": "S307"}


def test_plugins_are_extensions_with_their_versions() -> None:
    assert run_of([])["tool"]["extensions"] == [
        {"name": "patterns", "version": "1.2"},
        {"name": "secrets", "version": "0"},
    ]


def test_more_rules_than_github_takes_leave_out_those_that_found_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_RULES", 2)
    rules = [RULE, RuleSpec("aa", severity="low"), RuleSpec("zz", severity="critical")]
    run = run_of([issue()], rules=rules, result=Result(failures=[Failure("patterns", "aa", None, "odd")]))
    assert [each["id"] for each in run["tool"]["driver"]["rules"]] == ["no-eval", "zz"]
    assert run["results"][0]["ruleIndex"] == 0
    assert notices(run)[1:] == ["1 rules were left out: GitHub takes no more."]
    assert "associatedRule" not in run["invocations"][0]["toolExecutionNotifications"][0]


def test_more_failures_than_can_be_read_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_NOTIFICATIONS", 2)
    failures = [Failure("patterns", None, f"{number}.py", "odd") for number in range(5)]
    run = run_of([], result=Result(failures=failures))
    assert notices(run)[2:] == ["3 more failures were left out: GitHub takes no more."]


def make_noise(length: int, generator: random.Random) -> str:
    return "".join(generator.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


def test_a_document_that_is_too_large_loses_its_code_first(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(1)
    issues = [replace(issue(number), finding=finding(number, snippet=make_noise(250, generator)))
              for number in range(1, 101)]  # fmt: skip
    monkeypatch.setattr(limits, "MAX_BYTES", 15_000)
    run = run_of(issues)
    assert len(run["results"]) == 100
    assert not any("contextRegion" in each["locations"][0]["physicalLocation"] for each in run["results"])
    assert notices(run) == ["The code next to the results was left out: GitHub takes no more."]
    assert run["invocations"][0]["executionSuccessful"] is True


def test_then_the_least_severe_results_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(2)
    rules = [RULE, RuleSpec("mild", severity="low"), RuleSpec("unused", description="u" * 900)]
    issues = [
        replace(issue(number), finding=finding(number, rule=rules[number % 2].name, message=make_noise(900, generator)))
        for number in range(1, 101)
    ]
    monkeypatch.setattr(limits, "MAX_BYTES", 40_000)
    run = run_of(issues, rules=rules)
    named = [each["ruleId"] for each in run["results"]]
    assert 50 < len(named) < 70
    assert named.count("no-eval") == 50
    assert "unused" not in {each["id"] for each in run["tool"]["driver"]["rules"]}
    assert f"{100 - len(named)} results were left out, the least severe: GitHub takes no more." in notices(run)
    assert len(gzip.compress(json.dumps(run).encode())) <= 40_000


def test_a_document_that_nothing_makes_small_is_given_as_small_as_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    run = run_of([issue()])
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])


@pytest.mark.slow
def test_as_much_as_a_review_can_find_still_fits() -> None:
    generator = random.Random(3)
    rules = [RuleSpec(f"rule-{number}", severity="low", remediation=make_noise(900, generator)) for number in range(50)]
    issues = [
        replace(
            issue(number),
            finding=finding(
                number,
                rule=f"rule-{number % 50}",
                message=make_noise(700, generator),
                snippet=make_noise(300, generator),
            ),
        )
        for number in range(1, 26_001)
    ]
    made = sarif.document(
        Result(), rules, tool_version="1", revision=1, root=Path("/src"), started_at=NOW, finished_at=NOW,
        listing=list_issues(issues),
    )  # fmt: skip
    assert 1_000 < len(made["runs"][0]["results"]) < 25_000
    assert len(gzip.compress((json.dumps(made, indent=2)).encode())) <= 10_000_000
