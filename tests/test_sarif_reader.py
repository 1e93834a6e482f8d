"""Is a SARIF document of somebody else's tool read as it is meant, and refused when it cannot be?"""

from __future__ import annotations

import json

import pytest

from plugins.analyzers.regions import BYTES, Regions
from plugins.analyzers.sarif_reader import CODE_POINTS, UTF_16, Region, Report, SarifError, read_report


def result(uri: str = "a.py", *, location: dict | None = None, region: dict | None = None, **fields: object) -> dict:
    physical = {"artifactLocation": location or {"uri": uri}, **({"region": region} if region else {})}
    place = {"locations": [{"physicalLocation": physical}]}
    return {"ruleId": "X1", "message": {"text": "Text."}, **place, **fields}


def document(*results: object, **run: object) -> bytes:
    return json.dumps({"version": "2.1.0", "runs": [{"results": list(results), **run}]}).encode()


def read(*results: object, **run: object) -> Report:
    return read_report(document(*results, **run))


def locate(uri: str, **run: object) -> bytes | None:
    return read(result(uri), **run).results[0].location


# ---- documents


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"no findings\n", "no JSON"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"null", "no object"),
        (b"[]", "no object"),
        (b"{}", "no SARIF 2.1"),
        (b'{"version": "1.0.0", "runs": []}', "no SARIF 2.1"),
        (b'{"version": "2.1.0"}', "no runs"),
        (b'{"version": "2.1.0", "runs": []}', "no runs"),
        (b'{"version": "2.1.0", "runs": {"results": []}}', "no runs"),
        (b'{"version": "2.1.0", "runs": [1]}', "no object"),
        (b'{"version": "2.1.0", "runs": [{}]}', "no list of results"),
        (b'{"version": "2.1.0", "runs": [{"results": null}]}', "no list of results"),
        (b'{"version": "2.1.0", "runs": [{"results": ["x"]}]}', "no object"),
        (b'{"version": "2.1.0", "runs": [{"results": [{}]}]}', "says nothing"),
        (b'{"version": "2.1.0", "runs": [{"results": []}]} and more', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a": ' * 100_000, "no JSON"),
        (b"1" * 10_000, "no JSON"),
    ],
)
def test_document_that_says_nothing_is_refused(content, complaint):
    with pytest.raises(SarifError, match=complaint):
        read_report(content)


def test_no_beginning_of_a_document_is_taken_for_the_whole():
    whole = document(result(region={"startLine": 2}))
    for length in range(len(whole)):
        with pytest.raises(SarifError):
            read_report(whole[:length])
    assert len(read_report(b"\xef\xbb\xbf" + whole + b"\n").results) == 1


@pytest.mark.parametrize("junk", [None, 1, "x", [], [1], {}, [{}], True, {"text": 1}])
@pytest.mark.parametrize("name", ["locations", "message", "rule", "suppressions", "properties", "ruleIndex", "kind"])
def test_junk_where_nothing_is_needed_is_passed_over(name, junk):
    read(result(**{name: junk}), tool=junk, artifacts=junk, invocations=junk, originalUriBaseIds=junk, columnKind=junk)


def test_rule_is_found_by_id_by_reference_or_by_index():
    rules = {"driver": {"rules": [{"id": "A"}, {"id": "B", "messageStrings": {"m": {"text": "Got {0} and {1}."}}}]}}
    found = read(
        result(ruleId="C"),
        result(ruleId=None, rule={"id": "D"}),
        result(ruleId=None, ruleIndex=1, message={"id": "m", "arguments": ["one", 2]}),
        result(ruleId=None, rule={"index": 0}),
        tool=rules,
    )
    assert [each.code for each in found.results] == ["C", "D", "B", "A"]
    assert found.results[2].message == "Got one and 2."
    assert [each.code for each in read(result(ruleId=None)).results] == [""]


def test_results_that_do_not_stand_are_left_out():
    suppressed = [{"kind": "inSource"}]
    found = read(
        result(ruleId="accepted", suppressions=suppressed),
        result(ruleId="rejected", suppressions=[{"kind": "external", "status": "rejected"}]),
        result(ruleId="open", suppressions=[]),
        result(ruleId="passed", kind="pass"),
        result(ruleId="elsewhere", kind="notApplicable"),
        result(ruleId="gone", baselineState="absent"),
        result(ruleId="level", level="none"),
    )
    assert [each.code for each in found.results] == ["rejected", "open", "level"]
    assert found.listed == 7


def test_several_runs_are_read_together():
    runs = [{"results": [result(ruleId=name)]} for name in "AB"]
    report = read_report(json.dumps({"version": "2.1.0", "runs": runs}).encode())
    assert [each.code for each in report.results] == ["A", "B"]


def test_notices_are_read_and_notes_are_not():
    place = result("file:///src/bad.py")["locations"]
    invocation = {
        "executionSuccessful": True,
        "toolConfigurationNotifications": [{"message": {"text": "syntax error"}, "locations": place}],
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": "crash"}},
            {"level": "note", "message": {"text": "chatter"}},
        ],
    }
    notices = read(invocations=[invocation]).notices
    assert [(each.message, each.location) for each in notices] == [("syntax error", b"/src/bad.py"), ("crash", None)]


