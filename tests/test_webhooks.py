"""Webhooks: every change reaches its receiver signed and in order, and nothing else reaches anybody."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import socket
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.utils import timezone

from audit.changes import Origin, originating
from audit.encryption import key_id
from audit.leases import Lease
from audit.models import ConfigurationAuditLog, Revision, WatchCursor
from audit.watchers import start_watching
from overrides import posting, webhook_relay, webhooks
from overrides.models import DeliveryStatus, Webhook, WebhookDelivery
from overrides.posting import Outcome, is_public, post, resolve
from overrides.webhooks import MAX_ATTEMPTS, deliver_pending, list_due
from tests.admin_client import address, errors, read_form, sign_in, submit
from tests.factories import api_client, make_governance_rule, make_rule, make_user, make_webhook
from tests.rest import CONFIG, expect_problem, last_change, names, revision

pytestmark = pytest.mark.django_db
WEBHOOKS = f"{CONFIG}/webhooks"
SECRET = "a long and secret word"
SECONDS = 20
NEW = {"name": "chat", "url": "https://chat.example.com/hook?room=1", "secret": SECRET}


class Receiver:
    """An HTTP server that keeps what it gets, and answers with the statuses of `answers`, then with 204."""

    def __init__(self):
        self.requests, self.answers, self.headers = queue.SimpleQueue(), [], {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.put((self.path, dict(self.headers), body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self):
        return self.requests.get(timeout=SECONDS)

    def all(self):
        found = []
        while not self.requests.empty():
            found.append(self.requests.get())
        return found

    def revisions(self):
        return [json.loads(body)["revision"] for _, _, body in self.all()]


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def private(settings):
    settings.WEBHOOK_PRIVATE = settings.WEBHOOK_HTTP = True


@pytest.fixture
def hook(receiver, private):
    return make_webhook(url=receiver.url, secret=SECRET)


def verify(headers, body, secret=SECRET):
    """As a receiver does it."""
    at, digest = (part.partition("=")[2] for part in headers["X-Governance-Signature"].split(","))
    expected = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest, expected), int(at)


def later(**delta):
    return lambda: timezone.now() + timedelta(**delta)


def fail(*args, **kwargs):
    return Outcome(500, 0.1, "It answered 500.")


def take(*args, **kwargs):
    return Outcome(204, 0.1)


def test_a_change_is_delivered_signed_and_masked(hook, receiver):
    rule = make_rule(severity="high")
    before = revision()
    rule.severity = "low"
    with originating(Origin(user=make_user("administrator", username="ada"), reason="calmer")):
        rule.save()
    now = timezone.now()
    deliver_pending(hook.pk, clock=lambda: now)
    path, headers, body = receiver.all()[-1]
    genuine, at = verify(headers, body)
    assert genuine and at == int(now.timestamp())
    assert not verify(headers, body + b" ")[0] and not verify(headers, body, "another long secret")[0]
    change, event = last_change(), json.loads(body)
    assert change.revision > before and path == "/hook?a=1"
    assert (headers["X-Governance-Event"], event["type"]) == ("rule_updated", "change")
    assert headers["X-Governance-Delivery"] == f"{change.revision}-{hook.pk}"
    assert (event["revision"], event["entity_id"]) == (change.revision, str(rule.pk))
    assert (event["old"]["severity"], event["new"]["severity"]) == ("high", "low")
    assert (event["changed_by"], event["change_reason"]) == ("ada", "calmer")


def test_changes_come_in_order_once_and_none_from_before(receiver, private):
    make_rule()
    hook = make_webhook(url=receiver.url)
    start = revision()
    for _ in range(3):
        make_rule()
    assert list_due(timezone.now()) == [hook.pk]
    assert deliver_pending(hook.pk) == revision() - start
    assert receiver.revisions() == list(range(start + 1, revision() + 1))
    assert list_due(timezone.now()) == [] and deliver_pending(hook.pk) == 0


def test_more_changes_than_a_page_are_delivered_in_one_go(hook, receiver, monkeypatch):
    monkeypatch.setattr(webhooks, "PAGE", 2)
    monkeypatch.setattr("audit.watchers.PAGE", 2)
    start = revision()
    for _ in range(5):
        make_rule()
    deliver_pending(hook.pk)
    assert receiver.revisions() == list(range(start + 1, revision() + 1))


def test_filters_leave_out_what_is_not_asked_for(receiver, private):
    by_change = make_webhook("by-change", url=receiver.url, filter_types=["rule_updated"])
    by_kind = make_webhook("by-kind", url=receiver.url, entity_types=["persona"])
    rule = make_rule()
    rule.severity = "low"
    rule.save()
    deliver_pending(by_change.pk)
    assert [headers["X-Governance-Event"] for _, headers, _ in receiver.all()] == ["rule_updated"]
    assert deliver_pending(by_kind.pk) == 0
    assert list_due(timezone.now()) == []


def test_after_a_failure_it_is_tried_again_later_and_the_order_stays(hook, receiver):
    start = revision()
    make_rule()
    make_rule()
    receiver.answers = [500]
    assert deliver_pending(hook.pk) == 0
    delivery = hook.deliveries.get()
    assert (delivery.status, delivery.attempts, delivery.response_code) == (DeliveryStatus.PENDING, 1, 500)
    assert receiver.revisions() == [start + 1]
    assert deliver_pending(hook.pk) == 0 and receiver.revisions() == []  # not yet
    assert list_due(timezone.now()) == [] and list_due(later(seconds=11)()) == [hook.pk]
    deliver_pending(hook.pk, clock=later(seconds=11))
    assert receiver.revisions() == list(range(start + 1, revision() + 1))
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts, delivery.error) == (DeliveryStatus.DELIVERED, 2, "")


def test_delays_double_up_to_an_hour():
    assert [webhooks.find_delay(count).total_seconds() for count in (1, 2, 3, 9, 10, 14)] == [
        *(10, 20, 40, 2560, 3600, 3600)
    ]


def test_a_webhook_that_fails_holds_up_no_other(hook, receiver):
    other = make_webhook("other", url=receiver.url)
    make_rule()
    deliver_pending(hook.pk, send=fail)
    assert deliver_pending(other.pk) > 0


def test_a_changed_webhook_is_tried_at_once(hook):
    make_rule()
    past = timezone.now() - timedelta(seconds=1)
    deliver_pending(hook.pk, send=fail, clock=lambda: past)
    hook.refresh_from_db()
    hook.url = "http://127.0.0.1:9/other"
    hook.save()
    assert list_due(timezone.now()) == [hook.pk]
    assert deliver_pending(hook.pk, send=take) > 0


def fail_until_given_up(hook, send=fail):
    for hours in range(MAX_ATTEMPTS):
        deliver_pending(hook.pk, send=send, clock=later(hours=2 * hours))


def test_after_many_failures_the_system_switches_it_off_in_the_journal(hook):
    make_rule()
    missed = hook.version + 1
    fail_until_given_up(hook)
    hook.refresh_from_db()
    assert not hook.enabled
    change = last_change()
    assert (change.change_type, change.entity_id, change.changed_by) == ("webhook_updated", "hook", "system")
    assert change.change_reason == f"{webhooks.GIVEN_UP} (revision {missed})"
    delivery = hook.deliveries.get()
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.FAILED, MAX_ATTEMPTS)
    assert list_due(later(days=2)()) == []


def test_switched_on_again_it_goes_on_where_it_stopped(hook, receiver):
    make_rule()
    missed = hook.version + 1
    fail_until_given_up(hook)
    hook.refresh_from_db()
    hook.enabled = True
    hook.save()
    deliver_pending(hook.pk)
    assert receiver.revisions() == list(range(missed, revision() + 1))


def test_a_refused_switching_off_is_tried_again(hook):
    governing = make_governance_rule(
        condition="new == null || new.enabled",
        applies_to={"entity_types": ["webhook"], "change_types": []},
        examples={"pass": [{"new": {"enabled": True}}], "fail": [{"new": {"enabled": False}}]},
    )
    fail_until_given_up(hook)
    hook.refresh_from_db()
    assert hook.enabled and hook.deliveries.get().status == DeliveryStatus.PENDING
    governing.delete()
    deliver_pending(hook.pk, send=fail, clock=later(days=3))
    hook.refresh_from_db()
    assert not hook.enabled


def test_a_redirect_is_not_followed(hook, receiver):
    make_rule()
    receiver.answers, receiver.headers = [302], {"Location": receiver.url}
    deliver_pending(hook.pk)
    delivery = hook.deliveries.get()
    assert (delivery.response_code, delivery.status) == (302, DeliveryStatus.PENDING)
    assert "redirect" in delivery.error and len(receiver.all()) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://[::1]:8/", "http://169.254.169.254/", "http://10.0.0.1/"])
def test_an_address_that_is_not_public_is_refused_when_it_is_set_and_when_it_is_used(settings, url):
    settings.WEBHOOK_HTTP = True
    body = {**NEW, "url": url}
    expect_problem(api_client(make_user("administrator")).post(WEBHOOKS, body), 400, "invalid", "#/url")
    outcome = post(url, b"{}", {}, private=False, http_allowed=True)
    assert not outcome.delivered and "not public" in outcome.error and outcome.code is None


def test_a_name_that_leads_to_this_machine_is_refused(receiver, settings):
    settings.WEBHOOK_HTTP = True
    hook = make_webhook(url=receiver.url.replace("127.0.0.1", "localhost"))
    make_rule()
    deliver_pending(hook.pk)
    assert "not public" in hook.deliveries.get().error and receiver.all() == []


def test_one_private_address_among_public_ones_is_refused(monkeypatch):
    found = [(0, 0, 0, "", (each, 443)) for each in ("93.184.216.34", "192.168.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(posting.Refused):
        resolve("two.example.com", 443, private=False)


def test_the_address_that_was_checked_is_connected_to_with_the_host_of_the_url(receiver, monkeypatch):
    """A name that leads elsewhere the second time it is asked for gains nothing: it is asked for once."""
    real, asked = socket.getaddrinfo, []

    def rebind(host, *args, **kwargs):
        asked.append(host)
        return real("127.0.0.1" if host == "rebound.example.com" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    url = receiver.url.replace("127.0.0.1", "rebound.example.com")
    assert post(url, b"{}", {}, private=True, http_allowed=True).delivered
    assert asked.count("rebound.example.com") == 1
    assert receiver.next()[1]["Host"] == f"rebound.example.com:{receiver.server.server_port}"


@pytest.mark.parametrize(
    ("text", "public"),
    [
        *(("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("0.0.0.0", False)),
        *(("100.100.100.200", False), ("168.63.129.16", False), ("224.0.0.1", False), ("fd00:ec2::254", False)),
        *(("fe80::1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False)),
    ],
)
def test_which_addresses_are_public(text, public):
    assert is_public(posting.ipaddress.ip_address(text)) is public


def test_a_receiver_that_goes_on_talking_is_broken_off(monkeypatch, private):
    monkeypatch.setattr(posting, "TIMEOUT", 0.3)
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip():
        with server.accept()[0] as stream:
            while not over.wait(0.02):
                try:
                    stream.send(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        outcome = post(url, b"{}", {}, private=True, http_allowed=True)
    finally:
        over.set()
        thread.join(SECONDS)
        server.close()
    assert not outcome.delivered and outcome.code is None


def test_a_receiver_without_tls_is_refused(receiver):
    url = receiver.url.replace("http://", "https://")
    outcome = post(url, b"{}", {}, private=True, http_allowed=False)
    assert not outcome.delivered and "connection failed" in outcome.error and receiver.all() == []


def test_two_processes_do_not_deliver_the_same(hook):
    make_rule()
    sent = []

    def send(url, body, headers, **kwargs):
        assert deliver_pending(hook.pk, send=send) == 0  # another process, while this one sends
        sent.append(headers["X-Governance-Delivery"])
        return Outcome(204, 0.1)

    deliver_pending(hook.pk, send=send)
    assert sent == [f"{number}-{hook.pk}" for number in range(hook.version + 1, revision() + 1)]


def test_a_process_that_has_lost_its_lease_stops(hook):
    make_rule()
    make_rule()

    def send(*args, **kwargs):
        assert Lease(webhooks.name_cursor(hook.pk), clock=later(minutes=1)).acquire()
        return Outcome(204, 0.1)

    deliver_pending(hook.pk, send=send)
    assert hook.deliveries.count() == 1
    assert WatchCursor.objects.get(name=webhooks.name_cursor(hook.pk)).revision == hook.version


def test_a_webhook_that_is_switched_off_meanwhile_is_sent_nothing_more(hook):
    make_rule()
    make_rule()

    def send(*args, **kwargs):
        row = Webhook.objects.get()
        row.enabled = False
        row.save()
        return Outcome(204, 0.1)

    deliver_pending(hook.pk, send=send)
    assert hook.deliveries.count() == 1


def test_a_restored_backup_brings_no_changes(hook, receiver):
    deliver_pending(hook.pk)
    make_rule()
    Revision.objects.update(epoch="12345678-1234-5678-1234-567812345678")
    assert deliver_pending(hook.pk) == 0 and receiver.all() == []
    make_rule()
    assert deliver_pending(hook.pk) > 0


def test_the_log_keeps_the_newest(hook, monkeypatch):
    monkeypatch.setattr(webhooks, "KEPT", 2)
    for _ in range(4):
        make_rule()
    deliver_pending(hook.pk, send=take)
    kept = list(hook.deliveries.order_by("revision").values_list("revision", flat=True))
    assert kept == [revision() - 1, revision()]


def test_a_secret_that_cannot_be_read_is_said_so(hook, settings, tmp_path):
    make_rule()
    settings.ENCRYPTION_KEYS, settings.ENCRYPTION_KEY_FILE = [], tmp_path / "another.keys"
    deliver_pending(hook.pk, send=take)
    assert "cannot be decrypted" in hook.deliveries.get().error


@pytest.mark.django_db(transaction=True)
def test_two_relays_deliver_each_change_once(receiver, private, monkeypatch):
    monkeypatch.setattr(webhook_relay, "TICK", 0.1)
    hook = make_webhook(url=receiver.url, filter_types=["rule_created"])
    relays = [start_watching(), start_watching()]
    try:
        made = []
        for _ in range(5):
            make_rule()
            made.append(ConfigurationAuditLog.objects.filter(change_type="rule_created").latest("revision").revision)
        heard = [json.loads(receiver.next()[2])["revision"] for _ in made]
    finally:
        for relay in relays:
            relay.stop()
    assert heard == made and receiver.all() == []
    assert hook.deliveries.filter(status=DeliveryStatus.DELIVERED).count() == len(made)


def test_the_api_never_shows_the_secret_and_keeps_it():
    client = api_client(make_user("administrator"))
    created = client.post(WEBHOOKS, NEW)
    assert created.status_code == 201 and created.json()["secret"] == {"set": True}
    stored = Webhook.objects.get()
    assert stored.reveal_secret() == SECRET
    body = client.get(f"{WEBHOOKS}/chat").json()
    unchanged = client.put(f"{WEBHOOKS}/chat", {name: body[name] for name in ("name", "url", "secret", "enabled")})
    assert unchanged.status_code == 200 and unchanged["X-Revision"] == str(stored.version)
    changed = client.patch(f"{WEBHOOKS}/chat", {"secret": "quite another word", "change_reason": "leaked"})
    assert changed.status_code == 200
    assert Webhook.objects.get().reveal_secret() == "quite another word"
    change = last_change()
    assert change.old_config["secret"]["mark"] != change.new_config["secret"]["mark"]
    assert names(client.get(f"{WEBHOOKS}?enabled=true")) == ["chat"]
    assert client.delete(f"{WEBHOOKS}/chat").status_code == 204


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"secret": "too short"}, "/secret"),
        ({"secret": {"set": True}}, "/secret"),
        ({"secret": {"$encrypted": "a.b", "mark": "c"}}, "/secret"),
        ({"secret": 7}, "/secret"),
        ({"url": "http://chat.example.com/"}, "/url"),
        ({"url": "https://ann:word@chat.example.com/"}, "/url"),
        ({"url": "ftp://chat.example.com/"}, "/url"),
        ({"url": "https://chat.example.com/ a"}, "/url"),
        ({"url": "https://chat.example.com:99999/"}, "/url"),
        ({"name": "No Name"}, "/name"),
        ({"filter_types": [""]}, "/filter_types/0"),
        ({"entity_types": ["a"] * 51}, "/entity_types"),
    ],
)
def test_what_is_wrong_is_refused_by_name(values, pointer):
    response = api_client(make_user("administrator")).post(WEBHOOKS, {**NEW, **values})
    expect_problem(response, 400, "invalid", f"#{pointer}")
    assert SECRET not in response.content.decode() and not Webhook.objects.exists()


def test_whoever_may_not_read_the_journal_sets_up_no_webhook():
    user = make_user("viewer")
    user.user_permissions.add(Permission.objects.get(codename="add_webhook"))
    response = api_client(user).post(WEBHOOKS, NEW)
    assert "journal" in expect_problem(response, 400, "invalid")["errors"][0]["detail"]


def test_a_test_is_sent_now_and_told(hook, receiver):
    client = api_client(make_user("administrator", username="ada"))
    answer = client.post(f"{WEBHOOKS}/hook/test")
    assert (answer.status_code, answer.json()["status"], answer.json()["response_code"]) == (200, "delivered", 204)
    _, headers, body = receiver.next()
    assert verify(headers, body)[0] and headers["X-Governance-Event"] == "test"
    assert json.loads(body)["sent_by"] == "ada"
    receiver.answers = [503]
    failed = client.post(f"{WEBHOOKS}/hook/test").json()
    assert (failed["status"], failed["error"], failed["next_attempt_at"]) == ("failed", "It answered 503.", None)
    told = client.get(f"{WEBHOOKS}/hook/deliveries").json()["results"]
    assert [row["status"] for row in told] == ["failed", "delivered"]


def test_the_admin_sets_one_up_without_showing_the_secret(receiver, private):
    browser = sign_in(make_user("administrator"))
    page = address("add", Webhook)
    values = {**read_form(browser, page), "name": "chat", "url": receiver.url, "secret": SECRET, "change_reason": "new"}
    values |= {"filter_types": "[]", "entity_types": "[]"}
    made = browser.post(page, values)
    assert made.status_code == 302, errors(made)
    hook = Webhook.objects.get()
    assert hook.reveal_secret() == SECRET and hook.filter_types == []
    page = browser.get(address("change", hook)).content.decode()
    assert SECRET not in page and "$encrypted" not in page
    assert submit(browser, address("change", hook), filter_types='["rule_updated"]').status_code == 302
    hook.refresh_from_db()
    assert hook.filter_types == ["rule_updated"] and hook.reveal_secret() == SECRET
    browser.post(address("changelist", Webhook), {"action": "send_test", "_selected_action": [hook.pk]})
    assert receiver.next()[1]["X-Governance-Event"] == "test"
    page = browser.get(address("change", hook)).content.decode()
    assert "Delivered" in page


def test_the_secret_is_in_no_log_or_table(hook, receiver, caplog):
    caplog.set_level("DEBUG")
    make_rule()
    deliver_pending(hook.pk)
    receiver.answers = [500]
    make_rule()
    deliver_pending(hook.pk)
    rows = [*WebhookDelivery.objects.values_list(), *ConfigurationAuditLog.objects.values_list()]
    rows += [*Webhook.objects.values_list(), *Webhook.history.values_list()]
    assert "$encrypted" in str(rows) and SECRET not in str(rows) and SECRET not in caplog.text


def test_the_secret_goes_along_when_keys_are_rotated(settings, tmp_path):
    settings.ENCRYPTION_KEYS, settings.ENCRYPTION_KEY_FILE = [], tmp_path / "encryption.keys"
    before = make_webhook(secret=SECRET)
    call_command("rotate_keys", new_key=True, reason="yearly")
    after = Webhook.objects.get()
    assert key_id(after.secret) != key_id(before.secret) and after.reveal_secret() == SECRET
