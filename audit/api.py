"""How is the journal read over HTTP? Newest first, by filters and a cursor."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from rest_framework import serializers

from audit.listing import JournalPagination, MomentFilter
from audit.models import ConfigurationAuditLog
from audit.viewsets import ReadViewSet


class ChangeSerializer(serializers.ModelSerializer):
    """One changed object: what, from what to what, who, when, why, from where."""

    old_config = serializers.DictField(allow_null=True, help_text="Before, secrets masked; null for a new object.")
    new_config = serializers.DictField(allow_null=True, help_text="After, secrets masked; null for a deleted object.")
    warnings = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ConfigurationAuditLog
        fields = (
            *("revision", "change_type", "entity_type", "entity_id", "entity_name", "old_config", "new_config"),
            *("changed_by", "actor_kind", "change_reason", "warnings", "source", "batch", "ip_address"),
            *("user_agent", "created_at"),
        )
        read_only_fields = fields


class ChangeFilters(django_filters.FilterSet):
    """What the journal can be limited to."""

    filter_type = django_filters.CharFilter(field_name="change_type", label="The change_type, such as rule_updated.")
    entity_type = django_filters.CharFilter(label="Such as analysis_rule.")
    entity_id = django_filters.CharFilter()
    changed_by = django_filters.CharFilter(label="Name of the user.")
    batch = django_filters.UUIDFilter(label="All changes of one request or command.")
    since = MomentFilter(field_name="created_at", lookup_expr="gte", label="At this moment or later.")
    until = MomentFilter(field_name="created_at", lookup_expr="lt", label="Before this moment.")

    class Meta:
        model = ConfigurationAuditLog
        fields: ClassVar[list[Any]] = []


class ChangeViewSet(ReadViewSet):
    """The journal of all changes."""

    http_method_names = ["get", "head"]
    queryset = ConfigurationAuditLog.objects.all()
    serializer_class = ChangeSerializer
    filterset_class = ChangeFilters
    pagination_class = JournalPagination
    search_fields = ("entity_name", "entity_id", "change_type", "changed_by", "change_reason")
    ordering = ("-revision",)
    ordering_fields = {"revision": "revision"}
    lookup_field = "pk"
    lookup_url_kwarg = "revision"
