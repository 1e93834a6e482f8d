"""How is what a review found read over HTTP? The issues of a session; one of them with the code around it."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import django_filters
from django import forms
from django.db import models
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from audit.listing import MAX_KEY, FlagFilter, KnownChoiceFilter, rank
from audit.permissions import VIEW, permitted
from audit.problems import Entry, invalid
from audit.viewsets import ReadViewSet
from reviews.choices import IssueState, Triage
from reviews.models import DiscoveredIssue, ReviewSession
from rules.choices import RuleType, Severity

PERSONA = re.compile(r"[a-z][a-z0-9_-]{0,49}")


@extend_schema_field(OpenApiTypes.INT)
class KeyFilter(django_filters.Filter):
    """The id of something."""

    field_class = forms.IntegerField

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=MAX_KEY, **kwargs)


class DiscoveredIssueSerializer(serializers.ModelSerializer):
    """One finding of a session."""

    finding = serializers.IntegerField(
        source="finding_id", allow_null=True, help_text="What it has in common with those of other reviews."
    )
    key = serializers.CharField(
        source="finding.key", allow_null=True, default=None, help_text="Of the finding; stays when the code moves."
    )
    triage = serializers.ChoiceField(
        source="finding.triage", choices=Triage.choices, default=Triage.OPEN, help_text="What people decided about it."
    )
    personas = serializers.ListField(child=serializers.CharField(), help_text="Who speaks for the rule.")

    class Meta:
        model = DiscoveredIssue
        fields = (
            *("id", "finding", "key", "state", "triage", "rule_name", "rule_type", "severity", "plugin", "code"),
            *("personas", "path", "start_line", "start_column", "end_line", "end_column", "message", "snippet"),
            *("suppressed", "suppression_reason", "suppressed_until", "line_hash", "created_at"),
        )
        read_only_fields = fields


class IssueWithCodeSerializer(DiscoveredIssueSerializer):
    """One finding of a session with the code around it."""

    context = serializers.ListField(
        child=serializers.CharField(), help_text="The lines round the finding; those with credentials masked."
    )

    class Meta(DiscoveredIssueSerializer.Meta):
        fields = (*DiscoveredIssueSerializer.Meta.fields, "context_start", "context")
        read_only_fields = fields


class SeverityFilters(django_filters.FilterSet):
    """What lists of findings have in common."""

    rule_name = django_filters.CharFilter()
    rule_type = KnownChoiceFilter(choices=RuleType.choices)
    severity = KnownChoiceFilter(choices=Severity.choices)
    min_severity = KnownChoiceFilter(
        choices=Severity.choices, method="filter_min_severity", label="This severity or a worse one."
    )
    suppressed = FlagFilter(label="Whether a comment in the code suppresses it.")
    path = django_filters.CharFilter(lookup_expr="startswith", label="Paths that begin so.")

    def filter_min_severity(self, queryset: models.QuerySet, name: str, value: str) -> models.QuerySet:
        return queryset.filter(severity__in=Severity.at_least(value))


class DiscoveredIssueFilters(SeverityFilters):
    """What the issues of a session can be limited to."""

    state = KnownChoiceFilter(choices=IssueState.choices)
    triage = KnownChoiceFilter(choices=Triage.choices, method="filter_triage", label="What people decided about it.")
    plugin = django_filters.CharFilter()
    persona = django_filters.CharFilter(method="filter_persona", label="Name of one who speaks for the rule.")

    class Meta:
        model = DiscoveredIssue
        fields: ClassVar[list[Any]] = []

    def filter_triage(self, queryset: models.QuerySet, name: str, value: str) -> models.QuerySet:
        decided = models.Q(finding__triage=value)
        # Nobody has decided about what is not followed.
        return queryset.filter(decided | models.Q(finding=None) if value == Triage.OPEN else decided)

    def filter_persona(self, queryset: models.QuerySet, name: str, value: str) -> models.QuerySet:
        if not PERSONA.fullmatch(value):
            raise invalid(Entry(f"/{name}", "This is no name of a persona."))
        return queryset.filter(personas__icontains=f'"{value}"')


class DiscoveredIssueViewSet(ReadViewSet):
    """Findings of one review."""

    http_method_names = ["get", "head"]
    queryset = DiscoveredIssue.objects.select_related("finding")
    filterset_class = DiscoveredIssueFilters
    search_fields = ("path", "message", "rule_name")
    ordering = ("id",)
    ordering_fields = {
        **{name: name for name in ("id", "path", "rule_name", "start_line")},
        "severity": rank("severity", Severity.values),
    }

    def get_serializer_class(self) -> type[serializers.Serializer]:
        return DiscoveredIssueSerializer if self.action == "list" else IssueWithCodeSerializer

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().filter(session_id=self.kwargs.get("session_id"))

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self.require_reading()
        get_object_or_404(permitted(request.user, VIEW, ReviewSession.objects.all()), pk=kwargs["session_id"])
        return super().list(request, *args, **kwargs)
