"""Which comments suppress a finding, which suppress nothing and are reported, and which are only prose?"""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins import registry, schemas
from plugins.analyzers.directives import MAX_REASON, Directives
from plugins.contract import Finding, RuleError, RuleSpec, SourceFile
from reviews.suppressions import Applied, Directive, Policy, apply, find_directives, to_findings

TODAY = date(2030, 1, 15)
RULES = {name: RuleSpec(name) for name in ("no-eval", "no-exec", "a.b_C-1")}
RULES["hard"] = RuleSpec("hard", suppressible=False)
RULES["told"] = RuleSpec("told", plugin="directives", configuration={"report": "unused"})


def finding(line: int, rule: str = "no-eval", end: int | None = None, column: int = 1) -> Finding:
    return Finding(rule, "a.py", line, column, end or line, column + 4, "found")


def judge(text: str, *findings: Finding, policy: Policy = Policy(), **options) -> Applied:  # noqa: B008
    return apply(findings, find_directives(text.encode()), RULES, policy, TODAY, **options)


def kinds(applied: Applied) -> list[str]:
    return [report.kind for report in applied.reports]


def only(text: str) -> Directive:
    (directive,) = find_directives(text.encode())
    return directive


# ---- where it stands


@pytest.mark.parametrize(
    "comment",
    [
        "# {}",
        "#{}",
        "#: {}",
        "// {}",
        "//{}",
        "/// {}",
        "/* {} */",
        "/** {} */",
        "-- {}",
        "<!-- {} -->",
        "; {}",
        "% {}",
        "! {}",
        "(* {} *)",
        "{{- {} -}}",
        "{{# {} #}}",
        "<%-- {} --%>",
        "<%# {} %>",
        "{{{{!-- {} --}}}}",
        ".. {}",
        "REM {}",
        "{{/* {} */}}",
    ],
)
def test_a_directive_is_read_in_the_comments_of_any_language(comment: str) -> None:
    said = comment.format("code-review: ignore[no-eval] -- reviewed (until=2030-02-01)")
    directive = only(f"\t{said}\neval(x)\n")
    assert (directive.names, directive.reason, directive.until) == (("no-eval",), "reviewed", date(2030, 2, 1))
    assert (directive.line, directive.covers, directive.problem, directive.quoted) == (1, 2, "", False)
    directive = only(f"eval(x)  {said}\nrun()\n")
    assert (directive.reason, directive.covers, directive.problem, directive.quoted) == ("reviewed", 0, "", False)


def test_a_directive_at_the_end_of_the_line_suppresses_findings_that_start_there() -> None:
    text = "eval(x)  # code-review: ignore[no-eval] -- constant\neval(y)\n"
    here, there, other = finding(1, end=3), finding(2), finding(1, "no-exec")
    applied = judge(text, here, there, other)
    assert list(applied.suppressed) == [here]
    assert applied.suppressed[here].reason == "constant"
    assert applied.reports == []


def test_a_directive_alone_on_the_line_before_suppresses_and_one_behind_code_does_not_reach_down() -> None:
    assert judge("# code-review: ignore[no-eval] -- r\neval(x)\n", finding(2)).suppressed
    behind = judge("run()  # code-review: ignore[no-eval] -- r\neval(x)\n", finding(2))
    assert not behind.suppressed
    assert kinds(behind) == ["unused"]


def test_a_directive_suppresses_what_is_found_in_its_own_comment() -> None:
    assert judge("# code-review: ignore[no-eval] -- says eval( in a comment\n", finding(1)).suppressed


def test_stacked_directives_cover_the_same_line_of_code() -> None:
    text = "# code-review: ignore[no-eval] -- a\n# code-review: ignore[no-exec] -- b\nexec(eval(x))\n"
    applied = judge(text, finding(3), finding(3, "no-exec"))
    assert len(applied.suppressed) == 2
    assert applied.reports == []


def test_a_blank_line_is_not_crossed() -> None:
    applied = judge("# code-review: ignore[no-eval] -- r\n  \neval(x)\n", finding(3))
    assert not applied.suppressed
    assert kinds(applied) == ["unused"]


def test_the_end_of_a_block_comment_is_crossed() -> None:
    assert judge("/*\n * code-review: ignore[no-eval] -- r\n */\neval(x)\n", finding(4)).suppressed


