"""Compare a configuration document with what is stored, or make it so: all or nothing."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.commands import GovernedCommand, show_rows
from audit.documents import canonical
from audit.exchange import Plan, Progress, apply
from audit.management.commands.rollback_config import read_moment
from audit.permissions import require_holding
from audit.plans import STATUSES, Step
from audit.sources import MAX_BYTES, InvalidDocument, SourceDocument, parse
from governance_config.library import find_preset
from governance_config.proposals import propose
from overrides.api import IMPORT_CONFIGURATION

SHOWN = 60  # characters of a value
TOLD = 5  # implied changes, unless it is to be verbose
SIGNS = {"created": "+", "updated": "~", "deleted": "-", "unchanged": "=", "proposed": "?", "refused": "!"}
COLOURS = {
    "created": "green",
    "updated": "yellow",
    "deleted": "red",
    "unchanged": "dim",
    "proposed": "cyan",
    "refused": "bold red",
}
FEW = ("deleted", "proposed", "refused")  # only counted where there are any


class Command(GovernedCommand):
    help = (
        "Read a document written by export_config, or a preset. --plan tells what it would change and changes nothing; "
        "--apply changes it in one change set, all or nothing. --propose does so too, but what a governance rule lets "
        "pass for an approved override only is filed as requests, which need --expires and --reason. What the "
        "document does not mention stays; an entry with `state: absent` is deleted. On a terminal the plan is a "
        "table; in a pipe "
        "a line for each entry that differs (+ created, ~ updated, - deleted, ? proposed, ! refused), with --json one "
        "JSON document. What was wrong, and the counts, go to standard error. "
        "Exit codes: 0 done, or a plan that can be applied; 1 refused, nothing was written; 2 wrong use; 3 no database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", nargs="?", help="the document; - for standard input")
        parser.add_argument("--preset", metavar="NAME", help="a preset instead of a file")
        mode = parser.add_mutually_exclusive_group(required=True)
        mode.add_argument("--plan", action="store_true", help="only tell what would change")
        mode.add_argument("--apply", action="store_true", help="change it")
        mode.add_argument("--propose", action="store_true", help="change it, and request what takes an override")
        parser.add_argument(
            "--expires",
            metavar="DATE",
            type=read_moment,
            help="when the requested overrides end, as 2030-01-31 or 2030-01-31T12:00Z; with --propose",
        )
        parser.add_argument("--json", action="store_true", help="the plan as JSON on standard output")

    def act(self, user: Any, **options: Any) -> None:
        require_holding(user, IMPORT_CONFIGURATION)
        given = options["expires"] is not None
        if given != bool(options["propose"]) or (given and not options["reason"].strip()):
            raise CommandError(
                "--propose needs --expires DATE and --reason TEXT; --expires is for --propose.", returncode=2
            )
        document = self._read(options)
        try:
            with show_rows("Importing") as progress:
                plan = self._carry_out(document, user, options, progress)
        except InvalidDocument as error:
            if options["json"]:
                self._write_json(Plan((), 0, problems=tuple(error.problems)))
            raise
        if options["json"]:
            self._write_json(plan)
        else:
            self._show(plan, verbose=options["verbosity"] > 1)
        self._conclude(plan, planned=bool(options["plan"]), verbose=options["verbosity"] > 1)

    def _carry_out(self, document: SourceDocument, user: Any, options: dict[str, Any], progress: Progress) -> Plan:
        reason, expires_at = options["reason"], options["expires"]
        if options["propose"]:
            return propose(document, user=user, reason=reason, expires_at=expires_at, progress=progress)
        return apply(document, user=user, reason=reason, dry_run=bool(options["plan"]), progress=progress)

    def _read(self, options: dict[str, Any]) -> SourceDocument:
        if (options["file"] is None) == (options["preset"] is None):
            raise CommandError("Give a FILE or --preset NAME.", returncode=2)
        if options["file"] is not None:
            return parse(read(options["file"]))
        preset = find_preset(options["preset"])
        if preset is None:
            raise CommandError(f"There is no preset {options['preset']!r}.", returncode=2)
        return parse(preset.text)

    def _write_json(self, plan: Plan) -> None:
        self.stdout.write(json.dumps(plan.document(), indent=2, ensure_ascii=False))

    def _show(self, plan: Plan, *, verbose: bool) -> None:
        if self.stdout.isatty():
            draw(plan, verbose=verbose)
            return
        for line in describe(plan, verbose=verbose):
            self.stdout.write(line)

    def _conclude(self, plan: Plan, *, planned: bool, verbose: bool) -> None:
        shown = len(plan.implied) if verbose else TOLD
        for line in plan.implied[:shown]:
            self.tell(f"Also: {line}")
        if len(plan.implied) > shown:
            self.tell(f"Also: {len(plan.implied) - shown} more of this kind; -v 2 tells them.")
        if plan.problems:
            raise InvalidDocument(plan.problems)
        known = {status: count for status, count in plan.counts.items() if count or status not in FEW}
        counts = ", ".join(f"{count} {status}" for status, count in known.items())
        if planned:
            self.tell(f"Plan: {counts}. Nothing was written.")
        else:
            self.tell(f"Applied: {counts}. The configuration is at revision {plan.revision}.")


def read(name: str) -> bytes:
    """The content of the file `name`, or of standard input; no more of it than is read at all."""
    if name == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CommandError(f"Cannot read {name}: {error.strerror}.", returncode=2) from error


def list_shown(plan: Plan, *, verbose: bool) -> Iterator[Step]:
    """The steps to show: those that differ; all of them if it is to be verbose."""
    return (step for step in plan.steps if verbose or step.status != "unchanged")


def describe(plan: Plan, *, verbose: bool) -> list[str]:
    """One line for each entry that differs, and one for each field of it."""
    lines = []
    for step in list_shown(plan, verbose=verbose):
        asked = f" (request {step.override})" if step.override is not None else ""
        lines.append(f"{SIGNS[step.status]} {step.section} {step.name}{asked}")
        for name, (old, new) in step.fields.items():
            lines.append(f"    {name}: {_shorten(old)} -> {_shorten(new)}")
    return lines


def draw(plan: Plan, *, verbose: bool) -> None:
    """The plan as a table on a terminal, and the counts by section."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "Section", "Entry", "What changes"):
        table.add_column(column, overflow="fold")
    for step in list_shown(plan, verbose=verbose):
        colour = COLOURS[step.status]
        changes = [f"{name}: {_shorten(old)} → {_shorten(new)}" for name, (old, new) in step.fields.items()]
        changes += [f"request {step.override}"] if step.override is not None else []
        changes += [f"{problem.detail}" for problem in step.problems]
        table.add_row(
            Text(step.status, style=colour), Text(step.section), Text(step.name, style=colour), Text("\n".join(changes))
        )
    console = Console(file=sys.stdout)
    if table.row_count:
        console.print(table)
    counts = Text("  ").join(Text(f"{plan.count(status)} {status}", style=COLOURS[status]) for status in STATUSES)
    console.print(counts)


def _shorten(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
