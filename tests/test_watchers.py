"""Watchers in Python: every change in order, at least once, by one process, whatever their callbacks do."""

from __future__ import annotations

import asyncio
import queue
from datetime import timedelta

import pytest
from django.utils import timezone

from audit import leases, timers, watchers
from audit.leases import Lease, Lost, claim_turn
from audit.models import WatchCursor
from audit.watchers import start_watching, watch
from tests.factories import make_persona, make_rule
from tests.live import serving
from tests.rest import last_change, revision

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = 20


class Heard:
    """A callback that keeps what it is called with, and fails as often as `fail` says."""

    __qualname__ = "Heard"

    def __init__(self, fail: int = 0) -> None:
        self.changes, self.fail, self.calls = queue.SimpleQueue(), fail, 0

    def __call__(self, change):
        self.calls += 1
        if self.calls <= self.fail:
            raise ValueError("not yet")
        self.changes.put(change)

    def next(self):
        return self.changes.get(timeout=SECONDS)


@pytest.fixture(autouse=True)
def watchers_end():
    yield
    for watcher in list(watchers._watchers):
        watcher.stop()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(watchers, "BACK_OFF", (0.01,))
    monkeypatch.setattr(leases, "RETRY", 0.02)


@pytest.fixture
def watching():
    """Starts the watchers that were registered, and ends them."""
    started = []

    def start():
        started.append(start_watching())
        return started[-1]

    yield start
    for background in started:
        if background.running:
            background.stop()


def test_a_watcher_is_told_what_it_was_and_what_it_is(watching):
    rule = make_rule(severity="low")
    heard = Heard()
    watch(heard)
    watching()
    rule.severity = "high"
    rule.save()
    change = heard.next()
    assert (change.revision, change.change_type) == (revision(), "rule_updated")
    assert (change.entity_type, change.entity_id) == ("analysis_rule", str(rule.pk))
    assert (change.old["severity"], change.new["severity"]) == ("low", "high")
    assert change.changed_by == "system" and change.batch == last_change().batch


def test_a_filter_leaves_only_the_types_named(watching):
    heard = Heard()
    watch(heard, filter_types=["persona_deleted"])
    watching()
    make_rule()
    make_persona("calm", rule_types=[]).delete()
    change = heard.next()
    assert (change.change_type, change.old["name"], change.new) == ("persona_deleted", "calm", None)


def test_a_coroutine_function_is_awaited(watching):
    heard = queue.SimpleQueue()

    async def callback(change):
        await asyncio.sleep(0)
        heard.put(change.entity_name)

    watch(callback, filter_types=["persona_created"])
    watching()
    make_persona("calm", rule_types=[])
    assert heard.get(timeout=SECONDS) == "calm"


def test_a_callback_that_fails_is_asked_again_and_holds_up_nobody(watching, caplog):
    failing, patient = Heard(fail=3), Heard()
    watch(failing, name="failing", filter_types=["persona_created"])
    watch(patient, filter_types=["persona_created"])
    watching()
    for name in ("first", "second"):
        make_persona(name, rule_types=[])
    assert [patient.next().entity_name for _ in range(2)] == ["first", "second"]
    assert [failing.next().entity_name for _ in range(2)] == ["first", "second"]
    assert failing.calls == 5
    assert "watcher failing failed at revision" in caplog.text


def test_a_failure_is_told_by_the_stored_place(watching, monkeypatch):
    monkeypatch.setattr(watchers, "BACK_OFF", (0.01, 60))
    failing = Heard(fail=99)
    watch(failing, name="failing", filter_types=["persona_created"])
    watching()
    make_persona("calm", rule_types=[])
    while (place := WatchCursor.objects.get(name="failing")).failures < 2:
        pass
    assert (place.last_error, place.revision < revision()) == ("ValueError", True)


def test_a_named_watcher_goes_on_where_it_was(watching):
    heard = Heard()
    watch(heard, name="chat", filter_types=["persona_created"])
    start_watching().stop()
    make_persona("missed", rule_types=[])
    watching()
    make_persona("live", rule_types=[])
    assert [heard.next().entity_name for _ in range(2)] == ["missed", "live"]


def test_an_unnamed_watcher_begins_with_now(watching):
    heard = Heard()
    watch(heard, filter_types=["persona_created"])
    make_persona("before", rule_types=[])
    watching()
    make_persona("after", rule_types=[])
    assert heard.next().entity_name == "after"
    assert not WatchCursor.objects.exclude(name__startswith="timer:").exists()  # those are of timers


def test_of_two_processes_one_calls_and_the_other_takes_over(watching):
    heard = Heard()
    watch(heard, name="chat", filter_types=["persona_created"])
    first, _ = watching(), watching()
    make_persona("one", rule_types=[])
    assert heard.next().entity_name == "one"
    first.stop()
    make_persona("two", rule_types=[])
    assert heard.next().entity_name == "two"
    assert heard.changes.empty() and heard.calls == 2


def test_a_stopped_watcher_is_called_no_more(watching):
    stopped, other = Heard(), Heard()
    watcher = watch(stopped)
    watch(other, filter_types=["persona_created"])
    watching()
    watcher.stop()
    make_persona("calm", rule_types=[])
    other.next()
    assert stopped.calls == 0


def test_a_watcher_that_is_registered_late_is_started_too():
    with serving():
        heard = Heard()
        watch(heard, filter_types=["persona_created"])
        number = 0
        while heard.changes.empty():
            number += 1
            make_persona(f"calm-{number}", rule_types=[])
        assert heard.next().change_type == "persona_created"


def test_a_name_is_taken_once_and_a_filter_is_a_list():
    watch(Heard(), name="chat")
    with pytest.raises(ValueError, match="chat"):
        watch(Heard(), name="chat")
    with pytest.raises(TypeError, match="list"):
        watch(Heard(), filter_types="rule_updated")


def test_a_lease_is_held_by_one_until_it_runs_out():
    now = timezone.now()
    first, second = Lease("chat", clock=lambda: now), Lease("chat", clock=lambda: now)
    assert first.acquire() and not second.acquire() and first.acquire()
    later = Lease("chat", clock=lambda: now + timedelta(seconds=leases.LENGTH + 1))
    assert later.acquire()
    with pytest.raises(Lost):
        first.store_place(later.read_place())
    with pytest.raises(Lost):
        first.renew()
    later.release()
    assert second.acquire()


def test_a_new_cursor_begins_at_the_present_revision():
    make_rule()
    lease = Lease("chat")
    assert lease.acquire()
    assert lease.read_place().revision == revision()


def test_a_timer_is_run_once_in_its_time_over_all_processes():
    now = timezone.now()
    assert claim_turn("expiry", 60, now) and not claim_turn("expiry", 60, now + timedelta(seconds=59))
    assert claim_turn("expiry", 60, now + timedelta(seconds=60))


def test_registered_timers_are_run_beside_the_relay(monkeypatch, caplog):
    monkeypatch.setattr(timers, "_timers", {})
    done = queue.SimpleQueue()

    def fail():
        raise ValueError("no")

    timers.register_timer(fail, name="failing")
    timers.register_timer(lambda: done.put(1), name="working")
    with serving():
        assert done.get(timeout=SECONDS) == 1
    assert "timer failing failed" in caplog.text
