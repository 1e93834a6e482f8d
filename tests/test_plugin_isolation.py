"""Analyzers of other packages are asked in a process of their own: whatever they do costs their own answer only."""

from __future__ import annotations

import os

import pytest

from plugins import isolation, registry
from plugins.contract import RuleError, RuleSpec
from plugins.isolation import AnalyzerFailed
from tests.factories import api_client, make_plugins, make_user
from tests.packages import Packages, packages  # noqa: F401, a fixture
from tests.rest import NEW_RULE, RULES, expect_problem

HOSTILE = """
import os, sys, time
from plugins.contract import RuleError

class Guest(Patterns):
    name = "guest"
    def __init__(self):
        pass

class Sleeps(Guest):
    def prepare(self, rules, configuration):
        while True:
            time.sleep(60)

class Crashes(Guest):
    def prepare(self, rules, configuration):
        os.abort()

class Exits(Guest):
    def prepare(self, rules, configuration):
        os._exit(0)

class Asks(Guest):
    def prepare(self, rules, configuration):
        raise SystemExit("goodbye")

class Allocates(Guest):
    def prepare(self, rules, configuration):
        kept = []
        while True:
            kept.append(bytes(256 << 20))

class Prints(Guest):
    def prepare(self, rules, configuration):
        print('{"answer": "rubbish"}', flush=True)
        os.system("echo rubbish")
        sys.stdin.read()
        for descriptor in (1, 2):
            os.write(descriptor, b"x" * 200_000)

class Answers(Guest):
    def prepare(self, rules, configuration):
        for descriptor in range(3, 10):
            try:
                os.write(descriptor, configuration["text"].encode())
            except OSError:
                pass
        time.sleep(60)

class Refuses(Guest):
    def prepare(self, rules, configuration):
        raise RuleError(f"needs a mood, has {configuration}", field="configuration/mood", code="mood")

class Peeks(Guest):
    def prepare(self, rules, configuration):
        raise ValueError(sorted(name for name in os.environ if "SECRET" in name or "DATABASE" in name))

class Talks(Guest):
    def prepare(self, rules, configuration):
        raise ValueError("x" * 10_000)

class Imports(Guest):
    def prepare(self, rules, configuration):
        raise ValueError("django" in sys.modules)
"""


def check(name: str, configuration: dict | None = None) -> object:
    return isolation.check(f"guests:{name}", configuration or {})


@pytest.fixture(autouse=True)
def guests(packages: Packages) -> None:  # noqa: F811
    packages.install("guests", HOSTILE)


def test_an_analyzer_that_is_well_tells_its_version():
    assert check("Guest") == {"version": registry.get("patterns").version}


def test_one_that_prints_disturbs_nobody(capfd):
    assert check("Prints") == check("Guest")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "text",
    ["3\n", "null\n", "[]\n", "{}\n", '{"rule_error": 1}\n', '{"rule_error": {"odd": 1}}\n', "[" * 100_000 + "\n"],
)
def test_one_that_answers_for_the_child_is_not_believed(text):
    with pytest.raises(AnalyzerFailed, match="gave an answer that cannot be read"):
        check("Answers", {"text": text})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Crashes", "was ended by SIGABRT"),
        ("Exits", r"ended its process \(exit code 0\)"),
        ("Asks", "failed: SystemExit: goodbye"),
        ("Allocates", "failed: MemoryError|was ended by SIGKILL"),
        ("Peeks", r"failed: ValueError: \[\]"),
        ("Imports", "failed: ValueError: False"),
        ("Missing", "failed: AttributeError: .*Missing"),
    ],
)
def test_one_that_fails_is_told_how(name, told, monkeypatch):
    monkeypatch.setenv("GOVERNANCE_SECRET_KEY", "hidden")
    monkeypatch.setenv("DATABASE_URL", "postgresql://root:hidden@127.0.0.1/x")
    with pytest.raises(AnalyzerFailed, match=told):
        check(name)


def test_one_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(isolation, "SECONDS", 1.5)
    with pytest.raises(AnalyzerFailed, match=r"did not answer within 1\.5 seconds"):
        check("Sleeps")


def test_one_that_talks_much_is_cut_short():
    with pytest.raises(AnalyzerFailed) as caught:
        check("Talks")
    assert len(str(caught.value)) == 500


