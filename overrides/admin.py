"""What must changes satisfy, and which rules are set differently for a while, in the admin?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesCheckboxFilter

from audit.badges import draw_chip, draw_chips, draw_moment, draw_switch
from audit.bulk_admin import BulkChange
from audit.diffs import Difference, compare
from audit.filters import DaysFilter
from audit.governed_admin import ChangeSetAdmin, GovernedAdmin, ReadOnlyAdmin
from overrides.choices import OverrideStatus
from overrides.forms import ApprovalPolicyForm, GovernanceRuleForm
from overrides.models import ApprovalPolicy, GovernanceRule, GovernanceRuleOverride
from overrides.validation import merge_patch


def _switch(enabled: bool) -> BulkChange:
    def change(rule: GovernanceRule, cleaned: Mapping[str, Any]) -> None:
        rule.enabled = enabled

    return BulkChange(*(("Enable", "enabled") if enabled else ("Disable", "disabled")), change=change)


@admin.register(GovernanceRule)
class GovernanceRuleAdmin(GovernedAdmin):
    """Governance rules: a condition, what it is about, and what happens to a change that does not satisfy it."""

    form = GovernanceRuleForm
    list_display = ("titled", "judges", "enforced", "switch")
    list_display_links = ("titled",)
    list_filter = (("enforcement", ChoicesCheckboxFilter), ("enabled", BooleanRadioFilter))
    search_fields = ("name", "title", "message", "condition")
    bulk_changes = {"enable": _switch(True), "disable": _switch(False)}
    fieldsets = (
        (None, {"fields": ("name", "title", "message", "enforcement", "enabled")}),
        ("What it judges", {"fields": ("applies_to", "condition")}),
        ("Proof", {"fields": ("examples",)}),
    )

    @admin.display(description="Rule", ordering="name")
    def titled(self, rule: GovernanceRule) -> str:
        return format_html('{}<span class="subtitle">{}</span>', rule.name, rule.title)

    @admin.display(description="Judges")
    def judges(self, rule: GovernanceRule) -> str:
        kinds = rule.applies_to.get("change_types") or rule.applies_to.get("entity_types")
        return draw_chips(kinds) if kinds else "every change"

    @admin.display(description="Otherwise", ordering="enforcement")
    def enforced(self, rule: GovernanceRule) -> str:
        return rule.get_enforcement_display()

    @admin.display(description="Enabled", ordering="enabled")
    def switch(self, rule: GovernanceRule) -> str:
        return draw_switch(rule.enabled)


@admin.register(ApprovalPolicy)
class ApprovalPolicyAdmin(GovernedAdmin):
    """How many people approve an override, by the severity of its rule, and how long it may last."""

    form = ApprovalPolicyForm
    list_display = ("shown_severity", "approvals", "max_days")
    list_display_links = ("shown_severity",)
    fieldsets = ((None, {"fields": ("severity", "approvals", "max_days")}),)

    @admin.display(description="Severity", ordering="severity")
    def shown_severity(self, policy: ApprovalPolicy) -> str:
        return draw_chip(policy.severity)


@admin.register(GovernanceRuleOverride)
class OverrideAdmin(ReadOnlyAdmin):
    """Overrides with what they change, who asked, who agreed and when they end."""

    has_history = True
    object_history_template = ChangeSetAdmin.object_history_template
    history_view = ChangeSetAdmin.history_view
    history_of = GovernedAdmin.history_of
    list_display = ("rule_name", "changes", "state", "created_by", "approved_by", "until", "ends")
    list_filter = (("status", ChoicesCheckboxFilter), ("expires_at", DaysFilter))
    search_fields = ("rule_name", "reason", "created_by", "approved_by")
    actions = None
    fieldsets = (
        (None, {"fields": ("rule_name", "target_type", "state", "reason")}),
        ("What it changes", {"fields": ("difference", "paths")}),
        ("Who and how long", {"fields": ("created_by", "asked_at", "approved_by", "until", "ends")}),
    )
    readonly_fields = ("state", "difference", "until", "ends", "asked_at")

    @admin.display(description="Changes")
    def changes(self, override: GovernanceRuleOverride) -> str:
        return ", ".join(override.override_config)

    @admin.display(description="Status", ordering="status")
    def state(self, override: GovernanceRuleOverride) -> str:
        # Readers judge by the clock: an active override that has ended is not in force, whatever its row says.
        lapsed = override.expires_at is not None and override.expires_at <= timezone.now()
        return draw_chip("expired" if override.status == OverrideStatus.ACTIVE and lapsed else override.status)

    @admin.display(description="Until (UTC)", ordering="expires_at")
    def until(self, override: GovernanceRuleOverride) -> str:
        return draw_moment(override.expires_at)

    @admin.display(description="Asked for (UTC)", ordering="created_at")
    def asked_at(self, override: GovernanceRuleOverride) -> str:
        return draw_moment(override.created_at)

    @admin.display(description="Ends")
    def ends(self, override: GovernanceRuleOverride) -> str:
        if override.expires_at is None:
            return "no end yet"
        days = (override.expires_at - timezone.now()).total_seconds() / 86_400
        if days <= 0:
            return "has ended"
        return "in less than a day" if days < 1 else f"in {int(days)} day{'s' if int(days) != 1 else ''}"

    @admin.display(description="Difference")
    def difference(self, override: GovernanceRuleOverride) -> SafeString:
        return draw_differences(find_differences(override))


def find_differences(override: GovernanceRuleOverride) -> list[Difference]:
    """What the rule was when the override was asked for, against what it is under the override."""
    shown = override.shown()
    before: dict[str, Any] = shown["original_config"] or {}
    after = merge_patch(before, shown["override_config"])
    touched = list(override.override_config)
    return compare({name: before.get(name) for name in touched}, {name: after.get(name) for name in touched})


def draw_differences(differences: list[Difference]) -> SafeString:
    """Differences as a table."""
    entry = {"differences": differences, "action": "updated"}
    return mark_safe(render_to_string("admin/governed/differences.html", {"entry": entry}))  # noqa: S308, a template
