"""How are many objects changed at once in the admin? A confirmation page that asks why, then one change set.

All or nothing: what refuses one object refuses all, and the page says which and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import model_ngettext
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from audit.errors import InvalidEntries, NotPermitted
from audit.forms import BulkForm, list_refusals
from audit.governed import GovernedModel, save_all
from audit.permissions import permitted

NAMED = 20  # objects that the confirmation page and a refusal list by name


@dataclass(frozen=True)
class BulkChange:
    """A bulk action: `change` sets the fields of one object from the cleaned form; None deletes the objects."""

    title: str  # an order such as "Enable"
    done: str  # such as "enabled"
    right: str = "change"
    change: Callable[[Any, Mapping[str, Any]], None] | None = None
    form: type[BulkForm] = BulkForm
    button: str = ""  # what the confirming button says; by default the title


DELETE = BulkChange("Delete", "deleted", right="delete")


class BulkAdmin:
    """Mixin of an admin with bulk actions: `bulk_changes` maps the name of an action to what it does."""

    bulk_changes: Mapping[str, BulkChange] = {}
    bulk_confirmation_template = "admin/governed/bulk_confirmation.html"

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = {name: entry for name, entry in super().get_actions(request).items() if name != "delete_selected"}
        for name, bulk in {**self.bulk_changes, "delete_selected": DELETE}.items():
            if self.offers(request, bulk):
                actions[name] = (_run(name, bulk), name, f"{bulk.title} selected {self.opts.verbose_name_plural}…")
        return actions

    def offers(self, request: HttpRequest, bulk: BulkChange) -> bool:
        """Whether the user may do this to any object."""
        if bulk.right == "delete":
            return self.has_delete_permission(request)
        return self._may(request, bulk.right, None)

    def change_many(self, request: HttpRequest, queryset: models.QuerySet, name: str, bulk: BulkChange) -> HttpResponse:
        """Ask for a reason, or do it if the request has one."""
        if not request.POST.get("post"):
            return self._confirm(request, queryset, name, bulk, bulk.form())
        form = bulk.form(request.POST)
        if not form.is_valid():
            return self._confirm(request, queryset, name, bulk, form)
        if bulk.change is not None:
            _validate_early(queryset, bulk, form.cleaned_data)

        def act() -> HttpResponse:
            count = self._apply(request, queryset, bulk, form.cleaned_data)
            if count:
                said = f"{count} {model_ngettext(self.opts, count)} {bulk.done}."
                self.message_user(request, said, messages.SUCCESS)
            else:
                self.message_user(request, "They are stored so already: there was nothing to change.", messages.INFO)
            return HttpResponseRedirect(request.get_full_path())

        # The form made anew asks more of whoever was refused by governance rules and may pass over them.
        return self.run(request, act, lambda: self._confirm(request, queryset, name, bulk, bulk.form(request.POST)))

    def _apply(
        self, request: HttpRequest, queryset: models.QuerySet, bulk: BulkChange, cleaned: Mapping[str, Any]
    ) -> int:
        """Under the lock: read the objects, ask for the right on each, change them. Number of those that differed."""
        objects = list(queryset.all())
        expected = request.POST.get("expected", "")
        if expected.isdecimal() and len(expected) < 19 and int(expected) != len(objects):
            raise ValidationError(
                f"You were asked about {expected}, but the selection has {len(objects)} now. Select again."
            )
        allowed = set(permitted(request.user, bulk.right, queryset.all()).values_list("pk", flat=True))
        refused = [str(item) for item in objects if item.pk not in allowed]
        if refused:
            raise NotPermitted(f"You may not {bulk.title.lower()} {_list_names(refused)}.")
        if bulk.change is None:
            queryset.model.objects.filter(pk__in=[item.pk for item in objects]).delete()
            return len(objects)
        for item in objects:
            bulk.change(item, cleaned)
        try:
            return len(save_all(objects))
        except InvalidEntries as error:
            raise _name_entries(objects, error) from error

    def _confirm(
        self, request: HttpRequest, queryset: models.QuerySet, name: str, bulk: BulkChange, form: BulkForm
    ) -> TemplateResponse:
        across = request.POST.get("select_across") == "1"
        count = queryset.count()
        named = list(queryset[:NAMED])
        refusal = getattr(request, "refusal", None)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{bulk.title} {count} {model_ngettext(self.opts, count)}",
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            "action": name,
            "bulk": bulk,
            "button": bulk.button or bulk.title,
            "is_delete": bulk.change is None,
            "form": form,
            "count": count,
            "named": named,
            "more": count - len(named),
            "across": across,
            # With "select all" the filters of the list select again; Django wants one key nonetheless.
            "keys": [named[0].pk] if across and named else request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
            "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "refusals": list_refusals(refusal) if refusal is not None else [],
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.bulk_confirmation_template, context)


def _run(name: str, bulk: BulkChange) -> Callable[[Any, HttpRequest, models.QuerySet], HttpResponse]:
    def run(model_admin: Any, request: HttpRequest, queryset: models.QuerySet) -> HttpResponse:
        return model_admin.change_many(request, queryset, name, bulk)

    return run


def _validate_early(queryset: models.QuerySet, bulk: BulkChange, cleaned: Mapping[str, Any]) -> None:
    """Before the lock: what is costly to judge is kept by content and answers at once under it."""
    relations = {field.name for field in queryset.model._meta.concrete_fields if field.is_relation}
    for item in queryset.all():
        bulk.change(item, cleaned)
        try:
            item.full_clean(exclude=relations, validate_unique=False, validate_constraints=False)
        except ValidationError:
            continue  # said under the lock, for all of them


def _name_entries(objects: list[GovernedModel], error: InvalidEntries) -> ValidationError:
    sentences = [
        f"{objects[index]}: {' '.join(list_refusals(invalid))}" for index, invalid in sorted(error.errors.items())
    ]
    if len(sentences) > NAMED:
        sentences = [*sentences[:NAMED], f"… and {len(sentences) - NAMED} more."]
    return ValidationError([ValidationError(sentence) for sentence in sentences])


def _list_names(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
