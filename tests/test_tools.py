"""Do ruff and bandit find through their plugins what they find alone, and is a tool that misbehaves contained?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import django
import pytest
from django.core.exceptions import ValidationError

from plugins import schemas
from plugins.analyzers import sarif_tool
from plugins.analyzers.bandit import Bandit
from plugins.analyzers.ruff import Ruff
from plugins.analyzers.sarif_tool import SarifTool
from plugins.contract import Finding, PartialFailure, RuleError, RuleSpec, SourceTree, TreeAnalyzer
from plugins.processes import MEGABYTE, ToolError
from tests.factories import make_rule
from tests.tools import find_running, is_running, list_tree, make_example, make_tree, write_tool

KINDS = {"ruff": Ruff, "bandit": Bandit}
BESIDE = Path(sys.executable).parent


def ruff_rule(*select: str, name: str = "rule", **fields: object) -> RuleSpec:
    ignore = fields.pop("ignore", [])
    return RuleSpec(name=name, plugin="ruff", configuration={"select": list(select), "ignore": ignore}, **fields)


def bandit_rule(*select: str, name: str = "rule", severity: str = "low", confidence: str = "low") -> RuleSpec:
    configuration = {"select": list(select), "min_severity": severity, "min_confidence": confidence}
    return RuleSpec(name=name, plugin="bandit", configuration=configuration)


def analyze(tree: SourceTree, *rules: RuleSpec, kind: type[SarifTool] | None = None, **settings: int) -> tuple:
    """Findings and failures of rules, all of one plugin."""
    analyzer = (kind or KINDS[rules[0].plugin])()
    analyzer.prepare(rules, settings)
    found = list(analyzer.analyze_tree(tree, rules))
    failures = [each for each in found if isinstance(each, PartialFailure)]
    return [each for each in found if isinstance(each, Finding)], failures


def codes(findings: list[Finding]) -> list[tuple[str, str]]:
    return sorted((each.path, each.code) for each in findings)


# ---- what the real tools find


def read_alone(command: list[str | Path], root: Path, report: Path) -> Counter[tuple[str, int, str]]:
    """What a tool finds when it is run by hand."""
    subprocess.run([*command, "-o", report, root], check=False, stderr=subprocess.DEVNULL, cwd=report.parent)
    found: Counter[tuple[str, int, str]] = Counter()
    for result in json.loads(report.read_text())["runs"][0]["results"]:
        place = result["locations"][0]["physicalLocation"]
        path = os.path.join(report.parent, unquote(place["artifactLocation"]["uri"]).removeprefix("file://"))
        found[os.path.relpath(path, root), place["region"]["startLine"], result["ruleId"]] += 1
    return found


@pytest.mark.parametrize(
    ("rule", "command", "folder"),
    [
        (ruff_rule("S", "B", "E"), ["ruff", "check", "--isolated", "--no-cache", "--select", "S,B,E"], ""),
        (bandit_rule(), ["bandit", "-q", "-r", "-f", "sarif"], "contrib/auth"),
    ],
    ids=["ruff", "bandit"],
)
def test_findings_are_those_of_the_tool_alone(rule, command, folder, tmp_path):
    root = Path(django.__file__).parent / folder
    tool, *arguments = command
    if tool == "ruff":
        arguments += ["--output-format", "sarif"]
    alone = read_alone([BESIDE / tool, *arguments], root, tmp_path / "report")
    findings, failures = analyze(list_tree(root), rule)
    assert failures == []
    assert len(findings) > 10
    assert Counter((each.path, each.start_line, each.code) for each in findings) == alone


def test_chunks_change_nothing(tmp_path):
    class InSmallChunks(Ruff):
        chunk_files = 2

    class InNarrowChunks(Ruff):
        chunk_bytes = 10

    tree = make_tree(tmp_path, {f"{number}.py": "assert 1\n" for number in range(5)})
    for kind in (Ruff, InSmallChunks, InNarrowChunks):
        findings, failures = analyze(tree, ruff_rule("S101"), kind=kind)
        assert (len(findings), failures) == (5, [])


@pytest.mark.parametrize("rule", [ruff_rule("S602"), bandit_rule("B602")], ids=["ruff", "bandit"])
def test_places_count_characters(rule, tmp_path):
    code = "import subprocess\r\nx = 'ä😀'; subprocess.call('ls ' + x, shell=True)\r\n"
    findings, failures = analyze(make_tree(tmp_path, {"a.py": b"\xef\xbb\xbf" + code.encode()}), rule)
    assert failures == []
    (finding,) = findings
    # Ruff marks the name of the function, bandit the call.
    assert (finding.start_line, finding.start_column, finding.end_line) == (2, 11, 2)
    assert finding.end_column == {"ruff": 26, "bandit": 49}[rule.plugin]
    assert finding.snippet == "x = 'ä😀'; subprocess.call('ls ' + x, shell=True)"
    assert finding.message.startswith(f"{finding.code} ")


def test_bandit_finding_ends_where_its_code_ends(tmp_path):
    code = "import subprocess\nsubprocess.call(\n    x,\n    y,\n    shell=True,\n)\n"
    findings, _ = analyze(make_tree(tmp_path, {"a.py": code}), bandit_rule("B602", "B604"))
    assert {(each.start_line, each.end_line, each.end_column) for each in findings} == {(2, 6, 2)}


@pytest.mark.parametrize("rule", [ruff_rule("S101"), bandit_rule("B101")], ids=["ruff", "bandit"])
def test_codebase_has_no_say_in_how_it_is_looked_at(rule, tmp_path, monkeypatch):
    tree = make_tree(
        tmp_path / "tree",
        {
            "package/a.py": "assert 1\n",
            "pyproject.toml": '[tool.ruff]\nexclude = ["*"]\nlint.ignore = ["S101"]\n[tool.bandit]\nskips = ["B101"]\n',
            "ruff.toml": 'exclude = ["*"]\n',
            "package/.ruff.toml": 'exclude = ["*"]\n',
            ".bandit": "[bandit]\nskips: B101\nexclude: package\n",
            "package/.bandit": "[bandit]\nskips: B101\n",
            "bandit.yaml": "skips: [B101]\n",
            "setup.cfg": "[bandit]\nskips: B101\n",
            "tox.ini": "[bandit]\nskips = B101\n",
            "stevedore/__init__.py": "raise SystemExit(9)\n",
            "sitecustomize.py": "raise SystemExit(9)\n",
        },
    )
    for name in ("ruff", "bandit"):
        write_tool(tmp_path / "tree", f"open({str(tmp_path / 'ran')!r}, 'w')", name=name)
    monkeypatch.chdir(tmp_path / "tree")
    monkeypatch.setenv("PATH", f".:{tmp_path / 'tree'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "tree"))
    monkeypatch.setenv("RUFF_OUTPUT_FILE", str(tmp_path / "elsewhere"))
    before = sorted(tmp_path.rglob("*"))
    findings, failures = analyze(tree, rule)
    assert codes(findings) == [("package/a.py", {"ruff": "S101", "bandit": "B101"}[rule.plugin])]
    assert failures == []
    assert sorted(tmp_path.rglob("*")) == before


def test_tool_in_the_codebase_is_not_run(tmp_path, monkeypatch):
    tree = make_tree(tmp_path, {"a.py": "assert 1\n"})
    tool = write_tool(tmp_path / "bin", f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr(sarif_tool, "find_executable", lambda name: tool)
    with pytest.raises(ToolError, match="lies in the codebase under review"):
        analyze(tree, ruff_rule("S101"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("rule", [ruff_rule("S101"), bandit_rule("B101")], ids=["ruff", "bandit"])
def test_files_of_any_name_are_looked_at(rule, tmp_path):
    names = [
        "-x.py",
        "a b.py",
        "line\nend.py",
        "50%20 #1?.py",
        "ä😀.py",
        "@file.py",
        "x,y.py",
        "*.py",
        "deep/.git.d/x.py",
    ]
    names += [".tox/x.py", ".venv/x.py", "build/x.egg/x.py", "A.PY"]
    tree = make_tree(tmp_path, dict.fromkeys([*names, b"\xff.py"], "assert 1\n"))
    findings, failures = analyze(tree, rule)
    found = {each.path for each in findings}
    if rule.plugin == "ruff":
        assert found == set(names)
        assert [(each.path, each.message) for each in failures] == [
            ("\\xff.py", "ruff cannot be given a file whose name is not UTF-8.")
        ]
    else:
        assert found == {*names, "\\xff.py"}
        assert failures == []


def test_only_files_that_a_rule_asks_for_are_given(tmp_path):
    tree = make_tree(tmp_path, dict.fromkeys(["a.py", "tests/b.py", "c.pyi", "d.txt", "src/e.py"], "assert 1\n"))
    rule = ruff_rule("S101", file_types=[".py"], file_patterns=["^src/", "^tests/"], exclude_patterns=["/e"])
    assert codes(analyze(tree, rule)[0]) == [("tests/b.py", "S101")]


def test_large_and_binary_files_are_left_out_like_everywhere(tmp_path):
    files = {"large.py": "assert 1\n" * 120_000, "binary.py": b"assert 1\n\0", "a.py": "assert 1\n"}
    for rule in (ruff_rule("S101"), bandit_rule("B101")):
        findings, failures = analyze(make_tree(tmp_path, files), rule)
        assert [each.path for each in findings] == ["a.py"]
        assert failures == []


@pytest.mark.parametrize("rule", [ruff_rule("S", "E"), bandit_rule()], ids=["ruff", "bandit"])
def test_file_that_does_not_parse_is_a_failure_and_no_finding(rule, tmp_path):
    files = {"bad.py": "x = 1\ndef f(:\n    y = (\n", "latin.py": b"# \xe4\nassert 1\n", "good.py": "assert 1\n"}
    findings, failures = analyze(make_tree(tmp_path, files), rule)
    assert {each.path for each in findings} == {"good.py"}
    assert sorted(each.path for each in failures) == ["bad.py", "latin.py"]
    bad = next(each.message for each in failures if each.path == "bad.py")
    if rule.plugin == "ruff":
        assert ": line 2: " in bad
        assert "more)" in bad
    else:
        assert "syntax error" in bad


def test_file_that_ruff_cannot_read_is_told_whatever_is_selected(tmp_path):
    findings, failures = analyze(make_tree(tmp_path, {"latin.py": b"# \xe4\nassert 1\n"}), ruff_rule("S101"))
    assert findings == []
    assert [each.path for each in failures] == ["latin.py"]
    assert "UTF-8" in failures[0].message


def test_comments_of_the_tools_are_obeyed(tmp_path):
    tree = make_tree(tmp_path, {"a.py": "assert 1  # noqa: S101\nassert 2  # nosec\n"})
    assert [each.start_line for each in analyze(tree, ruff_rule("S101"))[0]] == [2]
    assert [each.start_line for each in analyze(tree, bandit_rule("B101"))[0]] == [1]


@pytest.mark.parametrize("rule", [ruff_rule("S", "E501", "B"), bandit_rule()], ids=["ruff", "bandit"])
def test_credentials_are_never_repeated(rule, tmp_path):
    secret = "hunter2-correct-horse"
    code = (
        f"password = '{secret}'\n"
        f"connect(\n    1,\n    2,\n    password='{secret}',\n)\n"
        f"def f(a,\n      password='{secret}'):\n    assert a\n"
        f"assert password == '{secret}', 'a line that is too long, so that another rule has something to say'\n"
    )
    findings, _ = analyze(make_tree(tmp_path, {"a.py": code}), rule)
    sensitive = [each for each in findings if each.sensitive]
    assert len(sensitive) >= 4
    assert secret not in repr(findings)
    for line in (1, 5, 8, 10):
        assert any(each.start_line <= line <= each.end_line for each in sensitive)
    assert any(each.snippet == "password = ***" for each in findings)


def test_no_part_of_a_credential_is_shown_on_a_long_line(tmp_path):
    secrets = [letter * 60 + "tail" for letter in "abc"]
    pairs = ", ".join(f"'password': '{secret}', 'x': 1, 'number': 22" for secret in secrets)
    findings, _ = analyze(make_tree(tmp_path, {"a.py": f"a = {{{pairs}}}  # {'x' * 2000}\n"}), bandit_rule("B105"))
    assert [each.snippet for each in findings] == ["a = {***"] * 3


@pytest.mark.parametrize(
    "rule", [ruff_rule("S105", "W605", "W291"), bandit_rule("B105", "B101")], ids=["ruff", "bandit"]
)
def test_later_lines_of_a_credential_are_never_shown(rule, tmp_path):
    code = "password = '''first\nthe \\d\"second\" line\nthe last '''; assert 1\n"
    findings, _ = analyze(make_tree(tmp_path, {"a.py": code}), rule)
    later = [each for each in findings if each.start_line > 1]
    assert later and {each.snippet for each in later} == {"***"}


# ---- whose finding it is


def test_finding_goes_to_the_rule_that_selects_it_most_closely(tmp_path):
    tree = make_tree(tmp_path, {"a.py": "assert 1\nexec('x')\n", "b/c.py": "assert 1\n"})
    rules = [
        ruff_rule("S", name="wide"),
        ruff_rule("S101", name="z-close"),
        ruff_rule("S101", name="a-close-elsewhere", file_patterns=["^b/"]),
        ruff_rule("S10", "S102", name="except", ignore=["S102"]),
    ]
    findings, failures = analyze(tree, *rules)
    assert failures == []
    assert {(each.path, each.code, each.rule) for each in findings} == {
        ("a.py", "S101", "z-close"),
        ("a.py", "S102", "wide"),
        ("b/c.py", "S101", "a-close-elsewhere"),
    }
    assert len(findings) == 3


def test_ties_are_decided_by_name(tmp_path):
    tree = make_tree(tmp_path, {"a.py": "assert 1\n"})
    rules = [ruff_rule("S101", name=name) for name in ("m", "b", "x")]
    assert [each.rule for each in analyze(tree, *rules)[0]] == ["b"]


def test_letters_of_a_code_name_a_family(tmp_path):
    """`S` is flake8-bandit and not the beginning of `SIM`; `E` is not that of `EM`, nor `PL` of `PLE` alone."""
    known = {"S101", "SIM101", "SLF001", "E501", "EM101", "PLC0414", "PLW0602", "C401", "C901", "CPY001"}
    select = {name: Ruff().selected(ruff_rule(name), known)[0] for name in ("S", "E", "PL", "PLC", "C", "C4", "SIM1")}
    assert select == {
        "S": {"S101"},
        "E": {"E501"},
        "PL": {"PLC0414", "PLW0602"},
        "PLC": {"PLC0414"},
        "C": {"C401", "C901"},
        "C4": {"C401"},
        "SIM1": {"SIM101"},
    }


def test_longer_of_select_and_ignore_wins():
    known = {"S101", "S102", "S201"}
    rule = ruff_rule("S", "S102", ignore=["S1"])
    assert Ruff().selected(rule, known) == ({"S102", "S201"}, [])
    assert Ruff().selected(ruff_rule("S1", ignore=["S1"]), known) == (set(), [])


def test_bandit_rules_ask_for_severity_and_confidence(tmp_path):
    code = "import subprocess\nassert 1\nsubprocess.call(x, shell=True)\nsubprocess.call('ls', shell=True)\n"
    tree = make_tree(tmp_path, {"a.py": code})
    assert {each.code for each in analyze(tree, bandit_rule(severity="high"))[0]} == {"B602"}
    assert {each.start_line for each in analyze(tree, bandit_rule("B602", severity="medium"))[0]} == {3}
    both = analyze(tree, bandit_rule(name="all"), bandit_rule("B602", name="shell", severity="high"))[0]
    assert {(each.start_line, each.code, each.rule) for each in both if each.code in ("B602", "B101")} == {
        (2, "B101", "all"),
        (3, "B602", "shell"),
        (4, "B602", "all"),
    }


@pytest.mark.parametrize(
    "rule",
    [
        RuleSpec(name="r", plugin="ruff", configuration={}),
        ruff_rule(),
        ruff_rule("--fix"),
        ruff_rule("s101"),
        ruff_rule("S101,E501"),
        ruff_rule("S101", ignore=["@x"]),
        ruff_rule("ALL"),
        ruff_rule("ZZZ9"),
        ruff_rule("TCH"),
        ruff_rule("S320"),
        ruff_rule("E111"),
        RuleSpec(name="r", plugin="ruff", configuration={"select": ["S"], "executable": "/bin/sh"}),
        bandit_rule("B6"),
        bandit_rule("B602;x"),
        bandit_rule("B999"),
        bandit_rule(severity="severe"),
        ruff_rule("S", file_types=[".js"]),
    ],
    ids=lambda rule: json.dumps(rule.configuration),
)
def test_rule_that_cannot_run_is_refused(rule):
    with pytest.raises(RuleError):
        KINDS[rule.plugin]().check_rule(rule)


def test_rule_without_its_configuration_is_refused_before_a_run():
    """So that the engine leaves out this one and not all of the plugin's."""
    with pytest.raises(RuleError):
        Ruff().prepare([ruff_rule("S101"), RuleSpec(name="r", plugin="ruff")], {})


