"""Bring every secret of the configuration under another key."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from audit.commands import GovernedCommand, show_rows
from audit.keys import WrongKeys, add_key, first_key, load_keys
from audit.permissions import SYSTEM_ACTOR
from audit.rotation import Rotation, rotate

SOME_LOST, WRONG_USE = 1, 2


class Command(GovernedCommand):
    help = (
        "Encrypt every secret of the configuration, in rows and in history, with the first key: of "
        "GOVERNANCE_ENCRYPTION_KEYS, or of encryption.keys in GOVERNANCE_HOME. --new-key puts a new one first in that "
        "file. The server may run. Broken off, it goes on where it was when it is run again. The journal and its "
        "hashes stay as they are. Older keys are kept: backups need the keys of their time. "
        "Exit codes: 0 done, 1 some secrets cannot be decrypted (they are named, all others are done), 2 wrong use, "
        "3 no database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--plan", action="store_true", help="only tell what would be done")
        parser.add_argument("--new-key", action="store_true", help="make a new key, and begin with it")

    def act(self, user: Any, **options: Any) -> None:
        if user is not SYSTEM_ACTOR and not user.is_superuser:
            raise CommandError("Only a superuser, or no --as, may rotate keys.", returncode=WRONG_USE)
        if options["plan"] and options["new_key"]:
            raise CommandError("--plan tells of the keys as they are: leave out --new-key.", returncode=WRONG_USE)
        try:
            if options["new_key"]:
                self.tell(f"Made the key {add_key().id}.")
            elif not load_keys():
                self.tell("There is no key yet: one is made when there is a secret to encrypt.")
            with show_rows("Encrypting") as progress:
                report = rotate(dry_run=options["plan"], progress=progress)
        except WrongKeys as error:
            raise CommandError(str(error), returncode=WRONG_USE) from error
        self._tell(report, options["plan"])
        if report.lost:
            sys.exit(SOME_LOST)

    def _tell(self, report: Rotation, plan: bool) -> None:
        for lost in report.lost:
            self.stdout.write(str(lost))
        done = "would be rewritten" if plan else "were rewritten"
        self.tell(f"{report.rewritten:,} of {report.rows:,} rows with secrets {done}.")
        if not report.keys:
            return
        first = first_key().id
        idle = [key.id for key in load_keys() if key.id != first and not report.keys[key.id]]
        if idle:
            self.tell(f"No stored secret needs {', '.join(idle)} any more; backups from before do.")
