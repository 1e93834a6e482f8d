"""Compare a configuration document with what is stored, or make it so: all or nothing."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from audit.commands import GovernedCommand
from audit.documents import canonical
from audit.exchange import Plan, apply, parse

SHOWN = 60  # characters of a value


class Command(GovernedCommand):
    help = (
        "Read a document written by export_config (or a preset). --plan tells what it would change and changes "
        "nothing; --apply changes it in one change set, all or nothing. What the document does not mention stays. "
        "Exit codes: 0 done, 1 refused and nothing written, 2 wrong use."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", help="the document; - for standard input")
        mode = parser.add_mutually_exclusive_group(required=True)
        mode.add_argument("--plan", action="store_true", help="only tell what would change")
        mode.add_argument("--apply", action="store_true", help="change it")

    def act(self, user: Any, **options: Any) -> None:
        document = parse(read(options["file"]))
        plan = apply(document, user=user, reason=options["reason"], dry_run=options["plan"])
        for line in describe(plan, verbose=options["verbosity"] > 1):
            self.stdout.write(line)
        counts = (
            f"{plan.count('created')} created, {plan.count('updated')} updated, {plan.count('unchanged')} unchanged"
        )
        if options["plan"]:
            self.tell(f"Plan: {counts}. Nothing was written.")
        else:
            self.tell(f"Applied: {counts}. The configuration is at revision {plan.revision}.")


def read(name: str) -> bytes:
    """The content of the file `name`, or of standard input."""
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise CommandError(f"Cannot read {name}: {error.strerror}.", returncode=2) from error


def describe(plan: Plan, *, verbose: bool) -> list[str]:
    """One line for each entry that differs, and one for each field of it."""
    signs = {"created": "+", "updated": "~", "unchanged": "="}
    lines = []
    for step in plan.steps:
        if step.status == "unchanged" and not verbose:
            continue
        lines.append(f"{signs[step.status]} {step.section} {step.name}")
        for name, (old, new) in step.fields.items():
            lines.append(f"    {name}: {_shorten(old)} -> {_shorten(new)}")
    return lines


def _shorten(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
