"""How does somebody switch, set and watch plugins in the admin?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe

from audit.badges import draw_chip, draw_moment, draw_switch
from audit.bulk_admin import BulkChange
from audit.forms import GovernedForm
from audit.governed_admin import GovernedAdmin
from audit.permissions import may, may_see_some, permitted
from plugins import obstacles, registry
from plugins.charts import BARS, draw_runs
from plugins.forms import ConfigurationField, ConfiguredForm
from plugins.models import Plugin, PluginHealth
from plugins.services import JUDGED_RUNS, check_all


class PluginForm(ConfiguredForm, GovernedForm):
    """The switch, and the settings drawn from the analyzer's schema."""

    class Meta:
        model = Plugin
        fields = ("name", "enabled", "configuration")
        field_classes = {"configuration": ConfigurationField}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        analyzer = self.instance.analyzer
        if "configuration" in self.fields and analyzer is not None:
            self.fields["configuration"].use(analyzer.configuration_schema)
        # Secrets as marks: what comes back as it was shown is the stored one.
        self.initial["configuration"] = self.instance.shown()["configuration"]


def _switch(enabled: bool) -> BulkChange:
    def change(plugin: Plugin, cleaned: Mapping[str, Any]) -> None:
        plugin.enabled = enabled

    title, done = ("Enable", "enabled") if enabled else ("Disable", "disabled")
    return BulkChange(title, done, right="toggle", change=change)


