"""What a review hands to other tools and shows to people: SARIF, fingerprints, JSON, lines and tables."""

from __future__ import annotations

import io
import json
import os
import re
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import pytest
from rich.console import Console

from plugins.contract import Finding, RuleSpec
from reviews import limits, report, sarif
from reviews.discovery import discover
from reviews.engine import Failure, Result, run
from reviews.fingerprints import fingerprint_lines
from tests.sarif import SCHEMA, validate

STARTED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
FINISHED = datetime(2026, 1, 2, 1, 4, 9, tzinfo=UTC)
HOSTILE_NAMES = [
    "plain.py",
    "with space.py",
    "hash#query?.py",
    "per%20cent.py",
    "co:lon.py",
    "ünïcode/日本.py",
    "new\nline.py",
    "quote\"'<&>[red].py",
    "esc\x1b[31m.py",
    "back\\slash.py",
    "😀.py",
]
RULES = (
    RuleSpec(
        "python-eval-call",
        title="Code is evaluated from text",
        rule_type="security",
        severity="critical",
        configuration={"pattern": r"eval\(.*"},
        message="Text is run as code here.",
        remediation="Use `ast.literal_eval`.",
        references=("https://docs.python.org/3/library/ast.html", "CWE-95", "not a link"),
        tags=("python", "injection"),
        personas=("security", "reliability"),
    ),
    RuleSpec("bare", configuration={"pattern": "TODO"}, severity="info", rule_type="style"),
)


def review(root: Path, rules: tuple[RuleSpec, ...] = RULES) -> Result:
    return run(rules, discover(root), plugin_configurations={})


def document(result: Result, root: Path, rules: tuple[RuleSpec, ...] = RULES, **options: Any) -> dict[str, Any]:
    made = sarif.document(
        result, rules, tool_version="1.2.3", revision=42, root=root, started_at=STARTED, finished_at=FINISHED, **options
    )
    made = json.loads(json.dumps(made))
    validate(made)
    assert list(strict_validator().iter_errors(made)) == []
    return made


