"""Does the plugin `structure` find what its rules describe, say where, refuse what cannot run, survive any file?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import django
import pytest

from plugins import isolation, registry, schemas
from plugins.analyzers.structure import QUOTED_LENGTH, Structure
from plugins.contract import Analyzer, Finding, PartialFailure, RuleError, RuleSpec, SourceFile
from plugins.forms import draw, fits
from plugins.languages import LANGUAGES
from plugins.syntax_rules import DEPTH_LIMITS, MAX_WIDTH, SyntaxRule, Words, compile_rule
from tests.factories import api_client, make_plugins, make_user
from tests.rest import NEW_RULE, RULES, expect_problem

DJANGO = Path(django.__file__).parent


def rule(language: str = "python", name: str = "rule", message: str = "Message", **configuration: Any) -> RuleSpec:
    """A rule without file types; a text under `rule` is the shorthand `pattern`."""
    return RuleSpec(
        name=name, plugin="structure", message=message, configuration={"language": language, **configuration}
    )


def ask(content: str | bytes, *rules: RuleSpec, path: str | None = None, limit: int | None = None) -> list[Any]:
    """All that the analyzer yields on one file, by default one of the first rule's language."""
    analyzer = Structure()
    for each in rules:
        analyzer.check_rule(each)
    analyzer.prepare(rules, {} if limit is None else {"max_findings_per_file": limit})
    path = path or f"example{analyzer.default_file_types(rules[0])[0]}"
    content = content.encode() if isinstance(content, str) else content
    return list(analyzer.analyze(SourceFile(path, content), rules))


def places(found: Iterable[Finding]) -> list[tuple[int, int, int, int]]:
    return [(each.start_line, each.start_column, each.end_line, each.end_column) for each in found]


def lines(found: Iterable[Finding]) -> list[int]:
    return [each.start_line for each in found]


def refuse(**configuration: Any) -> RuleError:
    with pytest.raises(RuleError) as caught:
        Structure().check_rule(rule(**configuration))
    return caught.value


# ---- languages and files


def test_structure_is_a_built_in_analyzer() -> None:
    assert registry.get("structure") is Structure
    assert isinstance(Structure(), Analyzer)
    for schema in (Structure.rule_schema, Structure.configuration_schema):
        assert schemas.check_schema(schema) == []


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda each: each.name)
def test_every_language_is_parsed_and_its_sigil_is_the_one_of_ast_grep(language: Any) -> None:
    root = language.parse("a")
    assert root.kind()
    with pytest.raises(RuntimeError, match=language.sigil.replace("$", r"\$") * 3 + "NAME"):
        root.find(pattern="$$$NAME")
    assert language.is_metavariable(language.sigil + "NAME")
    assert not language.is_metavariable("NAME")


@pytest.mark.parametrize(
    ("path", "language", "owned"),
    [
        ("src/a.py", "python", True),
        ("src/A.PY", "python", True),
        ("src/a.pyc", "python", False),
        ("src/a.test.ts", "typescript", True),
        ("src/a.tsx", "typescript", False),
        ("Rakefile", "ruby", True),
        ("include/a.h", "c", True),
        ("include/a.h", "cpp", True),
        (".bashrc", "bash", True),
    ],
)
def test_a_file_belongs_to_a_language_by_its_name(path: str, language: str, owned: bool) -> None:
    assert LANGUAGES[language].owns(path) is owned


def test_a_rule_runs_on_the_files_of_its_language_or_of_its_own_file_types() -> None:
    plain = rule(pattern="eval($X)")
    assert lines(ask("eval(x)", plain, path="a.py")) == [1]
    assert ask("eval(x)", plain, path="notes.txt") == []
    assert ask("eval(x)", plain, path="a.js") == []
    own = RuleSpec("own", plugin="structure", configuration=plain.configuration, file_types=(".sconstruct",))
    assert lines(ask("eval(x)", own, path="SConstruct")) == [1]


@pytest.mark.parametrize(
    ("language", "code", "configuration", "expected"),
    [
        ("python", "if a:\n    assert (x,\n        'm')\nassert x", {"pattern": "assert ($A, $B)"}, [2]),
        ("javascript", "x.innerHTML = y;\nx.innerText = y", {"pattern": "$A.innerHTML = $B"}, [1]),
        ("javascript", "a == b\na === b", {"pattern": "$A == $B"}, [1]),
        ("typescript", "const a = b as any;\nconst c = d as string", {"pattern": "$A as any"}, [1]),
        ("tsx", "<a>x</a>;\n<p title={y} />", {"pattern": "<$T title={$X} />"}, [2]),
        (
            "go",
            "package a\nfunc f() {\n\tif err != nil { panic(err) }\n\tpanic(1)\n}",
            {"rule": {"pattern": "panic($X)", "inside": {"kind": "if_statement", "stopBy": "end"}}},
            [3],
        ),
        (
            "java",
            "class A { void f() {\ntry { g(); h(); } catch (Exception e) { }\ntry { g(); } catch (E e) { l(e); } } }",
            {"rule": {"kind": "catch_clause", "not": {"has": {"field": "body", "has": {"pattern": "$CALL($$$)",
             "stopBy": "end"}, "kind": "block"}}}},
            [2],
        ),
        ("java", "class A { void f() { new Random(); new SecureRandom(); } }", {"pattern": "new Random()"}, [1]),
        ("rust", "fn main() {\n a.unwrap();\n b?;\n}", {"pattern": "$X.unwrap()"}, [2]),
        ("c", "int main() {\n strcpy(a, b);\n strncpy(a, b, 1);\n}", {"pattern": "strcpy($A, $B)"}, [2]),
        ("csharp", "class A { void F() {\n Console.WriteLine(1); } }", {"pattern": "Console.WriteLine($X)"}, [2]),
        ("ruby", "x = 1\neval(params)", {"pattern": "eval($X)"}, [2]),
        ("php", "<?php\n$x = 1;\neval($x);", {"pattern": "eval($X);"}, [3]),
        ("kotlin", "fun f() {\n a!!\n}", {"pattern": "$A!!"}, [2]),
        ("swift", "let a = try! f()\nlet b = try f()", {"pattern": "try! $X"}, [1]),
        ("bash", "eval $X\necho a", {"rule": {"kind": "command", "regex": "^eval "}}, [1]),
        ("yaml", "a:\n  privileged: true\n", {"pattern": "privileged: true"}, [2]),
        ("json", '{"a": 1,\n"b": {"a": 2}}', {"rule": {"kind": "pair", "has": {"field": "key", "regex": "a"}}}, [1, 2]),
        ("html", "<p>\n<script src=x></script>", {"rule": {"kind": "script_element"}}, [2]),
        ("css", "a { color: red !important }", {"rule": {"kind": "important"}}, [1]),
    ],
)  # fmt: skip
def test_rules_find_code_in_many_languages(language: str, code: str, configuration: dict, expected: list[int]) -> None:
    assert lines(ask(code, rule(language, **configuration))) == expected


