"""Analyzers that look at the whole tree, beside those that look at each file; and the suppressions in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from plugins import registry
from plugins.contract import Finding, RuleSpec, SourceFile
from reviews.discovery import discover
from reviews.engine import Result, run
from reviews.suppressions import Policy
from tests.foreign import install

EVAL = RuleSpec("eval", configuration={"pattern": r"eval\("}, message="eval found")
TODAY = date(2030, 6, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(autouse=True)
def foreign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(folder)
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


@pytest.fixture
def review(folder: Path, tmp_path: Path) -> Callable[..., Result]:
    def review(*rules: RuleSpec, files: dict[str, bytes | str], **options: Any) -> Result:
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content.encode() if isinstance(content, str) else content)
        return run(
            rules,
            discover(tmp_path, max_bytes=1000),
            **{"plugin_configurations": {}, "search_path": [folder], "today": TODAY, **options},
        )

    return review


def woods(do: str, name: str = "woods", **fields: Any) -> RuleSpec:
    configuration = {"do": do, **fields.pop("configuration", {})}
    return RuleSpec(name, plugin="woods", configuration=configuration, **fields)


def find(*places: tuple[Any, ...], name: str = "woods", **fields: Any) -> RuleSpec:
    findings = [[path, line, 1, line, 2, "found", *rest] for path, line, *rest in places]
    return woods("find", name, configuration={"findings": findings}, **fields)


def report(kind: str) -> RuleSpec:
    return RuleSpec(
        f"directive-{kind}", plugin="directives", configuration={"report": kind}, message="It does nothing."
    )


def places(result: Result) -> list[tuple[str, int, str]]:
    return [(finding.path, finding.start_line, finding.rule) for finding in result.findings]


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_the_tree_holds_every_file_and_reads_those_that_are_text(review: Callable[..., Result], jobs: int) -> None:
    files = {"a.py": "x" * 10, "src/b.bin": b"\0" * 20, "huge.py": "x" * 1001, "wide.txt": "é".encode("utf-16")}
    result = review(woods("read"), files=files, jobs=jobs)
    assert {finding.path: finding.message for finding in result.findings} == {
        "a.py": "10: 10 bytes",
        "src/b.bin": "20: no text",
        "huge.py": "1001: no text",
        "wide.txt": "4: 2 bytes",
    }
    assert result.failures == []
    assert result.files == set(files)
    assert result.plugin_runs["woods"].files == 4


def test_findings_of_the_tree_are_marked_and_those_that_no_rule_asks_for_dropped(
    review: Callable[..., Result],
) -> None:
    rule = find(
        ("a.py", 2), ("a.py", 2), ("b.js", 1), ("LICENSE.py", 1), file_types=[".py"], exclude_patterns=["^src/"]
    )
    files = {"a.py": "x\neval(x)\ny\n", "b.js": "x", "src/a.py": "x"}
    result = review(rule, EVAL, files=files)
    assert places(result) == [("LICENSE.py", 1, "woods"), ("a.py", 2, "eval"), ("a.py", 2, "woods")]
    missing, one, other = (result.marks[finding] for finding in result.findings)
    assert one == other
    assert one.context == ("x", "eval(x)", "y", "")
    assert missing.context == ()
    assert result.fingerprints == {("a.py", 2): one.line_hash}
    assert result.failures == []


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("../b.py", 1), "returned a finding in '../b.py'"),
        (("/etc/passwd", 1), "returned a finding in '/etc/passwd'"),
        (("x//y", 1), "returned a finding in 'x//y'"),
        (("a.py", 9), "there is no line 9"),
        (("a.py", 0), "which is no place in the file"),
        ((7, 1), "returned a finding in 7"),
    ],
)
def test_findings_of_the_tree_that_make_no_sense_are_failures(
    review: Callable[..., Result], place: tuple[Any, ...], said: str
) -> None:
    result = review(find(place, ("a.py", 1)), files={"a.py": "x\n"})
    assert places(result) == [("a.py", 1, "woods")]
    (failure,) = result.failures
    assert failure.plugin == "woods"
    assert said in failure.message


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("sleep", "took longer than 3 s and was stopped"),
        ("exit_process", "ended its process with exit code 3"),
        ("close_files", "closed files that are not its own"),
        ("raise_base", "BaseException: no Exception at all"),
        ("eat", "MemoryError: "),
    ],
)
def test_one_that_goes_wrong_with_the_tree_costs_its_own_findings(
    review: Callable[..., Result], deed: str, said: str
) -> None:
    result = review(woods(deed), EVAL, files={"a.py": "eval(x)"}, jobs=2, memory=64 << 20)
    assert places(result) == [("a.py", 1, "eval")]
    (failure,) = result.failures
    assert (failure.plugin, failure.path) == ("woods", None)
    assert said in failure.message


def test_a_partial_failure_of_the_tree_is_told(review: Callable[..., Result]) -> None:
    result = review(woods("fail_partly"), files={"a.py": "x"})
    assert [tuple(failure) for failure in result.failures] == [("woods", "woods", "a.py", "cannot parse")]


def test_without_a_folder_there_is_no_tree() -> None:
    result = run([find(("a.py", 1))], [SourceFile("a.py", b"x")], plugin_configurations={})
    assert [failure.message for failure in result.failures] == ["looks at folders, and there is none"]


def test_the_tree_of_a_single_file_is_that_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "b.py").write_text("x")
    files = discover(tmp_path / "a.py")
    result = run([woods("read")], files, plugin_configurations={}, search_path=[folder])
    assert [finding.path for finding in result.findings] == ["a.py"]


def test_files_that_only_the_tree_is_about_are_not_skipped(review: Callable[..., Result]) -> None:
    python = RuleSpec("python", configuration={"pattern": "x"}, file_types=[".py"])
    files = {"a.py": "x", "b.md": "x", "c.js": "x"}
    result = review(python, find(("b.md", 1), file_types=[".md"]), files=files)
    assert result.files == {"a.py", "b.md"}
    assert (result.files_analyzed, result.files_skipped) == (2, {"no_rule": 1})


def test_suppressions_hold_for_findings_of_files_and_of_the_tree(review: Callable[..., Result]) -> None:
    text = "eval(x)  # code-review: ignore[eval, woods] -- known\neval(y)\n"
    rules = (EVAL, find(("a.py", 1), ("a.py", 2)))
    result = review(*rules, files={"a.py": text}, suppression_policy={})
    assert places(result) == [("a.py", 1, "eval"), ("a.py", 1, "woods"), ("a.py", 2, "eval"), ("a.py", 2, "woods")]
    assert {(finding.start_line, finding.rule): each.reason for finding, each in result.suppressed.items()} == {
        (1, "eval"): "known",
        (1, "woods"): "known",
    }
    assert review(*rules, files={"a.py": text}).suppressed == {}


def test_reports_of_suppressions_are_findings_of_their_rules(review: Callable[..., Result]) -> None:
    text = (
        "x = 1  # code-review: ignore[eval] -- not needed\n"
        "eval(y)  # code-review: ignore[eval] -- over (until=2030-05-31)\n"
        "eval(y)  # code-review: ignore[eval] -- not over (until=2030-06-01)\n"
        "eval(z)  # code-review: ignore[eval]\n"
    )
    rules = [report(kind) for kind in ("unused", "expired", "malformed")]
    result = review(EVAL, *rules, files={"a.py": text, "b.js": "x"}, suppression_policy=Policy())
    reports = [place for place in places(result) if place[2] != "eval"]
    assert reports == [
        ("a.py", 1, "directive-unused"),
        ("a.py", 2, "directive-expired"),
        ("a.py", 4, "directive-malformed"),
    ]
    assert [finding.start_line for finding in result.suppressed] == [3]
    (unused,) = [finding for finding in result.findings if finding.rule == "directive-unused"]
    assert (unused.start_column, unused.end_column) == (10, 49)
    assert result.marks[unused].context[0].startswith("x = 1")
    assert result.plugin_runs["directives"].findings == 3


def test_a_suppression_is_not_unused_if_a_rule_it_names_did_not_run(review: Callable[..., Result]) -> None:
    text = "x = 1  # code-review: ignore[eval, woods] -- not needed\n"
    rules = (EVAL, report("unused"))
    options = {"files": {"a.py": text}, "suppression_policy": {}}
    assert len(review(*rules, find(), **options).findings) == 1
    assert review(*rules, woods("exit_process"), **options).findings == []
    assert review(*rules, woods("fail_partly"), **options).findings == []
    assert review(*rules, find(file_types=[".js"]), **options).findings == []


@pytest.mark.parametrize("deed", ["exit_process", "raise_base", "fail_partly"])
def test_a_suppression_of_a_rule_that_failed_on_the_file_is_not_unused(
    review: Callable[..., Result], deed: str
) -> None:
    text = "x = 1  # code-review: ignore[foreign] -- not needed\n"
    rule = RuleSpec("foreign", plugin="foreign", configuration={"do": deed, "on": "x"})
    result = review(rule, report("unused"), files={"a.py": text}, suppression_policy={})
    assert [finding.rule for finding in result.findings if finding.rule != "foreign"] == []
    assert len(result.failures) == 1


def test_a_suppression_in_a_file_that_only_the_tree_is_about_holds(review: Callable[..., Result]) -> None:
    text = "x = 1  # code-review: ignore[woods] -- known\n"
    result = review(find(("a.py", 1)), report("unused"), files={"a.py": text}, suppression_policy={})
    assert [finding.rule for finding in result.suppressed] == ["woods"]


def test_a_credential_that_one_analyzer_sees_is_shown_by_none(review: Callable[..., Result]) -> None:
    text = "x = 1\npassword = 'hunter2'; eval(x)\n"
    credential = RuleSpec("credential", plugin="foreign", configuration={"do": "see_credential", "on": "hunter2"})
    result = review(EVAL, credential, find(("a.py", 1)), files={"a.py": text})
    assert len(result.findings) == 3
    assert "hunter2" not in repr(result)
    result = review(EVAL, find(("a.py", 2, "p***", "S105", True)), files={"a.py": text})
    assert len(result.findings) == 2
    assert "hunter2" not in repr(result)
    assert {type(finding) for finding in result.marks} == {Finding}


def test_a_message_quotes_no_code_in_which_another_analyzer_sees_a_credential(review: Callable[..., Result]) -> None:
    credential = RuleSpec("credential", plugin="foreign", configuration={"do": "see_credential", "on": "hunter2"})
    login = RuleSpec(
        "login",
        plugin="structure",
        configuration={"language": "python", "pattern": "login($WHO, $HOW)"},
        message="`$WHO` comes in by `$HOW`.",
        file_types=(".py",),
    )
    text = "login(a, b)\nlogin(\n    c,\n    'hunter2',\n)\n"
    result = review(login, credential, files={"a.py": text})
    told = [finding.message for finding in result.findings if finding.rule == "login"]
    assert told == ["`a` comes in by `b`.", "`***` comes in by `***`."]
