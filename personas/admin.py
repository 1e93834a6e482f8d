"""Who speaks for which rule, in the admin? Personas, assignments, and both in the list and the form of the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import BooleanRadioFilter, DropdownFilter, RelatedDropdownFilter

from audit.badges import draw_chips, draw_moment, draw_switch
from audit.bulk_admin import BulkChange
from audit.governed_admin import GovernedAdmin
from audit.permissions import may
from personas.forms import AssignmentForm, PersonaForm, RuleWithPersonasForm
from personas.models import Persona, PersonaRuleAssignment
from personas.services import set_personas
from rules.admin import AnalysisRuleAdmin, TagFilter
from rules.models import AnalysisRule


@admin.register(Persona)
class PersonaAdmin(GovernedAdmin):
    """The voices."""

    form = PersonaForm
    list_display = ("name", "title", "looks_after", "speaks_for", "updated")
    search_fields = ("name", "title", "description")
    fieldsets = (
        (None, {"fields": ("name", "title", "description", "rule_types")}),
        ("How it speaks", {"fields": ("voice",)}),
        ("For which rules", {"fields": ("assigned",)}),
    )
    readonly_fields = ("assigned",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        speaking = Count("assignments", filter=Q(assignments__is_active=True))
        return super().get_queryset(request).annotate(rules_here=speaking)

    @admin.display(description="Looks after")
    def looks_after(self, persona: Persona) -> str:
        return draw_chips(persona.rule_types) if persona.rule_types else "any type, when asked"

    @admin.display(description="Rules", ordering="rules_here")
    def speaks_for(self, persona: Persona) -> int:
        return persona.rules_here

    @admin.display(description="Rules")
    def assigned(self, persona: Persona) -> str:
        if persona.pk is None:
            return "none yet"
        address = reverse("admin:personas_personaruleassignment_changelist")
        query = f"?persona__name__exact={persona.name}&is_active__exact=1"
        return format_html('<a href="{}{}">{} rules</a>', address, query, self.speaks_for(persona))

    @admin.display(description="Updated (UTC)", ordering="updated_at")
    def updated(self, persona: Persona) -> str:
        return draw_moment(persona.updated_at)


def _end(assignment: PersonaRuleAssignment, cleaned: Mapping[str, Any]) -> None:
    assignment.is_active = False


@admin.register(PersonaRuleAssignment)
class AssignmentAdmin(GovernedAdmin):
    """Which persona speaks for which rule, and since when it does not any more."""

    form = AssignmentForm
    list_display = ("rule", "persona", "confidence_score", "assignment_reason", "created_by", "switch")
    list_filter = (("persona", RelatedDropdownFilter), ("is_active", BooleanRadioFilter))
    list_select_related = ("rule", "persona")
    search_fields = ("rule__name", "persona__name", "assignment_reason")
    autocomplete_fields = ("rule",)
    bulk_changes = {"end": BulkChange("End", "ended", change=_end)}
    fieldsets = ((None, {"fields": ("rule", "persona", "confidence_score", "assignment_reason", "is_active")}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("rule", "persona")

    @admin.display(description="Active", ordering="is_active")
    def switch(self, assignment: PersonaRuleAssignment) -> str:
        return draw_switch(assignment.is_active)


class PersonaFilter(DropdownFilter):
    """Rules for which a persona speaks now."""

    title = "persona"
    parameter_name = "persona"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*Persona.objects.values_list("name", "title"), ("-", "nobody")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        speaking = PersonaRuleAssignment.objects.filter(is_active=True)
        if self.value() == "-":
            return queryset.exclude(pk__in=speaking.values("rule_id"))
        if self.value():
            return queryset.filter(pk__in=speaking.filter(persona_id=self.value()).values("rule_id"))
        return queryset


admin.site.unregister(AnalysisRule)


@admin.register(AnalysisRule)
class RuleWithPersonasAdmin(AnalysisRuleAdmin):
    """The rules, with who speaks for them."""

    form = RuleWithPersonasForm
    list_display = ("titled", "rule_type", "badge", "speakers", "shown_plugin", "switch", "shown_status", "updated")
    list_filter = (*AnalysisRuleAdmin.list_filter[:4], PersonaFilter, *AnalysisRuleAdmin.list_filter[4:-1], TagFilter)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        active = PersonaRuleAssignment.objects.filter(is_active=True).order_by("-confidence_score", "persona_id")
        return super().get_queryset(request).prefetch_related(Prefetch("assignments", active, to_attr="speaking"))

    def get_fieldsets(self, request: HttpRequest, obj: AnalysisRule | None = None) -> list[Any]:
        fieldsets = list(super().get_fieldsets(request, obj))
        place = next((n for n, (title, _) in enumerate(fieldsets) if title == "Why"), len(fieldsets))
        field = "personas" if self.may_assign(request) else "speakers"
        fieldsets.insert(place, ("Who speaks for it", {"fields": (field,)}))
        return fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: AnalysisRule | None = None) -> tuple[str, ...]:
        return (*super().get_readonly_fields(request, obj), "speakers")

    def may_assign(self, request: HttpRequest) -> bool:
        """Whether the user may let personas speak for rules and end that."""
        return all(may(request.user, action, PersonaRuleAssignment) for action in ("add", "change"))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """In the same change set as the rule, so that both are stored or neither is."""
        super().save_related(request, form, formsets, change)
        chosen = form.cleaned_data.get("personas")
        if chosen is None or not self.may_assign(request):
            return
        if set(chosen) != set(form.initial.get("personas", [])):
            set_personas(rule=form.instance, names=chosen)

    @admin.display(description="Personas")
    def speakers(self, rule: AnalysisRule) -> str:
        names = [item.persona_id for item in getattr(rule, "speaking", [])]
        return draw_chips(names, "persona") if names else "–"
