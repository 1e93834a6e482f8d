"""How are webhooks set up, tried and watched over HTTP?"""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from audit.changes import current_origin
from audit.encryption import SHOWN, is_shown
from audit.listing import FlagFilter
from audit.permissions import CHANGE, require
from audit.serializers import GovernedSerializer, StrictCharField
from audit.viewsets import GovernedViewSet
from overrides.models import Webhook, WebhookDelivery
from overrides.webhook_models import MAX_SECRET, MIN_SECRET
from overrides.webhooks import send_test

SHOWN_DELIVERIES = 100


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "minLength": MIN_SECRET, "maxLength": MAX_SECRET, "writeOnly": True},
            {"type": "object", "properties": {"set": {"type": "boolean", "enum": [True]}}, "required": ["set"]},
        ]
    }
)
class SecretField(serializers.Field):
    """A text that is never shown again: `{"set": true}` stands for it, and sent back so it stays."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) and not is_shown(data):
            raise serializers.ValidationError('This must be text, or {"set": true} to leave it as it is.')
        return data

    def to_representation(self, value: Any) -> dict[str, bool]:
        return dict(SHOWN)


class WebhookSerializer(GovernedSerializer):
    """A server that is told of changes by signed requests."""

    id = serializers.IntegerField(read_only=True)
    secret = SecretField(required=True, help_text="What requests are signed with; write-only.")
    filter_types = serializers.ListField(child=StrictCharField(), required=False, help_text="Empty: any.")
    entity_types = serializers.ListField(child=StrictCharField(), required=False, help_text="Empty: any.")

    class Meta:
        model = Webhook
        fields = (
            *("id", "name", "url", "secret", "filter_types", "entity_types", "enabled"),
            *GovernedSerializer.bookkeeping,
            *GovernedSerializer.extra,
        )
        read_only_fields = GovernedSerializer.bookkeeping


class DeliverySerializer(serializers.ModelSerializer):
    """What became of one change on its way to a webhook."""

    class Meta:
        model = WebhookDelivery
        fields = (
            *("id", "revision", "change_type", "status", "attempts", "response_code", "duration_ms", "error"),
            *("created_at", "attempted_at", "next_attempt_at"),
        )
        read_only_fields = fields


class DeliveriesSerializer(serializers.Serializer):
    """The newest deliveries."""

    results = DeliverySerializer(many=True)


class WebhookFilters(django_filters.FilterSet):
    """What a list of webhooks can be limited to."""

    enabled = FlagFilter()

    class Meta:
        model = Webhook
        fields: ClassVar[list[str]] = []


class WebhookViewSet(GovernedViewSet):
    """Webhooks: who is told of changes."""

    queryset = Webhook.objects.all()
    serializer_class = WebhookSerializer
    filterset_class = WebhookFilters
    search_fields = ("name", "url")
    ordering = ("name",)
    ordering_fields = {name: name for name in ("id", "name", "enabled", "created_at", "updated_at")}
    lookup_field = lookup_url_kwarg = "name"
    lookup_value_regex = "[a-z0-9][a-z0-9_-]{0,49}"

    @extend_schema(request=None, responses=DeliveriesSerializer)
    @action(detail=True, methods=["get"])
    def deliveries(self, request: Request, name: str) -> Response:
        """The newest 100 deliveries, newest first: what was sent, what was answered, and what is tried again when."""
        newest = self.get_object().deliveries.all()[:SHOWN_DELIVERIES]
        return Response({"results": DeliverySerializer(newest, many=True).data})

    @extend_schema(request=None, responses=DeliverySerializer)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, name: str) -> Response:
        """Send a test event now, and tell what became of it. It is no change, and no other delivery waits for it."""
        webhook = self.get_object()
        require(request.user, CHANGE, webhook)
        return Response(DeliverySerializer(send_test(webhook, by=current_origin().actor()[1])).data)
