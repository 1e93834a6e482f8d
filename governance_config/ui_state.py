"""How does a frontend keep what its user arranged? Each user's own rows, one a component."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import django_filters
from django.db import models, transaction
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit.serializers import ObjectField, StrictSerializer
from audit.viewsets import ReadViewSet
from governance_config.models import UiConfigurationState

MAX_BYTES = 64 * 1024


class UiStateSerializer(StrictSerializer):
    """What a component remembers."""

    component_name = serializers.CharField(read_only=True)
    configuration = ObjectField(help_text=f"Anything, up to {MAX_BYTES:,} bytes of JSON.")
    last_updated = serializers.DateTimeField(read_only=True)

    def validate_configuration(self, value: dict[str, Any]) -> dict[str, Any]:
        size = len(json.dumps(value, separators=(",", ":")).encode())
        if size > MAX_BYTES:
            raise serializers.ValidationError(f"At most {MAX_BYTES:,} bytes of JSON, these are {size:,}.", "too_large")
        return value


class UiStateFilters(django_filters.FilterSet):
    """A list of states has no filters."""

    class Meta:
        model = UiConfigurationState
        fields: ClassVar[list[str]] = []


class UiStateViewSet(ReadViewSet):
    """What the caller's frontend remembers."""

    http_method_names = ["get", "head", "put", "delete"]
    queryset = UiConfigurationState.objects.all()
    serializer_class = UiStateSerializer
    filterset_class = UiStateFilters
    search_fields = ("component_name",)
    ordering = ("component_name",)
    lookup_field = "component_name"
    lookup_url_kwarg = "component"
    lookup_value_regex = "[A-Za-z0-9][A-Za-z0-9._:-]{0,99}"

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().filter(user_id=self.request.user.pk)

    def readable(self) -> models.QuerySet:
        """Everybody has his own, and sees no other."""
        return self.get_queryset()

    def require_reading(self) -> None:
        """Nobody needs a right to what is his own."""

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.readable()))
        return self.get_paginated_response(self.show(page, many=True))

    @extend_schema(responses=UiStateSerializer)
    def update(self, request: Request, component: str) -> Response:
        """Remember this instead of what there was."""
        body = UiStateSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        with transaction.atomic():
            state, _ = UiConfigurationState.objects.update_or_create(
                user=request.user,
                component_name=component,
                defaults={"configuration": body.validated_data["configuration"], "last_updated": timezone.now()},
            )
        return self.answer(state)

    def destroy(self, request: Request, component: str) -> Response:
        """Forget it."""
        self.get_object().delete()
        return Response(status=204)
