"""The life of an override, through the API: who may move it, what that takes, and what never happens."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audit.changes import Origin, change_set, originating
from audit.errors import NotPermitted, StateConflict, UngovernedWrite
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR, grant
from audit.rollback import Target, roll_back
from overrides import approvals
from overrides.decisions import record
from overrides.effective import load_configuration
from overrides.models import GovernanceRule, GovernanceRuleOverride, OverrideDecision
from tests.factories import (
    acting,
    api_client,
    approve,
    make_approved,
    make_governance_rule,
    make_policy,
    make_request,
    make_rule,
    make_user,
)
from tests.rest import CONFIG, RULES, expect_problem, last_change, names

pytestmark = pytest.mark.django_db

OVERRIDES = f"{CONFIG}/governance-overrides"
EMERGENCY = "Every build of every team fails on a false finding."


def in_days(days: float) -> str:
    return (timezone.now() + timedelta(days=days)).isoformat()


def asked(rule, **fields):
    return {
        "rule_name": rule.name,
        "override_config": {"severity": "low"},
        "reason": "Legacy code until it is gone.",
        "expires_at": in_days(30),
        **fields,
    }


@pytest.fixture
def rule():
    return make_rule(severity="high")


@pytest.fixture
def requester():
    return make_user("rule editor", username="ada")


@pytest.fixture
def approver():
    return make_user("override approver", username="grace")


@pytest.fixture
def editor_api(requester):
    return api_client(requester)


@pytest.fixture
def approver_api(approver):
    return api_client(approver)


@pytest.fixture
def proposal(rule, requester):
    return make_request(rule, by=requester)


def route(override, verb=""):
    return f"{OVERRIDES}/{override.pk}{verb and '/' + verb}"


def decide(client, override, verb, **body):
    return client.post(route(override, verb), {"comment": "I have read it.", **body})


def severity_in_force(rule, now=None):
    (item,) = [item for item in load_configuration(now).rules if item["name"] == rule.name]
    return item["severity"]


class TestTheWayIntoForce:
    def test_a_request_is_proposed_and_changes_nothing_yet(self, editor_api, rule):
        response = editor_api.post(OVERRIDES, asked(rule))
        assert response.status_code == 201, response.content
        body = response.json()
        assert (body["status"], body["created_by"], body["in_force"]) == ("proposed", "ada", False)
        assert body["original_config"]["severity"] == "high"
        assert body["required"] == {"severity": "high", "approvals": 1, "max_days": 90}
        assert response["Location"].endswith(f"/governance-overrides/{body['id']}")
        assert last_change().change_type == "override_created"
        assert severity_in_force(rule) == "high"

    def test_an_approval_by_somebody_else_puts_it_in_force(self, approver_api, proposal, rule):
        response = decide(approver_api, proposal, "approve", version=proposal.version)
        assert response.status_code == 200, response.content
        body = response.json()
        assert (body["status"], body["approved_by"], body["in_force"]) == ("active", "grace", True)
        assert [(each["user"], each["comment"]) for each in body["approvals"]] == [("grace", "I have read it.")]
        assert body["approvals"][0]["at"]
        row = last_change()
        assert (row.change_type, row.changed_by, row.change_reason) == ("override_approved", "grace", "I have read it.")
        assert response["X-Revision"] == str(row.revision)
        assert severity_in_force(rule) == "low"

    def test_a_draft_waits_for_nobody_until_it_is_proposed(self, editor_api, approver_api, rule):
        draft = editor_api.post(OVERRIDES, asked(rule, draft=True, expires_at=None)).json()
        override = GovernanceRuleOverride.objects.get(pk=draft["id"])
        assert draft["status"] == "draft"
        expect_problem(decide(approver_api, override, "approve"), 409, "conflict")
        expect_problem(decide(editor_api, override, "propose"), 400, "invalid", "#/expires_at")
        assert editor_api.patch(route(override), {"expires_at": in_days(3)}).json()["status"] == "draft"
        assert decide(editor_api, override, "propose").json()["status"] == "proposed"

    def test_every_step_leaves_a_decision_with_who_when_and_why(self, editor_api, approver_api, rule):
        made = editor_api.post(OVERRIDES, asked(rule, draft=True)).json()
        override = GovernanceRuleOverride.objects.get(pk=made["id"])
        decide(editor_api, override, "propose", comment="Please.")
        decide(approver_api, override, "reject", comment="Too long.")
        decide(editor_api, override, "propose", comment="Shorter is not possible.")
        decide(approver_api, override, "approve", comment="I see.")
        body = decide(approver_api, override, "revoke", comment="No longer needed.").json()
        told = [(each["decision"], each["from_status"], each["to_status"], each["user"]) for each in body["decisions"]]
        assert told == [
            ("requested", "", "draft", "ada"),
            ("proposed", "draft", "proposed", "ada"),
            ("rejected", "proposed", "rejected", "grace"),
            ("proposed", "rejected", "proposed", "ada"),
            ("approved", "proposed", "active", "grace"),
            ("revoked", "active", "revoked", "grace"),
        ]
        assert [each["comment"] for each in body["decisions"]][1:3] == ["Please.", "Too long."]
        journal = ConfigurationAuditLog.objects.filter(entity_type="governance_override").order_by("revision")
        assert [each["revision"] for each in body["decisions"]] == [row.revision for row in journal]
        assert [row.change_type for row in journal][-2:] == ["override_approved", "override_revoked"]

    @pytest.mark.parametrize("verb", ["propose", "approve", "reject", "withdraw", "revoke", "confirm"])
    def test_what_has_ended_is_moved_by_nothing(self, editor_api, approver_api, proposal, verb):
        decide(editor_api, proposal, "withdraw")
        before = current_revision()
        client = editor_api if verb in ("propose", "withdraw") else approver_api
        expect_problem(decide(client, proposal, verb), 409, "conflict")
        assert current_revision() == before

    def test_what_is_in_force_is_ended_and_never_rejected(self, approver_api, proposal, rule):
        decide(approver_api, proposal, "approve")
        expect_problem(decide(approver_api, proposal, "reject"), 409, "conflict")
        assert decide(approver_api, proposal, "revoke").json()["status"] == "revoked"
        assert severity_in_force(rule) == "high"

    def test_rejecting_revoking_and_confirming_say_why(self, approver_api, proposal):
        expect_problem(approver_api.post(route(proposal, "reject"), {}), 400, "invalid", "#/comment")
        decide(approver_api, proposal, "approve")
        expect_problem(approver_api.post(route(proposal, "revoke"), {"comment": " "}), 400, "invalid", "#/comment")


class TestASecondPerson:
    """Rule 1: whoever asked or edited last never approves, whatever his rights are."""

    @pytest.mark.parametrize("superuser", [False, True])
    def test_the_requester_never_approves(self, rule, superuser):
        chief = make_user("administrator", superuser=superuser)
        override = make_request(rule, by=chief)
        problem = expect_problem(decide(api_client(chief), override, "approve"), 403, "forbidden")
        assert "somebody else approves it" in problem["detail"]
        assert severity_in_force(rule) == "high"

    def test_neither_does_the_last_editor(self, rule, requester):
        override, chief = make_request(rule, by=requester), make_user("administrator")
        client = api_client(chief)
        assert client.patch(route(override), {"reason": "A better reason."}).status_code == 200
        problem = expect_problem(decide(client, override, "approve"), 403, "forbidden")
        assert "edited" in problem["detail"]

    def test_a_new_name_makes_nobody_another_person(self, rule):
        chief = make_user("administrator")
        override = make_request(rule, by=chief)
        chief.username = "somebody-else"
        chief.save()
        expect_problem(decide(api_client(chief), override, "approve"), 403, "forbidden")

    def test_a_server_may_let_superusers_approve_their_own_and_the_row_says_so(self, rule, settings):
        settings.SUPERUSERS_APPROVE_OWN = True
        chief = make_user("administrator", superuser=True)
        body = decide(api_client(chief), make_request(rule, by=chief), "approve").json()
        assert (body["status"], body["self_approved"]) == ("active", True)
        other = make_user("administrator")
        expect_problem(decide(api_client(other), make_request(rule, by=other), "approve"), 403, "forbidden")

    def test_rejecting_ones_own_is_withdrawing_it(self, proposal, editor_api):
        body = decide(editor_api, proposal, "reject").json()
        assert body["status"] == "withdrawn"
        assert body["warnings"] == [approvals.OWN_REQUEST]

    def test_only_the_requester_withdraws(self, proposal, approver_api):
        expect_problem(decide(approver_api, proposal, "withdraw"), 403, "forbidden")

    def test_a_reader_decides_nothing_and_a_stranger_knows_nothing(self, proposal):
        for verb in ("approve", "reject", "propose", "withdraw", "revoke", "confirm"):
            expect_problem(decide(api_client(make_user("viewer")), proposal, verb), 403, "forbidden")
            expect_problem(decide(api_client(make_user()), proposal, verb), 404, "not-found")

    def test_the_right_can_be_granted_on_one_override(self, proposal, rule):
        guest, other = make_user("viewer"), make_request(rule)
        grant(action="approve", holder=guest, target=proposal)
        client = api_client(guest)
        expect_problem(decide(client, other, "approve"), 403, "forbidden")
        assert decide(client, proposal, "approve").json()["status"] == "active"

    def test_the_system_approves_nothing(self, proposal):
        with pytest.raises(NotPermitted):
            approvals.approve(override=proposal, user=SYSTEM_ACTOR)

    def test_nobody_decides_in_another_ones_name(self, proposal, approver, requester):
        with pytest.raises(NotPermitted):
            approvals.approve(override=proposal, user=approver)  # by a shell: the journal would say "system"
        with pytest.raises(NotPermitted), acting(requester):
            approvals.approve(override=proposal, user=approver)
        assert not GovernanceRuleOverride.objects.get().enabled


class TestSockPuppets:
    """An account that the requester made, or by whose hand it approves, is the requester once more."""

    @pytest.fixture
    def chief(self):
        return make_user("administrator", username="chief")

    def empowering(self, user):
        """He gives rights past the second person that this takes: what stands behind whom is asked all the same."""
        return originating(Origin(source="system", user=user, break_glass="A drill of an emergency."))

    def refuse(self, override, puppet, said):
        problem = expect_problem(decide(api_client(puppet), override, "approve"), 403, "forbidden")
        assert said in problem["detail"] and "chief" in problem["detail"]
        assert not GovernanceRuleOverride.objects.get().enabled

    def test_an_account_that_the_requester_created(self, rule, chief):
        with self.empowering(chief):
            puppet = make_user()
        puppet.groups.add(Group.objects.get(name="override approver"))  # by somebody else
        self.refuse(make_request(rule, by=chief), puppet, "created your account")

    def test_a_role_that_the_requester_gave(self, rule, chief):
        puppet = make_user()
        with self.empowering(chief):
            puppet.groups.add(Group.objects.get(name="override approver"))
        self.refuse(make_request(rule, by=chief), puppet, "gave you the role override approver")

    def test_a_right_that_the_requester_gave(self, rule, chief):
        puppet = make_user("viewer")
        with self.empowering(chief):
            puppet.user_permissions.add(Permission.objects.get(codename="approve_governanceruleoverride"))
        self.refuse(make_request(rule, by=chief), puppet, "gave you the right to approve")

    def test_a_right_that_the_requester_gave_to_a_role(self, rule, chief):
        puppet = make_user("viewer")
        with self.empowering(chief):
            Group.objects.get(name="viewer").permissions.add(
                Permission.objects.get(codename="approve_governanceruleoverride")
            )
        self.refuse(make_request(rule, by=chief), puppet, "gave your role the right to approve")

    def test_a_grant_by_the_requester(self, rule, chief):
        puppet, override = make_user("viewer"), make_request(rule, by=chief)
        with self.empowering(chief):
            grant(action="approve", holder=puppet, target=override)
        self.refuse(override, puppet, "granted you the right to approve")

    def test_a_password_that_the_requester_set(self, rule, chief):
        puppet = make_user("override approver")
        with self.empowering(chief):
            puppet.set_password("another correct horse")
            puppet.save()
        self.refuse(make_request(rule, by=chief), puppet, "set your password")

    def test_whoever_has_set_his_own_password_since_is_himself(self, rule, chief):
        approver = make_user("override approver")
        for user, password in ((chief, "another correct horse"), (approver, "a battery of staples")):
            with self.empowering(user) if user is chief else acting(user):
                approver.set_password(password)
                approver.save()
        assert decide(api_client(approver), make_request(rule, by=chief), "approve").status_code == 200

    def test_an_editor_stands_behind_his_puppets_as_well(self, rule, chief):
        with self.empowering(chief):
            puppet = make_user("override approver")
        override = make_request(rule)
        api_client(chief).patch(route(override), {"reason": "Until the rewrite is done."})
        self.refuse(override, puppet, "created your account")

    def test_a_puppet_of_others_approves(self, rule, chief):
        with self.empowering(make_user("administrator")):
            approver = make_user("override approver")
        assert decide(api_client(approver), make_request(rule, by=chief), "approve").status_code == 200

    def test_a_chain_of_puppets_is_flagged(self, rule, chief):
        with self.empowering(chief):
            first = make_user("administrator", username="first")
        with self.empowering(first):
            second = make_user("override approver", username="second")
        body = decide(api_client(second), make_request(rule, by=chief), "approve").json()
        assert body["status"] == "active"
        assert "chief asked for this or edited it, and stands behind your account" in body["warnings"][0]
        assert last_change().warnings == body["warnings"]

    def test_a_server_may_flag_them_instead(self, rule, chief, settings):
        settings.FLAG_DEPENDENT_APPROVERS = True
        with self.empowering(chief):
            puppet = make_user("override approver")
        body = decide(api_client(puppet), make_request(rule, by=chief), "approve").json()
        assert body["status"] == "active"
        assert "created your account" in body["warnings"][0]
        assert last_change().warnings == body["warnings"]


class TestHowManyApprove:
    """Rule 2: unique for each user, and for what the override says now."""

    @pytest.fixture
    def critical(self, requester):
        return make_request(make_rule(severity="critical"), by=requester)

    def test_a_critical_rule_takes_two(self, critical, approver_api):
        body = decide(approver_api, critical, "approve").json()
        assert (body["status"], body["in_force"], body["approval_count"]) == ("proposed", False, 1)
        assert body["required"]["approvals"] == 2
        assert last_change().change_type == "override_approval_added"
        body = decide(api_client(make_user("override approver")), critical, "approve").json()
        assert (body["status"], body["in_force"]) == ("active", True)
        assert len(body["approvals"]) == 2

    def test_the_same_person_counts_once(self, critical, approver_api):
        decide(approver_api, critical, "approve")
        problem = expect_problem(decide(approver_api, critical, "approve"), 409, "conflict")
        assert "approved it already" in problem["detail"]
        assert not GovernanceRuleOverride.objects.get().enabled

    def test_what_the_override_makes_of_a_rule_weighs_as_well(self, requester, approver_api):
        override = make_request(make_rule(severity="low"), by=requester, override_config={"severity": "critical"})
        assert decide(approver_api, override, "approve").json()["status"] == "proposed"

    def test_the_policy_says_how_many(self, proposal, approver_api):
        make_policy("high", approvals=2)
        assert decide(approver_api, proposal, "approve").json()["status"] == "proposed"

    def test_the_policy_is_read_when_it_is_decided(self, critical, approver_api):
        make_policy("critical", approvals=1)
        assert decide(approver_api, critical, "approve").json()["status"] == "active"

    def test_the_rule_as_it_is_now_weighs(self, proposal, approver_api, rule):
        rule.severity = "critical"
        rule.save()
        expect_problem(decide(approver_api, proposal, "approve"), 409, "conflict")  # it patches the severity
        other = make_request(rule, override_config={"message": "Look at this later."})
        assert decide(approver_api, other, "approve").json()["status"] == "proposed"

    def test_no_policy_asks_nobody(self):
        expect_problem(
            api_client(make_user("administrator")).post(
                f"{CONFIG}/approval-policies", {"severity": "low", "approvals": 0}
            ),
            *(400, "invalid", "#/approvals"),
        )

    @pytest.mark.parametrize(
        "change",
        [
            {"override_config": {"severity": "info"}},
            {"paths": ["legacy/**"]},
            {"reason": "Another reason."},
            {"expires_at": "in 5 days"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_any_edit_takes_the_approvals_back(self, critical, editor_api, approver_api, change):
        decide(approver_api, critical, "approve")
        body = editor_api.patch(route(critical), {k: in_days(5) if k == "expires_at" else v for k, v in change.items()})
        assert (body.json()["status"], body.json()["approvals"], body.json()["approval_count"]) == ("proposed", [], 0)
        other = api_client(make_user("override approver"))
        assert decide(other, critical, "approve").json()["status"] == "proposed"

    def test_editing_it_back_does_not_bring_approvals_back(self, critical, editor_api, approver_api):
        decide(approver_api, critical, "approve")
        for reason in ("Something else.", critical.reason):
            editor_api.patch(route(critical), {"reason": reason})
        body = decide(api_client(make_user("override approver")), critical, "approve").json()
        assert (body["status"], len(body["approvals"])) == ("proposed", 1)

    def test_editing_what_is_in_force_ends_its_force(self, proposal, editor_api, approver_api, rule):
        decide(approver_api, proposal, "approve")
        body = editor_api.patch(route(proposal), {"override_config": {"severity": "info"}}).json()
        assert (body["status"], body["in_force"], body["approved_by"]) == ("proposed", False, None)
        assert severity_in_force(rule) == "high"

    def test_an_edit_that_changes_nothing_takes_nothing_back(self, critical, editor_api, approver_api):
        decide(approver_api, critical, "approve")
        before = current_revision()
        body = editor_api.get(route(critical)).json()
        assert editor_api.put(route(critical), body).json()["approval_count"] == 1
        assert current_revision() == before

    def test_what_was_decided_on_is_what_was_seen(self, proposal, editor_api, approver_api):
        seen = proposal.version
        editor_api.patch(route(proposal), {"override_config": {"enabled": False}})
        response = decide(approver_api, proposal, "approve", version=seen)
        expect_problem(response, 412, "stale")
        assert response["ETag"] == f'"{GovernanceRuleOverride.objects.get().version}"'
        tagged = approver_api.post(route(proposal, "approve"), {"comment": "x"}, headers={"If-Match": f'"{seen}"'})
        expect_problem(tagged, 412, "stale")
        assert not GovernanceRuleOverride.objects.get().enabled

    @pytest.mark.parametrize("name", ["rule_name", "target_type"])
    def test_the_target_is_fixed(self, proposal, editor_api, name):
        other = {"rule_name": make_rule().name, "target_type": "governance_rule"}
        expect_problem(editor_api.patch(route(proposal), {name: other[name]}), 400, "invalid", f"#/{name}")


class TestAgainstTheRuleAsItIs:
    """Rule 4: whenever it comes into force it is valid, and nobody's newer change is undone."""

    def test_a_rule_that_was_changed_where_the_override_changes_it_is_a_conflict(self, proposal, approver_api, rule):
        rule.severity = "medium"
        rule.save()
        problem = expect_problem(decide(approver_api, proposal, "approve"), 409, "conflict")
        expected = [{"field": "severity", "original": "high", "override": "low", "current": "medium"}]
        assert problem["conflicts"] == expected
        assert "Propose it again" in problem["detail"]
        assert approver_api.get(route(proposal)).json()["conflicts"] == expected
        assert severity_in_force(rule) == "medium"

    def test_proposing_it_again_compares_anew_and_takes_approvals_back(self, editor_api, approver_api, requester):
        rule = make_rule(severity="critical")
        override = make_request(rule, by=requester)
        decide(approver_api, override, "approve")
        rule.severity = "high"
        rule.save()
        body = decide(editor_api, override, "propose").json()
        assert (body["conflicts"], body["approvals"], body["original_config"]["severity"]) == ([], [], "high")
        assert decide(approver_api, override, "approve").status_code == 200

    def test_what_the_override_does_not_touch_is_no_conflict(self, proposal, approver_api, rule):
        rule.message = "Another message."
        rule.configuration = {**rule.configuration, "ignore_case": True}
        rule.save()
        assert decide(approver_api, proposal, "approve").json()["status"] == "active"

    def test_within_the_configuration_each_entry_counts_for_itself(self, requester, approver_api, rule):
        override = make_request(rule, by=requester, override_config={"configuration": {"ignore_case": True}})
        rule.configuration = {**rule.configuration, "pattern": r"\b(eval)\("}
        rule.save()
        assert decide(approver_api, override, "approve").json()["status"] == "active"

    def test_a_rule_that_is_gone_has_no_override(self, proposal, approver_api, rule):
        rule.delete()
        problem = expect_problem(decide(approver_api, proposal, "approve"), 409, "conflict")
        assert "There is no analysis rule" in problem["detail"]

    def test_a_patch_that_is_no_longer_valid_does_not_come_into_force(self, requester, approver_api, rule):
        override = make_request(rule, by=requester, override_config={"configuration": {"ignore_case": True}})
        rule.plugin_id, rule.configuration = "metrics", {"measure": "arguments", "max": 8}
        rule.examples = {"match": [], "no_match": []}
        rule.enabled = False
        rule.save()
        expect_problem(decide(approver_api, override, "approve"), 409, "conflict")
        assert not GovernanceRuleOverride.objects.get().enabled

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"override_config": {"severity": "dreadful"}}, "#/override_config/severity"),
            ({"override_config": {"plugin": "secrets"}}, "#/override_config/plugin"),
            ({"override_config": {}}, "#/override_config"),
            ({"override_config": {"configuration": {"pattern": "("}}}, "#/override_config/configuration/pattern"),
            ({"override_config": {"configuration": {"nonsense": 1}}}, "#/override_config/configuration/nonsense"),
            ({"override_config": {"enabled": True}, "rule_name": "a-draft"}, "#/override_config/enabled"),
            ({"paths": [""]}, "#/paths/0"),
            ({"rule_name": "no-such-rule"}, "#/rule_name"),
            ({"expires_at": None}, "#/expires_at"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "#/expires_at"),
            ({"expires_at": "9999-12-31T23:59:59-14:00"}, "#/expires_at"),
            ({"reason": ""}, "#/reason"),
            ({"target_type": "plugin"}, "#/target_type"),
            ({"status": "active", "reasons": "x"}, "#/reasons"),
        ],
    )
    def test_a_request_that_is_not_valid_names_the_place(self, editor_api, rule, fields, pointer):
        make_rule(name="a-draft", status="draft", enabled=False)
        before = current_revision()
        expect_problem(editor_api.post(OVERRIDES, asked(rule, **fields)), 400, "invalid", pointer)
        assert current_revision() == before

    def test_governance_rules_judge_requests_too(self, editor_api, rule):
        make_governance_rule(
            "short-overrides",
            applies_to={"entity_types": ["governance_override"], "change_types": []},
            condition="new == null || facts.days <= 7.0",
            message="A week at most.",
            examples={"pass": [{"facts": {"days": 1.0}, "new": {}}], "fail": [{"facts": {"days": 9.0}, "new": {}}]},
        )
        problem = expect_problem(editor_api.post(OVERRIDES, asked(rule)), 409, "conflict")
        assert "A week at most." in problem["detail"]


