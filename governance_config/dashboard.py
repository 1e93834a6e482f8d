"""What does a reviewer want to know first? The admin's index: only what the user may see."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest
from django.utils import timezone

from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import may, may_see_some, permitted
from audit.timeline import Entry
from overrides.backlog import find_expiring, read_backlog
from overrides.choices import OverrideStatus
from overrides.models import GovernanceRuleOverride
from plugins.models import Plugin, PluginHealth
from reviews.choices import PromptStatus, SessionStatus
from reviews.comparison import find_before
from reviews.figures import STATES, draw_bars, read_counts, read_states
from reviews.models import CopilotPrompt, ReviewSession
from rules.choices import Severity
from rules.models import AnalysisRule

RECENT = 10  # changes shown
SHOWN = 5  # overrides shown
UNWELL = (PluginHealth.Status.DEGRADED, PluginHealth.Status.FAILING, PluginHealth.Status.MISSING)


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Complete the context of the index."""
    user = request.user
    context.update(
        title="Overview",
        revision=current_revision(),
        rules=count_rules(user),
        review=last_review(user),
        overrides=pending_overrides(user, timezone.now()),
        plugins=unwell_plugins(user),
        recent=recent_changes(user),
        may_read_journal=may(user, "view", ConfigurationAuditLog),
    )
    return context


def count_rules(user: Any) -> dict[str, Any] | None:
    """Enabled rules by severity, worst first, with the share of the largest (percent) for the bars."""
    if not may_see_some(user, "view", AnalysisRule):
        return None
    rows = permitted(user, "view", AnalysisRule.objects.order_by())
    counted = {
        row["severity"]: row
        for row in rows.values("severity").annotate(on=Count("pk", filter=Q(enabled=True)), all=Count("pk"))
    }
    numbers = {item.value: counted[item.value]["on"] if item.value in counted else 0 for item in Severity}
    return {
        "bars": draw_bars(numbers),
        "enabled": sum(numbers.values()),
        "disabled": sum(row["all"] - row["on"] for row in counted.values()),
    }


def last_review(user: Any) -> dict[str, Any] | None:
    """The newest completed session that the user may see, with its findings, and what waits for Copilot."""
    complete = ReviewSession.objects.filter(status=SessionStatus.COMPLETED).order_by("-id")
    session = permitted(user, "view", complete).first()
    if session is None:
        return {"session": None} if may(user, "view", ReviewSession) else None
    counts = read_counts(session)
    link = f"&session__id__exact={session.pk}"
    states = read_states(session) if find_before(session) is not None else {}
    ready = CopilotPrompt.objects.filter(status=PromptStatus.READY)
    return {
        "session": session,
        "link": link,
        "bars": draw_bars(counts),
        "findings": sum(counts.values()),
        "states": [(state, STATES[state], number) for state, number in states.items()],
        "prompts": permitted(user, "view", ready).count(),
    }


def pending_overrides(user: Any, now: datetime) -> dict[str, Any] | None:
    """Overrides that wait for somebody, those to be reviewed, and those in force that end soon."""
    if not may_see_some(user, "view", GovernanceRuleOverride):
        return None
    seen = permitted(user, "view", GovernanceRuleOverride.objects.all())
    waiting = seen.filter(status=OverrideStatus.PROPOSED).order_by("created_at")
    return {
        "waiting": list(waiting[:SHOWN]),
        "to_review": list(seen.filter(needs_review=True).order_by("created_at")[:SHOWN]),
        "ending": list(find_expiring(seen, now).filter(needs_review=False)[:SHOWN]),
        "backlog": read_backlog(user, now),
    }


def unwell_plugins(user: Any) -> dict[str, Any] | None:
    """Plugins that are off, and those that are on and not well."""
    if not may_see_some(user, "view", Plugin):
        return None
    rows = list(permitted(user, "view", Plugin.objects.select_related("health")))
    unwell = [
        (row, "missing" if row.analyzer is None else row.health.status)
        for row in rows
        if row.enabled and (row.analyzer is None or (hasattr(row, "health") and row.health.status in UNWELL))
    ]
    return {"unwell": unwell, "off": [row for row in rows if not row.enabled], "total": len(rows)}


def recent_changes(user: Any) -> list[Entry]:
    """The last changes; without the right to read the journal only one's own."""
    rows = ConfigurationAuditLog.objects.order_by("-revision")
    if not may(user, "view", ConfigurationAuditLog):
        rows = rows.filter(changed_by=user.get_username(), actor_kind="user")
    return [Entry(row) for row in rows[:RECENT]]
