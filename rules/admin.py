"""How does a reviewer work on the rules? The list with its filters and bulk actions, and the form of one rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.contrib.filters.admin import (
    BooleanRadioFilter,
    ChoicesCheckboxFilter,
    RelatedDropdownFilter,
    TextFilter,
)

from audit.badges import draw_chip, draw_moment, draw_switch
from audit.bulk_admin import BulkChange
from audit.governed_admin import GovernedAdmin
from rules.choices import RuleStatus, RuleType, Severity
from rules.forms import RuleForm, SeverityForm
from rules.models import AnalysisRule

RANK = Case(
    *(When(severity=severity.value, then=Value(severity.rank)) for severity in Severity), output_field=IntegerField()
)


class TagFilter(TextFilter):
    """Rules that carry a tag, typed in: collecting the tags of 10,000 rules would cost more than the list."""

    title = "tag"
    parameter_name = "tag"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.tagged(self.value().strip().lower()) if self.value() else queryset


def _switch(enabled: bool) -> BulkChange:
    def change(rule: AnalysisRule, cleaned: Mapping[str, Any]) -> None:
        rule.enabled = enabled

    return BulkChange(*(("Enable", "enabled") if enabled else ("Disable", "disabled")), change=change)


def _set_severity(rule: AnalysisRule, cleaned: Mapping[str, Any]) -> None:
    rule.severity = cleaned["severity"]


@admin.register(AnalysisRule)
class AnalysisRuleAdmin(GovernedAdmin):
    """The rules."""

    form = RuleForm
    change_form_before_template = "admin/rules/form_head.html"
    list_display = ("titled", "rule_type", "badge", "shown_plugin", "switch", "shown_status", "updated")
    list_display_links = ("titled",)
    list_filter = (
        ("severity", ChoicesCheckboxFilter),
        ("rule_type", ChoicesCheckboxFilter),
        ("enabled", BooleanRadioFilter),
        ("plugin", RelatedDropdownFilter),
        ("status", ChoicesCheckboxFilter),
        TagFilter,
    )
    search_fields = ("name", "title", "message")
    search_help_text = "A name, a title, or words of the message"
    ordering = ("name",)
    bulk_changes = {
        "enable": _switch(True),
        "disable": _switch(False),
        "set_severity": BulkChange(
            "Set the severity of", "set", change=_set_severity, form=SeverityForm, button="Set severity"
        ),
    }
    fieldsets = (
        (
            None,
            {"fields": ("name", "title", "description", "rule_type", "severity", "status", "suppressible", "enabled")},
        ),
        ("What it looks for", {"fields": ("plugin", "configuration", "examples")}),
        ("Where it looks", {"fields": ("file_types", "file_patterns", "exclude_patterns")}),
        ("What it says", {"fields": ("message", "remediation", "references", "tags")}),
    )

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Nobody should get a type that he did not choose."""
        if db_field.name == "rule_type":
            kwargs["choices"] = [("", "Select value"), *RuleType.choices]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if db_field.name == "plugin":
            field.empty_label = None
        return field

    @admin.display(description="Rule", ordering="name")
    def titled(self, rule: AnalysisRule) -> str:
        return format_html('{}<span class="subtitle">{}</span>', rule.name, rule.title)

    @admin.display(description="Severity", ordering=RANK)
    def badge(self, rule: AnalysisRule) -> str:
        return draw_chip(rule.severity, f"severity-{rule.severity}")

    @admin.display(description="Plugin", ordering="plugin_id")
    def shown_plugin(self, rule: AnalysisRule) -> str:
        return rule.plugin_id

    @admin.display(description="Enabled", ordering="enabled")
    def switch(self, rule: AnalysisRule) -> str:
        return draw_switch(rule.enabled)

    @admin.display(description="Status", ordering="status")
    def shown_status(self, rule: AnalysisRule) -> str:
        return "" if rule.status == RuleStatus.ACTIVE else draw_chip(rule.status)

    @admin.display(description="Updated (UTC)", ordering="updated_at")
    def updated(self, rule: AnalysisRule) -> str:
        return draw_moment(rule.updated_at)
