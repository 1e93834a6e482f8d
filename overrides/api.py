"""How are governance rules, approval policies, the configuration in force and exports reached over HTTP?"""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from audit.exchange import dump, export_document
from audit.listing import FlagFilter, KnownChoiceFilter
from audit.permissions import require_holding
from audit.problems import Entry, invalid
from audit.serializers import GovernedSerializer, ObjectField, StrictCharField, StrictSerializer
from audit.viewsets import ApiMixin, GovernedViewSet
from overrides.choices import Enforcement
from overrides.models import ApprovalPolicy, GovernanceRule

VIEW_CONFIGURATION = "overrides.view_configuration"
EXPORT_CONFIGURATION = "overrides.export_configuration"
IMPORT_CONFIGURATION = "overrides.import_configuration"
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


class ApprovalPolicySerializer(GovernedSerializer):
    """How many people approve overrides of rules of a severity, and how long those last at most."""

    id = serializers.IntegerField(read_only=True)

    class Meta:
        model = ApprovalPolicy
        fields = (
            *("id", "severity", "approvals", "max_days"),
            *GovernedSerializer.bookkeeping,
            *GovernedSerializer.extra,
        )
        read_only_fields = GovernedSerializer.bookkeeping


class ApprovalPolicyViewSet(GovernedViewSet):
    """Approval policies: a severity without one needs one approval (critical: two), for 90 days at most."""

    queryset = ApprovalPolicy.objects.all()
    serializer_class = ApprovalPolicySerializer
    search_fields = ("severity",)
    ordering = ("id",)
    ordering_fields = {name: name for name in ("id", "severity", "approvals", "max_days", "updated_at")}
    object_actions = ("view", "change", "delete")


class ExportView(ApiMixin, APIView):
    """The configuration as a document."""

    query_parameters: ClassVar[dict[str, list[str]]] = {"get": ["format"], "head": ["format"]}

    @extend_schema(
        responses={(200, media_type): {"type": "object"} for media_type in FORMS.values()},
        parameters=[OpenApiParameter("format", str, enum=list(FORMS), default="yaml")],
    )
    def get(self, request: Request) -> HttpResponse:
        """What you may see of all that a document can say, by names and without secrets."""
        require_holding(request.user, EXPORT_CONFIGURATION)
        form = request.query_params.get("format", "yaml")
        if form not in FORMS:
            raise invalid(Entry("/format", f"Known: {', '.join(FORMS)}.", "invalid_choice"))
        return HttpResponse(
            dump(export_document(request.user), form),
            content_type=FORMS[form],
            headers={"Content-Disposition": f'attachment; filename="configuration.{form}"'},
        )
