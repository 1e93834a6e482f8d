"""What holds for every answer? Probes come first, and pages load only what the server itself has."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from governance_config.health import LivenessView, MetricsView, ReadinessView
from governance_config.lockout import show_wait
from governance_config.throttling import count_request, name_caller, refuse

STRICT = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'none'; form-action 'self'"
)
# The one looser policy: Alpine, which the admin theme is built on, evaluates expressions in attributes and sets inline
# styles.
ADMIN = f"{STRICT}; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"


class HealthMiddleware:
    """Answers probes before anything looks at the host: who watches a server asks by address, and without TLS."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.probes = {
            "/healthz": LivenessView.as_view(),
            "/readyz": ReadinessView.as_view(),
            "/metrics": MetricsView.as_view(),
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:
        probe = self.probes.get(request.path)
        if probe is None:
            return self.get_response(request)
        response = probe(request)
        return response.render() if hasattr(response, "render") else response


class ContentSecurityPolicyMiddleware:
    """Adds the policy to every answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.setdefault("Content-Security-Policy", ADMIN if request.path.startswith("/admin/") else STRICT)
        return response


class SignInMiddleware:
    """Counts the forms that sign in to the admin like the requests for a token: one address tries so many names."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.path == reverse("admin:login"):
            wait = count_request("auth", name_caller(request, "auth"))
            if wait is not None:
                return show_wait(request, refuse("auth", wait).detail, wait)
        return self.get_response(request)
