"""What a pipeline gets from `code-review`: its documents, what is new in them, and the exit code."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from html import unescape
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from django.core.management import CommandError, call_command

from audit.permissions import SYSTEM_ACTOR
from plugins.registry import analyzers
from reviews.management import output
from reviews.management.commands.code_review import Command as CodeReview
from reviews.models import ReviewSession, TrackedFinding
from reviews.triage import decide
from tests.factories import make_rule
from tests.sarif import validate
from tests.test_formats import read_commands, read_summary

pytestmark = pytest.mark.django_db

FORMATS = ("json", "sarif", "github", "markdown", "junit")


@pytest.fixture
def codebase(tmp_path: Path) -> Path:
    make_rule(name="no-eval", severity="high")
    make_rule(name="no-exec", severity="low", configuration={"pattern": r"\bexec\("}, examples={})
    root = tmp_path / "shop"
    root.mkdir()
    (root / ".git").mkdir()
    (root / "old.py").write_text("eval(text)\n")
    (root / "quiet.py").write_text("exec(text)  # code-review: ignore[no-exec] -- our own file\n")
    return root


def run(*arguments: object, code: int = 0) -> str:
    out = StringIO()
    try:
        call_command("code_review", *map(str, arguments), "--jobs", "1", "--no-cache", stdout=out)
        ended = 0
    except SystemExit as ending:
        ended = ending.code
    except CommandError as error:
        ended = error.returncode
        out.write(str(error))
    assert ended == code, out.getvalue()
    return out.getvalue()


def test_annotations_stand_on_standard_output_and_the_exit_code_stays(codebase: Path) -> None:
    (command,) = read_commands(run(codebase, "--format", "github", "--fail-on", "high", code=1))
    assert (command["kind"], command["file"], command["line"], command["col"]) == ("error", "old.py", "1", "1")


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_can_be_printed_or_written(codebase: Path, tmp_path: Path, form: str) -> None:
    file = tmp_path / "document"
    shown = run(codebase, "--format", form, "--output", file)
    # A log is told what it comes to, and not each finding once more.
    assert shown.startswith("1 finding (1 high) in 1 of 2 files\n")
    printed = run(codebase, "--format", form)
    assert "no-eval" in file.read_text()
    assert printed.splitlines()[0] in (file.read_text().splitlines()[0], "## Code review of shop: no new findings")


def test_one_review_gives_every_document(codebase: Path, tmp_path: Path) -> None:
    files = {form: tmp_path / f"review.{form}" for form in FORMATS}
    targets = [option for form, file in files.items() for option in ("--write", f"{form}={file}")]
    run(codebase, "--format", "github", *targets)
    assert ReviewSession.objects.count() == 1
    document = json.loads(files["sarif"].read_text())
    validate(document)
    assert [each["ruleId"] for each in document["runs"][0]["results"]] == ["no-eval"]
    assert json.loads(files["json"].read_text())["counts"]["suppressed"] == 1
    assert ET.parse(files["junit"]).getroot().get("failures") == "1"
    assert read_commands(files["github"].read_text())[0]["file"] == "old.py"
    assert "1 finding (1 high)" in read_summary(files["markdown"].read_text()).loose


@pytest.mark.parametrize("target", ["table=x", "sarif", "sarif=", "=x", "yaml=x"])
def test_a_target_names_a_format_and_a_file(codebase: Path, target: str) -> None:
    with pytest.raises(CommandError, match="FORMAT=FILE"):
        call_command("code_review", str(codebase), "--write", target)


def test_a_target_that_cannot_be_written_is_named(codebase: Path, tmp_path: Path) -> None:
    assert "no/folder" in run(codebase, "--write", f"junit={tmp_path}/no/folder", code=2)


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("json", lambda text: [each["path"] for each in json.loads(text)["findings"]]),
        ("sarif", lambda text: [
            each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
            for each in json.loads(text)["runs"][0]["results"]
        ]),
        ("github", lambda text: [each["file"] for each in read_commands(text)]),
        ("markdown", lambda text: [cell.partition(":")[0] for cell in read_summary(text).cells if ".py:" in cell]),
        ("junit", lambda text: [case.get("file") for case in ET.fromstring(text).iter("testcase")]),
    ],
)  # fmt: skip
def test_with_a_baseline_only_what_is_new_is_told(codebase: Path, form: str, read: Callable[[str], list[str]]) -> None:
    run(codebase)
    (codebase / "young.py").write_text("eval(text)\n")
    assert read(run(codebase, "--format", form, "--fail-on", "high", "--baseline", code=1)) == ["young.py"]
    assert read(run(codebase, "--format", form, "--fail-on", "high", "--baseline")) == []


def test_what_came_back_is_told_again(codebase: Path) -> None:
    run(codebase)
    (codebase / "old.py").write_text("pass\n")
    assert "| fixed | | | | | | 1 |" in run(codebase, "--format", "markdown")
    (codebase / "old.py").write_text("eval(text)\n")
    assert "| high (reappeared) | <code>old.py" in run(codebase, "--format", "markdown", "--baseline")


def test_the_archive_holds_what_is_suppressed_and_dismissed(codebase: Path) -> None:
    run(codebase)
    decide(TrackedFinding.objects.filter(rule_name="no-eval"), triage="wont_fix", reason="Known.", user=SYSTEM_ACTOR)
    assert json.loads(run(codebase, "--format", "sarif"))["runs"][0]["results"] == []
    document = json.loads(run(codebase, "--format", "sarif", "--show-suppressed"))
    validate(document)
    told = {each["ruleId"]: each for each in document["runs"][0]["results"]}
    assert told["no-eval"]["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "Won't fix"}
    ]  # fmt: skip
    assert told["no-exec"]["suppressions"][0]["justification"] == "our own file"
    report = ET.fromstring(run(codebase, "--format", "junit", "--show-suppressed"))
    assert {(each.get("message")) for each in report.iter("skipped")} == {"Won't fix", "Suppressed: our own file"}


def test_a_document_names_the_codebase_and_the_plugins(codebase: Path) -> None:
    (run_,) = json.loads(run(codebase, "--format", "sarif", "--codebase", "acme/shop"))["runs"]
    assert run_["automationDetails"] == {"id": "code-review/acme/shop/"}
    extensions = {each["name"]: each["version"] for each in run_["tool"]["extensions"]}
    assert extensions["patterns"] == analyzers()["patterns"].version
    key = TrackedFinding.objects.get(rule_name="no-eval").key
    assert run_["results"][0]["partialFingerprints"]["codeReviewFinding/v1"] == key


def test_below_the_threshold_a_test_passes(codebase: Path) -> None:
    (codebase / "mild.py").write_text("exec(text)\n")
    report = ET.fromstring(run(codebase, "--format", "junit", "--fail-on", "high", code=1))
    assert (report.get("tests"), report.get("failures")) == ("2", "1")


def test_only_changed_lines_are_annotated(codebase: Path) -> None:
    (codebase / ".git").rmdir()

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(codebase), *identity, *arguments], check=True, capture_output=True)

    git("init", "-q", "-b", "trunk")
    git("add", ".")
    git("commit", "-qm", "first")
    git("checkout", "-qb", "feature")
    (codebase / "old.py").write_text("eval(text)\n\neval(more)\n")
    told = read_commands(run(codebase, "--format", "github", "--base", "trunk", "--fail-on", "high", code=1))
    assert [each["line"] for each in told] == ["3"]


def test_paths_are_told_from_the_root_of_the_repository(codebase: Path) -> None:
    part = codebase / "packages"
    part.mkdir()
    (part / "a.py").write_text("eval(text)\n")
    assert read_commands(run(part, "--format", "github"))[0]["file"] == "packages/a.py"
    assert ET.fromstring(run(part, "--format", "junit")).find(".//testcase").get("file") == "packages/a.py"
    assert "packages/a.py" in run(part, "--format", "markdown", "--baseline", "--codebase", "x")


@pytest.mark.parametrize("form", ["table", "json", "sarif", "markdown", "junit"])
def test_nothing_that_a_file_says_is_a_command_to_the_pipeline_that_prints_it(codebase: Path, form: str) -> None:
    command = "##vso[task.prependpath]"
    (codebase / f"{command}.py").write_text(f"eval({command})\n")
    told = run(codebase, "--format", form)
    assert "vso[" in unescape(told)
    assert not re.search(r"##\w*\[", told)


def test_a_folder_whose_name_is_no_text_can_be_told_of(codebase: Path) -> None:
    part = os.fsdecode(os.fsencode(codebase) + b"/caf\xe9")
    os.mkdir(part)
    (Path(part) / "a.py").write_text("eval(text)\n")
    (result,) = json.loads(run(part, "--format", "sarif"))["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "caf%E9/a.py"


def test_what_git_says_of_a_hostile_repository_is_shown_and_not_obeyed(codebase: Path) -> None:
    (codebase / ".git").rmdir()
    subprocess.run(["git", "-C", str(codebase), "init", "-q"], check=True)
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(codebase), *identity, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    with (codebase / ".git" / "config").open("a") as file:
        file.write(f'[core]\n\tworktree = "{codebase.parent}/\x1b]0;owned\x07"\n')
    told = run(codebase, "--base", "HEAD", code=2)
    assert "owned" in told and told.isprintable()


PAGE = (Path(__file__).parent.parent / "docs" / "pipelines.md").read_text(encoding="utf-8")


def documented_commands() -> list[list[str]]:
    """The lines of the page that call `code-review`, those of its workflows as well."""
    texts = re.findall(r"^ *\./(code-review .*)", PAGE, re.MULTILINE)
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        document = yaml.safe_load(block)
        jobs = document.get("jobs", document)
        (job,) = [each for each in jobs.values() if isinstance(each, dict) and {"steps", "script"} & each.keys()]
        texts += job.get("script", []) + [step["run"] for step in job.get("steps", []) if "run" in step]
    calls = [shlex.split(text, comments=True) for text in texts if "code-review " in text]
    return [call[1:] for call in calls]


def test_the_page_about_pipelines_uses_options_that_exist() -> None:
    parser = CodeReview().create_parser("manage.py", "code_review")
    commands = documented_commands()
    assert len(commands) == 8
    for arguments in commands:
        assert parser.parse_args(arguments).path == Path()


def test_the_page_about_pipelines_names_every_format() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == {"table", *FORMATS} == {"table", *output.FORMATS}
