"""Where do people judge what reviews found? Lists with the code in them, and the page of one finding.

An issue is what one review found, a finding what several reviews found again: both are shown alike, and decisions are
always about the finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import (
    BooleanRadioFilter,
    ChoicesCheckboxFilter,
    DropdownFilter,
    RelatedDropdownFilter,
    TextFilter,
)

from audit.badges import draw_chip
from audit.governed_admin import ReadOnlyAdmin
from audit.listing import rank
from audit.permissions import may, permitted
from reviews.choices import Presence, Triage
from reviews.figures import list_lines
from reviews.models import DiscoveredIssue, ReviewSession, TrackedFinding
from reviews.triage_admin import WISHES, ReasonForm, TriageAdmin
from rules.admin import RANK
from rules.choices import Severity
from rules.models import AnalysisRule

OF_SESSION = "session__id__exact"  # parameter of the list of issues
CHOICES = 300  # values offered by a filter
IN_LISTS = 2  # lines of code before and after a finding


class PathFilter(TextFilter):
    """Paths that begin with what is typed in."""

    title = "path"
    parameter_name = "path"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(path__startswith=self.value().strip()) if self.value() else queryset


class OfSessionFilter(DropdownFilter):
    """One of the values that stand in a column of the session's issues, most frequent first."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        session = read_session(request)
        if session is None:
            return []
        counted = session.issues.order_by().values(self.parameter_name).annotate(number=Count("pk"))
        rows = counted.order_by("-number", self.parameter_name).values_list(self.parameter_name, "number")[:CHOICES]
        return [(value, f"{value} ({number})") for value, number in rows if value]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() else queryset


class RuleFilter(OfSessionFilter):
    title = "rule"
    parameter_name = "rule_name"


class PluginFilter(OfSessionFilter):
    title = "plugin"
    parameter_name = "plugin"


class PersonaFilter(DropdownFilter):
    """Personas that speak for findings of the session."""

    title = "persona"
    parameter_name = "persona"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        session = read_session(request)
        counts = session.counts.get("by_persona", {}) if session is not None else {}
        return [(name, f"{name} ({number})") for name, number in counts.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(personas__icontains=f'"{self.value()}"') if self.value() else queryset


def read_session(request: HttpRequest) -> ReviewSession | None:
    """The session that a list of issues is limited to, if the user may see it; read once for each request."""
    if not hasattr(request, "read_session"):
        key = request.GET.get(OF_SESSION, "")
        rows = permitted(request.user, "view", ReviewSession.objects.all())
        request.read_session = rows.filter(pk=int(key)).first() if key.isdecimal() and len(key) < 19 else None
    return request.read_session


class FindingPages(TriageAdmin, ReadOnlyAdmin):
    """What lists and pages of issues and of findings have in common."""

    list_display_links = None
    list_per_page = 25
    search_fields = ("path", "rule_name", "message")
    search_help_text = "Words of a path, a rule or a message"

    class Media:
        css = {"all": ["reviews/reviews.css"]}

    def issue_of(self, item: Any) -> DiscoveredIssue | None:
        """The issue with the code of `item`."""
        raise NotImplementedError

    def finding_of(self, item: Any) -> TrackedFinding | None:
        """What is decided about."""
        raise NotImplementedError

    def name_codebase(self, item: Any) -> str:
        """The codebase of `item`, where a list has those of several."""
        return ""

    @admin.display(description="Severity", ordering=RANK)
    def badge(self, item: Any) -> str:
        return draw_chip(item.severity, f"severity-{item.severity}")

    @admin.display(description="Finding", ordering="path")
    def told(self, item: Any) -> SafeString:
        issue = self.issue_of(item)
        address = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[item.pk])
        context = {
            "item": item,
            "address": address,
            "codebase": self.name_codebase(item),
            "line": issue.start_line if issue is not None else item.line,
            "lines": list_lines(issue, IN_LISTS) if issue is not None else [],
        }
        return render_to_string("admin/reviews/cell.html", context)

    @admin.display(description="Rule", ordering="rule_name")
    def ruled(self, item: Any) -> SafeString:
        issue = self.issue_of(item)
        context = {"item": item, "personas": issue.personas if issue is not None else []}
        return render_to_string("admin/reviews/rule_cell.html", context)

    @admin.display(description="Decision")
    def decided(self, item: Any) -> str:
        finding = self.finding_of(item)
        if finding is None or finding.triage == Triage.OPEN:
            return format_html('<span class="quiet">{}</span>', "open")
        return draw_chip(finding.get_triage_display().lower(), finding.triage)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The page of one finding; sent with `triage`, it decides."""
        deciding = request.method == "POST"
        allowed = not deciding or ("triage" in request.POST and may(request.user, "triage", TrackedFinding))
        if object_id is None or not allowed or not self.has_view_permission(request):
            raise PermissionDenied
        item = self.get_object(request, unquote(object_id))
        if item is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        finding, refusals = self.finding_of(item), []
        if deciding and finding is not None:
            refusals = self.decide_one(request, finding)
            if not refusals:
                return HttpResponseRedirect(request.get_full_path())
        context = {
            **self.admin_site.each_context(request),
            **self.describe(request, item),
            "opts": self.opts,
            "original": item,
            "media": self.media,
            "form": ReasonForm(request.POST) if refusals else ReasonForm(),
            "refusals": refusals,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/reviews/finding.html", context)

    def describe(self, request: HttpRequest, item: Any) -> dict[str, Any]:
        """What the page shows."""
        issue, finding = self.issue_of(item), self.finding_of(item)
        rules = permitted(request.user, "view", AnalysisRule.objects.all())
        rule = rules.filter(name=item.rule_name).first()
        may_decide = finding is not None and may(request.user, "triage", TrackedFinding)
        return {
            "title": f"{item.path}:{issue.start_line if issue else item.line}",
            "subtitle": None,
            "item": item,
            "issue": issue,
            "finding": finding,
            "lines": list_lines(issue) if issue is not None else [],
            "rule": rule,
            "decisions": list(finding.decisions.order_by("-id")) if finding is not None else [],
            "wishes": [wish for wish in WISHES if wish.triage != finding.triage] if may_decide else [],
        }


@admin.register(DiscoveredIssue)
class DiscoveredIssueAdmin(FindingPages):
    """What one review found, worst first."""

    list_display = ("badge", "told", "state_shown", "ruled", "decided")
    list_before_template = "admin/reviews/list_head.html"
    list_filter = (
        ("severity", ChoicesCheckboxFilter),
        ("state", ChoicesCheckboxFilter),
        ("finding__triage", ChoicesCheckboxFilter),
        RuleFilter,
        PersonaFilter,
        PluginFilter,
        ("rule_type", ChoicesCheckboxFilter),
        ("suppressed", BooleanRadioFilter),
        PathFilter,
    )
    ordering = ("-session_id", RANK.desc(), "path", "start_line", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("session", "finding")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        session = read_session(request)
        title = f"Findings of {session}" if session is not None else "Findings of all reviews"
        return super().changelist_view(
            request, {"title": title, "review_session": session, "of_session": OF_SESSION, **(extra_context or {})}
        )

    def issue_of(self, item: DiscoveredIssue) -> DiscoveredIssue:
        return item

    def finding_of(self, item: DiscoveredIssue) -> TrackedFinding | None:
        return item.finding

    def findings_of(self, objects: QuerySet) -> QuerySet[TrackedFinding]:
        chosen = objects.order_by().values("finding_id")
        return TrackedFinding.objects.filter(pk__in=chosen)

    def describe(self, request: HttpRequest, item: DiscoveredIssue) -> dict[str, Any]:
        return {**super().describe(request, item), "session": item.session, "following": find_following(item)}

    @admin.display(description="State", ordering="state")
    def state_shown(self, issue: DiscoveredIssue) -> str:
        if issue.suppressed:
            return draw_chip("suppressed", "suppressed")
        return draw_chip(issue.get_state_display().lower(), issue.state)


def find_following(issue: DiscoveredIssue) -> DiscoveredIssue | None:
    """The next issue of the session, in the order of the list, about which nobody has decided."""
    undecided = Q(finding=None) | Q(finding__triage=Triage.OPEN)
    rows = DiscoveredIssue.objects.filter(undecided, session=issue.session_id, suppressed=False).exclude(pk=issue.pk)
    place = Severity(issue.severity).rank
    rows = rows.annotate(place=RANK)
    here = Q(place__lt=place)
    here |= Q(place=place, path__gt=issue.path)
    here |= Q(place=place, path=issue.path, start_line__gt=issue.start_line)
    here |= Q(place=place, path=issue.path, start_line=issue.start_line, pk__gt=issue.pk)
    ordered = rows.order_by(F("place").desc(), "path", "start_line", "pk")
    return ordered.filter(here).first() or ordered.first()


class WithLastIssue(ChangeList):
    """A page of findings, each with the issue of the review that saw it last: one query for all of them."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        issues = DiscoveredIssue.objects.in_bulk(
            [item.last_issue_id for item in self.result_list if item.last_issue_id]
        )
        for item in self.result_list:
            item.last_issue = issues.get(item.last_issue_id)