class TestItsEnd:
    """Rule 5: an end is mandatory and near, and the clock decides, whether or not anything runs."""

    def test_an_end_is_at_most_as_far_as_the_policy_says(self, editor_api, rule):
        problem = expect_problem(
            editor_api.post(OVERRIDES, asked(rule, expires_at=in_days(91))), 400, "invalid", "#/expires_at"
        )
        assert "90 days at most" in problem["errors"][0]["detail"]
        make_policy("high", approvals=1, max_days=7)
        expect_problem(editor_api.post(OVERRIDES, asked(rule)), 400, "invalid", "#/expires_at")

    def test_a_clock_past_its_end_takes_it_out_of_force_without_any_job(self, rule):
        override = make_approved(rule)
        assert severity_in_force(rule) == "low"
        assert severity_in_force(rule, override.expires_at + timedelta(seconds=1)) == "high"

    def lapse(self, override):
        """As if two days had passed since its end: only the clock has moved."""
        models.QuerySet(GovernanceRuleOverride).filter(pk=override.pk).update(
            created_at=timezone.now() - timedelta(days=40), expires_at=timezone.now() - timedelta(days=2)
        )
        return GovernanceRuleOverride.objects.get(pk=override.pk)

    def test_an_expired_one_is_not_extended_by_any_verb(self, editor_api, approver_api, rule, requester):
        override = self.lapse(make_approved(rule, by=requester))
        problem = expect_problem(editor_api.patch(route(override), {"expires_at": in_days(5)}), 409, "conflict")
        assert "expired" in problem["detail"] and "Ask for a new one" in problem["detail"]
        expect_problem(decide(editor_api, override, "propose"), 409, "conflict")
        expect_problem(decide(approver_api, override, "approve"), 409, "conflict")
        call_command("expire_overrides")
        expect_problem(editor_api.patch(route(override), {"expires_at": in_days(5)}), 409, "conflict")

    def test_a_proposal_whose_end_has_passed_is_not_approved(self, approver_api, proposal):
        self.lapse(proposal)
        problem = expect_problem(decide(approver_api, proposal, "approve"), 409, "conflict")
        assert "has passed" in problem["detail"]

    def test_whoever_notices_writes_the_lapse_down_once(self, rule):
        override = make_approved(rule)
        assert approvals.expire_due(now=override.expires_at - timedelta(seconds=1)) == []
        later = override.expires_at + timedelta(seconds=1)
        assert [each.pk for each in approvals.expire_due(now=later)] == [override.pk]
        assert approvals.expire_due(now=later) == []
        row = last_change()
        assert (row.change_type, row.changed_by) == ("override_expired", "system")
        stored = GovernanceRuleOverride.objects.get()
        assert (stored.status, stored.enabled) == ("expired", False)
        assert stored.decisions.last().kind == "expired"

    def test_a_command_does_it(self, rule, capsys):
        self.lapse(make_approved(rule))
        call_command("expire_overrides", "--reason", "nightly", stdout=StringIO())
        assert GovernanceRuleOverride.objects.get().status == "expired"
        assert "1 override" in capsys.readouterr().err


