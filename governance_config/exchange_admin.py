"""How is a configuration brought in, kept and compared in the admin? A plan first, then a reason."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from audit.diffs import compare
from audit.errors import Busy, NotPermitted
from audit.exchange import Plan, apply
from audit.forms import CODE_CLASS, BulkForm, list_refusals
from audit.governed_admin import ReadOnlyAdmin
from audit.permissions import holds, may
from audit.plans import STATUSES, Step
from audit.sources import InvalidDocument, SourceDocument, parse
from governance_config.library import (
    PresetFile,
    compare_presets,
    find_preset,
    list_presets,
    may_delete,
    may_save,
    save_preset,
)
from governance_config.models import MAX_PRESET, Preset
from governance_config.proposals import can_propose, propose
from overrides.api import EXPORT_CONFIGURATION, IMPORT_CONFIGURATION
from overrides.models import GovernanceRuleOverride

TOLD = 5  # requests that are named in a message
SHOWN = 100  # entries whose differences are shown; of the others the number
REFUSALS = (ValidationError, Busy, NotPermitted)
CHIPS = {"refused": "rejected"}


class ImportForm(forms.Form):
    """A document, as a file or pasted."""

    file = forms.FileField(required=False, widget=UnfoldAdminFileFieldWidget, help_text="YAML or JSON.")
    text = forms.CharField(
        required=False,
        strip=False,
        label="Or paste it here",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 12, "class": CODE_CLASS, "spellcheck": "false"}),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        file, text = cleaned.get("file"), (cleaned.get("text") or "").replace("\r\n", "\n")
        if bool(file) == bool(text.strip()):
            raise ValidationError("Choose a file, or paste a document.")
        size = file.size if file else len(text.encode())
        if size > MAX_PRESET:
            raise ValidationError(
                f"The document has {size:,} bytes, at most {MAX_PRESET:,} are read here: use import_config."
            )
        cleaned["document"] = parse(file.read() if file else text)
        return cleaned


class ProposeForm(BulkForm):
    """What is said once for all requests that a document makes."""

    expires_at = forms.DateField(
        label="Ends on (UTC)",
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
        help_text="When the requested overrides end, at the beginning of that day.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["change_reason"].help_text = "Why this is needed. Whoever approves the requests reads this."

    def clean_expires_at(self) -> datetime:
        return datetime.combine(self.cleaned_data["expires_at"], time(), UTC)


class SaveForm(forms.Form):
    """How the present configuration is called from now on."""

    name = forms.CharField(
        max_length=100,
        widget=UnfoldAdminTextInputWidget,
        help_text="Lower-case letters, digits, hyphens and underscores.",
    )
    title = forms.CharField(max_length=200, required=False, widget=UnfoldAdminTextInputWidget)
    description = forms.CharField(max_length=2000, required=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))


@admin.register(Preset)
class PresetAdmin(ReadOnlyAdmin):
    """Presets, those of the release and saved ones, and the page that takes a document."""

    actions = None

    def get_urls(self) -> list[URLPattern]:
        """The pages of one's own, before those that take anything for a key."""
        wrap, name = self.admin_site.admin_view, "governance_config_preset"
        return [
            path("import/", wrap(self.import_view), name=f"{name}_import"),
            path("<slug:key>/plan/", wrap(self.plan_view), name=f"{name}_plan"),
            path("<slug:key>/compare/", wrap(self.compare_view), name=f"{name}_compare"),
            *super().get_urls(),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_save(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Preset | None = None) -> bool:
        return may(request.user, "delete", Preset)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """All presets, and what else can be done here."""
        self._require_reading(request)
        context = {
            "title": "Import and presets",
            "presets": list_presets(),
            "may_import": holds(request.user, IMPORT_CONFIGURATION),
            "may_export": holds(request.user, EXPORT_CONFIGURATION),
            "may_save": may_save(request.user),
        }
        return self._render(request, "presets", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """What one preset says."""
        self._require_reading(request)
        preset = self._find(request, unquote(object_id))
        if isinstance(preset, HttpResponse):
            return preset
        context = {
            "title": preset.title or preset.name,
            "preset": preset,
            "others": [other for other in list_presets() if other.name != preset.name],
            "may_import": holds(request.user, IMPORT_CONFIGURATION),
            "may_delete": may_delete(request.user, preset),
        }
        return self._render(request, "preset", context)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Save the present configuration."""
        if not may_save(request.user):
            raise PermissionDenied
        form = SaveForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                preset = save_preset(user=request.user, **form.cleaned_data)
            except ValidationError as error:
                add_errors(form, error)
            else:
                messages.success(request, f"The configuration is kept as {preset.name}.")
                return HttpResponseRedirect(page("change", preset.name))
        return self._render(request, "save", {"title": "Save the configuration as a preset", "form": form})

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Delete a saved preset."""
        self._require_reading(request)
        preset = self._find(request, unquote(object_id))
        if isinstance(preset, HttpResponse):
            return preset
        if not may_delete(request.user, preset):
            raise PermissionDenied
        if request.method == "POST":
            Preset.objects.filter(name=preset.name).delete()
            messages.success(request, f"The preset {preset.name} is deleted.")
            return HttpResponseRedirect(page("changelist"))
        return self._render(request, "delete", {"title": f"Delete {preset.name}", "preset": preset})

    def compare_view(self, request: HttpRequest, key: str) -> HttpResponse:
        """How another preset differs from this one."""
        self._require_reading(request)
        preset = self._find(request, key)
        other = find_preset(request.GET.get("with", ""))
        if isinstance(preset, HttpResponse):
            return preset
        if other is None:
            return HttpResponseRedirect(page("change", preset.name))
        steps = compare_presets(preset, other)
        context = {
            "title": f"{other.title or other.name} compared with {preset.title or preset.name}",
            "preset": preset,
            "other": other,
            "steps": [draw(step) for step in steps[:SHOWN]],
            "more": max(len(steps) - SHOWN, 0),
            "count": len(steps),
        }
        return self._render(request, "compare", context)

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """Take a document: show its plan, then apply what was shown."""
        self._require_importing(request)
        context = {"title": "Import a document", "back": page("changelist"), "back_name": "Import and presets"}
        if request.method == "POST" and "document" in request.POST:
            text = request.POST["document"].replace("\r\n", "\n")
            try:
                document = parse(text)
            except InvalidDocument as error:
                return self._render(request, "import", {**context, "form": ImportForm(), "refusals": error.lines()})
            return self._handle(request, document, context)
        form = ImportForm(request.POST or None, request.FILES or None)
        refusals: list[str] = []
        if request.method == "POST" and form.is_valid():
            try:
                return self._show_plan(request, form.cleaned_data["document"], context, BulkForm(), [])
            except REFUSALS as error:
                refusals = explain(error)
        return self._render(request, "import", {**context, "form": form, "refusals": refusals})

    def plan_view(self, request: HttpRequest, key: str) -> HttpResponse:
        """What a preset would change, and the button that does it."""
        self._require_importing(request)
        preset = self._find(request, key)
        if isinstance(preset, HttpResponse):
            return preset
        name = preset.title or preset.name
        context = {"title": f"Apply {name}", "back": page("change", preset.name), "back_name": name, "preset": preset}
        if request.method == "POST":
            return self._handle(request, preset.document, context)
        return self._show_plan(request, preset.document, context, BulkForm(), [])

    def _handle(self, request: HttpRequest, document: SourceDocument, context: dict[str, Any]) -> HttpResponse:
        """Apply or propose a document that was planned, if a reason is given and nothing has moved."""
        asks = request.POST.get("mode") == "propose"
        form = ProposeForm(request.POST) if asks else BulkForm(request.POST)
        if not form.is_valid():
            return self._show_plan(request, document, context, form, [])
        planned_at = request.POST.get("planned_at", "")
        seen = int(planned_at) if planned_at.isdecimal() and len(planned_at) < 19 else None
        said = {"user": request.user, "reason": form.cleaned_data["change_reason"], "seen": seen}
        try:
            if asks:
                plan = propose(document, **said, expires_at=form.cleaned_data["expires_at"])
            else:
                plan = apply(document, **said)
        except REFUSALS as error:
            return self._show_plan(request, document, context, form, explain(error))
        messages.success(request, tell(plan))
        for warning in plan.warnings:
            messages.warning(request, warning)
        return HttpResponseRedirect(page("changelist"))

    def _show_plan(
        self,
        request: HttpRequest,
        document: SourceDocument,
        context: dict[str, Any],
        form: BulkForm,
        refusals: list[str],
    ) -> HttpResponse:
        plan = None
        try:
            plan = apply(document, user=request.user, dry_run=True)
        except REFUSALS as error:
            refusals = refusals or explain(error)
        steps = plan.differing if plan is not None else []
        steps.sort(key=lambda step: step.status != "refused")
        told = {problem for step in steps[:SHOWN] for problem in step.problems}
        others = [problem for problem in plan.problems if problem not in told] if plan is not None else []
        own = {
            "plan": plan,
            "counts": [
                (status, CHIPS.get(status, status), plan.count(status)) for status in STATUSES if status != "proposed"
            ]
            if plan
            else [],
            "steps": [draw(step) for step in steps[:SHOWN]],
            "more": max(len(steps) - SHOWN, 0),
            "problems": InvalidDocument(others).lines(),
            "form": form,
            "propose_form": self._find_propose_form(request, plan, form),
            "refusals": [] if plan is not None and plan.problems and not isinstance(form, ProposeForm) else refusals,
            "document": "" if "preset" in context else document.text,
        }
        return self._render(request, "plan", {**context, **own})

    def _find_propose_form(self, request: HttpRequest, plan: Plan | None, form: BulkForm) -> ProposeForm | None:
        """The form that files requests, if that is all that the plan lacks and the user may ask for overrides."""
        if plan is None or not can_propose(plan) or not may(request.user, "add", GovernanceRuleOverride):
            return None
        return form if isinstance(form, ProposeForm) else ProposeForm()

    def _require_reading(self, request: HttpRequest) -> None:
        """Only those who may see presets; pages of this kind are read, or change what they say they change."""
        if not may(request.user, "view", Preset) or request.method not in ("GET", "HEAD", "POST"):
            raise PermissionDenied
        if request.method == "POST" and request.resolver_match.url_name.endswith(("changelist", "change", "compare")):
            raise PermissionDenied

    def _require_importing(self, request: HttpRequest) -> None:
        if not holds(request.user, IMPORT_CONFIGURATION):
            raise PermissionDenied
        self._require_reading(request)

    def _find(self, request: HttpRequest, name: str) -> PresetFile | HttpResponse:
        return find_preset(name) or self._get_obj_does_not_exist_redirect(request, self.opts, name)

    def _render(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        shared = {**self.admin_site.each_context(request), "subtitle": None, "opts": self.opts, "media": self.media}
        request.current_app = self.admin_site.name
        return TemplateResponse(request, f"admin/exchange/{template}.html", {**shared, **context})


def page(name: str, *arguments: str) -> str:
    """Address of a page of presets."""
    return reverse(f"admin:governance_config_preset_{name}", args=arguments)


def add_errors(form: forms.Form, error: ValidationError) -> None:
    """Put the errors of a model at the fields of a form, or at its top."""
    by_field = error.error_dict if hasattr(error, "error_dict") else {None: error.error_list}
    for name, items in by_field.items():
        form.add_error(name if name in form.fields else None, items)


def explain(error: Exception) -> list[str]:
    """The sentences of what stands against it."""
    return error.lines() if isinstance(error, InvalidDocument) else list_refusals(error)


def tell(plan: Plan) -> str:
    """What was done, in a sentence."""
    counts = ", ".join(f"{plan.count(status)} {status}" for status in STATUSES if plan.count(status))
    requests = [f"{step.name} ({step.override})" for step in plan.steps if step.override is not None]
    more = [f"and {len(requests) - TOLD} more"] if len(requests) > TOLD else []
    asked = f" Requests: {', '.join([*requests[:TOLD], *more])}." if requests else ""
    return f"Applied: {counts or 'nothing'}. The configuration is at revision {plan.revision}.{asked}"


def draw(step: Step) -> dict[str, Any]:
    """A step with its differences, as the page shows it."""
    before = {name: old for name, (old, _) in step.fields.items()}
    after = {name: new for name, (_, new) in step.fields.items()}
    return {
        "step": step,
        "kind": CHIPS.get(step.status, step.status),
        "section": step.section.replace("_", " "),
        "entry": {"differences": compare(before, after) if step.fields else [], "action": step.status},
    }
