"""How is a governed object read and written over HTTP? The manners that all routes share.

Reading asks `permitted`, writing asks `may`. A write validates before the lock, because that may be costly, then opens
the change set, loads the object again, compares `If-Match`, and saves what was asked for and nothing else.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.db import models
from django.http import Http404, HttpResponse
from django.utils.cache import patch_vary_headers
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from audit.changes import ChangeSet, change_set, clean_break_glass, clean_reason
from audit.documents import canonical, plain
from audit.governed import GovernedModel
from audit.listing import OrderingBackend, SearchBackend, StrictFilterBackend, check_parameters, read_flag
from audit.permissions import (
    ADD,
    CHANGE,
    DELETE,
    VIEW,
    has_grants,
    may,
    may_see_some,
    object_permissions,
    permitted,
    require,
)
from audit.problems import Entry, Problem, invalid
from audit.serializers import ReasonSerializer

TAG = re.compile(r'(?:W/)?"[^"]*"')
TAGS = re.compile(rf"{TAG.pattern}(?:\s*,\s*{TAG.pattern})*")
METHODS = ["get", "post", "put", "patch", "delete", "head"]


def tag(version: int) -> str:
    """The strong entity tag of an object at a version."""
    return f'"{version}"'


def read_tags(header: str) -> list[str]:
    """The entity tags of `If-Match` or `If-None-Match`, ``["*"]`` for any; nothing if it is malformed."""
    header = header.strip()
    if header == "*":
        return ["*"]
    return TAG.findall(header) if TAGS.fullmatch(header) else []


def check_precondition(request: Request, version: int | None) -> None:
    """Refuse with 412 and the present tag unless `If-Match` is absent or names it; comparison is strong (RFC 9110).

    `version` is None for an object that does not exist: then nothing matches.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return
    tags = read_tags(header)
    if not tags:
        raise Problem("malformed", 'If-Match must be "*" or a list of quoted tags such as "12".')
    if version is None:
        raise Problem("stale", "You sent If-Match, but there is no such object yet.")
    if tags != ["*"] and tag(version) not in tags:
        raise Problem(
            "stale",
            f"You sent If-Match: {', '.join(tags)[:200]}; the object is at version {version} now. "
            "Load it again and repeat your change.",
            headers={"ETag": tag(version)},
        )


