"""Do the analyzers find what their rules say, where they say it, and refuse what they cannot run?"""

from __future__ import annotations

import time

import pytest

from plugins import expressions, registry, schemas
from plugins.analyzers.secrets import is_placeholder, mask, measure_entropy
from plugins.contract import Analyzer, Finding, RuleError, RuleSpec, SourceFile


def find(content: str | bytes, *rules: RuleSpec, configuration: dict | None = None) -> list[Finding]:
    """Findings of `rules`, all of one plugin, in one file."""
    analyzer = registry.get(rules[0].plugin)()
    for rule in rules:
        analyzer.check_rule(rule)
    analyzer.prepare(rules, configuration or {})
    content = content.encode() if isinstance(content, str) else content
    return list(analyzer.analyze(SourceFile("example.py", content), rules))


def pattern_rule(pattern: str, name: str = "rule", **configuration: object) -> RuleSpec:
    return RuleSpec(name=name, title="Title", message="Message", configuration={"pattern": pattern, **configuration})


def secret_rule(pattern: str, name: str = "secret", **configuration: object) -> RuleSpec:
    return RuleSpec(name=name, plugin="secrets", configuration={"pattern": pattern, **configuration})


def place(finding: Finding) -> tuple[int, int, int, int]:
    return finding.start_line, finding.start_column, finding.end_line, finding.end_column


# ---- expressions


@pytest.mark.parametrize(
    ("pattern", "code", "advice"),
    [
        (r"foo(?=bar)", "lookaround", "unless"),
        (r"(?<!not )foo", "lookaround", "unless"),
        (r"(a)\1", "backreference", "alternatives"),
        (r"(?P<q>['\"])x(?P=q)", "backreference", "alternatives"),
        (r"end\Z", "anchor", r"\z"),
        (r"a*+b", "possessive", "+"),
        (r"(?>a+)b", "possessive", "(?:"),
        (r"(?x) a b", "syntax", "(?i)"),
        (r"\u20AC", "syntax", r"\x{20AC}"),
        (r"(a", "syntax", r"\("),
        (r"a)|(b", "syntax", r"\)"),
        (r"[a", "syntax", r"\["),
        (r"*a", "syntax", r"\*"),
        (r"a{1001}", "too_costly", "1000"),
        (r"\pL{1000}", "too_costly", "shorten"),
        (r"[a-z]\w{0,60}.{100,200}[a-z]1?\)", "too_costly", "500"),
        ("a" * 2001, "too_long", "2000"),
        ("", "empty", "empty"),
        ("a\ud800", "syntax", "Unicode"),
    ],
)
def test_unsafe_expression_is_refused_with_advice(pattern: str, code: str, advice: str) -> None:
    with pytest.raises(RuleError) as caught:
        expressions.compile_expression(pattern, field="file_patterns/2")
    assert caught.value.code == code
    assert caught.value.field == "file_patterns/2"
    assert advice in caught.value.message
    assert "(?m)" not in caught.value.message.replace("`(?m)`", "")


@pytest.mark.parametrize("pattern", ["x*", "^", "$", r"\b", r"\B", "(?:a|)", r"\s*$", "a?b?"])
def test_expression_that_matches_nothing_is_refused_where_it_must_find_something(pattern: str) -> None:
    assert expressions.compile_expression(pattern)
    with pytest.raises(RuleError) as caught:
        expressions.compile_expression(pattern, allow_empty_match=False)
    assert caught.value.code == "matches_empty"


def test_catastrophic_expression_takes_linear_time() -> None:
    expression = expressions.compile_expression(r"^(\w+\s?)*$")
    started = time.perf_counter()
    assert expression.search(b"a" * 200_000 + b"!") is None
    assert time.perf_counter() - started < 2


def test_costly_expression_is_refused_quickly() -> None:
    started = time.perf_counter()
    for index in range(20):
        with pytest.raises(RuleError):
            expressions.compile_expression(rf"(\pL{{{100 + index}}}){{9}}")
    assert time.perf_counter() - started < 2


def test_same_expression_is_compiled_once() -> None:
    assert expressions.compile_expression("once") is expressions.compile_expression("once")
    assert expressions.compile_expression("once") is not expressions.compile_expression("once", ignore_case=True)


