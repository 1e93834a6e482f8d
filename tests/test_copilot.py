"""Prompts of a session: stored, judged by people, exported, and not told twice; and the options of the command."""

from __future__ import annotations

from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.errors import NotPermitted, StateConflict
from reviews import copilot
from reviews.models import Codebase, CopilotPrompt, DiscoveredIssue, ReviewSession, TrackedFinding
from tests.factories import make_assignment, make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db
_numbers = count(1)


@pytest.fixture
def codebase() -> Codebase:
    return Codebase.objects.create(key="k", name="project", root="/src/project")


@pytest.fixture
def no_eval() -> Any:
    make_persona()
    return make_rule(name="no-eval", remediation="Use `ast.literal_eval`.")


def make_session(codebase: Codebase, **fields: Any) -> ReviewSession:
    return ReviewSession.objects.create(
        tracked_codebase=codebase, codebase=codebase.name, root=codebase.root, revision=1, status="completed", **fields
    )


def make_issue(session: ReviewSession, path: str = "a.py", line: int = 7, **fields: Any) -> DiscoveredIssue:
    triage = fields.pop("triage", "open")
    key = fields.pop("key", f"{path}:{line}")
    values: dict[str, Any] = {"rule_name": "no-eval", "rule_type": "security", "severity": "high", **fields}
    finding, _ = TrackedFinding.objects.get_or_create(
        codebase=session.tracked_codebase,
        key=key,
        defaults={
            **{name: values[name] for name in ("rule_name", "rule_type", "severity")},
            "path": path,
            "line": line,
            "triage": triage,
        },
    )
    return DiscoveredIssue.objects.create(
        session=session,
        finding=finding,
        path=path,
        start_line=line,
        end_line=line,
        start_column=1,
        end_column=9,
        message="eval runs whatever it is given.",
        snippet="eval(text)",
        context_start=line,
        context=["eval(text)"],
        **{"personas": ["security"], **values},
    )


def statuses(session: ReviewSession) -> dict[str, str]:
    return dict(CopilotPrompt.objects.filter(session=session).values_list("name", "status"))


# ------------------------------------------------------------------ storing


def test_the_prompts_of_a_session_are_stored_as_drafts(codebase, no_eval):
    session = make_session(codebase)
    make_issue(session)
    make_issue(session, "b.py")
    (prompt,), left_out = copilot.write_prompts(session)
    prompt.refresh_from_db()
    assert (prompt.name, prompt.persona, prompt.status) == ("security-no-eval", "security", "draft")
    assert (prompt.severity, prompt.rule_names) == ("high", ["no-eval"])
    assert (prompt.finding_keys, prompt.paths, left_out) == (["a.py:7", "b.py:7"], ["a.py", "b.py"], 0)
    assert "Use `ast.literal_eval`." in prompt.body and prompt.content_hash in prompt.body


def test_decided_suppressed_and_orphaned_findings_are_left_out(codebase, no_eval):
    session = make_session(codebase)
    make_issue(session, "dismissed.py", triage="false_positive")
    make_issue(session, "accepted.py", triage="wont_fix")
    make_issue(session, "suppressed.py", suppressed=True)
    make_issue(session, "removed.py", rule_name="no-longer-there")
    make_issue(session, "seen.py", triage="acknowledged")
    (prompt,), left_out = copilot.write_prompts(session)
    assert prompt.paths == ["seen.py"]
    assert left_out == 1


def test_a_finding_keeps_the_severity_of_its_review(codebase, no_eval):
    session = make_session(codebase)
    make_issue(session, severity="low")
    assert copilot.write_prompts(session).prompts[0].severity == "low"


def test_a_session_without_a_codebase_or_tracked_findings_has_prompts_too(no_eval):
    session = ReviewSession.objects.create(codebase="p", root="/p", revision=1)
    DiscoveredIssue.objects.create(
        session=session,
        rule_name="no-eval",
        rule_type="security",
        severity="high",
        path="a.py",
        start_line=1,
        start_column=1,
        end_line=1,
        end_column=5,
        message="m",
    )
    assert copilot.write_prompts(session).prompts[0].finding_keys == []


def test_written_again_prompts_keep_their_rows_and_stale_ones_go(codebase, no_eval):
    session = make_session(codebase)
    issue = make_issue(session)
    make_issue(session, "b.py", rule_name=make_rule(name="other").name)
    first = {row.name: row.pk for row in copilot.write_prompts(session).prompts}
    assert set(first) == {"security-no-eval", "security-other"}
    issue.delete()
    assert {row.name: row.pk for row in copilot.write_prompts(session).prompts} == {
        "security-other": first["security-other"]
    }


def test_many_findings_are_read_in_few_queries(codebase, no_eval, django_assert_max_num_queries):
    session = make_session(codebase)
    for line in range(1, 90):
        make_issue(session, f"d{line % 9}/x.py", line)
    copilot.load_configuration()
    with django_assert_max_num_queries(12):
        copilot.compose(session)


# ------------------------------------------------------------------ statuses


