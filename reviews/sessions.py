"""How is a codebase reviewed with the configuration in force? The use case: load, discover, run, store.

The configuration is frozen at one revision: an edit during the run changes nothing in it. The session says which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from overrides.effective import Configuration, load_configuration
from plugins.contract import RuleSpec
from plugins.services import configurations
from reviews import report
from reviews.discovery import discover
from reviews.engine import Result, route, run
from reviews.models import DiscoveredIssue, ReviewSession

ISSUES_A_BATCH = 1000


@dataclass(frozen=True)
class Review:
    """A finished review: what was found, by which rules, and the stored session."""

    session: ReviewSession
    result: Result
    rules: tuple[RuleSpec, ...]
    root: Path
    started_at: datetime
    finished_at: datetime


def review(
    path: Path,
    *,
    started_by: str,
    exclude: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Review:
    """Review `path` and store the session with its issues. Raises `discovery.RootError` if it cannot be read.

    A review that breaks off leaves its session as failed, without issues.
    """
    files = discover(path, exclude=exclude)
    configuration, plugin_configurations = _freeze()
    session = ReviewSession.objects.create(
        codebase=(show_path(files.root).rpartition("/")[2] or "/")[:200],
        root=show_path(files.root),
        revision=configuration.revision,
        started_by=started_by,
        rules_run=len(configuration.specs),
    )
    try:
        result = run(configuration.specs, files, plugin_configurations=plugin_configurations, progress=progress)
        finished_at = timezone.now()
        _store(session, result, configuration.specs, finished_at)
    except BaseException:
        ReviewSession.objects.filter(pk=session.pk).update(
            status=ReviewSession.Status.FAILED, finished_at=timezone.now()
        )
        raise
    return Review(session, result, configuration.specs, files.root, session.started_at, finished_at)


def show_path(path: Path) -> str:
    """`path` as text that every database stores: what is not UTF-8 in a name is replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def _freeze() -> tuple[Configuration, Mapping[str, Mapping[str, Any]]]:
    """The configuration in force, and the settings of its plugins as of the same revision.

    Settings come from the rows, because those in the configuration are masked.
    """
    while True:
        configuration = load_configuration()
        plugin_configurations = configurations()
        if load_configuration().etag == configuration.etag:
            return configuration, plugin_configurations


def _store(session: ReviewSession, result: Result, rules: Sequence[RuleSpec], finished_at: datetime) -> None:
    by_name = {rule.name: rule for rule in rules}
    counts = report.count(result, rules)
    session.status = ReviewSession.Status.COMPLETED
    session.finished_at = finished_at
    session.seconds = round(result.seconds, 3)
    session.files_analyzed = result.files_analyzed
    session.files_skipped = dict(sorted(result.files_skipped.items()))
    session.counts = {name: counts[name] for name in ("by_severity", "by_persona")}
    session.failures = [failure._asdict() for failure in result.failures]
    issues = (
        DiscoveredIssue(
            session=session,
            rule_name=finding.rule,
            rule_type=by_name[finding.rule].rule_type,
            severity=by_name[finding.rule].severity,
            personas=list(route(by_name[finding.rule])),
            path=finding.path,
            start_line=finding.start_line,
            start_column=finding.start_column,
            end_line=finding.end_line,
            end_column=finding.end_column,
            message=finding.message,
            snippet=finding.snippet,
            created_at=finished_at,
        )
        for finding in result.findings
    )
    with transaction.atomic():
        session.save()
        DiscoveredIssue.objects.bulk_create(issues, batch_size=ISSUES_A_BATCH)
