"""Is the server alive, and can it serve? For load balancers and people on call: public, so without detail."""

from __future__ import annotations

from functools import lru_cache

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.journal import current_revision
from audit.problems import Problem
from audit.viewsets import ApiMixin


class LivenessSerializer(serializers.Serializer):
    """The process answers."""

    status = serializers.ChoiceField(choices=["ok"])


class ReadinessSerializer(serializers.Serializer):
    """The server can serve."""

    status = serializers.ChoiceField(choices=["ready"])
    revision = serializers.IntegerField(help_text="The last revision of the configuration.")


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
        """The database answers and has all migrations; 503 otherwise."""
        try:
            missing = last_migrations() - set(MigrationRecorder(connection).applied_migrations())
            if missing:
                raise not_ready("The database lacks migrations: run `manage.py migrate`.")
            return Response({"status": "ready", "revision": current_revision()})
        except (DatabaseError, InterfaceError) as error:
            raise not_ready("The database does not answer.") from error


@lru_cache(maxsize=1)
def last_migrations() -> frozenset[tuple[str, str]]:
    """The last migration of each app, as the code has it."""
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).graph.leaf_nodes())


def not_ready(detail: str) -> Problem:
    """A 503 that says why."""
    return Problem("unavailable", detail, headers={"Retry-After": "5"})
