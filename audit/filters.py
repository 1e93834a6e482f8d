"""How is a list of the admin narrowed to some days?"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.utils import parse_date_str


class DaysFilter(RangeDateFilter):
    """From one day to another, both included, in UTC. The theme's own filter compares moments without a time zone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = f"{self.title} (days, UTC)"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        first, last = self._read("from"), self._read("to")
        if first is not None:
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": first})
        if last is not None:
            queryset = queryset.filter(**{f"{self.parameter_name}__lt": last + timedelta(days=1)})
        return queryset

    def _read(self, end: str) -> datetime | None:
        written = self.used_parameters.get(f"{self.parameter_name}_{end}")
        if not written:
            return None
        day = parse_date_str(written)
        if day is None:
            raise IncorrectLookupParameters(f"{written!r} is not a date.")
        return datetime.combine(day, time.min, UTC)
