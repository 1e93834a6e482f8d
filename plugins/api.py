"""How are plugins read, set and switched over HTTP?"""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from audit.changes import change_set
from audit.listing import FlagFilter, read_flag
from audit.permissions import require
from audit.serializers import GovernedSerializer, ObjectField, StrictBooleanField, StrictSerializer, reason_field
from audit.viewsets import UpdateMixin, WriteViewSet, check_precondition, refuse_entry
from plugins import obstacles, registry, services
from plugins.models import Plugin, PluginHealth


class ProgramSerializer(serializers.Serializer):
    """A program that the analyzer runs, as it was found when the plugin was last checked."""

    name = serializers.CharField()
    minimum = serializers.CharField(help_text="The oldest version that will do; empty: any.")
    install = serializers.CharField(help_text="How people get it.")
    path = serializers.CharField(help_text="Empty: it was not found.")
    version = serializers.CharField(help_text="Empty: it did not tell.")
    problem = serializers.CharField(help_text="Why it cannot be run; empty if it can.")


class RunSerializer(serializers.Serializer):
    """How the plugin did in one review."""

    seconds = serializers.FloatField()
    files = serializers.IntegerField()
    findings = serializers.IntegerField()
    failures = serializers.IntegerField()


class HealthSerializer(serializers.Serializer):
    """How the plugin was when it was last looked at or run, and how it did lately."""

    status = serializers.ChoiceField(choices=PluginHealth.Status.choices)
    checked_at = serializers.DateTimeField(allow_null=True)
    detail = serializers.CharField()
    executables = ProgramSerializer(many=True)
    last_run_at = serializers.DateTimeField(allow_null=True)
    last_run = RunSerializer(allow_null=True)
    runs = serializers.IntegerField(help_text="How many runs the next three tell of: the last 100 at most.")
    failed_runs = serializers.IntegerField(help_text="Those of them in which something failed.")
    p95_seconds = serializers.FloatField(allow_null=True, help_text="19 of 20 runs took no longer than this.")
    failure = serializers.CharField(help_text="The first failure of the last run that had one.")


class PluginSerializer(GovernedSerializer):
    """One installed analyzer, its switch and its settings."""

    title = serializers.SerializerMethodField()
    description = serializers.SerializerMethodField()
    installed_version = serializers.SerializerMethodField(help_text="Of the analyzer; null if it is not installed.")
    configuration = ObjectField(
        required=False,
        help_text='Settings, as `configuration_schema` says. A secret is shown as `{"set": true}`; sent back so, '
        "or left out, it stays as it is; null removes it.",
    )
    configuration_schema = serializers.SerializerMethodField(help_text="JSON Schema of `configuration`.")
    rule_schema = serializers.SerializerMethodField(help_text="JSON Schema of a rule's `configuration`.")
    requires = serializers.SerializerMethodField(help_text="Plugins that this one needs.")
    requirements = serializers.SerializerMethodField(help_text="The same with the versions that will do.")
    required_by = serializers.SerializerMethodField(help_text="Plugins that need this one.")
    health = serializers.SerializerMethodField()

    class Meta:
        model = Plugin
        fields = (
            *("name", "title", "description", "version", "installed_version", "enabled", "configuration"),
            *("configuration_schema", "rule_schema", "requires", "requirements", "required_by", "health"),
            *("created_at", "updated_at"),
            *GovernedSerializer.extra,
        )
        read_only_fields = ("name", *GovernedSerializer.bookkeeping)

    def get_title(self, plugin: Plugin) -> str:
        return plugin.analyzer.title if plugin.analyzer else plugin.name

    def get_description(self, plugin: Plugin) -> str:
        return plugin.analyzer.description if plugin.analyzer else ""

    @extend_schema_field({"type": ["string", "null"]})
    def get_installed_version(self, plugin: Plugin) -> str | None:
        return plugin.analyzer.version if plugin.analyzer else None

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_configuration_schema(self, plugin: Plugin) -> dict[str, Any]:
        return dict(plugin.analyzer.configuration_schema) if plugin.analyzer else {}

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_rule_schema(self, plugin: Plugin) -> dict[str, Any]:
        return dict(plugin.analyzer.rule_schema) if plugin.analyzer else {}

    def get_requires(self, plugin: Plugin) -> list[str]:
        return [each.name for each in registry.requirements(plugin.name)]

    def get_requirements(self, plugin: Plugin) -> list[str]:
        return [str(each) for each in registry.requirements(plugin.name)]

    def get_required_by(self, plugin: Plugin) -> list[str]:
        return registry.required_by(plugin.name)

    @extend_schema_field(HealthSerializer)
    def get_health(self, plugin: Plugin) -> dict[str, Any]:
        health = getattr(plugin, "health", None) or PluginHealth(checked_at=None, detail="Not looked at yet.")
        return dict(HealthSerializer(health).data)

    def to_representation(self, instance: Plugin) -> dict[str, Any]:
        shown = super().to_representation(instance)
        shown["configuration"] = instance.shown()["configuration"]
        return shown


