"""How are findings said in SARIF 2.1.0, so that GitHub code scanning and other readers take them?

Beyond the standard, GitHub wants every text filled and limited, URIs relative to the root of the repository, and a
fingerprint with each result by which it knows a result again when the lines above it change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from plugins.contract import Finding, RuleSpec
from reviews.engine import Failure, Result, rank, route

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
TOOL = "code-review"
BASE = "SRCROOT"
MAX_TEXT = 1024
"""Characters of a description, and of a message, that GitHub accepts."""
MAX_NAME = 255
MAX_TAGS = 10
"""Tags of a rule that GitHub keeps."""
MAX_RESULTS = 25_000
"""Results in one run above which GitHub refuses the whole document."""

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
_PROBLEM_SEVERITIES = {"error": "error", "warning": "warning", "note": "recommendation"}
# GitHub reads above 9.0 as critical, from 7.0 as high, from 4.0 as medium, below as low.
_SECURITY_SEVERITIES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0", "info": "0.5"}
# How often a finding is right: a text that matches may still be harmless, a random-looking credential rarely is.
_PRECISIONS = {"patterns": "medium", "secrets": "high"}
_CWE = re.compile(r"(?:^|/)(?:cwe-|definitions/)(\d{1,5})(?:\.html)?$", re.IGNORECASE)
_FAILURE = "analyzer-failure"
_LEFT_OUT = "results-left-out"


def document(
    result: Result,
    rules: Sequence[RuleSpec],
    *,
    tool_version: str,
    revision: int,
    root: Path,
    started_at: datetime,
    finished_at: datetime,
    failures: Sequence[Failure] | None = None,
    base: Path | None = None,
    category: str = TOOL,
) -> dict[str, Any]:
    """The SARIF document of a review: one run, ready for `json.dump`.

    `base` is the folder that URIs are relative to: by default `root`, or the folder of a `root` that is a file. Give
    the root of the repository if a part of it was reviewed and the document goes to GitHub. `failures` are those of
    `result` unless given. GitHub replaces an earlier document of the same commit and `category`.
    """
    failures = result.failures if failures is None else failures
    root = root.resolve()
    folder = root.parent if root.is_file() else root
    base = folder if base is None else base.resolve()
    prefix = "" if folder == base else folder.relative_to(base).as_posix() + "/"
    ordered = sorted({rule.name: rule for rule in rules}.values(), key=lambda rule: rule.name)
    indexes = {rule.name: index for index, rule in enumerate(ordered)}
    findings = _worst(result.findings, {rule.name: rank(rule.severity) for rule in ordered})
    notifications = [_notification(failure, indexes, prefix) for failure in failures]
    if len(findings) < len(result.findings):
        left_out = len(result.findings) - len(findings)
        text = f"{left_out} results were left out, the least severe; {MAX_RESULTS} are allowed in one document."
        notifications.append({"descriptor": {"id": _LEFT_OUT}, "level": "warning", "message": {"text": text}})
    started, finished = _utc(started_at), _utc(finished_at)
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver(ordered, tool_version)},
                "automationDetails": {"id": f"{category}/{revision}-{started}"},
                "originalUriBaseIds": {BASE: {"uri": base.as_uri().rstrip("/") + "/"}},
                "invocations": [
                    {
                        # False keeps a reader from taking a finding that was not looked for as fixed.
                        "executionSuccessful": not failures,
                        "startTimeUtc": started,
                        "endTimeUtc": finished,
                        "toolExecutionNotifications": notifications,
                    }
                ],
                "columnKind": "unicodeCodePoints",
                "results": [_result(each, ordered[indexes[each.rule]], indexes, result, prefix) for each in findings],
                "properties": {
                    "revision": revision,
                    "filesAnalyzed": result.files_analyzed,
                    "filesSkipped": dict(sorted(result.files_skipped.items())),
                },
            }
        ],
    }


def encode_path(path: str) -> str:
    """A relative path as a URI reference."""
    # A colon in the first part would read as a scheme; only what never needs quoting is left as it is.
    return quote(path, safe="/")


def _worst(findings: Sequence[Finding], ranks: Mapping[str, int]) -> Sequence[Finding]:
    """At most `MAX_RESULTS` of the findings, the most severe, in the order they came in."""
    if len(findings) <= MAX_RESULTS:
        return findings
    order = sorted(range(len(findings)), key=lambda index: (-ranks[findings[index].rule], index))
    return [findings[index] for index in sorted(order[:MAX_RESULTS])]


def _driver(rules: Sequence[RuleSpec], version: str) -> dict[str, Any]:
    return {
        "name": TOOL,
        "version": version or "0",
        "rules": [_rule(rule) for rule in rules],
        "notifications": [
            {"id": _FAILURE, "shortDescription": {"text": "An analyzer could not do its work."}},
            {"id": _LEFT_OUT, "shortDescription": {"text": "There were more results than a document may hold."}},
        ],
    }


def _rule(rule: RuleSpec) -> dict[str, Any]:
    level = _LEVELS.get(rule.severity, "warning")
    title = _text(rule.title, rule.name)
    described: dict[str, Any] = {
        "id": rule.name,
        "name": _pascal(rule.name),
        "shortDescription": {"text": title},
        "fullDescription": {"text": _text(rule.description, rule.message, title)},
        "help": {"text": _text(rule.remediation, rule.message, title), "markdown": _markdown(rule)},
        "defaultConfiguration": {"level": level},
        "properties": {
            "tags": _tags(rule),
            "precision": _PRECISIONS.get(rule.plugin, "medium"),
            "problem.severity": _PROBLEM_SEVERITIES[level],
            "severity": rule.severity,
            "personas": list(route(rule)),
        },
    }
    if rule.rule_type == "security":
        described["properties"]["security-severity"] = _SECURITY_SEVERITIES.get(rule.severity, "5.5")
    address = next((each for each in rule.references if _is_address(each)), None)
    if address is not None:
        described["helpUri"] = address
    return described


def _result(
    finding: Finding, rule: RuleSpec, indexes: Mapping[str, int], result: Result, prefix: str
) -> dict[str, Any]:
    place: dict[str, Any] = {
        "artifactLocation": _artifact(finding.path, prefix),
        "region": {
            "startLine": finding.start_line,
            "startColumn": finding.start_column,
            "endLine": finding.end_line,
            "endColumn": finding.end_column,
        },
    }
    if finding.snippet.strip() and finding.start_line == finding.end_line:
        # The line, not the region: it may be shortened, and a credential in it is masked.
        place["contextRegion"] = {"startLine": finding.start_line, "snippet": {"text": finding.snippet}}
    said: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": indexes[finding.rule],
        "level": _LEVELS.get(rule.severity, "warning"),
        "message": {"text": _text(finding.message, rule.message, rule.title, rule.name)},
        "locations": [{"physicalLocation": place}],
    }
    fingerprint = result.fingerprints.get((finding.path, finding.start_line))
    if fingerprint is not None:
        said["partialFingerprints"] = {"primaryLocationLineHash": fingerprint}
    return said


def _notification(failure: Failure, indexes: Mapping[str, int], prefix: str) -> dict[str, Any]:
    about = f"The plugin {failure.plugin}" + (f" on the rule {failure.rule}" if failure.rule else "")
    said: dict[str, Any] = {
        "descriptor": {"id": _FAILURE},
        "level": "error",
        "message": {"text": _text(f"{about}: {failure.message}")},
    }
    if failure.rule is not None and failure.rule in indexes:
        said["associatedRule"] = {"id": failure.rule, "index": indexes[failure.rule]}
    if failure.path is not None:
        said["locations"] = [{"physicalLocation": {"artifactLocation": _artifact(failure.path, prefix)}}]
    return said


def _artifact(path: str, prefix: str) -> dict[str, str]:
    return {"uri": encode_path(prefix + path), "uriBaseId": BASE}


def _tags(rule: RuleSpec) -> list[str]:
    """The rule type, weaknesses as GitHub spells them, then the rule's own tags."""
    numbers = [found[1] for each in rule.references if (found := _CWE.search(each))]
    weaknesses = [f"external/cwe/cwe-{int(number):03d}" for number in numbers]
    own = [each.strip() for each in (rule.rule_type, *weaknesses, *rule.tags)]
    return list(dict.fromkeys(each for each in own if each))[:MAX_TAGS]


def _markdown(rule: RuleSpec) -> str:
    parts = [each for each in (rule.message.strip(), rule.remediation.strip()) if each] or [
        _text(rule.title, rule.name)
    ]
    if rule.references:
        links = (f"- <{each}>" if _is_address(each) else f"- {each}" for each in rule.references)
        parts.append("\n".join(links))
    return "\n\n".join(parts)


def _is_address(reference: str) -> bool:
    return re.fullmatch(r"https?://[!-;=?-~]+", reference) is not None


def _pascal(name: str) -> str:
    parts = re.split(r"[^0-9A-Za-z]+", name)
    return ("".join(part[:1].upper() + part[1:] for part in parts) or name)[:MAX_NAME]


def _text(*candidates: str) -> str:
    """The first of the texts that is not blank, no longer than allowed. The last is never blank."""
    text = next((each.strip() for each in candidates if each.strip()), "-")
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
