"""How does the admin look? The settings of Unfold: plain values, read before any app is loaded."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static


def find_style(request: HttpRequest) -> str:
    """Address of the style sheet."""
    return static("governance/admin.css")


def find_icon(request: HttpRequest) -> str:
    """Address of the icon in the browser's tab."""
    return static("governance/icon.svg")


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Code-review governance",
    "SITE_HEADER": "Code-review governance",
    "SITE_SUBHEADER": "Rules, personas and who changed them",
    "SITE_SYMBOL": "rule",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": find_icon}],
    "SITE_URL": None,
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": False,
    "ENVIRONMENT": None,
    "DASHBOARD_CALLBACK": "governance_config.dashboard.fill",
    "STYLES": [find_style],
    "BORDER_RADIUS": "6px",
    # A quiet blue; what is coloured on a page is what the reader should see: severities and states.
    "COLORS": {
        "primary": {
            "50": "oklch(97% .013 236)",
            "100": "oklch(94% .027 236)",
            "200": "oklch(89% .05 236)",
            "300": "oklch(81% .085 236)",
            "400": "oklch(72% .11 238)",
            "500": "oklch(62% .12 241)",
            "600": "oklch(51% .11 243)",
            "700": "oklch(45% .1 244)",
            "800": "oklch(39% .085 244)",
            "900": "oklch(34% .07 245)",
            "950": "oklch(26% .05 246)",
        },
    },
    "COMMAND": {"search_models": False, "show_history": False},
    "SIDEBAR": {
        "show_search": False,
        "command_search": False,
        "show_all_applications": False,
        "navigation": "governance_config.navigation.list_groups",
    },
}
