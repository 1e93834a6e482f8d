"""How are review sessions and their findings read over HTTP?"""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db import models
from rest_framework import serializers
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from audit.listing import KnownChoiceFilter, MomentFilter, rank
from audit.permissions import VIEW, permitted
from audit.serializers import ObjectField
from audit.viewsets import ReadViewSet
from reviews.models import DiscoveredIssue, ReviewSession
from rules.choices import RuleType, Severity


class ReviewSessionSerializer(serializers.ModelSerializer):
    """One run of the rules over a codebase, with the revision of the configuration it ran at."""

    files_skipped = ObjectField(help_text="Number of files skipped, by reason.")
    counts = ObjectField(help_text="Number of findings by severity and by persona.")
    failures = serializers.ListField(help_text="What analyzers could not do.")

    class Meta:
        model = ReviewSession
        fields = (
            *("id", "codebase", "root", "revision", "status", "started_by", "started_at", "finished_at", "seconds"),
            *("files_analyzed", "files_skipped", "rules_run", "counts", "failures"),
        )
        read_only_fields = fields


class DiscoveredIssueSerializer(serializers.ModelSerializer):
    """One finding of a session."""

    personas = serializers.ListField(child=serializers.CharField(), help_text="Who speaks for the rule.")

    class Meta:
        model = DiscoveredIssue
        fields = (
            *("id", "rule_name", "rule_type", "severity", "personas", "path", "start_line", "start_column"),
            *("end_line", "end_column", "message", "snippet", "created_at"),
        )
        read_only_fields = fields


class ReviewSessionFilters(django_filters.FilterSet):
    """What a list of sessions can be limited to."""

    status = KnownChoiceFilter(choices=ReviewSession.Status.choices)
    codebase = django_filters.CharFilter()
    started_by = django_filters.CharFilter()
    since = MomentFilter(field_name="started_at", lookup_expr="gte", label="Started at this moment or later.")
    until = MomentFilter(field_name="started_at", lookup_expr="lt", label="Started before this moment.")

    class Meta:
        model = ReviewSession
        fields: ClassVar[list[Any]] = []


class DiscoveredIssueFilters(django_filters.FilterSet):
    """What a list of findings can be limited to."""

    rule_name = django_filters.CharFilter()
    rule_type = KnownChoiceFilter(choices=RuleType.choices)
    severity = KnownChoiceFilter(choices=Severity.choices)
    min_severity = KnownChoiceFilter(
        choices=Severity.choices, method="filter_min_severity", label="This severity or a worse one."
    )
    path = django_filters.CharFilter(lookup_expr="startswith", label="Paths that begin so.")

    class Meta:
        model = DiscoveredIssue
        fields: ClassVar[list[Any]] = []

    def filter_min_severity(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(severity__in=Severity.at_least(value))


class ReviewSessionViewSet(ReadViewSet):
    """Reviews that were run."""

    http_method_names = ["get", "head"]
    queryset = ReviewSession.objects.all()
    serializer_class = ReviewSessionSerializer
    filterset_class = ReviewSessionFilters
    search_fields = ("codebase", "root", "started_by")
    ordering = ("-id",)
    ordering_fields = {name: name for name in ("id", "codebase", "started_at", "seconds", "files_analyzed")}


class DiscoveredIssueViewSet(ReadViewSet):
    """Findings of one review."""

    http_method_names = ["get", "head"]
    queryset = DiscoveredIssue.objects.all()
    serializer_class = DiscoveredIssueSerializer
    filterset_class = DiscoveredIssueFilters
    search_fields = ("path", "message", "rule_name")
    ordering = ("id",)
    ordering_fields = {
        **{name: name for name in ("id", "path", "rule_name", "start_line")},
        "severity": rank("severity", Severity.values),
    }

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().filter(session_id=self.kwargs.get("session_id"))

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self.require_reading()
        get_object_or_404(permitted(request.user, VIEW, ReviewSession.objects.all()), pk=kwargs["session_id"])
        return super().list(request, *args, **kwargs)
