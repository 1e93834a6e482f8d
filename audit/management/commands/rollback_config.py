"""Undo one change, all of one request, or everything after a revision or a moment: by a new change, all or nothing."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audit.commands import GovernedCommand
from audit.documents import canonical
from audit.rollback import Plan, RollbackRefused, Target, describe_target, find_revision, roll_back

REFUSED = 1
SHOWN = 60  # characters of a value
SIGNS = {"create": "+", "update": "~", "delete": "-"}


class Command(GovernedCommand):
    help = (
        "Put objects back to what they were. --change undoes one revision, --batch all changes of one request, --to "
        "everything after a revision, --at everything after a moment. --plan tells what would happen and changes "
        "nothing; --apply does it in one change set, under today's rules. Accounts, roles and grants are left alone, "
        "and overrides come back as drafts. Exit codes: 0 done, 1 refused and nothing written, 2 wrong use."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        target = parser.add_mutually_exclusive_group(required=True)
        target.add_argument("--to", type=int, metavar="REV", help="take back everything after this revision")
        target.add_argument("--at", type=read_moment, metavar="TIME", help="the same by time, as 2030-01-31T12:00Z")
        target.add_argument("--batch", type=UUID, metavar="ID", help="undo all changes of one request or command")
        target.add_argument("--change", type=int, metavar="REV", help="undo one change")
        mode = parser.add_mutually_exclusive_group(required=True)
        mode.add_argument("--plan", action="store_true", help="only tell what would happen")
        mode.add_argument("--apply", action="store_true", help="do it")
        parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")

    def act(self, user: Any, **options: Any) -> None:
        revision = find_revision(options["at"]) if options["at"] is not None else options["to"]
        target = Target(to_revision=revision, batch=options["batch"], change=options["change"])
        try:
            plan = roll_back(target, user=user, reason=options["reason"], dry_run=options["plan"])
        except RollbackRefused as refused:
            for problem in refused.problems:
                self.stdout.write(problem)
            self.tell("Refused, nothing was written.")
            sys.exit(REFUSED)
        if options["format"] == "json":
            self.stdout.write(json.dumps(plan.document(), indent=2))
        else:
            for line in describe(plan):
                self.stdout.write(line)
        counts = f"{plan.count('create')} created, {plan.count('update')} updated, {plan.count('delete')} deleted"
        if options["plan"]:
            self.tell(f"Plan, to undo {describe_target(target)}: {counts}. Nothing was written.")
        else:
            self.tell(f"Undone: {describe_target(target)}. {counts}. The configuration is at revision {plan.revision}.")


def read_moment(text: str) -> datetime:
    """A moment in ISO 8601; without a zone it is UTC."""
    try:
        moment = parse_datetime(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no moment: {error}") from error
    if moment is None:
        raise ArgumentTypeError(f"{text!r} is no moment such as 2030-01-31T12:00Z")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def describe(plan: Plan) -> list[str]:
    """One line for each object, and below it one for each field of an updated one."""
    lines = []
    for step in plan.steps:
        lines.append(f"{SIGNS[step.action]} {step.entity_type} {step.entity_name}")
        if step.action == "update":
            lines += [f"    {name}: {_shorten(old)} -> {_shorten(new)}" for name, (old, new) in step.fields.items()]
    return lines + [f"= {line}" for line in plan.left_alone]


def _shorten(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