def test_files_are_parsed_once_for_all_rules_of_a_language(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [rule(pattern=f"f{index}00($X)", name=f"r{index}") for index in range(5)]
    analyzer = Structure()
    analyzer.prepare(rules, {})
    parsed = []
    parse = type(LANGUAGES["python"]).parse
    monkeypatch.setattr(type(LANGUAGES["python"]), "parse", lambda self, text: parsed.append(1) or parse(self, text))
    found = analyzer.analyze(SourceFile("a.py", b"f000(1); f300(2)"), rules)
    assert [each.rule for each in found] == ["r0", "r3"]
    assert len(parsed) == 1
    assert list(analyzer.analyze(SourceFile("a.py", b"nothing"), rules)) == []
    assert len(parsed) == 1, "a file without any of the words is not parsed"


# ---- what rules can say


CODE = """\
import subprocess
def run(command, shell):
    subprocess.run(command, shell=True)
    subprocess.run(["ls"], shell=False)
class Runner:
    def run(self):
        for item in self.items:
            subprocess.run(item, check=True, shell=True, cwd="/")
"""


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ({"pattern": "subprocess.run($$$, shell=True)"}, [3]),
        ({"pattern": "subprocess.run($$$, shell=True, $$$)"}, [8]),
        (
            {"pattern": "subprocess.run($$$)", "rule": {"has": {"regex": "^shell=True$", "stopBy": "end"}}},
            [3, 8],
        ),
        (
            {
                "rule": {
                    "kind": "call",
                    "has": {"field": "arguments", "has": {"kind": "keyword_argument", "regex": "^shell=True$"}},
                }
            },
            [3, 8],
        ),
        ({"pattern": "subprocess.run($$$)", "rule": {"inside": {"kind": "for_statement", "stopBy": "end"}}}, [8]),
        (
            {
                "pattern": "subprocess.run($$$)",
                "rule": {"not": {"inside": {"kind": "class_definition", "stopBy": "end"}}},
            },
            [3, 4],
        ),
        ({"pattern": "subprocess.run($WHAT, $$$)", "constraints": {"WHAT": {"kind": "list"}}}, [4]),
        ({"pattern": "subprocess.run($WHAT, $$$)", "constraints": {"WHAT": {"regex": "^(item|command)$"}}}, [3, 8]),
        ({"rule": {"any": [{"kind": "class_definition"}, {"pattern": "import $M"}]}}, [1, 5]),
        ({"rule": {"all": [{"kind": "function_definition"}, {"has": {"field": "name", "regex": "run"}}]}}, [2, 6]),
        ({"rule": {"kind": "function_definition", "follows": {"kind": "import_statement"}}}, [2]),
        ({"rule": {"kind": "function_definition", "precedes": {"kind": "class_definition"}}}, [2]),
        ({"rule": {"kind": "identifier", "regex": "^shell$", "nthChild": 2}}, [2]),
        ({"rule": {"matches": "loop"}, "utils": {"loop": {"kind": "for_statement"}}}, [7]),
        (
            {
                "rule": {"kind": "keyword_argument", "inside": {"matches": "call", "stopBy": {"kind": "block"}}},
                "utils": {"call": {"pattern": "subprocess.run(item, $$$)"}},
            },
            [8, 8, 8],
        ),
        ({"rule": {"pattern": {"context": "f(shell=True)", "selector": "keyword_argument"}}}, [3, 8]),
    ],
)
def test_rules_of_ast_grep_are_run(configuration: dict, expected: list[int]) -> None:
    assert lines(ask(CODE, rule(**configuration))) == expected


def test_layout_does_not_matter() -> None:
    assert lines(ask("f(  a ,b\n=1)\nf(a,b=2)\nf(a, b = 1)", rule(pattern="f(a, b=1)"))) == [1, 4]


def test_same_place_is_found_once_and_nested_places_each() -> None:
    anything = rule(rule={"any": [{"kind": "expression_statement"}, {"kind": "call"}]})
    assert places(ask("f(f(1))", anything)) == [(1, 1, 1, 8), (1, 3, 1, 7)]


