"""What was I told, over HTTP? One's own notifications, and nobody else's."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db import models
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit.listing import MAX_KEY, FlagFilter, KnownChoiceFilter
from audit.serializers import StrictIntegerField, StrictSerializer
from audit.viewsets import ReadViewSet
from overrides.choices import NotificationKind
from overrides.models import Notification
from overrides.notifications import mark_read

MAX_KEYS = 1_000


class NotificationSerializer(serializers.ModelSerializer):
    """Somebody tells the caller of an override, or, at a `revision`, of a change past the governance rules."""

    override_id = serializers.IntegerField(allow_null=True)
    read = serializers.SerializerMethodField()

    class Meta:
        model = Notification
        fields = ("id", "kind", "text", "override_id", "revision", "created_at", "read", "read_at")
        read_only_fields = fields

    def get_read(self, notification: Notification) -> bool:
        return notification.read_at is not None


class ReadSerializer(StrictSerializer):
    """Which notifications were read; without `ids`, all."""

    ids = serializers.ListField(
        child=StrictIntegerField(min_value=0, max_value=MAX_KEY), required=False, max_length=MAX_KEYS
    )


class MarkedSerializer(serializers.Serializer):
    """How many were unread."""

    marked = serializers.IntegerField()
    unread = serializers.IntegerField(help_text="That are left.")


class NotificationFilters(django_filters.FilterSet):
    """What one's notifications can be limited to."""

    kind = KnownChoiceFilter(choices=NotificationKind.choices)
    unread = FlagFilter(method="limit_to_unread", label="Whether it was not read yet.")

    class Meta:
        model = Notification
        fields: ClassVar[list[str]] = []

    def limit_to_unread(self, rows: models.QuerySet, name: str, value: bool) -> models.QuerySet:
        return rows.filter(read_at__isnull=value)


class NotificationViewSet(ReadViewSet):
    """What the caller was told, newest first."""

    http_method_names = ["get", "head", "post"]
    queryset = Notification.objects.all()
    serializer_class = NotificationSerializer
    filterset_class = NotificationFilters
    ordering = ("-id",)

    def readable(self) -> models.QuerySet:
        return Notification.objects.filter(user=self.request.user)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Your notifications, page by page."""
        page = self.paginate_queryset(self.filter_queryset(self.readable()))
        return self.get_paginated_response(self.show(page, many=True))

    @extend_schema(request=ReadSerializer, responses=MarkedSerializer)
    def mark_read(self, request: Request) -> Response:
        """Note that you have read some of them, or all."""
        body = ReadSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        marked = mark_read(user=request.user, keys=body.validated_data.get("ids"))
        return Response({"marked": marked, "unread": self.readable().filter(read_at=None).count()})
