"""How is a rule typed in? Its lists one entry a line, its configuration drawn from the schema of its plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget

from audit.forms import BulkForm, GovernedForm, LinesField
from plugins import registry
from plugins.forms import ConfigurationField, ConfiguredForm, draw
from rules.choices import Severity
from rules.models import AnalysisRule

EXAMPLES: Mapping[str, Any] = {
    "type": "object",
    "title": "Examples",
    "properties": {
        "match": {
            "type": "array",
            "title": "Must match",
            "items": {"type": "string", "title": "", "widget": "textarea"},
        },
        "no_match": {
            "type": "array",
            "title": "Must not match",
            "items": {"type": "string", "title": "", "widget": "textarea"},
        },
    },
    "required": ["match", "no_match"],
    "additionalProperties": False,
}


class RuleForm(ConfiguredForm, GovernedForm):
    """A rule. The configuration follows the plugin that is chosen."""

    file_types = LinesField(label="File types", help_text="Extensions such as .py, one a line; empty: any file.")
    file_patterns = LinesField(
        label="Path patterns", code=True, help_text="RE2 expressions on the path, one a line; empty: any path."
    )
    exclude_patterns = LinesField(
        label="Paths left out", code=True, help_text="RE2 expressions on the path, one a line: these are not looked at."
    )
    tags = LinesField(label="Tags", help_text="Lower-case words, one a line.")
    references = LinesField(label="References", help_text="Addresses and CWE numbers worth reading, one a line.")
    configuration = ConfigurationField(label="Configuration")
    examples = ConfigurationField(
        label="Examples",
        schema=EXAMPLES,
        help_text="Snippets that must give a finding, and snippets that must not. They run before the rule is enabled.",
    )

    class Meta:
        model = AnalysisRule
        fields = AnalysisRule.exchange_fields

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        analyzer = registry.analyzers().get(self._chosen_plugin())
        if "configuration" in self.fields and analyzer is not None:
            self.fields["configuration"].use(analyzer.rule_schema)
        if self.instance.pk is not None:
            self.initial["configuration"] = self.instance.shown()["configuration"]

    def _chosen_plugin(self) -> str:
        chosen = self.data.get(self.add_prefix("plugin")) if self.is_bound else self.initial.get("plugin")
        return str(chosen or self.instance.plugin_id)

    def rule_schemas(self) -> dict[str, Any]:
        """The drawn schema of every plugin, for a page that follows the chosen one."""
        drawn = {name: draw(analyzer.rule_schema) for name, analyzer in registry.analyzers().items()}
        return {name: schema for name, schema in drawn.items() if schema is not None}

    def clean_examples(self) -> Any:
        """An empty box in the page is no example."""
        examples = self.cleaned_data["examples"]
        if not isinstance(examples, dict):
            return examples
        return {
            kind: [item for item in items if item != ""] if isinstance(items, list) else items
            for kind, items in {"match": [], "no_match": [], **examples}.items()
        }


class SeverityForm(BulkForm):
    """Which severity the selected rules get, and why."""

    severity = forms.ChoiceField(
        choices=[("", "Choose one"), *reversed(Severity.choices)], widget=UnfoldAdminSelectWidget
    )
