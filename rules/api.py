"""How are analysis rules read and changed over HTTP? Without their personas, which this storey does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from audit.bulk import MAX_UPDATES, BulkAnswerSerializer, BulkMixin, BulkSerializer
from audit.listing import MAX_KEY, FlagFilter, KnownChoiceFilter, rank
from audit.problems import Entry, invalid
from audit.serializers import GovernedSerializer, ObjectField, StrictCharField, StrictIntegerField, StrictSerializer
from audit.viewsets import GovernedViewSet
from plugins.models import Plugin
from rules.choices import RuleStatus, RuleType, Severity
from rules.models import AnalysisRule
from rules.validation import FILE_TYPE, TAG, normalise_file_types


class TextList(serializers.ListField):
    """A list of texts; what they must be is asked by the model."""

    child = StrictCharField()


class ExamplesSerializer(StrictSerializer):
    """Snippets that the rule must find, and snippets that it must not."""

    match = serializers.ListField(child=StrictCharField(allow_blank=True), required=False)
    no_match = serializers.ListField(child=StrictCharField(allow_blank=True), required=False)

    def to_internal_value(self, data: Any) -> dict[str, list[str]]:
        return {"match": [], "no_match": [], **super().to_internal_value(data)}

    def to_representation(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        return {"match": [], "no_match": [], **instance}


class AnalysisRuleSerializer(GovernedSerializer):
    """One thing that a review looks for, run by its plugin."""

    id = serializers.IntegerField(read_only=True)
    plugin = StrictCharField(
        source="plugin_id", required=False, max_length=50, help_text="Name of the analyzer that runs the rule."
    )
    configuration = ObjectField(
        required=False, help_text="What the analyzer needs; the plugin's `rule_schema` describes it."
    )
    file_types = TextList(required=False, help_text='Extensions such as ".py"; empty: any file.')
    file_patterns = TextList(required=False, help_text="Regular expressions (RE2) on the path; empty: any path.")
    exclude_patterns = TextList(required=False, help_text="Paths to leave out, as regular expressions (RE2).")
    references = TextList(required=False, help_text="Addresses and CWE numbers worth reading.")
    tags = TextList(required=False)
    examples = ExamplesSerializer(required=False)

    class Meta:
        model = AnalysisRule
        fields: ClassVar[tuple[str, ...]] = (
            *("id", "name", "title", "description", "rule_type", "severity", "plugin", "configuration"),
            *("file_types", "file_patterns", "exclude_patterns", "message", "remediation", "references", "tags"),
            *("status", "examples", "suppressible", "enabled", "version", "created_at", "updated_at"),
            *GovernedSerializer.extra,
        )
        read_only_fields = GovernedSerializer.bookkeeping


class AnalysisRuleUpdateSerializer(AnalysisRuleSerializer):
    """An entry of a bulk change: the rule, the version that was read, and the fields to change."""

    id = StrictIntegerField(min_value=1, max_value=MAX_KEY)
    version = StrictIntegerField(min_value=0, max_value=MAX_KEY, required=False, help_text="Works like `If-Match`.")
    change_reason = None

    class Meta(AnalysisRuleSerializer.Meta):
        fields = tuple(name for name in AnalysisRuleSerializer.Meta.fields if name not in GovernedSerializer.extra)
        read_only_fields = ("created_at", "updated_at")
        extra_kwargs: ClassVar[dict[str, Any]] = {"name": {"required": False}, "rule_type": {"required": False}}


class AnalysisRuleBulkSerializer(BulkSerializer):
    """A bulk change of rules."""

    updates = AnalysisRuleUpdateSerializer(many=True, allow_empty=False, max_length=MAX_UPDATES)


class AnalysisRuleFilters(django_filters.FilterSet):
    """What a list of rules can be limited to."""

    rule_type = KnownChoiceFilter(choices=RuleType.choices)
    severity = KnownChoiceFilter(choices=Severity.choices)
    min_severity = KnownChoiceFilter(
        choices=Severity.choices, method="filter_min_severity", label="This severity or a worse one."
    )
    enabled = FlagFilter()
    status = KnownChoiceFilter(choices=RuleStatus.choices)
    plugin = django_filters.CharFilter(method="filter_plugin", label="Name of a plugin.")
    tag = django_filters.CharFilter(method="filter_tag", label="A tag that the rule carries.")
    file_type = django_filters.CharFilter(
        method="filter_file_type", label="Rules that look at files of this extension, such as .py."
    )

    class Meta:
        model = AnalysisRule
        fields: ClassVar[list[str]] = []

    def filter_min_severity(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.at_least(value)

    def filter_plugin(self, queryset: Any, name: str, value: str) -> Any:
        require_known(Plugin, name, value)
        return queryset.filter(plugin_id=value)

    def filter_tag(self, queryset: Any, name: str, value: str) -> Any:
        if not TAG.match(value):
            raise invalid(Entry(f"/{name}", "A tag is lower-case, such as injection."))
        return queryset.tagged(value)

    def filter_file_type(self, queryset: Any, name: str, value: str) -> Any:
        if not FILE_TYPE.match(normalise_file_types([value])[0]):
            raise invalid(Entry(f"/{name}", "An extension looks like .py."))
        return queryset.for_file_type(value)


def require_known(model: Any, name: str, value: str) -> None:
    """A filter by a name that nothing has is a mistake, not an empty list."""
    if not model.objects.filter(name=value).exists():
        raise invalid(Entry(f"/{name}", f"There is no {model._meta.verbose_name} {value!r}.", "does_not_exist"))


class AnalysisRuleViewSet(BulkMixin, GovernedViewSet):
    """Analysis rules: what a review looks for."""

    queryset = AnalysisRule.objects.all()
    serializer_class = AnalysisRuleSerializer
    filterset_class = AnalysisRuleFilters
    search_fields = ("name", "title", "description", "message", "tags")
    ordering = ("name",)
    ordering_fields = {
        **{name: name for name in ("id", "name", "title", "rule_type", "enabled", "status", "version", "created_at")},
        "plugin": "plugin_id",
        "severity": rank("severity", Severity.values),
        "updated_at": "updated_at",
    }
    object_actions = ("view", "change", "delete")
    bulk_serializer_class = AnalysisRuleUpdateSerializer

    @extend_schema(request=AnalysisRuleBulkSerializer, responses=BulkAnswerSerializer)
    @action(detail=False, methods=["post"], rate_scope="bulk")
    def bulk(self, request: Request) -> Response:
        """Change up to 1,000 rules: all of them or none. A `version` in an entry works like `If-Match`."""
        return super().bulk(request)
