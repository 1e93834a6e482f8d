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
from audit.serializers import GovernedSerializer, ObjectField, PermissionsSerializer, StrictCharField, StrictSerializer
from audit.viewsets import ApiMixin, GovernedViewSet, ReadViewSet, read_tags
from overrides.choices import Enforcement, OverrideStatus, TargetType
from overrides.effective import load_configuration
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


class OverrideSerializer(PermissionsSerializer):
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
            *("version", "created_at", "updated_at", "permissions"),
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
    object_actions = ("view", "change", "approve")


class PluginInForceSerializer(serializers.Serializer):
    """A plugin, its switch and settings; secrets as `{"set": true}`."""

    name = serializers.CharField()
    enabled = serializers.BooleanField()
    configuration = ObjectField()
    version = serializers.IntegerField()


class RuleInForceSerializer(serializers.Serializer):
    """An enabled rule with what overrides change in it."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    rule_type = serializers.CharField()
    severity = serializers.CharField()
    plugin = serializers.CharField()
    configuration = ObjectField()
    file_types = serializers.ListField(child=serializers.CharField())
    file_patterns = serializers.ListField(child=serializers.CharField())
    exclude_patterns = serializers.ListField(child=serializers.CharField())
    message = serializers.CharField()
    remediation = serializers.CharField()
    references = serializers.ListField(child=serializers.CharField())
    tags = serializers.ListField(child=serializers.CharField())
    status = serializers.CharField()
    suppressible = serializers.BooleanField()
    enabled = serializers.BooleanField()
    version = serializers.IntegerField()
    personas = serializers.ListField(child=serializers.CharField())
    overridden_by = serializers.ListField(child=serializers.IntegerField())


class PersonaInForceSerializer(serializers.Serializer):
    """A persona."""

    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    voice = serializers.CharField()
    rule_types = serializers.ListField(child=serializers.CharField())
    version = serializers.IntegerField()


class AssignmentInForceSerializer(serializers.Serializer):
    """A persona speaks for a rule."""

    rule = serializers.CharField()
    persona = serializers.CharField()
    confidence_score = serializers.FloatField()
    assignment_reason = serializers.CharField(allow_null=True)


class OverrideInForceSerializer(serializers.Serializer):
    """An override in force; with `paths` it counts only there, and is not part of the rule above."""

    id = serializers.IntegerField()
    rule_name = serializers.CharField()
    override_config = ObjectField()
    paths = serializers.ListField(child=serializers.CharField())
    approved_by = serializers.CharField()
    expires_at = serializers.DateTimeField()


class ConfigurationSerializer(serializers.Serializer):
    """The configuration in force, whole and at one revision."""

    revision = serializers.IntegerField()
    evaluated_at = serializers.DateTimeField()
    valid_until = serializers.DateTimeField(allow_null=True, help_text="When the next override lapses.")
    rules = RuleInForceSerializer(many=True)
    plugins = PluginInForceSerializer(many=True)
    personas = PersonaInForceSerializer(many=True)
    assignments = AssignmentInForceSerializer(many=True)
    overrides = OverrideInForceSerializer(many=True)


class ConfigurationView(ApiMixin, APIView):
    """The configuration in force."""

    query_parameters: ClassVar[dict[str, list[str]]] = {"get": ["since", "revision"], "head": ["since", "revision"]}

    @extend_schema(responses=ConfigurationSerializer)
    def get(self, request: Request) -> HttpResponse:
        """Everything that a review obeys now. With `If-None-Match` the answer is 304 while nothing has changed."""
        require_holding(request.user, VIEW_CONFIGURATION)
        asked = [name for name in ("since", "revision") if name in request.query_params]
        if asked:
            raise invalid(*(Entry(f"/{name}", f"{name} is not offered yet.", "not_offered") for name in asked))
        configuration = load_configuration()
        headers = {"ETag": configuration.etag}
        if matches(request.headers.get("If-None-Match"), configuration.etag):
            unchanged = HttpResponse(status=304, headers=headers)
            del unchanged["Content-Type"]
            return unchanged
        return HttpResponse(configuration.body, content_type="application/json", headers=headers)


def matches(header: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names `etag`; comparison is weak (RFC 9110)."""
    tags = read_tags(header) if header else []
    return tags == ["*"] or etag in [each.removeprefix("W/") for each in tags]


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
