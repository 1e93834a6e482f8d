"""What a review finds, and what a failing analyzer costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from plugins import registry
from plugins.contract import Finding, RuleError, RuleSpec, SourceFile
from reviews.discovery import discover
from reviews.engine import MAX_FAILURES, SEVERITIES, Failure, Result, file_types, rank, route, run
from reviews.fingerprints import fingerprint_lines
from rules.choices import Severity


class Panic(BaseException):
    """What native code raises: no Exception."""


class Moody:
    """An analyzer of another package: each rule's configuration says how it behaves."""

    name = "moody"
    title = description = version = "1"
    requires: Sequence[str] = ()
    configuration_schema: Mapping[str, Any] = {"type": "object"}
    rule_schema: Mapping[str, Any] = {"type": "object"}

    def check_rule(self, rule: RuleSpec) -> None:
        """Any rule will do."""

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        if configuration.get("broken"):
            raise RuntimeError("no database of weaknesses")
        for rule in rules:
            if error := rule.configuration.get("in_prepare"):
                raise error

    def analyze(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterator[Finding]:
        for rule in rules:
            yield Finding(rule.name, source.path, 1, 1, 1, 2, "found")
            if error := rule.configuration.get("in_analyze"):
                raise error
            yield from rule.configuration.get("findings", ())


@pytest.fixture(autouse=True)
def moody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, Moody))
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


def pattern(name: str, expression: str, **fields: Any) -> RuleSpec:
    return RuleSpec(name, configuration={"pattern": expression}, message=f"{name} found", **fields)


def review(
    rules: Sequence[RuleSpec],
    files: Mapping[str, str] | Iterable[SourceFile],
    configurations: Mapping[str, Mapping[str, Any]] | None = None,
) -> Result:
    if isinstance(files, Mapping):
        files = [SourceFile(path, text.encode()) for path, text in files.items()]
    return run(rules, files, plugin_configurations=configurations or {}, jobs=0)


def places(result: Result) -> list[tuple[str, int, str]]:
    return [(finding.path, finding.start_line, finding.rule) for finding in result.findings]


def test_findings_come_sorted_by_path_line_and_rule() -> None:
    rules = [pattern("z-eval", r"eval\("), pattern("a-call", r"\w+\(")]
    result = review(rules, {"b.py": "eval(1)\n\neval(2)\n", "a.py": "x\nrun()\n"})
    assert places(result) == [
        ("a.py", 2, "a-call"),
        ("b.py", 1, "a-call"),
        ("b.py", 1, "z-eval"),
        ("b.py", 3, "a-call"),
        ("b.py", 3, "z-eval"),
    ]
    assert (result.files_analyzed, result.bytes) == (2, 25)
    assert result.failures == []
    assert set(result.analyzer_seconds) == {"patterns"}


def test_the_same_place_of_a_rule_is_one_finding() -> None:
    double = Finding("twice", "a.py", 1, 1, 1, 2, "found")
    result = review([RuleSpec("twice", plugin="moody", configuration={"findings": [double, double]})], {"a.py": "x"})
    assert places(result) == [("a.py", 1, "twice")]


def test_a_rule_given_twice_runs_once() -> None:
    rule = pattern("eval", r"eval")
    assert places(review([rule, rule], {"a.py": "eval"})) == [("a.py", 1, "eval")]


@pytest.mark.parametrize(
    ("path", "types"),
    [
        ("src/a.PY", {".py"}),
        ("a.test.ts", {".ts", ".test.ts"}),
        ("Dockerfile", {".dockerfile"}),
        ("deploy/Dockerfile.dev", {".dev", ".dockerfile"}),
        ("Makefile", {".makefile"}),
        (".env", {".env"}),
        (".env.local", {".env", ".env.local", ".local"}),
        ("config.d/plain", {".plain"}),
    ],
)
def test_a_path_has_the_file_types_that_people_expect(path: str, types: set[str]) -> None:
    assert set(file_types(path)) == types


def test_rules_are_asked_only_about_their_file_types() -> None:
    rules = [
        pattern("python", "x", file_types=[".py"]),
        pattern("docker", "x", file_types=[".dockerfile"]),
        pattern("env", "x", file_types=[".env"]),
        pattern("any", "x"),
    ]
    result = review(rules, {"A.PY": "x", "Dockerfile": "x", ".env.local": "x", "a.js": "x"})
    assert sorted((path, rule) for path, _, rule in places(result) if rule != "any") == [
        (".env.local", "env"),
        ("A.PY", "python"),
        ("Dockerfile", "docker"),
    ]
    assert [path for path, _, rule in places(result) if rule == "any"] == [".env.local", "A.PY", "Dockerfile", "a.js"]