class ApiMixin:
    """What every route does: known parameters only, no caching by others, bodies of unknown length."""

    http_method_names = METHODS
    query_parameters: ClassVar[Mapping[str, Iterable[str]]] = {}  # method → names, for routes that are no lists
    rate_scope: str | None = None  # how it is counted: read, write, bulk or auth; None: read or write, by its method

    def find_rate_scope(self, request: Request) -> str:
        """Which of the rates this request counts for."""
        return self.rate_scope or ("read" if request.method in SAFE_METHODS else "write")

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        # The framework takes a body without a declared length for none, and would change nothing without a word.
        if "CONTENT_LENGTH" not in request.META and request.headers.get("Transfer-Encoding"):
            request.META["CONTENT_LENGTH"] = str(len(request.body))
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # A method that does not exist is a 405, whatever its parameters are; a list checks them with its filters.
        method = request.method.lower()
        if method in self.http_method_names and hasattr(self, method) and not getattr(self, "filters_list", False):
            check_parameters(request, self.query_parameters.get(method, ()))

    def finalize_response(self, request: Request, response: HttpResponse, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.setdefault("Cache-Control", "private, no-cache")
        patch_vary_headers(response, ["Authorization", "Cookie"])
        return response


class ReadViewSet(ApiMixin, GenericViewSet):
    """List and detail of what the caller may see."""

    filter_backends = [StrictFilterBackend, SearchBackend, OrderingBackend]
    search_fields: ClassVar[tuple[str, ...]] = ()
    ordering: ClassVar[tuple[Any, ...]] = ()
    ordering_fields: ClassVar[Mapping[str, Any]] = {}
    object_actions: ClassVar[tuple[str, ...]] = ()  # offered by ?permissions=true
    lookup_value_regex = "[0-9]{1,18}"

    @property
    def model(self) -> type[models.Model]:
        """The model behind this route."""
        return self.queryset.model

    @property
    def filters_list(self) -> bool:
        """Whether this request lists, so that its parameters are filters."""
        return self.action == "list"

    @property
    def query_parameters(self) -> Mapping[str, Iterable[str]]:
        """Parameters of the routes of one object."""
        return {"get": self.permission_parameters(), "head": self.permission_parameters(), "delete": ["change_reason"]}

    def permission_parameters(self) -> list[str]:
        """`permissions`, where rights on single objects are told."""
        return ["permissions"] if self.object_actions else []

    def list_parameters(self) -> list[str]:
        """Query parameters of the list beside the filters."""
        names = [*self.paginator.parameters, *self.permission_parameters()]
        names += ["search"] if self.search_fields else []
        return names + (["ordering"] if self.ordering_fields else [])

    def readable(self) -> models.QuerySet:
        """The objects that the caller may see."""
        return permitted(self.request.user, VIEW, self.get_queryset())

    def require_reading(self) -> None:
        """Where rights are for all objects alike, whoever lacks them is told so: there is no secret to keep."""
        if not has_grants(self.model):
            require(self.request.user, VIEW, self.model)

    def get_object(self) -> Any:
        self.require_reading()
        item = get_object_or_404(self.readable(), **{self.lookup_field: self.kwargs[self.lookup_url_kwarg or "pk"]})
        self.check_object_permissions(self.request, item)
        return item

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What you may see of it, page by page. An unknown parameter or value is refused; an empty one is ignored."""
        if not may_see_some(request.user, VIEW, self.model):
            require(request.user, VIEW, self.model)
        page = self.paginate_queryset(self.filter_queryset(self.readable()))
        return self.get_paginated_response(self.show(page, many=True))

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One of them."""
        return self.answer(self.get_object())

    def show(self, shown: Any, *, many: bool = False, warnings: Iterable[str] = ()) -> Any:
        """The representation of an object or of a page of them."""
        context = self.get_serializer_context()
        if self.object_actions and read_flag(self.request, "permissions"):
            objects = list(shown) if many else [shown]
            context["permissions"] = object_permissions(self.request.user, objects, self.object_actions)
        context["warnings"] = list(warnings)
        return self.get_serializer_class()(shown, many=many, context=context).data

    def answer(self, item: Any, *, status: int = 200, changes: ChangeSet | None = None) -> Response:
        """One object with its tag; after a change also the revision that the change reached."""
        body = self.show(item, warnings=changes.warnings if changes is not None else ())
        headers = {}
        if isinstance(item, GovernedModel):
            headers["ETag"] = tag(item.version)
            if changes is not None:
                headers["X-Revision"] = str(changes.revision if changes.changes else item.version)
        return Response(body, status=status, headers=headers)


class WriteViewSet(ReadViewSet):
    """What every change has in common; the mixins below add the methods."""

    extras: ClassVar[tuple[str, ...]] = ()  # writable fields that are no fields of the model

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Said in any way, a reason that cannot be kept is a mistake, also where another one wins or nothing changes.
        for reason in (request._request.origin.reason, request.query_params.get("change_reason", "")):
            clean_reason(reason)
        clean_break_glass(request._request.origin)

    def read_body(
        self, request: Request, *, partial: bool, instance: Any = None
    ) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """The reason, the model's fields and the other fields of a valid body."""
        serializer = self.get_serializer(instance, data=request.data, partial=partial)
        serializer.is_valid(raise_exception=True)
        values = dict(serializer.validated_data)
        reason = values.pop("change_reason", "")
        extras = {name: values.pop(name) for name in self.extras if name in values}
        return reason, values, extras

    def require_some(self, item: GovernedModel) -> None:
        """Whoever may not change anything of `item` is told so before his body is judged."""
        fields = [field.name for field in self.model._meta.concrete_fields]
        actions = dict.fromkeys([CHANGE, *(self.model.action_for(item, [name]) for name in fields)])
        if not any(may(self.request.user, action, item) for action in actions):
            require(self.request.user, CHANGE, item)

    def require_changes(self, item: GovernedModel, values: Mapping[str, Any]) -> None:
        """Ask for the right to each field that would differ; field by field, so that none comes along with another."""
        differing = [name for name, value in values.items() if differs(item, name, value)]
        for action in dict.fromkeys(self.model.action_for(item, [name]) for name in differing):
            require(self.request.user, action, item)

    def check_extras(self, item: Any, extras: Mapping[str, Any]) -> None:
        """Ask for the rights and validate what `store_extras` will do; `item` is None when it is created."""

    def store_extras(self, item: Any, extras: Mapping[str, Any]) -> None:
        """Store the fields that are no fields of the model. In the change set, after the object."""

    def reload(self, seen: Any) -> Any:
        """The object as it is now, under the lock."""
        item = self.model._base_manager.filter(pk=seen.pk).first()
        if item is None:
            raise Http404
        return item

    def reread(self, item: Any) -> Any:
        """The object as it was stored, with what the answer needs; if it is already gone again, as it was written."""
        return self.get_queryset().filter(pk=item.pk).first() or item


class CreateMixin:
    """`POST` of a list."""

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create one. `X-Revision` tells the last revision of all that this brought about."""
        require(request.user, ADD, self.model)
        reason, values, extras = self.read_body(request, partial=False)
        self.model(**values).full_clean(validate_constraints=False)
        self.check_extras(None, extras)
        with change_set(reason=reason) as changes:
            item = self.model(**values)
            item.save()
            self.store_extras(item, extras)
        response = self.answer(self.reread(item), status=201, changes=changes)
        response["Location"] = f"{request.path}/{getattr(item, self.lookup_field)}"
        return response


class UpdateMixin:
    """`PUT` and `PATCH` of one object, alike: the fields that are sent are changed, the others stay."""

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change the fields that are sent, and no other: PUT and PATCH alike.

        What was read can be sent back: fields that only read are ignored. A change that changes nothing is answered
        with 200 and leaves no revision.
        """
        seen = self.get_object()
        self.require_some(seen)
        reason, values, extras = self.read_body(request, partial=True, instance=seen)
        self.require_changes(seen, values)
        check_precondition(request, seen.version)
        apply(copy.copy(seen), values).full_clean(validate_constraints=False)
        self.check_extras(seen, extras)
        with change_set(reason=reason) as changes:
            item = self.reload(seen)
            check_precondition(request, item.version)
            self.require_changes(item, values)
            apply(item, values).save()
            self.store_extras(item, extras)
        return self.answer(self.reread(item), changes=changes)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change the fields that are sent, and no other: PUT and PATCH alike."""
        return self.update(request, *args, **kwargs)


class DestroyMixin:
    """`DELETE` of one object."""

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete it; its history stays. 409 names what still depends on it. 200 instead of 204 brings warnings."""
        seen = self.get_object()
        require(request.user, DELETE, seen)
        reason = self.read_reason(request)
        check_precondition(request, seen.version)
        with change_set(reason=reason) as changes:
            item = self.reload(seen)
            check_precondition(request, item.version)
            self.remove(item)
        headers = {"X-Revision": str(changes.revision)}
        if changes.warnings:
            return Response({"warnings": changes.warnings}, headers=headers)
        return Response(status=204, headers=headers)

    def read_reason(self, request: Request) -> str:
        """The reason of a deletion: in the body or in the query, else in the header that the origin has read."""
        if isinstance(request.data, Mapping) and request.data:
            serializer = ReasonSerializer(data=request.data)
            serializer.is_valid(raise_exception=True)
            return serializer.validated_data.get("change_reason", "")
        return request.query_params.get("change_reason", "")

    def remove(self, item: Any) -> None:
        """Delete `item`. In the change set."""
        item.delete()


class GovernedViewSet(CreateMixin, UpdateMixin, DestroyMixin, WriteViewSet):
    """Create, change and delete one governed object at a time, under the rules of the kernel."""


def apply(item: Any, values: Mapping[str, Any]) -> Any:
    """Set the fields `values` of `item`; return it."""
    for name, value in values.items():
        setattr(item, name, value)
    return item


def differs(item: GovernedModel, name: str, value: Any) -> bool:
    """Whether `value` is another one than `item` has."""
    return canonical(plain(getattr(item, name))) != canonical(plain(value))


def refuse_entry(pointer: str, detail: str, code: str = "invalid") -> Problem:
    """A 400 about one place of the body."""
    return invalid(Entry(pointer, detail, code))
