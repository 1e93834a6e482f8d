"""An override that is limited to paths counts in the files there, and nowhere else."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.utils import timezone

from overrides.effective import load_configuration
from overrides.places import MAX_FORMS
from reviews.models import DiscoveredIssue, ReviewSession, TrackedFinding
from tests.factories import make_approved, make_override, make_persona, make_rule
from tests.sarif import validate
from tests.test_code_review import run

pytestmark = pytest.mark.django_db

LEGACY = ["legacy/**"]


@pytest.fixture
def codebase(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for folder in ("legacy/deep", "new"):
        (root / folder).mkdir(parents=True)
        (root / folder / "danger.py").write_text("import os\n\nanswer = eval(text)\n")
    return root


def approve_override(rule: str, patch: dict, paths: list[str] = LEGACY, **fields: object) -> None:
    """An override in force."""
    values = {"status": "active", "enabled": True, "approved_by": "approver", **fields}
    make_override(rule, override_config=patch, paths=paths, **values)


def list_findings(codebase: Path, *arguments: str) -> list[tuple[str, str, str, str]]:
    """Path, severity, rule and message of what a review finds; asked twice, so that the cache is asked as well."""
    for _ in range(2):
        findings = json.loads(run(codebase, "--format", "json", *arguments))["findings"]
    return [(each["path"], each["severity"], each["rule"], each["message"]) for each in findings]


def list_severities(codebase: Path, *arguments: str) -> list[tuple[str, str]]:
    return [finding[:2] for finding in list_findings(codebase, *arguments)]


def test_a_lower_severity_counts_under_its_paths_alone(codebase):
    make_persona()
    make_approved(make_rule(name="no-eval"), override_config={"severity": "low"}, paths=LEGACY)
    assert list_severities(codebase) == [("legacy/deep/danger.py", "low"), ("new/danger.py", "high")]
    session = ReviewSession.objects.latest("pk")
    assert (session.counts["by_severity"]["high"], session.counts["by_severity"]["low"]) == (1, 1)
    assert session.counts["by_persona"] == {"security": 2}
    for rows in (DiscoveredIssue.objects.filter(session=session), TrackedFinding.objects.all()):
        assert sorted(rows.values_list("path", "severity", "rule_name")) == [
            ("legacy/deep/danger.py", "low", "no-eval"),
            ("new/danger.py", "high", "no-eval"),
        ]


def test_every_report_tells_the_severity_in_force_there(codebase):
    make_rule(name="no-eval")
    approve_override("no-eval", {"severity": "low"})
    document = json.loads(run(codebase, "--format", "sarif"))
    validate(document)
    told = document["runs"][0]
    assert [rule["id"] for rule in told["tool"]["driver"]["rules"]] == ["no-eval"]
    assert [(each["ruleId"], each["level"]) for each in told["results"]] == [("no-eval", "note"), ("no-eval", "error")]
    lines = run(codebase).splitlines()
    assert lines[0].startswith("legacy/deep/danger.py:3:10: low no-eval ")
    assert lines[1].startswith("new/danger.py:3:10: high no-eval ")
    assert "2 findings (1 high, 1 low)" in "\n".join(lines)
    assert "::notice file=legacy/deep/danger.py" in run(codebase, "--format", "github")
    junit = run(codebase, "--format", "junit")
    assert 'type="low"' in junit
    assert 'type="high"' in junit
    assert "| existing | · | 1 | · | 1 | · | 2 |" in run(codebase, "--format", "markdown")


def test_findings_that_fail_a_pipeline_are_judged_where_they_are(codebase):
    make_rule(name="no-eval")
    approve_override("no-eval", {"severity": "low"}, ["legacy/**", "new/**"])
    run(codebase, "--fail-on", "high", code=0)
    run(codebase, "--fail-on", "low", code=1)


def test_a_rule_that_is_disabled_somewhere_is_silent_there(codebase):
    make_rule(name="no-eval")
    approve_override("no-eval", {"enabled": False})
    assert list_severities(codebase) == [("new/danger.py", "high")]


def test_a_finding_under_paths_that_become_silent_is_not_taken_for_fixed(codebase):
    make_rule(name="no-eval")
    assert len(list_findings(codebase)) == 2
    approve_override("no-eval", {"enabled": False})
    assert len(list_findings(codebase)) == 1
    assert dict(TrackedFinding.objects.values_list("path", "presence")) == {
        "legacy/deep/danger.py": "rule_removed",
        "new/danger.py": "present",
    }


def test_a_disabled_rule_can_be_enabled_somewhere_alone(codebase):
    make_persona()
    make_rule(name="no-eval", enabled=False)
    approve_override("no-eval", {"enabled": True}, ["new/"])
    assert list_severities(codebase) == [("new/danger.py", "high")]
    assert ReviewSession.objects.latest("pk").rules_run == 1
    assert ReviewSession.objects.latest("pk").prompts.count() == 1


def test_configuration_and_message_differ_under_the_paths(codebase):
    make_rule(name="no-eval", message="No eval.")
    patch = {"configuration": {"pattern": r"import os"}, "message": "Legacy imports os."}
    approve_override("no-eval", patch)
    findings = list_findings(codebase)
    assert findings == [
        ("legacy/deep/danger.py", "high", "no-eval", "Legacy imports os."),
        ("new/danger.py", "high", "no-eval", "No eval."),
    ]


def test_of_several_overrides_a_later_one_wins(codebase):
    make_rule(name="no-eval")
    approve_override("no-eval", {"severity": "info", "message": "Old."})
    approve_override("no-eval", {"severity": "medium"}, [])
    approve_override("no-eval", {"severity": "critical"}, ["*/deep/"])
    assert list_findings(codebase) == [
        ("legacy/deep/danger.py", "critical", "no-eval", "Old."),
        ("new/danger.py", "medium", "no-eval", "eval runs whatever it is given."),
    ]


def test_globs_are_read_as_git_reads_them(codebase):
    make_rule(name="no-eval")
    approve_override("no-eval", {"severity": "low"}, ["danger.py", "!/new/danger.py"])
    assert list_severities(codebase) == [("legacy/deep/danger.py", "low"), ("new/danger.py", "high")]


def test_globs_are_told_from_the_folder_of_the_codebase(codebase):
    make_rule(name="no-eval")
    approve_override("no-eval", {"severity": "low"})
    run(codebase, "--codebase", "mine")
    assert list_severities(codebase / "legacy", "--codebase", "mine") == [("deep/danger.py", "low")]


def test_an_override_that_lapsed_counts_no_more(codebase, monkeypatch):
    make_rule(name="no-eval")
    approve_override("no-eval", {"severity": "low"}, expires_at=timezone.now() + timedelta(days=1))
    assert list_severities(codebase)[0] == ("legacy/deep/danger.py", "low")
    later = timezone.now() + timedelta(days=2)
    monkeypatch.setattr("overrides.effective.timezone", SimpleNamespace(now=lambda: later))
    assert list_severities(codebase) == [("legacy/deep/danger.py", "high"), ("new/danger.py", "high")]


def test_a_comment_suppresses_a_finding_under_the_paths_by_the_name_of_the_rule(codebase):
    make_rule(name="no-eval")
    approve_override("no-eval", {"configuration": {"pattern": "eval"}})
    line = "answer = eval(text)  # code-review: ignore[no-eval] -- it is legacy\n"
    (codebase / "legacy" / "deep" / "danger.py").write_text(line)
    assert list_severities(codebase) == [("new/danger.py", "high")]


def test_a_finding_of_the_whole_tree_is_judged_by_its_path(codebase):
    configuration = {"check": "forbidden_path", "paths": ["/*/danger.py", "/*/*/danger.py"]}
    make_rule(name="no-danger", plugin_id="repository", configuration=configuration, file_types=[], examples={})
    approve_override("no-danger", {"severity": "low", "message": "Old."})
    assert [each[:3] for each in list_findings(codebase)] == [
        ("legacy/deep/danger.py", "low", "no-danger"),
        ("new/danger.py", "high", "no-danger"),
    ]
    approve_override("no-danger", {"enabled": False}, ["new/"])
    assert list_severities(codebase) == [("legacy/deep/danger.py", "low")]


def test_many_overrides_that_say_the_same_are_few_forms(codebase):
    make_rule(name="no-eval")
    for number in range(20):
        approve_override("no-eval", {"enabled": False}, [f"team-{number}/**"])
    approve_override("no-eval", {"enabled": False})
    assert list_severities(codebase) == [("new/danger.py", "high")]
    assert len(load_configuration().places["no-eval"].forms) == 2


def test_a_rule_with_too_many_forms_says_so_and_does_not_run(codebase):
    make_rule(name="no-eval")
    for number in range(7):
        approve_override("no-eval", {"configuration": {f"option_{number}": number}}, [f"{number}/**"])
    document = json.loads(run(codebase, "--format", "json"))
    assert document["findings"] == []
    assert [(each["rule"], str(MAX_FORMS) in each["message"]) for each in document["failures"]] == [("no-eval", True)]
