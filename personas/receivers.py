"""What do changes of rules and personas imply? A rule has voices that look after its type, whichever the door."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from django.db import models

from audit.changes import ChangeSet, register_check, register_completion
from audit.errors import StateConflict
from audit.facts import register_facts
from audit.journal import Change
from personas.models import Persona, PersonaRuleAssignment
from personas.services import assign_defaults, unassign
from rules.models import AnalysisRule

SHOWN = 5  # assignments named in a refusal


def connect() -> None:
    """Register completion and check with the kernel."""
    register_completion(assign_default_personas)
    register_check(check_voices)
    register_facts(AnalysisRule.entity_type, ["active_personas"], find_active_personas)
    register_facts(PersonaRuleAssignment.entity_type, ["rule_enabled", "active_personas"], find_rules_state)


def find_active_personas(rules: Sequence[AnalysisRule]) -> Sequence[Mapping[str, Any]]:
    """Names of the personas that speak for each rule."""
    speakers = _find_speakers({rule.pk for rule in rules})
    return [{"active_personas": speakers.get(rule.pk, [])} for rule in rules]


def find_rules_state(assignments: Sequence[PersonaRuleAssignment]) -> Sequence[Mapping[str, Any]]:
    """Whether the rule of each assignment is enabled, and who speaks for it."""
    keys = {item.rule_id for item in assignments}
    enabled = set(AnalysisRule.objects.enabled().filter(pk__in=keys).values_list("pk", flat=True))
    speakers = _find_speakers(keys)
    return [
        {"rule_enabled": item.rule_id in enabled, "active_personas": speakers.get(item.rule_id, [])}
        for item in assignments
    ]


def _find_speakers(keys: Collection[Any]) -> dict[Any, list[str]]:
    active = PersonaRuleAssignment.objects.filter(rule__in=keys, is_active=True).order_by("persona_id")
    found: dict[Any, list[str]] = {}
    for key, name in active.values_list("rule_id", "persona_id"):
        found.setdefault(key, []).append(name)
    return found


def assign_default_personas(changes: ChangeSet) -> None:
    """A created rule gets the persona of its type, and so does one whose new type its persona leaves out.

    At the end of the change set, so that a rule that comes with personas of its own keeps just those.
    """
    gone = {
        change.entity_id
        for change in changes.changes
        if change.action == "deleted" and change.entity_type == AnalysisRule.entity_type
    }
    mine = [
        change
        for change in changes.changes
        if isinstance(change.instance, AnalysisRule) and change.entity_id not in gone
    ]
    retyped = {change.entity_id: change.instance for change in mine if was_changed(change, "rule_type")}
    if retyped:
        for assignment in find_misfits(PersonaRuleAssignment.objects.filter(rule__in=retyped)):
            unassign(assignment)
    rules = retyped | {change.entity_id: change.instance for change in mine if change.action == "created"}
    if rules:
        assign_defaults(rules.values())


def was_changed(change: Change, field: str) -> bool:
    """Whether `change` is an update of `field`."""
    return bool(change.old and change.new and change.old[field] != change.new[field])


def find_misfits(assignments: models.QuerySet[PersonaRuleAssignment]) -> Iterator[PersonaRuleAssignment]:
    """Those of the active `assignments` whose persona does not look after the type of the rule."""
    for assignment in assignments.filter(is_active=True).select_related("rule", "persona"):
        types = assignment.persona.rule_types
        if types and assignment.rule.rule_type not in types:
            yield assignment


def check_voices(changes: ChangeSet) -> list[StateConflict]:
    """No persona drops a type while it speaks for rules of it; an import cannot either."""
    rules = [
        change.entity_id
        for change in changes.changes
        if change.entity_type == AnalysisRule.entity_type and was_changed(change, "rule_type")
    ]
    personas = [
        change.entity_id
        for change in changes.changes
        if change.entity_type == Persona.entity_type and was_changed(change, "rule_types")
    ]
    misfits = []
    if rules:
        misfits += find_misfits(PersonaRuleAssignment.objects.filter(rule__in=rules))
    if personas:
        misfits += find_misfits(PersonaRuleAssignment.objects.filter(persona__in=personas))
    if not misfits:
        return []
    named = ", ".join(sorted({assignment.entity_name for assignment in misfits})[:SHOWN])
    more = f" and {len(misfits) - SHOWN} more" if len(misfits) > SHOWN else ""
    return [StateConflict(f"These assignments would not fit any more: {named}{more}. End or change them first.")]
