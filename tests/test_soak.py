"""The soak would notice: changes lost, doubled or out of order, and errors in the log."""

from __future__ import annotations

from tests.faults.soak import find_errors, judge_order


def test_sockets_that_got_everything_once_and_in_order_are_well():
    assert judge_order([[1, 2, 3], [2, 3]], {2, 3}) == []


def test_lost_doubled_and_swapped_changes_are_told_by_socket():
    assert judge_order([[1, 3]], {1, 2, 3}) == ["socket 0: 1 changes were lost, the first is 2"]
    assert judge_order([[1], [1, 1]], {1}) == ["socket 1: 1 changes came twice"]
    assert judge_order([[2, 1]], {1, 2}) == ["socket 0: changes came out of order"]


def test_errors_and_tracebacks_in_the_log_are_found(tmp_path):
    log = tmp_path / "log"
    log.write_text('{"level": "INFO", "message": "fine"}\n{"level": "ERROR", "message": "bad"}\nTraceback (most\n')
    assert len(find_errors(log)) == 2
