"""What have reviews found, in the admin? Sessions and their issues, read only; a session may be deleted."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.contrib.filters.admin import ChoicesCheckboxFilter

from audit.badges import draw_chip, draw_chips, draw_moment
from audit.filters import DaysFilter
from audit.governed_admin import PermittedAdmin, ReadOnlyAdmin
from reviews.models import DiscoveredIssue, ReviewSession
from rules.admin import RANK
from rules.choices import Severity


@admin.register(ReviewSession)
class ReviewSessionAdmin(ReadOnlyAdmin):
    """One row for each review, with what it found by severity."""

    list_display = (
        "shown",
        "state",
        "findings",
        "files_analyzed",
        "rules_run",
        "took",
        "revision",
        "started_by",
        "began",
    )
    list_display_links = ("shown",)
    list_filter = (("status", ChoicesCheckboxFilter), ("started_at", DaysFilter))
    search_fields = ("codebase", "root", "started_by")
    fieldsets = (
        (None, {"fields": ("codebase", "root", "state", "findings", "all_issues")}),
        (
            "How it ran",
            {"fields": ("revision", "started_by", "began", "took", "rules_run", "files_analyzed", "left_out")},
        ),
        ("What went wrong", {"fields": ("problems",)}),
    )
    readonly_fields = ("state", "findings", "all_issues", "began", "took", "left_out", "problems")

    def has_delete_permission(self, request: HttpRequest, obj: ReviewSession | None = None) -> bool:
        return PermittedAdmin.has_delete_permission(self, request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, ...]:
        """A session takes its issues along: they are counted, not listed."""
        issues = DiscoveredIssue.objects.filter(session__in=[item.pk for item in objs]).count()
        names = [f"{item}" for item in objs]
        return names, {"review sessions": len(names), "discovered issues": issues}, set(), []

    @admin.display(description="Review", ordering="codebase")
    def shown(self, session: ReviewSession) -> str:
        return f"{session.codebase} #{session.pk}"

    @admin.display(description="Status", ordering="status")
    def state(self, session: ReviewSession) -> str:
        return draw_chip(session.status)

    @admin.display(description="Findings")
    def findings(self, session: ReviewSession) -> str:
        counts = read_counts(session)
        if not counts:
            return "none"
        return draw_counts(counts)

    @admin.display(description="Issues")
    def all_issues(self, session: ReviewSession) -> str:
        address = reverse("admin:reviews_discoveredissue_changelist")
        return format_html('<a href="{}?session__id__exact={}">Show all issues of this review</a>', address, session.pk)

    @admin.display(description="Time", ordering="seconds")
    def took(self, session: ReviewSession) -> str:
        return "–" if session.seconds is None else f"{session.seconds:.2f} s"

    @admin.display(description="Started (UTC)", ordering="started_at")
    def began(self, session: ReviewSession) -> str:
        return draw_moment(session.started_at)

    @admin.display(description="Files left out")
    def left_out(self, session: ReviewSession) -> str:
        return ", ".join(f"{reason}: {count}" for reason, count in session.files_skipped.items()) or "none"

    @admin.display(description="Failures")
    def problems(self, session: ReviewSession) -> str:
        if not session.failures:
            return "nothing"
        return format_html_join("", "<div>{}</div>", ((str(failure),) for failure in session.failures))


def read_counts(session: ReviewSession) -> dict[str, int]:
    """Findings by severity, worst first, without those that do not occur."""
    counts = session.counts.get("by_severity", session.counts.get("severity", session.counts))
    return {item.value: counts[item.value] for item in reversed(Severity) if counts.get(item.value)}


def draw_counts(counts: dict[str, int]) -> str:
    """Counts by severity as labels."""
    return format_html_join(
        " ",
        '<span class="chip chip-severity-{}" title="{}">{} {}</span>',
        ((severity, severity, count, severity) for severity, count in counts.items()),
    )


@admin.register(DiscoveredIssue)
class DiscoveredIssueAdmin(ReadOnlyAdmin):
    """Findings: where, what, and who speaks for it."""

    list_display = ("place", "badge", "rule_name", "rule_type", "said_by", "shown_message", "session")
    list_display_links = ("place",)
    list_filter = (("severity", ChoicesCheckboxFilter), ("rule_type", ChoicesCheckboxFilter))
    list_select_related = ("session",)
    search_fields = ("path", "rule_name", "message")
    actions = None
    ordering = ("-session_id", "id")
    fieldsets = (
        (None, {"fields": ("place", "badge", "rule_name", "rule_type", "said_by", "message", "code")}),
        ("Review", {"fields": ("session", "created_at")}),
    )
    readonly_fields = ("place", "badge", "said_by", "code")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("session")

    @admin.display(description="Where", ordering="path")
    def place(self, issue: DiscoveredIssue) -> str:
        return f"{issue.path}:{issue.start_line}:{issue.start_column}"

    @admin.display(description="Severity", ordering=RANK)
    def badge(self, issue: DiscoveredIssue) -> str:
        return draw_chip(issue.severity, f"severity-{issue.severity}")

    @admin.display(description="Personas")
    def said_by(self, issue: DiscoveredIssue) -> str:
        return draw_chips(issue.personas, "persona") if issue.personas else "–"

    @admin.display(description="Message")
    def shown_message(self, issue: DiscoveredIssue) -> str:
        return issue.message if len(issue.message) <= 90 else f"{issue.message[:88]}…"

    @admin.display(description="Code")
    def code(self, issue: DiscoveredIssue) -> str:
        return format_html('<pre class="code-block">{}</pre>', issue.snippet)
