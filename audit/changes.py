"""How does the configuration change? In change sets: one lock, one transaction, one batch, all or nothing.

    with change_set(reason="tighten the rule"):
        rule.severity = Severity.HIGH
        rule.save()

The first statement of a change set locks the revision row, so changes happen one at a time and checks that look at
several rows cannot race; the last one stores how far it came. Inside another change set it joins that one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest
from django.utils import timezone

from audit import journal
from audit.documents import find_unstorable
from audit.errors import Busy, StateConflict
from audit.journal import Change
from audit.log import note_revision

SYSTEM = "system"
MAX_REASON = 2000  # characters


@dataclass
class Origin:
    """Who changes something, and from where. One for each request or command; its `batch` joins their journal rows.

    `user` is read late from the request, because an API token is checked after the middleware has run.
    """

    source: str = "system"  # admin, api, command, system
    user: Any = None
    request: HttpRequest | None = None
    reason: str = ""
    ip_address: str | None = None
    user_agent: str = ""
    batch: uuid.UUID = field(default_factory=uuid.uuid4)
    break_glass: str | None = None  # why the governance rules are to be passed over; None: they are not
    warnings: list[str] = field(default_factory=list)  # of all of its change sets

    def acting_user(self) -> Any:
        """The authenticated user, or None for the system itself."""
        user = self.user or getattr(self.request, "user", None)
        return user if user is not None and user.is_authenticated else None

    def actor(self) -> tuple[str, str, str]:
        """Kind, name and key of the actor as text, so that the record outlives the account."""
        user = self.acting_user()
        if user is not None:
            return "user", user.get_username(), str(user.pk)
        return ("anonymous", "anonymous", "") if self.request is not None else (SYSTEM, SYSTEM, "")


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


def current_origin() -> Origin:
    """The origin of the running request or command; outside of one, the system with a batch of its own."""
    return _origin.get() or Origin()


@contextmanager
def originating(origin: Origin) -> Iterator[Origin]:
    """Everything changed inside comes from `origin`."""
    token = _origin.set(origin)
    try:
        yield origin
    finally:
        _origin.reset(token)


@dataclass
class ChangeSet:
    """What has changed so far in the running transaction, and the numbers it will be journalled under."""

    origin: Origin
    started_at: datetime
    first_free: int
    last_hash: str
    reason: str = ""
    restoring: bool = False
    break_glass: str = ""
    warnings: list[str] = field(default_factory=list)
    _changes: list[tuple[Change, Callable[[], None]]] = field(default_factory=list)
    _journalled: list[Change] | None = None

    @property
    def changes(self) -> list[Change]:
        """The changes that still stand: those of a rolled-back savepoint are gone, like their rows."""
        if self._journalled is not None:  # the commit has dropped the markers
            return list(self._journalled)
        self._drop_undone()
        return [change for change, _ in self._changes]

    def next_revision(self) -> int:
        """The number that the next change will carry."""
        if self._journalled is not None:
            return self.first_free + len(self._journalled)
        self._drop_undone()
        return self.first_free + len(self._changes)

    def _drop_undone(self) -> None:
        """Forget the changes of savepoints that were rolled back: they are always the last ones."""
        hooks = connection.run_on_commit
        while self._changes:
            marker = self._changes[-1][1]
            if any(hook[1] is marker for hook in reversed(hooks)):
                return
            self._changes.pop()

    @property
    def revision(self) -> int:
        """The last revision of this change set, or the one before it when nothing has changed."""
        return self.next_revision() - 1

    def add(self, change: Change) -> None:
        """Take a change whose row and history row are written; its journal row follows at the end."""
        expected = self.next_revision()
        if change.revision != expected:
            raise RuntimeError(f"change {change.change_type} was numbered {change.revision}, expected {expected}")

        # Django drops the commit hooks of a savepoint that is rolled back: the hook marks whether the change stands.
        def marker() -> None:
            return None

        transaction.on_commit(marker)
        self._changes.append((change, marker))

    def warn(self, message: str) -> None:
        """Tell the user something without refusing the change; it is journalled with every row of the set."""
        if message not in self.warnings:
            self.warnings.append(message)


Completion = Callable[[ChangeSet], None]
Check = Callable[[ChangeSet], Sequence[ValidationError]]
_completions: list[Completion] = []
_checks: list[Check] = []


def register_completion(completion: Completion) -> None:
    """Run `completion` at the end of every change set that is not `restoring`: it may add what the changes imply."""
    if completion not in _completions:
        _completions.append(completion)


def register_check(check: Check) -> None:
    """Run `check` over all changes of every change set, last of all: what it returns refuses the whole set."""
    if check not in _checks:
        _checks.append(check)


def current_change_set() -> ChangeSet | None:
    """The change set open on this connection, or None."""
    return getattr(connection, "governance_change_set", None)


@contextmanager
def change_set(*, reason: str = "", restoring: bool = False, dry_run: bool = False) -> Iterator[ChangeSet]:
    """Open a change set, or join the one that is open on this connection.

    With `restoring` nothing is implied: the document is complete. With `dry_run` everything is done and checked, and
    then undone.

    Raises `Busy` if the lock cannot be had in time, and `ValidationError` if a check refuses; nothing is written then.
    """
    reason = clean_reason(reason)
    running = current_change_set()
    if running is not None:
        if dry_run:
            raise RuntimeError("A dry run cannot join a change set: what it does would stay.")
        running.reason = running.reason or reason
        yield running
        return
    with _locked_transaction() as (value, last_hash):
        origin = current_origin()
        opened = ChangeSet(
            origin=origin,
            started_at=timezone.now(),
            first_free=value + 1,
            last_hash=last_hash,
            reason=reason or clean_reason(origin.reason or origin.break_glass or ""),
            restoring=restoring,
            break_glass=clean_break_glass(origin),
        )
        connection.governance_change_set = opened
        try:
            yield opened
            _finish(opened)
            if dry_run:
                transaction.set_rollback(True)
        finally:
            connection.governance_change_set = None


@contextmanager
def _locked_transaction() -> Iterator[tuple[int, str]]:
    """A transaction whose first statement locks the revision row; gives its value and hash."""
    entered = False
    try:
        with transaction.atomic():
            locked = journal.lock()
            entered = True
            yield locked
    except OperationalError as error:
        if not entered and is_lock_timeout(error):
            raise Busy("Another change is being stored. Nothing was written; try again in a moment.") from error
        raise


def is_lock_timeout(error: OperationalError) -> bool:
    """Whether the database gave up waiting for a lock (PostgreSQL 55P03, SQLite's busy time-out)."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) == "55P03" or "database is locked" in str(error)


def _finish(opened: ChangeSet) -> None:
    if not opened.changes:
        return
    if not opened.restoring:
        for completion in _completions:
            completion(opened)
    problems = [problem for check in _checks for problem in check(opened)]
    if problems:
        kind = StateConflict if all(isinstance(problem, StateConflict) for problem in problems) else ValidationError
        raise kind(problems)
    if opened.break_glass:
        opened.warnings.insert(0, f"break-glass: {opened.break_glass}")
    opened.origin.warnings += [each for each in opened.warnings if each not in opened.origin.warnings]
    changes = opened.changes
    last_hash = journal.append(changes, opened)
    journal.store(changes[-1].revision, last_hash)
    opened._journalled = changes
    transaction.on_commit(lambda: note_revision(changes[-1].revision))


def clean_reason(reason: str, name: str = "change_reason") -> str:
    """`reason` without white space around it. Raises `ValidationError` at `name` if it cannot be stored."""
    reason = reason.strip()
    if len(reason) > MAX_REASON:
        raise ValidationError({name: f"A reason has {MAX_REASON} characters at most, this has {len(reason)}."})
    if (problem := find_unstorable(reason)) is not None:
        raise ValidationError({name: problem})
    return reason


def clean_break_glass(origin: Origin) -> str:
    """Why `origin` breaks the glass; "" if it does not. Raises `ValidationError` if it does and says nothing."""
    if origin.break_glass is None:
        return ""
    reason = clean_reason(origin.break_glass, "break_glass")
    if not reason:
        raise ValidationError({"break_glass": "Whoever breaks the glass says why: this is empty."})
    return reason
