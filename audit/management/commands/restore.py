"""Replace everything that is stored by what a backup holds."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from audit.backup import BackupError, has_configuration, restore_backup
from audit.commands import GovernedCommand, show_rows
from audit.journal import current_revision
from audit.permissions import SYSTEM_ACTOR

REFUSED, WRONG_USE = 1, 2


class Command(GovernedCommand):
    help = (
        "Replace everything that is stored by what FILE, written by `backup`, holds: in one transaction, verified "
        "before it is committed. The database must have been migrated by the release that made the file, and the "
        "server should be stopped. A database that has a configuration is only replaced with --replace. A new epoch "
        "begins: clients load everything anew. Exit codes: 0 done, 1 refused and nothing written, 2 wrong use."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--replace", action="store_true", help="give up what the database holds now")

    def act(self, user: Any, **options: Any) -> None:
        if user is not SYSTEM_ACTOR:
            raise CommandError("A restore replaces all accounts: it is done without --as.", returncode=WRONG_USE)
        if not options["replace"] and has_configuration():
            raise CommandError(
                f"This database has a configuration, at revision {current_revision()}. To give it up, say --replace.",
                returncode=REFUSED,
            )
        try:
            with show_rows("Restoring") as progress:
                manifest = restore_backup(options["file"], progress=progress)
        except BackupError as error:
            raise CommandError(f"Refused, nothing was written: {error}", returncode=REFUSED) from error
        except OSError as error:
            raise CommandError(f"Cannot read {options['file']}: {error.strerror}.", returncode=WRONG_USE) from error
        self.tell(
            f"Restored {manifest.rows:,} rows of {manifest.made_at:.19} UTC: revision {manifest.revision}, verified. "
            "A new epoch has begun. Secrets need the keys that were in use then."
        )
