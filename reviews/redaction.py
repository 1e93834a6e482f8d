"""May what a review found be stored? Not before the secrets of its settings are out of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from plugins.contract import Finding
from plugins.masking import redact
from reviews.ledger import Result


def hide_secrets(result: Result, secrets: Sequence[str]) -> None:
    """Take `secrets` out of all that analyzers have said in `result`."""
    known = [secret for secret in secrets if secret]
    if not known:
        return
    quiet = {finding: _quieten(finding, known) for finding in result.findings}
    result.findings = [quiet[finding] for finding in result.findings]
    result.marks = {quiet.get(finding, finding): marks for finding, marks in result.marks.items()}
    result.suppressed = {quiet.get(finding, finding): by for finding, by in result.suppressed.items()}
    result.failures = [each._replace(message=redact(each.message, known)) for each in result.failures]
    for tally in result.plugin_runs.values():
        tally.detail = redact(tally.detail, known)


def _quieten(finding: Finding, secrets: Sequence[str]) -> Finding:
    message, snippet = redact(finding.message, secrets), redact(finding.snippet, secrets)
    if (message, snippet) == (finding.message, finding.snippet):
        return finding
    return replace(finding, message=message, snippet=snippet)