class ToggleSerializer(StrictSerializer):
    """Whether the plugin is to run."""

    enabled = StrictBooleanField(required=False, help_text="In the body or in the query.")
    change_reason = reason_field()


class PluginFilters(django_filters.FilterSet):
    """What a list of plugins can be limited to."""

    enabled = FlagFilter()

    class Meta:
        model = Plugin
        fields: ClassVar[list[str]] = []


class PluginViewSet(UpdateMixin, WriteViewSet):
    """Installed analyzers. Rows come and go with the packages; people set and switch them."""

    http_method_names = ["get", "head", "patch", "post"]
    queryset = Plugin.objects.select_related("health")
    serializer_class = PluginSerializer
    filterset_class = PluginFilters
    search_fields = ("name",)
    ordering = ("name",)
    ordering_fields = {"name": "name", "enabled": "enabled", "updated_at": "updated_at"}
    object_actions = ("view", "change", "toggle")
    lookup_field = lookup_url_kwarg = "name"
    lookup_value_regex = "[a-z][a-z0-9_-]{0,49}"

    @property
    def query_parameters(self) -> dict[str, Any]:
        return {**super().query_parameters, "post": ["enabled"] if self.action == "toggle" else []}

    @extend_schema(
        request=ToggleSerializer,
        responses=PluginSerializer,
        parameters=[OpenApiParameter("enabled", bool, description="In the query or in the body.")],
    )
    @action(detail=True, methods=["post"])
    def toggle(self, request: Request, name: str) -> Response:
        """Switch a plugin on or off. 409 names the plugin that stands against it."""
        seen = self.get_object()
        require(request.user, "toggle", seen)
        body = ToggleSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        enabled = self.read_enabled(request, body.validated_data)
        check_precondition(request, seen.version)
        if enabled:
            obstacles.find_programs(seen.name)  # asked for their versions before the lock
        with change_set(reason=body.validated_data.get("change_reason", "")) as changes:
            check_precondition(request, self.reload(seen).version)
            plugin = services.toggle(name=seen.name, enabled=enabled)
        return self.answer(self.reread(plugin), changes=changes)

    @extend_schema(request=None, responses=PluginSerializer)
    @action(detail=True, methods=["post"])
    def check(self, request: Request, name: str) -> Response:
        """Look at the plugin's health now. Health is not configuration: no reason, no revision."""
        plugin = self.get_object()
        require(request.user, "change", plugin)
        services.check_health(plugin)
        return self.answer(plugin)

    @staticmethod
    def read_enabled(request: Request, body: dict[str, Any]) -> bool:
        """The wish, from wherever it was said; said twice, it must be the same."""
        said = {value for value in (read_flag(request, "enabled"), body.get("enabled")) if value is not None}
        if not said:
            raise refuse_entry("/enabled", "This field is required, in the body or in the query.", "required")
        if len(said) > 1:
            raise refuse_entry("/enabled", "The body and the query say different things.")
        return said.pop()
