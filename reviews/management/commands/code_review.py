"""Review a codebase with the configuration in force."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from textwrap import fill
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError
from rich.console import Console

from audit.changes import current_origin
from audit.commands import GovernedCommand
from audit.errors import NotPermitted
from audit.permissions import require
from reviews import copilot_report, report
from reviews.changes import ChangesError
from reviews.choices import SessionStatus
from reviews.codebases import Baseline, NoBaseline, find_baseline, make_key
from reviews.discovery import RootError, Skip, discover
from reviews.engine import rank
from reviews.export import ExportError
from reviews.issues import Listing, list_issues
from reviews.management import options as arguments
from reviews.management import output
from reviews.models import ReviewSession
from reviews.sessions import Review, review

logger = logging.getLogger(__name__)
FOUND, WRONG_USE, BROKEN = 1, output.WRONG_USE, 3


class _HelpFormatter(RawDescriptionHelpFormatter):
    """Folds the description, and leaves the table of exit codes and the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return super()._fill_text(text if "\n" in text else fill(text, width), width, indent)


class Command(GovernedCommand):
    help = (
        "Review the files of a folder (or one file) by the enabled rules, store the session with its findings, "
        "and print them: as tables on a terminal, one line for each finding when piped. Each finding is compared with "
        "those of earlier reviews of the same codebase: it is new, existing or reappeared, and others are fixed. "
        ".gitignore files at and below PATH are respected. The configuration is frozen at one revision while the "
        "review runs."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(
            prog_name, subcommand, epilog=arguments.EPILOG, formatter_class=_HelpFormatter, **kwargs
        )
        if os.environ.get("CODE_REVIEW_SCRIPT") == "1":
            # What the person at the terminal typed.
            parser.prog = "code-review"
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        arguments.add_arguments(parser, output.FORMATS)

    def act(self, user: Any, **options: Any) -> None:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # A terminal that knows no Unicode shows the escape instead of ending the review.
                stream.reconfigure(errors="backslashreplace")
        try:
            require(user, "run", ReviewSession)
            copilot_report.check_options(options)
            done, listing = self._review(options)
            output.write(
                done,
                listing,
                form=options["format"],
                output=options["output"],
                also=options["write"],
                fail_on=options["fail_on"] or "",
                show=options["show"],
                stdout=self.stdout,
                tell=self.tell,
            )
            differs = copilot_report.deliver(done.session, done.root, options, self.tell)
            if not done.result.files_analyzed:
                self.tell(f"No file was reviewed: {_why_nothing(done, options)}.")
        except (RootError, ChangesError, NoBaseline, NotPermitted, ExportError) as error:
            # The file system and git tell it in words that may be anybody's.
            raise CommandError(report.escape(str(error)), returncode=WRONG_USE) from error
        except (CommandError, DatabaseError):
            raise
        except BrokenPipeError:
            # The reader of the pipe has seen enough. Nothing more can be written to it, at exit neither.
            sys.stdout = None
            return
        except Exception as error:
            # Exit code 1 means findings, so no fault may end with it.
            logger.exception("review failed")
            said = report.escape(f"{type(error).__name__}: {error}")
            raise CommandError(f"The review failed: {said}", returncode=BROKEN) from error
        if options["strict"] and done.result.failures:
            sys.exit(BROKEN)
        if differs or (options["fail_on"] and any_at_least(done, listing, options["fail_on"])):
            sys.exit(FOUND)

    def _review(self, options: dict[str, Any]) -> tuple[Review, Listing]:
        """The review, and which of its findings are told."""
        baseline = self._find_baseline(options)
        with report.show_progress(Console(stderr=True)) as progress:
            done = review(
                options["path"],
                started_by=current_origin().actor()[1],
                codebase_name=options["codebase"] or "",
                exclude=options["exclude"],
                base_ref=options["base"],
                jobs=options["jobs"],
                use_cache=not options["no_cache"],
                progress=progress,
            )
        if done.session.status == SessionStatus.CANCELLED:
            raise CommandError("The review was cancelled.", returncode=BROKEN)
        return done, list_issues(
            done.issues,
            gone=done.gone,
            baseline=baseline.keys if baseline else None,
            show_suppressed=options["show_suppressed"],
        )

    def _find_baseline(self, options: dict[str, Any]) -> Baseline | None:
        """What the findings are compared with: looked up before this review is a part of it."""
        if options["baseline"] is None:
            return None
        key = make_key(discover(options["path"]).root, options["codebase"] or "")
        baseline = find_baseline(key, options["baseline"] or None)
        if baseline is None:
            self.tell("There is no earlier review of this codebase to compare with, so everything counts.")
        return baseline


def _why_nothing(done: Review, options: dict[str, Any]) -> str:
    """What there was instead of a file to review."""
    skipped, where = done.result.files_skipped, report.escape(str(options["path"]))
    if options["base"] and not (set(skipped) - {Skip.UNCHANGED}):
        return f"nothing at {where} differs from {report.escape(options['base'])}"
    if not skipped:
        return f"there is none at {where}"
    return f"nothing at {where} that an enabled rule asks for"


def any_at_least(done: Review, listing: Listing, severity: str) -> bool:
    """Whether one of the findings that count is at least as severe as `severity`."""
    rules = {rule.name: rule for rule in done.rules}
    return any(rank(issue.judge(rules).severity) >= rank(severity) for issue in listing.counting)
