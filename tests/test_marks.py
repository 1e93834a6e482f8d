"""By what a finding is known again, and what is shown around it."""

from __future__ import annotations

import pytest

from plugins.contract import Finding, SourceFile
from reviews.fingerprints import fingerprint_lines
from reviews.marks import CONTEXT, LINE_LENGTH, SHOWN, Marker, Marks, gather, hide

TEXT = "\n".join(f"line {number}" for number in range(1, 41)) + "\n"


def find(first: int, last: int | None = None, **fields: object) -> Finding:
    return Finding("rule", "a.py", first, 1, last or first, 2, "m", **fields)


def mark(text: str, first: int, last: int | None = None) -> Marks:
    marker = Marker(SourceFile("a.py", text.encode()))
    marker.add((first, last or first))
    return gather(find(first, last), marker.hashes(), marker.lines())


def test_white_space_does_not_count() -> None:
    plain = mark("a\nb\nif x: y()\nc\nd\n", 3)
    spaced = mark("  a\n\n b\n\n\n\tif  x:  y( )\r\n\n c\n\n\nd", 6)
    assert (plain.code_hash, plain.context_hash) == (spaced.code_hash, spaced.context_hash)
    assert len(plain.code_hash) == len(plain.context_hash) == 32


def test_the_code_hash_is_of_all_lines_of_the_finding() -> None:
    text = "a\nb\nc\nd\ne\n"
    assert mark(text, 2, 3).code_hash != mark(text, 2).code_hash
    assert mark(text, 2, 3).code_hash == mark("x\ny\nb\nc\n", 3, 4).code_hash


def test_the_context_hash_is_of_two_lines_before_and_after() -> None:
    middle = mark("1\n2\n3\nhere\n5\n6\n7\n", 4)
    assert middle.context_hash == mark("x\n2\n3\nchanged\n5\n6\ny\n", 4).context_hash
    assert middle.context_hash != mark("1\n2\nx\nhere\n5\n6\n7\n", 4).context_hash
    assert middle.context_hash != mark("1\n2\n3\nhere\n5\nx\n7\n", 4).context_hash
    # What comes before is told from what comes after.
    assert mark("1\nhere\n", 2).context_hash != mark("here\n1\n", 1).context_hash


def test_the_line_hash_is_that_of_github() -> None:
    assert mark(TEXT, 7).line_hash == fingerprint_lines(TEXT.encode(), {7})[7]


def test_the_context_is_five_lines_before_and_after() -> None:
    marks = mark(TEXT, 10, 11)
    assert marks.context_start == 5
    assert marks.context == tuple(f"line {number}" for number in range(5, 17))
    assert mark(TEXT, 1).context == tuple(f"line {number}" for number in range(1, 2 + CONTEXT))
    assert mark(TEXT, 41).context[-2:] == ("line 40", "")


def test_the_context_of_a_long_finding_ends_in_it() -> None:
    marks = mark(TEXT, 8, 39)
    assert (marks.context_start, len(marks.context)) == (3, CONTEXT + SHOWN)


def test_long_lines_are_cut_and_what_is_no_text_is_replaced() -> None:
    marks = mark("é" * 100_000 + "\na\0b\n", 1)
    assert marks.context == ("é" * LINE_LENGTH, "a\ufffdb", "")


def test_lines_that_are_not_there_cannot_be_marked() -> None:
    with pytest.raises(IndexError, match="there is no line 42"):
        mark(TEXT, 42)


def test_a_credential_is_hidden_wherever_it_is_shown() -> None:
    lines = {number: f"secret {number}" for number in range(1, 7)}
    findings = [find(2, 4, sensitive=True, snippet="s*** 2"), find(6, sensitive=True), find(1, snippet="secret 1")]
    assert hide(lines, findings) == {1: "secret 1", 2: "s*** 2", 3: "***", 4: "***", 5: "secret 5", 6: "***"}


def test_two_credentials_on_one_line_hide_each_other() -> None:
    findings = [find(1, sensitive=True, snippet="a=*** b=2"), find(1, sensitive=True, snippet="a=1 b=***")]
    assert hide({1: "a=1 b=2"}, findings) == {1: "***"}
    assert hide({1: "a=1"}, [findings[0], findings[0]]) == {1: "a=*** b=2"}


def test_a_finding_in_no_readable_file_has_empty_marks() -> None:
    marks = gather(find(3), {}, {})
    assert (marks.line_hash, marks.context_start, marks.context) == ("", 3, ())
    assert len(marks.code_hash) == 32