def test_set_names_all_expressions_that_match() -> None:
    found = expressions.compile_set(["eval", "^import", r"\d{3}", "x$"])
    assert found.matching(b"a\nimport 123\n") == [1, 2]
    assert found.matching(b"nothing here") == []


def test_set_larger_than_one_automaton_keeps_its_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "SET_LENGTH", 7)
    found = expressions.compile_set([f"<{index}>" for index in range(40)])
    assert found.matching(b"<39> <0> <7> <13>") == [0, 7, 13, 39]


def test_set_that_does_not_fit_into_memory_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "SET_MEMORY", 128 << 10)
    found = expressions.compile_set([f"<{index}>[a-z]{{1,60}}" for index in range(200)])
    assert len(found._parts) > 1
    assert found.matching(b"<199>abc <0>x <150>abc <7>") == [0, 150, 199]


# ---- schemas

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer", "minimum": 1, "default": 5},
        "a/b": {"type": "string"},
        "token": {"type": "string", "maxLength": 4, "secret": True},
        "servers": {"type": "array", "items": {"$ref": "#/$defs/server"}},
        "nested": {"type": "object", "properties": {"deep": {"type": "string", "default": "x"}}, "default": {}},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"server": {"type": "object", "properties": {"password": {"type": "string", "secret": True}}}},
}


def test_schema_errors_point_at_each_field() -> None:
    found = dict(schemas.errors(SCHEMA, {"count": 0, "a/b": 1, "other": 1, "servers": [{"password": 7}]}))
    assert set(found) == {"/name", "/count", "/a~1b", "/other", "/servers/0/password"}
    assert found["/name"] == "This field is required."


def test_schema_errors_never_quote_a_value() -> None:
    found = schemas.errors(SCHEMA, {"name": ["hunter2"], "token": "hunter2hunter2"})
    assert [pointer for pointer, _ in found] == ["/name", "/token"]
    assert "hunter2" not in str(found)


def test_document_that_is_not_json_is_an_error_and_not_a_crash() -> None:
    assert schemas.errors(SCHEMA, {"name": object()})[0][0] == ""
    assert schemas.errors(SCHEMA, {1: 2})[0][0] == ""


def test_secret_fields_are_found_through_references_and_lists() -> None:
    assert schemas.secret_fields(SCHEMA) == ["/servers/*/password", "/token"]


def test_defaults_are_filled_in_without_touching_the_document_or_the_schema() -> None:
    document = {"name": "x"}
    completed = schemas.with_defaults(SCHEMA, document)
    assert completed == {"name": "x", "count": 5, "nested": {"deep": "x"}}
    completed["nested"]["deep"] = "changed"
    assert document == {"name": "x"}
    assert schemas.with_defaults(SCHEMA, {})["nested"] == {"deep": "x"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"properties": {"a": {"pattern": "(?=a)"}}},
        "object",
    ],
)
def test_schema_that_cannot_be_used_is_named(schema: object) -> None:
    assert schemas.check_schema(schema)


@pytest.mark.parametrize("name", ["patterns", "secrets"])
def test_built_in_analyzer_describes_itself_for_a_form(name: str) -> None:
    analyzer = registry.get(name)
    assert isinstance(analyzer(), Analyzer)
    for schema in (analyzer.configuration_schema, analyzer.rule_schema):
        assert schemas.check_schema(schema) == []
        assert schema["additionalProperties"] is False
        for part in schema["properties"].values():
            assert {"title", "description", "format"} <= set(part)


# ---- patterns


def test_match_is_found_with_its_place_and_its_line() -> None:
    (found,) = find("import os\n\n    value = eval(text)  # why\n", pattern_rule(r"\beval\([^)]*\)"))
    assert place(found) == (3, 13, 3, 23)
    assert found.snippet == "value = eval(text)  # why"
    assert (found.rule, found.path, found.message) == ("rule", "example.py", "Message")


def test_columns_count_characters_and_not_bytes() -> None:
    found = find("grüße = '😀' + eval('é') + eval(x)\n", pattern_rule(r"eval\([^)]*\)"))
    assert [place(each) for each in found] == [(1, 15, 1, 24), (1, 27, 1, 34)]