@cache
def strict_validator() -> jsonschema_rs.Draft4Validator:
    """The same schema by another reader, which also judges the form of addresses and times."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for part in ("run", "toolComponent"):
        # Its bracket too many is no valid expression to this reader; no language is said here.
        assert schema["definitions"][part]["properties"]["language"].pop("pattern").endswith("]?$")
    return jsonschema_rs.Draft4Validator(schema, validate_formats=True)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    for name in HOSTILE_NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# TODO\n\tx = eval('\x1b[31mé')\n")
    return tmp_path


def texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts_in(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts_in(each)]
    return [value] if isinstance(value, str) else []


def test_a_document_satisfies_the_official_schema_whatever_files_are_called(hostile: Path) -> None:
    made = document(review(hostile), hostile)
    (results,) = [each["results"] for each in made["runs"]]
    uris = {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in results}
    assert {unquote(uri) for uri in uris} == set(HOSTILE_NAMES)
    assert all(re.fullmatch(r"[A-Za-z0-9._~/%-]+", uri) for uri in uris)
    assert len(results) == 2 * len(HOSTILE_NAMES)
    assert all(texts_in(made))  # GitHub refuses empty texts
    assert made["runs"][0]["properties"]["revision"] == 42


def test_a_name_that_is_no_text_still_gives_a_valid_document(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.py", "wb") as file:
        file.write(b"eval(x)")
    made = document(review(tmp_path), tmp_path)
    location = made["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": "caf%5Cxe9.py", "uriBaseId": "SRCROOT"}


def test_a_result_says_where_in_the_terms_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("safe\n\té = eval(1)\n")
    made = document(review(tmp_path), tmp_path)
    (result,) = made["runs"][0]["results"]
    assert result == {
        "ruleId": "python-eval-call",
        "ruleIndex": 1,
        "level": "error",
        "message": {"text": "Text is run as code here."},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "a.py", "uriBaseId": "SRCROOT"},
                    "region": {"startLine": 2, "startColumn": 6, "endLine": 2, "endColumn": 13},
                    "contextRegion": {"startLine": 2, "snippet": {"text": "é = eval(1)"}},
                }
            }
        ],
        "partialFingerprints": {
            "primaryLocationLineHash": fingerprint_lines((tmp_path / "a.py").read_bytes(), {2})[2],
        },
    }
    assert made["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert made["runs"][0]["columnKind"] == "unicodeCodePoints"


def test_rules_are_described_as_code_scanning_wants_them(tmp_path: Path) -> None:
    bare, full = document(review(tmp_path), tmp_path)["runs"][0]["tool"]["driver"]["rules"]
    assert full["name"] == "PythonEvalCall"
    assert full["shortDescription"]["text"] == "Code is evaluated from text"
    assert full["fullDescription"]["text"] == "Text is run as code here."
    assert full["help"]["text"] == "Use `ast.literal_eval`."
    assert "<https://docs.python.org/3/library/ast.html>" in full["help"]["markdown"]
    assert "<not a link>" not in full["help"]["markdown"]
    assert full["helpUri"] == "https://docs.python.org/3/library/ast.html"
    assert full["defaultConfiguration"] == {"level": "error"}
    assert full["properties"] == {
        "tags": ["security", "external/cwe/cwe-095", "python", "injection"],
        "precision": "medium",
        "problem.severity": "error",
        "security-severity": "9.5",
        "severity": "critical",
        "personas": ["security", "reliability"],
    }
    assert "security-severity" not in bare["properties"]  # its presence would make it a security rule
    assert bare["properties"]["problem.severity"] == "recommendation"
    assert bare["fullDescription"]["text"] == bare["help"]["text"] == "bare"


@pytest.mark.parametrize(
    ("severity", "level", "score"),
    [
        ("critical", "error", (9.0, 10.0)),
        ("high", "error", (6.9, 8.9)),
        ("medium", "warning", (3.9, 6.9)),
        ("low", "note", (0.0, 3.9)),
        ("info", "note", (0.0, 3.9)),
    ],
)
def test_severities_become_levels_and_scores(
    tmp_path: Path, severity: str, level: str, score: tuple[float, float]
) -> None:
    (tmp_path / "a.py").write_text("eval(1)")
    rule = RuleSpec("r", rule_type="security", severity=severity, configuration={"pattern": "eval"})
    run_ = document(review(tmp_path, (rule,)), tmp_path, (rule,))["runs"][0]
    described = run_["tool"]["driver"]["rules"][0]
    assert described["defaultConfiguration"]["level"] == run_["results"][0]["level"] == level
    assert score[0] < float(described["properties"]["security-severity"]) <= score[1]


def test_long_texts_and_many_tags_are_cut(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("eval(1)")
    rule = RuleSpec(
        "r" * 100,
        title="t" * 3000,
        message="é" * 3000,
        remediation="h" * 3000,
        tags=[f"tag-{number}" for number in range(30)],
        configuration={"pattern": "eval"},
    )
    run_ = document(review(tmp_path, (rule,)), tmp_path, (rule,))["runs"][0]
    described = run_["tool"]["driver"]["rules"][0]
    for text in (described["shortDescription"], described["fullDescription"], run_["results"][0]["message"]):
        assert len(text["text"]) == 1024
    assert len(described["properties"]["tags"]) == 10


def test_failures_are_notifications_and_the_run_is_not_called_successful(tmp_path: Path) -> None:
    result = review(tmp_path)
    assert document(result, tmp_path)["runs"][0]["invocations"][0]["executionSuccessful"] is True
    result.failures = [Failure("patterns", "bare", "a b.py", "Panic: \x1b"), Failure("gone", None, None, "")]
    (invocation,) = document(result, tmp_path)["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    first, second = invocation["toolExecutionNotifications"]
    assert first["associatedRule"] == {"id": "bare", "index": 0}
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20b.py"
    assert second["message"]["text"] == "The plugin gone:"


def test_times_are_utc_and_the_run_has_an_identity(tmp_path: Path) -> None:
    run_ = document(review(tmp_path), tmp_path)["runs"][0]
    assert run_["invocations"][0]["startTimeUtc"] == "2026-01-02T01:04:05.678Z"
    assert run_["invocations"][0]["endTimeUtc"] == "2026-01-02T01:04:09.000Z"
    assert run_["automationDetails"] == {"id": "code-review/"}
    run_ = document(review(tmp_path), tmp_path, codebase="/group/the shop\n/")["runs"][0]
    assert run_["automationDetails"] == {"id": "code-review/group/the shop-/"}


def test_paths_can_be_told_from_the_root_of_a_repository_above(tmp_path: Path) -> None:
    root = tmp_path / "packages/the one"
    root.mkdir(parents=True)
    (root / "a.py").write_text("eval(1)")

    def uri(reviewed: Path, **options: Any) -> str:
        run_ = document(review(reviewed), reviewed, **options)["runs"][0]
        return run_["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]

    assert uri(root) == uri(root / "a.py") == "a.py"
    assert uri(root, base=tmp_path) == uri(root / "a.py", base=tmp_path) == "packages/the%20one/a.py"
    run_ = document(review(root), root, base=tmp_path)["runs"][0]
    assert run_["originalUriBaseIds"]["SRCROOT"]["uri"] == f"file://{tmp_path}/"


def test_more_results_than_github_takes_leave_out_the_least_severe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_RESULTS", 3)
    (tmp_path / "a.py").write_text("TODO\nTODO\neval(1)\nTODO\neval(2)\n")
    run_ = document(review(tmp_path), tmp_path)["runs"][0]
    regions = [each["locations"][0]["physicalLocation"]["region"] for each in run_["results"]]
    assert [region["startLine"] for region in regions] == [1, 3, 5]
    assert [each["ruleId"] for each in run_["results"]] == ["bare", "python-eval-call", "python-eval-call"]
    (notification,) = run_["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"].startswith("2 results were left out")
    assert run_["invocations"][0]["executionSuccessful"] is True


# Published examples of the algorithm: the fingerprints of all lines of a text.
VECTORS = [
    ("", ["c129715d7a2bc9a3:1"]),
    (
        " a\nb\n  \t\tc\n d",
        ["271789c17abda88f:1", "54703d4cd895b18:1", "180aee12dab6264:1", "a23a3dc5e078b07b:1"],
    ),
    (
        " hello; \t\nworld!!!\n\n\n  \t\tGreetings\n End",
        [
            "8b7cf3e952e7aeb2:1",
            "b1ae1287ec4718d9:1",
            "bff680108adb0fcc:1",
            "c6805c5e1288b612:1",
            "b86d3392aea1be30:1",
            "e6ceba753e1a442:1",
        ],
    ),
    *(
        (
            text,
            [
                "e9496ae3ebfced30:1",
                "fb7c023a8b9ccb3f:1",
                "ce8ba1a563dcdaca:1",
                "e20e36e16fcb0cc8:1",
                "b3edc88f2938467e:1",
                "c8e28b0b4002a3a0:1",
                "c129715d7a2bc9a3:1",
            ],
        )
        for text in (
            " hello; \t\nworld!!!\n\n\n  \t\tGreetings\n End\n",
            " hello; \t\rworld!!!\r\r\r  \t\tGreetings\r End\r",
            " hello; \t\r\nworld!!!\r\n\r\n\r\n  \t\tGreetings\r\n End\r\n",
            " hello; \t\nworld!!!\r\n\n\r  \t\tGreetings\r End\r\n",
        )
    ),
    (
        "Lorem ipsum dolor sit amet.\n" * 10,
        [
            *(f"a7f2ff13bc495cf2:{number}" for number in range(1, 7)),
            "a7f2ff1481e87703:1",
            "a9cf91f7bbf1862b:1",
            "55ec222b86bcae53:1",
            "cc97dc7b1d7d8f7b:1",
            "c129715d7a2bc9a3:1",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), VECTORS)
def test_fingerprints_are_those_that_github_computes(text: str, expected: list[str]) -> None:
    numbers = range(1, len(expected) + 2)
    assert fingerprint_lines(text.encode(), numbers) == dict(enumerate(expected, start=1))
    for number, fingerprint in enumerate(expected, start=1):
        assert fingerprint_lines(text.encode(), {number}) == {number: fingerprint}


def roll(content: bytes) -> dict[int, str]:
    """The algorithm as it is published: one character after another through a window of 100."""
    units = content.decode("utf-8", "replace").encode("utf-16-le")
    window, numbers, index, value, line = [0] * 100, [0] * 100, 0, 0, 0
    line_starts, after_return = True, False
    counts: dict[str, int] = {}
    found: dict[int, str] = {}

    def push(unit: int, number: int) -> None:
        nonlocal index, value
        if numbers[index]:
            text = f"{value:x}"
            counts[text] = counts.get(text, 0) + 1
            found[numbers[index]] = f"{text}:{counts[text]}"
        numbers[index] = number
        value = (37 * value + unit - pow(37, 100) * window[index]) % 2**64
        window[index] = unit
        index = (index + 1) % 100

    for unit in [*(int.from_bytes(units[at : at + 2], "little") for at in range(0, len(units), 2)), 65535]:
        if unit in (9, 32) or (after_return and unit == 10):
            after_return = False
            continue
        after_return = unit == 13
        unit = 10 if unit == 13 else unit
        line += line_starts
        push(unit, line if line_starts else 0)
        line_starts = unit == 10
    for _ in range(100):
        push(0, 0)
    return found


@pytest.mark.parametrize(
    "content",
    [
        "é = '😀'\n".encode() * 30,
        b"\xf0\x9f \x98\x80\r \n\xff\xfe\n" * 20,
        b"\n" * 300,
        b"\xef\xbb\xbfimport os\r\n" * 8,
        b"x" * 99 + b"\n" + b"x" * 100 + b"\n" + b"x" * 101,
        b"a\0b\n" * 60,
    ],
)
def test_fingerprints_of_odd_files_follow_the_published_algorithm(content: bytes) -> None:
    expected = roll(content)
    assert fingerprint_lines(content, range(1, max(expected) + 2)) == expected


def test_a_fingerprint_survives_lines_added_above() -> None:
    text = b"one\ntwo = eval(1)\nthree\n"
    moved = b"# a new line\n\n" + text
    assert fingerprint_lines(text, {2})[2] == fingerprint_lines(moved, {4})[4]


def lines_of(result: Result, **options: Any) -> list[str]:
    out = io.StringIO()
    report.print_table(result, rules=RULES, console=Console(file=out, width=40), origin="review 7", **options)
    return out.getvalue().splitlines()


def screen_of(result: Result, width: int = 80, rules: tuple[RuleSpec, ...] = RULES, **options: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system="truecolor", legacy_windows=False)
    report.print_table(result, rules=rules, console=console, **options)
    return out.getvalue()


# Colours and other renditions: all that the report itself may send.
RENDITION = re.compile(r"\x1b\[[0-9;]*m")


def test_a_pipe_gets_one_line_for_each_finding_and_a_summary(tmp_path: Path) -> None:
    (tmp_path / "a b.py").write_text("TODO\n  eval(1)\n")
    first, second, summary, circumstances = lines_of(review(tmp_path))
    assert first == "a b.py:1:1: info bare bare"
    assert second == "a b.py:2:3: critical python-eval-call Text is run as code here."
    assert summary == "2 findings (1 critical, 1 info) in 1 of 1 file"
    assert circumstances.endswith(" s, review 7")


def test_a_pipe_gets_all_findings_however_few_are_to_be_shown(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("TODO\n" * 150)
    assert len(lines_of(review(tmp_path), show=3)) == 152


def test_a_pipe_that_knows_only_ascii_gets_escapes(tmp_path: Path) -> None:
    (tmp_path / "é.py").write_text("eval(1)")
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", write_through=True) as out:
        report.print_table(review(tmp_path), rules=RULES, console=Console(file=out))
        assert raw.getvalue().startswith(b"\\xe9.py:1:1: critical")


def test_a_reviewed_file_cannot_drive_the_terminal(hostile: Path) -> None:
    result = review(hostile)
    result.failures = [Failure("patterns", None, "bad\x1b]0;name\x07.py", "\x1b[2Jgone\r")]
    for text in (screen_of(result, show=None), "\n".join(lines_of(result))):
        left = RENDITION.sub("", text)
        assert [letter for letter in left if not letter.isprintable() and letter != "\n"] == []
        assert "new\\nline.py" in left
        assert "[red]" in left  # shown, not obeyed
    assert not any(line.startswith("line.py") for line in lines_of(result))


def test_a_reviewed_file_cannot_command_a_pipeline(tmp_path: Path) -> None:
    for name in ("::set-output name=a::b.py", " ::add-mask::a.py", ":", "a ##[set-output name=a;]b.py"):
        (tmp_path / name).write_text("TODO\n")
    result = review(tmp_path)
    result.failures = [Failure("patterns", None, "##[debug]a.py", "##[add-mask]a")]
    lines = lines_of(result)
    assert len(lines) == 7
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in lines)


def test_text_that_runs_backwards_is_shown_as_its_escape() -> None:
    assert report.escape("if access\u202e\u2066// check\u2069") == "if access\\u202e\\u2066// check\\u2069"
    assert report.escape("tab\tand é 日本 😀") == "tab and é 日本 😀"


def test_a_terminal_gets_counts_by_severity_and_persona_and_the_worst_first(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("TODO\n" * 5)
    (tmp_path / "z.py").write_text("eval(1)\n")
    text = RENDITION.sub("", screen_of(review(tmp_path), personas=["reliability", "security"], show=3))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line and not line.startswith(" ")}
    assert rows["Persona"] == ["critical", "high", "medium", "low", "info", "total"]
    assert rows["security"] == rows["reliability"] == ["1", "·", "·", "·", "·", "1"]
    assert rows["unassigned"] == ["·", "·", "·", "·", "5", "5"]
    assert rows["all"] == ["1", "·", "·", "·", "5", "6"]
    assert text.index("z.py") < text.index("a.py")
    assert "… and 3 more; --show 6 lists all" in text
    assert "6 findings (1 critical, 5 info) in 2 of 2 files" in text


def test_no_line_on_a_terminal_of_80_columns_is_longer(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("eval(" + "x" * 500 + ")\n")
    rules = tuple(
        RuleSpec(
            f"rule-{number}-" + "n" * 80,
            title="A title that goes on and on " * 5,
            message="A message that goes on and on " * 5,
            configuration={"pattern": "eval"},
            personas=["a-persona-with-a-long-name" * 2],
        )
        for number in range(12)
    )
    text = RENDITION.sub("", screen_of(review(tmp_path, rules), rules=rules))
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_found_is_said_in_one_calm_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    assert "No findings in 1 file\n" in RENDITION.sub("", screen_of(review(tmp_path)))
    assert lines_of(review(tmp_path))[0] == "No findings in 1 file"


def test_failures_are_told_on_a_terminal_and_in_a_pipe(tmp_path: Path) -> None:
    result = review(tmp_path)
    result.failures = [Failure("patterns", "bare", "a.py", "Panic: out of luck")] * 12
    assert "plugin patterns, rule bare, a.py: Panic: out of luck" in RENDITION.sub("", screen_of(result))
    assert "… and 2 more" in screen_of(result)
    assert lines_of(result).count("failure: plugin patterns, rule bare, a.py: Panic: out of luck") == 12
    assert "12 failures" in lines_of(result)[-1]


def test_json_holds_the_whole_result(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("TODO\n  eval(1)\n")
    (tmp_path / "b.py").write_bytes(b"\0")
    result = review(tmp_path)
    result.failures = [Failure("patterns", None, "a.py", "odd")]
    made = report.to_json(result, rules=RULES, revision=42, session=7, root="/src", started_at=STARTED)
    unseen = {"code": "", "key": "", "state": "new", "triage": "open", "suppressed": None}
    assert json.loads(json.dumps(made)) == {
        "revision": 42,
        "session": 7,
        "root": "/src",
        "started_at": "2026-01-02T03:04:05.678901+02:00",
        "seconds": round(result.seconds, 3),
        "files": {"analyzed": 1, "skipped": {"binary": 1}},
        "counts": {
            "by_severity": {"critical": 1, "high": 0, "medium": 0, "low": 0, "info": 1},
            "by_persona": {"reliability": 1, "security": 1, "unassigned": 1},
            "by_rule": {"bare": 1, "python-eval-call": 1},
            "by_state": {"new": 2, "existing": 0, "reappeared": 0, "fixed": 0, "rule_removed": 0},
            "suppressed": 0,
            "dismissed": 0,
        },
        "findings": [
            {
                "rule": "bare", "severity": "info", "rule_type": "style", "personas": [], "path": "a.py",
                "start_line": 1, "start_column": 1, "end_line": 1, "end_column": 5,
                "message": "bare", "snippet": "TODO", **unseen,
            },
            {
                "rule": "python-eval-call", "severity": "critical", "rule_type": "security",
                "personas": ["security", "reliability"], "path": "a.py",
                "start_line": 2, "start_column": 3, "end_line": 2, "end_column": 10,
                "message": "Text is run as code here.", "snippet": "eval(1)", **unseen,
            },
        ],
        "failures": [{"plugin": "patterns", "rule": None, "path": "a.py", "message": "odd"}],
    }  # fmt: skip


def test_progress_is_drawn_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.py").write_text("x")
    drawn, silent = io.StringIO(), io.StringIO()
    for console in (Console(file=drawn, force_terminal=True, width=80), Console(file=silent)):
        with report.show_progress(console) as progress:
            run(RULES, discover(tmp_path), plugin_configurations={}, progress=progress)
    assert "5 of 5 files" in RENDITION.sub("", drawn.getvalue())
    assert silent.getvalue() == ""


def test_findings_of_one_message_stand_under_one_heading(tmp_path: Path) -> None:
    finding = Finding("bare", "a.py", 3, 1, 3, 2, "said once", "one")
    result = Result(findings=[finding, Finding("bare", "a.py", 9, 4, 9, 5, "said once", "two")], files_analyzed=1)
    text = RENDITION.sub("", screen_of(result))
    assert text.count("said once") == 1
    assert re.search(r"3:1  one\s*\n\s+9:4  two", text)
