"""How does a review run that a person has started? In a worker's process, which takes it from the database."""

from __future__ import annotations

import logging

from django.core.exceptions import ValidationError
from django.utils import timezone
from django_tasks import task

from reviews.choices import SessionStatus
from reviews.discovery import RootError
from reviews.liveness import Pulse, close_lost_sessions, fail_session
from reviews.models import ReviewSession
from reviews.roots import resolve_root
from reviews.sessions import review

logger = logging.getLogger(__name__)


@task()
def run_review(session_id: int, codebase_name: str = "") -> None:
    """Run a queued review, unless it was cancelled meanwhile. What goes wrong stands in the session.

    `codebase_name` is empty where the folder gives the codebase its name.
    """
    close_lost_sessions(timezone.now())
    session = _take(session_id)
    if session is None:
        return
    try:
        with Pulse(session_id) as pulse:
            # Asked again: links may have been bent since the review was started.
            root = resolve_root(session.root)
            review(
                root,
                started_by=session.started_by,
                codebase_name=codebase_name,
                exclude=session.exclude,
                progress=pulse.progress,
                session=session,
                cancelled=pulse.cancelled,
            )
    except (RootError, ValidationError) as error:
        said = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        _fail(session_id, said)
    except Exception as error:
        logger.exception("review %s failed", session_id)
        _fail(session_id, f"{type(error).__name__}: {error}")
    except BaseException:
        _fail(session_id, "The worker was stopped.")
        raise


def _take(session_id: int) -> ReviewSession | None:
    """The session, now running; None if it is no longer there to be taken."""
    now = timezone.now()
    queued = ReviewSession.objects.filter(pk=session_id, status=SessionStatus.QUEUED)
    if not queued.update(status=SessionStatus.RUNNING, started_at=now, heartbeat_at=now):
        return None
    return ReviewSession.objects.get(pk=session_id)


def _fail(session_id: int, message: str) -> None:
    """Keep why there is no result. The review may have closed its session already, without a word."""
    unfinished = (SessionStatus.RUNNING, SessionStatus.FAILED)
    session = ReviewSession.objects.filter(pk=session_id, status__in=unfinished).first()
    if session is not None:
        fail_session(session, timezone.now(), message)