@admin.register(Plugin)
class PluginAdmin(GovernedAdmin):
    """Rows come with the installed analyzers: nobody adds or deletes one here."""

    class Media:
        css = {"all": ["plugins/runs.css"]}

    form = PluginForm
    list_display = (
        *("name", "about", "switch", "condition", "installed_version"),
        *("last_run", "usual_time", "failed_runs", "rule_count"),
    )
    list_filter = ("enabled", ("health__status", admin.ChoicesFieldListFilter))
    list_select_related = ("health",)
    search_fields = ("name",)
    bulk_changes = {"enable": _switch(True), "disable": _switch(False)}
    actions = ("check_now",)
    fieldsets = (
        (None, {"fields": ("name", "about", "enabled", "needs", "needed_by")}),
        ("Settings", {"fields": ("configuration",)}),
        ("Condition", {"fields": ("condition", "condition_detail", "installed_version", "programs", "rule_count")}),
        ("Runs", {"fields": ("last_run", "run_chart", "usual_time", "failed_runs", "first_failure")}),
    )
    readonly_fields = (
        "about",
        "needs",
        "needed_by",
        "condition",
        "condition_detail",
        "installed_version",
        "programs",
        "last_run",
        "run_chart",
        "usual_time",
        "failed_runs",
        "first_failure",
        "rule_count",
        "shown_configuration",
    )

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "configuration":
            return ConfigurationField(label="Settings", help_text=db_field.help_text)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("health").annotate(rules_here=Count("rules"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Plugin | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Plugin | None = None) -> bool:
        """Who may only toggle finds the settings read-only, and the other way round."""
        return self._may(request, "change", obj) or self._may(request, "toggle", obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Plugin | None = None) -> tuple[str, ...]:
        readonly = super().get_readonly_fields(request, obj)
        if not may(request.user, "toggle", obj or Plugin):
            readonly += ("enabled",)
        return readonly

    def get_fieldsets(self, request: HttpRequest, obj: Plugin | None = None) -> list[Any]:
        """Whoever may not change the settings reads them masked."""
        fieldsets = super().get_fieldsets(request, obj)
        if may(request.user, "change", obj or Plugin):
            return fieldsets
        shown = {"fields": ("shown_configuration",)}
        return [(title, shown if title == "Settings" else options) for title, options in fieldsets]

    def has_check_permission(self, request: HttpRequest) -> bool:
        """As in the API and the command: who may only toggle may not check."""
        return may_see_some(request.user, "change", Plugin)

    @admin.action(description="Check health of selected plugins", permissions=["check"])
    def check_now(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Health is not configuration, so this needs no reason and leaves no journal row."""
        plugins = list(permitted(request.user, "change", queryset))
        left = len(queryset) - len(plugins)
        if left:
            text = f"{left} of the selected plugins were not checked: you may not change them."
            self.message_user(request, text, messages.WARNING)
        for plugin, health in zip(plugins, check_all(plugins), strict=True):
            healthy = health.status == PluginHealth.Status.HEALTHY
            level = messages.INFO if healthy else messages.ERROR
            self.message_user(request, f"{plugin.name}: {health.get_status_display()}. {health.detail}", level)

    @admin.display(description="Settings")
    def shown_configuration(self, plugin: Plugin) -> str:
        return json.dumps(plugin.shown()["configuration"], ensure_ascii=False)

    @admin.display(description="What it does")
    def about(self, plugin: Plugin) -> str:
        return plugin.analyzer.description if plugin.analyzer is not None else "Not installed."

    @admin.display(description="Enabled", ordering="enabled")
    def switch(self, plugin: Plugin) -> str:
        return draw_switch(plugin.enabled)

    @admin.display(description="Health", ordering="health__status")
    def condition(self, plugin: Plugin) -> str:
        status = plugin.health.status if hasattr(plugin, "health") else "unknown"
        if plugin.analyzer is None:
            status = "missing"
        return draw_chip(status)

    @admin.display(description="Last check")
    def condition_detail(self, plugin: Plugin) -> str:
        if not hasattr(plugin, "health"):
            return "It has not been checked yet."
        return f"{plugin.health.checked_at:%Y-%m-%d %H:%M:%S} UTC: {plugin.health.detail}"

    @admin.display(description="Version")
    def installed_version(self, plugin: Plugin) -> str:
        return plugin.analyzer.version if plugin.analyzer is not None else "–"

    @admin.display(description="Requires")
    def needs(self, plugin: Plugin) -> str:
        return ", ".join(map(str, registry.requirements(plugin.name))) or "–"

    @admin.display(description="Required by")
    def needed_by(self, plugin: Plugin) -> str:
        return ", ".join(registry.required_by(plugin.name)) or "–"

    @admin.display(description="Programs")
    def programs(self, plugin: Plugin) -> str:
        found = obstacles.find_programs(plugin.name)
        lines = ((each.problem or f"{each.name} {each.version} at {each.path}",) for each in found)
        return format_html_join(mark_safe("<br>"), "{}", lines) or "It runs no programs of others."

    @admin.display(description="Last run", ordering="health__last_run_at")
    def last_run(self, plugin: Plugin) -> str:
        return draw_moment(plugin.health.last_run_at if hasattr(plugin, "health") else None)

    @admin.display(description=f"Last {BARS} runs")
    def run_chart(self, plugin: Plugin) -> str:
        runs = list(plugin.runs.all()[:BARS])
        return draw_runs(runs) if runs else "It has not run yet."

    @admin.display(description="Time (p95)", ordering="health__p95_seconds")
    def usual_time(self, plugin: Plugin) -> str:
        """19 of 20 runs took no longer."""
        seconds = plugin.health.p95_seconds if hasattr(plugin, "health") else None
        return "–" if seconds is None else format_html('<span class="nowrap">{} s</span>', f"{seconds:.2f}")

    @admin.display(description="Failed runs", ordering="health__failed_runs")
    def failed_runs(self, plugin: Plugin) -> str:
        if not hasattr(plugin, "health") or not plugin.health.runs:
            return "–"
        return f"{plugin.health.failed_runs} of {plugin.health.runs}"

    @admin.display(description="Last failure")
    def first_failure(self, plugin: Plugin) -> str:
        if not hasattr(plugin, "health") or not plugin.health.runs:
            return "–"
        return plugin.health.failure or f"None in the last {JUDGED_RUNS} runs."

    @admin.display(description="Rules", ordering="rules_here")
    def rule_count(self, plugin: Plugin) -> int:
        return getattr(plugin, "rules_here", 0)
