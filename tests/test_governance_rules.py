"""Does every door obey the governance rules? And can a rule that judges nothing, or for ever, not be stored?"""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import models
from django.utils import timezone

from audit.changes import change_set
from audit.exchange import apply, parse
from audit.governed import save_all
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR
from audit.rollback import Target, roll_back
from governance_config.management.commands.prepare import STARTER
from overrides import conditions
from overrides.models import GovernanceRule, GovernanceRuleOverride
from personas.models import PersonaRuleAssignment
from plugins.models import Plugin
from plugins.services import sync_plugins
from rules.models import AnalysisRule
from tests.admin_client import address, errors, sign_in, submit
from tests.factories import (
    api_client,
    approve,
    build_rule,
    make_governance_rule,
    make_override,
    make_persona,
    make_request,
    make_rule,
    make_user,
)
from tests.rest import CONFIG, PLUGINS, RULES, expect_problem

pytestmark = pytest.mark.django_db
GOVERNANCE = f"{CONFIG}/governance-rules"


@pytest.fixture
def client():
    return api_client(make_user("administrator", username="chief-of-all"))


@pytest.fixture
def rule() -> AnalysisRule:
    """A rule, and a governance rule that wants no rule to be of severity info."""
    rule = make_rule(name="no-eval")
    make_governance_rule()
    return rule


def refused(match: str):
    return pytest.raises(ValidationError, match=match)


def test_the_api_refuses_a_change_and_says_which_rule_it_breaks(client, rule):
    body = expect_problem(client.put(f"{RULES}/{rule.pk}", {"severity": "info"}), 409, "conflict")
    assert "no-eval: Nobody reads findings of severity info. (governance rule no-info)" in body["detail"]
    assert AnalysisRule.objects.get().severity == "high"


def test_the_admin_refuses_a_change(rule):
    browser = sign_in(make_user("rule editor"))
    found = errors(submit(browser, address("change", rule), severity="info"))
    assert "governance rule no-info" in str(found)
    assert AnalysisRule.objects.get().severity == "high"


def test_bulk_import_and_the_shell_are_refused_alike(client, rule, tmp_path):
    expect_problem(client.post(f"{RULES}/bulk", {"updates": [{"id": rule.pk, "severity": "info"}]}), 409, "conflict")
    document = tmp_path / "rules.yaml"
    document.write_text("format: code-review-governance/1\nanalysis_rules: [{name: no-eval, severity: info}]\n")
    with pytest.raises(CommandError, match="governance rule no-info"):
        call_command("import_config", str(document), apply=True)
    rule.severity = "info"
    with refused("governance rule no-info"):
        rule.save()
    with refused("governance rule no-info"):
        save_all([build_rule(severity="info")])
    assert list(AnalysisRule.objects.values_list("severity", flat=True)) == ["high"]


def test_a_rollback_obeys_as_well(rule):
    GovernanceRule.objects.all().delete()
    rule.severity = "info"
    rule.save()
    was_info = rule.version
    rule.severity = "low"
    rule.save()
    make_governance_rule()
    with refused("governance rule no-info"):
        roll_back(Target(change=rule.version), user=SYSTEM_ACTOR)
    assert rule.version > was_info


def test_a_warning_reaches_the_caller_and_the_journal(client, rule):
    GovernanceRule.objects.all().delete()
    make_governance_rule(enforcement="warn")
    answer = client.put(f"{RULES}/{rule.pk}", {"severity": "info"})
    (said,) = answer.json()["warnings"]
    assert "governance rule no-info" in said
    assert ConfigurationAuditLog.objects.first().warnings == [said]


def test_a_disabled_rule_judges_nothing(rule):
    governance = GovernanceRule.objects.get()
    governance.enabled = False
    governance.save()
    rule.severity = "info"
    rule.save()


def test_switching_a_rule_off_in_the_same_change_set_does_not_help(rule):
    governance = GovernanceRule.objects.get()
    with refused("governance rule no-info"), change_set():
        governance.enabled = False
        governance.save()
        rule.severity = "info"
        rule.save()


