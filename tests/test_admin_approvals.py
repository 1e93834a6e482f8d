"""Overrides in the admin: asked for in a form, decided on after reading what will happen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import models
from django.urls import reverse
from django.utils import timezone

from audit.journal import current_revision
from overrides.effective import load_configuration
from overrides.models import GovernanceRuleOverride, OverrideDecision
from tests.admin_client import REASON, address, errors, read_form, said, sign_in, submit, text
from tests.factories import acting, approve, make_approved, make_governance_rule, make_request, make_rule, make_user
from tests.rest import last_change

pytestmark = pytest.mark.django_db

LIST = reverse("admin:overrides_governanceruleoverride_changelist")
ADD = reverse("admin:overrides_governanceruleoverride_add")


@pytest.fixture
def rule():
    return make_rule(severity="high")


@pytest.fixture
def requester():
    return make_user("rule editor", username="ada")


@pytest.fixture
def approver():
    return make_user("override approver", username="grace")


def in_days(days: float) -> dict[str, str]:
    moment = timezone.now() + timedelta(days=days)
    return {"expires_at_0": f"{moment:%Y-%m-%d}", "expires_at_1": f"{moment:%H:%M:%S}"}


def decision(override: Any, verb: str) -> str:
    return reverse("admin:overrides_governanceruleoverride_decide", args=[override.pk, verb])


def decide(browser: Any, override: Any, verb: str, comment: str = REASON) -> Any:
    """Open the page of a decision, and press its button."""
    page = browser.get(decision(override, verb))
    if page.status_code != 200:
        return page
    shown = {f"version_{each.override.pk}": each.override.version for each in page.context["prospects"]}
    return browser.post(decision(override, verb), {**shown, "post": "yes", "change_reason": comment})


def select(browser: Any, action: str, *overrides: Any, **more: Any) -> Any:
    keys = [str(override.pk) for override in overrides]
    return browser.post(LIST, {"action": action, "_selected_action": keys, **more})


def press(browser: Any, action: str, *overrides: Any, comment: str = REASON) -> Any:
    """Choose an action for a selection, read the page, and press its button."""
    page = select(browser, action, *overrides)
    shown = {
        f"version_{each.override.pk}": str(each.override.version)
        for each in page.context["prospects"]
        if not each.refusal
    }
    return select(browser, action, *overrides, post="yes", change_reason=comment, **shown)


def severity_in_force(rule):
    return next(item for item in load_configuration().rules if item["name"] == rule.name)["severity"]


class TestAsking:
    def test_a_form_asks_and_the_reason_is_the_overrides(self, rule, requester):
        browser = sign_in(requester)
        response = submit(browser, ADD, rule_name=rule.name, severity="low", paths="legacy/**\n", **in_days(30))
        override = GovernanceRuleOverride.objects.get()
        assert response.status_code == 302, errors(response)
        assert (override.status, override.created_by, override.reason) == ("proposed", "ada", REASON)
        assert (override.override_config, override.paths) == ({"severity": "low"}, ["legacy/**"])
        assert override.original_config["severity"] == "high"
        assert (last_change().source, last_change().change_type) == ("admin", "override_created")

    def test_what_is_left_as_it_is_is_no_part_of_it(self, rule, requester):
        changes = {"switch": "off", "configuration": '{"ignore_case": true}'}
        submit(sign_in(requester), ADD, rule_name=rule.name, **changes, **in_days(3))
        assert GovernanceRuleOverride.objects.get().override_config == {
            "enabled": False,
            "configuration": {"ignore_case": True},
        }

    def test_a_waiver_names_what_it_is_about(self, rule, requester):
        make_governance_rule("no-info")
        about = {"entity_type": "analysis_rule", "entity_name": rule.name}
        response = submit(
            sign_in(requester), ADD, rule_name="no-info", target_type="governance_rule", **about, **in_days(3)
        )
        assert response.status_code == 302, errors(response)
        assert GovernanceRuleOverride.objects.get().override_config == about

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"rule_name": "no-such-rule", "severity": "low"}, "rule_name"),
            ({}, "configuration"),
            ({"configuration": '{"pattern": "("}'}, "configuration"),
            ({"severity": "low", "expires_at_0": "", "expires_at_1": ""}, "expires_at"),
            ({"severity": "low", **in_days(200)}, "expires_at"),
            ({"severity": "low", "entity_name": "x"}, "entity_name"),
            ({"severity": "low", "change_reason": ""}, "change_reason"),
        ],
    )
    def test_what_is_not_valid_is_said_at_its_field(self, rule, requester, changes, field):
        before = current_revision()
        sent = {"rule_name": rule.name, **in_days(30), **changes}
        reason = sent.pop("change_reason", REASON)
        assert field in errors(submit(sign_in(requester), ADD, reason=reason, **sent))
        assert current_revision() == before

    def test_a_draft_is_proposed_from_its_page(self, rule, requester):
        browser = sign_in(requester)
        submit(browser, ADD, rule_name=rule.name, severity="low", draft="on", **in_days(30))
        draft = GovernanceRuleOverride.objects.get()
        assert draft.status == "draft"
        assert decide(browser, draft, "propose").status_code == 302
        assert GovernanceRuleOverride.objects.get().status == "proposed"

    def test_an_emergency_is_offered_to_those_who_have_the_right(self, rule, requester):
        assert "break_glass" not in read_form(sign_in(requester), ADD)
        assert b"This is an emergency" not in sign_in(requester).get(ADD).content
        browser = sign_in(make_user("administrator"))
        assert b"This is an emergency" in browser.get(ADD).content
        reason = "Every build of every team fails on a false finding."
        submit(browser, ADD, reason=reason, rule_name=rule.name, severity="low", break_glass="on", **in_days(1))
        assert severity_in_force(rule) == "low"
        assert last_change().change_type == "override_break_glass"

    def test_an_edit_takes_approvals_back(self, requester, approver):
        override = make_request(make_rule(severity="critical"), by=requester)
        approve(override, by=approver)
        response = submit(sign_in(requester), address("change", override), severity="info", reason=REASON)
        assert response.status_code == 302, errors(response)
        stored = GovernanceRuleOverride.objects.get()
        assert (stored.override_config, stored.approval_count) == ({"severity": "info"}, 0)

    def test_an_edit_from_an_old_page_is_refused(self, rule, requester):
        override, browser = make_request(rule, by=requester), sign_in(requester)
        sent = read_form(browser, address("change", override))
        submit(browser, address("change", override), severity="info")
        response = browser.post(address("change", override), {**sent, "severity": "medium", "change_reason": REASON})
        assert "__all__" in errors(response)
        assert GovernanceRuleOverride.objects.get().override_config == {"severity": "info"}

    def test_nobody_deletes_one(self, rule):
        override, browser = make_request(rule), sign_in(make_user(superuser=True))
        assert browser.post(address("delete", override), {"post": "yes", "change_reason": REASON}).status_code == 403
        assert GovernanceRuleOverride.objects.exists()


class TestDecidingOnOne:
    def test_the_page_shows_three_versions_and_what_will_happen(self, rule, requester, approver):
        override = make_request(rule, by=requester)
        page = text(sign_in(approver).get(decision(override, "approve")))
        for words in ("When it was asked for", "By the override", "In the rule now", "In force until", "ada"):
            assert words in page
        assert GovernanceRuleOverride.objects.get().status == "proposed"  # looking changes nothing
        assert OverrideDecision.objects.count() == 1

    def test_an_approval_puts_it_in_force(self, rule, requester, approver):
        override = make_request(rule, by=requester)
        response = decide(sign_in(approver), override, "approve", comment="I have read it.")
        assert response.status_code == 302
        assert "approved. In force until" in said(response)
        stored = GovernanceRuleOverride.objects.get()
        assert (stored.status, stored.approved_by) == ("active", "grace")
        assert stored.decisions.last().comment == "I have read it."
        assert stored.decisions.last().version_seen == override.version
        assert severity_in_force(rule) == "low"
        assert last_change().source == "admin"

    @pytest.mark.parametrize("superuser", [False, True])
    def test_the_requester_is_offered_only_to_take_it_back(self, rule, superuser):
        chief = make_user("administrator", superuser=superuser)
        override, browser = make_request(rule, by=chief), sign_in(chief)
        page = browser.get(address("change", override))
        assert [wish.verb for wish in page.context["standing"]["wishes"]] == ["withdraw"]
        refused = browser.get(decision(override, "approve"))
        assert refused.status_code == 302 and "somebody else approves it" in said(refused)
        form = {"post": "yes", f"version_{override.pk}": override.version, "change_reason": REASON}
        assert b"somebody else approves it" in browser.post(decision(override, "approve"), form).content
        assert not GovernanceRuleOverride.objects.get().enabled

    def test_the_last_editor_does_not_approve(self, rule, requester):
        override, browser = make_request(rule, by=requester), sign_in(make_user("administrator"))
        submit(browser, address("change", override), severity="info")
        assert "edited" in said(browser.get(decision(override, "approve")))

    def test_a_sock_puppet_does_not_approve(self, rule):
        chief = make_user("administrator", username="chief")
        with acting(chief):
            puppet = make_user("override approver")
        override = make_request(rule, by=chief)
        assert "chief asked for this or edited it, and created your account" in said(
            sign_in(puppet).get(decision(override, "approve"))
        )
        press_response = select(sign_in(puppet), "approve", override)
        assert press_response.context["possible"] == 0

    def test_what_was_edited_meanwhile_is_not_approved_unseen(self, rule, requester, approver):
        override, browser = make_request(rule, by=requester), sign_in(approver)
        browser.get(decision(override, "approve"))
        submit(sign_in(requester), address("change", override), severity="info")
        form = {"post": "yes", f"version_{override.pk}": override.version, "change_reason": REASON}
        page = browser.post(decision(override, "approve"), form)
        assert "was changed since you read it" in text(page)
        assert not GovernanceRuleOverride.objects.get().enabled

    def test_a_decision_without_a_version_has_seen_nothing(self, rule, requester, approver):
        override = make_request(rule, by=requester)
        page = sign_in(approver).post(decision(override, "approve"), {"post": "yes", "change_reason": REASON})
        assert "you have not been shown it" in text(page)
        assert not GovernanceRuleOverride.objects.get().enabled

    def test_a_rule_that_has_moved_is_shown_and_not_approved(self, rule, requester, approver):
        override = make_request(rule, by=requester)
        rule.severity = "medium"
        rule.save()
        page = sign_in(approver).get(address("change", override))
        assert "changed since" in text(page) and "Propose it again" in text(page)
        assert [wish.verb for wish in page.context["standing"]["wishes"]] == ["reject"]
        own = sign_in(requester).get(address("change", override))
        assert [wish.verb for wish in own.context["standing"]["wishes"]] == ["propose", "withdraw"]
        decide(sign_in(requester), override, "propose")
        assert decide(sign_in(approver), override, "approve").status_code == 302
        assert severity_in_force(rule) == "low"

    def test_a_rejection_says_why(self, rule, requester, approver):
        override = make_request(rule, by=requester)
        page = decide(sign_in(approver), override, "reject", comment=" ")
        assert page.status_code == 200 and "Say why." in text(page)
        decide(sign_in(approver), override, "reject", comment="Too long.")
        assert GovernanceRuleOverride.objects.get().status == "rejected"

    def test_what_is_in_force_is_revoked(self, rule, approver):
        override, browser = make_approved(rule), sign_in(approver)
        page = browser.get(address("change", override))
        assert [wish.verb for wish in page.context["standing"]["wishes"]] == ["revoke"]
        decide(browser, override, "revoke")
        assert severity_in_force(rule) == "high"
        assert browser.get(address("change", override)).context["standing"]["wishes"] == []

    def test_what_has_ended_by_the_clock_offers_nothing(self, rule, requester, approver):
        override = make_approved(rule, by=requester)
        models.QuerySet(GovernanceRuleOverride).filter(pk=override.pk).update(
            created_at=timezone.now() - timedelta(days=2), expires_at=timezone.now() - timedelta(days=1)
        )
        for user in (requester, approver):
            page = sign_in(user).get(address("change", override))
            assert page.context["standing"]["wishes"] == []
            assert "Its time is over" in text(page)
        refused = sign_in(requester).post(address("change", override), {"severity": "info", "change_reason": REASON})
        assert refused.status_code == 403

    def test_an_emergency_is_confirmed_by_a_second_person(self, rule, approver):
        chief = make_user("administrator")
        reason = "Every build of every team fails on a false finding."
        end = timezone.now() + timedelta(hours=5)
        override = make_request(rule, by=chief, break_glass=True, reason=reason, expires_at=end)
        own = sign_in(chief).get(address("change", override))
        assert "confirm" not in [wish.verb for wish in own.context["standing"]["wishes"]]
        decide(sign_in(approver), override, "confirm")
        assert not GovernanceRuleOverride.objects.get().needs_review


class TestDecidingOnASelection:
    def test_all_that_can_be_is_approved_and_the_others_are_told(self, rule):
        chief = make_user("administrator")
        mine, usual = make_request(rule, by=chief), make_request(rule)
        critical = make_request(make_rule(severity="critical"))
        browser = sign_in(chief)
        page = select(browser, "approve", mine, usual, critical)
        told = {each.override.pk: each.refusal or each.outcome for each in page.context["prospects"]}
        assert "somebody else approves it" in told[mine.pk]
        assert told[usual.pk].startswith("In force until")
        assert told[critical.pk] == "Waits for 1 more approval."
        response = press(browser, "approve", mine, usual, critical)
        assert response.status_code == 302
        assert "In force until" in said(response) and "Waits for 1 more approval" in said(response)
        assert "Not approved." in said(response)
        states = {each.pk: each.status for each in GovernanceRuleOverride.objects.all()}
        assert states == {mine.pk: "proposed", usual.pk: "active", critical.pk: "proposed"}

    def test_one_that_moved_does_not_hold_up_the_others(self, rule, requester, approver):
        first, second = make_request(rule, by=requester), make_request(rule, by=requester)
        browser = sign_in(approver)
        shown = {f"version_{each.pk}": str(each.version) for each in (first, second)}
        submit(sign_in(requester), address("change", first), severity="info")
        response = select(browser, "approve", first, second, post="yes", change_reason=REASON, **shown)
        assert "was changed since you read it" in said(response)
        assert {each.pk: each.status for each in GovernanceRuleOverride.objects.all()} == {
            first.pk: "proposed",
            second.pk: "active",
        }

    def test_a_selection_is_rejected_with_a_comment(self, rule, approver):
        overrides = [make_request(rule) for _ in range(2)]
        page = press(sign_in(approver), "reject", *overrides, comment="")
        assert page.status_code == 200 and "Say why." in text(page)
        press(sign_in(approver), "reject", *overrides, comment="Not this quarter.")
        assert set(GovernanceRuleOverride.objects.values_list("status", flat=True)) == {"rejected"}
        assert OverrideDecision.objects.filter(kind="rejected", comment="Not this quarter.").count() == 2

    def test_readers_and_requesters_are_not_offered_it(self, rule, requester):
        override = make_request(rule)
        for user in (requester, make_user("viewer")):
            browser = sign_in(user)
            assert b"selected overrides" not in browser.get(LIST).content
            select(browser, "approve", override, post="yes", change_reason=REASON)
            assert GovernanceRuleOverride.objects.get().status == "proposed"


class TestTheList:
    def test_it_shows_what_waits_for_whom(self, rule, requester, approver):
        mine, other = make_request(rule, by=requester), make_approved(rule)
        page = sign_in(approver).get(f"{LIST}?turn=mine")
        assert [each.pk for each in page.context["cl"].result_list] == [mine.pk]
        page = sign_in(approver).get(f"{LIST}?status__exact=active")
        assert [each.pk for each in page.context["cl"].result_list] == [other.pk]
        for turn in ("review", "soon"):
            assert sign_in(approver).get(f"{LIST}?turn={turn}").context["cl"].result_list.count() == 0

    def test_decisions_stand_on_the_page(self, rule, requester, approver):
        override = make_request(rule, by=requester)
        decide(sign_in(approver), override, "approve", comment="I have read it.")
        page = text(sign_in(make_user("viewer")).get(address("change", override)))
        assert "I have read it." in page and "requested ada" in page and "approved grace" in page