def test_the_comment_before_a_finding_of_many_lines_suppresses_it_and_one_inside_does_not() -> None:
    text = "# code-review: ignore[no-eval] -- r\neval(\n  x,  # code-review: ignore[no-exec] -- r\n)\n"
    whole = finding(2, end=4)
    applied = judge(text, whole, finding(2, "no-exec", end=4))
    assert list(applied.suppressed) == [whole]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_a_byte_order_mark_move_nothing(end: str) -> None:
    text = "\ufeff# code-review: ignore[no-eval] -- r" + end + "eval(x)" + end
    directive = only(text)
    assert (directive.line, directive.covers, directive.column, directive.reason) == (1, 2, 3, "r")


def test_columns_count_characters() -> None:
    directive = only("größe = '€'  # code-review: ignore[no-eval] -- für später\n")
    assert (directive.column, directive.end_column) == (16, 58)


def test_two_directives_on_one_line_are_told_apart() -> None:
    first, second = find_directives(b"x()  # code-review: ignore[a] -- one # code-review: ignore[b] -- two\n")
    assert (first.names, first.reason, second.names, second.reason) == (("a",), "one", ("b",), "two")


# ---- what it says


def test_names_are_listed_with_commas_and_spaces() -> None:
    assert only("# code-review: ignore[ no-eval ,a.b_C-1,no-eval ] -- r").names == ("no-eval", "a.b_C-1")


def test_the_last_day_may_stand_anywhere_behind_the_names() -> None:
    for text in ("[a] -- r (until=2030-02-01)", "[a] (until=2030-02-01) -- r", "[a] -- (until = 2030-02-01 ) r"):
        directive = only(f"# code-review: ignore{text}")
        assert (directive.reason, directive.until, directive.problem) == ("r", date(2030, 2, 1), ""), text


def test_the_reason_is_cut_and_holds_nothing_that_no_database_stores() -> None:
    directive = only("# code-review: ignore[a] -- \0" + "x" * 900)
    assert len(directive.reason) == MAX_REASON
    assert "\0" not in directive.reason


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("code-review: ignore", "names no rule"),
        ("code-review: ignore this file", "names no rule"),
        ("code-review: ignore []", "names no rule"),
        ("code-review: ignore[ ] -- r", "names no rule"),
        ("code-review: ignore[no-eval,] -- r", "missing"),
        ("code-review : ignore", "belong together"),
        ("code-review : ignore[no-eval] -- r", "belong together"),
        ("code-review ignore[no-eval] -- r", "belong together"),
        ("code-review: ignore[no-eval -- r", "not closed"),
        ("code-review: Ignore[no-eval] -- r", "only `ignore`"),
        ("code-review: ignore-next-line", "only `ignore`"),
        ("code-review: disable[no-eval] -- r", "only `ignore`"),
        ("code-review: ignore[no-eval] because", "after ` -- `"),
        ("code-review: ignore[no-eval]", "no reason"),
        ("code-review: ignore[no-eval] -- ", "no reason"),
        ("code-review: ignore[no-eval] -- (until=2030-02-01)", "no reason"),
        ("code-review: ignore[no-eval] -- r (until=2030-02-30)", "no date"),
        ("code-review: ignore[no-eval] -- r (until=1.2.2030)", "no date"),
        ("code-review: ignore[no-eval] -- r (until=20300201)", "no date"),
        ("code-review: ignore[no-eval] -- r (until=)", "no date"),
        ("code-review: ignore[no-eval] -- r until=2030-02-01", "in brackets"),
        ("code-review: ignore[no-eval] -- r (until=2030-02-01", "in brackets"),
        ("code-review: ignore[no-eval] -- r (until=2030-02-01) (until=2031-01-01)", "two days"),
        ("code-review: ignore[No-Eval] -- r", "There is no rule 'No-Eval'"),
        ("code-review: ignore[no-eval, *] -- r", "There is no rule '*'"),
    ],
)
def test_a_malformed_directive_suppresses_nothing_and_is_reported(text: str, says: str) -> None:
    applied = judge(f"eval(x)  # {text}\n", finding(1))
    assert not applied.suppressed
    assert kinds(applied) == ["malformed"]
    assert says in applied.reports[0].detail


def test_the_policy_may_do_without_a_reason() -> None:
    policy = Policy(require_reason=False)
    assert judge("eval(x)  # code-review: ignore[no-eval]\n", finding(1), policy=policy).suppressed
    assert judge("eval(x)  # code-review: ignore[no-eval]  # noqa: S307\n", finding(1), policy=policy).suppressed


