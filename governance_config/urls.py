"""Which address leads where?"""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views import View
from django.views.decorators.cache import cache_control
from django.views.generic import RedirectView

from governance_config.health import LivenessView, MetricsView, ReadinessView
from governance_config.rest import show_problem


class StartView(RedirectView):
    """The address people type first leads to the admin."""

    http_method_names = ["get", "head"]
    pattern_name = "admin:index"


class IconView(View):
    """The icon for browsers that ask for one without having been told where it is."""

    http_method_names = ["get", "head"]
    icon = (settings.BASE_DIR / "audit" / "static" / "governance" / "icon.svg").read_bytes()

    def get(self, request: HttpRequest) -> HttpResponse:
        """The drawing that the pages of the admin name."""
        return HttpResponse(self.icon, content_type="image/svg+xml")


urlpatterns = [
    path("", StartView.as_view(), name="start"),
    path("favicon.ico", cache_control(public=True, max_age=86400)(IconView.as_view()), name="favicon"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("governance_config.api")),
    path("healthz", LivenessView.as_view(), name="healthz"),
    path("readyz", ReadinessView.as_view(), name="readyz"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("problems/<slug:slug>", show_problem, name="problem"),
]
handler400 = "governance_config.rest.bad_request"
handler403 = "governance_config.rest.permission_denied"
handler404 = "governance_config.rest.page_not_found"
handler500 = "governance_config.rest.server_error"
