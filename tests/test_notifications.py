"""Whoever must act is told, after the commit, in the server and by mail; and no mail server breaks a change."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from audit.permissions import grant
from governance_config.settings import read_mail
from overrides import approvals, notifications
from overrides.models import GovernanceRuleOverride, Notification
from overrides.notifications import remind_of_end
from overrides.tasks import send_mails
from tests.admin_client import sign_in, text
from tests.factories import acting, api_client, approve, make_approved, make_request, make_rule, make_user
from tests.rest import expect_problem, names

pytestmark = pytest.mark.django_db
MINE = "/api/v1/me/notifications"


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    """What follows a commit, inside the transaction of a test."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def requester():
    return make_user("rule editor", username="ada", email="ada@example.org")


@pytest.fixture
def approver():
    return make_user("override approver", username="grace", email="grace@example.org")


def told(user: User) -> list[tuple[str, str]]:
    return list(Notification.objects.filter(user=user).order_by("id").values_list("kind", "text"))


def kinds(user: User) -> list[str]:
    return [kind for kind, _ in told(user)]


def test_approvers_are_told_of_a_proposal_and_nobody_else(committed, requester, approver):
    bystander, absent = make_user("viewer"), make_user("override approver", is_active=False)
    with committed():
        override = make_request(make_rule(name="no-eval"), by=requester)
    assert told(approver) == [("to_approve", "ada asks for an override of no-eval, which waits for your approval.")]
    assert Notification.objects.get(user=approver).override == override
    for user in (requester, bystander, absent):
        assert told(user) == []


def test_a_guest_with_a_grant_is_told_of_an_edit(committed, requester):
    override, guest = make_request(make_rule(), by=requester), make_user("viewer")
    grant(action="approve", holder=guest, target=override)
    with committed(), acting(requester):
        approvals.edit(override=override, user=requester, values={"reason": "Until summer."})
    assert kinds(guest) == ["to_approve"]


def test_whoever_may_not_approve_it_is_not_asked(committed):
    chief = make_user("administrator")
    with acting(chief):
        puppet = make_user("override approver")
    with committed():
        make_request(make_rule(), by=chief)
    assert kinds(chief) == kinds(puppet) == []


def test_a_draft_and_an_undone_change_tell_nobody(committed, requester, approver):
    with committed():
        override = make_request(make_rule(), by=requester, draft=True)
    with committed(), pytest.raises(RuntimeError), acting(requester), approvals.change_set():
        approvals.propose(override=override, user=requester)
        raise RuntimeError("something else went wrong")
    assert kinds(approver) == []


def test_what_is_decided_asks_nobody_any_more(committed, requester, approver):
    with committed():
        override = make_request(make_rule(), by=requester)
    other = make_user("override approver")
    assert not Notification.objects.get(user=approver).read_at
    with committed():
        approve(override, by=other)
    assert Notification.objects.get(user=approver).read_at


def test_the_requester_is_told_of_each_decision(committed, requester, approver):
    override = make_request(make_rule(name="risky", severity="critical"), by=requester)
    with committed():
        approve(override, by=approver)
        approve(override)
    with committed(), acting(approver):
        approvals.revoke(override=override, user=approver, comment="No longer needed.")
    assert kinds(requester) == ["approved", "approved", "revoked"]
    assert told(requester)[0][1] == "grace has approved your override of risky; it waits for another approval."
    assert told(requester)[1][1].endswith("has approved your override of risky.")


def test_a_rejection_is_told(committed, requester, approver):
    override = make_request(make_rule(), by=requester)
    with committed(), acting(approver):
        approvals.reject(override=override, user=approver, comment="Too long.")
    assert kinds(requester) == ["rejected"]


def test_every_approver_is_told_of_an_emergency(committed, approver):
    chief, other = make_user("administrator"), make_user("override approver")
    with committed():
        make_request(
            make_rule(), by=chief, break_glass=True, reason="Every build of every team fails.",
            expires_at=timezone.now() + timedelta(hours=3),
        )  # fmt: skip
    assert kinds(approver) == kinds(other) == ["emergency"]
    assert kinds(chief) == []


def test_people_are_reminded_of_an_end_once(requester, approver):
    override = make_approved(make_rule(), by=requester)
    assert remind_of_end(now=timezone.now()) == 0
    near = override.expires_at - timedelta(days=2)
    assert remind_of_end(now=near) > 1
    assert remind_of_end(now=near) == 0
    assert kinds(requester) == kinds(approver) == ["ends_soon"]
    call_command("expire_overrides")
    assert kinds(requester) == ["ends_soon"]


