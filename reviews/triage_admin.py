"""How do people decide about findings in the admin? On the page of one, or about many at once, and they say why.

Nothing here is governed: the verb stores the decision and who made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import helpers
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget

from audit.bulk_admin import NAMED
from audit.changes import MAX_REASON
from audit.errors import NotPermitted
from audit.forms import list_refusals
from audit.permissions import may
from reviews.choices import DISMISSED, Triage
from reviews.models import TrackedFinding
from reviews.triage import decide

MAX_AT_ONCE = 10_000  # findings


@dataclass(frozen=True)
class Wish:
    """What a button says, and what it means."""

    triage: str
    order: str
    meaning: str

    @property
    def needs_reason(self) -> bool:
        """Whether others will ask why."""
        return self.triage in DISMISSED


WISHES = (
    Wish(Triage.ACKNOWLEDGED, "Acknowledge", "It is real, and somebody will see to it."),
    Wish(Triage.FALSE_POSITIVE, "False positive", "The rule is mistaken here; it no longer counts."),
    Wish(Triage.WONT_FIX, "Won't fix", "It is real, and stays as it is; it no longer counts."),
    Wish(Triage.OPEN, "Open again", "Nothing is decided."),
)


class ReasonForm(forms.Form):
    """Why people decide so."""

    # The name of the field that every confirmation page of the admin shows.
    change_reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=MAX_REASON,
        help_text="Stands in the history of the finding beside your name. A dismissal needs one.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "maxlength": MAX_REASON}),
    )


class TriageAdmin:
    """Mixin of an admin whose objects are findings, or issues of findings."""

    triage_template = "admin/reviews/triage.html"

    def findings_of(self, objects: models.QuerySet) -> models.QuerySet[TrackedFinding]:
        """The findings behind the rows of a list."""
        raise NotImplementedError

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """One action for each decision, for those who may decide."""
        actions = {name: entry for name, entry in super().get_actions(request).items() if name != "delete_selected"}
        if may(request.user, "triage", TrackedFinding):
            for wish in WISHES:
                name = f"triage_{wish.triage}"
                actions[name] = (_act(wish, name), name, f"{wish.order}…")
        return actions

    def decide_many(self, request: HttpRequest, objects: models.QuerySet, wish: Wish, name: str) -> HttpResponse:
        """Ask for the reason, or decide if the request has been asked."""
        if not may(request.user, "triage", TrackedFinding):
            raise PermissionDenied
        found = self.findings_of(objects)
        count = found.count()
        form = ReasonForm(request.POST if request.POST.get("post") else None)
        refusals: list[str] = []
        if count > MAX_AT_ONCE:
            refusals = [f"At most {MAX_AT_ONCE:,} at once, and these are {count:,}. Narrow the list by its filters."]
        elif request.POST.get("post") and form.is_valid():
            try:
                self._check_expected(request, count)
                changed = decide(
                    found, triage=wish.triage, reason=form.cleaned_data["change_reason"], user=request.user
                )
            except (ValidationError, NotPermitted) as error:
                refusals = list_refusals(error)
            else:
                self._tell(request, len(changed), wish)
                return HttpResponseRedirect(request.get_full_path())
        return self._confirm(request, found, count, wish, name, form, refusals)

    def decide_one(self, request: HttpRequest, finding: TrackedFinding) -> list[str]:
        """Decide as the page of one finding was sent; what stands against it, as sentences."""
        wish = next((wish for wish in WISHES if wish.triage == request.POST.get("triage")), None)
        form = ReasonForm(request.POST)
        if wish is None or not form.is_valid():
            return [text for errors in form.errors.values() for text in errors] or ["Choose one of the decisions."]
        try:
            changed = decide(
                [finding], triage=wish.triage, reason=form.cleaned_data["change_reason"], user=request.user
            )
        except (ValidationError, NotPermitted) as error:
            return list_refusals(error)
        self._tell(request, len(changed), wish)
        return []

    @staticmethod
    def _check_expected(request: HttpRequest, count: int) -> None:
        expected = request.POST.get("expected", "")
        if expected.isdecimal() and len(expected) < 19 and int(expected) != count:
            raise ValidationError(f"You were asked about {expected}, but the selection has {count} now. Select again.")

    def _tell(self, request: HttpRequest, changed: int, wish: Wish) -> None:
        if changed:
            what = "1 finding is" if changed == 1 else f"{changed} findings are"
            self.message_user(request, f"{what} {Triage(wish.triage).label.lower()} now.", messages.SUCCESS)
        else:
            self.message_user(request, "It was decided so already: there was nothing to change.", messages.INFO)

    def _confirm(
        self,
        request: HttpRequest,
        found: models.QuerySet[TrackedFinding],
        count: int,
        wish: Wish,
        name: str,
        form: ReasonForm,
        refusals: Iterable[str],
    ) -> HttpResponse:
        named = list(found[:NAMED])
        across = request.POST.get("select_across") == "1"
        keys = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        context: Mapping[str, Any] = {
            **self.admin_site.each_context(request),
            "title": f"{wish.order}: {count} finding{'' if count == 1 else 's'}",
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            "wish": wish,
            "action": name,
            "button": wish.order,
            "form": form,
            "count": count,
            "named": named,
            "more": count - len(named),
            "across": across,
            "keys": keys[:1] if across else keys,
            "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "refusals": list(refusals),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.triage_template, context)


def _act(wish: Wish, name: str) -> Callable[[Any, HttpRequest, models.QuerySet], HttpResponse]:
    def run(model_admin: TriageAdmin, request: HttpRequest, objects: models.QuerySet) -> HttpResponse:
        return model_admin.decide_many(request, objects, wish, name)

    return run