def test_what_is_put_back_within_the_change_set_is_no_change(rule):
    with change_set():
        for severity in ("info", "high"):
            rule.severity = severity
            rule.save()


def test_a_change_is_judged_by_all_that_it_was_on_its_way(rule):
    """Two steps in one change set: the second, of another kind, does not hide the first."""
    GovernanceRule.objects.all().delete()
    make_governance_rule(
        name="stays-on",
        applies_to={"entity_types": [], "change_types": ["plugin_toggled"]},
        condition="new.enabled",
        examples={"pass": [{"new": {"enabled": True}}], "fail": [{"new": {"enabled": False}}]},
    )
    plugin = Plugin.objects.get(name="secrets")
    with refused("stays-on"), change_set():
        plugin.enabled = False
        plugin.save()
        plugin.configuration = {"max_findings_per_file": 7}
        plugin.save()


def test_what_cannot_be_judged_is_refused_with_a_clear_word(rule):
    GovernanceRule.objects.all().delete()
    make_governance_rule(
        condition="old.severity != 'x' && new.severity != 'info'",
        examples={"pass": [{"old": {"severity": "a"}, "new": {"severity": "b"}}], "fail": [{"old": {"severity": "x"}}]},
    )
    with refused("This change cannot be judged, so it is refused"):
        make_rule(name="another")


class TestWaivers:
    @pytest.fixture
    def guarded(self, rule) -> AnalysisRule:
        GovernanceRule.objects.all().delete()
        make_governance_rule(enforcement="require_override")
        return rule

    def waive(self, **fields) -> GovernanceRuleOverride:
        values = {"target_type": "governance_rule", "override_config": {}, "status": "active", "enabled": True}
        return make_override("no-info", approved_by="chief", **{**values, **fields})

    def test_without_one_the_change_is_refused_and_told_what_it_takes(self, guarded):
        guarded.severity = "info"
        with refused("takes an approved waiver: .* about the governance rule no-info"):
            guarded.save()

    def test_with_an_approved_one_it_passes(self, guarded):
        self.waive()
        guarded.severity = "info"
        guarded.save()

    def test_one_for_another_object_does_not_cover_it(self, guarded):
        self.waive(override_config={"entity_name": "another"})
        guarded.severity = "info"
        with refused("governance rule no-info"):
            guarded.save()

    def test_an_expired_one_covers_nothing_without_any_job(self, guarded):
        waiver = self.waive()
        # Its row still says that it is active: only the clock has moved on.
        models.QuerySet(GovernanceRuleOverride).filter(pk=waiver.pk).update(
            created_at=timezone.now() - timedelta(days=2), expires_at=timezone.now() - timedelta(days=1)
        )
        guarded.severity = "info"
        with refused("governance rule no-info"):
            guarded.save()

    def test_a_proposed_one_covers_nothing(self, guarded):
        self.waive(status="proposed", enabled=False)
        guarded.severity = "info"
        with refused("governance rule no-info"):
            guarded.save()


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("", "A condition is needed"),
        ("new.severity ==", "This is no CEL expression"),
        ("nothing.known == 1", "nothing is not known. Known are old, new, actor, change, facts."),
        ("true || " * 80 + "true", "500 are allowed"),
        ("new.a.all(x, new.b.all(y, new.c.all(z, z)))", "Macros may be nested 2 deep"),
    ],
)
def test_a_condition_that_cannot_be_used_is_refused_at_its_field(client, condition, said):
    body = {"name": "x", "condition": condition, "message": "No.", "enabled": False}
    problem = expect_problem(client.post(GOVERNANCE, body), 400, "invalid", "#/condition")
    if condition:
        assert said in problem["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("examples", "pointer"),
    [
        ({"pass": [], "fail": []}, "#/examples"),
        ({"pass": [{"new": {"severity": "info"}}], "fail": [{"new": {"severity": "info"}}]}, "#/examples/pass/0"),
        ({"pass": [{"new": {"severity": "low"}}], "fail": [{"new": {"severity": "low"}}]}, "#/examples/fail/0"),
        ({"pass": [{"new": {}}], "fail": [{"new": {"severity": "info"}}]}, "#/examples/pass/0"),
        ({"pass": [{"news": {}}], "fail": [{"new": {"severity": "info"}}]}, "#/examples/pass/0"),
    ],
)
def test_a_rule_that_fails_on_its_own_examples_is_refused(client, examples, pointer):
    body = {"name": "x", "condition": "new.severity != 'info'", "message": "No.", "examples": examples}
    expect_problem(client.post(GOVERNANCE, body), 400, "invalid", pointer)


