"""How does the API read requests and say what went wrong? Parser, negotiation, tokens, and problems for everything."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.csrf import csrf_failure as explain_csrf_failure
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from audit.documents import MAX_DEPTH, find_unstorable
from audit.problems import KINDS, MEDIA_TYPE, Problem, explain


class StrictJSONParser(BaseParser):
    """JSON as RFC 8259 has it: UTF-8, each name once, finite numbers; nothing that a database cannot keep."""

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise Problem("too-large", f"A body has {limit:,} bytes at most.")
        try:
            document = json.loads(
                body.decode("utf-8"),
                object_pairs_hook=_read_object,
                parse_constant=_refuse_constant,
                parse_float=_read_float,
            )
        except UnicodeDecodeError as error:
            raise Problem("malformed", f"The body is not UTF-8 (byte {error.start}).") from error
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            raise Problem("malformed", f"The body is not JSON: {error.msg} at {place}.") from error
        except RecursionError as error:
            raise Problem("malformed", f"The body is nested more than {MAX_DEPTH} levels deep.") from error
        except ValueError as error:
            raise Problem("malformed", f"The body is not JSON: {error}") from error
        if (reason := find_unstorable(document)) is not None:
            raise Problem("malformed", reason)
        return document


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"the name {twice[:100]!r} stands twice in one object.")
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON.")


def _read_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large.")
    return number


class JSONNegotiation(BaseContentNegotiation):
    """The API speaks JSON, whatever a client would rather have."""

    def select_parser(self, request: Request, parsers: list[Any]) -> Any:
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(self, request: Request, renderers: list[Any], format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class BearerAuthentication(TokenAuthentication):
    """knox tokens as ``Authorization: Bearer TOKEN``."""

    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isalnum() or not token.isascii():
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(token)


class BearerScheme(OpenApiAuthenticationExtension):
    """Bearer tokens in the API's description."""

    target_class = BearerAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A token of `POST /api/v1/auth/token`."}


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to an exception in a view of the API; None, and so a 500, if nobody expected it."""
    problem = explain(error)
    if problem is None:
        return None
    request = context["request"]
    return Response(
        problem.document(request.path), problem.status_code, headers=problem.headers, content_type=MEDIA_TYPE
    )


def respond(request: HttpRequest, problem: Problem) -> HttpResponse:
    """A problem as the answer of a plain view."""
    return JsonResponse(
        problem.document(request.path), status=problem.status_code, headers=problem.headers, content_type=MEDIA_TYPE
    )


def is_api(request: HttpRequest) -> bool:
    """Whether programs rather than people use this address."""
    return (
        request.path == "/api"
        or request.path.startswith("/api/")
        or request.path in ("/healthz", "/readyz", "/metrics")
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of 400."""
    if is_api(request):
        return respond(request, explain(exception) or Problem("malformed", "The request is not valid."))
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of 403."""
    if is_api(request):
        return respond(request, Problem("forbidden"))
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of 404."""
    if is_api(request):
        return respond(request, Problem("not-found", "There is no such route."))
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler of 500."""
    if is_api(request):
        reference = getattr(request, "id", "")
        return respond(request, Problem("internal", f"Something unexpected happened; request {reference}."))
    return defaults.server_error(request)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's view for a request whose CSRF token is missing or wrong."""
    if is_api(request):
        return respond(request, Problem("forbidden", "The CSRF token is missing or wrong."))
    return explain_csrf_failure(request, reason=reason)


def show_problem(request: HttpRequest, slug: str) -> HttpResponse:
    """What a type of problem means, at the address that is its type."""
    if slug not in KINDS:
        return page_not_found(request, KeyError(slug))
    kind = KINDS[slug]
    return HttpResponse(f"{kind.status} {kind.title}\n\n{kind.advice}\n", content_type="text/plain; charset=utf-8")
