"""Are the functions, classes and files of Python measured as people and other tools count them?"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import django
import pytest

from plugins import registry
from plugins.analyzers.metrics import Metrics
from plugins.contract import Analyzer, Finding, PartialFailure, RuleError, RuleSpec, SourceFile
from plugins.forms import draw
from tests.factories import api_client, make_plugins, make_user
from tests.rest import NEW_RULE, RULES, expect_problem

DJANGO = Path(django.__file__).parent


def metric(measure: str, highest: int = 0, name: str = "rule", **options: object) -> RuleSpec:
    configuration = {"measure": measure, "max": highest, **options}
    return RuleSpec(name, plugin="metrics", message="Too much.", file_types=[".py"], configuration=configuration)


def find(content: str | bytes, *rules: RuleSpec) -> list[Finding | PartialFailure]:
    analyzer = Metrics()
    for rule in rules:
        analyzer.check_rule(rule)
    analyzer.prepare(rules, {})
    content = content.encode() if isinstance(content, str) else content
    return list(analyzer.analyze(SourceFile("example.py", content), rules))


def values(content: str, measure: str, **options: object) -> dict[str, int]:
    """The value of each function or class that has more than none, by its name."""
    found = {}
    for finding in find(content, metric(measure, **options)):
        told = finding.message.removeprefix("Too much. (").partition(",")[0]
        name, _, rest = told.partition(" ")
        found[name.strip("`")] = int("".join(filter(str.isdigit, rest)))
    return found


def test_finding_stands_at_the_name_and_tells_the_value() -> None:
    (found,) = find("class A:\n    async  def  größe(self, a, b, c):\n        pass\n", metric("arguments", 2))
    assert (found.start_line, found.start_column, found.end_line, found.end_column) == (2, 17, 2, 22)
    assert found.message == "Too much. (`A.größe` takes 3 arguments, 2 is the limit)"
    assert found.snippet == "async  def  größe(self, a, b, c):"


def test_columns_count_characters() -> None:
    (found,) = find("é = 'ü'; ä = 2\nif é: 'ß'; x = 1\nclass Größe: x = 'é'\n", metric("class_length"))
    assert (found.start_line, found.start_column, found.end_column) == (3, 7, 12)


def test_name_on_a_continued_line_is_found() -> None:
    (found,) = find("def \\\n  f(a): pass\n", metric("arguments"))
    assert (found.start_line, found.start_column, found.end_line, found.end_column) == (2, 3, 2, 4)


def test_decorators_do_not_move_the_finding() -> None:
    (found,) = find("@one\n@two(3)\ndef f(a): pass\n", metric("arguments"))
    assert (found.start_line, found.start_column) == (3, 5)


COMPLEX = """
def plain():
    return a and b or c if d else [e for f in g if h]

def branches():
    if a: pass
    elif b: pass
    elif c: pass
    else: pass

def loops():
    for a in b:
        while c: pass
        else: pass
    with d: pass

def tries():
    try: pass
    except A: pass
    except B: pass
    else: pass
    finally: pass

def cases(x):
    match x:
        case 1: pass
        case 2: pass
        case _: pass

def guarded(x):
    match x:
        case 1: pass
        case y if y: pass

def outer():
    def inner():
        if a: pass
    class Local:
        def method(self):
            if a: pass
"""


def test_complexity_counts_decisions() -> None:
    assert values(COMPLEX, "complexity") == {
        "plain": 1, "branches": 4, "loops": 3, "tries": 4, "cases": 3, "guarded": 3,
        "outer": 5, "outer.inner": 2, "outer.Local.method": 2,
    }  # fmt: skip


def test_arguments_leave_out_self_and_what_is_not_used() -> None:
    source = """
from typing import override
def free(self, a, /, b, *args, c=1, **kwargs): pass
class A:
    def method(self, a, _b, _): pass
    @staticmethod
    def static(a, b): pass
    @classmethod
    def made(cls, a): pass
    @override
    def given(self, a, b, c): pass
    if True:
        def late(self, a): pass
"""
    counted = {"free": 4, "A.method": 1, "A.static": 2, "A.made": 1, "A.late": 1}
    assert values(source, "arguments") == counted
    with_self = {"free": 4, "A.method": 2, "A.static": 2, "A.made": 2, "A.late": 2}
    assert values(source, "arguments", count_self=True) == with_self


def test_nesting_counts_blocks_and_begins_anew_in_a_function() -> None:
    source = """
def f():
    if a:
        pass
    elif b:
        for c in d:
            with e:
                match g:
                    case 1:
                        def inner():
                            try: pass
                            finally: pass
    else:
        if h: pass
