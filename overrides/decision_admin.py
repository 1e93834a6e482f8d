"""How do people decide about overrides in the admin? About one or a selection, on a page that shows what will happen.

The page is made by trying: each override is decided on in a change set that is undone. It carries the versions that it
showed, so that nobody decides on what he has not seen; what cannot be done is said, and the others are done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin import helpers
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone

from audit.changes import change_set
from audit.diffs import spell
from audit.forms import REFUSALS, list_refusals
from audit.permissions import may_see_some
from overrides import approvals
from overrides.choices import JUDGING_FIELDS, OverrideStatus, TargetType
from overrides.models import GovernanceRuleOverride
from overrides.override_forms import DecisionForm
from overrides.targets import find_requirement, find_target
from overrides.validation import find_leaves, look_up

MAX_AT_ONCE = 50
TRIAL_COMMENT = "(to see what it would do)"


@dataclass(frozen=True)
class Wish:
    """What a button says, what it means, and whether others will ask why."""

    verb: str
    order: str
    done: str
    meaning: str
    needs_comment: bool = False
    danger: bool = False


WISHES = {
    wish.verb: wish
    for wish in (
        Wish("approve", "Approve", "approved", "You agree with what it says. The last approval puts it in force."),
        Wish("reject", "Reject", "rejected", "It stays without force. It can be proposed again.", True, True),
        Wish("confirm", "Confirm", "confirmed", "It was right to put it in force in an emergency.", True),
        Wish("revoke", "Revoke", "revoked", "It ends now, for good.", True, True),
        Wish("propose", "Propose", "proposed", "It is compared with the rule as it is now, and waits for approval."),
        Wish("withdraw", "Withdraw", "withdrawn", "You take your request back, for good.", False, True),
    )
}
SELECTED = ("approve", "reject")  # of a selection; the others are decided one by one


@dataclass(frozen=True)
class Place:
    """A field that an override changes, three times: as it was, as the override makes it, as it is."""

    label: str
    original: str | None
    override: str | None
    current: str | None

    @property
    def moved(self) -> bool:
        """Whether somebody has changed the rule here since."""
        return self.original != self.current


@dataclass(frozen=True)
class Prospect:
    """What a decision would do with one override, or why it cannot be."""

    override: GovernanceRuleOverride
    places: Sequence[Place]
    outcome: str = ""
    refusal: str = ""
    warnings: Sequence[str] = ()


def list_places(override: GovernanceRuleOverride) -> list[Place]:
    """The three versions of each field that `override` is about."""
    target = find_target(override)
    current = target.shown() if target is not None else {}
    shown = override.shown()
    if override.target_type == TargetType.GOVERNANCE_RULE:
        wanted = [((name,), None) for name in JUDGING_FIELDS]
    else:
        wanted = [(leaf, look_up(shown["override_config"], leaf)) for leaf in find_leaves(shown["override_config"])]
    return [
        Place(
            " › ".join(leaf).replace("_", " "),
            spell(look_up(shown["original_config"], leaf)),
            spell(value),
            spell(look_up(current, leaf)),
        )
        for leaf, value in wanted
    ]


def foresee(wish: Wish, override: GovernanceRuleOverride, user: Any) -> Prospect:
    """What would happen if `user` decided so now: it is done, and undone."""
    places = list_places(override)
    try:
        with change_set(reason=TRIAL_COMMENT, dry_run=True) as changes:
            decided = approvals.VERBS[wish.verb](
                override=override, user=user, comment=TRIAL_COMMENT, seen=override.version
            )
    except REFUSALS as refusal:
        return Prospect(override, places, refusal=" ".join(list_refusals(refusal)))
    return Prospect(override, places, outcome=describe(decided), warnings=changes.warnings)


def describe(override: GovernanceRuleOverride) -> str:
    """Where an override stands, in a sentence."""
    status = override.status
    if status == OverrideStatus.ACTIVE:
        return f"In force until {override.expires_at:%-d %B %Y, %H:%M} UTC."
    if status == OverrideStatus.PROPOSED:
        missing = find_requirement(override).approvals - override.approval_count
        return f"Waits for {missing} more approval{'' if missing == 1 else 's'}."
    return f"{OverrideStatus(status).label}: without force."


class DecisionAdmin:
    """Mixin of the admin of overrides: actions for a selection, and a page for each decision on one."""

    decision_template = "admin/overrides/decide.html"

    def get_urls(self) -> list[Any]:
        own = path(
            "<int:pk>/decide/<str:verb>/",
            self.admin_site.admin_view(self.decision_view),
            name="overrides_governanceruleoverride_decide",
        )
        return [own, *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Approve and reject, for those who may."""
        actions = {name: entry for name, entry in super().get_actions(request).items() if name != "delete_selected"}
        if may_see_some(request.user, "approve", GovernanceRuleOverride):
            for verb in SELECTED:
                actions[verb] = (_act(WISHES[verb]), verb, f"{WISHES[verb].order} selected overrides…")
        return actions

    def decision_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """Decide on one override."""
        override = self.get_object(request, str(pk))
        if override is None or verb not in WISHES:
            raise Http404
        if not self.has_view_permission(request, override):
            raise PermissionDenied
        if verb not in approvals.list_verbs(override=override, user=request.user, now=timezone.now()):
            prospect = foresee(WISHES[verb], override, request.user)
            if prospect.refusal and request.method != "POST":
                self.message_user(request, prospect.refusal, messages.WARNING)
                return HttpResponseRedirect(self.find_page(override))
        return self.decide(request, [override], WISHES[verb], self.find_page(override))

    def find_page(self, override: GovernanceRuleOverride) -> str:
        """The address of an override's page."""
        return reverse("admin:overrides_governanceruleoverride_change", args=[override.pk])

    def decide(
        self, request: HttpRequest, overrides: Sequence[GovernanceRuleOverride], wish: Wish, done_at: str
    ) -> HttpResponse:
        """Show what would happen, or do it if the request has seen it."""
        posted = request.method == "POST" and request.POST.get("post")
        form = DecisionForm(request.POST if posted else None, needs_comment=wish.needs_comment)
        if not posted or not form.is_valid():
            return self._ask(request, overrides, wish, form)
        done, refused = self._carry_out(request, overrides, wish, form.cleaned_data["change_reason"])
        if not done:
            return self._ask(request, overrides, wish, form, refused)
        for override in done:
            self.message_user(request, f"{override.rule_name}: {wish.done}. {describe(override)}", messages.SUCCESS)
        for sentence in refused:
            self.message_user(request, f"Not {wish.done}. {sentence}", messages.WARNING)
        return HttpResponseRedirect(done_at)

    def _carry_out(
        self, request: HttpRequest, overrides: Sequence[GovernanceRuleOverride], wish: Wish, comment: str
    ) -> tuple[list[GovernanceRuleOverride], list[str]]:
        """Each in a change set of its own: one that has moved does not hold up the others."""
        done, refused = [], []
        for override in overrides:
            seen = request.POST.get(f"version_{override.pk}", "")
            if not seen.isdecimal() or len(seen) > 18:
                refused.append(f"{override.rule_name}: you have not been shown it. Select again.")
                continue
            try:
                with change_set(reason=comment) as changes:
                    decided = approvals.VERBS[wish.verb](
                        override=override, user=request.user, comment=comment, seen=int(seen)
                    )
            except REFUSALS as refusal:
                refused.append(f"{override.rule_name}: {' '.join(list_refusals(refusal))}")
                continue
            done.append(decided)
            for warning in changes.warnings:
                messages.warning(request, warning)
        return done, refused

    def _ask(
        self,
        request: HttpRequest,
        overrides: Sequence[GovernanceRuleOverride],
        wish: Wish,
        form: DecisionForm,
        refused: Sequence[str] = (),
    ) -> HttpResponse:
        prospects = [foresee(wish, override, request.user) for override in overrides]
        possible = [each for each in prospects if not each.refusal]
        count = len(prospects)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{wish.order} {count} override{'' if count == 1 else 's'}",
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            "original": overrides[0] if count == 1 else None,
            "wish": wish,
            "form": form,
            "prospects": prospects,
            "possible": len(possible),
            "refused": count - len(possible),
            "refusals": refused,
            "action": wish.verb if request.POST.get("action") else "",
            "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.decision_template, context)

    def decide_many(self, request: HttpRequest, queryset: models.QuerySet, wish: Wish) -> HttpResponse | None:
        """Decide on a selection."""
        if not may_see_some(request.user, "approve", GovernanceRuleOverride):
            raise PermissionDenied
        overrides = list(queryset.prefetch_related("decisions")[: MAX_AT_ONCE + 1])
        if len(overrides) > MAX_AT_ONCE:
            self.message_user(request, f"At most {MAX_AT_ONCE} at once: each is read.", messages.WARNING)
            return None
        return self.decide(request, overrides, wish, request.get_full_path())


def _act(wish: Wish) -> Callable[[Any, HttpRequest, models.QuerySet], HttpResponse | None]:
    def run(model_admin: DecisionAdmin, request: HttpRequest, queryset: models.QuerySet) -> HttpResponse | None:
        return model_admin.decide_many(request, queryset, wish)

    return run
