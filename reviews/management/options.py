"""What can be asked of the command `code-review`? Its options, by what they are about."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from reviews import report
from reviews.engine import SEVERITIES

LAST = 0
"""What `--baseline` means without a number: the last complete review."""

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
  ./code-review . --format github --write sarif=review.sarif --write markdown="$GITHUB_STEP_SUMMARY"
  ./code-review . --baseline --fail-on medium             # only what is new since the last complete review
  ./code-review . --base origin/main --fail-on low        # only lines that this branch changes
  ./code-review . --codebase shop                         # in CI, where each checkout lies in another folder
  ./code-review . --copilot                               # write .github/prompts, instructions and agents
  ./code-review . --copilot --check                       # fail when they are not what they should be

suppressing a finding, in a comment on its line or alone on the line before:
  code-review: ignore[RULE] -- reason
  code-review: ignore[RULE-A, RULE-B] -- reason (until=2030-01-31)
"""


def add_arguments(parser: ArgumentParser, formats: Iterable[str]) -> None:
    """Add everything but what all commands have."""
    parser.add_argument("path", metavar="PATH", type=Path, help="the folder or file to review")
    _add_extent(parser)
    _add_comparison(parser)
    _add_output(parser, ["table", *formats])
    _add_copilot(parser)
    _add_running(parser)


def _add_extent(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what is reviewed")
    group.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out, as a line of a .gitignore (repeat)",
    )
    group.add_argument(
        "--base",
        default="",
        metavar="REF",
        help="only files that differ from the commit where HEAD left REF, and only findings in changed lines; "
        "such a review never calls anything fixed. Untracked files count as changed",
    )
    group.add_argument(
        "--codebase",
        type=read_name,
        metavar="NAME",
        help="what is reviewed is the codebase of this name, wherever it lies (default: the folder itself). A folder "
        "inside of the one that was reviewed under this name is a part of it",
    )


def _add_comparison(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what counts")
    group.add_argument(
        "--baseline",
        nargs="?",
        type=read_review,
        const=LAST,
        metavar="REVIEW",
        help="print and count (--fail-on) only what was not found by the review of this number, or by the last "
        "complete one of this codebase; without any, everything counts. Put PATH before it",
    )
    group.add_argument(
        "--fail-on",
        choices=list(SEVERITIES),
        metavar="SEVERITY",
        help=f"exit 1 when a finding is at least this severe; {', '.join(SEVERITIES)}. Suppressed and dismissed ones "
        "do not count",
    )
    group.add_argument("--strict", action="store_true", help="exit 3 when an analyzer failed on anything")


def _add_output(parser: ArgumentParser, formats: list[str]) -> None:
    group = parser.add_argument_group("what is printed")
    group.add_argument("--format", choices=formats, default="table", help="default: table")
    group.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="write the document to FILE; a terminal shows the table as well, a log what it comes to",
    )
    group.add_argument(
        "--write",
        action="append",
        default=[],
        metavar="FORMAT=FILE",
        type=partial(read_target, formats[1:]),
        help="write the same review to FILE in another FORMAT, but table, as well (repeat)",
    )
    group.add_argument(
        "--show", type=read_count, default=report.SHOWN, metavar="N", help="findings in the table (default 50)"
    )
    group.add_argument(
        "--show-suppressed",
        action="store_true",
        help="list findings that a comment suppresses, or that people dismissed, as well; they do not count",
    )


def _add_copilot(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("for GitHub Copilot")
    group.add_argument(
        "--copilot",
        action="store_true",
        help="write GitHub Copilot files below PATH/.github: a prompt for each task that the findings make (worse "
        "than info, at most 50), and instructions and agents from the configuration; files that others wrote or "
        "edited stay",
    )
    group.add_argument(
        "--check",
        action="store_true",
        help="with --copilot: write nothing, list the files that differ, and exit 1 if there are any",
    )


def _add_running(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how it runs")
    group.add_argument(
        "--jobs", type=read_jobs, metavar="N", help="processes that review at once (default: one for each core, to 8)"
    )
    group.add_argument(
        "--no-cache",
        action="store_true",
        help="look at every file, also at those that have not changed since they were reviewed by the same rules",
    )


def read_count(text: str) -> int:
    """A number that is not negative. Raises `ValueError`."""
    if not text.isdecimal():
        raise ValueError
    return int(text)


def read_review(text: str) -> int:
    """The number of a review. Raises `ArgumentTypeError`, also for the PATH that was meant as the next argument."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not the number of a review; if it is the PATH, put it before --baseline")
    return int(text)


def read_target(formats: Sequence[str], text: str) -> tuple[str, Path]:
    """A format and a file, with an equals sign between them. Raises `ArgumentTypeError`."""
    form, sign, file = text.partition("=")
    if form not in formats or not sign or not file:
        raise ArgumentTypeError(f"{text!r} is not FORMAT=FILE with one of {', '.join(formats)}")
    return form, Path(file)


def read_jobs(text: str) -> int:
    """A number from 1 to 64. Raises `ValueError`."""
    number = read_count(text)
    if not 1 <= number <= 64:
        raise ValueError
    return number


def read_name(text: str) -> str:
    """A name that every database can store. Raises `ValueError`."""
    name = text.strip()
    if not name or len(name) > 200 or not name.isprintable():
        raise ValueError
    return name


# How argparse calls them in its errors.
read_count.__name__ = "number"
read_jobs.__name__ = "number of processes"
read_name.__name__ = "name"
