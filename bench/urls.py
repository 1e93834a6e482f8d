"""What is the server compared with? Its own routes, and views beside them that do nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

STATEMENTS = "X-Bench-Statements"


class BareView(APIView):
    """What every route of the API costs before it does anything: middleware, token, rights of Django REST framework."""

    def get(self, request: Request) -> Response:
        """Nothing."""
        return Response({})


def answer(request: HttpRequest) -> HttpResponse:
    """A plain view of Django."""
    return JsonResponse({})


class StatementsMiddleware:
    """Tells, to those who ask for it, how many statements an answer took."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if STATEMENTS not in request.headers:
            return self.get_response(request)
        number = 0

        def count(execute: Any, sql: str, *rest: Any) -> Any:
            nonlocal number
            number += "SAVEPOINT" not in sql
            return execute(sql, *rest)

        with connection.execute_wrapper(count):
            response = self.get_response(request)
        response[STATEMENTS] = str(number)
        return response


urlpatterns = [
    path("bench/bare", BareView.as_view()),
    path("bench/plain", answer),
    path("", include("governance_config.urls")),
]
handler400 = "governance_config.rest.bad_request"
handler403 = "governance_config.rest.permission_denied"
handler404 = "governance_config.rest.page_not_found"
handler500 = "governance_config.rest.server_error"
