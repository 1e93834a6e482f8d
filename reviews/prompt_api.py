"""How are the prompts for Copilot read and moved on over HTTP?"""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db import models
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from audit.listing import KnownChoiceFilter, rank
from audit.permissions import CHANGE, require
from audit.serializers import KnownChoiceField, StrictSerializer
from audit.viewsets import ReadViewSet
from reviews.choices import PromptStatus
from reviews.copilot import change_status
from reviews.issue_api import KeyFilter
from reviews.models import CopilotPrompt
from rules.choices import Severity


class CopilotPromptSerializer(serializers.ModelSerializer):
    """A task for GitHub Copilot, in the words of a persona."""

    session = serializers.IntegerField(source="session_id")
    codebase = serializers.CharField(source="session.codebase")
    rule_names = serializers.ListField(child=serializers.CharField())
    finding_keys = serializers.ListField(child=serializers.CharField(), help_text="Of the findings it is about.")
    paths = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = CopilotPrompt
        fields = (
            *("id", "session", "codebase", "name", "title", "persona", "status", "severity", "rule_names"),
            *("finding_keys", "paths", "content_hash", "revision", "created_at", "updated_at"),
        )
        read_only_fields = fields


class PromptWithTextSerializer(CopilotPromptSerializer):
    """A prompt with its text."""

    class Meta(CopilotPromptSerializer.Meta):
        fields = (*CopilotPromptSerializer.Meta.fields, "body")
        read_only_fields = fields


class PromptStatusSerializer(StrictSerializer):
    """Where a prompt is to stand."""

    status = KnownChoiceField(choices=PromptStatus.choices)


class CopilotPromptFilters(django_filters.FilterSet):
    """What a list of prompts can be limited to."""

    session = KeyFilter()
    codebase = django_filters.CharFilter(field_name="session__codebase")
    persona = django_filters.CharFilter()
    status = KnownChoiceFilter(choices=PromptStatus.choices)
    severity = KnownChoiceFilter(choices=Severity.choices)

    class Meta:
        model = CopilotPrompt
        fields: ClassVar[list[Any]] = []


class CopilotPromptViewSet(ReadViewSet):
    """Prompts that reviews have written."""

    http_method_names = ["get", "patch", "head"]
    queryset = CopilotPrompt.objects.select_related("session")
    filterset_class = CopilotPromptFilters
    search_fields = ("title", "name", "persona")
    ordering = ("-session", "id")
    ordering_fields = {
        **{name: name for name in ("id", "persona", "status", "created_at", "updated_at")},
        "severity": rank("severity", Severity.values),
    }
    conflicts = ("partial_update",)

    def get_serializer_class(self) -> type[serializers.Serializer]:
        return CopilotPromptSerializer if self.action == "list" else PromptWithTextSerializer

    def get_queryset(self) -> models.QuerySet:
        queryset = super().get_queryset()
        return queryset.defer("body") if self.action == "list" else queryset

    @extend_schema(request=PromptStatusSerializer, responses=PromptWithTextSerializer)
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Say where the prompt stands: draft, ready, exported, used or dismissed. 409 if it cannot get there."""
        prompt = self.get_object()
        require(request.user, CHANGE, prompt)
        body = PromptStatusSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        change_status(prompt, body.validated_data["status"], request.user)
        return self.answer(self.get_object())

    @extend_schema(responses={(200, "text/markdown"): OpenApiTypes.STR})
    @action(detail=True, methods=["get"])
    def file(self, request: Request, pk: str) -> HttpResponse:
        """The text as a file, to be put into `.github/prompts` of a repository."""
        prompt = self.get_object()
        return HttpResponse(
            prompt.body,
            content_type="text/markdown; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{prompt.name}.prompt.md"'},
        )
