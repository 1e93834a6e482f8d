"""Where do people read the prompts for Copilot, and say what became of them?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import AllValuesCheckboxFilter, ChoicesCheckboxFilter

from audit.badges import draw_chip, draw_moment
from audit.errors import NotPermitted
from audit.forms import list_refusals
from audit.governed_admin import ReadOnlyAdmin
from audit.permissions import may
from reviews.choices import PromptStatus
from reviews.copilot import MOVES, change_status
from reviews.models import CopilotPrompt
from rules.admin import RANK

ORDERS = {
    PromptStatus.DRAFT: "Back to draft",
    PromptStatus.READY: "Ready to use",
    PromptStatus.EXPORTED: "Exported",
    PromptStatus.USED: "Was used",
    PromptStatus.DISMISSED: "Dismiss",
}


@admin.register(CopilotPrompt)
class CopilotPromptAdmin(ReadOnlyAdmin):
    """Tasks for GitHub Copilot, newest review first."""

    list_display = ("titled", "badge", "said_by", "state", "about", "review", "written")
    list_display_links = ("titled",)
    list_filter = (
        ("status", ChoicesCheckboxFilter),
        ("persona", AllValuesCheckboxFilter),
        ("severity", ChoicesCheckboxFilter),
    )
    search_fields = ("title", "name", "session__codebase")
    ordering = ("-session_id", RANK.desc(), "id")

    class Media:
        css = {"all": ["reviews/reviews.css"]}
        js = ["reviews/copy.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        # A list does not show the texts; the page of one reads its own.
        return super().get_queryset(request).select_related("session").defer("body")

    def has_change_permission(self, request: HttpRequest, obj: CopilotPrompt | None = None) -> bool:
        """Nothing of a prompt is edited: its status is moved by buttons."""
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """One action for each status, for those who may."""
        actions = {name: entry for name, entry in super().get_actions(request).items() if name != "delete_selected"}
        if may(request.user, "change", CopilotPrompt):
            for status, order in ORDERS.items():
                name = f"status_{status}"
                actions[name] = (_act(status), name, order)
        return actions

    def move_many(self, request: HttpRequest, prompts: QuerySet, status: str) -> None:
        """Move all of them, or none."""
        moving = list(prompts)
        try:
            with transaction.atomic():
                for prompt in moving:
                    change_status(prompt, status, request.user)
        except (ValidationError, NotPermitted) as refusal:
            self.message_user(request, f"Nothing was stored. {' '.join(list_refusals(refusal))}", messages.ERROR)
        else:
            said = "1 prompt is" if len(moving) == 1 else f"{len(moving)} prompts are"
            self.message_user(request, f"{said} {PromptStatus(status).label.lower()} now.", messages.SUCCESS)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The text of a prompt; sent with `status`, it moves on."""
        moving = request.method == "POST"
        allowed = not moving or ("status" in request.POST and may(request.user, "change", CopilotPrompt))
        if object_id is None or not allowed or not self.has_view_permission(request):
            raise PermissionDenied
        prompt = self.get_object(request, unquote(object_id))
        if prompt is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if moving and request.POST["status"] in PromptStatus.values:
            self.move_many(request, CopilotPrompt.objects.filter(pk=prompt.pk), request.POST["status"])
            return HttpResponseRedirect(request.get_full_path())
        context = {
            **self.admin_site.each_context(request),
            "title": prompt.title,
            "subtitle": None,
            "opts": self.opts,
            "original": prompt,
            "media": self.media,
            "prompt": prompt,
            "orders": list_orders(prompt) if may(request.user, "change", prompt) else [],
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/reviews/prompt.html", context)

    @admin.display(description="Prompt", ordering="title")
    def titled(self, prompt: CopilotPrompt) -> str:
        return format_html('{}<span class="subtitle">{}.prompt.md</span>', prompt.title, prompt.name)

    @admin.display(description="Severity", ordering=RANK)
    def badge(self, prompt: CopilotPrompt) -> str:
        return draw_chip(prompt.severity, f"severity-{prompt.severity}")

    @admin.display(description="Persona", ordering="persona")
    def said_by(self, prompt: CopilotPrompt) -> str:
        return draw_chip(prompt.persona, "persona")

    @admin.display(description="Status", ordering="status")
    def state(self, prompt: CopilotPrompt) -> str:
        return draw_chip(prompt.status)

    @admin.display(description="About")
    def about(self, prompt: CopilotPrompt) -> str:
        findings, files = len(prompt.finding_keys), len(prompt.paths)
        return f"{findings} finding{'' if findings == 1 else 's'} in {files} file{'' if files == 1 else 's'}"

    @admin.display(description="Review", ordering="session")
    def review(self, prompt: CopilotPrompt) -> str:
        address = reverse("admin:reviews_reviewsession_change", args=[prompt.session_id])
        return format_html('<a href="{}">{} #{}</a>', address, prompt.session.codebase, prompt.session_id)

    @admin.display(description="Written (UTC)", ordering="created_at")
    def written(self, prompt: CopilotPrompt) -> str:
        return draw_moment(prompt.created_at)


def list_orders(prompt: CopilotPrompt) -> list[tuple[str, str]]:
    """Where the prompt may go from here, and what the buttons say."""
    return [(status.value, order) for status, order in ORDERS.items() if status.value in MOVES[prompt.status]]


def _act(status: str) -> Callable[[Any, HttpRequest, QuerySet], None]:
    def run(model_admin: CopilotPromptAdmin, request: HttpRequest, prompts: QuerySet) -> None:
        model_admin.move_many(request, prompts, status)

    return run
