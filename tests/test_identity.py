"""Is a finding the one that was there before, whatever happened to the code around it?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews import identity
from reviews.identity import NEARBY, Known, Standing, Trace, make_keys


def trace(line: int = 10, code: str = "c", context: str = "x", path: str = "a.py", **fields) -> Trace:
    return Trace(
        **{
            "rule": "no-eval",
            "path": path,
            "line": line,
            "message": "found",
            "code_hash": code,
            "context_hash": context,
            **fields,
        }
    )


def known(*traces: Trace, standing: Standing = Standing.PRESENT) -> list[Known]:
    return [Known(each, standing) for each in traces]


def match(seen, known, *, gone=(), **options) -> dict[int, int]:
    return identity.match(seen, known, is_gone=lambda trace: trace.path in gone, **options)


# ---- one finding


def test_lines_inserted_above_change_nothing() -> None:
    assert match([trace(line=510)], known(trace(line=10))) == {0: 0}


def test_the_code_around_it_may_be_edited() -> None:
    assert match([trace(context="other")], known(trace())) == {0: 0}


def test_the_line_itself_may_be_edited() -> None:
    assert match([trace(code="other", line=400)], known(trace())) == {0: 0}


@pytest.mark.parametrize(("distance", "same"), [(0, True), (NEARBY, True), (NEARBY + 1, False)])
def test_both_may_be_edited_if_it_stays_about_where_it_was(distance: int, same: bool) -> None:
    seen = [trace(code="other", context="other", line=10 + distance)]
    assert match(seen, known(trace())) == ({0: 0} if same else {})
    assert match([replace(seen[0], message="something else")], known(trace())) == {}


@pytest.mark.parametrize("field", ["rule", "code"])
def test_another_rule_or_other_code_elsewhere_is_another_finding(field: str) -> None:
    seen = trace(path="b.py", **{field: "other"}) if field == "code" else trace(rule="other")
    assert match([seen], known(trace())) == {}


def test_a_finding_follows_its_renamed_file_even_if_that_is_edited_near_it() -> None:
    renamed = trace(path="src/b.py", context="other", line=3)
    assert match([renamed], known(trace()), gone={"a.py"}) == {0: 0}
    assert match([renamed], known(trace())) == {}


def test_a_block_moved_to_another_file_keeps_its_findings() -> None:
    assert match([trace(path="b.py", line=77)], known(trace())) == {0: 0}


def test_a_copy_of_what_is_still_there_is_new() -> None:
    assert match([trace(path="a.py"), trace(path="b.py")], known(trace())) == {0: 0}
    assert match([trace(path="b.py")], known(trace()), was_looked_for=lambda trace: False) == {}


def test_a_file_of_the_same_name_is_preferred_after_a_move() -> None:
    seen = [trace(path="new/one.py"), trace(path="new/two.py")]
    before = known(trace(path="old/two.py"), trace(path="older/one.py"))
    assert match(seen, before, gone={"old/two.py", "older/one.py"}) == {0: 1, 1: 0}


def test_a_file_that_vanished_is_preferred_to_one_that_is_still_there() -> None:
    before = known(trace(path="there.py"), trace(path="gone.py"))
    assert match([trace(path="b.py")], before, gone={"gone.py"}) == {0: 1}


def test_a_finding_without_code_does_not_move() -> None:
    assert match([trace(path="b.py", code="", context="")], known(trace(code="", context="")), gone={"a.py"}) == {}
    assert match([trace(code="", context="")], known(trace(code="", context=""))) == {0: 0}


# ---- those that were gone


def test_one_that_is_there_is_preferred_to_one_that_was_fixed() -> None:
    before = [*known(trace(), standing=Standing.FIXED), *known(trace(context="other", line=90))]
    assert match([trace()], before) == {0: 1}


@pytest.mark.parametrize("standing", [Standing.FIXED, Standing.UNSEEN])
def test_what_was_gone_comes_back_with_the_same_code(standing: Standing) -> None:
    assert match([trace(context="other", line=99)], known(trace(), standing=standing)) == {0: 0}


def test_what_was_fixed_does_not_come_back_with_other_code() -> None:
    assert match([trace(code="other")], known(trace(), standing=Standing.FIXED)) == {}
    assert match([trace(code="other")], known(trace(), standing=Standing.UNSEEN)) == {0: 0}


# ---- equal findings


def test_of_equal_findings_the_nearest_lines_belong_together() -> None:
    before = known(*(trace(line=line, context=str(line)) for line in (10, 20, 30)))
    seen = [trace(line=line, context="new") for line in (31, 11)]
    assert match(seen, before) == {0: 2, 1: 0}


def test_equal_findings_that_all_moved_keep_their_order() -> None:
    before = known(trace(line=10), trace(line=11), trace(line=12))
    assert match([trace(line=11), trace(line=12), trace(line=13)], before) == {0: 0, 1: 1, 2: 2}


FEW = st.sampled_from("abc")
TRACES = st.lists(
    st.builds(
        Trace,
        rule=st.sampled_from(["r", "s"]),
        path=st.sampled_from(["a.py", "b.py", "sub/a.py"]),
        line=st.integers(1, 9),
        message=st.sampled_from(["m", "n"]),
        code_hash=st.sampled_from(["", "1", "2"]),
        context_hash=st.sampled_from(["", "1", "2"]),
    ),
    max_size=12,
)
KNOWN = st.lists(
    st.builds(Known, trace=TRACES.filter(bool).map(lambda traces: traces[0]), standing=st.sampled_from(list(Standing))),
    max_size=6,
)


@given(TRACES, KNOWN.map(lambda each: [one for one in each if one.standing is not Standing.PRESENT]))
def test_the_same_input_twice_changes_nothing_whatever_was_fixed_before(
    traces: list[Trace], others: list[Known]
) -> None:
    found = match(traces, [*others, *known(*traces)])
    assert sorted(found) == list(range(len(traces)))
    assert all(traces[one] == traces[other - len(others)] for one, other in found.items())


@given(TRACES, KNOWN, st.randoms(use_true_random=False), st.sets(st.sampled_from(["a.py", "b.py"])))
def test_the_order_of_the_input_changes_nothing(
    traces: list[Trace], before: list[Known], random, gone: set[str]
) -> None:
    def pairs(seen: list[Trace], known: list[Known]) -> list[tuple[Trace, Known]]:
        found = match(seen, known, gone=gone)
        assert len(set(found.values())) == len(found)
        return sorted(((seen[one], known[other]) for one, other in found.items()), key=repr)

    mixed, others = list(traces), list(before)
    random.shuffle(mixed)
    random.shuffle(others)
    assert pairs(mixed, others) == pairs(traces, before)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.data())
def test_of_equal_findings_minus_one_exactly_one_is_gone(lines: list[int], data) -> None:
    before = known(*(trace(line=line, context=data.draw(FEW)) for line in lines))
    removed = data.draw(st.integers(0, len(lines) - 1))
    left = [trace(line=max(1, line - 1), context=data.draw(FEW)) for line in lines[:removed] + lines[removed + 1 :]]
    assert len(match(left, before)) == len(lines) - 1


def test_many_equal_findings_are_matched_without_comparing_each_with_each() -> None:
    before = known(*(trace(line=line, context=str(line)) for line in range(25_000)))
    assert len(match([trace(line=line + 3, context="") for line in range(24_000)], before)) == 24_000


# ---- keys


def test_keys_are_the_same_for_the_same_findings_and_differ_for_equal_ones() -> None:
    traces = [trace(), trace(line=20), trace(path="b.py")]
    keys = make_keys("codebase", traces, [])
    assert keys == make_keys("codebase", traces, [])
    assert len(set(keys)) == 3
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)
    assert set(keys).isdisjoint(make_keys("other", traces, []))


def test_a_key_that_is_taken_is_not_given_again() -> None:
    first = make_keys("codebase", [trace()], [])
    assert make_keys("codebase", [trace()], first) == make_keys("codebase", [trace(), trace()], [])[1:]
