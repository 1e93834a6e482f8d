"""What do /metrics, /readyz and the log tell of those who follow the changes, while they do?"""

from __future__ import annotations

import logging

import pytest
from knox.models import AuthToken

from audit import consumers, watchers
from audit.log import RequestIdFilter
from tests.factories import make_persona, make_user
from tests.live import serving
from tests.rest import revision
from tests.test_observation import count, read

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def token() -> str:
    return AuthToken.objects.create(make_user("viewer", username="vera"))[1]


def test_sockets_and_changes_passed_on_are_counted(settings, token):
    before = read(settings)
    with serving() as server:
        socket, stream = server.hello(token), server.listen(token)
        assert stream.block().startswith("retry")
        assert stream.event()[1] == "hello"
        make_persona("calm", rule_types=[])
        assert socket.receive()["entity_name"] == stream.event()[2]["entity_name"] == "calm"
        figures = read(settings)
        assert grown(before, figures, "websocket") == grown(before, figures, "sse") == 1
        name = "governance_propagation_seconds_count"
        assert count(figures, name) > count(before, name)
        assert count(figures, "governance_relay_revision") == revision()
        assert count(figures, "governance_revision_lag") == 0
        socket.leave()
        stream.leave()
        left = read(settings)
        assert grown(before, left, "websocket") == grown(before, left, "sse") == 0
    assert ("governance_revision_lag",) not in read(settings)


def grown(before, after, kind) -> float:
    return count(after, "governance_subscribers", kind=kind) - count(before, "governance_subscribers", kind=kind)


def test_a_refused_socket_is_no_subscription(settings):
    before = read(settings)
    with serving() as server:
        server.connect("nobodystoken").expect_close()
        assert grown(before, read(settings), "websocket") == 0


def test_a_socket_that_the_server_fails_is_counted_no_more_and_named_in_the_log(settings, token, monkeypatch, caplog):
    async def fail(*args, **kwargs):
        raise RuntimeError("a mistake")

    caplog.handler.addFilter(RequestIdFilter())
    before = read(settings)
    monkeypatch.setattr(consumers.ChangesConsumer, "_stream_until_asked", fail)
    with serving() as server, caplog.at_level(logging.ERROR):
        server.connect(token, **{"x-request-id": "handshake-4711"}).expect_close()
        assert grown(before, read(settings), "websocket") == 0
    (line,) = [each for each in caplog.records if "mistake of the server" in each.message]
    assert (line.request_id, line.user) == ("handshake-4711", "vera")


def test_watchers_are_counted_while_they_follow(settings):
    before, heard = read(settings), []
    with serving() as server:
        watcher = watchers.watch(heard.append)
        try:
            server.do(ready(server))
            assert grown(before, read(settings), "watcher") == 1
        finally:
            watcher.stop()
    assert grown(before, read(settings), "watcher") == 0


async def ready(server) -> None:
    for watching in [each for each in watchers._running if each._relay is server.relay]:
        await watching.wait_ready()