class TestBreakGlass:
    """Rule 6: a right of its own, explicit, with a reason, short, marked, and reviewed afterwards."""

    def ask(self, user, rule, **fields):
        body = asked(rule, break_glass=True, reason=EMERGENCY, expires_at=in_days(1), **fields)
        return api_client(user).post(OVERRIDES, body)

    def test_it_is_in_force_at_once_and_marked_everywhere(self, rule):
        body = self.ask(make_user("administrator"), rule).json()
        assert (body["status"], body["break_glass"], body["needs_review"]) == ("active", True, True)
        assert (body["in_force"], body["approved_by"]) == (True, None)
        assert [each["decision"] for each in body["decisions"]] == ["break_glass"]
        row = last_change()
        assert (row.change_type, row.change_reason) == ("override_break_glass", EMERGENCY)
        assert severity_in_force(rule) == "low"

    @pytest.mark.parametrize("role", ["rule editor"])
    def test_it_takes_a_right_of_its_own(self, rule, role):
        problem = expect_problem(self.ask(make_user(role), rule), 403, "forbidden")
        assert "overrides.break_glass" in problem["detail"]

    def test_being_a_superuser_does_not_imply_it(self, rule):
        expect_problem(self.ask(make_user(superuser=True), rule), 403, "forbidden")

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"reason": "Urgent."}, "#/reason"),
            ({"expires_at": "far"}, "#/expires_at"),
            ({"expires_at": None}, "#/expires_at"),
            ({"draft": True}, "#/draft"),
        ],
        ids=["reason", "too long", "no end", "draft"],
    )
    def test_it_has_a_reason_and_a_near_end(self, rule, fields, pointer):
        fields = {key: in_days(4) if value == "far" else value for key, value in fields.items()}
        body = asked(rule, **{"break_glass": True, "reason": EMERGENCY, "expires_at": in_days(1), **fields})
        expect_problem(api_client(make_user("administrator")).post(OVERRIDES, body), 400, "invalid", pointer)

    def test_it_waits_for_a_review_by_a_second_person(self, rule, approver_api):
        chief = make_user("administrator")
        override = GovernanceRuleOverride.objects.get(pk=self.ask(chief, rule).json()["id"])
        expect_problem(decide(api_client(chief), override, "confirm"), 403, "forbidden")
        assert approver_api.get(f"{OVERRIDES}/backlog").json()["to_review"] == 1
        assert names(approver_api.get(f"{OVERRIDES}?waiting_for_me=true"), "id") == [override.pk]
        body = decide(approver_api, override, "confirm").json()
        assert (body["needs_review"], body["approved_by"], body["break_glass"]) == (False, "grace", True)
        assert last_change().change_type == "override_confirmed"
        assert severity_in_force(rule) == "low"
        expect_problem(decide(approver_api, override, "confirm"), 409, "conflict")

    def test_a_review_may_end_it(self, rule, approver_api):
        override = GovernanceRuleOverride.objects.get(pk=self.ask(make_user("administrator"), rule).json()["id"])
        body = decide(approver_api, override, "revoke").json()
        assert (body["status"], body["needs_review"]) == ("revoked", False)
        assert severity_in_force(rule) == "high"

    def test_it_is_reviewed_after_its_end_as_well(self, rule, approver_api):
        override = GovernanceRuleOverride.objects.get(pk=self.ask(make_user("administrator"), rule).json()["id"])
        models.QuerySet(GovernanceRuleOverride).filter(pk=override.pk).update(
            created_at=timezone.now() - timedelta(days=2), expires_at=timezone.now() - timedelta(days=1)
        )
        assert decide(approver_api, override, "confirm").json()["status"] == "expired"

    def test_nothing_is_edited_before_the_review(self, rule, approver_api):
        """Else an edit would take the mark away, and nobody would look at what happened."""
        chief = make_user("administrator")
        client, override = api_client(chief), GovernanceRuleOverride.objects.get(pk=self.ask(chief, rule).json()["id"])
        expect_problem(client.patch(route(override), {"reason": "Never mind."}), 409, "conflict")
        decide(approver_api, override, "confirm")
        assert client.patch(route(override), {"reason": "A better reason."}).json()["status"] == "proposed"

    def test_an_ordinary_request_does_not_become_one_by_an_edit(self, rule):
        chief = make_user("administrator")
        override = make_request(rule, by=chief)
        expect_problem(api_client(chief).patch(route(override), {"break_glass": True}), 409, "conflict")