def test_windows_line_ends_and_byte_order_mark_change_nothing() -> None:
    rules = [pattern_rule("^import \\w+$", "first"), pattern_rule("done$", "last")]
    plain = find("import os\nx = 1  # done\n", *rules)
    assert [each.rule for each in plain] == ["first", "last"]
    assert find(b"\xef\xbb\xbfimport os\r\nx = 1  # done\r\n", *rules) == plain


def test_white_space_round_a_match_is_not_part_of_its_place() -> None:
    (found,) = find("a\n\n\n   except:\n", pattern_rule(r"^\s*except:\s*$"))
    assert place(found) == (4, 4, 4, 11)


def test_match_over_several_lines_ends_where_it_ends() -> None:
    (found,) = find("a = (\n  1,\n)\n", pattern_rule(r"\(.*?\)", dot_all=True))
    assert place(found) == (1, 5, 3, 2)
    assert found.snippet == "a = ("


def test_dot_does_not_match_line_ends_unless_asked() -> None:
    assert find("a(\n)\n", pattern_rule(r"\(.*\)")) == []


def test_unless_drops_matches_on_the_same_lines_only() -> None:
    rule = pattern_rule(r"eval\(", unless="# trusted")
    found = find("eval(1)  # trusted\neval(2)\n# trusted\n", rule)
    assert [each.start_line for each in found] == [2]


def test_unless_reads_every_line_of_a_match() -> None:
    rule = pattern_rule(r"get\([^)]*\)", unless="timeout")
    assert find("get(\n  url,\n  timeout=3,\n)\n", rule) == []
    assert len(find("get(\n  url,\n)\ntimeout = 3\n", rule)) == 1


def test_ignore_case_holds_for_pattern_and_unless() -> None:
    rule = pattern_rule("todo", unless="later", ignore_case=True)
    assert [each.start_line for each in find("ToDo\nTODO LATER\n", rule)] == [1]


def test_findings_of_one_rule_stop_at_the_limit_of_the_plugin() -> None:
    rules = [pattern_rule("x", "many"), pattern_rule("end", "other")]
    found = find("x\n" * 50 + "end\n", *rules, configuration={"max_findings_per_file": 3})
    assert [each.rule for each in found] == ["many", "many", "many", "other"]
    assert len(find("x\n" * 250, rules[0])) == 200


def test_only_the_chosen_rules_are_run() -> None:
    rules = [pattern_rule("a", "one"), pattern_rule("a", "two"), pattern_rule("b", "three")]
    analyzer = registry.get("patterns")()
    analyzer.prepare(rules, {})
    source = SourceFile("x.py", b"ab")
    assert [each.rule for each in analyzer.analyze(source, [rules[1]])] == ["two"]
    assert [each.rule for each in analyzer.analyze(source, [rules[2], rules[0]])] == ["one", "three"]
    assert list(analyzer.analyze(source, [])) == []


def test_many_different_choices_of_rules_give_the_same_answers() -> None:
    rules = [pattern_rule(f"<{index}>", f"rule{index}") for index in range(60)]
    analyzer = registry.get("patterns")()
    analyzer.prepare(rules, {})
    source = SourceFile("x.py", b"<0> <31> <59>")
    for count in range(1, 61):
        expected = [name for name in ("rule0", "rule31", "rule59") if int(name[4:]) < count]
        assert [each.rule for each in analyzer.analyze(source, rules[:count])] == expected


def test_snippet_of_a_very_long_line_is_short_and_shows_the_match() -> None:
    (found,) = find("é" * 40_000 + " eval(x) " + "z" * 40_000, pattern_rule(r"eval\(x\)"))
    assert len(found.snippet) <= 300
    assert "eval(x)" in found.snippet
    assert found.start_column == 40_002


def test_one_long_line_with_many_matches_takes_linear_time() -> None:
    content = "é=eval(x);" * 100_000
    started = time.perf_counter()
    assert find(content, pattern_rule(r"eval\(", unless="é=eval")) == []
    found = find(content, pattern_rule(r"eval\("), configuration={"max_findings_per_file": 10_000})
    assert len(found) == 10_000
    assert found[-1].start_column == 9_999 * 10 + 3
    assert time.perf_counter() - started < 10


