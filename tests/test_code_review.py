"""The `code-review` command, through the door its user takes: arguments in, text and exit code out."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from audit.journal import current_revision
from reviews.models import DiscoveredIssue, ReviewSession
from tests.factories import make_persona, make_rule, make_user
from tests.sarif import validate

pytestmark = pytest.mark.django_db


@pytest.fixture
def codebase(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "danger.py").write_text("import os\n\nanswer = eval(text)\n")
    (root / "calm.py").write_text("answer = 42\n")
    (root / "notes.txt").write_text("eval(text)\n")
    return root


def run(*arguments: object, code: int = 0) -> str:
    """Standard output of the command, which must end with `code`."""
    out = StringIO()
    try:
        call_command("code_review", *map(str, arguments), stdout=out)
        ended = 0
    except SystemExit as ending:
        ended = ending.code
    except CommandError as error:
        ended = error.returncode
        out.write(str(error))
    assert ended == code, out.getvalue()
    return out.getvalue()


def test_findings_are_lines_that_grep_understands(codebase):
    make_rule(name="no-eval")
    lines = run(codebase).splitlines()
    assert lines[0] == "danger.py:3:10: high no-eval eval runs whatever it is given."


def test_the_session_is_stored_with_its_revision_issues_and_personas(codebase):
    make_persona()
    rule = make_rule(name="no-eval")
    run(codebase)
    session = ReviewSession.objects.get()
    assert (session.status, session.codebase, session.root) == ("completed", "project", str(codebase))
    assert (session.revision, session.started_by) == (current_revision(), "system")
    assert (session.files_analyzed, session.counts["by_severity"]["high"]) == (2, 1)
    issue = DiscoveredIssue.objects.get()
    assert (issue.session, issue.rule_name, issue.severity, issue.personas) == (
        session,
        rule.name,
        "high",
        ["security"],
    )
    assert (issue.path, issue.start_line, issue.start_column) == ("danger.py", 3, 10)
    assert issue.snippet == "answer = eval(text)"


def test_an_edited_rule_is_obeyed_by_the_next_review(codebase):
    rule = make_rule()
    assert " high " in run(codebase)
    rule.severity = "low"
    rule.save()
    assert " low " in run(codebase)
    rule.enabled = False
    rule.save()
    assert "No findings" in run(codebase)
    assert len(set(ReviewSession.objects.values_list("revision", flat=True))) == 3


def test_only_a_whole_codebase_can_lack_a_file(codebase, tmp_path):
    configuration = {"check": "missing_file", "paths": ["/README.md"]}
    make_rule(name="no-readme", plugin_id="repository", configuration=configuration, file_types=[], examples={})
    assert "README.md:1:1: high no-readme" in run(codebase)
    assert "1 finding (1 high) in 0 of 3 files" in run(codebase)
    assert "No findings" in run(codebase / "calm.py")
    # What was found before is not told again once the folder is a part of something.
    (tmp_path / ".git").mkdir()
    assert "No findings" in run(codebase)
    assert "no-readme" in run(tmp_path)
    (codebase / ".git").write_text("gitdir: elsewhere\n")
    assert "no-readme" in run(codebase)


@pytest.mark.parametrize(("severity", "code"), [("critical", 0), ("high", 1), ("medium", 1), ("info", 1)])
def test_the_exit_code_tells_whether_a_finding_reaches_the_threshold(codebase, severity, code):
    make_rule(severity="high")
    run(codebase, "--fail-on", severity, code=code)


def test_without_a_threshold_findings_do_not_fail(codebase):
    make_rule(severity="critical")
    run(codebase, code=0)


def test_a_clean_codebase_passes_every_threshold(codebase):
    make_rule(configuration={"pattern": "nothing_like_it"}, examples={})
    run(codebase, "--fail-on", "info", code=0)


def test_a_path_that_is_not_there_cannot_be_reviewed(tmp_path):
    assert "No such file" in run(tmp_path / "missing", code=2)
    assert not ReviewSession.objects.exists()


def test_an_output_that_cannot_be_written_is_named(codebase, tmp_path):
    make_rule()
    assert str(tmp_path / "no" / "folder") in run(
        codebase, "--format", "json", "--output", tmp_path / "no/folder", code=2
    )


def test_json_on_standard_output_is_nothing_but_json(codebase):
    make_rule(name="no-eval")
    document = json.loads(run(codebase, "--format", "json"))
    assert document["session"] == ReviewSession.objects.get().pk
    assert document["counts"]["by_rule"] == {"no-eval": 1}
    assert document["findings"][0]["path"] == "danger.py"


def test_sarif_is_valid_and_says_which_revision_ran(codebase, tmp_path):
    make_rule(name="no-eval")
    file = tmp_path / "review.sarif"
    run(codebase, "--format", "sarif", "--output", file)
    document = json.loads(file.read_text())
    validate(document)
    (result,) = document["runs"][0]["results"]
    assert result["ruleId"] == "no-eval"
    assert document["runs"][0]["properties"]["revision"] == current_revision()


def test_paths_in_sarif_are_relative_to_the_repository(codebase, tmp_path):
    make_rule()
    (codebase.parent / ".git").mkdir()
    document = json.loads(run(codebase, "--format", "sarif"))
    location = document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "project/danger.py"


def test_excluded_paths_are_left_out(codebase):
    make_rule()
    assert "No findings" in run(codebase, "--exclude", "danger.py")


def test_a_user_without_the_right_cannot_review(codebase):
    make_rule()
    auditor = make_user("auditor")
    assert "may not run" in run(codebase, "--as", auditor.username, code=2)
    editor = make_user("rule editor")
    run(codebase, "--as", editor.username)
    assert ReviewSession.objects.get().started_by == editor.username


def test_a_fault_ends_with_three_and_a_failed_session(codebase, monkeypatch):
    make_rule()
    monkeypatch.setattr("reviews.sessions.run", lambda *args, **kwargs: 1 / 0)
    assert "ZeroDivisionError" in run(codebase, code=3)
    assert ReviewSession.objects.get().status == "failed"


def test_an_edit_during_the_review_changes_nothing_in_it(codebase, monkeypatch):
    from reviews import sessions  # noqa: PLC0415, to wrap what the command calls

    rule, engine = make_rule(), sessions.run

    def edit_and_run(*args, **kwargs):
        rule.severity = "low"
        rule.save()
        return engine(*args, **kwargs)

    monkeypatch.setattr("reviews.sessions.run", edit_and_run)
    assert " high " in run(codebase)
    assert ReviewSession.objects.get().revision == current_revision() - 1