class TestOtherDoors:
    """Nothing but the verbs brings an override into force: rule 4, "approve is not apply is not bypass"."""

    @pytest.mark.parametrize("status", ["active", "rejected", "withdrawn", "revoked", "expired"])
    def test_the_model_itself_refuses_to_be_stored_so(self, proposal, requester, status):
        proposal.status, proposal.enabled = status, status == "active"
        proposal.approved_by = "grace" if status == "active" else None
        with pytest.raises(StateConflict, match="does not become"), acting(requester):
            proposal.save()
        assert GovernanceRuleOverride.objects.get().status == "proposed"

    def test_a_new_row_is_not_born_active(self, rule):
        born = GovernanceRuleOverride(
            rule_name=rule.name, override_config={"severity": "low"}, reason="x", created_by="ada", status="active",
            enabled=True, approved_by="grace", expires_at=timezone.now() + timedelta(days=1),
        )  # fmt: skip
        with pytest.raises(StateConflict, match="does not become active"):
            born.save()

    @pytest.mark.parametrize("fields", [{"approval_count": 2}, {"break_glass": True}, {"self_approved": True}])
    def test_what_tells_of_decisions_is_not_set_by_hand(self, proposal, fields):
        for name, value in fields.items():
            setattr(proposal, name, value)
        with pytest.raises(StateConflict, match="not set by hand"):
            proposal.save()

    def test_what_is_in_force_is_not_edited_behind_its_approvals(self, rule):
        override = make_approved(rule)
        override.override_config = {"enabled": False}
        with pytest.raises(StateConflict):
            override.save()
        assert severity_in_force(rule) == "low"

    def test_a_forged_decision_has_no_witness(self, proposal, requester):
        """Somebody at a shell, who knows the code, writes the approval of another person by hand."""
        with pytest.raises(StateConflict, match="0 of the 1 approvals"), acting(requester), change_set():
            proposal.status, proposal.enabled, proposal.approved_by = "active", True, "grace"
            proposal.approval_count = 1
            proposal.save()
            forged = OverrideDecision(
                revision=proposal.version, override=proposal, kind="approved", to_status="active", decided_by="grace",
                content_digest=proposal.content_digest, created_at=timezone.now(),
            )  # fmt: skip
            models.QuerySet(OverrideDecision).bulk_create([forged])
        assert not GovernanceRuleOverride.objects.get().enabled

    def test_the_requester_cannot_record_his_own_approval(self, proposal, requester):
        with pytest.raises(StateConflict, match="0 of the 1 approvals"), acting(requester), change_set():
            proposal.status, proposal.enabled, proposal.approved_by = "active", True, "grace"
            proposal.save()
            record(override=proposal, kind="approved", from_status="proposed")

    def test_put_and_patch_take_no_status(self, proposal, editor_api, rule):
        for send in (editor_api.put, editor_api.patch):
            body = send(route(proposal), {"status": "active", "enabled": True, "approved_by": "grace"}).json()
            assert (body["status"], body["enabled"], body["approved_by"]) == ("proposed", False, None)
        assert severity_in_force(rule) == "high"

    def test_a_request_takes_no_status(self, rule, editor_api):
        body = editor_api.post(OVERRIDES, asked(rule, status="active", enabled=True, approved_by="grace")).json()
        assert (body["status"], body["enabled"], body["approved_by"]) == ("proposed", False, None)

    def test_a_rollback_brings_none_back_active(self, rule):
        override = make_approved(rule)
        with acting(make_user("override approver")) as origin:
            approvals.revoke(override=override, user=origin.user, comment="Over.")
        revoked = last_change().revision
        chief = make_user("administrator")
        with acting(chief):
            roll_back(Target(change=revoked), user=chief)
        stored = GovernanceRuleOverride.objects.get()
        assert (stored.status, stored.enabled, stored.approved_by, stored.approval_count) == ("draft", False, None, 0)
        assert stored.decisions.last().kind == "restored"
        assert severity_in_force(rule) == "high"

    def test_one_that_was_deleted_comes_back_as_a_draft_without_its_approvals(self, rule):
        override = make_approved(rule)
        key = override.pk
        override.delete()
        with originating(Origin(source="system")):
            roll_back(Target(change=last_change().revision), user=SYSTEM_ACTOR)
        stored = GovernanceRuleOverride.objects.get(pk=key)
        assert (stored.status, stored.enabled) == ("draft", False)
        body = api_client(make_user("viewer")).get(route(stored)).json()
        assert body["approvals"] == []
        assert [each["decision"] for each in body["decisions"]] == ["requested", "approved", "restored"]

    def test_documents_hold_no_overrides(self, rule):
        make_approved(rule)
        out = StringIO()
        call_command("export_config", stdout=out)
        assert "override" not in out.getvalue()


