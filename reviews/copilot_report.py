"""What does `code-review --copilot` do, and what does it say about it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from overrides.effective import load_configuration
from reviews import copilot
from reviews.export import ExportError, Kind
from reviews.models import ReviewSession
from reviews.report import escape

SHOWN = 50
"""Files that differ that are listed by name."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ExportError` if the options of the command do not go together."""
    if options["check"] and not options["copilot"]:
        raise ExportError("--check says what --copilot would change; it needs --copilot.")
    if options["copilot"] and not options["path"].is_dir():
        raise ExportError(f"--copilot writes below a folder, and {options['path']} is none.")


def deliver(session: ReviewSession, root: Path, options: Mapping[str, Any], tell: Callable[[str], None]) -> bool:
    """Write the Copilot files of a session below `root`, or only look (`check`). Whether something differs there."""
    if not options["copilot"]:
        return False
    configuration = load_configuration()
    if options["check"]:
        drifts = copilot.check_files(root, session, configuration)
        for drift in drifts[:SHOWN]:
            tell(f"{escape(drift.path)}: {drift.kind}")
        if len(drifts) > SHOWN:
            tell(f"… and {len(drifts) - SHOWN:,} more")
        tell(
            f"Copilot files: {len(drifts):,} {'differs' if len(drifts) == 1 else 'differ'}."
            if drifts
            else "Copilot files: all as they should be."
        )
        return bool(drifts)
    written = copilot.write_prompts(session, configuration)
    done = copilot.export_files(root, session, configuration)
    prompts = f"{len(written.prompts):,} prompt" + ("" if len(written.prompts) == 1 else "s")
    prompts += f", {written.left_out:,} more findings did not get into any" if written.left_out else ""
    tell(f"Copilot files: {len(done.written):,} written, {len(done.removed):,} removed; {prompts}.")
    for drift in done.kept:
        remedy = "delete it to have it written anew" if drift.kind is Kind.EDITED else "rename it to make room"
        tell(f"{escape(drift.path)}: {drift.kind}, left as it is; {remedy}.")
    for warning in copilot.make_standing(configuration).warnings:
        tell(escape(warning))
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    if top != root:
        tell(f"GitHub reads them at the top of a repository only, which is {escape(str(top))}.")
    return False