def test_path_patterns_choose_and_exclude() -> None:
    rules = [
        pattern("tests", "x", file_patterns=["(^|/)tests/", r"_test\.py$"]),
        pattern("code", "x", exclude_patterns=["(^|/)tests/"], file_types=[".py"]),
        pattern("both", "x", file_patterns=["^src/"], exclude_patterns=["vendor"]),
    ]
    result = review(rules, dict.fromkeys(("src/a.py", "src/tests/b.py", "src/vendor/a_test.py", "é.py"), "x"))
    assert [(path, rule) for path, _, rule in places(result)] == [
        ("src/a.py", "both"),
        ("src/a.py", "code"),
        ("src/tests/b.py", "both"),
        ("src/tests/b.py", "tests"),
        ("src/vendor/a_test.py", "code"),
        ("src/vendor/a_test.py", "tests"),
        ("é.py", "code"),
    ]


def test_files_that_no_rule_asks_for_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "b.bin").write_bytes(b"x\0")
    result = run([pattern("python", "x", file_types=[".py"])], discover(tmp_path), plugin_configurations={})
    assert (result.files_analyzed, result.files_skipped) == (1, {"no_rule": 1})


def test_skipped_files_are_counted_by_reason(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.log")
    (tmp_path / "a.log").write_text("x")
    (tmp_path / "b.py").write_bytes(b"x\0")
    (tmp_path / "c.py").write_bytes(b"x" * 101)
    (tmp_path / "d.py").symlink_to("c.py")
    (tmp_path / "e.py").write_text("x")
    result = run([pattern("any", "x")], discover(tmp_path, max_bytes=100), plugin_configurations={})
    assert result.files_skipped == {"ignored": 1, "binary": 1, "too_large": 1, "symlink": 1}
    assert places(result) == [("e.py", 1, "any")]


def test_progress_is_told_of_every_file_skipped_ones_too(tmp_path: Path) -> None:
    for name in ("a.py", "b.png", "c.py"):
        (tmp_path / name).write_text("x")
    told: list[tuple[int, int]] = []
    rules = [pattern("python", "x", file_types=[".py"])]
    run(rules, discover(tmp_path), plugin_configurations={}, progress=lambda *seen: told.append(seen))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_no_rules_and_no_files_give_an_empty_result(tmp_path: Path) -> None:
    result = run([], discover(tmp_path), plugin_configurations={})
    assert (result.findings, result.failures, result.files_analyzed) == ([], [], 0)


def test_the_configuration_of_a_plugin_reaches_it() -> None:
    result = review([pattern("any", "x")], {"a.py": "x\nx\nx\n"}, {"patterns": {"max_findings_per_file": 2}})
    assert len(result.findings) == 2


@pytest.mark.parametrize(
    "error", [ValueError("odd"), Panic("native"), MemoryError(), SystemExit(3), RuleError("bad rule")]
)
def test_an_analyzer_that_raises_on_a_file_costs_the_failing_rule_and_is_told(error: BaseException) -> None:
    rules = [
        RuleSpec("bad", plugin="moody", configuration={"in_analyze": error}, file_types=[".py"]),
        RuleSpec("good", plugin="moody"),
        pattern("other", "x"),
    ]
    result = review(rules, {"a.py": "x", "b.js": "x"})
    assert places(result) == [("a.py", 1, "good"), ("a.py", 1, "other"), ("b.js", 1, "good"), ("b.js", 1, "other")]
    (failure,) = result.failures
    assert (failure.plugin, failure.rule, failure.path) == ("moody", "bad", "a.py")
    assert (str(error) or type(error).__name__) in failure.message


@pytest.mark.parametrize("error", [ValueError("odd"), Panic("native"), RuleError("bad rule")])
def test_a_rule_that_cannot_be_prepared_costs_only_itself(error: BaseException) -> None:
    rules = [
        RuleSpec("bad", plugin="moody", configuration={"in_prepare": error}),
        RuleSpec("good", plugin="moody"),
        pattern("broken", "(", file_types=[".js"]),
        pattern("other", "x"),
    ]
    result = review(rules, {"a.py": "x"})
    assert places(result) == [("a.py", 1, "good"), ("a.py", 1, "other")]
    assert [(failure.plugin, failure.rule, failure.path) for failure in result.failures] == [
        ("moody", "bad", None),
        ("patterns", "broken", None),
    ]


def test_an_analyzer_that_cannot_be_prepared_at_all_costs_its_own_rules() -> None:
    rules = [RuleSpec("one", plugin="moody"), RuleSpec("two", plugin="moody"), pattern("other", "x")]
    result = review(rules, {"a.py": "x"}, {"moody": {"broken": True}})
    assert places(result) == [("a.py", 1, "other")]
    assert {failure.rule for failure in result.failures} == {"one", "two"}
    assert all("no database of weaknesses" in failure.message for failure in result.failures)


def test_a_path_pattern_that_cannot_run_costs_only_its_rule() -> None:
    result = review([pattern("bad", "x", exclude_patterns=["(?=a)"]), pattern("good", "x")], {"a.py": "x"})
    assert places(result) == [("a.py", 1, "good")]
    assert [(failure.plugin, failure.rule) for failure in result.failures] == [("patterns", "bad")]


def test_a_plugin_that_is_not_installed_costs_only_its_rules() -> None:
    result = review([RuleSpec("lost", plugin="nowhere"), pattern("good", "x")], {"a.py": "x"})
    assert places(result) == [("a.py", 1, "good")]
    assert [(failure.plugin, failure.rule) for failure in result.failures] == [("nowhere", None)]


def test_an_interrupt_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        review([RuleSpec("stop", plugin="moody", configuration={"in_analyze": KeyboardInterrupt()})], {"a.py": "x"})


@pytest.mark.parametrize(
    "nonsense",
    [
        Finding("unasked", "a.py", 1, 1, 1, 2, "m"),
        Finding("odd", "other.py", 1, 1, 1, 2, "m"),
        Finding("odd", "a.py", 0, 1, 1, 2, "m"),
        Finding("odd", "a.py", 1, 0, 1, 2, "m"),
        Finding("odd", "a.py", 1, 5, 1, 2, "m"),
        Finding("odd", "a.py", 2, 1, 2, 2, "m"),
        "a text",
        None,
    ],
)
def test_findings_that_make_no_sense_are_failures(nonsense: Any) -> None:
    result = review([RuleSpec("odd", plugin="moody", configuration={"findings": [nonsense]})], {"a.py": "x"})
    assert result.findings == []
    assert [(failure.plugin, failure.rule, failure.path) for failure in result.failures] == [("moody", "odd", "a.py")]


def test_what_no_database_can_hold_is_replaced_in_messages_and_snippets() -> None:
    finding = Finding("odd", "a.py", 1, 1, 1, 3, "a\0b", "c\ud800\0d")
    result = review([RuleSpec("odd", plugin="moody", configuration={"findings": [finding]})], {"a.py": "x"})
    assert (result.findings[-1].message, result.findings[-1].snippet) == ("a\ufffdb", "c?\ufffdd")


def test_a_plugin_that_fails_everywhere_is_told_in_a_bounded_way() -> None:
    rules = [
        RuleSpec("bad", plugin="moody", configuration={"in_analyze": ValueError("odd")}),
        RuleSpec("good", plugin="moody"),
    ]
    result = review(rules, {f"{number}.py": "x" for number in range(MAX_FAILURES + 20)})
    assert len(result.failures) == MAX_FAILURES + 1
    assert result.failures[-1] == Failure("moody", None, None, "failed 20 more times")


def test_lines_with_findings_have_fingerprints() -> None:
    text = "x = 1\nsafe\nx = 1\n"
    result = review([pattern("assigned", r"x = 1")], {"a.py": text})
    expected = fingerprint_lines(text.encode(), {1, 3})
    assert result.fingerprints == {("a.py", line): value for line, value in expected.items()}
    assert len(set(expected.values())) == 2


def test_plugins_run_in_the_order_of_their_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moody, "requires", ("patterns", "secrets"))
    secret = RuleSpec("secret", plugin="secrets", configuration={"pattern": "key='(.+)'"})
    result = review([RuleSpec("late", plugin="moody"), secret, pattern("first", "x")], {"a.py": "x"})
    assert list(result.analyzer_seconds) == ["patterns", "secrets", "moody"]


def test_a_plugin_that_requires_itself_costs_only_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moody, "requires", ("moody",))
    registry.refresh()
    result = review([RuleSpec("any", plugin="moody"), pattern("good", "x")], {"a.py": "x"})
    assert places(result) == [("a.py", 1, "good")]
    assert [(failure.plugin, failure.rule) for failure in result.failures] == [("moody", None)]


def test_a_finding_goes_to_each_persona_of_its_rule_once() -> None:
    assert route(RuleSpec("any", personas=["security", "operations", "security"])) == ("security", "operations")
    assert route(RuleSpec("any")) == ()


def test_severities_are_those_of_the_rules_in_their_order() -> None:
    assert list(SEVERITIES) == Severity.values
    assert [rank(severity) for severity in Severity.values] == [severity.rank for severity in Severity]
