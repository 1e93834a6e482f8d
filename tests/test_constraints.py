"""The database itself refuses invalid configurations, whoever writes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from audit.models import Revision
from governance_config.models import UiConfigurationState
from overrides.models import GovernanceRuleOverride
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.factories import make_assignment, make_override, make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db


def write(item: models.Model, **values: object) -> None:
    """Write past models and kernel, as a foreign program would."""
    models.QuerySet(type(item)).filter(pk=item.pk).update(**values)


def approved() -> dict[str, object]:
    return {"status": "active", "enabled": True, "approved_by": "approver"}


CASES = {
    "a severity that is not known": (make_rule, {"severity": "dreadful"}),
    "a rule type that is not known": (make_rule, {"rule_type": "magic"}),
    "a rule status that is not known": (make_rule, {"status": "gone"}),
    "a rule without a name": (make_rule, {"name": ""}),
    "an enabled draft": (make_rule, {"status": "draft", "enabled": True}),
    "a persona without a name": (make_persona, {"name": ""}),
    "an override status that is not known": (make_override, {"status": "maybe"}),
    "an override in force that is not active": (make_override, {**approved(), "status": "proposed"}),
    "an active override that is not in force": (make_override, {**approved(), "enabled": False}),
    "an override in force without an approver": (make_override, {**approved(), "approved_by": None}),
    "an override in force without an end": (make_override, {**approved(), "expires_at": None}),
    "an override approved by who asked": (make_override, {**approved(), "approved_by": "requester"}),
    "an override that ended before it began": (
        make_override,
        {"expires_at": timezone.now() - timedelta(days=400)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_database_refuses(case):
    make, values = CASES[case]
    item = make()
    with pytest.raises(IntegrityError), transaction.atomic():
        write(item, **values)


@pytest.mark.parametrize("confidence", ["-0.01", "1.01"])
def test_the_database_refuses_a_confidence_outside_0_to_1(confidence):
    assignment = make_assignment(make_rule(), make_persona("guest", rule_types=[]))
    with pytest.raises(IntegrityError), transaction.atomic():
        write(assignment, confidence_score=Decimal(confidence))


def test_the_database_refuses_a_second_active_assignment_of_a_pair():
    assignment = make_assignment(make_rule(), make_persona("guest", rule_types=[]))
    twin = PersonaRuleAssignment(rule=assignment.rule, persona=assignment.persona, created_by="x")
    with pytest.raises(IntegrityError), transaction.atomic():
        models.QuerySet(PersonaRuleAssignment).bulk_create([twin])


@pytest.mark.parametrize("make", [make_rule, make_persona], ids=["rule", "persona"])
def test_the_database_refuses_a_name_twice(make):
    first = make()
    twin = type(first)()
    for field in first._meta.concrete_fields:
        if not field.primary_key:
            setattr(twin, field.attname, getattr(first, field.attname))
    with pytest.raises(IntegrityError), transaction.atomic():
        models.QuerySet(type(first)).bulk_create([twin])


def test_the_database_refuses_a_second_revision_row():
    with pytest.raises(IntegrityError), transaction.atomic():
        models.QuerySet(Revision).bulk_create([Revision(id=2)])


def test_the_database_refuses_two_states_of_a_component_of_one_user():
    states = [UiConfigurationState(user=make_user(), component_name="board")]
    states.append(UiConfigurationState(user=states[0].user, component_name="board"))
    with pytest.raises(IntegrityError), transaction.atomic():
        UiConfigurationState.objects.bulk_create(states)


def columns(model: type[models.Model]) -> set[str]:
    return {field.column for field in model._meta.concrete_fields}


def test_the_tables_have_the_columns_of_the_requirements():
    wanted = {
        GovernanceRuleOverride: (
            "governance_rule_overrides",
            "rule_name original_config override_config reason created_by approved_by enabled expires_at created_at "
            "updated_at",
        ),
        PersonaRuleAssignment: (
            "persona_rule_assignments",
            "rule_id persona_name assignment_reason confidence_score created_by created_at is_active",
        ),
        UiConfigurationState: ("ui_configuration_state", "user_id component_name configuration last_updated"),
        AnalysisRule: ("analysis_rules", "enabled rule_type severity file_patterns configuration"),
        Plugin: ("plugins", "name enabled configuration"),
        Persona: ("personas", "name"),
    }
    for model, (table, names) in wanted.items():
        assert model._meta.db_table == table
        assert set(names.split()) <= columns(model)
