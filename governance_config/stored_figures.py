"""Which figures does the database hold? Read when they are asked for, so that every process and host tells the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.db.models import Count, Min
from prometheus_client.core import GaugeMetricFamily

from audit.journal import current_revision
from audit.metrics import relay_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR
from overrides.backlog import SOON, read_backlog
from plugins.models import PluginHealth
from reviews.choices import SessionStatus
from reviews.models import ReviewSession


class StoredFigures:
    """The figures as of `now`."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def collect(self) -> Iterator[Any]:
        """Prometheus's metric families."""
        yield from self._journal()
        yield from self._overrides()
        yield from self._reviews()
        yield family(
            "governance_plugins",
            "Plugins by how they were when they were last looked at.",
            "health",
            PluginHealth.objects.order_by("status").values_list("status").annotate(Count("pk")),
        )

    def _journal(self) -> Iterator[Any]:
        revision = current_revision()
        yield GaugeMetricFamily("governance_revision", "Last revision of the configuration.", revision)
        seen = relay_revision()
        if seen is not None:
            lag = max(0, revision - seen)
            yield GaugeMetricFamily("governance_revision_lag", "Changes that this process's relay has not seen.", lag)
        changed = ConfigurationAuditLog.objects.filter(revision=revision).values_list("created_at", flat=True).first()
        if changed is not None:
            yield GaugeMetricFamily(
                "governance_last_change_timestamp_seconds", "When it was changed last.", changed.timestamp()
            )

    def _overrides(self) -> Iterator[Any]:
        backlog = read_backlog(SYSTEM_ACTOR, self._now)
        age = (self._now - backlog.oldest).total_seconds() if backlog.oldest else 0
        ending = f"Overrides in force that end within {SOON.days} days."
        yield GaugeMetricFamily("governance_approvals_waiting", "Overrides that wait for approval.", backlog.waiting)
        yield GaugeMetricFamily(
            "governance_approvals_oldest_seconds", "Age of the one that waits longest; 0 if none does.", max(0, age)
        )
        yield GaugeMetricFamily("governance_overrides_active", "Overrides in force.", backlog.in_force)
        yield GaugeMetricFamily("governance_overrides_expiring", ending, backlog.expiring_soon)
        yield GaugeMetricFamily(
            "governance_overrides_to_review", "Put in force in an emergency, not confirmed yet.", backlog.to_review
        )

    def _reviews(self) -> Iterator[Any]:
        sessions = ReviewSession.objects.order_by("status")
        yield family(
            "governance_reviews_stored",
            "Stored reviews by status, those of commands included.",
            "status",
            sessions.values_list("status").annotate(Count("pk")),
        )
        oldest = sessions.filter(status=SessionStatus.QUEUED).aggregate(oldest=Min("started_at"))["oldest"]
        age = (self._now - oldest).total_seconds() if oldest else 0
        yield GaugeMetricFamily(
            "governance_reviews_oldest_queued_seconds",
            "Age of the review that waits longest for a worker; 0 if none does.",
            max(0, age),
        )


def family(name: str, said: str, label: str, rows: Iterable[tuple[str, int]]) -> GaugeMetricFamily:
    """A gauge with one value for each value of `label`."""
    gauge = GaugeMetricFamily(name, said, labels=[label])
    for value, number in rows:
        gauge.add_metric([value], number)
    return gauge
