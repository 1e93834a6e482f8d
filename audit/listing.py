"""How is a list asked for? Paging by `skip` and `limit` or by a cursor, strict filters, search and order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import django_filters
from django import forms
from django.db import models
from django.db.models import Case, IntegerField, Q, Value, When
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.problems import Entry, invalid

DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000
COUNT_CAP = 10_000  # rows that are counted exactly, and skipped
MAX_KEY = 2**63 - 1
MAX_SEARCH = 200  # characters
FLAGS = {"true": True, "false": False}


def check_parameters(request: Request, known: Iterable[str]) -> None:
    """Refuse query parameters that mean nothing here: a misspelt filter must not answer with everything."""
    known = sorted(set(known))
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        hint = f"Known here: {', '.join(known)}." if known else "None is known here."
        raise invalid(*(Entry(f"/{name}", f"There is no parameter {name!r}. {hint}", "unknown") for name in unknown))


def read_flag(request: Request, name: str) -> bool | None:
    """The query parameter `name` as true or false; None if it is absent."""
    value = request.query_params.get(name)
    if value is None:
        return None
    if value.lower() not in FLAGS:
        raise invalid(Entry(f"/{name}", "This must be true or false.", "invalid"))
    return FLAGS[value.lower()]


def read_number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """The query parameter `name` as a number from `low` to `high`."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,19}", value, re.ASCII) or not low <= int(value) <= high:
        raise invalid(Entry(f"/{name}", f"This must be a whole number from {low} to {high:,}.", "invalid"))
    return int(value)


