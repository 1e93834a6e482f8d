"""How are governance rules, overrides, the configuration in force and exports reached over HTTP?"""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from audit.exchange import dump, export_document
from audit.listing import FlagFilter, KnownChoiceFilter
from audit.permissions import require_holding
from audit.problems import Entry, invalid
from audit.serializers import GovernedSerializer, ObjectField, StrictCharField, StrictSerializer
from audit.viewsets import ApiMixin, GovernedViewSet, ReadViewSet
from overrides.choices import Enforcement, OverrideStatus, TargetType
from overrides.models import GovernanceRule, GovernanceRuleOverride

VIEW_CONFIGURATION = "overrides.view_configuration"
EXPORT_CONFIGURATION = "overrides.export_configuration"
FORMS = {"yaml": "application/yaml", "json": "application/json"}


class AppliesToSerializer(StrictSerializer):
    """Which changes a governance rule judges; an empty list means any."""

    entity_types = serializers.ListField(child=StrictCharField(), required=False, help_text="Such as analysis_rule.")
    change_types = serializers.ListField(child=StrictCharField(), required=False, help_text="Such as rule_updated.")

    def to_internal_value(self, data: Any) -> dict[str, list[str]]:
        return {"entity_types": [], "change_types": [], **super().to_internal_value(data)}

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return {"entity_types": [], "change_types": [], **instance}


class VerdictExamplesSerializer(StrictSerializer):
    """Changes that must pass and changes that must fail: any of `old`, `new`, `actor`, `change` and `facts`."""

    def get_fields(self) -> dict[str, Any]:
        return {name: serializers.ListField(child=ObjectField(), required=False) for name in ("pass", "fail")}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        return {"pass": [], "fail": [], **super().to_internal_value(data)}

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return {"pass": [], "fail": [], **instance}


class GovernanceRuleSerializer(GovernedSerializer):
    """What every change of some kind must satisfy."""

    id = serializers.IntegerField(read_only=True)
    applies_to = AppliesToSerializer(required=False)
    examples = VerdictExamplesSerializer(required=False)

    class Meta:
        model = GovernanceRule
        fields = (
            *("id", "name", "title", "applies_to", "condition", "message", "enforcement", "enabled", "examples"),
            *GovernedSerializer.bookkeeping,
            *GovernedSerializer.extra,
        )
        read_only_fields = GovernedSerializer.bookkeeping


class GovernanceRuleFilters(django_filters.FilterSet):
    """What a list of governance rules can be limited to."""

    enforcement = KnownChoiceFilter(choices=Enforcement.choices)
    enabled = FlagFilter()

    class Meta:
        model = GovernanceRule
        fields: ClassVar[list[str]] = []


class GovernanceRuleViewSet(GovernedViewSet):
    """Governance rules: what changes must satisfy."""

    queryset = GovernanceRule.objects.all()
    serializer_class = GovernanceRuleSerializer
    filterset_class = GovernanceRuleFilters
    search_fields = ("name", "title", "message", "condition")
    ordering = ("name",)
    ordering_fields = {name: name for name in ("id", "name", "enforcement", "enabled", "created_at", "updated_at")}
    object_actions = ("view", "change", "delete")


class ApprovalSerializer(serializers.Serializer):
    """Somebody agreed."""

    user = serializers.CharField()


class DecisionSerializer(serializers.Serializer):
    """What somebody decided."""

    user = serializers.CharField()
    decision = serializers.ChoiceField(choices=["approved"])


class OverrideSerializer(serializers.ModelSerializer):
    """For a limited time, a rule is in force differently."""

    override_config = ObjectField(help_text="What is different: a merge patch (RFC 7396) on the rule.")
    original_config = ObjectField(help_text="The rule as it was when this was asked for.")
    paths = serializers.ListField(child=serializers.CharField(), help_text="Globs; empty: everywhere.")
    in_force = serializers.SerializerMethodField(help_text="Enabled and not expired, by the clock of the server.")
    approvals = serializers.SerializerMethodField(help_text="Who agreed.")
    decisions = serializers.SerializerMethodField(help_text="Who decided what, as far as it is kept.")

    class Meta:
        model = GovernanceRuleOverride
        fields = (
            *("id", "rule_name", "target_type", "original_config", "override_config", "paths", "reason", "status"),
            *("created_by", "approved_by", "approvals", "decisions", "enabled", "in_force", "expires_at"),
            *("version", "created_at", "updated_at"),
        )
        read_only_fields = fields

    def get_in_force(self, override: GovernanceRuleOverride) -> bool:
        return override.enabled and override.expires_at > timezone.now()

    @extend_schema_field(ApprovalSerializer(many=True))
    def get_approvals(self, override: GovernanceRuleOverride) -> list[dict[str, str]]:
        return [{"user": override.approved_by}] if override.approved_by else []

    @extend_schema_field(DecisionSerializer(many=True))
    def get_decisions(self, override: GovernanceRuleOverride) -> list[dict[str, str]]:
        return [{"user": override.approved_by, "decision": "approved"}] if override.approved_by else []


class OverrideFilters(django_filters.FilterSet):
    """What a list of overrides can be limited to."""

    rule_name = django_filters.CharFilter()
    target_type = KnownChoiceFilter(choices=TargetType.choices)
    status = KnownChoiceFilter(choices=OverrideStatus.choices)
    enabled = FlagFilter()
    created_by = django_filters.CharFilter()
    approved_by = django_filters.CharFilter()

    class Meta:
        model = GovernanceRuleOverride
        fields: ClassVar[list[str]] = []


class OverrideViewSet(ReadViewSet):
    """Overrides: rules that are set differently for a while."""

    http_method_names = ["get", "head"]
    queryset = GovernanceRuleOverride.objects.all()
    serializer_class = OverrideSerializer
    filterset_class = OverrideFilters
    search_fields = ("rule_name", "reason", "created_by", "approved_by")
    ordering = ("-id",)
    ordering_fields = {name: name for name in ("id", "rule_name", "status", "expires_at", "created_at", "updated_at")}


class ExportView(ApiMixin, APIView):
    """The configuration as a document."""

    query_parameters: ClassVar[dict[str, list[str]]] = {"get": ["format"], "head": ["format"]}

    @extend_schema(
        responses={(200, media_type): {"type": "object"} for media_type in FORMS.values()},
        parameters=[OpenApiParameter("format", str, enum=list(FORMS), default="yaml")],
    )
    def get(self, request: Request) -> HttpResponse:
        """What you may see of plugins, rules, personas and assignments, by names and without secrets."""
        require_holding(request.user, EXPORT_CONFIGURATION)
        form = request.query_params.get("format", "yaml")
        if form not in FORMS:
            raise invalid(Entry("/format", f"Known: {', '.join(FORMS)}.", "invalid_choice"))
        return HttpResponse(
            dump(export_document(request.user), form),
            content_type=FORMS[form],
            headers={"Content-Disposition": f'attachment; filename="configuration.{form}"'},
        )
