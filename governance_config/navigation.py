"""Where can a user go in the admin? The sidebar: one group for each storey, and only what the user may see."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.http import HttpRequest
from django.urls import reverse

from audit.permissions import may_see_some

GROUPS = (
    (
        "Reviews",
        (
            ("Review sessions", "fact_check", "reviews.reviewsession"),
            ("Findings", "bug_report", "reviews.trackedfinding"),
            ("Copilot prompts", "smart_toy", "reviews.copilotprompt"),
        ),
    ),
    (
        "Governance",
        (
            ("Overrides", "hourglass_top", "overrides.governanceruleoverride"),
            ("Governance rules", "gavel", "overrides.governancerule"),
            ("Approval policies", "how_to_reg", "overrides.approvalpolicy"),
            ("Webhooks", "webhook", "overrides.webhook"),
        ),
    ),
    (
        "Configuration",
        (
            ("Rules", "rule", "rules.analysisrule"),
            ("Personas", "groups", "personas.persona"),
            ("Assignments", "assignment_ind", "personas.personaruleassignment"),
            ("Plugins", "extension", "plugins.plugin"),
            ("Import and presets", "swap_vert", "governance_config.preset"),
        ),
    ),
    ("Record", (("Journal", "history", "audit.configurationauditlog"),)),
    ("Accounts", (("Users", "person", "auth.user"), ("Roles", "shield_person", "auth.group"))),
)


def list_groups(request: HttpRequest) -> list[dict[str, Any]]:
    """The navigation of the running request."""
    overview = {"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")}
    unread = request.user.notifications.filter(read_at=None).count()
    told = {
        "title": "Notifications",
        "icon": "notifications",
        "link": reverse("admin:overrides_notifications"),
        **({"badge": str(unread)} if unread else {}),
    }
    groups: list[dict[str, Any]] = [{"title": "", "items": [overview, told]}]
    for title, entries in GROUPS:
        items = [
            {"title": name, "icon": icon, "link": reverse(f"admin:{model.replace('.', '_')}_changelist")}
            for name, icon, model in entries
            if may_see_some(request.user, "view", apps.get_model(model))
        ]
        if items:
            groups.append({"title": title, "separator": True, "items": items})
    return groups
