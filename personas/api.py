"""How are personas, their assignments, and rules with their personas read and changed over HTTP?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import Count, Prefetch, Q
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit.changes import change_set
from audit.errors import FieldError
from audit.listing import MAX_KEY, FlagFilter, KnownChoiceFilter
from audit.permissions import ADD, CHANGE, DELETE, VIEW, may, permitted, require
from audit.problems import Entry, invalid
from audit.serializers import (
    GovernedSerializer,
    KnownChoiceField,
    PermissionsSerializer,
    StrictCharField,
    StrictDecimalField,
    StrictIntegerField,
    StrictSerializer,
    reason_field,
)
from audit.viewsets import DestroyMixin, GovernedViewSet, WriteViewSet, check_precondition
from personas import services
from personas.models import Persona, PersonaRuleAssignment
from rules.api import AnalysisRuleFilters, AnalysisRuleSerializer, AnalysisRuleViewSet, TextList, require_known
from rules.choices import RuleType
from rules.models import AnalysisRule

SHOWN_ASSIGNMENTS = 100
NAMES_IN_API = {"rule": "rule_id", "persona": "persona_name"}


class AssignmentSerializer(PermissionsSerializer):
    """A persona speaks for a rule."""

    rule_name = serializers.CharField(source="rule.name")
    persona_name = serializers.CharField(source="persona_id")
    warnings = serializers.SerializerMethodField(help_text="In the answer to a change, if there is anything.")

    class Meta:
        model = PersonaRuleAssignment
        fields = (
            *("id", "rule_id", "rule_name", "persona_name", "confidence_score", "assignment_reason", "created_by"),
            *("is_active", "version", "created_at", "updated_at", "permissions", "warnings"),
        )
        read_only_fields = fields

    def get_warnings(self, assignment: PersonaRuleAssignment) -> list[str]:
        return self.context.get("warnings", [])

    def to_representation(self, instance: PersonaRuleAssignment) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if not self.context.get("warnings"):
            shown.pop("warnings", None)
        return shown


class SpokenRuleSerializer(serializers.ModelSerializer):
    """A rule that the persona speaks for."""

    rule_name = serializers.CharField(source="rule.name", read_only=True)

    class Meta:
        model = PersonaRuleAssignment
        fields = ("rule_id", "rule_name", "confidence_score", "assignment_reason", "created_by", "created_at")
        read_only_fields = fields


class PersonaSerializer(GovernedSerializer):
    """A reviewer's voice: who explains a finding, and what they care for."""

    rule_types = serializers.ListField(
        child=KnownChoiceField(choices=RuleType.choices),
        required=False,
        help_text="Rule types that it looks after by default; empty: any, but never by default.",
    )
    assignment_count = serializers.IntegerField(read_only=True, help_text="Rules that it speaks for now.")
    assignments = serializers.SerializerMethodField(
        help_text=f"The first {SHOWN_ASSIGNMENTS} of them by name; `personas/assignments?persona=NAME` has all."
    )

    class Meta:
        model = Persona
        fields = (
            *("name", "title", "description", "voice", "rule_types", "assignment_count", "assignments"),
            *("version", "created_at", "updated_at"),
            *GovernedSerializer.extra,
        )
        read_only_fields = GovernedSerializer.bookkeeping

    @extend_schema_field(SpokenRuleSerializer(many=True))
    def get_assignments(self, persona: Persona) -> list[dict[str, Any]]:
        return SpokenRuleSerializer(getattr(persona, "shown_assignments", ()), many=True).data


