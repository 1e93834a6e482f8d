"""How does the command `code-review` write what was found? A document for each format, and the table.

A new format is one function here and one line in `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from rich.console import Console

from reviews import report, sarif
from reviews.issues import Listing
from reviews.sessions import Review

WRONG_USE = 2


def make_json(done: Review, listing: Listing) -> str:
    """The review as JSON."""
    document = report.to_json(
        done.result,
        rules=done.rules,
        revision=done.session.revision,
        root=str(done.root),
        started_at=done.started_at,
        session=done.session.pk,
        listing=listing,
    )
    return _dump(document)


def make_sarif(done: Review, listing: Listing) -> str:
    """The review as SARIF, for GitHub: it shows what is suppressed like everything else, so that is never in it."""
    document = sarif.document(
        replace(done.result, findings=[issue.finding for issue in listing.counting]),
        done.rules,
        tool_version=settings.VERSION,
        revision=done.session.revision,
        root=done.root,
        started_at=done.started_at,
        finished_at=done.finished_at,
        base=find_repository(done.root),
    )
    return _dump(document)


FORMATS: Mapping[str, Callable[[Review, Listing], str]] = {"json": make_json, "sarif": make_sarif}
"""What makes the text of a format besides the table."""


def write(
    done: Review,
    listing: Listing,
    *,
    form: str,
    output: Path | None,
    show: int,
    stdout: Any,
    tell: Callable[[str], None],
) -> None:
    """Print the review, or write it to the file `output` and print the table as well."""
    console = Console(file=stdout._out)
    if form != "table":
        text = FORMATS[form](done, listing)
        if output is None:
            stdout.write(text, ending="")
            return
        with _open(output) as file:
            file.write(text)
    elif output is not None:
        with _open(output) as file:
            _print(done, listing, Console(file=file, width=120), None)
    # With the document in a file, a person at the terminal still wants to see what was found.
    _print(done, listing, console, show)
    if output is not None:
        tell(f"Wrote {output}.")


def find_repository(root: Path) -> Path | None:
    """The folder at or above `root` that git keeps, which GitHub wants paths relative to; None if there is none."""
    candidates: Sequence[Path] = [root, *root.parents]
    return next((folder for folder in candidates if (folder / ".git").exists()), None)


def _print(done: Review, listing: Listing, console: Console, show: int | None) -> None:
    report.print_table(
        done.result,
        rules=done.rules,
        personas=sorted({persona for rule in done.rules for persona in rule.personas}),
        console=console,
        show=show,
        revision=done.session.revision,
        listing=listing,
    )


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def _open(path: Path) -> Any:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.", returncode=WRONG_USE) from error