class TestMail:
    @pytest.fixture(autouse=True)
    def server(self, settings):
        settings.SENDS_MAIL = True
        settings.TASKS = {"default": {"BACKEND": "django_tasks.backends.immediate.ImmediateBackend"}}
        settings.PUBLIC_URL = "https://governance.example.org"

    def test_it_says_who_what_why_and_where_and_no_configuration(self, committed, requester, approver):
        secret = "hunter2-in-a-configuration"
        with committed():
            override = make_request(
                make_rule(name="no-eval"), by=requester, override_config={"message": secret}, reason="The fair is near."
            )
        (sent,) = mail.outbox
        assert sent.to == ["grace@example.org"]
        assert "ada asks for an override of no-eval" in sent.subject
        assert "The fair is near." in sent.body
        assert f"https://governance.example.org{reverse_change(override)}" in sent.body
        assert secret not in sent.subject + sent.body

    def test_a_mail_server_that_fails_breaks_nothing(self, committed, requester, approver, monkeypatch, caplog):
        def fail(*args, **kwargs):
            raise ConnectionRefusedError("nobody listens")

        monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", fail)
        with committed():
            make_request(make_rule(), by=requester)
        assert kinds(approver) == ["to_approve"]
        assert GovernanceRuleOverride.objects.get().status == "proposed"
        assert "could not be mailed: ConnectionRefusedError" in caplog.text
        assert "grace@example.org" not in caplog.text

    def test_neither_does_a_failure_to_tell_anybody(self, committed, requester, approver, monkeypatch):
        def fail(*args, **kwargs):
            raise OSError("the disk is full")

        monkeypatch.setattr(notifications, "find_second_people", fail)
        with committed():
            make_request(make_rule(), by=requester)
        assert GovernanceRuleOverride.objects.get().status == "proposed"

    def test_who_has_no_address_gets_none(self, requester):
        other = make_user("override approver", email="")
        told = Notification.objects.create(
            user=other, kind="to_approve", override=make_request(make_rule()), text="?", created_at=timezone.now()
        )
        assert send_mails.func([told.pk]) == 0
        assert mail.outbox == []


def reverse_change(override: GovernanceRuleOverride) -> str:
    return reverse("admin:overrides_governanceruleoverride_change", args=[override.pk])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", {}),
        ("console:", {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}),
        ("smtp://mail", {"EMAIL_HOST": "mail", "EMAIL_PORT": 25, "EMAIL_USE_TLS": False, "EMAIL_USE_SSL": False}),
        ("smtp+tls://me:a%40b@mail:2525", {"EMAIL_HOST_PASSWORD": "a@b", "EMAIL_PORT": 2525, "EMAIL_USE_TLS": True}),
        ("smtps://mail", {"EMAIL_PORT": 465, "EMAIL_USE_SSL": True}),
    ],
)
def test_the_mail_server_is_read_from_the_environment(monkeypatch, url, expected):
    monkeypatch.setenv("EMAIL_URL", url)
    found = read_mail()
    assert {name: found.get(name) for name in expected} == expected
    assert bool(found) == bool(url)


@pytest.mark.parametrize("url", ["mail.example.org", "http://me:hunter2@mail", "smtp://me:hunter2@mail:port"])
def test_an_address_of_a_mail_server_that_is_none_is_refused_without_telling_it(monkeypatch, url):
    monkeypatch.setenv("EMAIL_URL", url)
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL must be") as refused:
        read_mail()
    assert "hunter2" not in str(refused.value)


class TestReading:
    @pytest.fixture
    def notified(self, committed, requester, approver):
        with committed():
            make_request(make_rule(name="first"), by=requester)
            make_request(make_rule(name="second"), by=requester)
        return approver

    def test_the_api_lists_ones_own_and_marks_them(self, notified, requester):
        client = api_client(notified)
        first, second = reversed(names(client.get(MINE), "id"))
        assert client.post(f"{MINE}/read", {"ids": [first]}).json() == {"marked": 1, "unread": 1}
        assert names(client.get(f"{MINE}?unread=true"), "id") == [second]
        assert names(client.get(f"{MINE}?unread=false&kind=to_approve"), "id") == [first]
        assert api_client(requester).post(f"{MINE}/read", {"ids": [second]}).json()["marked"] == 0
        assert client.post(f"{MINE}/read", {}).json() == {"marked": 1, "unread": 0}
        expect_problem(client.post(f"{MINE}/read", {"ids": ["x"]}), 400, "invalid", "#/ids/0")

    def test_whoever_looks_at_an_override_has_been_told(self, notified):
        seen, other = Notification.objects.filter(user=notified)
        assert sign_in(notified).get(reverse_change(seen.override)).status_code == 200
        assert list(Notification.objects.filter(user=notified, read_at=None)) == [other]

    def test_the_admin_shows_a_number_and_a_page(self, notified, requester):
        page, browser = reverse("admin:overrides_notifications"), sign_in(notified)
        assert "Notifications 2" in text(browser.get(reverse("admin:index")))
        shown = text(browser.get(page))
        assert "2 unread" in shown and "ada asks for an override of second" in shown
        assert "asks for an override" not in text(sign_in(requester).get(page))
        first = Notification.objects.filter(user=notified).first()
        browser.post(page, {"id": first.pk})
        assert "1 unread" in text(browser.get(page))
        browser.post(page)
        assert "Nothing unread" in text(browser.get(page))
