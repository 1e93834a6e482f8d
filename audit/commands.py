"""How does a command act? As a named user or as the system, with a reason, and with errors that a shell can use.

Exit codes of all commands: 0 done, 1 refused (nothing was written), 2 wrong use, 3 no database or wrong settings.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audit.changes import Origin, originating
from audit.errors import Busy, NotPermitted, StaleVersion
from audit.permissions import SYSTEM_ACTOR
from audit.sources import InvalidDocument

NOT_SET_UP = 3


class GovernedCommand(BaseCommand):
    """A command that may change something: `--as USER`, `--reason TEXT`. Subclasses implement `act`."""

    suppressed_base_arguments = frozenset(
        {"--settings", "--pythonpath", "--no-color", "--force-color", "--skip-checks", "--version"}
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--as", dest="acting_user", metavar="USER", help="act with the rights of this user")
        parser.add_argument("--reason", default="", metavar="TEXT", help="why; it stands in the journal")
        parser.add_argument(
            "--break-glass",
            metavar="REASON",
            help="in an emergency, pass over governance rules; the journal marks it, and approvers are told",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = self._find_user(options["acting_user"])
            agent = f"manage.py {self._name()}"
            origin = Origin(
                source="command",
                user=user,
                reason=options["reason"],
                user_agent=agent,
                break_glass=options["break_glass"],
            )
            with originating(origin):
                self.act(user if user is not None else SYSTEM_ACTOR, **options)
            self.tell_warnings(origin.warnings)
        except InvalidDocument as error:
            lines = "\n".join(f"  {line}" for line in error.lines())
            raise CommandError(f"Refused, nothing was written:\n{lines}", returncode=1) from error
        except ValidationError as error:
            raise CommandError(f"Refused, nothing was written: {' '.join(error.messages)}", returncode=1) from error
        except (NotPermitted, StaleVersion, Busy) as error:
            raise CommandError(f"Refused, nothing was written: {error}", returncode=1) from error
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be used: {str(error).strip()}. `make run` sets it up; DATABASE_URL and "
                "GOVERNANCE_HOME say which one it is.",
                returncode=NOT_SET_UP,
            ) from error

    def tell_warnings(self, warnings: Sequence[str]) -> None:
        """Say what governance warned of; it stands in the journal as well."""
        for warning in warnings:
            self.tell(f"Warning: {warning}")

    def act(self, user: Any, **options: Any) -> None:
        """Do it as `user`: an account, or the system."""
        raise NotImplementedError

    def _name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _find_user(self, username: str | None) -> Any:
        if username is None:
            return None
        user = get_user_model()._default_manager.filter(username=username, is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {username!r}.", returncode=2)
        return user

    def tell(self, message: str) -> None:
        """Say something to the person at the terminal; what a pipe reads goes to `self.stdout`."""
        print(message, file=sys.stderr)


@contextmanager
def show_rows(verb: str) -> Iterator[Callable[[int, int], None]]:
    """A function that draws how many rows of how many are done, on a terminal; elsewhere it draws nothing."""
    console = Console(stderr=True)
    columns = (TextColumn(verb), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