def test_people_say_where_a_prompt_stands(codebase, no_eval):
    session = make_session(codebase)
    make_issue(session)
    (prompt,), _ = copilot.write_prompts(session)
    user = make_user("rule editor")
    for status in ("ready", "exported", "used", "ready", "dismissed", "draft"):
        assert copilot.change_status(prompt, status, user).status == status
    assert copilot.change_status(prompt, "draft", user).status == "draft"


@pytest.mark.parametrize(
    ("old", "new"),
    [("dismissed", "used"), ("dismissed", "exported"), ("exported", "draft"), ("used", "draft"), ("draft", "nonsense")],
)
def test_a_prompt_does_not_get_anywhere_from_anywhere(codebase, no_eval, old, new):
    session = make_session(codebase)
    make_issue(session)
    (prompt,), _ = copilot.write_prompts(session)
    CopilotPrompt.objects.update(status=old)
    with pytest.raises(StateConflict, match=f"that is {old} cannot become {new}"):
        copilot.change_status(prompt, new, make_user("rule editor"))


def test_a_viewer_decides_nothing_about_prompts(codebase, no_eval):
    session = make_session(codebase)
    make_issue(session)
    (prompt,), _ = copilot.write_prompts(session)
    with pytest.raises(NotPermitted):
        copilot.change_status(prompt, "ready", make_user("viewer"))
    assert statuses(session) == {"security-no-eval": "draft"}


@pytest.mark.parametrize("status", ["ready", "exported", "used", "dismissed"])
def test_what_was_said_of_a_prompt_holds_for_the_same_one_of_the_next_review(codebase, no_eval, status):
    first, second = make_session(codebase), make_session(codebase)
    for session in (first, second):
        make_issue(session)
        copilot.write_prompts(session)
        if session is first:
            CopilotPrompt.objects.update(status=status)
    assert statuses(second) == {"security-no-eval": status}


@pytest.mark.parametrize(("status", "then"), [("used", "used"), ("dismissed", "dismissed"), ("ready", "draft")])
def test_code_that_moved_does_not_bring_a_decided_prompt_back(codebase, no_eval, status, then):
    first, second = make_session(codebase), make_session(codebase)
    make_issue(first, line=7, key="the-finding")
    copilot.write_prompts(first)
    CopilotPrompt.objects.update(status=status)
    make_issue(second, line=70, key="the-finding")
    copilot.write_prompts(second)
    assert statuses(second) == {"security-no-eval": then}


def test_a_dismissed_prompt_with_a_new_finding_is_a_draft_again(codebase, no_eval):
    first, second = make_session(codebase), make_session(codebase)
    make_issue(first)
    copilot.write_prompts(first)
    CopilotPrompt.objects.update(status="dismissed")
    make_issue(second)
    make_issue(second, "new.py")
    copilot.write_prompts(second)
    assert statuses(second) == {"security-no-eval": "draft"}


def test_the_last_word_about_a_prompt_counts(codebase, no_eval):
    sessions = [make_session(codebase) for _ in range(3)]
    for session, said in zip(sessions, ("dismissed", "ready", None), strict=True):
        make_issue(session)
        copilot.write_prompts(session)
        if said:
            CopilotPrompt.objects.filter(session=session).update(status=said)
    assert statuses(sessions[-1]) == {"security-no-eval": "ready"}


def test_what_was_dismissed_in_another_codebase_is_told_here(codebase, no_eval):
    first = make_session(Codebase.objects.create(key="other", name="other", root="/other"))
    second = make_session(codebase)
    for session in (first, second):
        make_issue(session)
        copilot.write_prompts(session)
        CopilotPrompt.objects.filter(session=first).update(status="dismissed")
    assert statuses(second) == {"security-no-eval": "draft"}


# ------------------------------------------------------------------ files


def test_exported_prompts_say_so_and_dismissed_ones_are_removed(codebase, no_eval, tmp_path):
    session = make_session(codebase)
    make_issue(session)
    (prompt,), _ = copilot.write_prompts(session)
    file = tmp_path / ".github/prompts/security-no-eval.prompt.md"
    copilot.export_files(tmp_path, session)
    assert file.read_text() == prompt.body
    assert statuses(session) == {"security-no-eval": "exported"}
    copilot.change_status(prompt, "dismissed", make_user("rule editor"))
    assert copilot.export_files(tmp_path, session).removed == [".github/prompts/security-no-eval.prompt.md"]
    assert statuses(session) == {"security-no-eval": "dismissed"}


def test_a_prompt_whose_place_is_taken_is_not_exported(codebase, no_eval, tmp_path):
    session = make_session(codebase)
    make_issue(session)
    copilot.write_prompts(session)
    file = tmp_path / ".github/prompts/security-no-eval.prompt.md"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    copilot.export_files(tmp_path, session)
    assert statuses(session) == {"security-no-eval": "draft"}


# ------------------------------------------------------------------ the command


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "danger.py").write_text("import os\n\nanswer = eval(text)\n")
    return root


def run(*arguments: object, code: int = 0) -> str:
    """Standard output of the command, which must end with `code`; its refusal, if it refuses."""
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


