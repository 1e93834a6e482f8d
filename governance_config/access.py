"""Who am I, what may I do, and how do I get a token?"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.signals import user_logged_in
from drf_spectacular.utils import extend_schema
from knox.models import AuthToken
from rest_framework import serializers
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.changes import change_set
from audit.governed import governed_models
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import holds, list_actions, may
from audit.problems import Problem
from audit.serializers import StrictCharField, StrictSerializer
from audit.viewsets import ApiMixin
from governance_config.roles import ROLES
from overrides.api import EXPORT_CONFIGURATION, IMPORT_CONFIGURATION, VIEW_CONFIGURATION
from reviews.models import ReviewSession

GRANTABLE = {name for names in ROLES.values() for name in names}  # the framework's own permissions serve nobody


class CredentialsSerializer(StrictSerializer):
    """Name and password."""

    username = StrictCharField(max_length=150)
    password = StrictCharField(max_length=1_000, style={"input_type": "password"})


class TokenSerializer(serializers.Serializer):
    """A token; it is shown once."""

    token = serializers.CharField()
    expiry = serializers.DateTimeField(allow_null=True)


class TokenView(ApiMixin, APIView):
    """Tokens for programs."""

    permission_classes = (AllowAny,)
    rate_scope = "auth"

    def get_authenticators(self) -> list[Any]:
        # An old token that is still sent along must not stand in the way of a new one.
        return [] if self.request is not None and self.request.method == "POST" else super().get_authenticators()

    def get_permissions(self) -> list[Any]:
        return [IsAuthenticated()] if self.request is not None and self.request.method == "DELETE" else [AllowAny()]

    def get_authenticate_header(self, request: Request) -> str:
        return "Bearer"

    @extend_schema(request=CredentialsSerializer, responses={201: TokenSerializer}, auth=[])
    def post(self, request: Request) -> Response:
        """Get a token for a name and a password."""
        body = CredentialsSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        # An unknown name costs as much time as a wrong password, and is told the same. Who is locked out gets None, and
        # a 429 in place of this answer (`lockout`).
        user = authenticate(request._request, **body.validated_data)
        if user is None:
            raise Problem("unauthenticated", "Name or password is wrong.", headers={"WWW-Authenticate": "Bearer"})
        request.user = user
        with change_set():
            stored, token = AuthToken.objects.create(user)
            user_logged_in.send(sender=type(user), request=request._request, user=user)
        return Response(
            TokenSerializer({"token": token, "expiry": stored.expiry}).data,
            status=201,
            headers={"Cache-Control": "no-store"},
        )

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Revoke the token that this request carries."""
        if not isinstance(request.auth, AuthToken):
            raise Problem("malformed", "This request carries no token: a session is ended by signing out.")
        with change_set() as changes:
            request.auth.delete()
        return Response(status=204, headers={"X-Revision": str(changes.revision)})


class MeSerializer(serializers.Serializer):
    """The caller and his rights."""

    username = serializers.CharField()
    is_superuser = serializers.BooleanField()
    roles = serializers.ListField(child=serializers.CharField())
    permissions = serializers.ListField(child=serializers.CharField(), help_text="Such as rules.change_analysisrule.")
    may = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Kind of object → what you may do with every one of it. Rights on single objects come with "
        "`?permissions=true` on lists and details.",
    )
    revision = serializers.IntegerField()


class MeView(ApiMixin, APIView):
    """The caller."""

    @extend_schema(responses=MeSerializer, operation_id="me")
    def get(self, request: Request) -> Response:
        """Who you are, and what you may do."""
        user = request.user
        return Response(
            {
                "username": user.get_username(),
                "is_superuser": user.is_superuser,
                "roles": sorted(user.groups.values_list("name", flat=True)),
                "permissions": sorted(user.get_all_permissions() & GRANTABLE),
                "may": list_rights(user),
                "revision": current_revision(),
            }
        )


def list_rights(user: Any) -> dict[str, list[str]]:
    """Kind of object → the actions that `user` may do on all of that kind."""
    kinds = {model.entity_type: model for model in governed_models()}
    kinds |= {"audit_trail": ConfigurationAuditLog, "review_session": ReviewSession}
    rights = {}
    for kind, model in kinds.items():
        rights[kind] = [action for action in list_actions(model) if may(user, action, model)]
    names = {"view": VIEW_CONFIGURATION, "export": EXPORT_CONFIGURATION, "import": IMPORT_CONFIGURATION}
    rights["configuration"] = [action for action, name in names.items() if holds(user, name)]
    return rights
