"""How does the admin change a governed object? The base classes of every admin page.

A POST runs in a change set that is opened before the object is loaded, so that nobody saves what he read before the
lock; what refuses it becomes an error on the page. Rights are asked of `audit.permissions` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget

from audit.bulk_admin import BulkAdmin
from audit.changes import change_set, current_change_set
from audit.errors import StaleVersion
from audit.forms import REFUSALS, BulkForm, GovernedForm, list_refusals, offers_break_glass, take_break_glass
from audit.models import ConfigurationAuditLog
from audit.permissions import may, may_see_some, permitted
from audit.timeline import read_timeline

OWN_FIELDS = ("change_reason", "break_glass", "version")  # of the form, not of the model


class OpenViews(admin.ModelAdmin):
    """Django's views without the transaction that they open themselves: here the change set is the transaction."""

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return self._changeform_view(request, object_id, form_url, extra_context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return self._delete_view(request, object_id, extra_context)


class PermittedAdmin(ModelAdmin):
    """Rights by role and by grant, asked of `audit.permissions`; nothing written to Django's own log."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_filter_submit = True
    has_history = False  # whether there is a page that tells what happened to an object

    def get_queryset(self, request: HttpRequest) -> models.QuerySet:
        return permitted(request.user, "view", super().get_queryset(request))

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self._may(request, "view", obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request.user, "add", self.model)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self._may(request, "change", obj)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self._may(request, "delete", obj)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "view", None)

    def _may(self, request: HttpRequest, action: str, obj: models.Model | None) -> bool:
        """For an object: whether the user may. For none: whether there is any object on which he may."""
        if obj is not None:
            return may(request.user, action, obj)
        known = request.__dict__.setdefault("known_rights", {})
        key = (action, self.model)
        if key not in known:
            known[key] = may_see_some(request.user, action, self.model)
        return known[key]

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context = {"show_history": self.has_history, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        raise Http404(f"There is no history of {self.opts.verbose_name_plural}.")

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """The journal is the record."""

    log_change = log_addition

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        """The journal is the record."""


class ReadOnlyAdmin(PermittedAdmin):
    """Pages that only show."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class ChangeSetAdmin(PermittedAdmin, OpenViews):
    """Adds, changes and deletes in a change set with a reason. What refuses it is shown, and nothing is stored."""

    has_history = True
    delete_confirmation_template = "admin/governed/delete_confirmation.html"
    object_history_template = "admin/governed/history.html"
    change_form_before_template = "admin/governed/form_head.html"
    warn_unsaved_form = True

    def get_fieldsets(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        fieldsets = list(super().get_fieldsets(request, obj))
        writable = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        own = ["change_reason", "break_glass"] if offers_break_glass(request) else ["change_reason"]
        return [*fieldsets, ("Why", {"fields": own})] if writable else fieldsets

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> type:
        if kwargs.get("fields"):
            kwargs["fields"] = [name for name in kwargs["fields"] if name not in OWN_FIELDS]
        return super().get_form(request, obj, change=change, **kwargs)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        def show() -> HttpResponse:
            return super(ChangeSetAdmin, self).changeform_view(request, object_id, form_url, extra_context)

        if request.method != "POST":
            return show()
        self.validate_early(request, object_id)
        return self.run(request, show, show)

    def validate_early(self, request: HttpRequest, object_id: str | None) -> None:
        """Pay for costly validation before the lock: what it finds is kept by content and answers at once later."""

    def run(
        self, request: HttpRequest, act: Callable[[], HttpResponse], show: Callable[[], HttpResponse]
    ) -> HttpResponse:
        """`act` in a change set. If that is refused, `show` answers, with `request.refusal` saying why."""
        request.held_messages = []
        take_break_glass(request)
        try:
            with change_set(reason=request.POST.get("change_reason", "")[:5000]) as changes:
                response = act()
        except REFUSALS as refusal:
            request.held_messages = None
            request.refusal = refusal
            return show()
        held, request.held_messages = request.held_messages, None
        for arguments in held:
            messages.add_message(request, *arguments)
        for warning in changes.warnings:
            messages.warning(request, warning)
        return response

    def message_user(
        self, request: HttpRequest, message: str, level: int = messages.INFO, *args: Any, **kwargs: Any
    ) -> None:
        """Messages of success wait until the change set is stored; of what is only checked there are none."""
        if getattr(request, "is_check", False):
            return
        if getattr(request, "held_messages", None) is not None and level == messages.SUCCESS:
            request.held_messages.append((level, message))
        else:
            super().message_user(request, message, level, *args, **kwargs)

    def response_change(self, request: HttpRequest, obj: models.Model) -> HttpResponse:
        opened = current_change_set()
        if opened is not None and not opened.changes and IS_POPUP_VAR not in request.POST:
            self.message_user(request, f"{obj} is stored as you see it: there was nothing to change.", messages.INFO)
            if "_continue" in request.POST:
                return HttpResponseRedirect(request.get_full_path())
            return self.response_post_save_change(request, obj)
        return super().response_change(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        def show() -> HttpResponse:
            return super(ChangeSetAdmin, self).delete_view(request, object_id, extra_context)

        def show_refusal() -> HttpResponse:
            typed, request.POST = request.POST, QueryDict()
            form = BulkForm(initial={"change_reason": typed.get("change_reason", "")})
            context = {**(extra_context or {}), "form": form, "refusals": list_refusals(request.refusal)}
            return super(ChangeSetAdmin, self).delete_view(request, object_id, context)

        if request.method != "POST":
            extra_context = {"form": BulkForm(), **(extra_context or {})}
            return show()
        return self.run(request, show, show_refusal)

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        self.require_reason(request)
        super().delete_model(request, obj)

    def require_reason(self, request: HttpRequest) -> None:
        """Raise `ValidationError` unless the request says why."""
        if not request.POST.get("change_reason", "").strip():
            raise ValidationError("Say why you make this change.", code="required")

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, ...]:
        """What goes with an object, such as its assignments, needs no right of its own: one right, whichever door."""
        listed, counts, _, protected = super().get_deleted_objects(objs, request)
        lacking = {str(item) for item in objs if not self.has_delete_permission(request, item)}
        return listed, counts, lacking, protected

    def history_of(self, obj: models.Model) -> models.QuerySet[ConfigurationAuditLog]:
        """The journal rows that tell of `obj`."""
        raise NotImplementedError

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """The object's journal rows as a timeline of differences."""
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        before = request.GET.get("before", "")
        timeline = read_timeline(
            self.history_of(obj), before=int(before) if before.isdecimal() and len(before) < 19 else None
        )
        context = {
            **self.admin_site.each_context(request),
            "title": f"History of {obj}",
            "subtitle": None,
            "object": obj,
            "opts": self.opts,
            "timeline": timeline,
            "may_read_journal": may(request.user, "view", ConfigurationAuditLog),
            "preserved_filters": self.get_preserved_filters(request),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.object_history_template, context)


class GovernedAdmin(BulkAdmin, ChangeSetAdmin):
    """Admin of a governed model. `bulk_changes` are its bulk actions, besides deleting."""

    form = GovernedForm
    formfield_overrides = {models.TextField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 4})}}

    actions_submit_line = ("check_first",)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """`Check` is offered to whoever may store the form."""
        obj = kwargs.get("obj")
        allowed = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        context["actions_submit_line"] = self.get_actions_submit_line(request, None) if allowed else []
        return super().render_change_form(request, context, *args, **kwargs)

    @action(description="Check")
    def check_first(self, request: HttpRequest, obj: models.Model) -> None:
        """Nothing more than saving it: the view undoes what it has tried."""

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        button = f"{self.opts.app_label}_{self.opts.model_name}_check_first"
        if request.method == "POST" and button in request.POST:
            return self.try_out(request, object_id, form_url, extra_context)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def try_out(self, request: HttpRequest, object_id: str | None, form_url: str, extra_context: Any) -> HttpResponse:
        """Do what the form says, undo it, and show the form with what governance rules say of it."""

        def show() -> HttpResponse:
            return super(ChangeSetAdmin, self).changeform_view(request, object_id, form_url, extra_context)

        request.is_check = True
        self.validate_early(request, object_id)
        try:
            with change_set(dry_run=True) as changes:
                response = show()
        except REFUSALS as refusal:
            request.refusal = refusal
            return show()
        if response.status_code != HTTPStatus.FOUND:
            return response  # the form itself is not valid, and says why
        request.checked = list(changes.warnings)
        return show()

    def validate_early(self, request: HttpRequest, object_id: str | None) -> None:
        obj = None if object_id is None else self.get_object(request, unquote(object_id))
        if object_id is None:
            allowed = self.has_add_permission(request)
        else:
            allowed = obj is not None and self.has_change_permission(request, obj)
        if allowed:
            fields = flatten_fieldsets(self.get_fieldsets(request, obj))
            form_class = self.get_form(request, obj, change=obj is not None, fields=fields)
            form_class(request.POST, request.FILES, instance=obj).is_valid()

    def formfield_for_dbfield(self, db_field: models.Field, request: HttpRequest, **kwargs: Any) -> Any:
        """Related objects are chosen in a form, not managed: each has a page of its own, with its own reason."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        widget = getattr(field, "widget", None)
        if isinstance(widget, RelatedFieldWidgetWrapper):
            widget.can_add_related = widget.can_change_related = False
            widget.can_delete_related = widget.can_view_related = False
        return field

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> tuple[str, ...]:
        """What identifies an object is fixed once it is stored."""
        readonly = tuple(super().get_readonly_fields(request, obj))
        if obj is None:
            return readonly
        own = {field.name for field in self.opts.fields if field.editable}
        return (*readonly, *(name for name in self.model.fixed_fields if name in own and name not in readonly))

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        seen = request.POST.get("version", "")
        if seen.isdecimal() and len(seen) < 19 and int(seen) != obj.version:
            raise StaleVersion(f"{self.opts.verbose_name} {obj}", int(seen), obj.version)
        super().delete_model(request, obj)

    def history_of(self, obj: models.Model) -> models.QuerySet[ConfigurationAuditLog]:
        return ConfigurationAuditLog.objects.filter(entity_type=obj.entity_type, entity_id=obj.entity_id)
