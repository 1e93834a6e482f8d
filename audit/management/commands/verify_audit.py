"""Walk the journal: has somebody changed the record?"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from audit.commands import GovernedCommand, show_rows
from audit.models import ConfigurationAuditLog
from audit.permissions import require
from audit.verification import Checkpoint, Report, read_checkpoint, take_checkpoint, verify

BROKEN, WRONG_USE = 1, 2


class Command(GovernedCommand):
    help = (
        "Walk the journal from its first row: every row's hash, its link to the row before, the history rows, what is "
        "stored today, and the end. Names the first revision that does not fit. --write-checkpoint keeps the present "
        "end in a file, to be stored elsewhere; --against compares with such files. "
        "Exit codes: 0 intact, 1 something was altered, 2 wrong use, 3 no database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--against", metavar="FILE", action="append", default=[], help="a checkpoint (repeat)")
        parser.add_argument("--write-checkpoint", metavar="FILE", help="write the present end of the journal")
        parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")

    def act(self, user: Any, **options: Any) -> None:
        require(user, "view", ConfigurationAuditLog)
        checkpoints = [load(name) for name in options["against"]]
        report = self._walk(checkpoints)
        self._tell(report, options["format"])
        if not report.intact:
            sys.exit(BROKEN)
        if options["write_checkpoint"]:
            write(options["write_checkpoint"], take_checkpoint())
            self.tell(f"Wrote {options['write_checkpoint']}. Keep it where this server cannot write.")

    def _walk(self, checkpoints: list[Checkpoint]) -> Report:
        with show_rows("Walking the journal") as progress:
            return verify(checkpoints=checkpoints, progress=progress)

    def _tell(self, report: Report, form: str) -> None:
        if form == "json":
            breaks = [{"revision": item.revision, "problem": item.problem} for item in report.breaks]
            document = {"intact": report.intact, "rows": report.rows, "breaks": breaks, "more": report.more}
            document["secrets_not_checked"] = report.unread
            self.stdout.write(json.dumps(document, indent=2))
            return
        for item in report.breaks:
            self.stdout.write(str(item))
        if report.more:
            self.stdout.write(f"… and {report.more:,} more.")
        if report.unread:
            self.tell(f"{report.unread:,} secrets were not checked: the keys that they need are not here.")
        if report.intact:
            self.tell(f"Intact: {report.rows:,} rows.")
        else:
            first = report.breaks[0].revision
            self.tell(
                f"Altered: the record can be trusted up to revision {max(first - 1, 0)} ({report.rows:,} rows read)."
            )


def load(name: str) -> Checkpoint:
    """The checkpoint in the file `name`."""
    try:
        return read_checkpoint(json.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise CommandError(f"Cannot read {name}: {error.strerror}.", returncode=WRONG_USE) from error
    except ValueError as error:
        raise CommandError(f"{name} is no checkpoint: {error}", returncode=WRONG_USE) from error


def write(name: str, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to the file `name`."""
    try:
        Path(name).write_text(json.dumps(checkpoint.document(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"Cannot write {name}: {error.strerror}.", returncode=WRONG_USE) from error