def test_findings_are_limited_for_each_rule_and_keep_the_order_of_the_file() -> None:
    code = "g(0)\n" + "f(1)\n" * 10
    found = ask(code, rule(pattern="f($X)", name="f"), rule(pattern="g($X)", name="g"), limit=3)
    assert [(each.rule, each.start_line) for each in found] == [("g", 1), ("f", 2), ("f", 3), ("f", 4)]


# ---- messages


def test_message_quotes_what_metavariables_stand_for() -> None:
    message = "$FUNC is called with $$$ARGS; $UNKNOWN, $5, $$FUNC and $func stay."
    found = ask("run(a,\n    b)", rule(pattern="$FUNC($$$ARGS)", message=message))
    assert found[0].message == "run is called with a, b; $UNKNOWN, $5, $$FUNC and $func stay."


def test_message_quotes_a_metavariable_of_a_relation() -> None:
    inside = rule(
        rule={"pattern": "eval($X)", "inside": {"pattern": "def $F($$$): $$$", "stopBy": "end"}}, message="in $F"
    )
    assert ask("def f():\n    eval(x)", inside)[0].message == "in f"


def test_message_quotes_one_short_line() -> None:
    found = ask("eval('''\n  a\n" + "é" * 200 + "''')", rule(pattern="eval($CODE)", message="<$CODE>"))
    quoted = found[0].message[1:-1]
    assert len(quoted) == QUOTED_LENGTH
    assert quoted.startswith("''' a é") and quoted.endswith("é…")


def test_title_speaks_where_there_is_no_message() -> None:
    titled = RuleSpec("name", title="Title", plugin="structure", configuration=rule(pattern="f($X)").configuration)
    assert ask("f(1)", titled)[0].message == "Title"


# ---- positions


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("f(1)", [(1, 1, 1, 5)]),
        ("é = f(1)", [(1, 5, 1, 9)]),
        ("'😀é'; f(1)\n\t'é' + f(1)", [(1, 7, 1, 11), (2, 8, 2, 12)]),
        ("x\r\n\r\nf(1)\r\n", [(3, 1, 3, 5)]),
        ("\ufefff(1)\r\nf(1)", [(1, 1, 1, 5), (2, 1, 2, 5)]),
        ("'''\n😀'''; f(1)", [(2, 7, 2, 11)]),
        ("'\u2028'; f(1)\x0c\nf(1)", [(1, 6, 1, 10), (2, 1, 2, 5)]),
        ("'e\u0301'; f(1)", [(1, 7, 1, 11)]),
        ("if a:\n    f(1)", [(2, 5, 2, 9)]),
    ],
)
def test_columns_count_characters_from_one_and_the_end_is_exclusive(code: str, expected: list[tuple]) -> None:
    assert places(ask(code, rule(pattern="f(1)"))) == expected


def test_places_are_those_that_patterns_give() -> None:
    code = "\ufeffs = 'é😀'\r\n\tmark(1)  # ü\r\nif mark (1): '💡'; mark(1)\r\n".encode() + b"'\xff\xfe'; mark(1)\n"
    pattern = RuleSpec("rule", configuration={"pattern": r"mark ?\(1\)"})
    analyzer = registry.get("patterns")()
    analyzer.prepare([pattern], {})
    expected = list(analyzer.analyze(SourceFile("example.py", code), [pattern]))
    found = ask(code, rule(pattern="mark(1)"))
    assert places(found) == places(expected)
    assert [each.snippet.replace("\ufffd", "") for each in found] == [each.snippet for each in expected]


def test_line_ends_behind_a_match_are_left_out() -> None:
    found = ask("\n\nx = 1\ny = 2\n\n\n", rule(rule={"kind": "module"}))
    assert places(found) == [(3, 1, 4, 6)]
    assert ask("", rule(rule={"kind": "module"})) == [], "nothing can be shown of an empty file"


def test_snippet_is_the_first_line_of_the_match() -> None:
    found = ask("if x:\n    y = f(\n      1)", rule(pattern="f($X)"))
    assert found[0].snippet == "y = f("
    long = ask("a = [" + "'ü', " * 5000 + "f(1)]", rule(pattern="f($X)"))[0]
    assert "f(1)" in long.snippet and len(long.snippet) <= 300
    assert (long.start_line, long.start_column) == (1, 25006)


# ---- hostile files


@pytest.mark.parametrize("language", ["python", "javascript", "typescript", "go", "java", "json", "yaml", "c", "html"])
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00\x01 eval(x)",
        b"\x00" * 1000,
        b"eval(\x00)\neval(x)",
        b"(((((((((\n}}}}}}\nclass def function {{{",
        b"'''never closed\neval(x)",
        "\u202e\ufeff\U0010ffff eval(é)".encode(),
        b"\r\r\r\n\n\r",
    ],
)
def test_broken_files_do_not_fail(language: str, content: bytes) -> None:
    kind = LANGUAGES[language].parse("").kind()
    found = ask(content, rule(language, rule={"any": [{"kind": "ERROR"}, {"kind": kind}]}))
    last = content.count(b"\n") + 1
    for each in found:
        assert (each.end_line, each.end_column) >= (each.start_line, each.start_column) >= (1, 1)
        assert each.end_line <= last


def test_findings_round_broken_code_are_kept() -> None:
    assert lines(ask("eval(a)\nx = = 3\neval(b)\n", rule(pattern="eval($X)"))) == [1, 3]


