"""What has changed, as a list to read? The journal in the admin: filtered, searched, as differences, read only."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db import connection, models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import BooleanRadioFilter, DropdownFilter

from audit.badges import draw_chip
from audit.filters import DaysFilter
from audit.governed import GovernedModel
from audit.governed_admin import ReadOnlyAdmin
from audit.models import ConfigurationAuditLog
from audit.permissions import may
from audit.rollback_admin import RollbackPages
from audit.timeline import Entry

COUNTED = 10_000  # rows; beyond them a page says "more than", since counting a million takes longer than reading fifty
CHOICES = 200  # values offered by a filter


class CappedPaginator(Paginator):
    """Counts up to `COUNTED` rows and no further; older rows are reached by the filters."""

    template_name = "admin/governed/capped_pagination.html"

    @cached_property
    def count(self) -> int:
        return self.object_list[:COUNTED].count()

    def page(self, number: Any) -> Page:
        """A page; where nothing was counted, the rows are not searched once more."""
        if not self.count:
            self.object_list = self.object_list.none()
        return super().page(number)

    @property
    def is_capped(self) -> bool:
        """Whether there may be more than is counted."""
        return self.count >= COUNTED


def distinct_values(column: str) -> list[str]:
    """The different values of an indexed column of the journal, by one jump in the index for each of them."""
    table, name = ConfigurationAuditLog._meta.db_table, connection.ops.quote_name(column)
    query = (
        f"WITH RECURSIVE found AS (SELECT MIN({name}) AS value FROM {table} UNION ALL "  # noqa: S608, names of ours
        f"SELECT (SELECT MIN({name}) FROM {table} WHERE {name} > found.value) FROM found WHERE value IS NOT NULL) "
        f"SELECT value FROM found WHERE value IS NOT NULL LIMIT {CHOICES}"
    )
    with connection.cursor() as cursor:
        cursor.execute(query)
        return [row[0] for row in cursor.fetchall()]


class ColumnFilter(DropdownFilter):
    """One of the values that stand in a column."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(value, value.replace("_", " ")) for value in distinct_values(self.parameter_name)]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet) -> models.QuerySet:
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() else queryset


class ChangeTypeFilter(ColumnFilter):
    title = "event"
    parameter_name = "change_type"


class EntityTypeFilter(ColumnFilter):
    title = "kind of object"
    parameter_name = "entity_type"


class WhoFilter(ColumnFilter):
    title = "person"
    parameter_name = "changed_by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(value, value) for value in distinct_values("changed_by")]


class SourceFilter(ColumnFilter):
    title = "source"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(value, value) for value in ("admin", "api", "command", "system")]


@admin.register(ConfigurationAuditLog)
class JournalAdmin(RollbackPages, ReadOnlyAdmin):
    """The journal: nobody writes here, not even a superuser."""

    list_display = ("number", "when", "changed_by", "door", "what", "thing", "why")
    list_display_links = ("number", "what")
    list_filter = (
        ChangeTypeFilter,
        EntityTypeFilter,
        WhoFilter,
        SourceFilter,
        ("break_glass", BooleanRadioFilter),
        ("created_at", DaysFilter),
    )
    search_fields = ("entity_name", "entity_id", "change_reason")
    search_help_text = "A revision, a name, or words of a reason"
    sortable_by = ()
    ordering = ("-revision",)
    actions = None
    paginator = CappedPaginator

    def get_queryset(self, request: HttpRequest) -> models.QuerySet:
        return super().get_queryset(request).defer("old_config", "new_config", "user_agent")

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet, search_term: str
    ) -> tuple[models.QuerySet, bool]:
        term = search_term.strip()
        if term.isdecimal() and len(term) < 19:
            return queryset.filter(models.Q(revision=int(term)) | models.Q(entity_id=term)), False
        return super().get_search_results(request, queryset, search_term)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """One change with its differences."""
        if not self.has_view_permission(request) or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        key = unquote(object_id)
        row = ConfigurationAuditLog.objects.filter(pk=int(key)).first() if key.isdecimal() and len(key) < 19 else None
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Revision {row.revision}",
            "subtitle": None,
            "opts": self.opts,
            "entry": Entry(row),
            "object_url": find_page(request.user, row),
            "batch_size": ConfigurationAuditLog.objects.filter(batch=row.batch)[:COUNTED].count(),
            "may_read_journal": True,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/governed/change.html", context)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """A change has no history of its own: its page says everything."""
        return self.change_view(request, object_id)

    @admin.display(description="Revision")
    def number(self, row: ConfigurationAuditLog) -> int:
        return row.revision

    @admin.display(description="When (UTC)")
    def when(self, row: ConfigurationAuditLog) -> str:
        return format_html(
            '<time class="nowrap" datetime="{}">{}</time>',
            row.created_at.isoformat(),
            f"{row.created_at:%Y-%m-%d %H:%M:%S}",
        )

    @admin.display(description="From")
    def door(self, row: ConfigurationAuditLog) -> str:
        return row.source

    @admin.display(description="What")
    def what(self, row: ConfigurationAuditLog) -> str:
        kind = row.change_type.rsplit("_", 1)[-1]
        return draw_chip(row.change_type.replace("_", " "), kind)

    @admin.display(description="Object")
    def thing(self, row: ConfigurationAuditLog) -> str:
        return format_html(
            '<span class="strong">{}</span> <span class="quiet">{}</span>',
            row.entity_name or row.entity_id,
            row.entity_type.replace("_", " "),
        )

    @admin.display(description="Reason")
    def why(self, row: ConfigurationAuditLog) -> str:
        text = row.change_reason or ""
        return text if len(text) <= 90 else f"{text[:88]}…"


def find_object(row: ConfigurationAuditLog) -> models.Model | None:
    """What a journal row tells of, if it still exists."""
    for model in admin.site._registry:
        if getattr(model, "entity_type", model._meta.model_name) == row.entity_type:
            named = issubclass(model, GovernedModel) and model.entity_id is not GovernedModel.entity_id
            if named or row.entity_id.isdigit():
                return model._base_manager.filter(**{"name" if named else "pk": row.entity_id}).first()
    return None


def find_page(user: Any, row: ConfigurationAuditLog) -> str:
    """Address of the object that a journal row tells of; "" if it has no page, or none that `user` may see."""
    found = find_object(row)
    if found is None or not may(user, "view", found):
        return ""
    try:
        return reverse(f"admin:{found._meta.app_label}_{found._meta.model_name}_change", args=[quote(found.pk)])
    except NoReverseMatch:
        return ""
