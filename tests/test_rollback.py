"""Can every change be undone, by one change, a batch, or all since a revision? And is the result what was there?"""

from __future__ import annotations

import random
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from audit.changes import Origin, change_set, originating
from audit.errors import NotPermitted, StateConflict
from audit.exchange import dump, export_document
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR, grant
from audit.rollback import RollbackRefused, Target, find_revision, roll_back
from audit.verification import verify
from overrides.models import GovernanceRuleOverride
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.factories import build_rule, make_assignment, make_override, make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db


def export() -> str:
    return dump(export_document(SYSTEM_ACTOR))


def undo(**target: object) -> object:
    return roll_back(Target(**target), user=SYSTEM_ACTOR, reason="mistake")


def test_an_edit_is_undone_by_a_new_change_with_its_reason():
    rule = make_rule(severity="high")
    rule.severity = "low"
    rule.save()
    undo(change=rule.version)
    row = ConfigurationAuditLog.objects.first()
    assert AnalysisRule.objects.get().severity == "high"
    assert (row.change_type, row.revision, row.change_reason) == ("rule_updated", rule.version + 1, "mistake")
    assert verify().intact


def test_a_created_object_is_deleted_again():
    rule = make_rule()
    plan = undo(change=ConfigurationAuditLog.objects.get(entity_type="analysis_rule").revision)
    assert (plan.count("delete"), AnalysisRule.objects.count()) == (1, 0)
    assert plan.steps[0].entity_name == rule.name


def test_a_deleted_rule_comes_back_with_its_key_and_its_personas():
    security, guest = make_persona("security"), make_persona("guest", rule_types=[])
    rule = make_rule()
    make_assignment(rule, guest, confidence_score="0.4")
    before, key = export(), rule.pk
    rule.delete()
    deletion = ConfigurationAuditLog.objects.get(change_type="rule_deleted").revision
    undo(change=deletion)
    assert export() == before
    assert AnalysisRule.objects.get().pk == key
    assert set(PersonaRuleAssignment.objects.values_list("persona_id", flat=True)) == {security.name, guest.name}


def test_a_batch_is_undone_as_a_whole():
    first, second = make_rule(), make_rule()
    before = export()
    with originating(Origin(batch=uuid4())) as origin, change_set():
        for rule in (first, second):
            rule.enabled = False
            rule.save()
        Persona(name="late", rule_types=[]).save()
    plan = undo(batch=origin.batch)
    assert (plan.count("update"), plan.count("delete")) == (2, 1)
    assert export() == before


def test_what_was_changed_again_since_is_not_undone_silently():
    rule = make_rule(severity="high")
    rule.severity = "low"
    rule.save()
    wrong = rule.version
    rule.severity = "medium"
    rule.save()
    with pytest.raises(RollbackRefused, match=f"changed again since, in revision {rule.version}"):
        undo(change=wrong)
    assert AnalysisRule.objects.get().severity == "medium"


def test_a_plan_changes_nothing_and_says_what_would_happen():
    rule = make_rule(severity="high")
    rule.severity = "low"
    rule.save()
    before = current_revision()
    plan = roll_back(Target(change=rule.version), user=SYSTEM_ACTOR, dry_run=True)
    assert plan.steps[0].fields == {"severity": ("low", "high")}
    assert (plan.revision, current_revision()) == (before, before)
    assert AnalysisRule.objects.get().severity == "low"


def test_a_plan_that_is_out_of_date_is_not_carried_out():
    rule = make_rule()
    rule.severity = "low"
    rule.save()
    seen = current_revision()
    make_persona("late", rule_types=[])
    with pytest.raises(StateConflict, match="plan it again"):
        roll_back(Target(change=rule.version), user=SYSTEM_ACTOR, seen=seen)


def test_todays_rules_hold_for_what_comes_back():
    """The rule was fine when it was written; its analyzer has become stricter since."""
    rule = make_rule(name="no-eval")
    rule.delete()
    deletion = ConfigurationAuditLog.objects.get(change_type="rule_deleted").revision
    AnalysisRule.history.filter(name="no-eval").update(configuration={"pattern": "("})
    with pytest.raises(RollbackRefused, match="no-eval/configuration/pattern"):
        undo(change=deletion)
    assert not AnalysisRule.objects.exists()


def test_a_plugin_that_others_need_is_not_switched_off_by_a_rollback():
    make_rule()
    start = current_revision()
    with change_set():
        for plugin in Plugin.objects.all():
            plugin.enabled = False
            plugin.save()
    switched_off = current_revision()
    undo(to_revision=start)
    off_alone = ConfigurationAuditLog.objects.filter(revision__lte=switched_off, entity_id="patterns").first()
    assert off_alone is not None
    with pytest.raises(RollbackRefused, match="changed again since"):
        undo(change=off_alone.revision)


def test_an_active_override_never_comes_back_as_active():
    override = make_override("rule", status="active", enabled=True, approved_by="approver")
    override.delete()
    deletion = ConfigurationAuditLog.objects.get(change_type="override_deleted").revision
    undo(change=deletion)
    back = GovernanceRuleOverride.objects.get()
    assert (back.status, back.enabled, back.approved_by) == ("draft", False, None)


