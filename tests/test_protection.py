"""Does governance protect itself? What protects the configuration is not changed by one person alone, by any door."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from audit.changes import Origin, change_set, originating
from audit.exchange import apply, parse
from audit.models import ConfigurationAuditLog
from audit.permissions import grant
from audit.rollback import Target, roll_back
from overrides.models import GovernanceRule, GovernanceRuleOverride
from tests.admin_client import REASON, address, errors, said, sign_in, submit
from tests.factories import api_client, make_governance_rule, make_override, make_rule, make_user
from tests.rest import CONFIG, RULES, expect_problem

pytestmark = pytest.mark.django_db
GOVERNANCE = f"{CONFIG}/governance-rules"
WEAKENINGS = [
    {"enabled": False},
    {"enforcement": "warn"},
    {"condition": "new == null || new.severity != 'none'", "examples": {"pass": [], "fail": []}, "enabled": False},
    {"applies_to": {"entity_types": ["persona"], "change_types": []}},
]


@pytest.fixture
def alice():
    return make_user("administrator", username="alice")


@pytest.fixture
def bob():
    """Somebody else who can approve."""
    return make_user("override approver", username="bob")


@pytest.fixture
def rule(alice, bob) -> GovernanceRule:
    return make_governance_rule()


@pytest.fixture
def client(alice):
    return api_client(alice)


@contextmanager
def alone(match: str = "takes a second person"):
    """What is done inside is refused, and leaves nothing."""
    with pytest.raises(ValidationError, match=match), transaction.atomic():
        yield


def by(user):
    """What is done at a shell in somebody's name."""
    return originating(Origin(source="system", user=user))


def waive(**fields) -> GovernanceRuleOverride:
    values = {
        "target_type": "governance_rule",
        "override_config": {"entity_type": "governance_rule", "entity_name": "no-info"},
        "status": "active",
        "enabled": True,
        "created_by": "alice",
        "approved_by": "bob",
    }
    return make_override("second-person", **{**values, **fields})


def last_warnings() -> list[str]:
    return ConfigurationAuditLog.objects.first().warnings


class TestGovernanceRules:
    @pytest.mark.parametrize("change", WEAKENINGS)
    def test_weakening_one_is_refused_by_api(self, client, rule, change):
        body = expect_problem(client.patch(f"{GOVERNANCE}/{rule.pk}", change), 409, "conflict")
        assert "waiver of second-person about the governance_rule 'no-info'" in body["detail"]
        assert GovernanceRule.objects.get().version == rule.version

    def test_deleting_one_is_refused_by_api_and_admin(self, alice, client, rule):
        expect_problem(client.delete(f"{GOVERNANCE}/{rule.pk}"), 409, "conflict")
        response = sign_in(alice).post(address("delete", rule), {"post": "yes", "change_reason": REASON})
        assert "takes a second person" in response.content.decode()
        assert GovernanceRule.objects.exists()

    def test_weakening_one_is_refused_in_the_admin(self, alice, rule):
        browser = sign_in(alice)
        assert "second person" in str(errors(submit(browser, address("change", rule), enabled=None)))
        sent = {"action": "disable", "_selected_action": [rule.pk], "post": "yes", "change_reason": REASON}
        assert "second person" in browser.post(address("changelist", rule), sent).content.decode()
        assert GovernanceRule.objects.get().enabled

    def test_import_rollback_command_and_shell_are_refused_alike(self, alice, rule, tmp_path):
        document = "format: code-review-governance/1\ngovernance_rules: [{name: no-info, enabled: false}]\n"
        with by(alice), alone():
            apply(parse(document.encode()), user=alice)
        file = tmp_path / "weaker.yaml"
        file.write_text(document)
        with pytest.raises(CommandError, match="takes a second person"):
            call_command("import_config", str(file), apply=True, acting_user="alice")
        with by(alice), alone():
            roll_back(Target(change=rule.version), user=alice)
        with by(alice), alone():
            rule.enabled = False
            rule.save()
        assert GovernanceRule.objects.get().enabled

    def test_undoing_a_stricter_change_is_a_weakening(self, alice, rule):
        rule.enabled = False
        rule.save()
        rule.enabled = True
        rule.save()
        with by(alice), alone():
            roll_back(Target(change=rule.version), user=alice)

    @pytest.mark.parametrize("change", [{"title": "Clearer"}, {"message": "Clearer."}, {"enforcement": "block"}])
    def test_saying_it_better_or_stricter_takes_nobody(self, client, rule, change):
        answer = client.patch(f"{GOVERNANCE}/{rule.pk}", change)
        assert answer.status_code == 200 and "warnings" not in answer.json()

    def test_adding_and_enabling_one_takes_nobody(self, client, rule):
        body = {"name": "another", "condition": "new == null", "message": "No.", "enabled": False}
        body |= {
            "examples": {"pass": [{"new": None}], "fail": [{"new": {}}]},
            "applies_to": {"entity_types": ["persona"]},
        }
        added = client.post(GOVERNANCE, body)
        assert added.status_code == 201
        assert client.patch(f"{GOVERNANCE}/{added.json()['id']}", {"enabled": True}).status_code == 200

    def test_editing_one_while_it_is_off_takes_a_second_person_as_well(self, client, rule):
        rule.enabled = False
        rule.save()
        body = {"applies_to": {"entity_types": ["persona"]}}
        expect_problem(client.patch(f"{GOVERNANCE}/{rule.pk}", body), 409, "conflict")

    def test_one_that_is_deleted_and_made_anew_in_one_go_is_seen(self, alice, rule):
        with by(alice), alone("is deleted"), change_set():
            rule.delete()
            make_governance_rule(enabled=False)

    def test_no_governance_rule_takes_the_reserved_name(self, client, rule):
        body = {"name": "second-person", "condition": "new == null", "message": "No.", "enabled": False}
        expect_problem(client.post(GOVERNANCE, body), 400, "invalid", "#/name")