def test_a_rule_that_is_switched_off_is_no_mistake_and_not_unused() -> None:
    applied = judge("x()  # code-review: ignore[asleep] -- r\n", policy=Policy(known=frozenset({"asleep"})))
    assert applied == Applied()


# ---- when it does not hold


def test_a_directive_holds_on_its_last_day() -> None:
    assert judge("eval(x)  # code-review: ignore[no-eval] -- r (until=2030-01-15)\n", finding(1)).suppressed


def test_an_expired_directive_suppresses_nothing_and_is_reported() -> None:
    applied = judge("eval(x)  # code-review: ignore[no-eval] -- r (until=2030-01-14)\n", finding(1))
    assert not applied.suppressed
    assert kinds(applied) == ["expired"]
    assert "2030-01-14" in applied.reports[0].detail


@pytest.mark.parametrize("name", ["hard", "no-eval, hard", "told"])
def test_a_directive_for_a_rule_that_may_not_be_suppressed_suppresses_nothing(name: str) -> None:
    applied = judge(f"eval(x)  # code-review: ignore[{name}] -- r\n", finding(1, "hard"), finding(1))
    assert not applied.suppressed
    assert kinds(applied) == ["forbidden"]


@pytest.mark.parametrize(("until", "kind"), [("", "forbidden"), ("2030-02-15", "forbidden"), ("2030-02-14", "")])
def test_the_policy_may_limit_how_long_a_directive_holds(until: str, kind: str) -> None:
    end = f" (until={until})" if until else ""
    text = f"eval(x)  # code-review: ignore[no-eval] -- r{end}\n"
    applied = judge(text, finding(1), policy=Policy(max_days=30))
    assert kinds(applied) == ([kind] if kind else [])
    assert bool(applied.suppressed) is not bool(kind)


def test_an_unused_directive_is_reported_only_if_all_its_rules_ran_on_the_file() -> None:
    text = "run()  # code-review: ignore[no-eval, no-exec] -- r\n"
    assert kinds(judge(text)) == ["unused"]
    assert kinds(judge(text, ran={"no-eval", "no-exec"})) == ["unused"]
    assert kinds(judge(text, ran={"no-eval"})) == []


def test_a_directive_with_several_rules_is_used_when_one_of_them_found_something() -> None:
    assert judge("eval(x)  # code-review: ignore[no-eval, no-exec] -- r\n", finding(1)).reports == []


def test_the_second_directive_for_the_same_rule_and_line_is_unused() -> None:
    text = "# code-review: ignore[no-eval] -- above\neval(x)  # code-review: ignore[no-eval] -- here\n"
    applied = judge(text, finding(2))
    assert applied.suppressed[finding(2)].reason == "here"
    assert [(report.kind, report.directive.line) for report in applied.reports] == [("unused", 1)]


def test_two_findings_on_the_line_are_both_suppressed() -> None:
    found = [finding(1, column=1), finding(1, column=9)]
    assert set(judge("eval(eval(x))  # code-review: ignore[no-eval] -- r\n", *found).suppressed) == set(found)


# ---- what is no directive


@pytest.mark.parametrize(
    "text",
    [
        "The comment `code-review: ignore[RULE]` suppresses a finding.",
        "Write code-review: ignore to leave a line alone.",
        "# How code-review: ignore works",
        "# code-review: ignored files are listed below",
        "# code-review: see the wiki",
        "* Use **code-review: ignore[X]** sparingly",
        "// our code-review team",
        'word = "code-review: ignore"',
        "key: code-review: ignore",
        "a-code-review: ignore[x]",
        "x = 5 % code_review",
    ],
)
def test_prose_is_no_directive(text: str) -> None:
    assert find_directives(text.encode()) == []


@pytest.mark.parametrize(
    "text",
    [
        "Write `# code-review: ignore` or `# code-review: ignore[no-eval]`.",
        "text = 'x  # code-review: ignore'",
        'text = "eval(x)  # code-review: ignore[]"',
        'text = "say \\"x\\"  # code-review: ignore[]"',
        "text = `x // code-review: ignore`",
        'text = "# code-review: ignore[no-eval] -- r (until=2001-01-01)"',
        'text = "# code-review: ignore[no-eval] -- r"',
    ],
)
def test_what_looks_quoted_is_never_reported(text: str) -> None:
    assert judge(text).reports == []


