"""How is a governance rule typed in? What it judges as lists, its examples as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget

from audit.facts import list_facts
from audit.forms import CODE_CLASS, GovernedForm
from overrides.conditions import MAX_LENGTH
from overrides.models import ApprovalPolicy, GovernanceRule
from plugins.forms import ConfigurationField

APPLIES_TO: Mapping[str, Any] = {
    "type": "object",
    "title": "Changes",
    "properties": {
        "entity_types": {"type": "array", "title": "Kinds of objects", "items": {"type": "string", "title": ""}},
        "change_types": {"type": "array", "title": "Kinds of changes", "items": {"type": "string", "title": ""}},
    },
    "required": ["entity_types", "change_types"],
    "additionalProperties": False,
}


def explain_facts() -> str:
    """Which facts conditions may ask for."""
    told = (f"{kind}: {', '.join(names)}" for kind, names in list_facts().items())
    return f"Facts by kind of object: {'; '.join(told)}."


class GovernanceRuleForm(GovernedForm):
    """A governance rule. Its condition is compiled and its examples are run before it is stored."""

    applies_to = ConfigurationField(
        label="Applies to",
        schema=APPLIES_TO,
        help_text="Such as analysis_rule, and rule_updated; an empty list means any.",
    )
    condition = forms.CharField(
        label="Condition",
        max_length=MAX_LENGTH,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "class": CODE_CLASS, "spellcheck": "false"}),
    )
    examples = ConfigurationField(
        label="Examples",
        help_text='An object {"pass": [...], "fail": [...]} of changes: any of old, new, actor, change and facts.',
    )

    class Meta:
        model = GovernanceRule
        fields = GovernanceRule.exchange_fields

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "condition" in self.fields:
            self.fields["condition"].help_text = f"{GovernanceRule.condition.field.help_text} {explain_facts()}"


class ApprovalPolicyForm(GovernedForm):
    """How many people approve what, and for how long."""

    class Meta:
        model = ApprovalPolicy
        fields = ApprovalPolicy.exchange_fields