def test_copilot_files_are_written_into_the_reviewed_folder(project, no_eval, capsys):
    run(project, "--copilot")
    assert sorted(str(path.relative_to(project)) for path in project.rglob("*.md")) == [
        ".github/agents/security.agent.md",
        ".github/copilot-instructions.md",
        ".github/instructions/security-python.instructions.md",
        ".github/prompts/security-no-eval.prompt.md",
    ]
    assert "Copilot files: 4 written, 0 removed; 1 prompt." in capsys.readouterr().err
    text = (project / ".github/prompts/security-no-eval.prompt.md").read_text()
    assert "../../danger.py#L3" in text and "answer = eval(text)" in text
    prompt = CopilotPrompt.objects.get()
    assert (prompt.status, prompt.session) == ("exported", ReviewSession.objects.get())


def test_a_second_review_writes_nothing_new(project, no_eval, capsys):
    run(project, "--copilot")
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*.md")}
    run(project, "--copilot")
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*.md")} == before
    assert "0 written, 0 removed" in capsys.readouterr().err


def test_the_check_passes_after_writing_and_writes_nothing_before(project, no_eval, capsys):
    run(project, "--copilot", "--check", code=1)
    assert not (project / ".github").exists() and not CopilotPrompt.objects.filter(status="exported").exists()
    assert ".github/agents/security.agent.md: missing" in capsys.readouterr().err
    run(project, "--copilot")
    run(project, "--copilot", "--check")
    assert "all as they should be" in capsys.readouterr().err


def test_the_check_names_what_differs_and_how(project, no_eval, capsys):
    run(project, "--copilot")
    instructions = project / ".github/instructions/security-python.instructions.md"
    instructions.write_text(instructions.read_text().replace("most important first", "rules are optional"))
    (project / ".github/prompts/security-no-eval.prompt.md").unlink()
    (project / ".github/prompts/a.prompt.md").write_text("---\ndescription: mine\n---\nMine.\n")
    no_eval.title = "Never evaluate text"
    no_eval.save()
    run(project, "--copilot", "--check", code=1)
    told = capsys.readouterr().err
    assert ".github/instructions/security-python.instructions.md: edited by hand\n" in told
    assert ".github/agents/security.agent.md: outdated\n" in told
    assert "a.prompt.md" not in told
    no_eval.enabled = False
    no_eval.save()
    run(project, "--copilot", "--check", code=1)
    assert ".github/agents/security.agent.md: unexpected\n" in capsys.readouterr().err


def test_a_repository_that_keeps_no_prompts_misses_none(project, no_eval, capsys):
    run(project, "--copilot")
    (project / ".github/prompts/security-no-eval.prompt.md").unlink()
    run(project, "--copilot", "--check")
    assert "all as they should be" in capsys.readouterr().err


def test_a_change_of_the_configuration_that_changes_no_text_is_no_drift(project, no_eval):
    run(project, "--copilot")
    no_eval.tags = ["python"]
    no_eval.save()
    run(project, "--copilot", "--check")


def test_a_mended_finding_takes_its_prompt_away(project, no_eval):
    run(project, "--copilot")
    (project / "danger.py").write_text("answer = 42\n")
    run(project, "--copilot", "--check", code=1)
    run(project, "--copilot")
    assert not list(project.glob(".github/prompts/*"))


def test_a_dismissed_prompt_stays_dismissed_and_is_not_written_again(project, no_eval):
    run(project, "--copilot")
    copilot.change_status(CopilotPrompt.objects.get(), "dismissed", make_user("rule editor"))
    run(project, "--copilot")
    assert not list(project.glob(".github/prompts/*"))
    assert set(CopilotPrompt.objects.values_list("status", flat=True)) == {"dismissed"}


def test_a_github_folder_that_leads_elsewhere_is_refused(project, no_eval, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (project / ".github").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "link" in run(project, "--copilot", code=2)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_options_that_do_not_go_together_are_refused_before_the_review(project, no_eval):
    assert "needs --copilot" in run(project, "--check", code=2)
    assert "folder" in run(project / "danger.py", "--copilot", code=2)
    assert not ReviewSession.objects.exists()


def test_json_on_standard_output_stays_json(project, no_eval):
    assert run(project, "--copilot", "--format", "json").startswith("{")


def test_the_first_persona_of_a_rule_speaks_and_each_of_them_is_an_agent(project, no_eval):
    make_assignment(no_eval, make_persona("ops", rule_types=[]), confidence_score="0.5")
    run(project, "--copilot")
    assert sorted(path.name for path in project.glob(".github/agents/*")) == ["ops.agent.md", "security.agent.md"]
    assert [path.name for path in project.glob(".github/prompts/*")] == ["security-no-eval.prompt.md"]


def test_the_top_of_the_repository_is_named_when_it_is_another_folder(project, no_eval, capsys):
    (project.parent / ".git").mkdir()
    run(project, "--copilot")
    assert f"top of a repository only, which is {project.parent}" in capsys.readouterr().err
