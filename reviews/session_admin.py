"""Where does a reviewer begin? The list of reviews, the page of one, two of them compared, and a form to start one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter, RelatedDropdownFilter

from audit.badges import draw_chip, draw_moment
from audit.errors import NotPermitted, StateConflict
from audit.filters import DaysFilter
from audit.forms import list_refusals
from audit.governed_admin import PermittedAdmin, ReadOnlyAdmin
from audit.permissions import may
from reviews.choices import DISMISSED, UNFINISHED, IssueState, Scope, SessionStatus
from reviews.codebases import make_key
from reviews.comparison import WORST_FIRST, compare, find_before, find_comparable, list_history
from reviews.figures import (
    STATES,
    TREND,
    draw_bars,
    draw_trend,
    explain_left_out,
    list_lines,
    measure_progress,
    read_counts,
    read_states,
)
from reviews.forms import StartForm
from reviews.liveness import close_lost_sessions, explain_wait
from reviews.models import DiscoveredIssue, ReviewSession
from reviews.starting import cancel_review, start_review

SHOWN = 8  # findings on the page of a review
COMPARED = 100  # findings of each kind on the page that compares
OFFERED = 50  # other reviews to compare with
AROUND = 2  # lines of code before and after a finding
HISTORY = 400  # reviews read for the lines of a list


class WithHistory(ChangeList):
    """A page of reviews, each with the ones before it: one query for all of them."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        codebases = {item.tracked_codebase_id for item in self.result_list if item.tracked_codebase_id}
        complete = ReviewSession.objects.filter(status=SessionStatus.COMPLETED, scope=Scope.FULL)
        rows = complete.filter(tracked_codebase__in=codebases).order_by("-id") if codebases else []
        by_codebase: dict[int, list[ReviewSession]] = {}
        for row in rows[:HISTORY]:
            by_codebase.setdefault(row.tracked_codebase_id, []).append(row)
        now = timezone.now()
        waits = explain_wait(self.result_list, now)
        for item in self.result_list:
            earlier = [row for row in by_codebase.get(item.tracked_codebase_id, []) if row.pk <= item.pk]
            item.history, item.waiting = earlier[:TREND][::-1], waits.get(item.pk, "")