def test_brackets_in_texts_are_no_nesting():
    assert conditions.holds("new.all(x, x != '.all(.all(.all(')", {"new": ["a"]})


def test_a_list_that_is_too_long_is_refused_rather_than_judged_in_part():
    with pytest.raises(conditions.ConditionError, match="101 entries"):
        conditions.holds("new.tags.all(x, true)", {"new": {"tags": ["a"] * 101}})


class TestShippedRules:
    @pytest.fixture
    def starter(self):
        """The starter configuration in force."""
        sync_plugins()
        apply(parse(STARTER.read_bytes()), user=SYSTEM_ACTOR)
        return AnalysisRule.objects.filter(severity="critical", rule_type="security", enabled=True).first()

    @pytest.mark.parametrize(
        "change",
        [
            {"enabled": False},
            {"severity": "low"},
            {"rule_type": "style"},
            {"exclude_patterns": ["."]},
            {"file_types": [".never"]},
            {"file_patterns": ["^never/"]},
            {"status": "deprecated"},
            {"configuration": {"pattern": "never"}, "plugin": "patterns", "examples": {"match": [], "no_match": []}},
        ],
    )
    def test_weakening_a_critical_security_rule_takes_a_waiver(self, client, starter, change):
        problem = expect_problem(client.put(f"{RULES}/{starter.pk}", change), 409, "conflict")
        assert "critical-security-rules-stay" in problem["detail"] and "approved waiver" in problem["detail"]
        waive("critical-security-rules-stay", starter)
        assert client.put(f"{RULES}/{starter.pk}", change).status_code == 200

    def test_a_waiver_serves_nobody_but_who_asked_for_it(self, client, starter):
        waive("critical-security-rules-stay", starter)
        other = api_client(make_user("administrator"))
        expect_problem(other.put(f"{RULES}/{starter.pk}", {"enabled": False}), 409, "conflict")
        assert client.put(f"{RULES}/{starter.pk}", {"enabled": False}).status_code == 200

    def test_nor_an_account_that_has_got_his_name(self, client, starter):
        waive("critical-security-rules-stay", starter)
        User.objects.get(username="chief-of-all").delete()
        heir = api_client(make_user("administrator", username="chief-of-all"))
        expect_problem(heir.put(f"{RULES}/{starter.pk}", {"enabled": False}), 409, "conflict")

    def test_so_does_deleting_it(self, client, starter):
        expect_problem(client.delete(f"{RULES}/{starter.pk}"), 409, "conflict")
        waive("critical-security-rules-stay", starter)
        assert client.delete(f"{RULES}/{starter.pk}").status_code == 204

    def test_a_waiver_for_it_takes_two_people_and_covers_no_other_rule(self, client, starter):
        waiver = waive("critical-security-rules-stay", starter)
        assert waiver.decisions.filter(kind="approved").count() == 2
        other = AnalysisRule.objects.filter(severity="critical", rule_type="security", enabled=True).last()
        expect_problem(client.put(f"{RULES}/{other.pk}", {"enabled": False}), 409, "conflict")

    def test_so_is_deleting_it_and_allowing_to_suppress_it(self, client, starter):
        expect_problem(client.delete(f"{RULES}/{starter.pk}"), 409, "conflict")
        starter.suppressible = False
        starter.save()
        expect_problem(client.put(f"{RULES}/{starter.pk}", {"suppressible": True}), 409, "conflict")

    @pytest.mark.parametrize("first", [{"severity": "low"}, {"rule_type": "style"}, {"status": "deprecated"}])
    def test_two_steps_are_refused_at_the_first_by_api_and_admin(self, client, starter, first):
        expect_problem(client.put(f"{RULES}/{starter.pk}", first), 409, "conflict")
        expect_problem(client.put(f"{RULES}/{starter.pk}", {"enabled": False}), 409, "conflict")
        browser = sign_in(make_user("rule editor"))
        assert "critical-security-rules-stay" in str(errors(submit(browser, address("change", starter), **first)))
        assert AnalysisRule.objects.get(pk=starter.pk).version == starter.version

    def test_a_deletion_that_is_warned_of_says_so(self, client, starter):
        guard = GovernanceRule.objects.get(name="critical-security-rules-stay")
        guard.enforcement = "warn"
        guard.save()
        answer = client.delete(f"{RULES}/{starter.pk}")
        (said,) = answer.json()["warnings"]
        assert answer.status_code == 200 and "critical-security-rules-stay" in said
        assert ConfigurationAuditLog.objects.first().warnings == [said]

    def test_its_words_may_be_changed(self, client, starter):
        assert "warnings" not in client.put(f"{RULES}/{starter.pk}", {"message": "Replace this key."}).json()

    def test_switching_off_a_plugin_that_enabled_rules_need_takes_a_waiver(self, client, starter):
        off = {"enabled": False}
        problem = expect_problem(client.post(f"{PLUGINS}/secrets/toggle", off), 409, "conflict")
        assert "needed-plugins-stay-on" in problem["detail"]
        waive("needed-plugins-stay-on", Plugin.objects.get(name="secrets"))
        assert client.post(f"{PLUGINS}/secrets/toggle", off).status_code == 200

    def test_switching_off_a_plugin_that_enabled_rules_need_is_refused(self, client, starter):
        body = expect_problem(client.post(f"{PLUGINS}/secrets/toggle", {"enabled": False}), 409, "conflict")
        assert "needed-plugins-stay-on" in body["detail"]

    def test_the_last_persona_of_an_enabled_rule_stays(self, client, starter):
        assignment = PersonaRuleAssignment.objects.get(rule=starter, is_active=True)
        route = f"{CONFIG}/personas/assignments/{assignment.pk}"
        problem = expect_problem(client.delete(route), 409, "conflict")
        assert "enabled-rules-have-a-persona" in problem["detail"]
        with refused("enabled-rules-have-a-persona"):
            assignment.delete()
        with refused("enabled-rules-have-a-persona"):
            starter.assignments.all().delete()

    def test_an_override_ends_within_90_days(self, starter):
        make_override(starter.name, expires_at=timezone.now() + timedelta(days=89))
        with refused("overrides-end-soon"):
            make_override(starter.name, expires_at=timezone.now() + timedelta(days=91))

    def test_a_new_rule_gets_its_persona_before_it_is_judged(self, client, starter):
        make_persona("late", rule_types=[])
        assert client.post(RULES, {**yaml.safe_load(NEW)}).status_code == 201


def waive(governance_rule: str, item: AnalysisRule | Plugin) -> GovernanceRuleOverride:
    """A waiver for one object, asked for and approved by as many people as that takes."""
    override = make_request(
        by=User.objects.filter(username="chief-of-all").first(),
        rule_name=governance_rule,
        target_type="governance_rule",
        override_config={"entity_type": item.entity_type, "entity_name": item.name},
    )
    while override.status == "proposed":
        override = approve(override)
    return override


NEW = """
name: no-print
rule_type: style
severity: low
configuration: {pattern: 'print'}
examples: {match: ['print'], no_match: ['x']}
"""
