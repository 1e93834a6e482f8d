"""How is a codebase reviewed with the configuration in force? The use case: load, discover, run, compare, store.

The configuration is frozen at one revision: an edit during the run changes nothing in it. The session says which.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone

from audit.metrics import count_plugin_failures, observe_review
from overrides.effective import Configuration
from plugins.contract import Finding, RuleSpec
from plugins.services import note_runs
from reviews.changes import Changes, find_changes
from reviews.choices import GONE, Scope
from reviews.codebases import MAX_NAME, Place, locate, show_path, was_reviewed
from reviews.copilot import write_prompts
from reviews.coverage import Coverage
from reviews.discovery import Discovery, discover
from reviews.engine import Result, run
from reviews.frozen import freeze, report_lost
from reviews.issues import Issue
from reviews.models import ReviewSession
from reviews.redaction import hide_secrets
from reviews.scopes import Scopes
from reviews.suppressions import NAME as DIRECTIVES
from reviews.suppressions import Policy
from reviews.tracking import Scene, track
from rules.models import AnalysisRule

logger = logging.getLogger(__name__)

CACHE = settings.HOME / "cache" / "reviews"
BEAT = 1.0
"""Seconds between two signs of life of a review that nobody else watches."""


@dataclass(frozen=True)
class Review:
    """A finished review: what was found, by which rules, and the stored session."""

    session: ReviewSession
    result: Result
    rules: tuple[RuleSpec, ...]
    root: Path
    started_at: datetime
    finished_at: datetime
    issues: list[Issue] = field(default_factory=list)
    """The findings that are stored, in the order of the result."""
    gone: Mapping[str, int] | None = None
    """How many findings of before are `fixed`, and how many lost their rule; None: there was no complete review."""


def review(
    path: Path,
    *,
    started_by: str,
    codebase_name: str = "",
    exclude: Sequence[str] = (),
    base_ref: str = "",
    jobs: int | None = None,
    use_cache: bool = True,
    progress: Callable[[int, int], None] | None = None,
    session: ReviewSession | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Review:
    """Review `path` and store the session with its issues. `session` is one to be filled; who made it watches over it.

    With `base_ref` only lines that changed since then are reviewed. Raises `discovery.RootError` if `path` cannot be
    read, `changes.ChangesError` if git cannot tell what changed. A review that breaks off leaves its session as failed,
    one that is `cancelled`, or interrupted, as cancelled; both without issues.
    """
    files = discover(path, exclude=exclude)
    changes = find_changes(files.root, base_ref) if base_ref else None
    frozen = freeze()
    configuration, plugin_configurations = frozen.configuration, frozen.settings.configurations
    place = locate(files.root, codebase_name)
    reviewed_before = was_reviewed(place.codebase)
    watch = _Watch(progress, cancelled)
    if session is None:
        session = ReviewSession(started_by=started_by, revision=configuration.revision)
        watch.session = session
    _begin(session, files, place, configuration, codebase_name=codebase_name, base_ref=base_ref)
    specs, scopes = configuration.specs_anywhere, Scopes(configuration.places, place.prefix)
    try:
        result = run(
            frozen.specs,
            files,
            plugin_configurations=plugin_configurations,
            progress=watch.progress,
            jobs=jobs,
            # Outcomes and their keys would bear traces of what is secret.
            cache=CACHE if use_cache and not frozen.secrets else None,
            cancelled=watch.is_cancelled,
            suppression_policy=_policy(plugin_configurations),
            wanted=changes.include if changes is not None else None,
            scopes=scopes,
        )
        report_lost(result, frozen)
        hide_secrets(result, frozen.secrets)
        if result.cancelled:
            _end(session, ReviewSession.Status.CANCELLED)
            return Review(session, result, specs, files.root, session.started_at, timezone.now())
        finished_at = timezone.now()
        with transaction.atomic():
            issues = track(
                session,
                result,
                specs,
                scene=_scene(files.root, place, result, specs, scopes, changes),
                now=finished_at,
            )
            _describe(session, result)
    except KeyboardInterrupt:
        _end(session, ReviewSession.Status.CANCELLED)
        raise
    except BaseException:
        _end(session, ReviewSession.Status.FAILED)
        raise
    observe_review(session.status, (finished_at - session.started_at).total_seconds())
    _note_runs(session, result)
    if not base_ref:
        _write_prompts(session, configuration)
    gone = {name: session.counts["by_state"][name] for name in GONE} if reviewed_before else None
    return Review(session, result, specs, files.root, session.started_at, finished_at, issues, gone)


def _policy(plugin_configurations: Mapping[str, Mapping[str, Any]]) -> Policy | None:
    """What suppressions must satisfy; None, so that none is honoured, while their plugin is disabled."""
    if DIRECTIVES not in plugin_configurations:
        return None
    return Policy.of(plugin_configurations[DIRECTIVES], AnalysisRule.objects.values_list("name", flat=True))


def _begin(
    session: ReviewSession,
    files: Discovery,
    place: Place,
    configuration: Configuration,
    *,
    codebase_name: str,
    base_ref: str,
) -> None:
    root = show_path(files.root)
    values = {
        "tracked_codebase": place.codebase,
        "codebase": (codebase_name or root.rpartition("/")[2] or "/")[:MAX_NAME],
        "root": root,
        "revision": configuration.revision,
        "status": ReviewSession.Status.RUNNING,
        "scope": Scope.CHANGES if base_ref else Scope.PART if place.is_part else Scope.FULL,
        "base_ref": base_ref[:250],
        "exclude": list(files.exclude),
        "rules_run": len(configuration.specs_anywhere),
    }
    for name, value in values.items():
        setattr(session, name, value)
    # The rest of a row that others know belongs to them.
    session.save(update_fields=None if session.pk is None else list(values))


def _scene(
    root: Path, place: Place, result: Result, rules: Sequence[RuleSpec], scopes: Scopes, changes: Changes | None
) -> Scene:
    """What was looked at, in paths of the codebase."""
    whole = changes is None and not place.is_part
    prefix = place.prefix
    coverage = Coverage(
        rules,
        root=place.folder,
        files={prefix + path for path in result.files} if prefix else result.files,
        failures=[each._replace(path=prefix + each.path) if each.path else each for each in result.failures],
        whole=whole,
        scopes=scopes,
    )
    keep: Callable[[Finding], bool] | None = None
    if changes is not None:

        def keep(finding: Finding) -> bool:
            return changes.touch(finding.path, finding.start_line, finding.end_line)

    return Scene(coverage, show_path(root), prefix, whole=whole, scopes=scopes, keep=keep)


def _describe(session: ReviewSession, result: Result) -> None:
    """Note on the session how it ran."""
    values = {
        "seconds": round(result.seconds, 3),
        "files_analyzed": result.files_analyzed,
        "files_skipped": dict(sorted(result.files_skipped.items())),
        "failures": [failure._asdict() for failure in result.failures],
        "plugin_runs": {
            name: {
                "seconds": round(tally.seconds, 3),
                "files": tally.files,
                "findings": tally.findings,
                "failures": tally.failures,
            }
            for name, tally in sorted(result.plugin_runs.items())
        },
    }
    for name, value in values.items():
        setattr(session, name, value)
    session.save(update_fields=list(values))


def _note_runs(session: ReviewSession, result: Result) -> None:
    for name, tally in result.plugin_runs.items():
        count_plugin_failures(name, tally.failures)
    try:
        note_runs(result.plugin_runs)
    except DatabaseError as error:
        # How the plugins did is worth knowing, and not worth losing a review for.
        logger.warning("the plugin runs of review %s are not kept: %s", session.pk, error)


def _write_prompts(session: ReviewSession, configuration: Configuration) -> None:
    """The tasks that the findings make. Of changed lines alone nobody makes any: they are still being written."""
    try:
        write_prompts(session, configuration)
    except DatabaseError as error:
        logger.warning("the prompts of review %s are not kept: %s", session.pk, error)


def _end(session: ReviewSession, status: str) -> None:
    session.status, session.finished_at = status, timezone.now()
    observe_review(status, (session.finished_at - session.started_at).total_seconds())
    # Who gave it up as lost meanwhile has said so.
    running = ReviewSession.objects.filter(pk=session.pk, status=ReviewSession.Status.RUNNING)
    running.update(status=status, finished_at=session.finished_at)


class _Watch:
    """Tells the caller how far the review is, and asks whether to stop; for a session of its own the row as well."""

    def __init__(self, progress: Callable[[int, int], None] | None, cancelled: Callable[[], bool] | None) -> None:
        self.session: ReviewSession | None = None
        self._progress = progress
        self._cancelled = cancelled
        self._files = (0, 0)
        self._beaten = float("-inf")
        self._stop = False

    def progress(self, done: int, total: int) -> None:
        """So many files of so many are done."""
        self._files = (done, total)
        if self._progress is not None:
            self._progress(done, total)
        self._beat(at_once=done == total)

    def is_cancelled(self) -> bool:
        """Whether somebody wants the review to stop."""
        self._beat()
        return self._stop or (self._cancelled is not None and self._cancelled())

    def _beat(self, *, at_once: bool = False) -> None:
        now = monotonic()
        if self.session is None or (now - self._beaten < BEAT and not at_once):
            return
        self._beaten = now
        done, total = self._files
        row = ReviewSession.objects.filter(pk=self.session.pk)
        try:
            row.update(files_done=done, files_total=total, heartbeat_at=timezone.now())
            self._stop = row.filter(cancel_requested=True).exists()
        except DatabaseError as error:
            # Busy; the next one tells. What the review finds is not lost by it.
            logger.warning("no sign of life of review %s: %s", self.session.pk, error)