class TestWaivers:
    def test_one_that_somebody_else_approved_lets_it_pass(self, client, rule):
        waive()
        assert client.patch(f"{GOVERNANCE}/{rule.pk}", {"enabled": False}).status_code == 200

    @pytest.mark.parametrize(
        "fields",
        [
            {"created_by": "carol"},
            {"override_config": {}},
            {"override_config": {"entity_type": "governance_rule"}},
            {"override_config": {"entity_type": "governance_rule", "entity_name": "another"}},
            {"status": "proposed", "enabled": False, "approved_by": None},
            {"created_by": "bob", "approved_by": "alice"},
        ],
    )
    def test_another_ones_a_blanket_one_or_an_unapproved_one_does_not(self, client, rule, fields):
        waive(**fields)
        expect_problem(client.patch(f"{GOVERNANCE}/{rule.pk}", {"enabled": False}), 409, "conflict")

    def test_an_expired_one_does_not_without_any_job(self, client, rule):
        waiver = waive()
        models.QuerySet(GovernanceRuleOverride).filter(pk=waiver.pk).update(
            created_at=timezone.now() - timedelta(days=2), expires_at=timezone.now() - timedelta(days=1)
        )
        expect_problem(client.patch(f"{GOVERNANCE}/{rule.pk}", {"enabled": False}), 409, "conflict")

    def test_nobody_puts_his_own_in_force(self, alice, rule):
        waiver = waive(status="proposed", enabled=False, approved_by=None)
        waiver.status, waiver.enabled, waiver.approved_by = "active", True, "bob"
        with by(alice), alone("puts his own waiver"):
            waiver.save()