@pytest.mark.parametrize("rule", [ruff_rule("S", "PL", "B006", file_types=[".py"]), bandit_rule(), bandit_rule("B602")])
def test_rule_that_can_run_is_accepted(rule):
    KINDS[rule.plugin]().check_rule(rule)


@pytest.mark.parametrize("settings", [{"seconds": 0}, {"seconds": 86_400}, {"memory": 1}, {"executable": "sh"}])
def test_limits_have_bounds(settings):
    assert schemas.errors(Ruff.configuration_schema, settings)
    assert not schemas.errors(Ruff.configuration_schema, {"seconds": 60, "memory": 1024})


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (ruff_rule("S101", name="a"), ruff_rule("ZZZ9", name="b")),
        (bandit_rule("B101", name="a"), bandit_rule("B999", name="b")),
    ],
    ids=["ruff", "bandit"],
)
def test_rule_that_the_tool_does_not_know_costs_only_itself(good, bad, tmp_path):
    findings, failures = analyze(make_tree(tmp_path, {"a.py": "assert 1\n"}), good, bad)
    assert [each.rule for each in findings] == ["a"]
    (failure,) = failures
    assert failure.rule == "b"
    assert "has no stable rule" in failure.message


def test_tools_are_tree_analyzers():
    for kind in (Ruff, Bandit):
        assert isinstance(kind(), TreeAnalyzer)


