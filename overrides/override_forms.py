"""How is an override asked for in the admin, and what is said to it? Forms with a field for each difference."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from audit import encryption
from audit.changes import MAX_REASON
from audit.forms import GovernedForm, LinesField
from overrides.choices import OVERRIDABLE, WAIVER_FIELDS, TargetType
from overrides.models import GovernanceRuleOverride
from plugins.forms import ConfigurationField
from rules.choices import Severity

AS_IT_IS = ("", "as it is")
SWITCHES = {"on": True, "off": False}


class OverrideForm(GovernedForm):
    """A request: which rule, what is different, where, and until when. What is left empty stays as it is."""

    error_fields = {"override_config": "configuration", "original_config": "rule_name", "created_by": "rule_name"}

    severity = forms.ChoiceField(
        required=False, choices=[AS_IT_IS, *Severity.choices], widget=UnfoldAdminSelectWidget, label="Severity"
    )
    switch = forms.ChoiceField(
        required=False,
        choices=[AS_IT_IS, ("on", "enabled"), ("off", "disabled")],
        widget=UnfoldAdminSelectWidget,
        label="Enabled",
    )
    message = forms.CharField(
        required=False,
        label="Message",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Empty: as it is.",
    )
    configuration = ConfigurationField(
        required=False,
        label="Configuration",
        help_text='What differs, as JSON: {"max": 12} sets one entry, {"max": null} takes it away.',
    )
    entity_type = forms.CharField(
        required=False,
        label="Kind of object",
        widget=UnfoldAdminTextInputWidget,
        help_text="Of a waiver: such as analysis_rule or plugin.",
    )
    entity_name = forms.CharField(
        required=False,
        label="Name of the object",
        widget=UnfoldAdminTextInputWidget,
        help_text="Of a waiver. One that names an analysis rule needs as many approvals as that; a wider one most.",
    )
    paths = LinesField(
        code=True,
        entry="Glob",
        label="Only in",
        help_text="Path globs such as legacy/**, one a line; empty: everywhere.",
    )
    draft = forms.BooleanField(
        required=False, label="Keep as a draft", widget=UnfoldBooleanWidget, help_text="Nobody is asked yet."
    )
    break_glass = forms.BooleanField(
        required=False,
        label="This is an emergency",
        widget=UnfoldBooleanWidget,
        help_text="In force at once, for 72 hours at most. All approvers are told, and one of them reviews it.",
    )

    class Meta:
        model = GovernanceRuleOverride
        fields = ("rule_name", "target_type", "paths", "reason", "expires_at")
        labels = {"rule_name": "Name of the rule", "target_type": "It is about", "expires_at": "Ends (UTC)"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            self.fields["change_reason"].help_text = "Why this is needed. Whoever approves it reads this."
            return
        self._before = GovernanceRuleOverride(override_config=deepcopy(self.instance.override_config))
        for name, value in spread(encryption.hide(self.instance.override_config)).items():
            if name in self.fields:
                self.fields[name].initial = value

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        target = cleaned.get("target_type", self.instance.target_type)
        wrong = self._find_misplaced(cleaned, target)
        for name in wrong:
            self.add_error(name, "This belongs to the other kind of override.")
        if not wrong and {"configuration", "entity_type"} & set(cleaned):
            self.instance.override_config = gather(cleaned, target, self.instance.override_config or {})
            if self.instance.pk is not None:
                self.instance.keep_hidden(self._before)
        if self.instance.pk is None:
            self.instance.reason = cleaned.get("change_reason", "")
        if not cleaned.get("draft") and cleaned.get("expires_at") is None and not self.has_error("expires_at"):
            self.add_error("expires_at", ValidationError("Say when it ends.", code="required"))
        return cleaned

    @staticmethod
    def _find_misplaced(cleaned: Mapping[str, Any], target: str) -> list[str]:
        of_waiver = ("entity_type", "entity_name")
        of_rule = ("severity", "switch", "message", "configuration")
        others = of_rule if target == TargetType.GOVERNANCE_RULE else of_waiver
        return [name for name in others if cleaned.get(name)]


def spread(override_config: Mapping[str, Any]) -> dict[str, Any]:
    """What an override says, in the fields of the form."""
    values = {
        name: override_config[name] for name in ("severity", "message", "configuration") if name in override_config
    }
    values |= {name: override_config[name] for name in ("entity_type", "entity_name") if name in override_config}
    if "enabled" in override_config:
        values["switch"] = "on" if override_config["enabled"] else "off"
    return values


def gather(cleaned: Mapping[str, Any], target: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields of the form say, as it is stored. Entries that the form does not show stay."""
    if target == TargetType.GOVERNANCE_RULE:
        said = {name: cleaned[name].strip() for name in ("entity_type", "entity_name") if cleaned.get(name)}
        return {**said, **{name: stored[name] for name in WAIVER_FIELDS if name == "entity_id" and name in stored}}
    said = {name: cleaned[name] for name in ("severity", "message", "configuration") if cleaned.get(name)}
    if cleaned.get("switch"):
        said["enabled"] = SWITCHES[cleaned["switch"]]
    return {name: said[name] for name in OVERRIDABLE if name in said}


class DecisionForm(forms.Form):
    """What somebody says to the overrides that he decides on."""

    # The name of the field that every confirmation page of the admin shows.
    change_reason = forms.CharField(
        label="Comment",
        required=False,
        max_length=MAX_REASON,
        help_text="Stands beside your name in the decisions, and in the journal.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "maxlength": MAX_REASON}),
        error_messages={"required": "Say why."},
    )

    def __init__(self, *args: Any, needs_comment: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["change_reason"].required = needs_comment