class TestTheRecord:
    def test_decisions_are_changed_by_nobody(self, proposal):
        decision = proposal.decisions.get()
        decision.comment = "Something else."
        for attempt in (decision.save, decision.delete, proposal.decisions.all().delete):
            with pytest.raises(UngovernedWrite):
                attempt()

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE {} SET decided_by = 'grace'",
            "DELETE FROM {}",
            pytest.param(
                "INSERT OR REPLACE INTO {0} SELECT * FROM {0}",
                marks=pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's own"),
            ),
        ],
    )
    def test_the_database_refuses_too(self, proposal, statement):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement.format(OverrideDecision._meta.db_table))

    def test_it_outlives_the_people(self, proposal, approver, rule):
        approve(proposal, by=approver)
        approver.delete()
        body = api_client(make_user("viewer")).get(route(proposal)).json()
        assert body["approvals"][0]["user"] == "grace"
        assert severity_in_force(rule) == "low"


class TestWaivers:
    @pytest.fixture
    def guarded(self, rule):
        make_governance_rule("no-info", enforcement="require_override")
        return rule

    def test_one_is_asked_for_approved_and_lets_the_change_pass(self, guarded, editor_api, approver_api):
        change = {"severity": "info"}
        expect_problem(editor_api.patch(f"{RULES}/{guarded.pk}", change), 409, "conflict")
        wanted = {"entity_type": "analysis_rule", "entity_name": guarded.name}
        body = asked(guarded, rule_name="no-info", target_type="governance_rule", override_config=wanted)
        made = editor_api.post(OVERRIDES, body).json()
        assert made["required"]["severity"] == "high"
        override = GovernanceRuleOverride.objects.get(pk=made["id"])
        expect_problem(editor_api.patch(f"{RULES}/{guarded.pk}", change), 409, "conflict")
        assert decide(approver_api, override, "approve").json()["status"] == "active"
        other = make_rule()
        expect_problem(editor_api.patch(f"{RULES}/{other.pk}", change), 409, "conflict")
        assert editor_api.patch(f"{RULES}/{guarded.pk}", change).status_code == 200

    def test_a_wide_one_weighs_like_a_critical_rule(self, guarded, editor_api):
        for wanted in ({}, {"entity_type": "plugin", "entity_name": "secrets"}, {"entity_name": guarded.name}):
            body = asked(guarded, rule_name="no-info", target_type="governance_rule", override_config=wanted)
            assert editor_api.post(OVERRIDES, body).json()["required"]["approvals"] == 2

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"override_config": {"entity": "x"}}, "#/override_config/entity"),
            ({"override_config": {"entity_name": 5}}, "#/override_config/entity_name"),
            ({"override_config": {"entity_name": " "}}, "#/override_config/entity_name"),
            ({"paths": ["legacy/**"]}, "#/paths"),
            ({"rule_name": "no-such-rule"}, "#/rule_name"),
        ],
    )
    def test_one_that_is_not_valid_names_the_place(self, guarded, editor_api, fields, pointer):
        body = {**asked(guarded, rule_name="no-info", target_type="governance_rule"), "override_config": {}, **fields}
        expect_problem(editor_api.post(OVERRIDES, body), 400, "invalid", pointer)

    def test_a_governance_rule_that_was_changed_since_is_a_conflict(self, guarded, editor_api, approver_api):
        body = asked(guarded, rule_name="no-info", target_type="governance_rule", override_config={})
        override = GovernanceRuleOverride.objects.get(pk=editor_api.post(OVERRIDES, body).json()["id"])
        judge = GovernanceRule.objects.get()
        judge.enforcement = "block"
        judge.save()
        problem = expect_problem(decide(approver_api, override, "approve"), 409, "conflict")
        assert [each["field"] for each in problem["conflicts"]] == ["enforcement"]


