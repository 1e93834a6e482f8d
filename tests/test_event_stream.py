"""The stream as server-sent events: the same messages, resumed by the id of the last event."""

from __future__ import annotations

import json
import uuid

import pytest
from knox.models import AuthToken

from audit import subscriptions
from audit.models import Revision
from tests.admin_client import sign_in
from tests.factories import api_client, make_persona, make_rule, make_user
from tests.live import serving
from tests.rest import expect_problem, revision

pytestmark = pytest.mark.django_db(transaction=True)
CHANGES = "/api/v1/config/changes"


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def token():
    return AuthToken.objects.create(make_user("viewer"))[1]


def begin(stream):
    """The greeting of a stream that was just opened."""
    assert stream.status == 200
    assert stream.block() == "retry: 1000"
    identity, kind, message = stream.event()
    assert kind == "hello"
    return identity, message


def test_changes_arrive_as_events_with_their_place_as_id(server, token):
    stream = server.listen(token)
    identity, message = begin(stream)
    epoch = str(Revision.objects.get().epoch)
    assert (identity, message) == (
        f"{epoch}-{revision()}",
        {"type": "hello", "epoch": epoch, "revision": revision()},
    )
    make_persona("calm", rule_types=[])
    identity, kind, message = stream.event()
    assert (identity, kind, message["entity_name"]) == (f"{epoch}-{revision()}", "change", "calm")
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.headers["cache-control"] == "no-store"


def test_the_id_of_the_last_event_resumes_the_stream(server, token):
    rule = make_rule(severity="low")
    place = f"{Revision.objects.get().epoch}-{revision()}"
    rule.severity = "high"
    rule.save()
    make_persona("calm", rule_types=[])
    stream = server.listen(token, "filter_types=rule_updated,persona_created", last_event_id=place)
    assert begin(stream)[0] == place
    assert [stream.event()[2]["change_type"] for _ in range(2)] == ["rule_updated", "persona_created"]


def test_an_id_of_another_history_is_reset(server, token):
    stream = server.listen(token, last_event_id=f"{uuid.uuid4()}-1")
    stream.block()
    identity, kind, message = stream.event()
    assert (kind, message["reason"], message["revision"]) == ("reset", "epoch", revision())
    assert identity == f"{message['epoch']}-{revision()}"


def test_only_the_types_asked_for_are_sent(server, token):
    stream = server.listen(token, "filter_types=persona_created")
    begin(stream)
    make_rule()
    make_persona("calm", rule_types=[])
    assert stream.event()[2]["change_type"] == "persona_created"


def test_a_heartbeat_moves_the_place_past_what_may_not_be_seen(server, token, monkeypatch):
    monkeypatch.setattr(subscriptions.Subscription.next, "__defaults__", (0.3,))
    stream = server.listen(token)
    _, greeting = begin(stream)
    make_user(username="newcomer")
    while (block := stream.block()) == f": ping\nid: {greeting['epoch']}-{greeting['revision']}":
        pass
    assert block == f": ping\nid: {greeting['epoch']}-{revision()}"


def test_a_session_listens_and_is_ended_with_the_account(server):
    user = make_user("viewer")
    stream = server.listen(cookie=f"sessionid={sign_in(user).cookies['sessionid'].value}")
    begin(stream)
    user.is_active = False
    user.save()
    assert stream.event() == ("", "end", {"type": "end", "code": 4401})


def test_many_listeners_hold_no_connection_of_the_pool(server, token):
    streams = [server.listen(token) for _ in range(12)]
    for stream in streams:
        begin(stream)
    make_persona("calm", rule_types=[])
    assert [stream.event()[2]["entity_name"] for stream in streams] == ["calm"] * 12


def test_who_may_not_listen_is_told_why(client):
    assert client.get(CHANGES).status_code == 401
    expect_problem(api_client(make_user()).get(CHANGES), 403, "forbidden")
    viewer = api_client(make_user("viewer"))
    expect_problem(viewer.get(f"{CHANGES}?filter=x"), 400, "invalid", "#/filter")
    for wrong in ("7", "epoch-", "epoch-x", f"epoch-{2**63}"):
        problem = viewer.get(CHANGES, headers={"Last-Event-ID": wrong})
        expect_problem(problem, 400, "invalid", "#/Last-Event-ID")
    assert viewer.post(CHANGES, json.dumps({})).status_code == 405
