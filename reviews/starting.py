"""How does a person start a review from admin or API, and stop it? It is queued, and a worker runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from audit.changes import SYSTEM
from audit.documents import find_unstorable
from audit.errors import FieldError, StateConflict
from audit.journal import current_revision
from audit.permissions import SYSTEM_ACTOR, require
from reviews.choices import UNFINISHED, SessionStatus
from reviews.discovery import RootError, discover
from reviews.liveness import close_lost_sessions
from reviews.models import ReviewSession
from reviews.roots import resolve_root
from reviews.tasks import run_review

MAX_NAME = 200  # characters
MAX_EXCLUDED = 200  # lines
MAX_LINE = 500  # characters


def start_review(*, root: str | Path, user: Any, codebase_name: str = "", exclude: Sequence[str] = ()) -> ReviewSession:
    """Queue a review of the folder `root`, which must lie at or below an allowed root.

    Raises `NotPermitted`; `ValidationError` at `root`, `codebase` or `exclude`; `StateConflict` if the same folder is
    being reviewed already.
    """
    require(user, "run", ReviewSession)
    folder = resolve_root(os.fspath(root))
    try:
        discover(folder)
    except RootError as error:
        raise ValidationError({"root": str(error)}) from error
    name, lines = _clean_name(codebase_name), _clean_lines(exclude)
    close_lost_sessions(timezone.now())
    with transaction.atomic():
        other = ReviewSession.objects.filter(root=str(folder), status__in=UNFINISHED).first()
        if other is not None:
            raise StateConflict(f"{other.get_status_display()} already: {other}. Wait for it, or cancel it.")
        session = ReviewSession.objects.create(
            codebase=name or folder.name[:MAX_NAME] or "/",
            root=str(folder),
            revision=current_revision(),
            status=SessionStatus.QUEUED,
            exclude=lines,
            started_by=SYSTEM if user is SYSTEM_ACTOR else user.get_username(),
        )
        run_review.enqueue(session.pk, name)
    return session


def cancel_review(session: ReviewSession, user: Any) -> ReviewSession:
    """Stop a review: at once if nobody has taken it, else within a second or so. Returns the session as it is then.

    Raises `NotPermitted`, and `StateConflict` if it has ended.
    """
    require(user, "run", ReviewSession)
    rows = ReviewSession.objects.filter(pk=session.pk)
    queued = rows.filter(status=SessionStatus.QUEUED)
    if not queued.update(status=SessionStatus.CANCELLED, finished_at=timezone.now(), cancel_requested=True):
        rows.filter(status=SessionStatus.RUNNING).update(cancel_requested=True)
    current = rows.get()
    if not current.cancel_requested:
        raise StateConflict(f"{current} has ended: it is {current.get_status_display().lower()}.".capitalize())
    return current


def require_ended(session: ReviewSession) -> None:
    """Raise `StateConflict` while somebody may still write to the session."""
    if session.status in UNFINISHED:
        status = session.get_status_display().lower()
        raise StateConflict(f"{session} is {status}: cancel it before you delete it.".capitalize())


def _clean_name(name: str) -> str:
    name = name.strip()
    if len(name) > MAX_NAME:
        raise ValidationError({"codebase": f"A name has {MAX_NAME} characters at most."})
    if (reason := find_unstorable(name)) is not None or len(name.splitlines()) > 1:
        raise ValidationError({"codebase": reason or "A name is one line of text."})
    return name


def _clean_lines(lines: Sequence[str]) -> list[str]:
    if len(lines) > MAX_EXCLUDED:
        raise ValidationError({"exclude": f"At most {MAX_EXCLUDED} lines."})
    for index, line in enumerate(lines):
        reason = find_unstorable(line)
        if reason is None and (len(line) > MAX_LINE or "\n" in line or "\r" in line):
            reason = f"One line each, of {MAX_LINE} characters at most."
        if reason is not None:
            raise ValidationError({"exclude": FieldError(reason, pointer=str(index))})
    return [line for line in lines if line.strip()]
