"""How are personas typed in, and chosen for a rule?"""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from audit.forms import GovernedForm
from personas.models import Persona, PersonaRuleAssignment
from rules.choices import RuleType
from rules.forms import RuleForm


class PersonaForm(GovernedForm):
    """A persona: its rule types are ticked."""

    rule_types = forms.MultipleChoiceField(
        choices=RuleType.choices,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=Persona._meta.get_field("rule_types").help_text,
    )

    class Meta:
        model = Persona
        fields = Persona.exchange_fields


class AssignmentForm(GovernedForm):
    """One persona for one rule."""

    class Meta:
        model = PersonaRuleAssignment
        fields = ("rule", "persona", "confidence_score", "assignment_reason", "is_active")


class RuleWithPersonasForm(RuleForm):
    """A rule with the personas that speak for it."""

    error_fields = {"persona": "personas"}

    personas = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Who speaks for the rule. A new rule without any gets the persona that looks after its type.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "personas" not in self.fields:
            return
        self.fields["personas"].choices = [
            (persona.name, f"{persona.title or persona.name} ({', '.join(persona.rule_types) or 'any type'})")
            for persona in Persona.objects.all()
        ]
        if not self.instance._state.adding:
            self.initial["personas"] = [item.persona_id for item in self.instance.assignments.all() if item.is_active]
