"""Is anybody at work on a review? A running one gives a sign of life; one that gives none any more has failed.

The moment is a parameter: whoever looks says when.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from threading import Event, Thread
from types import TracebackType

from django.db import DatabaseError, connection
from django.db.models import Q
from django.utils import timezone
from django_tasks import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from reviews.choices import SessionStatus
from reviews.models import ReviewSession

LOST_AFTER = timedelta(seconds=60)
PATIENCE = timedelta(seconds=10)
"""How long a review may wait before the page says that nobody takes it."""
BEAT = 0.5
"""Seconds between two signs of life; a request to cancel is seen as soon."""
WORKER = "worker"
"""Stands where a plugin would in a failure that is none of a plugin."""
TASK = "reviews.tasks.run_review"
"""What a worker is given, with the key of the session first."""
HOW_TO_START = "manage.py db_worker"

logger = logging.getLogger(__name__)


def close_lost_sessions(now: datetime) -> int:
    """Turn running reviews without a sign of life, and queued ones that no worker will take any more, into failed ones;
    how many there were.

    A running session that never gave a sign is left alone: it has only just begun in the process of a command.
    """
    silent = Q(status=SessionStatus.RUNNING, heartbeat_at__lt=now - LOST_AFTER)
    sessions = list(
        ReviewSession.objects.filter(silent | Q(status=SessionStatus.QUEUED, started_at__lt=now - LOST_AFTER))
    )
    queued = [session for session in sessions if session.status == SessionStatus.QUEUED]
    expected = _list_expected(now) if queued else set()
    closed = 0
    for session in sessions:
        if session.status == SessionStatus.RUNNING:
            since = now - session.heartbeat_at
            closed += fail_session(
                session, now, f"The worker was lost: no sign of life for {since.total_seconds():.0f} s."
            )
        elif session.pk not in expected:
            closed += fail_session(session, now, "The worker was lost before it began.")
    return closed


def _list_expected(now: datetime) -> set[int]:
    """Keys of the sessions whose task waits for a worker, or was taken by one a moment ago."""
    waits, taken = Q(status=TaskResultStatus.READY), Q(status=TaskResultStatus.RUNNING)
    tasks = DBTaskResult.objects.filter(waits | taken & Q(started_at__gte=now - LOST_AFTER), task_path=TASK)
    return {given["args"][0] for given in tasks.values_list("args_kwargs", flat=True)}


def fail_session(session: ReviewSession, now: datetime, message: str) -> int:
    """Turn `session` into a failed one that says why, unless its status has changed since it was read; 1 or 0."""
    failure = {"plugin": WORKER, "rule": None, "path": None, "message": message}
    unchanged = ReviewSession.objects.filter(pk=session.pk, status=session.status)
    return unchanged.update(status=SessionStatus.FAILED, finished_at=now, failures=[*session.failures, failure])


def explain_wait(sessions: Iterable[ReviewSession], now: datetime) -> dict[int, str]:
    """For each queued session that has waited too long, why: by key. One query at most."""
    queued = [session for session in sessions if session.status == SessionStatus.QUEUED]
    waiting = [session for session in queued if now - session.started_at > PATIENCE]
    if not waiting:
        return {}
    alive = ReviewSession.objects.filter(status=SessionStatus.RUNNING, heartbeat_at__gte=now - LOST_AFTER)
    busy = alive.order_by("id").first()
    why = f"Waits for {busy}." if busy else f"No worker is running: `{HOW_TO_START}` starts one."
    return {session.pk: why for session in waiting}


class Pulse(AbstractContextManager["Pulse"]):
    """Signs of life of one session, from a thread of its own, so that a slow analyzer does not look like a lost worker.

    `progress` and `cancelled` are what the review is given; neither waits for the database.
    """

    def __init__(self, session_id: int, interval: float = BEAT) -> None:
        self._session_id, self._interval = session_id, interval
        self._files = (0, 0)
        self._stop, self._cancel = Event(), Event()
        self._thread = Thread(target=self._run, name=f"pulse-of-review-{session_id}", daemon=True)

    def progress(self, done: int, total: int) -> None:
        """How many files of how many are done."""
        self._files = (done, total)

    def cancelled(self) -> bool:
        """Whether somebody wants the review to stop."""
        return self._cancel.is_set()

    def beat(self, now: datetime) -> None:
        """Write the sign of life and the progress; read whether to stop."""
        done, total = self._files
        running = ReviewSession.objects.filter(pk=self._session_id, status=SessionStatus.RUNNING)
        running.update(heartbeat_at=now, files_done=done, files_total=total)
        # A session that somebody has closed or deleted meanwhile needs no result either.
        wanted = running.filter(cancel_requested=False).exists()
        if not wanted:
            self._cancel.set()

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        # Whoever stored the result held what he had read at the beginning.
        done, total = self._files
        ReviewSession.objects.filter(pk=self._session_id).update(files_done=done, files_total=total)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._interval):
                try:
                    self.beat(timezone.now())
                except DatabaseError as error:
                    # Busy or away; the next beat tries again, and a minute without any is a lost worker.
                    logger.warning("no sign of life of review %s: %s", self._session_id, error)
        finally:
            connection.close()