class SkipLimitPagination(BasePagination):
    """`skip` and `limit` near the beginning; a cursor, whose cost does not grow, for everything."""

    cursor = "after"
    cursor_order = "pk"
    cursor_lookup = "pk__gt"
    cursor_help = "Only objects with a greater id, in the order of ids: give the last one you have (0 to begin)."
    cursor_first = False  # whether the order of the cursor is that of the list, so that `next` may use it at once

    @property
    def parameters(self) -> tuple[str, ...]:
        """The query parameters that belong to paging."""
        return ("skip", "limit", self.cursor)

    def paginate_queryset(self, queryset: models.QuerySet, request: Request, view: APIView) -> list[models.Model]:
        self.request = request
        self.limit = read_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        self.skip = self._read_skip(request)
        self.by_cursor = self.cursor in request.query_params or (
            self.cursor_first and not {"skip", "ordering"} & set(request.query_params)
        )
        counted = queryset.order_by().values("pk")[: COUNT_CAP + 1].count()
        self.count, self.capped = min(counted, COUNT_CAP), counted > COUNT_CAP
        if self.by_cursor:
            queryset = self._seek(queryset, request)
        rows = list(queryset[self.skip : self.skip + self.limit + 1])
        self.more, self.rows = len(rows) > self.limit, rows[: self.limit]
        return self.rows

    def _read_skip(self, request: Request) -> int:
        value = request.query_params.get("skip", "0")
        if re.fullmatch(r"[0-9]+", value, re.ASCII) and (len(value) > 9 or int(value) > COUNT_CAP):
            raise invalid(
                Entry("/skip", f"At most {COUNT_CAP:,} can be skipped. Go on with ?{self.cursor}=…: {self.cursor_help}")
            )
        return read_number(request, "skip", 0, 0, COUNT_CAP)

    def _seek(self, queryset: models.QuerySet, request: Request) -> models.QuerySet:
        others = [name for name in ("skip", "ordering") if name in request.query_params]
        if others:
            raise invalid(
                *(Entry(f"/{name}", f"This cannot be combined with {self.cursor}.", "conflict") for name in others)
            )
        if self.cursor in request.query_params:
            seen = read_number(request, self.cursor, 0, 0, MAX_KEY)
            queryset = queryset.filter(**{self.cursor_lookup: seen})
        return queryset.order_by(self.cursor_order)

    def get_paginated_response(self, data: list[Any]) -> Response:
        return Response(
            {
                "count": self.count,
                "count_capped": self.capped,
                "next": self._find_next(),
                "previous": self._link(skip=max(0, self.skip - self.limit)) if self.skip else None,
                "results": data,
            }
        )

    def _find_next(self) -> str | None:
        if not self.more:
            return None
        if self.by_cursor:
            return self._link(**{self.cursor: self.rows[-1].pk})
        following = self.skip + self.limit
        # Beyond, only the cursor leads on, and it has an order of its own.
        return self._link(skip=following) if following <= COUNT_CAP else None

    def _link(self, **changed: int) -> str:
        query = {**self.request.query_params.dict(), "limit": self.limit, **changed}
        return self.request.build_absolute_uri(f"{self.request.path}?{urlencode(query)}")

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["count", "count_capped", "next", "previous", "results"],
            "properties": {
                "count": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": COUNT_CAP,
                    "description": f"Exact up to {COUNT_CAP:,}.",
                },
                "count_capped": {"type": "boolean", "description": "Whether there are more than were counted."},
                "next": {**link, "description": "Null at the end, and where only the cursor leads on."},
                "previous": link,
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        number = {"type": "integer", "minimum": 0}
        return [
            _parameter("skip", {**number, "maximum": COUNT_CAP, "default": 0}, "How many to leave out."),
            _parameter(
                "limit", {**number, "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}, "How many at most."
            ),
            _parameter(self.cursor, {**number, "maximum": MAX_KEY}, self.cursor_help),
        ]


class JournalPagination(SkipLimitPagination):
    """The journal is read backwards from its newest row."""

    cursor = "before"
    cursor_order = "-pk"
    cursor_lookup = "pk__lt"
    cursor_help = "Only older changes: give the revision of the last one you have."
    cursor_first = True


def _parameter(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": dict(schema)}


class StrictFilterBackend(DjangoFilterBackend):
    """Filters of the view's filterset; an unknown parameter or value is a 400 that names it."""

    def filter_queryset(self, request: Request, queryset: models.QuerySet, view: Any) -> models.QuerySet:
        filterset = self.get_filterset_class(view, queryset)
        names = list(filterset.base_filters) if filterset else []
        check_parameters(request, [*names, *view.list_parameters()])
        return super().filter_queryset(request, queryset, view)


class SearchBackend(BaseFilterBackend):
    """`?search=two words`: objects in which each word stands somewhere in the view's `search_fields`."""

    def filter_queryset(self, request: Request, queryset: models.QuerySet, view: Any) -> models.QuerySet:
        text = request.query_params.get("search", "")
        if "\x00" in text or len(text) > MAX_SEARCH:
            raise invalid(Entry("/search", f"A search has {MAX_SEARCH} characters at most, and no NUL."))
        for word in text.split():
            condition = Q()
            for field in view.search_fields:
                condition |= Q(**{f"{field}__icontains": word})
            queryset = queryset.filter(condition)
        return queryset

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        if not getattr(view, "search_fields", ()):
            return []
        where = ", ".join(field.replace("__", " ") for field in view.search_fields)
        return [_parameter("search", {"type": "string", "maxLength": MAX_SEARCH}, f"Words to find in: {where}.")]


class OrderingBackend(BaseFilterBackend):
    """`?ordering=name,-severity` over the view's `ordering_fields`: name in the API → expression."""

    def filter_queryset(self, request: Request, queryset: models.QuerySet, view: Any) -> models.QuerySet:
        asked = request.query_params.get("ordering")
        if not asked:  # an empty parameter is an absent one, as with filters
            return queryset.order_by(*view.ordering, "pk")
        wanted = [name.strip() for name in asked.split(",")]
        unknown = [name for name in wanted if name.removeprefix("-") not in view.ordering_fields]
        if unknown or len(wanted) > len(view.ordering_fields):
            known = ", ".join(view.ordering_fields)
            raise invalid(Entry("/ordering", f"Order by these, a minus reverses: {known}.", "invalid_choice"))
        order = []
        for name in wanted:
            expression = view.ordering_fields[name.removeprefix("-")]
            if isinstance(expression, str):
                expression = models.F(expression)
            order.append(expression.desc() if name.startswith("-") else expression.asc())
        return queryset.order_by(*order, "pk")

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        fields = getattr(view, "ordering_fields", None)
        if not fields:
            return []
        one = f"-?({'|'.join(fields)})"
        schema = {"type": "string", "pattern": f"^({one}(,{one})*)?$"}
        return [_parameter("ordering", schema, f"Comma-separated, a minus reverses: {', '.join(fields)}.")]


def rank(field: str, values: Iterable[str]) -> Case:
    """Order by the place of a value in `values`, for choices that have an order of their own."""
    cases = [When(**{field: value}, then=Value(number)) for number, value in enumerate(values)]
    return Case(*cases, default=Value(-1), output_field=IntegerField())


def refuse_choice(choices: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What a filter says of a value that is not one of `choices`."""
    return {"invalid_choice": f"This is not known. Known: {', '.join(value for value, _ in choices)}."}


class KnownChoiceFilter(django_filters.ChoiceFilter):
    """One of some values; the refusal says which they are."""

    def __init__(self, *, choices: Iterable[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(choices=choices, error_messages=refuse_choice(choices), **kwargs)


@extend_schema_field(OpenApiTypes.BOOL)
class FlagFilter(django_filters.TypedChoiceFilter):
    """True or false, and nothing else: the usual boolean filter ignores what it does not know."""

    def __init__(self, **kwargs: Any) -> None:
        choices = [(name, name) for name in FLAGS]
        super().__init__(choices=choices, coerce=FLAGS.__getitem__, error_messages=refuse_choice(choices), **kwargs)


class MomentField(django_filters.fields.IsoDateTimeField):
    """A moment that both databases can compare."""

    # A plus sign in a query string means a space, so `…T10:00:00+02:00` often arrives without it.
    LOST_PLUS = re.compile(r"(T[\d:.,]{1,20}) (\d\d:?\d\d)$")

    def clean(self, value: Any) -> datetime | None:
        if isinstance(value, str):
            value = self.LOST_PLUS.sub(r"\1+\2", value)
        try:
            moment = super().clean(value)
            if moment is not None and not 1900 <= moment.astimezone(UTC).year <= 9000:
                raise OverflowError
        except (OverflowError, ValueError) as error:
            raise forms.ValidationError("The moment lies outside of what can be stored.") from error
        return moment


class MomentFilter(django_filters.IsoDateTimeFilter):
    """A moment in ISO 8601."""

    field_class = MomentField
