"""Is the server alive, can it serve, and how does it do? For load balancers, people on call, and Prometheus."""

from __future__ import annotations

import hmac
import logging
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.journal import current_revision
from audit.metrics import relay_revision, render
from audit.models import ConfigurationAuditLog
from audit.permissions import VIEW, may
from audit.problems import Problem
from audit.readiness import find_degraded, register_state
from audit.viewsets import ApiMixin
from governance_config.rest import BearerAuthentication
from governance_config.stored_figures import StoredFigures

logger = logging.getLogger(__name__)
FAR_BEHIND = 100  # revisions; fewer are caught up within a moment
PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


class LivenessSerializer(serializers.Serializer):
    """The process answers."""

    status = serializers.ChoiceField(choices=["ok"])


class DegradedSerializer(serializers.Serializer):
    """A part that is not as it should be."""

    name = serializers.CharField()
    detail = serializers.CharField()


class ReadinessSerializer(serializers.Serializer):
    """The server can serve."""

    status = serializers.ChoiceField(
        choices=["ready", "degraded"],
        help_text="Degraded: it serves, and `degraded` says what is worse than it should be.",
    )
    revision = serializers.IntegerField(help_text="The last revision of the configuration.")
    degraded = DegradedSerializer(many=True)


class PublicView(ApiMixin, APIView):
    """A view that asks nobody who he is."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()  # a probe must not be told to wait


class LivenessView(PublicView):
    """Whether the process lives."""

    @extend_schema(responses=LivenessSerializer, operation_id="healthz", tags=["health"])
    def get(self, request: Request) -> Response:
        """The process lives. Says nothing of the database, so that a restart is not tried in vain."""
        return Response({"status": "ok"})


class ReadinessView(PublicView):
    """Whether requests can be served."""

    @extend_schema(responses=ReadinessSerializer, operation_id="readyz", tags=["health"])
    def get(self, request: Request) -> Response:
        """The database answers and has all migrations; 503 otherwise.

        What is merely worse than it should be (Redis not reachable, changes seen late) is named and answered with 200.
        """
        try:
            missing = last_migrations() - set(MigrationRecorder(connection).applied_migrations())
            if missing:
                raise not_ready("The database lacks migrations: run `manage.py migrate`.")
            revision, degraded = current_revision(), find_degraded()
        except (DatabaseError, InterfaceError) as error:
            raise not_ready("The database does not answer.") from error
        status = "degraded" if degraded else "ready"
        return Response({"status": status, "revision": revision, "degraded": degraded})


class MetricsReader:
    """Whoever has the token of GOVERNANCE_METRICS_TOKEN: reads the figures and nothing else."""

    pk = "metrics"  # his requests are counted as nobody else's
    is_authenticated = True
    is_active = True

    def get_username(self) -> str:
        return "metrics"


class MetricsAuthentication(BaseAuthentication):
    """The token that only opens the figures; any other token is left to the next authentication."""

    def authenticate(self, request: Request) -> tuple[MetricsReader, None] | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        expected = settings.METRICS_TOKEN
        if not expected or kind.lower() != "bearer" or not hmac.compare_digest(token.encode(), expected.encode()):
            return None
        return MetricsReader(), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class MetricsScheme(OpenApiAuthenticationExtension):
    """The token of the figures in the API's description."""

    target_class = MetricsAuthentication
    name = "metrics"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "The token in GOVERNANCE_METRICS_TOKEN."}


class MetricsView(ApiMixin, APIView):
    """The figures of this server, for Prometheus."""

    authentication_classes = (MetricsAuthentication, BearerAuthentication)
    permission_classes = (IsAuthenticated,)

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR}, operation_id="metrics", tags=["metrics"])
    def get(self, request: Request) -> HttpResponse:
        """Figures in Prometheus's text format: of all processes of this server, and what the database holds.

        Opened by the token in `GOVERNANCE_METRICS_TOKEN`, or by the token of somebody who may read the journal.
        """
        if not isinstance(request.user, MetricsReader) and not may(request.user, VIEW, ConfigurationAuditLog):
            raise Problem("forbidden", "The figures are for those who may read the journal.")
        try:
            body = render(StoredFigures(timezone.now()))
        except (DatabaseError, InterfaceError) as error:
            raise not_ready("The database does not answer.") from error
        return HttpResponse(body, content_type=PROMETHEUS)


@lru_cache(maxsize=1)
def last_migrations() -> frozenset[tuple[str, str]]:
    """The last migration of each app, as the code has it."""
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).graph.leaf_nodes())


def not_ready(detail: str) -> Problem:
    """A 503 that says why."""
    return Problem("unavailable", detail, headers={"Retry-After": "5"})


def judge_redis() -> str:
    """What Redis being away costs; empty if it answers or is not used."""
    if not settings.REDIS_URL:
        return ""
    try:
        cache.get("readyz")
    except Exception as error:
        logger.warning("Redis does not answer: %s", type(error).__name__)
        return "Redis does not answer: each process builds the configuration for itself, and limits count by process."
    return ""


def judge_lag() -> str:
    """How far this process is behind the journal; empty if it keeps up or reads no stream."""
    seen = relay_revision()
    behind = 0 if seen is None else current_revision() - seen
    return f"This process has yet to pass on {behind} changes to its subscribers." if behind > FAR_BEHIND else ""


register_state("redis", judge_redis)
register_state("stream", judge_lag)
