"""What the options of `code-review` choose: a baseline, changed lines, a codebase, and what is shown of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rich.console import Console

from audit.permissions import SYSTEM_ACTOR
from plugins.contract import Finding
from reviews import report
from reviews.engine import Result
from reviews.issues import Issue, Listing, list_issues
from reviews.models import ReviewSession, TrackedFinding
from reviews.suppressions import Directive
from reviews.triage import decide
from tests.factories import make_rule
from tests.test_code_review import run
from tests.test_sarif import RENDITION, RULES

pytestmark = pytest.mark.django_db


@pytest.fixture
def codebase(tmp_path: Path) -> Path:
    make_rule(name="no-eval")
    root = tmp_path / "project"
    root.mkdir()
    (root / "old.py").write_text("import os\n\nanswer = eval(text)\n")
    return root


def git(root: Path, *arguments: str) -> None:
    who = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=root, env=os.environ | who, check=True, capture_output=True)


def lines(*arguments: object, code: int = 0) -> list[str]:
    return run(*arguments, "--jobs", 1, code=code).splitlines()


def document(*arguments: object, code: int = 0) -> dict[str, Any]:
    return json.loads(run(*arguments, "--jobs", 1, "--format", "json", code=code))


# ---- since the last review


def test_the_first_review_compares_with_nothing(codebase: Path) -> None:
    told = lines(codebase)
    assert told[0].endswith("eval runs whatever it is given.")
    assert not any("Since the last review" in line for line in told)


def test_later_ones_say_what_is_new_and_what_is_fixed(codebase: Path) -> None:
    lines(codebase)
    assert "Since the last review: 1 existing" in lines(codebase)
    (codebase / "old.py").write_text("import os\n")
    (codebase / "new.py").write_text("eval(1)\n")
    told = lines(codebase)
    assert told[0] == "new.py:1:1: high no-eval eval runs whatever it is given. (new)"
    assert "Since the last review: 1 new, 1 fixed" in told


def test_json_says_of_each_finding_what_is_known(codebase: Path) -> None:
    first, second = document(codebase), document(codebase)
    (finding,) = second["findings"]
    assert finding["key"] == first["findings"][0]["key"] == TrackedFinding.objects.get().key
    assert (finding["state"], finding["triage"], finding["suppressed"], finding["code"]) == (
        "existing",
        "open",
        None,
        "",
    )
    assert second["counts"]["by_state"] == {"new": 0, "existing": 1, "reappeared": 0, "fixed": 0, "rule_removed": 0}


# ---- --baseline


def test_a_baseline_leaves_out_what_was_known(codebase: Path) -> None:
    lines(codebase)
    assert "No findings in 1 file" in lines(codebase, "--baseline", "--fail-on", "high")
    (codebase / "new.py").write_text("eval(1)\n")
    told = lines(codebase, "--baseline", "--fail-on", "high", code=1)
    assert told[0].startswith("new.py:1:1:")
    assert "1 finding (1 high) in 1 of 2 files" in told
    assert "Since the last review: 1 new, 1 known before and not listed" in told
    first = ReviewSession.objects.earliest("pk").pk
    assert [each["path"] for each in document(codebase, "--baseline", first)["findings"]] == ["new.py"]


def test_without_an_earlier_review_everything_counts(codebase: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(codebase, "--baseline", "--fail-on", "high", code=1)
    assert "no earlier review" in capsys.readouterr().err


def test_a_baseline_may_be_any_complete_review(codebase: Path) -> None:
    lines(codebase)
    first = ReviewSession.objects.get().pk
    (codebase / "new.py").write_text("eval(1)\n")
    lines(codebase)
    assert "No findings in 2 files" in lines(codebase, "--baseline")
    assert lines(codebase, "--baseline", first)[0].startswith("new.py:1:1:")


def test_a_baseline_that_is_no_complete_review_of_this_codebase_is_refused(codebase: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    lines(tmp_path / "other")
    other = ReviewSession.objects.get().pk
    assert "there is none yet" in run(codebase, "--baseline", other, code=2)
    lines(codebase)
    mine = ReviewSession.objects.latest("pk").pk
    ReviewSession.objects.filter(pk=mine).update(scope="part")
    assert f"Review {mine} is no complete review" in run(codebase, "--baseline", mine, code=2)


def test_a_finding_that_was_suppressed_then_counts_once_it_no_longer_is(codebase: Path) -> None:
    source = (codebase / "old.py").read_text()
    (codebase / "old.py").write_text(source.replace("(text)", "(text)  # code-review: ignore[no-eval] -- for now"))
    lines(codebase)
    (codebase / "old.py").write_text(source)
    lines(codebase, "--baseline", "--fail-on", "high", code=1)


# ---- --base


def test_only_findings_in_changed_lines_are_kept(codebase: Path) -> None:
    git(codebase, "init", "-q", "-b", "main")
    git(codebase, "add", "-A")
    git(codebase, "commit", "-q", "-m", "1")
    (codebase / "same.py").write_text("eval(0)\n")
    git(codebase, "add", "-A")
    git(codebase, "commit", "-q", "-m", "2")
    lines(codebase)
    (codebase / "old.py").write_text("import os\nnew = eval(1)\nanswer = eval(text)\n")
    (codebase / "untracked.py").write_text("eval(2)\n")
    told = lines(codebase, "--base", "main")
    assert [line.split(":")[:2] for line in told[:2]] == [["old.py", "2"], ["untracked.py", "1"]]
    assert "2 findings (2 high) in 2 of 2 files" in told
    assert "1 unchanged" in told[-1]
    session = ReviewSession.objects.latest("pk")
    assert (session.scope, session.base_ref, session.issues.count()) == ("changes", "main", 2)
    assert set(TrackedFinding.objects.values_list("presence", flat=True)) == {"present"}
    # What a review of changes has seen is known to the next one of everything, and is no baseline for it.
    assert "Since the last review: 4 existing" in lines(codebase)


def test_analyzers_of_the_tree_see_what_did_not_change_as_well(codebase: Path) -> None:
    configuration = {"check": "missing_test", "paths": ["src/*.py"], "tests": ["tests/test_{stem}.py"]}
    make_rule(name="untested", plugin_id="repository", configuration=configuration, examples={})
    git(codebase, "init", "-q", "-b", "main")
    for name in ("src/one.py", "src/two.py", "src/three.py", "tests/test_one.py"):
        (codebase / name).parent.mkdir(exist_ok=True)
        (codebase / name).write_text("x = 1\n")
    git(codebase, "add", "-A")
    git(codebase, "commit", "-q", "-m", "1")
    for name in ("src/one.py", "src/two.py"):
        (codebase / name).write_text("x = 2\n")
    found = document(codebase, "--base", "main")["findings"]
    assert [(each["rule"], each["path"]) for each in found] == [("untested", "src/two.py")]


def test_what_git_cannot_tell_ends_with_two(codebase: Path) -> None:
    assert "no git repository" in run(codebase, "--base", "main", code=2)
    assert "no name of a commit" in run(codebase, "--base=--output=x", code=2)
    assert not ReviewSession.objects.exists()


def test_what_kept_a_review_from_every_file_is_told(codebase: Path, capsys: Any) -> None:
    git(codebase, "init", "-q", "-b", "main")
    git(codebase, "add", "-A")
    git(codebase, "commit", "-q", "-m", "1")
    empty, other = codebase.parent / "empty", codebase.parent / "other"
    for folder in (empty, other):
        folder.mkdir()
    (other / "song.mp3").write_text("la la")
    cases = [
        ((codebase, "--base", "main"), f"No file was reviewed: nothing at {codebase} differs from main."),
        ((empty,), f"there is none at {empty}."),
        ((other,), f"nothing at {other} that an enabled rule asks for."),
    ]
    for arguments, expected in cases:
        lines(*arguments)
        assert capsys.readouterr().err.endswith(f"{expected}\n")


def test_a_path_after_baseline_is_told_apart_from_a_number() -> None:
    with pytest.raises(CommandError, match="put it before --baseline"):
        call_command("code_review", "--baseline", "some/folder")


# ---- --codebase, --show-suppressed, --jobs, --no-cache


def test_a_codebase_can_be_named(codebase: Path) -> None:
    lines(codebase, "--codebase", "shop")
    moved = codebase.rename(codebase.parent / "elsewhere")
    assert "Since the last review: 1 existing" in lines(moved, "--codebase", "shop")
    assert {session.codebase for session in ReviewSession.objects.all()} == {"shop"}


def test_what_does_not_count_is_shown_only_on_request(codebase: Path) -> None:
    (codebase / "a.py").write_text("eval(1)  # code-review: ignore[no-eval] -- a constant (until=2999-01-01)\n")
    lines(codebase)
    decide([TrackedFinding.objects.get(path="old.py")], triage="wont_fix", reason="old", user=SYSTEM_ACTOR)
    told = lines(codebase, "--fail-on", "info")
    assert told[:2] == ["No findings in 2 files", "Since the last review: nothing has changed"]
    assert told[2] == "Not counted: 1 suppressed in the code, 1 dismissed; --show-suppressed lists them"
    told = lines(codebase, "--show-suppressed", "--fail-on", "info")
    assert told[0].endswith("(suppressed until 2999-01-01: a constant)")
    assert told[1].endswith("(wont fix)")
    assert document(codebase)["findings"] == []
    findings = document(codebase, "--show-suppressed")["findings"]
    assert findings[0]["suppressed"] == {"reason": "a constant", "until": "2999-01-01", "line": 1}
    assert findings[1]["triage"] == "wont_fix"
    assert document(codebase, "--show-suppressed")["counts"] | {"by_persona": 0} == {
        "by_severity": {"critical": 0, "high": 0, "medium": 0, "low": 0, "info": 0},
        "by_persona": 0,
        "by_rule": {},
        "by_state": {"new": 0, "existing": 0, "reappeared": 0, "fixed": 0, "rule_removed": 0},
        "suppressed": 1,
        "dismissed": 1,
    }
    # Uploaded, it would be shown as open.
    assert json.loads(run(codebase, "--jobs", 1, "--format", "sarif"))["runs"][0]["results"] == []


def test_the_cache_is_kept_at_home_unless_it_is_not_wanted(codebase: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("reviews.sessions.CACHE", tmp_path / "cache")
    lines(codebase, "--no-cache")
    assert not (tmp_path / "cache").exists()
    lines(codebase)
    assert (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--jobs", "0"], ["--jobs", "x"], ["--codebase", " "], ["--codebase", "a\nb"], ["--baseline", "x"]],
)
def test_wrong_options_are_refused(codebase: Path, arguments: list[str]) -> None:
    out = io.StringIO()
    with pytest.raises(CommandError, match="invalid|is not the number"):
        call_command("code_review", str(codebase), *arguments, stdout=out)


# ---- on a terminal


def test_of_equally_severe_findings_the_new_ones_are_shown_first() -> None:
    known = [Issue(Finding("bare", f"{name}.py", 1, 1, 1, 2, "m", name), name, "existing") for name in "abc"]
    new = Issue(Finding("bare", "z.py", 1, 1, 1, 2, "m", "fresh"), "z", "new")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, legacy_windows=False)
    report.print_table(Result(), rules=RULES, console=console, listing=Listing([*known, new], gone={}), show=1)
    assert "new  fresh" in RENDITION.sub("", out.getvalue())


def test_a_terminal_marks_what_is_new_and_says_what_does_not_count() -> None:
    def issue(line: int, **fields: Any) -> Issue:
        return Issue(Finding("bare", "a.py", line, 1, line, 2, "said", f"line {line}"), f"{line}", **fields)

    issues = [
        issue(1, state="new"),
        issue(2, state="existing"),
        issue(3, state="reappeared"),
        issue(4, state="existing", suppressed=Directive(4, 1, 2, ("bare",), "why\x1b[2J")),
        issue(5, state="existing", triage="false_positive"),
    ]

    def screen(listing: Listing) -> str:
        out = io.StringIO()
        console = Console(file=out, width=100, force_terminal=True, legacy_windows=False)
        result = Result(findings=[each.finding for each in issues], files_analyzed=1, files=frozenset({"a.py"}))
        report.print_table(result, rules=RULES, console=console, listing=listing)
        return RENDITION.sub("", out.getvalue())

    text = screen(list_issues(issues, gone={"fixed": 2, "rule_removed": 1}))
    assert [line.split() for line in text.splitlines() if "line " in line] == [
        ["1:1", "new", "line", "1"],
        ["2:1", "line", "2"],
        ["3:1", "reappeared", "line", "3"],
    ]
    assert "3 findings (3 info) in 1 of 1 file" in text
    assert "Since the last review: 1 new, 1 existing, 1 reappeared, 2 fixed, 1 rule removed" in text
    assert "Not counted: 1 suppressed in the code, 1 dismissed; --show-suppressed lists them" in text
    text = screen(list_issues(issues, gone={}, show_suppressed=True))
    assert "suppressed: why\\x1b[2J  line 4" in text
    assert "false positive  line 5" in text
    assert "3 findings" in text
