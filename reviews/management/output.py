"""How does the command `code-review` write what was found? A document for each format, and the table.

A new format is one function here and one line in `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from rich.console import Console

from plugins.registry import analyzers
from reviews import annotations, junit, report, sarif, summary
from reviews.issues import Listing
from reviews.sessions import Review

WRONG_USE = 2


def make_json(done: Review, listing: Listing, fail_on: str) -> str:
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


def make_sarif(done: Review, listing: Listing, fail_on: str) -> str:
    """The review as SARIF: for GitHub, or for the archive if the listing shows what is suppressed."""
    ran = {rule.plugin for rule in done.rules}
    document = sarif.document(
        done.result,
        done.rules,
        tool_version=settings.VERSION,
        revision=done.session.revision,
        root=done.root,
        started_at=done.started_at,
        finished_at=done.finished_at,
        listing=listing,
        codebase=done.session.codebase,
        plugins={name: analyzer.version for name, analyzer in analyzers().items() if name in ran},
        base=find_repository(done.root),
    )
    return _dump(document)


def make_annotations(done: Review, listing: Listing, fail_on: str) -> str:
    """The review as workflow commands of GitHub Actions."""
    return annotations.to_commands(listing, done.rules, failures=done.result.failures, prefix=find_prefix(done.root))


def make_summary(done: Review, listing: Listing, fail_on: str) -> str:
    """The review as a summary in Markdown."""
    return summary.to_markdown(
        listing,
        done.rules,
        issues=done.issues,
        codebase=done.session.codebase,
        failures=done.result.failures,
        files=done.result.files_analyzed,
        prefix=find_prefix(done.root),
    )


def make_junit(done: Review, listing: Listing, fail_on: str) -> str:
    """The review as a JUnit report."""
    return junit.to_xml(
        listing,
        done.rules,
        failures=done.result.failures,
        fail_on=fail_on,
        seconds=done.result.seconds,
        prefix=find_prefix(done.root),
    )


FORMATS: Mapping[str, Callable[[Review, Listing, str], str]] = {
    "json": make_json,
    "sarif": make_sarif,
    "github": make_annotations,
    "markdown": make_summary,
    "junit": make_junit,
}
"""What makes the text of a format besides the table, of a review, what is told of it, and `--fail-on` (or empty)."""


def write(
    done: Review,
    listing: Listing,
    *,
    form: str,
    output: Path | None,
    also: Iterable[tuple[str, Path]],
    fail_on: str,
    show: int,
    stdout: Any,
    tell: Callable[[str], None],
) -> None:
    """Print the review, or write it to the file `output` and print the table on a terminal, what it comes to elsewhere.

    `also` are more documents of it, by format and file.
    """
    for name, path in also:
        _write_file(path, FORMATS[name](done, listing, fail_on))
        tell(f"Wrote {path}.")
    console = Console(file=stdout._out)
    if form != "table":
        text = FORMATS[form](done, listing, fail_on)
        if output is None:
            stdout.write(text, ending="")
            return
        _write_file(output, text)
    elif output is not None:
        with _open(output) as file:
            _print(done, listing, Console(file=file, width=120), None)
    # With the document in a file, a person at the terminal still wants to see what was found. A log does not.
    if output is None or console.is_terminal:
        _print(done, listing, console, show)
    else:
        for line in report.conclude(done.result, listing, done.rules, _name(done)):
            stdout.write(line)
    if output is not None:
        tell(f"Wrote {output}.")


def find_prefix(root: Path) -> str:
    """What leads from the repository to the reviewed folder: with a slash at its end, or empty."""
    return sarif.place(root, find_repository(root))[1]


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
        origin=_name(done),
        listing=listing,
    )


def _name(done: Review) -> str:
    return f"review {done.session.pk}, configuration revision {done.session.revision}"


def _dump(document: Mapping[str, Any]) -> str:
    # In the log of a pipeline two hashes may begin a command to it. In JSON they stand in texts alone.
    return json.dumps(document, indent=2).replace("##", "#\\u0023") + "\n"


def _write_file(path: Path, text: str) -> None:
    with _open(path) as file:
        file.write(text)


def _open(path: Path) -> Any:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.", returncode=WRONG_USE) from error