def test_empty_file_and_broken_bytes_are_searched_without_error() -> None:
    assert find(b"", pattern_rule("x")) == []
    (found,) = find(b"\xff\xfe eval(x)\n", pattern_rule("eval"))
    assert found.start_line == 1


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        ({}, "configuration/pattern"),
        ({"pattern": ""}, "configuration/pattern"),
        ({"pattern": 5}, "configuration/pattern"),
        ({"pattern": "x*"}, "configuration/pattern"),
        ({"pattern": "(?=x)"}, "configuration/pattern"),
        ({"pattern": "x", "unless": "("}, "configuration/unless"),
        ({"pattern": "x", "unless": "y*"}, "configuration/unless"),
        ({"pattern": "x", "ignore_case": "yes"}, "configuration/ignore_case"),
        ({"pattern": "x", "flags": "i"}, "configuration/flags"),
    ],
)
@pytest.mark.parametrize("plugin", ["patterns", "secrets"])
def test_rule_that_cannot_run_is_refused_at_its_field(plugin: str, configuration: dict, field: str) -> None:
    if plugin == "secrets" and isinstance(configuration.get("pattern"), str) and configuration["pattern"]:
        configuration = {**configuration, "pattern": f"(?:({configuration['pattern']}))"}
    with pytest.raises(RuleError) as caught:
        registry.get(plugin)().check_rule(RuleSpec("rule", plugin=plugin, configuration=configuration))
    assert caught.value.field == field


# ---- secrets

ASSIGNMENT = r'password\s*=\s*"(?P<secret>[^"]+)"'


def test_credential_is_found_and_masked() -> None:
    (found,) = find('password = "kJ8s!dfE92xxQr71"  # keep\n', secret_rule(ASSIGNMENT))
    assert found.snippet == 'password = "kJ8s***"  # keep'
    assert place(found) == (1, 1, 1, 30)


def test_short_credential_shows_less_of_itself() -> None:
    assert mask("abcdef") == "a***"
    assert mask("abc") == "***"
    assert mask("a" * 40) == "aaaa***"


@pytest.mark.parametrize(
    "value",
    [
        "changeme-now-1", "your-api-key-9", "${DB_PASSWORD}", "{{ db_password }}", "<password-42>", "xxxxxxxxxx12",
        "example-k3y-77", "os.environ['P4SS']", "process.env.PASS_1", "get_secret('db1')",
        "$DB_PASS_7", "%(password)s1", "1234567890", "abcdefghijkl", "aaaaaaaaaaaa", "confirmPassword", "P@ssw0rd1",
        "redacted-99",
    ],
)  # fmt: skip
def test_placeholder_is_not_a_credential(value: str) -> None:
    rule = secret_rule(ASSIGNMENT, min_entropy=0)
    assert is_placeholder(value)
    assert find(f'password = "{value}"\n', rule) == []
    assert len(find(f'password = "{value}"\n', secret_rule(ASSIGNMENT, min_entropy=0, ignore_placeholders=False))) == 1


@pytest.mark.parametrize(
    "value", ["kJ8s!dfE92xx", "Zp4-Rk8v!Qw2", "9f86d081884c7d659a2f", "MyHorse77Battery!", "q8Zt(Lm5)Rx"]
)
def test_real_looking_value_is_a_credential(value: str) -> None:
    assert not is_placeholder(value)
    assert len(find(f'password = "{value}"\n', secret_rule(ASSIGNMENT))) == 1


def test_regular_text_is_below_the_entropy_asked_for() -> None:
    assert measure_entropy("aaaa") == 0
    assert measure_entropy("abcdefgh") == 3
    text = 'password = "banana77"\n'
    assert find(text, secret_rule(ASSIGNMENT, min_entropy=3.0)) == []
    assert len(find(text, secret_rule(ASSIGNMENT, min_entropy=1.5))) == 1


def test_further_placeholders_come_from_the_plugin_configuration() -> None:
    text = 'password = "Acme-Demo-93!kz"\n'
    assert len(find(text, secret_rule(ASSIGNMENT))) == 1
    assert find(text, secret_rule(ASSIGNMENT), configuration={"extra_placeholders": ["ACME-demo"]}) == []