# ---- examples of rules


@pytest.mark.parametrize("rule", [ruff_rule("S101"), bandit_rule("B101")], ids=["ruff", "bandit"])
@pytest.mark.parametrize("path", ["example.py", "example.txt", "tests/test_example.py"])
def test_examples_need_no_real_file(rule, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text("x = 1\n")
    (finding,) = analyze(make_example(path, "x = 1\nassert x\n"), rule)[0]
    assert (finding.path, finding.start_line, finding.snippet) == (path, 2, "assert x")
    assert analyze(make_example(path, "x = 1\n"), rule) == ([], [])


@pytest.mark.django_db
@pytest.mark.parametrize(("plugin", "code"), [("ruff", "S101"), ("bandit", "B101")])
def test_stored_rule_of_a_tool_is_held_to_its_examples(plugin, code):
    fields = {"plugin_id": plugin, "configuration": {"select": [code]}, "file_types": [".py"]}
    make_rule(**fields, examples={"match": ["assert 1"], "no_match": ["x = 1"]})
    with pytest.raises(ValidationError, match="finds nothing in this example"):
        make_rule(**fields, examples={"match": ["x = 1"], "no_match": []})
    with pytest.raises(ValidationError, match="has no stable rule"):
        make_rule(**{**fields, "configuration": {"select": [f"{code[0]}999"]}}, examples={})


def test_example_path_does_not_lead_out_of_the_temporary_folder(tmp_path):
    tree = make_example(f"../../../../../..{tmp_path}/example.py", "assert 1\n")
    assert len(analyze(tree, ruff_rule("S101"))[0]) == 1
    assert list(tmp_path.iterdir()) == []


def test_tool_that_is_not_there_is_an_error_that_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sarif_tool, "find_executable", lambda name: None)
    Ruff().check_rule(ruff_rule("S101"))
    with pytest.raises(ToolError, match=r"ruff is not installed \(pip install ruff\)"):
        analyze(make_tree(tmp_path, {"a.py": "assert 1\n"}), ruff_rule("S101"))


