"""Which codebase is it that is reviewed, how much of it, and with which earlier review can it be compared?

A codebase is known by the name that it is given, or else by its folder. Who reviews a folder inside of it under the
same name reviews a part of it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from django.db.models import QuerySet

from reviews.choices import Scope, SessionStatus
from reviews.models import Codebase, DiscoveredIssue, ReviewSession

MAX_NAME = 200  # characters
_LISTED = 5


class NoBaseline(Exception):
    """There is no such review to compare with."""


@dataclass(frozen=True)
class Place:
    """A codebase, and where in it the reviewed folder lies."""

    codebase: Codebase
    folder: Path
    """Of the codebase: its paths are relative to it."""
    prefix: str = ""
    """Leads from there to the reviewed folder: with a slash at its end, or empty."""
    is_part: bool = False
    """Whether only a part of the codebase is reviewed."""


@dataclass(frozen=True)
class Baseline:
    """What an earlier review found: the keys of the findings that no comment suppressed."""

    session_id: int
    keys: frozenset[str]


def locate(root: Path, name: str = "") -> Place:
    """The codebase of a resolved `root`, a folder or a file. One that was never reviewed is made."""
    shown = show_path(root)
    codebase, _ = Codebase.objects.get_or_create(
        key=make_key(root, name), defaults={"name": (name or shown.rpartition("/")[2] or "/")[:MAX_NAME], "root": shown}
    )
    folder = root if root.is_dir() else root.parent
    whole = Path(codebase.root)
    if name and whole != root and whole in root.parents and whole.is_dir():
        inside = show_path(folder.relative_to(whole))
        return Place(codebase, whole, "" if inside == "." else f"{inside}/", is_part=True)
    return Place(codebase, folder)


def make_key(root: Path, name: str = "") -> str:
    """The key of the codebase that is called `name`, or that lies in the resolved folder `root`."""
    identity = b"name\0" + name.encode("utf-8", "surrogateescape") if name else b"root\0" + os.fsencode(root)
    return hashlib.sha256(identity).hexdigest()


def find_baseline(key: str, session_id: int | None = None) -> Baseline | None:
    """What to compare a review of a codebase with: the given review, or the last complete one; None if there is none.

    Raises `NoBaseline` if the given one is not a complete review of this codebase.
    """
    sessions = _complete_reviews(key)
    if session_id is None:
        session_id = sessions.values_list("pk", flat=True).first()
        if session_id is None:
            return None
    elif not sessions.filter(pk=session_id).exists():
        others = ", ".join(map(str, sessions.values_list("pk", flat=True)[:_LISTED])) or "there is none yet"
        raise NoBaseline(f"Review {session_id} is no complete review of this codebase. The last ones: {others}.")
    issues = DiscoveredIssue.objects.filter(session=session_id, suppressed=False, finding__isnull=False)
    return Baseline(session_id, frozenset(issues.values_list("finding__key", flat=True)))


def was_reviewed(codebase: Codebase) -> bool:
    """Whether there is a complete review of the codebase."""
    return _complete_reviews(codebase.key).exists()


def show_path(path: Path) -> str:
    """`path` as text that every database stores: what is not UTF-8 in a name is replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def _complete_reviews(key: str) -> QuerySet[ReviewSession]:
    sessions = ReviewSession.objects.filter(tracked_codebase__key=key, status=SessionStatus.COMPLETED, scope=Scope.FULL)
    return sessions.order_by("-pk")