def test_run_that_says_it_failed_is_a_notice():
    invocation = {"executionSuccessful": False, "exitCodeDescription": "out of memory"}
    assert "out of memory" in read(invocations=[invocation]).notices[0].message


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("file:///a/b.py", b"/a/b.py"),
        ("file:/a/b.py", b"/a/b.py"),
        ("file://localhost/a/b.py", b"/a/b.py"),
        ("FILE:///a/b.py", b"/a/b.py"),
        ("file://elsewhere/a/b.py", None),
        ("file:///a%20b/%C3%A4%0A%23%3F%FF.py", b"/a b/\xc3\xa4\n#?\xff.py"),
        ("file:///a/./c/../b.py", b"/a/b.py"),
        ("file:////a//b.py", b"/a/b.py"),
        ("a/b.py", b"a/b.py"),
        ("./a/b.py", b"a/b.py"),
        ("a/../../b.py", b"../b.py"),
        ("a:b/c.py", None),
        ("https://example.org/a.py", None),
        ("untitled:1", None),
        ("file:///a%00.py", None),
        ("", None),
    ],
)
def test_addresses_become_paths(uri, location):
    assert locate(uri) == location


def test_base_addresses_hang_on_each_other():
    bases = {
        "ROOT": {"uri": "file:///home/me/"},
        "SRC": {"uri": "my%20project", "uriBaseId": "ROOT"},
        "LOOP": {"uri": "x/", "uriBaseId": "LOOP"},
        "OPEN": {"description": "no address"},
    }

    def place(base: str) -> bytes | None:
        return read(result(location={"uri": "a.py", "uriBaseId": base}), originalUriBaseIds=bases).results[0].location

    assert place("SRC") == b"/home/me/my project/a.py"
    assert place("OPEN") == place("UNKNOWN") == b"a.py"
    assert place("LOOP").endswith(b"x/a.py")


def test_artifact_may_be_named_by_its_index():
    artifacts = [{"location": {"uri": "x.py"}}, {"location": {"uri": "y.py"}}]
    assert read(result(location={"index": 1}), artifacts=artifacts).results[0].location == b"y.py"
    assert read(result(location={"index": 7}), artifacts=artifacts).results[0].location is None


def test_numbers_that_are_none_are_no_numbers():
    region = {"startLine": "3", "startColumn": True, "endLine": 4.0, "endColumn": 1.5}
    assert read(result(region=region)).results[0].region == Region(None, None, 4, None)


# ---- places


def place(content: str | bytes, *numbers: int | None, unit: str = CODE_POINTS) -> tuple[int, int, int, int]:
    regions = Regions("a.py", content.encode() if isinstance(content, str) else content)
    return regions.place(regions.span(Region(*numbers), unit))


TEXT = "first line\nsecond line\nthird\n"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((), (1, 1, 1, 1)),
        ((0, 5, 0, 9), (1, 1, 1, 1)),
        ((2,), (2, 1, 2, 12)),
        ((2, 8), (2, 8, 2, 12)),
        ((2, 0, 0, 0), (2, 1, 2, 12)),
        ((2, 8, None, 10), (2, 8, 2, 10)),
        ((2, 8, 2, 8), (2, 8, 2, 8)),
        ((2, 8, 3), (2, 8, 3, 6)),
        ((2, 8, 3, 1), (2, 8, 3, 1)),
        ((2, 8, 3, 0), (2, 8, 3, 6)),
        ((2, 8, 1, 1), (2, 8, 2, 8)),
        ((2, 8, 2, 3), (2, 8, 2, 8)),
        ((2, 99, 2, 999), (2, 12, 2, 12)),
        ((2, 1, 99, 5), (2, 1, 4, 1)),
        ((99, 3, 99, 5), (4, 1, 4, 1)),
        ((-3, -3, -3, -3), (1, 1, 1, 1)),
        ((10**30, 10**30, 10**30, 10**30), (4, 1, 4, 1)),
    ],
)
def test_place_is_always_one_in_the_file(numbers, expected):
    assert place(TEXT, *numbers) == expected


@pytest.mark.parametrize(
    ("unit", "columns"), [(CODE_POINTS, (6, 8)), (UTF_16, (7, 9)), (BYTES, (10, 12)), ("unheard of", (6, 8))]
)
def test_columns_are_counted_in_the_unit_of_the_tool(unit, columns):
    text = "x\nä😀'='ok + 1\n"
    assert place(text, 2, columns[0], 2, columns[1], unit=unit) == (2, 6, 2, 8)


def test_column_inside_a_character_is_that_of_the_character():
    assert place("😀x\n", 1, 2, 1, 6, unit=BYTES) == (1, 1, 1, 3)
    assert place("😀x\n", 1, 2, 1, 4, unit=UTF_16) == (1, 2, 1, 3)


@pytest.mark.parametrize("content", [b"", b"\n", b"x", b"\xef\xbb\xbfx = 1\r\n", b"\xff\xe4\n\x80"])
def test_file_of_any_content_has_places(content):
    for unit in (CODE_POINTS, UTF_16, BYTES):
        for line in range(4):
            for column in range(4):
                found = place(content, line, column, line, column + 1, unit=unit)
                assert min(found) >= 1
                assert found[:2] <= found[2:]
                assert found[2] <= content.count(b"\n") + 1


def test_line_ends_and_byte_order_mark_do_not_move_columns():
    assert place(b"\xef\xbb\xbfab\r\ncd\r\n", 1, 2, 2, 2) == (1, 2, 2, 2)


def test_carriage_return_alone_ends_a_line_of_the_tool_and_none_of_ours():
    assert place(b"ab\rcd\nef\n", 2, 1, 2, 3) == (1, 4, 1, 6)
    assert place(b"ab\rcd\nef\n", 3, 1, 3, 3) == (2, 1, 2, 3)


def test_snippet_is_the_first_line():
    regions = Regions("a.py", TEXT.encode())
    assert regions.snippet(regions.span(Region(2, 8, 3, 2), CODE_POINTS)) == "second line"
    assert len(Regions("a.py", b"x" * 5000).snippet((2000, 2001))) <= 300