@admin.register(ReviewSession)
class ReviewSessionAdmin(ReadOnlyAdmin):
    """One row for each review, with what it found by severity."""

    list_display = ("shown", "state", "findings", "since", "line", "ran", "began")
    list_display_links = ("shown",)
    list_filter = (
        ("tracked_codebase", RelatedDropdownFilter),
        ("status", ChoicesCheckboxFilter),
        ("started_at", DaysFilter),
    )
    search_fields = ("codebase", "root", "started_by")
    change_list_template = "admin/reviews/sessions.html"

    class Media:
        css = {"all": ["reviews/reviews.css"]}
        js = ["reviews/progress.js"]

    def has_delete_permission(self, request: HttpRequest, obj: ReviewSession | None = None) -> bool:
        ended = obj is None or obj.status not in UNFINISHED
        return ended and PermittedAdmin.has_delete_permission(self, request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, ...]:
        """A session takes its issues along: they are counted, not listed. One that is at work stays."""
        issues = DiscoveredIssue.objects.filter(session__in=[item.pk for item in objs]).count()
        names = [f"{item}" for item in objs]
        working = [f"{item} is {item.get_status_display().lower()}" for item in objs if item.status in UNFINISHED]
        return names, {"review sessions": len(names), "discovered issues": issues}, set(), working

    def get_urls(self) -> list[URLPattern]:
        """The pages of one's own, before those that take anything for a key."""
        wrap, name = self.admin_site.admin_view, "reviews_reviewsession"
        return [
            path("start/", wrap(self.start_view), name=f"{name}_start"),
            path("<int:pk>/cancel/", wrap(self.cancel_view), name=f"{name}_cancel"),
            path("<int:pk>/compare/", wrap(self.compare_view), name=f"{name}_compare"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("tracked_codebase")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return WithHistory

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        close_lost_sessions(timezone.now())
        context = {"may_start": may(request.user, "run", ReviewSession), **(extra_context or {})}
        return super().changelist_view(request, context)

    @admin.display(description="Review", ordering="codebase")
    def shown(self, session: ReviewSession) -> str:
        return f"{session.codebase} #{session.pk}"

    @admin.display(description="Status", ordering="status")
    def state(self, session: ReviewSession) -> SafeString:
        return draw_state(session)

    @admin.display(description="Findings")
    def findings(self, session: ReviewSession) -> str:
        if session.status != SessionStatus.COMPLETED:
            return "–"
        counts = read_counts(session)
        return draw_counts(counts) if counts else "none"

    @admin.display(description="Since the last")
    def since(self, session: ReviewSession) -> str:
        if session.status != SessionStatus.COMPLETED or len(session.history) < 2:
            return ""
        return draw_states(read_states(session)) or format_html('<span class="quiet">{}</span>', "the same")

    @admin.display(description="Trend")
    def line(self, session: ReviewSession) -> str:
        trend = draw_trend(session.history) if session.status == SessionStatus.COMPLETED else None
        return render_to_string("admin/reviews/trend.html", {"trend": trend, "small": True}) if trend else ""

    @admin.display(description="Ran", ordering="seconds")
    def ran(self, session: ReviewSession) -> str:
        if session.seconds is None:
            return "–"
        files = f"{session.files_analyzed} file{'' if session.files_analyzed == 1 else 's'}"
        return format_html('{} s<span class="subtitle">{}</span>', f"{session.seconds:.1f}", files)

    @admin.display(description="Started (UTC)", ordering="started_at")
    def began(self, session: ReviewSession) -> str:
        moment = draw_moment(session.started_at)
        return format_html('{}<span class="subtitle">by {}</span>', moment, session.started_by)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The reviewer's working place."""
        if object_id is None or request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        close_lost_sessions(timezone.now())
        session = self.get_object(request, unquote(object_id))
        if session is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        title, context = f"{session.codebase} #{session.pk}", self._describe(request, session)
        return self._render(request, "admin/reviews/session.html", title, context)

    def _describe(self, request: HttpRequest, session: ReviewSession) -> dict[str, Any]:
        found = may(request.user, "view", DiscoveredIssue)
        counts, complete = read_counts(session), session.status == SessionStatus.COMPLETED
        before = find_before(session) if complete and session.scope == Scope.FULL else None
        shown, fresh = self._choose(session, before) if found and complete else ([], False)
        history = list_history(session, TREND) if complete else []
        return {
            "session": session,
            "live": session.status in UNFINISHED,
            "state": draw_state(session),
            "waiting": explain_wait([session], timezone.now()).get(session.pk, ""),
            "may_run": may(request.user, "run", ReviewSession),
            "may_delete": self.has_delete_permission(request, session),
            "may_see_issues": found,
            "total": sum(counts.values()),
            "bars": draw_bars(counts),
            "states": [(state, STATES[state], number) for state, number in read_states(session).items()],
            "personas": session.counts.get("by_persona", {}),
            "before": before,
            "trend": draw_trend(history),
            "shown": [(issue, list_lines(issue, AROUND)) for issue in shown],
            "fresh": fresh,
            "left_out": explain_left_out(session),
            "plugins": sorted(session.plugin_runs.items(), key=lambda item: -item[1].get("seconds", 0)),
            "link": f"&session__id__exact={session.pk}",
            "again": describe_start(session),
            "prompts": session.prompts.count() if may(request.user, "view", session.prompts.model) else 0,
        }

    @staticmethod
    def _choose(session: ReviewSession, before: ReviewSession | None) -> tuple[list[DiscoveredIssue], bool]:
        """The findings to look at first, and whether they are those that came since the last review."""
        counting = Q(finding=None) | ~Q(finding__triage__in=DISMISSED)
        rows = worst(session.issues.filter(counting, suppressed=False))
        fresh = list(rows.exclude(state=IssueState.EXISTING)[:SHOWN]) if before is not None else []
        return fresh or list(rows[:SHOWN]), bool(fresh)

    def start_view(self, request: HttpRequest) -> HttpResponse:
        """Choose a folder, and start."""
        if not may(request.user, "run", ReviewSession):
            raise PermissionDenied
        form = StartForm(request.POST if request.method == "POST" else None, initial=request.GET.dict())
        refusals: list[str] = []
        if request.method == "POST" and form.is_valid():
            asked = form.cleaned_data
            try:
                session = start_review(
                    root=asked["root"],
                    user=request.user,
                    codebase_name=asked["codebase"],
                    exclude=asked["exclude"],
                )
            except (StateConflict, NotPermitted) as refusal:
                refusals = list_refusals(refusal)
            except ValidationError as refusal:
                form.add_error(None, refusal)
            else:
                return HttpResponseRedirect(reverse("admin:reviews_reviewsession_change", args=[session.pk]))
        context = {"form": form, "refusals": refusals, "roots": settings.REVIEW_ROOTS}
        return self._render(request, "admin/reviews/start.html", "Start a review", context)

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Stop a review that waits or runs."""
        if request.method != "POST" or not may(request.user, "run", ReviewSession):
            raise PermissionDenied
        session = self.get_object(request, str(pk))
        if session is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))
        try:
            cancel_review(session, request.user)
        except StateConflict as refusal:
            self.message_user(request, " ".join(refusal.messages), messages.WARNING)
        return HttpResponseRedirect(reverse("admin:reviews_reviewsession_change", args=[pk]))

    def compare_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What is new and what is fixed since another review."""
        if not self.has_view_permission(request) or not may(request.user, "view", DiscoveredIssue):
            raise PermissionDenied
        session = self.get_object(request, str(pk))
        if session is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))
        others = find_comparable(session)
        key = request.GET.get("with", "")
        chosen = others.filter(pk=int(key)).first() if key.isdecimal() and len(key) < 19 else find_before(session)
        context: dict[str, Any] = {"session": session, "others": list(others[:OFFERED]), "other": chosen}
        if chosen is not None:
            try:
                context["parts"] = lay_out(compare(session, chosen).parts())
            except StateConflict as refusal:
                context["refusals"] = list_refusals(refusal)
        return self._render(request, "admin/reviews/compare.html", f"Compare {session}", context)

    def _render(self, request: HttpRequest, template: str, title: str, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name
        shared = self.admin_site.each_context(request)
        own = {"title": title, "subtitle": None, "opts": self.opts, "media": self.media}
        own["original"] = context.get("session")  # for the path at the top of the page
        return TemplateResponse(request, template, {**shared, **own, **context})


def describe_start(session: ReviewSession) -> str:
    """The parameters of the form that starts the same review again."""
    asked = {"root": session.root, "exclude": "\n".join(session.exclude)}
    codebase = session.tracked_codebase
    # A name that nobody gave must not become one that somebody gave: findings would be followed under another key.
    if codebase is not None and codebase.key == make_key(Path(session.root), session.codebase):
        asked["codebase"] = session.codebase
    return urlencode(asked)


def worst(issues: QuerySet[DiscoveredIssue]) -> QuerySet[DiscoveredIssue]:
    """`issues`, the worst first, with what is decided about them."""
    return issues.select_related("finding").order_by(*WORST_FIRST)


def lay_out(parts: Any) -> dict[str, dict[str, Any]]:
    """Each part of a comparison: how many there are, and the first of them with their code."""
    laid = {}
    for name, issues in parts:
        shown = [(issue, list_lines(issue, 0)) for issue in issues[:COMPARED]] if name in ("new", "fixed") else []
        count = issues.count()
        laid[name] = {"count": count, "shown": shown, "more": count - len(shown)}
    return laid


def draw_state(session: ReviewSession) -> SafeString:
    """The status, with a bar that grows while the review waits or runs."""
    chip = draw_chip(session.get_status_display().lower(), session.status)
    if session.status not in UNFINISHED:
        return chip
    context = {"session": session, "chip": chip, "percent": measure_progress(session)}
    context["waiting"] = getattr(session, "waiting", "")
    return render_to_string("admin/reviews/progress.html", context)


def draw_counts(counts: dict[str, int]) -> SafeString:
    """Counts by severity as labels."""
    return format_html_join(
        " ",
        '<span class="chip chip-severity-{}" title="{}">{} {}</span>',
        ((severity, severity, count, severity) for severity, count in counts.items()),
    )


def draw_states(states: dict[str, int]) -> SafeString:
    """What differs from the last review as labels."""
    return format_html_join(
        " ",
        '<span class="chip chip-{}">{} {}</span>',
        ((state, number, STATES[state]) for state, number in states.items()),
    )
