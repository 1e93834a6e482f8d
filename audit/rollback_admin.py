"""How does somebody undo a change in the admin? A page that shows what would happen, asks why, and does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from audit.diffs import Difference, compare
from audit.errors import Busy, NotPermitted
from audit.forms import BulkForm, list_refusals, take_break_glass
from audit.models import ConfigurationAuditLog
from audit.permissions import may
from audit.rollback import Plan, RollbackRefused, Step, Target, roll_back

SHOWN = 50  # objects whose differences are shown; of the others the number
REFUSALS = (ValidationError, Busy, NotPermitted, RollbackRefused)
VERBS = {"create": "comes back", "update": "changes", "delete": "is deleted"}
KINDS = {"create": "created", "update": "updated", "delete": "deleted"}


class RollbackPages:
    """Mixin of the journal's admin: `undo/<what>/<revision>/` for a change, its request, or everything after it."""

    def get_urls(self) -> list[URLPattern]:
        """The page, before those that take anything for a key."""
        view = self.admin_site.admin_view(self.rollback_view)
        own = path("undo/<str:what>/<int:revision>/", view, name="audit_configurationauditlog_undo")
        return [own, *super().get_urls()]

    def rollback_view(self, request: HttpRequest, what: str, revision: int) -> HttpResponse:
        """Show the plan; with a reason, carry it out."""
        if not may(request.user, "view", ConfigurationAuditLog) or request.method not in ("GET", "HEAD", "POST"):
            raise PermissionDenied
        row = ConfigurationAuditLog.objects.filter(revision=revision).first()
        target = find_target(what, row)
        if target is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(revision))
        form = BulkForm(request.POST or None)
        refusals: list[str] = []
        if request.method == "POST" and form.is_valid():
            take_break_glass(request)
            planned_at = request.POST.get("planned_at", "")
            seen = int(planned_at) if planned_at.isdecimal() and len(planned_at) < 19 else None
            try:
                plan = roll_back(target, user=request.user, reason=form.cleaned_data["change_reason"], seen=seen)
            except REFUSALS as error:
                refusals = explain(error)
                request.refusal = error
                form = BulkForm(request.POST)
            else:
                self.message_user(request, tell(plan), messages.SUCCESS)
                for warning in plan.warnings:
                    self.message_user(request, warning, messages.WARNING)
                return HttpResponseRedirect(reverse("admin:audit_configurationauditlog_changelist"))
        return self._show(request, what, row, target, form, refusals)

    def _show(
        self,
        request: HttpRequest,
        what: str,
        row: ConfigurationAuditLog,
        target: Target,
        form: BulkForm,
        refusals: list[str],
    ) -> HttpResponse:
        plan = None
        try:
            plan = roll_back(target, user=request.user, dry_run=True)
        except REFUSALS as error:
            refusals = refusals or explain(error)
            if request.method != "POST":
                request.refusal = error
                form = BulkForm()
        steps = plan.steps if plan is not None else ()
        context = {
            **self.admin_site.each_context(request),
            "title": name_target(what, row),
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            "row": row,
            "plan": plan,
            "steps": [draw(step) for step in steps[:SHOWN]],
            "more": max(len(steps) - SHOWN, 0),
            "form": form,
            "refusals": refusals,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/governed/rollback.html", context)


def find_target(what: str, row: ConfigurationAuditLog | None) -> Target | None:
    """What is undone: the change, the request that it belongs to, or everything after it."""
    if row is None:
        return None
    targets = {
        "change": Target(change=row.revision),
        "batch": Target(batch=row.batch),
        "since": Target(to_revision=row.revision),
    }
    return targets.get(what)


def name_target(what: str, row: ConfigurationAuditLog) -> str:
    """The title of the page."""
    if what == "since":
        return f"Go back to revision {row.revision}"
    return f"Undo revision {row.revision}" if what == "change" else f"Undo the request of revision {row.revision}"


def explain(error: Exception) -> list[str]:
    """The sentences of what stands against it."""
    return error.problems if isinstance(error, RollbackRefused) else list_refusals(error)


def tell(plan: Plan) -> str:
    """What was done, in a sentence."""
    if not plan.steps:
        return "It is so already: there was nothing to undo."
    counts = ", ".join(f"{plan.count(action)} {KINDS[action]}" for action in KINDS if plan.count(action))
    return f"Undone: {counts}. The configuration is at revision {plan.revision}."


def draw(step: Step) -> Mapping[str, Any]:
    """A step with its differences, as the page shows it."""
    before = {name: old for name, (old, _) in step.fields.items()}
    after = {name: new for name, (_, new) in step.fields.items()}
    differences: list[Difference] = compare(
        before if step.action != "create" else None, after if step.action != "delete" else None
    )
    return {
        "step": step,
        "kind": KINDS[step.action],
        "verb": VERBS[step.action],
        "entry": {"differences": differences, "action": KINDS[step.action]},
    }