# A process of its own, because what is tested here used to end it.
def survive(body: str) -> str:
    program = (
        "from plugins.analyzers.structure import Structure\n"
        "from plugins.contract import RuleError, RuleSpec, SourceFile, PartialFailure\n"
        "def ask(content, path, **configuration):\n"
        "    rule = RuleSpec('rule', plugin='structure', configuration=configuration)\n"
        "    analyzer = Structure(); analyzer.check_rule(rule); analyzer.prepare([rule], {})\n"
        "    return [type(each).__name__ for each in analyzer.analyze(SourceFile(path, content.encode()), [rule])]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + body], capture_output=True, text=True, timeout=120,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("opening", ["(", "[", "{", "f(", "not ", "-"])
def test_hundred_thousand_nested_levels_do_not_end_the_process(opening: str) -> None:
    text = repr(opening)
    assert survive(f"print(ask({text} * 100_000, 'a.py', language='python', pattern='eval($X)'))") == "[]"
    assert survive(f"print(ask({text} * 100_000, 'a.py', language='python', rule={{'kind': 'lambda'}}))") == "[]"


def test_deep_code_is_not_compared_with_itself() -> None:
    body = "x = 'f(' * 20_000 + ')' * 20_000\nprint(ask(x + ' == ' + x, 'a.py', language='python', pattern='$A == $A'))"
    assert survive(body) == "['PartialFailure']"


def test_deep_code_is_not_searched_in_nested_ways() -> None:
    search = {"kind": "call", "has": {"kind": "lambda", "stopBy": "end"}}
    for levels, nested in ((2000, search), (300, {**search, "has": {"has": search["has"], "stopBy": "end"}})):
        found = ask("f(" * levels + ")" * levels, rule(rule=nested))
        assert len(found) == 1 and isinstance(found[0], PartialFailure)
        assert (found[0].rule, found[0].path) == ("rule", "example.py")
        assert "nested" in found[0].message
    assert ask("f(" * 50 + ")" * 50, rule(rule=search)) == []


def test_deep_code_is_still_searched_by_other_rules() -> None:
    code = "f(" * 2000 + "eval(x)" + ")" * 2000
    search = rule(rule={"kind": "call", "has": {"kind": "lambda", "stopBy": "end"}}, name="search")
    found = ask(code, rule(pattern="eval($X)", name="plain"), search)
    assert [each.rule for each in found] == ["plain", "search"]
    assert isinstance(found[0], Finding)


STATEMENT = {"kind": "expression_statement"}
SWEEPS = [{"precedes": {**STATEMENT, "regex": "zz", "stopBy": "end"}}, {"follows": {"regex": "zz", "stopBy": "end"}},
          {"nthChild": 2}, {"nthChild": {"position": 1, "ofRule": STATEMENT}}]  # fmt: skip


@pytest.mark.parametrize("sweep", SWEEPS)
def test_wide_code_is_not_searched_by_rules_that_look_at_all_siblings(sweep: dict) -> None:
    swept, plain = rule(rule={**STATEMENT, **sweep}, name="sweep"), rule(rule=STATEMENT, name="plain")
    found = ask("a\n" * 10_000, swept, plain, limit=1)
    assert [each.rule for each in found] == ["plain", "sweep"]
    assert isinstance(found[1], PartialFailure) and "side by side" in found[1].message
    assert not any(isinstance(each, PartialFailure) for each in ask("a\n" * (MAX_WIDTH // 2), swept))


def test_neighbours_are_looked_at_in_code_of_any_width() -> None:
    assert len(ask("a\n" * 10_000, rule(rule={**STATEMENT, "precedes": STATEMENT}), limit=10)) == 10


def test_long_single_line_is_searched() -> None:
    code = "var a=[" + ",".join(f"f({index})" for index in range(120_000)) + ",eval(x)]"
    assert len(code) > 1_000_000
    found = ask(
        code, rule("javascript", pattern="eval($X)", message="$X"), rule("javascript", pattern="f($X)", name="f")
    )
    assert len(found) == 201
    assert places(found[-1:]) == [(1, len(code) - 7, 1, len(code))]
    assert found[-1].message == "x" and len(found[-1].snippet) <= 300


# ---- refusals


@pytest.mark.parametrize(
    ("configuration", "field", "code", "advice"),
    [
        ({}, "/pattern", "required", "`rule`"),
        ({"language": "sql", "pattern": "x"}, "/language", "schema", ""),
        ({"language": ["python"], "pattern": "x"}, "/language", "schema", ""),
        ({"pattern": ""}, "/pattern", "schema", ""),
        ({"pattern": "   "}, "/pattern", "syntax", "empty"),
        ({"pattern": "((("}, "/pattern", "syntax", "context"),
        ({"pattern": "f(1"}, "/pattern", "syntax", "context"),
        ({"pattern": "@$D($$$) def"}, "/pattern", "syntax", ""),
        ({"pattern": "x = 1; y = 2"}, "/pattern", "syntax", "more than one"),
        ({"pattern": "f($lower, $A) $x"}, "/pattern", "syntax", ""),
        ({"pattern": "def $F($$$):"}, "/pattern", "syntax", ": $$$"),
        ({"pattern": "$$$"}, "/pattern", "syntax", "call($$$)"),
        ({"pattern": "$A"}, "/pattern", "unanchored", "kind"),
        ({"pattern": "x" * 2001}, "/pattern", "schema", ""),
        ({"pattern": "f('\ud800')"}, "", "syntax", "Unicode"),
        ({"pattern": 5}, "/pattern", "schema", ""),
        ({"pattern": "f($X)", "patern": "x"}, "/patern", "schema", "not known"),
        ({"rule": {}}, "/rule", "empty", "pattern"),
        ({"rule": []}, "/rule", "schema", ""),
        ({"rule": {"kind": "nope"}}, "/rule/kind", "syntax", "nope"),
        ({"rule": {"kind": 5}}, "/rule/kind", "type", "text"),
        ({"rule": {"regex": "x"}}, "/rule", "unanchored", "kind"),
        ({"rule": {"not": {"kind": "call"}}}, "/rule", "unanchored", "kind"),
        ({"rule": {"has": {"kind": "call"}}}, "/rule", "unanchored", "kind"),
        ({"rule": {"any": [{"kind": "call"}, {"regex": "x"}]}}, "/rule", "unanchored", "kind"),
        ({"rule": {"nthChild": 1}}, "/rule", "unanchored", "kind"),
        ({"rule": {"kind": "call", "regex": "("}}, "/rule/regex", "syntax", "unclosed group"),
        ({"rule": {"kind": "call", "regex": "(?=x)"}}, "/rule/regex", "syntax", "`not`"),
        ({"rule": {"kind": "call", "regex": r"(a)\1"}}, "/rule/regex", "syntax", "write them out"),
        ({"rule": {"kind": "call", "regex": r"\w{900}"}}, "/rule/regex", "syntax", "shorten"),
        ({"rule": {"kind": "call", "regex": "x" * 501}}, "/rule/regex", "too_long", "500"),
        ({"rule": {"kind": "call", "nope": 1}}, "/rule/nope", "schema", "nthChild"),
        ({"rule": {"kind": "call", "stopBy": "end"}}, "/rule/stopBy", "schema", ""),
        ({"rule": {"kind": "call", "range": {}}}, "/rule/range", "schema", ""),
        ({"rule": {"kind": "call", "has": {"kind": "x", "stopBy": "end"}}}, "/rule/has/kind", "syntax", "'x'"),
        ({"rule": {"kind": "call", "has": {"regex": "x", "stopBy": "far"}}}, "/rule/has/stopBy", "invalid", "`end`"),
        ({"rule": {"kind": "call", "has": {"regex": "x", "field": "f"}}}, "/rule/has/field", "syntax", "'f'"),
        ({"rule": {"kind": "call", "follows": {"regex": "x", "field": "f"}}}, "/rule/follows/field", "schema", ""),
        ({"rule": {"kind": "call", "has": "x"}}, "/rule/has", "type", "object"),
        ({"rule": {"all": []}}, "/rule/all", "type", "at least one"),
        ({"rule": {"any": [{"kind": "call"}, {"pattern": "((("}]}}, "/rule/any/1/pattern", "syntax", "context"),
        ({"rule": {"kind": "call", "nthChild": 0}}, "/rule/nthChild", "type", "2n+1"),
        ({"rule": {"kind": "call", "nthChild": "boo"}}, "/rule/nthChild", "syntax", ""),
        ({"rule": {"kind": "call", "nthChild": {"position": True}}}, "/rule/nthChild/position", "type", ""),
        ({"rule": {"kind": "call", "nthChild": {"place": 1}}}, "/rule/nthChild/place", "schema", "position"),
        ({"rule": {"pattern": {"context": "f(1)", "selector": "no"}}}, "/rule/pattern/selector", "syntax", "'no'"),
        ({"rule": {"pattern": {"context": "f(1)", "selector": "string"}}}, "/rule/pattern/context", "syntax", "kind"),
        ({"rule": {"pattern": {"selector": "string"}}}, "/rule/pattern/context", "type", "text"),
        ({"rule": {"pattern": {"context": "f(1)", "strictness": "x"}}}, "/rule/pattern/strictness", "invalid", "smart"),
        ({"rule": {"pattern": {"context": "f(1)", "x/y": "x"}}}, "/rule/pattern/x~1y", "schema", "context"),
        ({"rule": {"matches": "x"}}, "/rule/matches", "unknown", "there are none"),
        ({"rule": {"matches": "x"}, "utils": {"y": {"kind": "call"}}}, "/rule/matches", "unknown", "known are y"),
        ({"pattern": "f($X)", "utils": {"y": {"kind": "no"}}}, "/utils/y/kind", "syntax", "'no'"),
        ({"pattern": "f($X)", "constraints": {"Y": {"regex": "x"}}}, "/constraints/Y", "syntax", "metavariable"),
        ({"pattern": "f($X)", "constraints": {"$X": {"regex": "x"}}}, "/constraints/$X", "invalid", "without `$`"),
        ({"pattern": "f($X)", "constraints": {"X": {"regex": "("}}}, "/constraints/X/regex", "syntax", "unclosed"),
        ({"pattern": "f($X)", "constraints": {"X": {}}}, "/constraints/X", "empty", ""),
    ],
)  # fmt: skip
def test_rules_that_cannot_run_are_refused_at_the_field(
    configuration: dict, field: str, code: str, advice: str
) -> None:
    error = refuse(**{"language": "python", **configuration})
    assert (error.field, error.code) == (f"configuration{field}", code)
    assert advice in error.message
    assert "backtrace" not in error.message and len(error.message) < 600


def test_utilities_that_refer_to_each_other_are_refused() -> None:
    # ast-grep follows this pair up and down the tree until the stack ends.
    circle = {"a": {"has": {"matches": "b"}}, "b": {"inside": {"matches": "a"}}}
    error = refuse(rule={"kind": "call", "matches": "a"}, utils=circle)
    assert (error.field.rpartition("/")[0], error.code) == ("configuration/utils", "cycle")
    assert "a → b" in error.message or "b → a" in error.message
    assert refuse(rule={"kind": "call"}, utils={"a": {"any": [{"not": {"matches": "a"}}]}}).code == "cycle"


def test_size_of_a_rule_is_limited() -> None:
    deep: dict[str, Any] = {"kind": "call"}
    for _ in range(25):
        deep = {"not": deep}
    error = refuse(rule={"kind": "call", "all": [deep]})
    assert error.code == "too_deep"
    assert refuse(rule={"any": [{"pattern": f"f('{'x' * 1000}')"}] * 25}).code == "too_long"
    endless: dict[str, Any] = {}
    endless = {"not": endless}
    for _ in range(120_000):
        endless = {"not": endless}
    assert refuse(rule=endless).code in ("type", "schema", "too_deep")


def test_utilities_that_multiply_are_refused() -> None:
    utils = {f"u{index}": {"any": [{"matches": f"u{index + 1}"}] * 2} for index in range(60)}
    error = refuse(rule={"kind": "call", "matches": "u0"}, utils={**utils, "u60": {"regex": "x"}})
    assert (error.field, error.code) == ("configuration/rule", "too_costly")


def test_searches_nested_in_each_other_are_limited() -> None:
    nested: dict[str, Any] = {"kind": "lambda"}
    for _ in range(max(DEPTH_LIMITS) + 1):
        nested = {"has": {**nested, "stopBy": "end"}}
    error = refuse(rule={"kind": "call", **nested})
    assert error.code == "too_costly" and "stopBy" in error.message
    assert compile_rule({"language": "python", "rule": {"kind": "call", "has": nested["has"]["has"]}})


@pytest.mark.parametrize("inner", SWEEPS)
@pytest.mark.parametrize("outer", ["precedes", "follows", "nthChild"])
def test_looks_at_all_siblings_nested_in_each_other_are_refused(outer: str, inner: dict) -> None:
    swept = {**STATEMENT, **inner}
    nested = {"position": 1, "ofRule": swept} if outer == "nthChild" else {**swept, "stopBy": "end"}
    error = refuse(rule={**STATEMENT, outer: nested})
    assert (error.field, error.code) == ("configuration/rule", "too_costly") and "siblings" in error.message
    assert compile_rule({"language": "python", "rule": {"all": [swept, swept]}}), "side by side their cost is a sum"


def test_checking_leaves_standard_error_alone_and_never_panics() -> None:
    body = (
        "for configuration in ({'language': 'sql', 'pattern': 'x'}, {'language': 'python', 'pattern': '((('},\n"
        "                      {'language': 'python', 'rule': {'kind': '\\0'}}):\n"
        "    try: ask('', 'a.py', **configuration)\n"
        "    except RuleError as error: print(error.code)\n"
    )
    assert survive(body).split() == ["schema", "syntax", "syntax"]


@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.parametrize(
    "pattern", ["", "(((", "$", "$$$$", "$A$B", "\0", "\n", "é", "a b", "{", "<", "#", "$_", '"', "µ"]
)
def test_any_pattern_is_answered_in_any_language(language: str, pattern: str) -> None:
    try:
        compiled = compile_rule({"language": language, "pattern": pattern})
    except RuleError as error:
        assert error.field == "configuration/pattern"
    else:
        assert compiled.language.name == language


def test_pattern_inside_broken_brackets_of_a_metavariable_is_accepted() -> None:
    # `$$$` is no statement of Java by itself, but it is one of this pattern.
    code = "class A { void f() { try { g(); } catch (IOException e) { } } }"
    assert lines(ask(code, rule("java", pattern="try { $$$ } catch ($T $E) { }"))) == [1]


# ---- words


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"pattern": "subprocess.run($$$, shell=True)"}, [["subprocess"], ["shell"], ["run"]]),
        ({"pattern": "f(x)"}, []),
        ({"pattern": "mark_safe($TEXT)"}, [["mark_safe"]]),
        ({"rule": {"kind": "call", "regex": "^exec"}}, []),
        ({"rule": {"any": [{"pattern": "exec($X)"}, {"pattern": "eval($X)"}]}}, [["eval", "exec"]]),
        ({"rule": {"any": [{"pattern": "exec($X)"}, {"kind": "call"}]}}, []),
        ({"rule": {"pattern": "exec($X)", "not": {"pattern": "exec(constant)"}}}, [["exec"]]),
        ({"rule": {"kind": "call", "inside": {"pattern": "with transaction: $$$"}}}, [["transaction"]]),
        ({"rule": {"kind": "call", "has": {"pattern": "inner", "stopBy": {"pattern": "outer"}}}}, [["inner"]]),
        ({"rule": {"matches": "u"}, "utils": {"u": {"pattern": "exec($X)"}, "v": {"pattern": "other"}}}, [["exec"]]),
        ({"pattern": "exec($X)", "constraints": {"X": {"pattern": "constant"}}}, [["exec"]]),
        ({"rule": {"pattern": {"context": "exec(1)", "strictness": "signature"}}}, []),
        ({"rule": {"pattern": {"context": "exec(a, shell=1)", "selector": "keyword_argument"}}}, [["shell"]]),
    ],
)
def test_words_that_a_file_must_hold_are_taken_from_patterns(configuration: dict, words: list[list[str]]) -> None:
    compiled = compile_rule({"language": "python", **configuration})
    found = [sorted(clause) for clause in compiled.clauses]
    assert [each for each in found if each != ["True"]] == words


@pytest.mark.parametrize(
    "literal", ["'é😀 ü'", "'a.*+?[](){}^$|b'", r"r'\d\w\\'", "'" + "long text, " * 100 + "'", '"""two\nlines"""']
)
def test_words_of_any_form_are_found(literal: str) -> None:
    broken = b"\xff\xfe\x00" + f"f({literal})".encode() + b"\xc3"
    assert lines(ask(broken, rule(pattern=f"f({literal})")))[:1] == [1]
    assert compile_rule({"language": "python", "pattern": f"f({literal})"}).clauses


# Rules of every form over real code; those without words are there to see that nothing is assumed of them.
VARIED = [
    {"pattern": "eval($$$)"},
    {"pattern": "$OBJ.objects.filter($$$)"},
    {"pattern": "getattr($O, $N, None)"},
    {"pattern": "mark_safe($X)"},
    {"pattern": "raise ValueError($$$)"},
    {"pattern": "isinstance($A, (list, tuple))"},
    {"pattern": "$A if $B else None"},
    {"pattern": "import $M"},
    {"pattern": "from functools import $M"},
    {"pattern": "super().__init__($$$)"},
    {"pattern": "lambda $X: $Y"},
    {"pattern": "$A == $A"},
    {"pattern": "''"},
    {"pattern": "'utf-8'"},
    {"pattern": "@property\ndef $F(self): $$$"},
    {"pattern": "def __str__(self): $$$"},
    {"pattern": "for $K, $V in $X.items(): $$$"},
    {"pattern": "try:\n    $$$A\nexcept ImportError:\n    $$$B"},
    {"pattern": "with open($$$) as $F: $$$"},
    {"pattern": "[$X for $X in $Y]"},
    {"pattern": "'%s' % $X"},
    {"pattern": "assert $A"},
    {"pattern": "return NotImplemented"},
    {"rule": {"pattern": {"context": "f(using=$X)", "selector": "keyword_argument"}}},
    {"rule": {"pattern": {"context": "setattr(a, b, c)", "strictness": "signature"}}},
    {"rule": {"pattern": {"context": "class A(object): pass", "strictness": "relaxed"}}},
    {"rule": {"pattern": {"context": "hasattr($A, $B)", "strictness": "cst"}}},
    {"rule": {"pattern": {"context": "warnings.warn($A, $$$)", "strictness": "ast"}}},
    {"rule": {"kind": "global_statement"}},
    {"rule": {"kind": "call", "regex": "^reverse"}},
    {"rule": {"kind": "call", "has": {"field": "function", "pattern": "reverse"}}},
    {"rule": {"kind": "function_definition", "inside": {"kind": "function_definition", "stopBy": "end"}}},
    {"rule": {"kind": "for_statement", "has": {"pattern": "$X.save($$$)", "stopBy": "end"}}},
    {"rule": {"any": [{"pattern": "deepcopy($X)"}, {"pattern": "copy.copy($X)"}, {"pattern": "copy.deepcopy($X)"}]}},
    {"rule": {"all": [{"kind": "call"}, {"any": [{"pattern": "int($X)"}, {"pattern": "float($X)"}]}]}},
    {"rule": {"pattern": "open($$$)", "not": {"inside": {"kind": "with_statement", "stopBy": "end"}}}},
    {"rule": {"kind": "decorator", "precedes": {"pattern": "def save($$$): $$$"}}},
    {"rule": {"kind": "expression_statement", "follows": {"pattern": "import os"}}},
    {"rule": {"matches": "text"}, "utils": {"text": {"any": [{"pattern": "str($X)"}, {"matches": "force"}]},
     "force": {"pattern": "force_str($$$)"}}},
    {"pattern": "cursor.execute($Q, $$$)", "constraints": {"Q": {"kind": "binary_operator"}}},
]  # fmt: skip


def files_of_django() -> list[SourceFile]:
    """Every fifth source file, and small pieces of them, in which a word may stand at an edge."""
    paths = sorted(DJANGO.rglob("*.py"))[::5]
    sources = [SourceFile(path.name, path.read_bytes()) for path in paths]
    pieces = [SourceFile("piece.py", b"\n".join(each.content.split(b"\n")[:40])) for each in sources]
    return [*sources, *pieces]


@pytest.mark.slow
def test_words_never_lose_a_match(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [rule(name=f"{index:02}", message="$X $A", **each) for index, each in enumerate(VARIED)]
    analyzer = Structure()
    for each in rules:
        analyzer.check_rule(each)
    analyzer.prepare(rules, {"max_findings_per_file": 10_000})
    sources = files_of_django()
    found = [list(analyzer.analyze(source, rules)) for source in sources]
    monkeypatch.setattr(SyntaxRule, "may_match", lambda self, words: True)
    assert [list(analyzer.analyze(source, rules)) for source in sources] == found
    silent = {each.name for each in rules} - {each.rule for findings in found for each in findings}
    assert len(silent) < len(rules) / 3, "rules that find nothing prove nothing"


@pytest.mark.parametrize(
    ("language", "code", "pattern"),
    [
        ("javascript", "const value = `a${document.cookie}`", "document.cookie"),
        ("javascript", "foo('é😀 text')", "foo('é😀 text')"),
        ("css", ".banner { color: crimson }", ".banner { $$$ }"),
        ("html", "<marquee width=1>x</marquee>", "<marquee $$$>$$$</marquee>"),
        ("php", "<?php echo htmlspecialchars($value);", "htmlspecialchars($X)"),
        ("php", '<?php printf("price: $AMOUNT");', "printf($X)"),
        ("nix", "with pkgs; hello", "with $A; hello"),
        ("zig", "const x = unreachable_call(1);", "const $A = $B;"),
        ("go", 'package a\nfunc f() { fmt.Println("%s", y) }', "fmt.Println($A, $B)"),
        ("cpp", "int main() { std::string value = gets(x); }", "gets($X)"),
        ("json", '{"dangerous": [1, 2]}', '{"dangerous": $X}'),
        ("ruby", "value.html_safe", "$X.html_safe"),
        ("elixir", "String.to_atom(value)", "String.to_atom($X)"),
        ("haskell", "main = unsafePerformIO action", "unsafePerformIO $X"),
        ("scala", "object A { value.asInstanceOf[Int] }", "$X.asInstanceOf[Int]"),
        ("lua", "loadstring(code)", "loadstring($X)"),
        ("hcl", 'acl = "public-read"', 'acl = "public-read"'),
        ("bash", "curl $URL", "curl $X"),
    ],
)
def test_words_of_patterns_stand_in_the_code_of_every_language(language: str, code: str, pattern: str) -> None:
    compiled = compile_rule({"language": language, "pattern": pattern})
    assert compiled.language.parse(code).find(pattern=pattern) is not None
    assert compiled.may_match(Words([compiled]).find(code.encode()))
    assert len(ask(code, rule(language, pattern=pattern))) >= 1


# ---- through the doors


def test_examples_of_a_rule_without_file_types_run_on_a_file_of_its_language() -> None:
    plain = rule("go", pattern="panic($X)")
    assert registry.example_path(plain) == "example.go"
    assert (
        registry.check_examples(plain, {"match": ["package a\nfunc f() { panic(1) }"], "no_match": ["package a"]}) == []
    )
    wrong = registry.check_examples(plain, {"match": ["package a"], "no_match": []})
    assert [pointer for pointer, _ in wrong] == ["/examples/match/0"]


def test_examples_with_path_patterns_run_where_both_fit() -> None:
    placed = RuleSpec(
        "placed", plugin="structure", configuration=rule(pattern="f($X)").configuration,
        file_patterns=(r"(^|/)tests/",), exclude_patterns=("conftest",),
    )  # fmt: skip
    assert registry.example_path(placed) == "tests/example.py"


def test_what_an_analyzer_could_not_do_is_no_finding_of_an_example() -> None:
    deep = rule(rule={"kind": "call", "has": {"kind": "lambda", "stopBy": "end"}})
    code = "f(" * 1500 + ")" * 1500
    assert registry.check_examples(deep, {"match": [], "no_match": [code]}) == []


def test_rules_and_examples_are_tried_where_they_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 2.0)
    costly = {"kind": "call", "all": [{"regex": rf"\pL{{150}}{index}"} for index in range(400)]}
    with pytest.raises(RuleError, match="did not answer within 2 seconds"):
        registry.check_rule(rule(rule=costly))
    slow = rule(rule={"kind": "parenthesized_expression", "regex": r"(\w+ )+z"})
    code = "(" * 4_000 + "a" * 10_000 + ")" * 4_000
    ((pointer, message),) = registry.check_examples(slow, {"match": [], "no_match": [code] * 50})
    assert pointer == "/plugin" and "did not answer within 2 seconds" in message


def test_form_is_drawn_for_a_pattern_and_json_is_kept_for_the_rest() -> None:
    drawn = draw(Structure.rule_schema)
    assert drawn is not None
    assert set(drawn["properties"]) == {"language", "pattern"}
    assert fits(drawn, {"language": "go", "pattern": "panic($X)"})
    assert not fits(drawn, {"language": "go", "rule": {"kind": "call"}}), "the form would lose the rule"


@pytest.fixture
def editor() -> Any:
    make_plugins()
    return api_client(make_user("rule editor"))


STRUCTURE_RULE = {**NEW_RULE, "plugin": "structure", "configuration": {"language": "python", "pattern": "eval($X)"}}


@pytest.mark.django_db
def test_structure_rule_is_stored_by_the_api(editor: Any) -> None:
    response = editor.post(RULES, {**STRUCTURE_RULE, "file_types": []})
    assert response.status_code == 201, response.content
    assert response.json()["configuration"] == STRUCTURE_RULE["configuration"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("configuration", "pointer"),
    [
        ({"language": "python", "pattern": "((("}, "#/configuration/pattern"),
        ({"language": "cobol", "pattern": "x"}, "#/configuration/language"),
        ({"language": "python"}, "#/configuration/pattern"),
        ({"language": "python", "rule": {"any": [{"kind": "nope"}]}}, "#/configuration/rule/any/0/kind"),
        ({"language": "python", "pattern": "f($X)", "constraints": {"X": 1}}, "#/configuration/constraints/X"),
    ],
)
def test_bad_structure_rule_is_refused_by_the_api_at_its_field(editor: Any, configuration: dict, pointer: str) -> None:
    body = expect_problem(editor.post(RULES, {**STRUCTURE_RULE, "configuration": configuration}), 400, "invalid")
    assert pointer in [entry["pointer"] for entry in body["errors"]]


@pytest.mark.django_db
def test_structure_rule_that_contradicts_its_examples_is_refused_by_the_api(editor: Any) -> None:
    examples = {"match": ["evaluate(x)"], "no_match": []}
    body = expect_problem(editor.post(RULES, {**STRUCTURE_RULE, "examples": examples}), 400, "invalid")
    assert "#/examples/match/0" in [entry["pointer"] for entry in body["errors"]]