class TestAccounts:
    def test_giving_a_role_is_refused_in_the_admin(self, alice, bob):
        account = make_user(username="carol")
        response = submit(sign_in(alice), address("change", account), groups=[Group.objects.get(name="viewer").pk])
        assert "Carol gets the role viewer: that takes a second person" in str(errors(response))
        assert not account.groups.exists()

    def test_giving_it_passes_with_a_waiver_about_the_membership(self, alice, bob):
        account = make_user(username="carol")
        waive(override_config={"entity_type": "role_membership", "entity_name": "carol"})
        response = submit(sign_in(alice), address("change", account), groups=[Group.objects.get(name="viewer").pk])
        assert response.status_code == 302

    def test_a_sock_puppet_with_the_right_to_approve_is_refused(self, alice, bob):
        puppet = make_user(username="puppet")
        with by(alice), alone("Puppet gets the role override approver"):
            puppet.groups.add(Group.objects.get(name="override approver"))
        with by(alice), alone("Puppet becomes a superuser"):
            make_superuser(puppet)
        with by(alice), alone("Sock becomes a superuser"):
            User.objects.create_superuser("sock", password="x" * 20)
        assert not puppet.groups.exists() and not User.objects.filter(username="sock").exists()

    def test_a_role_given_and_taken_in_one_go_does_not_hide_another(self, alice, bob):
        account = make_user("viewer", username="carol")
        with by(alice), alone("gets the role override approver"), change_set():
            account.groups.add(Group.objects.get(name="override approver"))
            account.groups.remove(Group.objects.get(name="viewer"))

    def test_what_is_taken_back_in_the_same_go_is_no_change(self, alice, bob):
        account = make_user(username="carol")
        with by(alice), change_set():
            account.groups.add(Group.objects.get(name="viewer"))
            account.groups.remove(Group.objects.get(name="viewer"))

    def test_giving_a_role_more_rights_and_granting_are_refused(self, alice, bob):
        right = Group.objects.get(name="override approver").permissions.get(codename="approve_governanceruleoverride")
        with by(alice), alone("The role viewer gets the right approve"):
            Group.objects.get(name="viewer").permissions.add(right)
        with by(alice), alone("Bob gets the right approve"):
            bob.user_permissions.add(right)
        with by(alice), alone("A right is granted"):
            grant(action="change", holder=bob, target=make_rule(name="no-eval"))

    def test_rights_on_what_somebody_creates_are_his(self, alice, bob):
        with by(alice), change_set():
            grant(action="change", holder=alice, target=make_rule(name="no-eval"))

    def test_another_ones_password_is_refused_and_the_own_is_not(self, alice, bob):
        new = {"password1": "another long passphrase 7", "password2": "another long passphrase 7"}
        page = reverse("admin:auth_user_password_change", args=[bob.pk])
        refused = sign_in(make_user("administrator", superuser=True)).post(
            page, {**new, "usable_password": "true", "change_reason": REASON}
        )
        assert "second person" in refused.content.decode()
        assert refused.status_code == 200 and "successfully" not in said(refused)
        with by(alice), alone("The password of bob is set by another"):
            set_password(bob, first_name="Robert")
        bob.refresh_from_db()
        assert not bob.check_password(new["password1"]) and bob.first_name == ""
        with by(bob):
            set_password(bob)

    def test_a_password_among_other_changes_has_a_row_of_its_own(self, bob):
        set_password(bob, first_name="Robert")
        kinds = list(ConfigurationAuditLog.objects.values_list("change_type", flat=True)[:2])
        assert kinds == ["user_password_changed", "user_updated"]

    def test_a_token_for_another_is_refused(self, alice, bob):
        with by(alice), alone("A token of bob is made by another"):
            AuthToken.objects.create(bob)
        with by(alice):
            AuthToken.objects.create(alice)

    def test_switching_an_account_on_again_and_renaming_one_are_refused(self, alice, bob):
        off = make_user("viewer", username="carol", is_active=False)
        off.is_active = True
        with by(alice), alone("switched on again"):
            off.save()
        alice.username = "anna"
        with by(alice), alone("is renamed anna"):
            alice.save()

    def test_locking_an_account_takes_nobody_while_two_can_approve(self, alice, bob):
        third = make_user("override approver", username="carol")
        third.is_active = False
        with by(alice):
            third.save()
        assert last_warnings() == []

    def test_taking_a_role_away_takes_nobody(self, alice, bob):
        account = make_user("viewer")
        with by(alice):
            account.groups.clear()
        assert last_warnings() == []

    @pytest.mark.parametrize("way", ["lock", "remove", "delete", "empty the role", "delete the role"])
    def test_nobody_makes_himself_the_last_who_can_approve(self, alice, bob, way):
        role = Group.objects.get(name="override approver")
        with by(alice), alone("can approve no more"):
            if way == "lock":
                bob.is_active = False
                bob.save()
            elif way == "remove":
                bob.groups.clear()
            elif way == "delete":
                bob.delete()
            elif way == "empty the role":
                role.permissions.clear()
            else:
                role.delete()
        assert User.objects.filter(username="bob", is_active=True, groups__name="override approver").exists()

    def test_whoever_cannot_approve_does_not_remove_the_only_one_who_can(self, bob):
        clerk = make_user("viewer", username="clerk")
        bob.is_active = False
        with by(clerk), alone("Bob can approve no more"):
            bob.save()