class TestLists:
    def test_one_tells_what_the_caller_can_do_with_it(self, proposal, editor_api, approver_api, rule, requester):
        viewer = api_client(make_user("viewer"))
        told = [client.get(route(proposal)).json()["actions"] for client in (editor_api, approver_api, viewer)]
        assert told == [["withdraw"], ["approve", "reject"], []]
        for verb in told[1]:
            assert decide(approver_api, make_request(rule, by=requester), verb).status_code == 200

    def test_filters_find_them(self, editor_api, rule, requester):
        first = make_request(rule, by=requester)
        second = make_approved(rule)
        third = make_request(rule, expires_at=timezone.now() + timedelta(days=3))
        for query, expected in {
            "status=active": [second],
            "created_by=ada": [first],
            f"rule_name={rule.name}&status=proposed": [third, first],
            f"expires_before={in_days(5).replace('+', '%2B')}": [third],
            "break_glass=true": [],
            "needs_review=false&approved_by=nobody": [],
        }.items():
            assert names(editor_api.get(f"{OVERRIDES}?{query}"), "id") == [each.pk for each in expected], query

    def test_each_sees_what_waits_for_him(self, approver, approver_api, rule, requester):
        critical = make_rule(severity="critical")
        plain, double = make_request(rule, by=requester), make_request(critical, by=requester)
        make_request(rule, draft=True)
        waiting = f"{OVERRIDES}?waiting_for_me=true"
        assert names(approver_api.get(waiting), "id") == [double.pk, plain.pk]
        approve(double, by=approver)
        assert names(approver_api.get(waiting), "id") == [plain.pk]
        api_client(requester).patch(route(double), {"reason": "Until summer."})
        assert names(approver_api.get(waiting), "id") == [double.pk, plain.pk]
        assert names(api_client(requester).get(waiting), "id") == []
        assert names(api_client(make_user("viewer")).get(waiting), "id") == []

    def test_what_somebody_asked_for_does_not_wait_for_him_nor_for_his_puppets(self, rule):
        chief = make_user("administrator")
        with acting(chief):
            puppet = make_user("override approver")
        make_request(rule, by=chief)
        for user in (chief, puppet):
            assert names(api_client(user).get(f"{OVERRIDES}?waiting_for_me=true"), "id") == []

    def test_the_backlog_counts(self, approver_api, rule, requester):
        oldest = make_request(rule, by=requester)
        make_request(rule, by=requester)
        make_approved(rule, expires_at=timezone.now() + timedelta(days=5))
        make_approved(rule)
        for days in (1, 2, 40):  # the last one ended too long ago to count
            ended = timezone.now() - timedelta(days=days)
            models.QuerySet(GovernanceRuleOverride).filter(pk=make_approved(rule).pk).update(
                created_at=ended - timedelta(days=1), expires_at=ended
            )
        body = approver_api.get(f"{OVERRIDES}/backlog").json()
        assert parse_datetime(body.pop("oldest")) == oldest.created_at
        assert body.pop("in_force") == 2
        assert body == {"waiting": 2, "waiting_for_me": 2, "expiring_soon": 1, "expired": 2, "to_review": 0}