def test_no_snippet_shows_any_credential_of_the_file() -> None:
    rules = [secret_rule(ASSIGNMENT, "password"), secret_rule(r"token=(\w+)", "token")]
    text = 'connect(password = "kJ8s!dfE92xxQr71", url="?token=Zp4Rk8vQw2Lt6", again="Zp4Rk8vQw2Lt6")\n'
    found = find(text, *rules)
    assert {each.rule for each in found} == {"password", "token"}
    for each in found:
        assert "kJ8s!dfE92" not in each.snippet
        assert "Zp4Rk8vQ" not in each.snippet


def test_credential_in_a_very_long_line_is_masked_even_where_the_snippet_is_cut() -> None:
    secrets = [f"Zp4Rk8vQw2Lt6{index:04d}Xn1Bm9Yd3" for index in range(400)]
    line = ";".join(f'password="{secret}"' for secret in secrets)
    found = find("ü" * 3000 + line, secret_rule(ASSIGNMENT), configuration={"max_findings_per_file": 400})
    assert len(found) == 400
    for each in found:
        assert "Zp4Rk8" not in each.snippet
        assert len(each.snippet) <= 300


def test_limit_of_findings_does_not_unmask_what_follows() -> None:
    text = 'password="kJ8s!dfE92xxQr71" password="Zp4Rk8vQw2Lt6Xn1"'
    (found,) = find(text, secret_rule(ASSIGNMENT), configuration={"max_findings_per_file": 1})
    assert "Zp4Rk8" not in found.snippet


def test_multiline_key_shows_only_its_first_line() -> None:
    text = "-----BEGIN KEY-----\nMIIEpQIBAAKCAQEAx7Vq0b3YtLr9sZ2mPn5K\n"
    (found,) = find(text, secret_rule(r"-----BEGIN KEY-----\s*(\S+)"))
    assert found.snippet == "-----BEGIN KEY-----"


def test_secret_rule_must_capture_something() -> None:
    with pytest.raises(RuleError) as caught:
        registry.get("secrets")().check_rule(secret_rule(r"AKIA\w{16}"))
    assert caught.value.field == "configuration/pattern"
    assert "(?P<secret>" in caught.value.message


# ---- registry


def test_built_in_analyzers_are_installed_without_problems() -> None:
    assert list(registry.analyzers())[:2] == ["patterns", "secrets"]
    assert registry.problems() == {}
    assert registry.required_by("patterns") == ["secrets"]


def test_unknown_plugin_is_an_error_that_names_the_installed_ones() -> None:
    with pytest.raises(RuleError, match=r"There is no plugin 'nothing'.*patterns") as caught:
        registry.get("nothing")
    assert caught.value.field == "plugin"


def test_dependencies_come_first() -> None:
    assert registry.dependency_order(["secrets", "patterns"]) == ["patterns", "secrets"]
    assert registry.dependency_order(["secrets"]) == ["secrets"]


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        ({"a": ["b"], "b": ["c"], "c": []}, None),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"]),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["missing"]}, None),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, None),
    ],
)
def test_circle_of_requirements_is_found(requires: dict, expected: list[str] | None) -> None:
    assert registry.cycle(requires) == expected


PACKAGE = '''
from plugins.analyzers.patterns import Patterns

class Good(Patterns):
    """Finds what another package looks for."""
    name = "good"

class Shadow(Patterns):
    name = "patterns"

class NoSchema(Patterns):
    name = "no-schema"
    rule_schema = {"type": "objekt"}

class Left(Patterns):
    name = "left"
    requires = ("right",)

class Right(Patterns):
    name = "right"
    requires = ("left",)

class Unmakeable(Patterns):
    name = "unmakeable"
    def __init__(self):
        raise RuntimeError("no license")

class Fragile(Patterns):
    name = "fragile"
    def analyze(self, source, rules):
        raise ZeroDivisionError("oops")

not_a_class = 5
'''

ENTRY_POINTS = """
[code_review.analyzers]
good = other_package:Good
shadow = other_package:Shadow
schema = other_package:NoSchema
left = other_package:Left
right = other_package:Right
unmakeable = other_package:Unmakeable
fragile = other_package:Fragile
number = other_package:not_a_class
missing = other_package:Missing
broken = broken_package:Analyzer
exits = exiting_package:Analyzer
"""