def test_rights_are_left_alone_and_the_plan_says_so():
    rule, user = make_rule(), make_user()
    start = current_revision()
    grant(action="change", holder=user, target=rule)
    rule.severity = "low"
    rule.save()
    plan = undo(to_revision=start)
    assert user.has_perm("rules.change_analysisrule", rule)
    assert any("not rolled back" in line for line in plan.left_alone)
    assert AnalysisRule.objects.get().severity == "high"


def test_installed_plugins_stay():
    make_rule()
    plan = undo(to_revision=0)
    assert not AnalysisRule.objects.exists()
    assert Plugin.objects.exists()
    assert any("installed package" in line for line in plan.left_alone)


def test_a_rollback_can_be_rolled_back():
    rule = make_rule(severity="high")
    start = current_revision()
    rule.delete()
    end = current_revision()
    undo(to_revision=start)
    undo(to_revision=end)
    assert not AnalysisRule.objects.exists()


def test_who_may_not_change_an_object_may_not_roll_it_back():
    rule, viewer = make_rule(severity="high"), make_user("auditor")
    rule.severity = "low"
    rule.save()
    with pytest.raises(NotPermitted, match=f"You may not change the analysis rule {rule.name}"):
        roll_back(Target(change=rule.version), user=viewer)


def test_a_refusal_does_not_name_what_may_not_be_known():
    rule, stranger = make_rule(name="hidden-rule"), make_user()
    rule.severity = "low"
    rule.save()
    with pytest.raises(NotPermitted) as refused:
        roll_back(Target(change=rule.version), user=stranger)
    assert "hidden-rule" not in str(refused.value)


def test_a_rule_editor_undoes_his_own_change_without_the_right_to_read_the_journal():
    rule, editor = make_rule(severity="high"), make_user("rule editor")
    with originating(Origin(source="api", user=editor)):
        rule.severity = "low"
        rule.save()
    roll_back(Target(change=rule.version), user=editor)
    assert AnalysisRule.objects.get().severity == "high"


def test_half_a_batch_is_nobodys_configuration():
    with originating(Origin(batch=uuid4())), change_set():
        one = make_persona("one", rule_types=[])
        two = make_persona("two", rule_types=[])
    with pytest.raises(ValidationError, match=f"lies inside a change that ended with revision {two.version}"):
        undo(to_revision=one.version)


def test_a_name_that_two_objects_had_one_after_the_other_is_told_apart():
    first = make_persona("guest", voice="First.", rule_types=[])
    start = current_revision()
    before = export()
    first.delete()
    make_persona("guest", voice="Second.", rule_types=[])
    undo(to_revision=start)
    assert export() == before
    assert Persona.objects.get().voice == "First."


def test_a_moment_stands_for_the_last_revision_before_it():
    make_persona("guest", rule_types=[])
    seen, moment = current_revision(), timezone.now()
    make_persona("late", rule_types=[])
    assert find_revision(moment) == seen


@pytest.mark.parametrize("seed", range(4))
def test_rolled_back_to_any_revision_the_configuration_is_the_one_of_that_revision(seed):
    """Random edits by every verb; then back and forth to revisions at random."""
    chance = random.Random(seed)
    for name, types in (("security", ["security"]), ("guest", []), ("other", [])):
        make_persona(name, rule_types=types)
    rules = [make_rule() for _ in range(4)]
    known = {current_revision(): export()}
    for _ in range(30):
        edit(chance, rules)
        known[current_revision()] = export()
    for revision in chance.sample(sorted(known), 8):
        undo(to_revision=revision)
        assert export() == known[revision]
    assert verify().intact


def edit(chance: random.Random, rules: list[AnalysisRule]) -> None:
    present = list(AnalysisRule.objects.all())
    verb = chance.choice(["create", "change", "change", "delete", "assign", "unassign", "persona", "toggle", "forget"])
    if verb == "create" or not present:
        build_rule(severity=chance.choice(["low", "high"])).save()
    elif verb == "change":
        rule = chance.choice(present)
        rule.severity, rule.tags = chance.choice(["info", "low", "critical"]), [f"t{chance.randrange(9)}"]
        rule.save()
    elif verb == "delete":
        chance.choice(present).delete()
    elif verb == "assign":
        rule, name = chance.choice(present), chance.choice(["guest", "other"])
        if not rule.assignments.filter(persona_id=name, is_active=True).exists():
            make_assignment(rule, Persona.objects.get(name=name), confidence_score="0.5")
    elif verb == "unassign":
        active = list(PersonaRuleAssignment.objects.filter(is_active=True))
        if active:
            assignment = chance.choice(active)
            assignment.is_active = False
            assignment.save()
    elif verb == "persona":
        persona = chance.choice(list(Persona.objects.all()))
        persona.voice = f"Voice {chance.randrange(99)}."
        persona.save()
    elif verb == "toggle":
        plugin = Plugin.objects.get(name="secrets")
        plugin.enabled = not plugin.enabled
        plugin.save()
    else:
        chance.choice(present).assignments.all().delete()
