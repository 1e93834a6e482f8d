"""What must changes satisfy, and who approves what is set differently for a while, in the admin?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesCheckboxFilter

from audit.badges import draw_chip, draw_chips, draw_switch
from audit.bulk_admin import BulkChange
from audit.governed_admin import GovernedAdmin
from overrides.forms import ApprovalPolicyForm, GovernanceRuleForm
from overrides.models import ApprovalPolicy, GovernanceRule, GovernanceRuleOverride, Webhook
from overrides.override_admin import OverrideAdmin
from overrides.webhook_admin import WebhookAdmin


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


admin.site.register(GovernanceRuleOverride, OverrideAdmin)
admin.site.register(Webhook, WebhookAdmin)