def test_quotes_in_the_code_before_a_comment_do_not_quote_it() -> None:
    text = "eval(\"it's\", 'x')  # code-review: ignore[no-eval] oops\n"
    assert kinds(judge(text)) == ["malformed"]


# ---- hostile files


def test_a_file_full_of_directives_is_read_in_linear_time() -> None:
    for unit in (
        b"#code-review: ignore[",
        b"# code-review: ignore[a] -- r\n",
        b"#" * 30,
        b"//code-review: ignore[a](until=",
    ):
        find_directives(unit * (1_000_000 // len(unit)) + b"code-review")
    find_directives(b"# code-review: ignore[a] -- (until=" + b" " * 1_000_000)


@given(
    st.lists(
        st.sampled_from(
            ["# ", "code-review", ": ", "ignore", "[", "]", "a", " -- ", "(until=", ")", "\n", "'", "*/", "é"]
        )
    )
)
def test_any_text_is_read_and_its_places_are_in_the_file(parts: list[str]) -> None:
    text = "".join(parts)
    lines = text.split("\n")
    for directive in find_directives(text.encode()):
        line = lines[directive.line - 1]
        assert 1 <= directive.column < directive.end_column <= len(line) + 1
        assert line[directive.column - 1 :].startswith("code-review")
        assert directive.covers == 0 or directive.line < directive.covers <= len(lines)


# ---- the plugin


def report_rule(kind: str, **fields) -> RuleSpec:
    return RuleSpec(f"rule-{kind}", plugin="directives", configuration={"report": kind}, message="Told.", **fields)


def test_reports_become_findings_of_the_rules_that_ask_for_them() -> None:
    applied = judge("é  # code-review: ignore[] \nrun()  # code-review: ignore[no-eval] -- r\n")
    found = to_findings(applied.reports, [report_rule("malformed"), report_rule("expired"), *RULES.values()], "a.py")
    assert [(each.rule, each.start_line, each.start_column) for each in found] == [
        ("rule-malformed", 1, 6),
        ("told", 2, 10),
    ]
    assert found[0].message.startswith("Told. It names no rule.")
    assert found[0].snippet == "code-review: ignore[]"


@pytest.mark.parametrize("kind", ["malformed", "expired"])
def test_examples_of_a_rule_show_what_the_text_alone_tells(kind: str) -> None:
    wrong = {"malformed": "# code-review: ignore[]", "expired": "# code-review: ignore[a] -- r (until=2001-01-01)"}
    right = "x()  # code-review: ignore[any-rule] -- r (until=2999-01-01)"
    examples = {"match": [wrong[kind]], "no_match": [right]}
    assert registry.check_examples(report_rule(kind), examples) == []
    assert registry.check_examples(report_rule(kind), {"match": [right], "no_match": []})


def test_what_the_plugin_says_itself_is_what_the_engine_says_too() -> None:
    text = "# code-review: ignore[]\n# code-review: ignore[no-eval] -- r (until=2001-01-01)\n"
    rules = [report_rule("malformed"), report_rule("expired")]
    analyzer = Directives()
    analyzer.prepare(rules, {})
    directives = find_directives(text.encode())
    applied = apply([], directives, RULES, Policy(), date.today())
    assert list(analyzer.analyze(SourceFile("a.py", text.encode()), rules)) == to_findings(
        applied.reports, rules, "a.py"
    )


def test_the_policy_is_the_configuration_of_the_plugin() -> None:
    assert Policy.of({}) == Policy(require_reason=True, max_days=0)
    assert Policy.of({"require_reason": False, "max_days": 90}, ["a"]) == Policy(False, 90, frozenset({"a"}))
    assert schemas.errors(Directives.configuration_schema, {"max_days": -1})
    analyzer = Directives()
    analyzer.prepare([], {"max_days": 1})
    later = (date.today() + timedelta(days=9)).isoformat()
    source = SourceFile("a.py", f"# code-review: ignore[a] -- r (until={later})".encode())
    assert [each.rule for each in analyzer.analyze(source, [report_rule("forbidden")])] == ["rule-forbidden"]


def test_a_rule_reports_one_of_the_known_kinds() -> None:
    with pytest.raises(RuleError):
        Directives().check_rule(report_rule("sometimes"))