def test_its_refusal_is_its_own():
    with pytest.raises(RuleError, match=r"needs a mood, has {'a': \[1\]}") as caught:
        check("Refuses", {"a": [1]})
    assert (caught.value.field, caught.value.code) == ("configuration/mood", "mood")


def test_a_question_larger_than_a_pipe_arrives():
    with pytest.raises(RuleError) as caught:
        check("Refuses", {"text": "a" * 500_000})
    assert len(caught.value.message) > 500_000


def test_an_answer_without_end_is_cut_off():
    with pytest.raises(AnalyzerFailed, match="more than 1,048,576 bytes"):
        check("Refuses", {"text": "a" * 2_000_000})


RULES_OF_GUESTS = """
import os, time
from plugins.contract import RuleError

class Guest(Patterns):
    name = "guest"
    def check_rule(self, rule):
        pattern = rule.configuration["pattern"]
        if pattern == "hang":
            time.sleep(600)
        if pattern == "crash":
            os.abort()
        if pattern == "oops":
            raise ZeroDivisionError("oops")
        if pattern == "(":
            raise RuleError("A parenthesis is never closed.", field="configuration/pattern", code="syntax")
        if pattern == "process":
            raise RuleError(str(os.getpid()))
        super().check_rule(rule)

    def analyze(self, source, rules):
        if b"hang" in source.content:
            time.sleep(600)
        return super().analyze(source, rules)
"""


@pytest.fixture
def guest(packages: Packages, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(isolation, "SECONDS", 3.0)
    packages.install("guest_package", RULES_OF_GUESTS, guest="Guest")


def ask(pattern: str) -> RuleError | None:
    try:
        registry.check_rule(RuleSpec("rule", plugin="guest", configuration={"pattern": pattern}))
    except RuleError as error:
        return error
    return None


def test_rules_of_a_guest_are_judged_in_one_child(guest):
    assert ask("x") is None
    children = {ask("process").message for _ in range(3)}
    assert len(children) == 1 and children != {str(os.getpid())}


def test_a_rule_that_brings_the_child_down_costs_only_itself(guest):
    first = ask("process").message
    assert ask("crash").message == "The plugin 'guest' was ended by SIGABRT."
    assert ask("oops").message == "The plugin 'guest' failed: ZeroDivisionError: oops."
    assert ask("x") is None
    assert ask("process").message != first


def test_a_child_that_has_ended_meanwhile_is_replaced(guest):
    assert ask("x") is None
    (children,) = isolation._kept.values()
    children[0]._process.kill()
    assert ask("y") is None


def test_what_passed_once_is_not_asked_again(guest, monkeypatch):
    assert ask("x") is None
    monkeypatch.setattr(isolation, "Child", None)
    isolation._kept.clear()
    assert ask("x") is None


def test_examples_of_a_guest_run_in_the_child(guest):
    rule = RuleSpec("rule", plugin="guest", configuration={"pattern": r"eval\("})
    assert registry.check_examples(rule, {"match": ["eval(x)"], "no_match": ["x"]}, {}) == []
    ((pointer, message),) = registry.check_examples(rule, {"match": ["eval(x)", "y"], "no_match": ["x"]}, {})
    assert pointer == "/examples/match/1" and "finds nothing" in message
    ((pointer, message),) = registry.check_examples(rule, {"match": ["eval(x)  # hang"], "no_match": []}, {})
    assert (pointer, message) == ("/plugin", "The plugin 'guest' did not answer within 3 seconds.")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("pattern", "pointer", "told"),
    [
        ("(", "#/configuration/pattern", "A parenthesis is never closed."),
        ("hang", "#/plugin", "The plugin 'guest' did not answer within 3 seconds."),
        ("crash", "#/plugin", "The plugin 'guest' was ended by SIGABRT."),
    ],
)
def test_the_api_answers_in_time_whatever_a_guest_does(guest, pattern, pointer, told):
    make_plugins()
    editor = api_client(make_user("rule editor"))
    body = {**NEW_RULE, "plugin": "guest", "configuration": {"pattern": pattern}, "examples": {}}
    problem = expect_problem(editor.post(RULES, body), 400, "invalid", pointer)
    assert problem["errors"][0]["detail"] == told


@pytest.mark.django_db
def test_a_rule_of_a_guest_is_created_like_any_other(guest):
    make_plugins()
    editor = api_client(make_user("rule editor"))
    assert editor.post(RULES, {**NEW_RULE, "plugin": "guest"}).status_code == 201
