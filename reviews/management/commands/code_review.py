"""Review a codebase with the configuration in force."""

from __future__ import annotations

import json
import logging
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError
from rich.console import Console

from audit.changes import current_origin
from audit.commands import GovernedCommand
from audit.errors import NotPermitted
from audit.permissions import require
from reviews import copilot_report, report, sarif
from reviews.discovery import RootError
from reviews.engine import SEVERITIES, rank
from reviews.export import ExportError
from reviews.models import ReviewSession
from reviews.sessions import Review, review

logger = logging.getLogger(__name__)
FOUND, WRONG_USE, BROKEN = 1, 2, 3

EPILOG = """\
exit codes:
  0  reviewed: no finding at or above --fail-on (without --fail-on: whatever was found)
  1  reviewed: at least one finding at or above --fail-on, or a Copilot file that differs (--copilot --check)
  2  not reviewed: wrong use, or the path cannot be read
  3  not reviewed, or not completely: the database is not there, an analyzer failed (--strict), or a fault

examples:
  ./code-review src
  ./code-review . --fail-on high
  ./code-review . --format sarif --output review.sarif
  ./code-review . --format json | jq .counts
  ./code-review . --copilot                               # write .github/prompts, instructions and agents
  ./code-review . --copilot --check                       # fail when they are not what they should be
"""


class _HelpFormatter(RawDescriptionHelpFormatter):
    """Folds the description, and leaves the table of exit codes and the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return super()._fill_text(text if "\n" in text else fill(text, width), width, indent)


class Command(GovernedCommand):
    help = (
        "Review the files of a folder (or one file) by the enabled rules, store the session with its findings, "
        "and print them: as tables on a terminal, one line for each finding when piped. .gitignore files at and below "
        "PATH are respected. The configuration is frozen at one revision while the review runs."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, epilog=EPILOG, formatter_class=_HelpFormatter, **kwargs)
        if os.environ.get("CODE_REVIEW_SCRIPT") == "1":
            # What the person at the terminal typed.
            parser.prog = "code-review"
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("path", metavar="PATH", type=Path, help="the folder or file to review")
        parser.add_argument("--format", choices=["table", "json", "sarif"], default="table", help="default: table")
        parser.add_argument("--output", metavar="FILE", type=Path, help="write the document to FILE, the table as well")
        parser.add_argument("--fail-on", choices=list(SEVERITIES), metavar="SEVERITY", help="; ".join(
            ["exit 1 when a finding is at least this severe", ", ".join(SEVERITIES)]
        ))  # fmt: skip
        parser.add_argument(
            "--exclude",
            action="append",
            default=[],
            metavar="PATTERN",
            help="leave out, as a line of a .gitignore (repeat)",
        )
        parser.add_argument(
            "--show", type=read_count, default=report.SHOWN, metavar="N", help="findings in the table (default 50)"
        )
        parser.add_argument(
            "--copilot",
            action="store_true",
            help="write GitHub Copilot files below PATH/.github: a prompt for each task that the findings make (worse "
            "than info, at most 50), and instructions and agents from the configuration; files that others wrote or "
            "edited stay",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="with --copilot: write nothing, list the files that differ, and exit 1 if there are any",
        )
        parser.add_argument("--strict", action="store_true", help="exit 3 when an analyzer failed on anything")

    def act(self, user: Any, **options: Any) -> None:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # A terminal that knows no Unicode shows the escape instead of ending the review.
                stream.reconfigure(errors="backslashreplace")
        try:
            require(user, "run", ReviewSession)
            copilot_report.check_options(options)
            errors = Console(stderr=True)
            with report.show_progress(errors) as progress:
                done = review(
                    options["path"],
                    started_by=current_origin().actor()[1],
                    exclude=options["exclude"],
                    progress=progress,
                )
            self._write(done, options)
            differs = copilot_report.deliver(done.session, done.root, options, self.tell)
            if not done.result.files_analyzed:
                self.tell(f"No file was reviewed: nothing at {options['path']} that an enabled rule asks for.")
        except (RootError, NotPermitted, ExportError) as error:
            raise CommandError(str(error), returncode=WRONG_USE) from error
        except (CommandError, DatabaseError):
            raise
        except BrokenPipeError:
            # The reader of the pipe has seen enough. Nothing more can be written to it, at exit neither.
            sys.stdout = None
            return
        except Exception as error:
            # Exit code 1 means findings, so no fault may end with it.
            logger.exception("review failed")
            raise CommandError(f"The review failed: {type(error).__name__}: {error}", returncode=BROKEN) from error
        if options["strict"] and done.result.failures:
            sys.exit(BROKEN)
        if differs or (options["fail_on"] and any_at_least(done, options["fail_on"])):
            sys.exit(FOUND)

    def _write(self, done: Review, options: dict[str, Any]) -> None:
        form, output = options["format"], options["output"]
        console = Console(file=self.stdout._out)
        if form != "table":
            text = json.dumps(make_document(done, form), indent=2) + "\n"
            if output is None:
                self.stdout.write(text, ending="")
                return
            write_file(output, text)
        elif output is not None:
            with open_output(output) as file:
                self._print(done, Console(file=file, width=120), None)
        # With the document in a file, a person at the terminal still wants to see what was found.
        self._print(done, console, options["show"])
        if output is not None:
            self.tell(f"Wrote {output}.")

    def _print(self, done: Review, console: Console, show: int | None) -> None:
        personas = sorted({persona for rule in done.rules for persona in rule.personas})
        report.print_table(
            done.result, rules=done.rules, personas=personas, console=console, show=show, revision=done.session.revision
        )


def read_count(text: str) -> int:
    """A number that is not negative. Raises `ValueError`."""
    if not text.isdecimal():
        raise ValueError
    return int(text)


read_count.__name__ = "number"  # how argparse calls it in its error


def any_at_least(done: Review, severity: str) -> bool:
    """Whether a finding is at least as severe as `severity`."""
    severities = {rule.name: rule.severity for rule in done.rules}
    return any(rank(severities[finding.rule]) >= rank(severity) for finding in done.result.findings)


def make_document(done: Review, form: str) -> dict[str, Any]:
    """The review as JSON or SARIF."""
    if form == "json":
        return report.to_json(
            done.result,
            rules=done.rules,
            revision=done.session.revision,
            root=str(done.root),
            started_at=done.started_at,
            session=done.session.pk,
        )
    return sarif.document(
        done.result,
        done.rules,
        tool_version=settings.VERSION,
        revision=done.session.revision,
        root=done.root,
        started_at=done.started_at,
        finished_at=done.finished_at,
        base=find_repository(done.root),
    )


def find_repository(root: Path) -> Path | None:
    """The folder at or above `root` that git keeps, which GitHub wants paths relative to; None if there is none."""
    candidates: Sequence[Path] = [root, *root.parents]
    return next((folder for folder in candidates if (folder / ".git").exists()), None)


def open_output(path: Path) -> Any:
    """`path`, open for writing."""
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.", returncode=WRONG_USE) from error


def write_file(path: Path, text: str) -> None:
    """Write `text` to `path`."""
    with open_output(path) as file:
        file.write(text)