def flat(): pass
"""
    assert values(source, "nesting") == {"f": 4, "f.inner": 1}


def test_a_chain_of_elifs_is_not_deep() -> None:
    source = "def f():\n    if a: pass\n" + "    elif b: pass\n" * 700
    assert values(source, "nesting") == {"f": 1}
    assert values(source, "complexity") == {"f": 702}


def test_returns_are_those_of_the_function_itself() -> None:
    source = "def f():\n  if a: return 1\n  def g():\n    return 2\n    return 3\n  return g\n"
    assert values(source, "returns") == {"f": 2, "f.g": 2}


LONG = '''"""Module.

Text.
"""

class A:
    """Class."""

    x = 1  # counts

    # does not
    def f(
        self,
    ):
        """Says

        # what it does.
        """

        return (
            1
        )
    def g(self): "doc"
'''


def test_lengths_leave_out_blank_lines_comments_and_docstrings() -> None:
    assert values(LONG, "length") == {"A.f": 6, "A.g": 1}
    assert values(LONG, "class_length") == {"A": 9}
    (found,) = find(LONG, metric("file_length", 8))
    assert found.message == "Too much. (the file has 9 lines, 8 is the limit)"
    assert (found.start_line, found.start_column, found.end_line, found.end_column) == (1, 1, 1, 1)
    assert values(LONG, "length", count_docstrings=True) == {"A.f": 8, "A.g": 1}
    assert values(LONG, "class_length", count_docstrings=True) == {"A": 12}


def test_names_can_be_let_pass() -> None:
    source = "def test_a(x): pass\nclass A:\n  def __init__(self, x): pass\n  def f(self, x): pass\n"
    assert values(source, "arguments", unless=r"^test_|\.__init__$") == {"A.f": 1}


def test_limit_itself_is_allowed_and_each_rule_has_its_own() -> None:
    found = find("def f(a, b): pass\n", metric("arguments", 2, "two"), metric("arguments", 1, "one"))
    assert [each.rule for each in found] == ["one"]


def test_message_falls_back_on_the_title() -> None:
    rule = RuleSpec("r", title="Long", plugin="metrics", configuration={"measure": "arguments", "max": 0})
    analyzer = Metrics()
    analyzer.prepare([rule], {})
    (found,) = analyzer.analyze(SourceFile("a.py", b"def f(a): pass"), [rule])
    assert found.message.startswith("Long (")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("x = 1\n\ndef f(:\n", "line 3: invalid syntax"),
        ("if 1:\n  x\n y\n", "line 3: unindent does not match"),
        ("-" * 50_000 + "1", "nested too deeply"),
        ("a" + ".b" * 100_000, "nested too deeply"),
        ("(" * 1000 + ")" * 1000, "line 1: too many nested parentheses"),
        ("print 1\n", "line 1: Missing parentheses"),
        ("a = 1\0", "null bytes"),
        ("\n".join(" " * depth + "if x:" for depth in range(120)), "line 101: too many levels of indentation"),
    ],
)
def test_source_that_does_not_parse_is_a_partial_failure(content: str, told: str) -> None:
    (failure,) = find(content, metric("complexity"), metric("length", name="other"))
    assert isinstance(failure, PartialFailure)
    assert told in failure.message
    assert "read as Python 3." in failure.message
    assert (failure.path, failure.rule) == ("example.py", None)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfdef f(a): pass\r\n",
        "# -*- coding: latin-1 -*-\nx = 'é'\ndef f(a): pass\n".encode(),
        "# -*- coding: no-such-thing -*-\nx = 'é'\ndef f(a): pass\n".encode(),
        b"x = 'caf\xe9'; y = 1\ndef f(a): pass\n",
        b"x = 1\rdef f(a): pass\r",
        b"x = 1\r\n\r\n\fdef f(a): pass\r\n",
    ],
)
def test_encodings_and_line_ends_do_not_matter(content: bytes) -> None:
    (found,) = find(content, metric("arguments"))
    text = content.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n")
    line = text.split("\n")[found.start_line - 1]
    assert line[found.start_column - 1 : found.end_column - 1] == "f"


def test_deepest_blocks_that_parse_are_measured() -> None:
    source = "def f():\n" + "\n".join(" " * depth + "if x:" for depth in range(1, 99)) + "\n" + " " * 99 + "pass\n"
    assert values(source, "nesting") == {"f": 98}


def test_warnings_of_the_reviewed_code_are_its_own() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find("x = '\\d'\ny = 1 is 1\n", metric("complexity")) == []


def test_an_empty_file_is_no_failure() -> None:
    assert find("", metric("complexity"), metric("file_length", name="file")) == []


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        ({"max": 3}, "configuration/measure"),
        ({"measure": "length"}, "configuration/max"),
        ({"measure": "weight", "max": 3}, "configuration/measure"),
        ({"measure": "length", "max": -1}, "configuration/max"),
        ({"measure": "length", "max": True}, "configuration/max"),
        ({"measure": "length", "max": 3, "count_self": True}, "configuration/count_self"),
        ({"measure": "complexity", "max": 3, "count_docstrings": True}, "configuration/count_docstrings"),
        ({"measure": "file_length", "max": 3, "unless": "x"}, "configuration/unless"),
        ({"measure": "length", "max": 3, "unless": "("}, "configuration/unless"),
        ({"measure": "length", "max": 3, "unless": "x*"}, "configuration/unless"),
    ],
)
def test_rule_that_cannot_run_is_refused_at_its_field(configuration: dict, field: str) -> None:
    with pytest.raises(RuleError) as caught:
        Metrics().check_rule(RuleSpec("rule", plugin="metrics", configuration=configuration, file_types=[".py"]))
    assert caught.value.field == field


def test_rule_about_any_file_is_refused() -> None:
    with pytest.raises(RuleError) as caught:
        Metrics().check_rule(RuleSpec("rule", plugin="metrics", configuration={"measure": "length", "max": 3}))
    assert caught.value.field == "file_types"


def test_plugin_is_an_analyzer_whose_forms_can_be_drawn() -> None:
    assert registry.get("metrics") is Metrics
    assert isinstance(Metrics(), Analyzer)
    assert draw(Metrics.rule_schema) is not None
    assert draw(Metrics.configuration_schema) is not None


# ---- real code

RUFF = Path(sys.executable).with_name("ruff")
SETTINGS = {
    "complexity": ("C901", "lint.mccabe.max-complexity"),
    "arguments": ("PLR0913", "lint.pylint.max-args"),
    "returns": ("PLR0911", "lint.pylint.max-returns"),
}


def ask_ruff(measure: str, highest: int) -> set[tuple[str, int, int, int]]:
    """Where ruff finds more than `highest` in Django: path, line, columns."""
    code, setting = SETTINGS[measure]
    command = [RUFF, "check", "--isolated", "--no-cache", "--exit-zero", "--ignore-noqa", "--select", code]
    command += ["--config", f"{setting}={highest}", "--output-format", "json", DJANGO]
    answer = subprocess.run(command, capture_output=True, check=True)
    return {
        (each["filename"], each["location"]["row"], each["location"]["column"], each["end_location"]["column"])
        for each in json.loads(answer.stdout)
        if each["code"] == code
    }


def test_django_is_measured_as_ruff_measures_it() -> None:
    rules = [
        metric("complexity", 10, "complexity"),
        metric("arguments", 5, "arguments"),
        metric("returns", 6, "returns"),
    ]
    analyzer = Metrics()
    analyzer.prepare(rules, {})
    ours: dict[str, set] = {rule.name: set() for rule in rules}
    for path in DJANGO.rglob("*.py"):
        for found in analyzer.analyze(SourceFile(str(path), path.read_bytes()), rules):
            assert isinstance(found, Finding), found
            ours[found.rule].add((found.path, found.start_line, found.start_column, found.end_column))
    for rule in rules:
        assert ours[rule.name] == ask_ruff(rule.name, rule.configuration["max"])
        assert len(ours[rule.name]) > 20


# ---- the API door

SIMPLE = {
    **NEW_RULE,
    "name": "simple-functions",
    "plugin": "metrics",
    "configuration": {"measure": "complexity", "max": 2},
    "examples": {
        "match": ["def f():\n    if a: pass\n    elif b: pass\n"],
        "no_match": ["def f():\n    if a: pass\n"],
    },
}


@pytest.mark.django_db
def test_rule_is_created_and_its_examples_run() -> None:
    make_plugins()
    client = api_client(make_user(superuser=True))
    answer = client.post(RULES, SIMPLE, format="json")
    assert answer.status_code == 201, answer.content
    wrong = {**SIMPLE, "name": "wrong", "examples": {"match": ["def f(): pass"], "no_match": []}}
    expect_problem(client.post(RULES, wrong, format="json"), 400, "invalid", "#/examples/match/0")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"configuration": {"measure": "weight", "max": 2}}, "#/configuration/measure"),
        ({"configuration": {"measure": "complexity"}}, "#/configuration/max"),
        ({"configuration": {"measure": "complexity", "max": 2, "count_self": True}}, "#/configuration/count_self"),
        ({"file_types": []}, "#/file_types"),
    ],
)
def test_bad_configuration_is_answered_with_its_pointer(fields: dict, pointer: str) -> None:
    make_plugins()
    client = api_client(make_user(superuser=True))
    expect_problem(client.post(RULES, {**SIMPLE, **fields}, format="json"), 400, "invalid", pointer)