def test_a_request_by_the_system_is_approved_by_people(rule):
    with originating(Origin(source="command")):
        override = approvals.request(
            user=SYSTEM_ACTOR, rule_name=rule.name, override_config={"severity": "low"}, reason="A script asked.",
            expires_at=timezone.now() + timedelta(days=1),
        )  # fmt: skip
    assert override.created_by == "system"
    assert approve(override).status == "active"


def test_the_system_breaks_no_glass(rule):
    with pytest.raises(NotPermitted), originating(Origin(source="command")):
        approvals.request(
            user=SYSTEM_ACTOR, rule_name=rule.name, override_config={"severity": "low"}, reason=EMERGENCY,
            expires_at=timezone.now() + timedelta(days=1), break_glass=True,
        )  # fmt: skip


def test_a_policy_is_governed_like_everything_else():
    policy = make_policy("critical", approvals=2)
    with pytest.raises(ValidationError):
        policy.approvals = 0
        policy.save()
    assert last_change().entity_type == "approval_policy"


def test_a_rule_that_one_may_not_see_is_not_shown_by_asking_for_an_override_of_it(rule):
    user = make_user()
    user.user_permissions.add(Permission.objects.get(codename="add_governanceruleoverride"))
    unknown = expect_problem(api_client(user).post(OVERRIDES, asked(rule)), 400, "invalid", "#/rule_name")
    assert unknown["detail"] == f"There is no analysis rule '{rule.name}'."
    grant(action="view", holder=user, target=rule)
    assert api_client(user).post(OVERRIDES, asked(rule)).status_code == 201
