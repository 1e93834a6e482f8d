"""How are rights on single objects listed, given and taken away over HTTP? One right of one holder on one object each.

Whoever manages accounts may, as far as he has the right himself. The rest is `audit.permissions.grant` and `revoke`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import models
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from audit.changes import change_set, clean_reason
from audit.governed import GovernedModel, governed_models
from audit.listing import COUNT_CAP, SkipLimitPagination, check_parameters, read_number
from audit.permissions import (
    VIEW,
    grant,
    grant_tables,
    list_grantable,
    may,
    permitted,
    require,
    require_holding,
    revoke,
)
from audit.problems import Entry, Problem, invalid
from audit.serializers import StrictCharField, StrictSerializer, reason_field
from audit.viewsets import ApiMixin
from governance_config.accounts import CHANGE_ACCOUNTS, VIEW_ACCOUNTS

User = get_user_model()
FILTERS = ("entity_type", "entity_id", "user", "role", "permission")


def find_kinds() -> dict[str, type[GovernedModel]]:
    """The kinds of objects on which single rights can be given, by their name in the API."""
    return {model.entity_type: model for model in governed_models() if list_grantable(model)}


class KeyField(StrictCharField):
    """What identifies an object in its route: a name or a number."""

    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(str(data) if isinstance(data, int) and not isinstance(data, bool) else data)


class GrantSerializer(serializers.Serializer):
    """One right of one holder on one object. One of `user` and `role` is null."""

    entity_type = serializers.CharField()
    entity_id = serializers.CharField()
    entity_name = serializers.CharField()
    user = serializers.CharField(allow_null=True)
    role = serializers.CharField(allow_null=True)
    permission = serializers.CharField(help_text="Such as change.")


class GrantWishSerializer(StrictSerializer):
    """A right to give or to take away: to one of `user` and `role`."""

    entity_type = StrictCharField(max_length=100, help_text="Such as analysis_rule.")
    entity_id = KeyField(max_length=100, help_text="The `id` of the object; its name where that is in its route.")
    user = StrictCharField(required=False, max_length=150, help_text="Name of an account.")
    role = StrictCharField(required=False, max_length=150, help_text="Name of a role.")
    permission = StrictCharField(max_length=50, help_text="view, change, delete, or an action such as toggle.")
    change_reason = reason_field()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("user" in attrs) == ("role" in attrs):
            raise invalid(Entry("/user", "Give either a user or a role.", "required"))
        return attrs


@dataclass(frozen=True)
class Wish:
    """A right, its holder and its object, all of which there are."""

    action: str
    holder: models.Model
    target: GovernedModel

    @property
    def stored(self) -> models.QuerySet:
        """The row of this grant, if it is given."""
        users, roles = grant_tables(type(self.target))
        rows = (
            roles.objects.filter(group=self.holder)
            if isinstance(self.holder, Group)
            else users.objects.filter(user=self.holder)
        )
        return rows.filter(content_object=self.target, permission__codename=codename(self.action, type(self.target)))

    def document(self) -> dict[str, Any]:
        """As it is told."""
        is_role = isinstance(self.holder, Group)
        return {
            "entity_type": self.target.entity_type,
            "entity_id": self.target.entity_id,
            "entity_name": self.target.entity_name,
            "user": None if is_role else self.holder.get_username(),
            "role": self.holder.name if is_role else None,
            "permission": self.action,
        }


def codename(action: str, model: type[models.Model]) -> str:
    """Django's name of the right to do `action` on a `model`."""
    return f"{action}_{model._meta.model_name}"


class GrantPagination(SkipLimitPagination):
    """Pages over the tables of all kinds, one after the other; as many queries for many grants as for few."""

    parameters = ("skip", "limit")

    def paginate_tables(self, tables: Sequence[models.QuerySet], request: Request) -> list[Any]:
        """The rows of the page that was asked for."""
        self.request, self.by_cursor = request, False
        self.limit, self.skip = read_number(request, "limit", 100, 1, 1000), self._read_skip(request)
        rows: list[Any] = []
        before = 0
        for table in tables:
            size = table.order_by().count()
            first, last = max(0, self.skip - before), max(0, self.skip + self.limit + 1 - before)
            if first < size and last:
                rows += table[first:last]
            before += size
        self.count, self.capped = min(before, COUNT_CAP), before > COUNT_CAP
        self.more, self.rows = len(rows) > self.limit, rows[: self.limit]
        return self.rows

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        described = super().get_schema_operation_parameters(view)
        return [each for each in described if each["name"] in self.parameters]


def describe(*names: str) -> list[OpenApiParameter]:
    """Query parameters that are texts."""
    return [OpenApiParameter(name, str) for name in names]


