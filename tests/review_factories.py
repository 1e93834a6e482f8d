"""Plain factories of what reviews leave behind: a codebase, its sessions, their findings and prompts."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from reviews.codebases import make_key
from reviews.models import Codebase, CopilotPrompt, DiscoveredIssue, ReviewSession, TrackedFinding

_numbers = count(1)


def make_codebase(name: str = "shop", **fields: Any) -> Codebase:
    """The codebase of that name; made if it is not there."""
    values = {"name": name, "root": f"/srv/{name}", **fields}
    return Codebase.objects.get_or_create(key=make_key(Path(values["root"])), defaults=values)[0]


def make_session(codebase: str = "shop", **fields: Any) -> ReviewSession:
    """A completed review of everything; its codebase is there afterwards."""
    values: dict[str, Any] = {
        "tracked_codebase": make_codebase(codebase),
        "codebase": codebase,
        "root": f"/srv/{codebase}",
        "revision": 7,
        "status": "completed",
        "started_by": "ci",
        "seconds": 1.5,
        "files_analyzed": 3,
        "rules_run": 2,
        "counts": {"by_severity": {"high": 2}, "by_persona": {}, "by_state": {"new": 1, "existing": 1, "fixed": 1}},
    }
    return ReviewSession.objects.create(**{**values, **fields})


def build_finding(codebase: Codebase | None = None, **fields: Any) -> TrackedFinding:
    """An unsaved finding that is open and there."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "codebase": codebase or make_codebase(),
        "key": f"{number:032x}",
        "rule_name": "no-eval",
        "rule_type": "security",
        "severity": "high",
        "path": "src/a.py",
        "line": 3,
        "message": "eval runs whatever it is given.",
        "code_hash": f"{number:032x}",
        "context_hash": f"{number:032x}",
    }
    return TrackedFinding(**{**values, **fields})


def build_issue(session: ReviewSession, finding: TrackedFinding | None = None, **fields: Any) -> DiscoveredIssue:
    """Unsaved: what a session found; with `finding`, that one."""
    said = ("rule_name", "rule_type", "severity", "path", "message")
    values: dict[str, Any] = {
        "session": session,
        "finding": finding,
        "rule_name": "no-eval",
        "rule_type": "security",
        "severity": "high",
        "plugin": "patterns",
        "personas": ["security"],
        "path": "src/a.py",
        "start_line": 3,
        "start_column": 1,
        "end_line": 3,
        "end_column": 11,
        "message": "eval runs whatever it is given.",
        "snippet": "eval(text)",
        "context_start": 1,
        "context": ["def run(text):", "    # dangerous", "    eval(text)", "    return None"],
    }
    if finding is not None:
        values |= {name: getattr(finding, name) for name in said} | {
            "start_line": finding.line,
            "end_line": finding.line,
        }
    return DiscoveredIssue(**{**values, **fields})


def build_prompt(session: ReviewSession, **fields: Any) -> CopilotPrompt:
    """An unsaved prompt that nobody has read yet."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "session": session,
        "name": f"mend-eval-{number}",
        "title": "Mend the calls of eval",
        "persona": "security",
        "severity": "high",
        "rule_names": ["no-eval"],
        "finding_keys": [],
        "paths": ["src/a.py"],
        "body": "---\nmode: agent\n---\n\n# Mend the calls of eval\n",
        "content_hash": "0" * 64,
        "revision": 7,
    }
    return CopilotPrompt(**{**values, **fields})


def make_finding(codebase: Codebase | None = None, **fields: Any) -> TrackedFinding:
    """A stored finding that is open and there."""
    return store(build_finding(codebase, **fields))


def make_issue(session: ReviewSession, finding: TrackedFinding | None = None, **fields: Any) -> DiscoveredIssue:
    """What a session found, stored; with `finding`, that one."""
    return store(build_issue(session, finding, **fields))


def make_prompt(session: ReviewSession, **fields: Any) -> CopilotPrompt:
    """A stored prompt that nobody has read yet."""
    return store(build_prompt(session, **fields))


def store(row: Any) -> Any:
    """Save `row` and return it."""
    row.save()
    return row
