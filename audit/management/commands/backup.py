"""Write everything that is stored to one file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from audit.backup import write_backup
from audit.commands import GovernedCommand, show_rows
from audit.permissions import SYSTEM_ACTOR


class Command(GovernedCommand):
    help = (
        "Write everything that is stored (configuration, history, journal, accounts, reviews) to FILE, all of one "
        "moment, while the server runs. The file is the same for SQLite and PostgreSQL, and only its owner may read "
        "it. Secrets are in it encrypted; their keys are not: keep them as well. For large PostgreSQL installations "
        "pg_dump is faster. Exit codes: 0 done, 2 wrong use, 3 no database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", type=Path, help="is replaced if it exists")

    def act(self, user: Any, **options: Any) -> None:
        if user is not SYSTEM_ACTOR and not user.is_superuser:
            raise CommandError("A backup holds everything: only a superuser, or no --as, may make one.", returncode=2)
        try:
            with show_rows("Writing") as progress:
                manifest = write_backup(options["file"], progress=progress)
        except OSError as error:
            raise CommandError(f"Cannot write {options['file']}: {error.strerror}.", returncode=2) from error
        size = options["file"].stat().st_size / 1e6
        self.tell(f"Wrote {options['file']}: revision {manifest.revision}, {manifest.rows:,} rows, {size:.1f} MB.")