@pytest.fixture
def other_package(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Another distribution is installed that offers good and bad analyzers."""
    (tmp_path / "other_package.py").write_text(PACKAGE)
    (tmp_path / "broken_package.py").write_text("import a_module_that_is_not_installed")
    (tmp_path / "exiting_package.py").write_text("raise SystemExit(3)")
    information = tmp_path / "other_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


def test_analyzer_of_another_package_is_installed_and_a_bad_one_costs_only_itself(other_package: None) -> None:
    assert set(registry.analyzers()) == {*(each.name for each in registry.BUILT_IN), "good", "fragile"}
    assert registry.get("patterns").__module__ == "plugins.analyzers.patterns"
    problems = registry.problems()
    assert set(problems) == {
        "shadow", "schema", "left", "right", "unmakeable", "number", "missing", "broken", "exits",
    }  # fmt: skip
    assert "taken" in problems["shadow"]
    assert "rule_schema" in problems["schema"]
    assert "left → right → left" in problems["left"]
    assert "no license" in problems["unmakeable"]
    assert "a_module_that_is_not_installed" in problems["broken"]
    order = registry.dependency_order(registry.analyzers())
    assert order.index("patterns") < order.index("secrets")


def test_analyzer_that_fails_on_examples_is_named_and_nothing_else_breaks(other_package: None) -> None:
    rule = RuleSpec("rule", plugin="fragile", configuration={"pattern": "x"})
    ((pointer, message),) = registry.check_examples(rule, {"match": ["x"], "no_match": []}, {})
    assert pointer == "/plugin"
    assert "ZeroDivisionError: oops" in message


# ---- examples


def test_examples_that_hold_give_no_complaint() -> None:
    rule = pattern_rule(r"\beval\(", unless="^#")
    assert registry.check_examples(rule, {"match": ["eval(x)"], "no_match": ["evaluate(x)", "# eval(x)"]}, {}) == []


def test_examples_that_do_not_hold_are_pointed_at() -> None:
    examples = {"match": ["eval(x)", "nothing"], "no_match": ["x", "eval(y)"]}
    found = registry.check_examples(pattern_rule(r"eval\("), examples, {})
    assert [pointer for pointer, _ in found] == ["/examples/match/1", "/examples/no_match/1"]


def test_rule_that_cannot_run_is_reported_at_its_field() -> None:
    assert registry.check_examples(pattern_rule("("), {"match": ["x"]}, {})[0][0] == "/configuration/pattern"
    unknown = RuleSpec("rule", plugin="nothing")
    assert registry.check_examples(unknown, {"match": ["x"]}, {})[0][0] == "/plugin"


def test_plugin_configuration_counts_for_examples() -> None:
    rule = secret_rule(ASSIGNMENT)
    examples = {"match": ['password = "Acme-Demo-93!kz"'], "no_match": []}
    assert registry.check_examples(rule, examples, {}) == []
    assert registry.check_examples(rule, examples, {"extra_placeholders": ["acme-demo"]}) != []


@pytest.mark.parametrize(
    ("examples", "pointer"),
    [
        ([], "/examples"),
        ({"match": "eval(x)"}, "/examples/match"),
        ({"match": [1]}, "/examples/match/0"),
        ({"no_match": ["x" * 20_001]}, "/examples/no_match/0"),
        ({"match": ["x"] * 51}, "/examples/match"),
        ({"matches": []}, "/examples/matches"),
    ],
)
def test_malformed_examples_are_refused(examples: object, pointer: str) -> None:
    assert [each for each, _ in registry.check_examples(pattern_rule("x"), examples, {})] == [pointer]


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        (RuleSpec("rule", file_types=[".py"]), "example.py"),
        (RuleSpec("rule"), "example.txt"),
        (RuleSpec("rule", file_patterns=["(^|/)Dockerfile$"]), "Dockerfile"),
        (
            RuleSpec("rule", file_types=[".yml"], file_patterns=[r"(^|/)\.github/workflows/"]),
            ".github/workflows/ci.yml",
        ),
        (RuleSpec("rule", file_types=[".py"], file_patterns=["^test_"]), "test_example.py"),
        (RuleSpec("rule", file_patterns=[r"(^|/)Jenkinsfile$"]), "Jenkinsfile"),
        (RuleSpec("rule", file_types=[".py"], exclude_patterns=["^example"]), "src/example.py"),
    ],
)
def test_examples_are_run_under_a_path_that_fits_the_rule(rule: RuleSpec, path: str) -> None:
    assert registry.example_path(rule) == path
