"""How long did each request take, and what is written of it? One measurement for the figures and the access log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter

from django.http import HttpRequest, HttpResponse

from audit.metrics import observe_request

access = logging.getLogger("governance.access")
PROBES = {"/healthz": "healthz", "/readyz": "readyz", "/metrics": "metrics"}
"""Answered before routes are looked up; their successes, several a minute, are not worth a line."""
MAX_PATH = 200  # characters


class ObservationMiddleware:
    """Measures every request, whatever answers it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = perf_counter()
        response = self.get_response(request)
        seconds = perf_counter() - began
        route = find_route(request)
        observe_request(route, request.method or "", response.status_code, seconds)
        if request.path not in PROBES or response.status_code >= 400:
            write_line(request, response, route, seconds)
        return response


def find_route(request: HttpRequest) -> str:
    """The name of the route that answered; empty if there is none."""
    if request.path in PROBES:
        return PROBES[request.path]
    match = request.resolver_match
    return match.view_name or "" if match is not None else ""


def write_line(request: HttpRequest, response: HttpResponse, route: str, seconds: float) -> None:
    """One line of the access log. Never the query or a header: either may hold a credential."""
    if not access.isEnabledFor(logging.INFO):
        return
    known = {
        "method": request.method,
        "route": route,
        "path": request.path[:MAX_PATH],
        "status": response.status_code,
        "duration_ms": round(seconds * 1000, 1),
    }
    access.info("%s %s %s %s ms", known["method"], known["path"], known["status"], known["duration_ms"], extra=known)
