"""How is the journal read over HTTP, and how is a change undone? Newest first, by filters and a cursor."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

import django_filters
from django.db import models
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.listing import MAX_KEY, FlagFilter, JournalPagination, MomentFilter
from audit.models import ConfigurationAuditLog
from audit.problems import Entry, Problem, invalid
from audit.rollback import RollbackRefused, Target, find_revision, roll_back
from audit.serializers import KnownChoiceField, StrictIntegerField, StrictSerializer, reason_field
from audit.viewsets import ApiMixin, ReadViewSet

CLOCKS_DIFFER = timedelta(hours=1)  # how far the clocks of servers that share a journal may be apart


class ChangeSerializer(serializers.ModelSerializer):
    """One changed object: what, from what to what, who, when, why, from where."""

    old_config = serializers.DictField(allow_null=True, help_text="Before, secrets masked; null for a new object.")
    new_config = serializers.DictField(allow_null=True, help_text="After, secrets masked; null for a deleted object.")
    warnings = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ConfigurationAuditLog
        fields = (
            *("revision", "change_type", "entity_type", "entity_id", "entity_name", "old_config", "new_config"),
            *("changed_by", "actor_kind", "change_reason", "warnings", "break_glass", "source", "batch", "ip_address"),
            *("user_agent", "created_at"),
        )
        read_only_fields = fields


class ChangeFilters(django_filters.FilterSet):
    """What the journal can be limited to."""

    filter_type = django_filters.CharFilter(field_name="change_type", label="The change_type, such as rule_updated.")
    entity_type = django_filters.CharFilter(label="Such as analysis_rule.")
    entity_id = django_filters.CharFilter()
    changed_by = django_filters.CharFilter(label="Name of the user.")
    break_glass = FlagFilter(label="Stored past the governance rules, in an emergency.")
    batch = django_filters.UUIDFilter(label="All changes of one request or command.")
    since = MomentFilter(method="filter_since", label="At this moment or later.")
    until = MomentFilter(method="filter_until", label="Before this moment.")

    class Meta:
        model = ConfigurationAuditLog
        fields: ClassVar[list[Any]] = []

    def filter_since(self, queryset: models.QuerySet, name: str, value: datetime) -> models.QuerySet:
        """Also by the revision, as far as clocks can be trusted: the indexes of the other filters go by it."""
        before = self.queryset.order_by("-created_at").filter(created_at__lt=value - CLOCKS_DIFFER)
        last = before.values_list("revision", flat=True).first()
        return queryset.filter(created_at__gte=value, revision__gt=last if last is not None else 0)

    def filter_until(self, queryset: models.QuerySet, name: str, value: datetime) -> models.QuerySet:
        """Likewise."""
        after = self.queryset.order_by("created_at").filter(created_at__gte=value + CLOCKS_DIFFER)
        first = after.values_list("revision", flat=True).first()
        return queryset.filter(created_at__lt=value, revision__lt=first if first is not None else MAX_KEY)


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


TARGETS = ("to_revision", "to_time", "batch", "change")


class RollbackSerializer(StrictSerializer):
    """What to undo: one of the four targets; to plan it, or to do it."""

    to_revision = StrictIntegerField(
        min_value=0, max_value=MAX_KEY, required=False, help_text="Take back everything after this revision."
    )
    to_time = serializers.DateTimeField(required=False, help_text="Take back everything after this moment.")
    batch = serializers.UUIDField(required=False, help_text="Undo all changes of one request or command.")
    change = StrictIntegerField(min_value=1, max_value=MAX_KEY, required=False, help_text="Undo this revision.")
    mode = KnownChoiceField(choices=["plan", "apply"])
    planned_at = StrictIntegerField(
        min_value=0,
        max_value=MAX_KEY,
        required=False,
        help_text="The `revision` of the plan that was read: 409 if the configuration has moved since.",
    )
    change_reason = reason_field()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in TARGETS if name in attrs]
        if len(given) != 1:
            raise invalid(Entry("", f"Give exactly one of {', '.join(TARGETS)}.", "required"))
        return attrs


class MoveSerializer(serializers.Serializer):
    """A field's present and coming value; secrets are masked."""

    old = serializers.JSONField()
    new = serializers.JSONField()


class StepSerializer(serializers.Serializer):
    """What happens to one object."""

    action = serializers.ChoiceField(choices=["create", "update", "delete"])
    entity_type = serializers.CharField()
    entity_id = serializers.CharField()
    entity_name = serializers.CharField()
    fields = serializers.DictField(child=MoveSerializer())


class PlanSerializer(serializers.Serializer):
    """What a rollback does, or has done."""

    revision = serializers.IntegerField(help_text="Where the journal stands: of a plan, for `planned_at`.")
    steps = StepSerializer(many=True)
    left_alone = serializers.ListField(child=serializers.CharField(), help_text="What is not taken back, and why.")
    warnings = serializers.ListField(child=serializers.CharField())


class RollbackView(ApiMixin, APIView):
    """Undoing changes, by new ones."""

    http_method_names = ["post"]
    rate_scope = "bulk"

    @extend_schema(request=RollbackSerializer, responses=PlanSerializer)
    def post(self, request: Request) -> Response:
        """Undo a change, a batch, or everything since: you need the right to each change that this makes.

        `mode: plan` tells what would happen and writes nothing. 409 names each thing that stands against it.
        """
        body = RollbackSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        revision = find_revision(asked["to_time"]) if "to_time" in asked else asked.get("to_revision")
        target = Target(to_revision=revision, batch=asked.get("batch"), change=asked.get("change"))
        planning = asked["mode"] == "plan"
        try:
            plan = roll_back(
                target,
                user=request.user,
                reason=asked.get("change_reason", ""),
                dry_run=planning,
                seen=asked.get("planned_at"),
            )
        except RollbackRefused as refused:
            entries = [Entry("", problem, "refused") for problem in refused.problems]
            raise Problem("conflict", refused.problems[0], errors=entries) from refused
        headers = {} if planning else {"X-Revision": str(plan.revision)}
        return Response(plan.document(), headers=headers)
