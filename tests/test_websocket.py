"""The stream over a WebSocket: who hears what, in which order, and when it ends."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import models
from django.utils import timezone
from knox.models import AuthToken

from audit import relay, subscriptions
from audit.changes import change_set
from audit.models import Revision
from audit.permissions import grant, revoke
from tests.admin_client import sign_in
from tests.factories import make_persona, make_rule, make_user
from tests.live import serving
from tests.rest import last_change, revision

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server():
    with serving() as running:
        yield running


def token_of(user) -> str:
    return AuthToken.objects.create(user)[1]


@pytest.fixture
def viewer():
    return make_user("viewer")


def change(rule, **fields):
    for name, value in fields.items():
        setattr(rule, name, value)
    rule.save()


def test_a_change_arrives_as_it_stands_in_the_journal(server, viewer):
    socket = server.hello(token_of(viewer))
    assert (socket.epoch, socket.revision) == (str(Revision.objects.get().epoch), revision())
    make_persona("calm", rule_types=[])
    row = last_change()
    assert socket.receive() == {
        "type": "change",
        "revision": row.revision,
        "change_type": "persona_created",
        "entity_type": "persona",
        "entity_id": "calm",
        "entity_name": "calm",
        "changed_by": "system",
        "created_at": row.created_at.isoformat(),
        "batch": str(row.batch),
    }


def test_a_change_set_that_is_rolled_back_is_not_told(server, viewer):
    socket = server.hello(token_of(viewer))
    with pytest.raises(RuntimeError), change_set():
        make_persona("never", rule_types=[])
        raise RuntimeError
    make_persona("calm", rule_types=[])
    assert socket.receive()["entity_name"] == "calm"


def test_who_comes_back_is_told_what_he_missed_and_then_goes_on(server, viewer):
    rule = make_rule(severity="low")
    start = revision()
    for severity in ("high", "low", "high"):
        change(rule, severity=severity)
    socket = server.hello(token_of(viewer))
    socket.resume(start)
    # The token that was made for the socket is not his to know of.
    assert [event["revision"] for event in socket.receive_many(3)] == [start + 1, start + 2, start + 3]
    change(rule, severity="low")
    assert socket.receive()["revision"] == revision()


def test_a_later_resume_begins_with_a_hello_that_says_where(server, viewer):
    rule = make_rule(severity="low")
    start = revision()
    change(rule, severity="high")
    socket = server.hello(token_of(viewer))
    socket.resume(revision())
    change(rule, severity="low")
    first = socket.receive()
    socket.resume(start)
    assert socket.receive() == {"type": "hello", "epoch": socket.epoch, "revision": start}
    assert [event["revision"] for event in socket.receive_many(2)] == [start + 1, first["revision"]]


def test_only_the_types_asked_for_are_told(server, viewer):
    rule = make_rule()
    socket = server.hello(token_of(viewer))
    socket.resume(socket.revision, filter_types=["rule_deleted", "persona_created"])
    change(rule, title="Another")
    make_persona("calm", rule_types=[])
    rule.delete()
    assert [event["change_type"] for event in socket.receive_many(2)] == ["persona_created", "rule_deleted"]


@pytest.mark.parametrize(
    ("moved", "epoch", "reason"),
    [(0, "5b4c1f0e-7a3d-4c9e-9d2a-6f1e8b7c0a11", "epoch"), (5, None, "future"), (-3, None, "too_old")],
)
def test_a_place_that_cannot_be_resumed_is_reset(server, viewer, monkeypatch, moved, epoch, reason):
    monkeypatch.setattr(subscriptions, "MAX_REPLAY", 2)
    rule = make_rule()
    socket = server.hello(token_of(viewer))
    socket.resume(socket.revision + moved, epoch)
    assert socket.receive() == {
        "type": "reset",
        "reason": reason,
        "epoch": socket.epoch,
        "revision": socket.revision,
    }
    change(rule, severity="low")
    assert socket.receive()["revision"] == socket.revision + 1


def test_a_new_epoch_resets_who_is_connected(server, viewer):
    socket = server.hello(token_of(viewer))
    socket.resume(socket.revision)
    new = uuid.uuid4()
    models.QuerySet(Revision).update(epoch=new)
    assert socket.receive() == {"type": "reset", "reason": "epoch", "epoch": str(new), "revision": socket.revision}
    make_persona("calm", rule_types=[])
    assert socket.receive()["entity_name"] == "calm"


def test_who_falls_behind_what_is_kept_reads_the_journal(server, viewer, monkeypatch):
    monkeypatch.setattr(relay, "RECENT", 2)
    monkeypatch.setattr(relay, "PAGE", 3)
    rule = make_rule()
    socket = server.hello(token_of(viewer))
    start = socket.revision
    for number in range(20):
        change(rule, title=f"Title {number}")
    socket.resume(start)
    revisions = [event["revision"] for event in socket.receive_many(20)]
    assert revisions == list(range(start + 1, start + 21))


def test_a_silent_stream_says_that_all_is_well(server, viewer, monkeypatch):
    monkeypatch.setattr(subscriptions.Subscription.next, "__defaults__", (0.05,))
    socket = server.hello(token_of(viewer))
    assert socket.receive() == {"type": "ping", "epoch": socket.epoch, "revision": socket.revision}


def test_an_account_hears_of_what_was_granted_to_it_alone(server):
    mine, other = make_rule(), make_rule()
    user = make_user()
    grant(action="view", holder=user, target=mine)
    socket = server.hello(token_of(user))
    change(other, severity="low")
    change(mine, severity="low")
    assert socket.receive()["entity_name"] == mine.name
    grant(action="view", holder=user, target=other)
    change(other, severity="high")
    assert socket.receive()["entity_name"] == other.name
    revoke(action="view", holder=user, target=other)
    change(other, severity="low")
    change(mine, severity="high")
    assert socket.receive()["entity_name"] == mine.name
    other.delete()
    change(mine, severity="low")
    assert socket.receive()["entity_name"] == mine.name


def test_accounts_and_rights_are_told_to_readers_of_the_journal_only(server, viewer):
    auditor = server.hello(token_of(make_user("auditor")))
    plain = server.hello(token_of(viewer))
    make_user(username="newcomer")
    make_persona("calm", rule_types=[])
    heard = []
    while not heard or heard[-1] != "persona_created":
        heard.append(auditor.receive()["change_type"])
    assert "user_created" in heard
    assert plain.receive()["change_type"] == "persona_created"


def test_a_role_taken_away_ends_the_stream(server, viewer):
    socket = server.hello(token_of(viewer))
    rule = make_rule()
    viewer.groups.clear()
    change(rule, severity="low")
    assert socket.expect_close() == 4403


def test_rights_taken_from_a_role_are_taken_from_who_is_connected(server, viewer):
    rule = make_rule()
    socket = server.hello(token_of(viewer))
    role = Group.objects.get(name="viewer")
    role.permissions.remove(role.permissions.get(codename="view_analysisrule"))
    change(rule, severity="low")
    make_persona("calm", rule_types=[])
    assert socket.receive()["change_type"] == "persona_created"


def test_what_is_replayed_is_judged_by_the_rights_of_today(server, viewer):
    rule = make_rule(severity="low")
    start = revision()
    change(rule, severity="high")
    make_persona("calm", rule_types=[])
    role = Group.objects.get(name="viewer")
    role.permissions.remove(role.permissions.get(codename="view_analysisrule"))
    socket = server.hello(token_of(viewer))
    socket.resume(start)
    assert socket.receive()["change_type"] == "persona_created"


def test_a_locked_account_hears_nothing_more(server, viewer):
    socket = server.hello(token_of(viewer))
    viewer.is_active = False
    viewer.save()
    assert socket.expect_close() == 4401


def test_a_revoked_token_ends_the_stream(server, viewer):
    socket, other = server.hello(token_of(viewer)), server.hello(token_of(viewer))
    AuthToken.objects.order_by("created").first().delete()
    assert socket.expect_close() == 4401
    make_persona("calm", rule_types=[])
    assert other.receive()["entity_name"] == "calm"


def test_a_token_that_expires_ends_the_stream(server, viewer):
    _, token = AuthToken.objects.create(viewer, expiry=timedelta(seconds=0.3))
    socket = server.hello(token)
    assert socket.expect_close() == 4401


def test_an_expired_token_is_refused(server, viewer):
    stored, token = AuthToken.objects.create(viewer)
    models.QuerySet(AuthToken).filter(digest=stored.digest).update(expiry=timezone.now() - timedelta(seconds=1))
    assert server.connect(token).expect_close() == 4401


@pytest.mark.parametrize("token", ["x" * 64, "", "é", "a b"])
def test_a_wrong_token_is_refused(server, token):
    assert server.connect(authorization=f"Bearer {token}").expect_close() == 4401


def test_who_has_no_rights_is_told_so(server):
    assert server.connect(token_of(make_user())).expect_close() == 4403


def test_a_token_may_be_shown_in_the_first_message(server, viewer):
    socket = server.connect(origin="http://testserver")
    socket.say(type="authenticate", token=token_of(viewer))
    assert socket.receive()["type"] == "hello"
    make_persona("calm", rule_types=[])
    assert socket.receive()["entity_name"] == "calm"


def test_a_stranger_is_not_listened_to(server):
    socket = server.connect()
    socket.say(type="resume", epoch="", since=0)
    assert socket.expect_close() == 4401


def test_a_browser_that_has_signed_in_listens(server, viewer):
    cookie = sign_in(viewer).cookies["sessionid"].value
    socket = server.hello(cookie=f"sessionid={cookie}", origin="http://testserver")
    make_persona("calm", rule_types=[])
    assert socket.receive()["entity_name"] == "calm"


def test_a_session_that_lasts_is_looked_at_again_and_goes_on(server, viewer, monkeypatch):
    monkeypatch.setattr(subscriptions.Subscription.next, "__defaults__", (0.05,))
    cookie = sign_in(viewer).cookies["sessionid"].value
    socket = server.hello(cookie=f"sessionid={cookie}", origin="http://testserver")
    assert [message["type"] for message in socket.receive_many(3)] == ["ping"] * 3
    make_persona("calm", rule_types=[])
    while (message := socket.receive())["type"] == "ping":
        pass
    assert message["entity_name"] == "calm"


def test_a_client_that_talks_on_after_the_end_is_let_go(server, viewer):
    socket = server.hello(token_of(viewer))
    for _ in range(30):
        socket.say_text("nonsense")
    assert socket.expect_close() == 4400


def test_signing_out_ends_the_stream(server, viewer, monkeypatch):
    monkeypatch.setattr(subscriptions.Subscription.next, "__defaults__", (0.05,))
    browser = sign_in(viewer)
    socket = server.hello(cookie=f"sessionid={browser.cookies['sessionid'].value}", origin="http://testserver")
    browser.logout()
    assert socket.expect_close() == 4401


def test_a_new_password_ends_the_sessions_that_listen(server, viewer):
    browser = sign_in(viewer)
    socket = server.hello(cookie=f"sessionid={browser.cookies['sessionid'].value}", origin="http://testserver")
    viewer.set_password("another horse, another battery")
    viewer.save()
    assert socket.expect_close() == 4401


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://testserver.evil.example"])
def test_pages_of_other_sites_cannot_listen_with_the_users_cookie(server, viewer, origin):
    cookie = sign_in(viewer).cookies["sessionid"].value
    assert server.connect(cookie=f"sessionid={cookie}", origin=origin).refused


def test_a_cookie_without_an_origin_does_not_count(server, viewer):
    cookie = sign_in(viewer).cookies["sessionid"].value
    socket = server.connect(cookie=f"sessionid={cookie}")
    socket.say(type="resume", epoch="", since=0)
    assert socket.expect_close() == 4401


def test_a_host_that_is_not_ours_is_refused(server, viewer):
    assert server.connect(token_of(viewer), host="evil.example").refused


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"type": "shout"}',
        '{"type": "resume", "epoch": 1, "since": 0}',
        '{"type": "resume", "epoch": "", "since": -1}',
        '{"type": "resume", "epoch": "", "since": true}',
        '{"type": "resume", "epoch": "", "since": 0, "filter_types": "all"}',
        "[" * 20_000,
    ],
)
def test_a_message_that_makes_no_sense_ends_the_stream(server, viewer, text):
    socket = server.hello(token_of(viewer))
    socket.say_text(text)
    assert socket.expect_close() == 4400


def test_there_are_no_other_sockets(server):
    assert server.open({"host": "testserver"}, "/ws/v1/other").refused