def test_tool_that_is_not_there_is_not_missed_where_nothing_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sarif_tool, "find_executable", lambda name: None)
    assert analyze(make_tree(tmp_path, {"a.js": "x"}), ruff_rule("S101")) == ([], [])


# ---- tools that misbehave


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a program in the place of ruff, and sees that nothing of it is left when the test is over."""

    def place(body: str) -> Path:
        tool = write_tool(tmp_path / "bin", body)
        monkeypatch.setattr(sarif_tool, "find_executable", lambda name: tool)
        return tool

    yield place
    assert find_running(tmp_path / "bin" / "ruff") == []


class Modest(Ruff):
    """Ruff with little room for reports."""

    output = MEGABYTE


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree", {f"{name}.py": "assert 1\n" for name in "abcd"})


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("sys.exit(7)", "ruff 1.2.3 exited with code 7"),
        ("sys.stderr.write('no such option'); sys.exit(2)", "exited with code 2. It said: no such option"),
        ("os.kill(os.getpid(), 11)", "ended by the signal SIGSEGV"),
        ("pass", "exited with code 0, but its report cannot be used: there is none"),
        ("open(report, 'w')", "report cannot be used: it is empty"),
        (
            "open(report, 'w').write('All checks passed!')",
            "exited with code 0, but its report cannot be used: it is no JSON",
        ),
        ("open(report, 'wb').write(b'\\xff\\xfe')", "it is not UTF-8"),
        (
            "write(result(files[0])); text = open(report).read(); open(report, 'w').write(text[:-20])",
            "only the beginning",
        ),
        ("open(report, 'w').write('{\"version\": \"2.1.0\"}')", "it has no runs"),
        ("write(); sys.exit(1)", "it lists no results, though the exit code says"),
        ("os.mkfifo(report)", "there is none"),
        ("os.mkdir(report)", "there is none"),
        ("open(report, 'w').truncate(500_000_000)", "too large"),
        ("print('x' * 3_000_000, flush=True)", "too large|exited with code 1"),
        ("file = open(report, 'wb')\nwhile True:\n    file.write(bytes(65536))", "File too large"),
        ("import signal\nsignal.signal(25, signal.SIG_DFL)\nopen(report, 'wb').write(bytes(2**24))", "more than 1 MB"),
        ("held = []\nwhile True:\n    held.append(bytearray(1 << 24))", "MemoryError"),
        ("held = bytearray(1 << 40)", "MemoryError"),
    ],
)
def test_tool_that_fails_is_an_error_that_names_it(body, sentence, fake, tree):
    fake(body)
    one = SourceTree(tree.root, tree.files[:1], tree.read)
    with pytest.raises(ToolError, match=sentence) as caught:
        analyze(one, ruff_rule("S101"), kind=Modest, memory=256)
    assert str(caught.value).startswith("ruff 1.2.3 ")
    assert len(str(caught.value)) < 700


def test_tool_that_hangs_is_ended(fake, tree):
    fake("time.sleep(600)")
    with pytest.raises(ToolError, match="ruff 1.2.3 was ended after the 2 s that it may take"):
        analyze(tree, ruff_rule("S101"), seconds=2)


def test_time_that_runs_out_costs_what_is_not_done(fake, tree):
    class InChunks(Ruff):
        chunk_files = 1

    fake("if files[0].endswith('b.py'):\n    time.sleep(600)\nwrite(result(files[0]))")
    findings, failures = analyze(tree, ruff_rule("S101"), kind=InChunks, seconds=4)
    assert [each.path for each in findings] == ["a.py"]
    assert [each.message for each in failures] == [
        "ruff 1.2.3 was ended after the 4 s that it may take. 3 files were not looked at."
    ]


def test_child_that_outlives_the_tool_is_ended_and_told(fake, tree, tmp_path):
    pid = tmp_path / "pid"
    fake(
        "reading, writing = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        "    os.write(writing, b'.')\n"
        "    time.sleep(600)\n"
        "os.read(reading, 1)\n"
        "write(*map(result, files))"
    )
    findings, failures = analyze(tree, ruff_rule("S101"))
    assert len(findings) == 4
    assert [each.message for each in failures] == ["ruff 1.2.3 left 1 processes running; they were ended."]
    assert not is_running(int(pid.read_text()))


@pytest.mark.parametrize(
    "crash", ["sys.exit(101)", "os.kill(os.getpid(), 6)", "open(report, 'w').write('{'); sys.exit(1)"]
)
def test_file_that_a_tool_cannot_bear_costs_only_itself(crash, fake, tmp_path):
    files = {f"{number:03}.py": "assert 1\n" for number in range(40)}
    fake(f"if any(path.endswith(('/000.py', '/021.py')) for path in files):\n    {crash}\nwrite(*map(result, files))")
    findings, failures = analyze(make_tree(tmp_path / "tree", files), ruff_rule("S101"))
    assert {each.path for each in failures} == {"000.py", "021.py"}
    assert {each.path for each in findings} == files.keys() - {"000.py", "021.py"}
    assert len(findings) == 38


def test_broken_tool_is_not_tried_for_every_file(fake, tmp_path):
    files = {f"{number:03}.py": "assert 1\n" for number in range(100)}
    fake(f"open({str(tmp_path / 'count')!r}, 'a').write('.')\nsys.exit(3)")
    with pytest.raises(ToolError, match="exited with code 3"):
        analyze(make_tree(tmp_path / "tree", files), ruff_rule("S101"))
    assert len((tmp_path / "count").read_text()) <= 8


def test_results_outside_the_review_are_left_out_and_counted(fake, tree, tmp_path):
    (tmp_path / "secret.py").write_text("assert 1\n")
    (tmp_path / "tree" / "ignored.py").write_text("assert 1\n")
    places = [
        "/etc/passwd",
        f"{tmp_path}/tree/../secret.py",
        f"{tmp_path}/tree/ignored.py",
        f"{tmp_path}/tree",
        "//host/a",
    ]
    fake(f"write(result(files[0]), *map(result, {places!r}))")
    findings, failures = analyze(tree, ruff_rule("S101"))
    assert [each.path for each in findings] == ["a.py"]
    (failure,) = failures
    assert failure.message.startswith(
        "ruff 1.2.3 reported 5 results in files that are not under review, such as /etc/passwd;"
    )


def test_paths_of_a_report_may_be_relative_or_resolved(fake, tmp_path):
    tree = make_tree(tmp_path / "real", {"a.py": "assert 1\n"})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    linked = SourceTree(
        tmp_path / "link",
        [type(file)(file.path, file.location.replace(b"/real/", b"/link/"), file.size) for file in tree.files],
        tree.read,
    )
    fake(
        "place = lambda uri: {'locations': [{'physicalLocation': {'artifactLocation': {'uri': uri}}}]}\n"
        "uris = [files[0], 'a.py', './x/../a.py', 'file://' + os.path.realpath(files[0])]\n"
        "write(*({'ruleId': 'S101', 'message': {'text': uri}, **place(uri)} for uri in uris))"
    )
    findings, failures = analyze(linked, ruff_rule("S101"))
    assert failures == []
    assert [each.path for each in findings] == ["a.py"] * 4


def test_result_that_names_no_rule_is_a_failure(fake, tree):
    """Ruff before 0.12 tells a syntax error so."""
    fake("write({**result(files[1], text='SyntaxError', startLine=1), 'ruleId': None}, result(files[0]))\nsys.exit(1)")
    findings, failures = analyze(tree, ruff_rule("S101"))
    assert [each.path for each in findings] == ["a.py"]
    assert [(each.path, each.message) for each in failures] == [("b.py", "ruff 1.2.3: line 1: SyntaxError")]


def test_results_that_no_rule_selects_are_left_out(fake, tree):
    fake("write(result(files[0]), result(files[0], code='E501'))")
    assert [each.code for each in analyze(tree, ruff_rule("S101"))[0]] == ["S101"]


def test_what_a_tool_says_it_could_not_do_is_told(fake, tree):
    fake(
        "place = result(files[1])['locations']\n"
        "notices = [{'level': 'error', 'message': {'text': 'cannot read'}, 'locations': place},"
        " {'message': {'text': 'out of luck'}}]\n"
        "write(result(files[0]), invocations=[{'executionSuccessful': True, 'toolExecutionNotifications': notices}])"
    )
    findings, failures = analyze(tree, ruff_rule("S101"))
    assert len(findings) == 1
    assert [(each.path, each.message) for each in failures] == [
        ("b.py", "ruff 1.2.3: line 1: cannot read"),
        (None, "ruff 1.2.3: out of luck"),
    ]


def test_bandit_file_without_a_word_is_told(tmp_path, monkeypatch):
    tool = write_tool(
        tmp_path / "bin",
        "if '--help' in sys.argv:\n    print('\\tB101\\tassert_used')\n    sys.exit(0)\n"
        "write(properties={'metrics': {'_totals': {}, files[0]: {}}})",
        name="bandit",
    )
    monkeypatch.setattr(sarif_tool, "find_executable", lambda name: tool)
    findings, failures = analyze(make_tree(tmp_path / "tree", {"a.py": "x", "b.py": "y"}), bandit_rule())
    assert findings == []
    assert [(each.path, each.message) for each in failures] == [
        ("b.py", "bandit 1.2.3: left it out and does not say why")
    ]


def test_tool_that_lists_no_rules_is_an_error(fake, tree, tmp_path):
    fake("")
    tool = tmp_path / "bin" / "ruff"
    tool.write_text(tool.read_text().replace("print(json.dumps", "(json.dumps"))
    with pytest.raises(ToolError, match="was asked for its rules, exited with code 0 and named none"):
        analyze(tree, ruff_rule("S101"))


def test_nothing_is_left_in_the_temporary_folder(fake, tree, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    fake("open('left', 'w'); open(os.environ['TMPDIR'] + '/x', 'w'); write(*map(result, files))")
    assert len(analyze(tree, ruff_rule("S101"))[0]) == 4
    assert list((tmp_path / "temporary").iterdir()) == []