@admin.register(TrackedFinding)
class TrackedFindingAdmin(FindingPages):
    """Findings of all codebases, whatever number of reviews saw them."""

    list_display = ("badge", "told", "presence_shown", "ruled", "decided")
    list_select_related = ("codebase",)
    list_filter = (
        ("codebase", RelatedDropdownFilter),
        ("presence", ChoicesCheckboxFilter),
        ("triage", ChoicesCheckboxFilter),
        ("severity", ChoicesCheckboxFilter),
        ("rule_type", ChoicesCheckboxFilter),
        ("suppressed", BooleanRadioFilter),
        PathFilter,
    )
    ordering = (rank("presence", Presence.values), RANK.desc(), "path", "line", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        issues = permitted(request.user, "view", DiscoveredIssue.objects.filter(finding=OuterRef("pk")))
        newest = issues.order_by("-session_id").values("pk")[:1]
        rows = super().get_queryset(request).select_related("codebase", "first_session", "last_session")
        return rows.annotate(last_issue_id=Subquery(newest))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return WithLastIssue

    def issue_of(self, item: TrackedFinding) -> DiscoveredIssue | None:
        if not hasattr(item, "last_issue"):
            item.last_issue = DiscoveredIssue.objects.filter(pk=item.last_issue_id).first()
        return item.last_issue

    def finding_of(self, item: TrackedFinding) -> TrackedFinding:
        return item

    def name_codebase(self, item: TrackedFinding) -> str:
        return item.codebase.name

    def findings_of(self, objects: QuerySet) -> QuerySet[TrackedFinding]:
        return TrackedFinding.objects.filter(pk__in=objects.order_by().values("pk"))

    @admin.display(description="Presence", ordering="presence")
    def presence_shown(self, finding: TrackedFinding) -> str:
        if finding.suppressed:
            return draw_chip("suppressed", "suppressed")
        return draw_chip(finding.get_presence_display().lower(), finding.presence)