class GrantViewSet(ApiMixin, GenericViewSet):
    """Rights on single objects."""

    http_method_names = ["get", "head", "post", "delete"]
    serializer_class = GrantSerializer
    pagination_class = GrantPagination
    filter_backends: ClassVar[list[Any]] = []
    nouns = ("grants", "one grant")
    conflicts = ("create", "destroy")
    filters_list = True  # each method checks its own parameters

    @extend_schema(parameters=describe(*FILTERS))
    def list(self, request: Request) -> Response:
        """Who holds which right on which single object; rights by role are told by `roles`."""
        require_holding(request.user, VIEW_ACCOUNTS)
        check_parameters(request, [*FILTERS, *self.paginator.parameters])
        asked = {name: request.query_params[name] for name in FILTERS if request.query_params.get(name)}
        rows = self.paginator.paginate_tables(self.select(asked, request.user), request)
        return self.paginator.get_paginated_response([show(row) for row in rows])

    @extend_schema(request=GrantWishSerializer, responses={201: GrantSerializer, 200: GrantSerializer})
    def create(self, request: Request) -> Response:
        """Give a right on one object to a user or a role. 200 if it was given already."""
        wish, reason = self.read(request, request.data)
        with change_set(reason=reason) as changes:
            given = wish.stored.exists()
            if not given:
                grant(action=wish.action, holder=wish.holder, target=wish.target)
        headers = {"X-Revision": str(changes.revision)}
        return Response(wish.document(), status=200 if given else 201, headers=headers)

    @extend_schema(
        request=None,
        responses={204: None},
        parameters=describe(*FILTERS, "change_reason"),
        operation_id="grants_destroy",
    )
    def destroy(self, request: Request) -> Response:
        """Take a right on one object away again: named in the query, or in a body as for giving it."""
        check_parameters(request, [*FILTERS, "change_reason"])
        named = request.data if request.data else {key: value for key, value in request.query_params.items() if value}
        wish, reason = self.read(request, named)
        with change_set(reason=reason) as changes:
            if not wish.stored.exists():
                raise Problem("not-found", "This right was not given.")
            revoke(action=wish.action, holder=wish.holder, target=wish.target)
        return Response(status=204, headers={"X-Revision": str(changes.revision)})

    def read(self, request: Request, named: Any) -> tuple[Wish, str]:
        """What is wished, and why. Asks for the rights to it."""
        require_holding(request.user, CHANGE_ACCOUNTS)
        body = GrantWishSerializer(data=named)
        body.is_valid(raise_exception=True)
        clean_reason(request._request.origin.reason)
        values = body.validated_data
        model = find_model(values["entity_type"])
        actions = list_grantable(model)
        if values["permission"] not in actions:
            raise invalid(Entry("/permission", f"Of a {values['entity_type']} there are: {', '.join(actions)}."))
        target = find_target(model, values["entity_id"])
        if target is None or not may(request.user, VIEW, target):
            text = f"There is no {model._meta.verbose_name} {values['entity_id']!r}."
            raise invalid(Entry("/entity_id", text, "does_not_exist"))
        # Nobody gives what he does not have.
        require(request.user, values["permission"], target)
        return Wish(values["permission"], find_holder(values), target), values.get("change_reason", "")

    def select(self, asked: Mapping[str, str], user: Any) -> list[models.QuerySet]:
        """The tables' rows that were asked for, on objects that `user` may see; kind by kind, users before roles."""
        kinds = find_kinds()
        if "entity_type" in asked:
            kinds = {asked["entity_type"]: find_model(asked["entity_type"])}
        holder = find_holder(asked) if {"user", "role"} & set(asked) else None
        tables = []
        for model in kinds.values():
            for table, field in zip(grant_tables(model), ("user", "group"), strict=True):
                if holder is not None and (field == "group") != isinstance(holder, Group):
                    continue
                rows = table.objects.select_related(field, "permission", "content_object")
                rows = rows if holder is None else rows.filter(**{field: holder})
                if not may(user, VIEW, model):
                    seen = permitted(user, VIEW, model._base_manager.all())
                    rows = rows.filter(content_object__in=seen.order_by().values("pk"))
                if "permission" in asked:
                    rows = rows.filter(permission__codename=codename(asked["permission"], model))
                if "entity_id" in asked:
                    target = find_target(model, asked["entity_id"])
                    rows = rows.none() if target is None else rows.filter(content_object=target)
                tables.append(rows.order_by("content_object", field, "permission"))
        return tables


def show(row: Any) -> dict[str, Any]:
    """A row of a table of grants, as it is told."""
    action = row.permission.codename.rpartition("_")[0]
    holder = row.user if hasattr(row, "user_id") else row.group
    return Wish(action, holder, row.content_object).document()


def find_model(name: str) -> type[GovernedModel]:
    """The kind of this name. Raises a problem that tells which there are."""
    kinds = find_kinds()
    if name not in kinds:
        raise invalid(Entry("/entity_type", f"Single rights are given on: {', '.join(kinds)}.", "invalid_choice"))
    return kinds[name]


def find_target(model: type[GovernedModel], key: str) -> GovernedModel | None:
    """The object with this key in the API, its number or its name, or None."""
    is_number = key.isdecimal() and key.isascii() and len(key) < 19
    rows = model._base_manager.filter(**{"pk" if is_number else model.natural_key_fields[0]: key})
    return next((row for row in rows[:2] if row.entity_id == key), None)


def find_holder(values: Mapping[str, Any]) -> models.Model:
    """The user or the role that `values` name."""
    name = "user" if "user" in values else "role"
    known = User.objects.filter(username=values[name]) if name == "user" else Group.objects.filter(name=values[name])
    holder = known.first()
    if holder is None:
        raise invalid(Entry(f"/{name}", f"There is no {name} {values[name]!r}.", "does_not_exist"))
    return holder


GRANTS = {"get": "list", "post": "create", "delete": "destroy"}
