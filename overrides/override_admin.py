"""How are overrides asked for, read and decided on in the admin?"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesCheckboxFilter

from audit.badges import draw_chip, draw_moment
from audit.filters import DaysFilter
from audit.governed_admin import GovernedAdmin
from audit.permissions import may_break_glass
from overrides import approvals
from overrides.backlog import find_expiring, find_waiting_for
from overrides.choices import OverrideStatus
from overrides.decision_admin import WISHES, DecisionAdmin, describe, list_places
from overrides.models import GovernanceRuleOverride
from overrides.notification_admin import NotificationAdmin
from overrides.notifications import mark_seen
from overrides.override_forms import OverrideForm
from overrides.targets import find_requirement

CONTENT = ("What is different", {"fields": ("severity", "switch", "message", "configuration", "paths")})
WAIVED = ("What a waiver is about", {"fields": ("entity_type", "entity_name")})


class TurnFilter(admin.SimpleListFilter):
    """Whose turn it is."""

    title = "turn"
    parameter_name = "turn"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("mine", "Waiting for me"), ("review", "Emergencies to review"), ("soon", "Ending within 14 days")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet) -> models.QuerySet:
        now = timezone.now()
        if self.value() == "mine":
            return find_waiting_for(request.user, queryset, now)
        if self.value() == "review":
            return queryset.filter(needs_review=True)
        return find_expiring(queryset, now) if self.value() == "soon" else queryset


class OverrideAdmin(DecisionAdmin, NotificationAdmin, GovernedAdmin):
    """Overrides with what they change, who asked, who agreed and when they end."""

    form = OverrideForm
    change_form_outer_before_template = "admin/overrides/override_head.html"
    list_display = ("rule_name", "changes", "state", "created_by", "agreed", "until", "ends")
    list_filter = (TurnFilter, ("status", ChoicesCheckboxFilter), ("expires_at", DaysFilter))
    search_fields = ("rule_name", "reason", "created_by", "approved_by")

    def get_queryset(self, request: HttpRequest) -> models.QuerySet:
        return super().get_queryset(request).prefetch_related("decisions")

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        if obj is None:
            return super().has_change_permission(request)
        return approvals.may_edit(override=obj, user=request.user, now=timezone.now())

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False  # it ends; what was decided about it stays

    def get_fieldsets(self, request: HttpRequest, obj: GovernanceRuleOverride | None = None) -> list[Any]:
        if obj is None:
            asked = (None, {"fields": ("target_type", "rule_name", "expires_at")})
            ways = ["draft"] + (["break_glass"] if may_break_glass(request.user) else [])
            how = ("How", {"fields": ways})
            return [asked, CONTENT, WAIVED, how, ("Why", {"fields": ["change_reason"]})]
        if not self.has_change_permission(request, obj):
            return []  # the head of the page says everything
        parts = [(None, {"fields": ("expires_at", "reason")}), WAIVED if obj.is_waiver else CONTENT]
        return [*parts, ("Why you change it", {"fields": ["change_reason"]})]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> type:
        # Most fields of the form are its own; the model's are chosen by the fieldsets.
        shown = [name for _, options in self.get_fieldsets(request, obj) for name in options["fields"]]
        kwargs["fields"] = [name for name in OverrideForm.Meta.fields if name in shown]
        built = super().get_form(request, obj, change=change, **kwargs)
        left_out = [name for name in OverrideForm.declared_fields if name not in shown]
        return type(built.__name__, (built,), dict.fromkeys(left_out))

    def save_model(self, request: HttpRequest, obj: GovernanceRuleOverride, form: ModelForm, change: bool) -> None:
        """By the verbs, as everywhere."""
        if change:
            # A form shows moments to the second: what was not touched stays as it is stored.
            names = [name for name in approvals.EDITABLE if name in form.changed_data or name == "override_config"]
            values = {name: getattr(obj, name) for name in names}
            seen = form.cleaned_data["version"]
            stored = approvals.edit(override=obj, user=request.user, values=values, seen=seen)
        else:
            names = ["rule_name", "target_type", "override_config", "paths", "reason", "expires_at"]
            ways = {name: bool(form.cleaned_data.get(name)) for name in ("draft", "break_glass")}
            asked = {name: getattr(obj, name) for name in names}
            stored = approvals.request(user=request.user, **asked, **ways)
        obj.pk, obj.version = stored.pk, stored.version

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        override = self.get_object(request, unquote(object_id)) if object_id is not None else None
        if override is not None and self.has_view_permission(request, override):
            extra_context = {**(extra_context or {}), "standing": self.find_standing(request, override)}
            mark_seen(user=request.user, override=override)
        if override is not None and request.method == "POST" and not self.has_change_permission(request, override):
            raise PermissionDenied
        return super().changeform_view(request, object_id, form_url, extra_context)

    def find_standing(self, request: HttpRequest, override: GovernanceRuleOverride) -> dict[str, Any]:
        """What the head of the page tells, and offers."""
        places, required = list_places(override), find_requirement(override)
        verbs = approvals.list_verbs(override=override, user=request.user, now=timezone.now())
        waiting = override.status == OverrideStatus.PROPOSED
        people = "one other person approves" if required.approvals == 1 else f"{required.approvals} others approve"
        needs = f"Severity {required.severity}: {people}."
        return {
            "sentence": say_state(override),
            "state": self.state(override),
            "ends": self.ends(override),
            "needs": needs if override.status in (OverrideStatus.DRAFT, OverrideStatus.PROPOSED) else "",
            "places": places,
            "moved": waiting and any(place.moved for place in places),
            "wishes": [WISHES[verb] for verb in verbs],
            "decisions": list(override.decisions.all()),
        }

    @admin.display(description="Changes")
    def changes(self, override: GovernanceRuleOverride) -> str:
        """What it changes, in a word or two."""
        if override.is_waiver:
            return "waiver: " + (", ".join(override.override_config.values()) or "any object")
        return ", ".join(override.override_config)

    @admin.display(description="Status", ordering="status")
    def state(self, override: GovernanceRuleOverride) -> str:
        """The status by the clock: an active override that has ended is not in force, whatever its row says."""
        lapsed = approvals.has_lapsed(override, timezone.now())
        chip = draw_chip("expired" if lapsed else override.status)
        return format_html("{} {}", chip, draw_chip("to review", "emergency")) if override.needs_review else chip

    @admin.display(description="Approved by")
    def agreed(self, override: GovernanceRuleOverride) -> str:
        """Who approved it, or how many have."""
        if override.status == OverrideStatus.PROPOSED:
            return f"{override.approval_count} so far"
        return override.approved_by or "–"

    @admin.display(description="Until (UTC)", ordering="expires_at")
    def until(self, override: GovernanceRuleOverride) -> str:
        """When it ends."""
        return draw_moment(override.expires_at)

    @admin.display(description="Ends")
    def ends(self, override: GovernanceRuleOverride) -> str:
        """How far away that is."""
        if override.expires_at is None:
            return "no end yet"
        days = (override.expires_at - timezone.now()).total_seconds() / 86_400
        if days <= 0:
            return "has ended"
        return "in less than a day" if days < 1 else f"in {int(days)} day{'s' if int(days) != 1 else ''}"


def say_state(override: GovernanceRuleOverride) -> str:
    """Where an override stands by the clock, in a sentence."""
    if approvals.has_lapsed(override, timezone.now()):
        return "Its time is over: without force."
    return describe(override)