def make_superuser(account: User) -> None:
    account.is_superuser = True
    account.save()


def set_password(account: User, **fields) -> None:
    for name, value in fields.items():
        setattr(account, name, value)
    account.set_password("another long passphrase 7")
    account.save()


class TestTheFirstAdministrator:
    def test_while_nobody_else_could_approve_it_passes_and_is_flagged(self, alice, client):
        rule = make_governance_rule()
        answer = client.patch(f"{GOVERNANCE}/{rule.pk}", {"enabled": False})
        assert answer.json()["warnings"] == ["Nobody else could approve: the governance rule no-info is switched off."]
        assert last_warnings() == answer.json()["warnings"]

    def test_a_second_approver_is_flagged_and_ends_it(self, alice):
        account, rule = make_user(username="bob"), make_governance_rule()
        page = submit(sign_in(alice), address("change", account), groups=[Group.objects.get(name="administrator").pk])
        assert page.status_code == 302
        assert "Nobody else could approve: bob gets the role administrator." in said(page)
        with by(alice), alone():
            rule.enabled = False
            rule.save()

    def test_locked_accounts_are_nobody(self, alice, client):
        make_user("override approver", is_active=False)
        rule = make_governance_rule()
        assert client.patch(f"{GOVERNANCE}/{rule.pk}", {"enabled": False}).status_code == 200

    def test_a_superuser_without_a_role_counts(self, client):
        make_user(superuser=True)
        rule = make_governance_rule()
        expect_problem(client.patch(f"{GOVERNANCE}/{rule.pk}", {"enabled": False}), 409, "conflict")


class TestTheSystem:
    def test_it_may_and_it_is_flagged(self, alice, bob):
        make_user("viewer", username="carol")
        assert last_warnings() == ["Without a second person: carol gets the role viewer."]

    def test_a_command_says_so(self, rule, tmp_path, capsys):
        file = tmp_path / "weaker.yaml"
        file.write_text("format: code-review-governance/1\ngovernance_rules: [{name: no-info, enabled: false}]\n")
        call_command("import_config", str(file), apply=True)
        told = "Warning: Without a second person: the governance rule no-info is switched off."
        assert told in capsys.readouterr().err


class TestTwoSteps:
    """A rule that another rule guards is not weakened by way of the guard."""

    def test_the_guard_is_not_switched_off_first(self, alice, rule, client):
        guarded = make_rule(name="no-eval")
        expect_problem(client.patch(f"{GOVERNANCE}/{rule.pk}", {"enabled": False}), 409, "conflict")
        expect_problem(client.patch(f"{RULES}/{guarded.pk}", {"severity": "info"}), 409, "conflict")
        browser = sign_in(alice)
        assert errors(submit(browser, address("change", rule), enforcement="warn"))
        assert errors(submit(browser, address("change", guarded), severity="info"))
        guarded.refresh_from_db()
        assert guarded.severity == "high"


def test_a_waiver_of_the_second_person_serves_one_change(alice, bob):
    account = make_user(username="carol")
    membership = {"entity_type": "role_membership", "entity_name": "carol"}
    waive(override_config=membership)
    with by(alice):
        account.groups.add(Group.objects.get(name="rule editor"))
    with by(alice), alone("gets the role administrator"):
        account.groups.add(Group.objects.get(name="administrator"))
    assert [group.name for group in account.groups.all()] == ["rule editor"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "names one object"),
        ({"entity_type": "governance_rule"}, "names one object"),
        ({"entity_type": "governance_rul", "entity_name": "no-info"}, "no such kind"),
    ],
)
def test_a_request_for_a_waiver_names_one_object_that_there_can_be(client, wanted, said):
    body = {
        "rule_name": "second-person",
        "target_type": "governance_rule",
        "override_config": wanted,
        "reason": "Ed becomes rule editor.",
        "expires_at": (timezone.now() + timedelta(days=3)).isoformat(),
    }
    answer = client.post("/api/v1/config/governance-overrides", body)
    assert said in expect_problem(answer, 400, "invalid", "#/override_config/entity_type")["detail"]
