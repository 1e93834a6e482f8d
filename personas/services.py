"""How does a persona come to speak for a rule? Verbs over personas, rules and assignments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from django.core.exceptions import ValidationError

from audit.changes import change_set
from audit.errors import FieldError
from audit.governed import save_all
from personas.models import Persona, PersonaRuleAssignment
from rules.models import AnalysisRule


def default_for(rule_type: str, personas: Sequence[Persona]) -> Persona | None:
    """The persona that looks after `rule_type` by default: the one with the fewest other types, then by name."""
    fitting = [persona for persona in personas if rule_type in persona.rule_types]
    return min(fitting, key=lambda persona: (len(persona.rule_types), persona.name), default=None)


def assign_defaults(rules: Iterable[AnalysisRule]) -> list[PersonaRuleAssignment]:
    """Give each of `rules` that has no active persona the default one for its type, if there is one."""
    with change_set():
        rules = list(rules)
        taken = set(
            PersonaRuleAssignment.objects.filter(rule__in=rules, is_active=True).values_list("rule_id", flat=True)
        )
        personas = list(Persona.objects.all())
        missing = []
        for rule in rules:
            persona = default_for(rule.rule_type, personas) if rule.pk not in taken else None
            if persona is not None:
                reason = f"{persona.title or persona.name} looks after {rule.rule_type} rules"
                missing.append(PersonaRuleAssignment(rule=rule, persona=persona, assignment_reason=reason))
        if len(missing) == 1:
            missing[0].save()
            return missing
        return save_all(missing)


def assign(
    *,
    rule: AnalysisRule,
    persona: Persona,
    assignment_reason: str | None = None,
    confidence_score: Decimal | None = None,
) -> PersonaRuleAssignment:
    """Let `persona` speak for `rule`; a pair that exists is updated with what is given. Raises `ValidationError`."""
    with change_set():
        assignment = PersonaRuleAssignment.objects.filter(rule=rule, persona=persona, is_active=True).first()
        if assignment is None:
            assignment = PersonaRuleAssignment(rule=rule, persona=persona)
        if assignment_reason is not None:
            assignment.assignment_reason = assignment_reason
        if confidence_score is not None:
            assignment.confidence_score = confidence_score
        assignment.save()
    return assignment


def unassign(assignment: PersonaRuleAssignment) -> PersonaRuleAssignment:
    """End an assignment; its row stays, inactive."""
    assignment.is_active = False
    assignment.save()
    return assignment


def set_personas(*, rule: AnalysisRule, names: Sequence[str]) -> None:
    """Let exactly the personas `names` speak for `rule`. Raises `ValidationError` on `personas` for unknown names."""
    with change_set():
        known = {persona.name: persona for persona in Persona.objects.filter(name__in=names)}
        problems = [
            FieldError(f"There is no persona {name!r}.", pointer=str(index), code="does_not_exist")
            for index, name in enumerate(names)
            if name not in known
        ]
        if problems:
            raise ValidationError({"personas": problems})
        active = {item.persona_id: item for item in rule.assignments.filter(is_active=True)}
        for name, assignment in active.items():
            if name not in known:
                unassign(assignment)
        for name in dict.fromkeys(names):
            if name not in active:
                assign(rule=rule, persona=known[name])