class PersonaFilters(django_filters.FilterSet):
    """What a list of personas can be limited to."""

    rule_type = KnownChoiceFilter(
        choices=RuleType.choices, method="filter_rule_type", label="Personas that look after this type."
    )

    class Meta:
        model = Persona
        fields: ClassVar[list[str]] = []

    def filter_rule_type(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(rule_types__icontains=f'"{value}"')


class PersonaViewSet(GovernedViewSet):
    """Personas: the voices that explain findings."""

    queryset = Persona.objects.all()
    serializer_class = PersonaSerializer
    filterset_class = PersonaFilters
    search_fields = ("name", "title", "description")
    ordering = ("name",)
    ordering_fields = {name: name for name in ("name", "title", "assignment_count", "created_at", "updated_at")}
    object_actions = ("view", "change", "delete")
    lookup_field = lookup_url_kwarg = "name"
    lookup_value_regex = "[a-z0-9][a-z0-9_-]{0,49}"

    def get_queryset(self) -> Any:
        """With the number of rules they speak for, and the first of those that the caller may see."""
        user = self.request.user
        shown = PersonaRuleAssignment.objects.filter(is_active=True).select_related("rule").order_by("rule__name")
        if not may(user, VIEW, AnalysisRule):
            shown = shown.filter(rule__in=permitted(user, VIEW, AnalysisRule.objects.all()))
        return (
            super()
            .get_queryset()
            .annotate(assignment_count=Count("assignments", filter=Q(assignments__is_active=True)))
            .prefetch_related(Prefetch("assignments", shown[:SHOWN_ASSIGNMENTS], to_attr="shown_assignments"))
        )


class AssignSerializer(StrictSerializer):
    """Which persona is to speak for which rule. What an assignment shows beside this is ignored."""

    rule_id = StrictIntegerField(required=False, min_value=1, max_value=MAX_KEY)
    rule_name = StrictCharField(required=False, max_length=100)
    persona_name = StrictCharField(max_length=50)
    assignment_reason = StrictCharField(required=False, allow_null=True, allow_blank=True)
    confidence_score = StrictDecimalField(
        required=False, max_digits=3, decimal_places=2, min_value=0, max_value=1, help_text="From 0 to 1."
    )
    id = serializers.IntegerField(read_only=True)
    created_by = serializers.CharField(read_only=True)
    is_active = serializers.BooleanField(read_only=True)
    version = serializers.IntegerField(read_only=True)
    created_at = serializers.DateTimeField(read_only=True)
    updated_at = serializers.DateTimeField(read_only=True)
    change_reason = reason_field()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "rule_id" not in attrs and "rule_name" not in attrs:
            raise serializers.ValidationError({"rule_name": ["Say which rule, by `rule_id` or `rule_name`."]})
        return attrs


class AssignmentFilters(django_filters.FilterSet):
    """What a list of assignments can be limited to."""

    persona = django_filters.CharFilter(method="filter_persona", label="Name of a persona.")
    rule = django_filters.CharFilter(method="filter_rule", label="Name of a rule.")
    rule_id = django_filters.NumberFilter(min_value=1, max_value=MAX_KEY, label="Id of a rule.")
    is_active = FlagFilter(label="Whether it still holds; those that ended are kept.")
    created_by = django_filters.CharFilter()

    class Meta:
        model = PersonaRuleAssignment
        fields: ClassVar[list[str]] = []

    def filter_persona(self, queryset: Any, name: str, value: str) -> Any:
        require_known(Persona, name, value)
        return queryset.filter(persona_id=value)

    def filter_rule(self, queryset: Any, name: str, value: str) -> Any:
        require_known(AnalysisRule, name, value)
        return queryset.filter(rule__name=value)


class AssignmentViewSet(DestroyMixin, WriteViewSet):
    """Who speaks for which rule."""

    queryset = PersonaRuleAssignment.objects.select_related("rule")
    serializer_class = AssignmentSerializer
    filterset_class = AssignmentFilters
    search_fields = ("rule__name", "persona__name", "assignment_reason")
    ordering = ("rule__name", "persona_id")
    ordering_fields = {
        **{name: name for name in ("id", "confidence_score", "created_by", "created_at", "updated_at")},
        "rule_name": "rule__name",
        "persona_name": "persona_id",
    }
    object_actions = ("view", "change", "delete")

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let the persona speak for the rule no more; the assignment stays, ended."""
        return super().destroy(request, *args, **kwargs)

    def remove(self, item: PersonaRuleAssignment) -> None:
        """Ending an assignment keeps its row."""
        if item.is_active:
            services.unassign(item)

    @extend_schema(request=AssignSerializer, responses=AssignmentSerializer)
    def assign(self, request: Request) -> Response:
        """Let a persona speak for a rule; a pair that exists is updated with what is given."""
        body = AssignSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wish = body.validated_data
        if not may(request.user, ADD, self.model):
            require(request.user, CHANGE, self.model)
        rule, persona = self.find_rule(wish), self.find_persona(wish["persona_name"])
        given = {name: wish[name] for name in ("assignment_reason", "confidence_score") if name in wish}
        try:
            with change_set(reason=wish.get("change_reason", "")) as changes:
                known = PersonaRuleAssignment.objects.filter(rule=rule, persona=persona, is_active=True).first()
                require(request.user, CHANGE if known else ADD, self.model)
                check_precondition(request, known.version if known else None)
                assignment = services.assign(rule=rule, persona=persona, **given)
        except ValidationError as error:
            raise rename_errors(error, NAMES_IN_API) from error
        return self.answer(self.reread(assignment), changes=changes)

    def find_rule(self, wish: Mapping[str, Any]) -> AnalysisRule:
        """The rule that is meant, if the caller may see it."""
        names = {"rule_id": "pk", "rule_name": "name"}
        wanted = {lookup: wish[name] for name, lookup in names.items() if name in wish}
        rule = permitted(self.request.user, VIEW, AnalysisRule.objects.filter(**wanted)).first()
        if rule is None:
            name = "rule_id" if "rule_id" in wish else "rule_name"
            both = " with this name" if len(wanted) > 1 else ""
            raise invalid(Entry(f"/{name}", f"There is no rule {wish[name]!r}{both}.", "does_not_exist"))
        return rule

    def find_persona(self, name: str) -> Persona:
        """The persona that is meant, if the caller may see it."""
        persona = permitted(self.request.user, VIEW, Persona.objects.filter(name=name)).first()
        if persona is None:
            raise invalid(Entry("/persona_name", f"There is no persona {name!r}.", "does_not_exist"))
        return persona


def rename_errors(error: ValidationError, names: Mapping[str, str]) -> ValidationError:
    """The same error about the names that the API has for the model's fields."""
    if not hasattr(error, "error_dict"):
        return error
    return ValidationError({names.get(name, name): items for name, items in error.error_dict.items()})


class RuleWithPersonasSerializer(AnalysisRuleSerializer):
    """One thing that a review looks for, run by its plugin, and who speaks for it."""

    personas = TextList(
        required=False,
        help_text="Names, the best fitting first. A new rule without any gets the one that looks after its type.",
    )

    class Meta(AnalysisRuleSerializer.Meta):
        fields = (*AnalysisRuleSerializer.Meta.fields, "personas")

    def to_representation(self, instance: AnalysisRule) -> dict[str, Any]:
        shown = super().to_representation(instance)
        shown["personas"] = [item.persona_id for item in getattr(instance, "active_assignments", ())]
        return shown


class RuleWithPersonasFilters(AnalysisRuleFilters):
    """Also by persona."""

    persona = django_filters.CharFilter(method="filter_persona", label="Name of a persona that speaks for the rule.")

    def filter_persona(self, queryset: Any, name: str, value: str) -> Any:
        require_known(Persona, name, value)
        spoken = PersonaRuleAssignment.objects.filter(persona_id=value, is_active=True)
        return queryset.filter(pk__in=spoken.values("rule_id"))


class RuleWithPersonasViewSet(AnalysisRuleViewSet):
    """Analysis rules: what a review looks for, and who speaks for it."""

    serializer_class = RuleWithPersonasSerializer
    filterset_class = RuleWithPersonasFilters
    queryset = AnalysisRule.objects.prefetch_related(
        Prefetch(
            "assignments",
            PersonaRuleAssignment.objects.filter(is_active=True).order_by("-confidence_score", "persona_id"),
            to_attr="active_assignments",
        )
    )
    extras = ("personas",)

    def check_extras(self, item: AnalysisRule | None, extras: Mapping[str, Any]) -> None:
        """Whoever sets personas changes assignments, and needs the right to: to begin some, to end some."""
        if "personas" not in extras:
            return
        wanted = extras["personas"]
        known = set(Persona.objects.filter(name__in=wanted).values_list("name", flat=True))
        unknown = [
            FieldError(f"There is no persona {name!r}.", pointer=str(index), code="does_not_exist")
            for index, name in enumerate(wanted)
            if name not in known
        ]
        if unknown:
            raise ValidationError({"personas": unknown})
        present = {assignment.persona_id for assignment in item.active_assignments} if item is not None else set()
        if set(wanted) - present:
            require(self.request.user, ADD, PersonaRuleAssignment)
        if present - set(wanted):
            require(self.request.user, DELETE, PersonaRuleAssignment)

    def store_extras(self, item: AnalysisRule, extras: Mapping[str, Any]) -> None:
        if "personas" in extras:
            try:
                services.set_personas(rule=item, names=extras["personas"])
            except ValidationError as error:
                raise rename_errors(error, {"persona": "personas"}) from error
