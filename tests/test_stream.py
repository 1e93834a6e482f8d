"""The journal as a stream: pages without gaps, and what wakes those who follow it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from django.conf import settings
from django.db import connection

from audit import hints, readiness, relay, wakeups
from audit.changes import change_set
from audit.errors import Busy
from audit.stream import changes_since, current_revision, read_position
from personas.models import Persona
from tests.factories import make_persona, make_rule, make_user
from tests.live import serving
from tests.rest import revision
from tests.test_websocket import token_of

pytestmark = pytest.mark.django_db(transaction=True)
NOBODY = "redis://127.0.0.1:1/0"  # where no Redis answers


async def nothing(hint):
    await asyncio.sleep(3600)


@pytest.fixture
def hints_only(monkeypatch):
    """The relay does not look by itself: only what wakes it brings a change."""
    monkeypatch.setattr(relay, "SAFETY", 3600)


@pytest.fixture
def redis_wakes(settings, monkeypatch):
    if not settings.REDIS_URL:
        pytest.skip("needs Redis")
    settings.WAKE_UP = "redis"
    monkeypatch.setattr(hints, "_paused_until", 0.0)


def expect_changes(server, count=3):
    socket = server.hello(token_of(make_user("viewer")))
    for number in range(count):
        make_persona(f"calm-{number}", rule_types=[])
        assert socket.receive()["entity_name"] == f"calm-{number}"


def test_a_page_of_the_journal_is_in_order_and_whole():
    rule = make_rule()
    start = revision()
    for number in range(5):
        rule.title = f"Title {number}"
        rule.save()
    assert [event.revision for event in changes_since(start, 3)] == [start + 1, start + 2, start + 3]
    assert changes_since(start + 5) == []
    assert read_position().revision == current_revision() == start + 5


def test_the_database_wakes_the_relay(hints_only):
    with serving() as server:
        expect_changes(server)


def test_redis_wakes_the_relay_where_sessions_cannot_listen(hints_only, redis_wakes):
    with serving() as server:
        expect_changes(server)


def test_without_redis_changes_are_committed_at_once_and_arrive_later(redis_wakes, settings, monkeypatch, caplog):
    settings.REDIS_URL = NOBODY
    monkeypatch.setattr(relay, "SAFETY", 0.05)
    with serving() as server:
        expect_changes(server)
        parts = {part["name"]: part["detail"] for part in readiness.find_degraded()}
        assert parts["wakeups"].startswith("Announcements in Redis are not heard")
    assert "wakeups" not in {part["name"] for part in readiness.find_degraded()}
    assert caplog.text.count("changes are not announced in Redis") == 1
    assert caplog.text.count("announcements in Redis are not heard") == 1


def test_a_lost_hint_is_made_up_for_by_looking(monkeypatch):
    monkeypatch.setattr(relay, "watch_commits", nothing)
    monkeypatch.setattr(relay, "SAFETY", 0.05)
    with serving() as server:
        expect_changes(server)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite is asked, not listened to")
def test_a_listener_whose_session_is_ended_listens_again(hints_only, caplog):
    with serving() as server:
        expect_changes(server, 1)
        for _ in range(3):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'governance listener' AND datname = current_database()"
                )
            Persona.objects.all().delete()
            expect_changes(server, 1)


def test_the_relay_goes_on_after_the_database_was_away(monkeypatch, caplog):
    monkeypatch.setattr(relay, "SAFETY", 0.05)
    failures = iter(range(3))
    reading = relay._read_news

    def fail_at_first(*arguments):
        if next(failures, None) is not None:
            raise relay.DatabaseError("gone")
        return reading(*arguments)

    with serving() as server:
        monkeypatch.setattr(relay, "_read_news", fail_at_first)
        expect_changes(server)
    assert caplog.text.count("the journal cannot be read") == 1


def test_concurrent_writers_are_followed_without_gap_repeat_or_disorder():
    start = revision()

    def write(own):
        try:
            for step in range(25):
                try:
                    with change_set():
                        make_persona(f"{own}-{step}", rule_types=[])
                        make_persona(f"{own}-{step}-b", rule_types=[])
                        if step % 5 == 0:
                            raise ValueError
                except (ValueError, Busy):
                    pass
        finally:
            connection.close()

    token = token_of(make_user(superuser=True))
    with serving() as server:
        sockets = [server.hello(token) for _ in range(3)]
        for socket in sockets:
            socket.resume(start)
        writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        end = revision()
        for socket in sockets:
            assert [event["revision"] for event in socket.receive_many(end - start)] == list(range(start + 1, end + 1))


def test_nobody_who_is_slow_holds_up_others_or_memory(monkeypatch):
    """A socket that takes nothing has no queue: it comes back to the journal when it reads again."""
    monkeypatch.setattr(relay, "RECENT", 5)
    monkeypatch.setattr(relay, "PAGE", 5)
    token = token_of(make_user("viewer"))
    with serving() as server:
        slow, quick = server.hello(token), server.hello(token)
        start = slow.revision
        server.do(slow.hold())
        for number in range(40):
            make_persona(f"calm-{number}", rule_types=[])
        assert quick.receive_many(40)[-1]["revision"] == start + 40
        assert len(server.relay._recent) <= 10
        assert slow.silent
        server.do(slow.release())
        assert [event["revision"] for event in slow.receive_many(40)] == list(range(start + 1, start + 41))


def test_writers_do_not_wait_for_a_redis_that_is_away(redis_wakes, settings):
    settings.REDIS_URL = NOBODY
    make_persona("first", rule_types=[])
    assert hints._paused_until > time.monotonic()


def test_a_session_that_listens_is_told_apart_and_is_no_pooled_one():
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL")
    parameters = wakeups._session_parameters()
    assert parameters["application_name"] == "governance listener"
    assert parameters["dbname"] == connection.settings_dict["NAME"]
    assert "pool" not in parameters and settings.WAKE_UP == "database"
