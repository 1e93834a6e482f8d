"""How are findings said in SARIF 2.1.0, so that GitHub code scanning and other readers take them?

Beyond the standard, GitHub wants every text filled and limited, URIs relative to the root of the repository, and a
fingerprint with each result by which it knows a result again when the lines above it change. It shows a suppressed
result like any other, so those are in a document only if the listing has them: then it is for the archive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

from plugins.contract import Finding, RuleSpec
from reviews import limits
from reviews.choices import IssueState, Triage
from reviews.engine import Failure, Result, rank, route
from reviews.issues import Issue, Listing, list_new
from reviews.limits import Extent

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
TOOL = "code-review"
BASE = "SRCROOT"
LINE_HASH = "primaryLocationLineHash"
"""The fingerprint by which GitHub knows a result again."""
OUR_KEY = "codeReviewFinding/v1"
"""The one by which we do: the key of the finding."""

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
_PROBLEM_SEVERITIES = {"error": "error", "warning": "warning", "note": "recommendation"}
# GitHub reads above 9.0 as critical, from 7.0 as high, from 4.0 as medium, below as low.
_SECURITY_SEVERITIES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0", "info": "0.5"}
# How often a finding is right: a text that matches may still be harmless, a random-looking credential rarely is.
_PRECISIONS = {"patterns": "medium", "secrets": "high"}
_CWE = re.compile(r"(?:^|/)(?:cwe-|definitions/)(\d{1,5})(?:\.html)?$", re.IGNORECASE)
_FAILURE = "analyzer-failure"
_LEFT_OUT = "left-out"


def document(
    result: Result,
    rules: Sequence[RuleSpec],
    *,
    tool_version: str,
    revision: int,
    root: Path,
    started_at: datetime,
    finished_at: datetime,
    listing: Listing | None = None,
    codebase: str = "",
    plugins: Mapping[str, str] | None = None,
    base: Path | None = None,
    category: str = TOOL,
) -> dict[str, Any]:
    """The SARIF document of a review: one run, ready for `json.dump`, and no larger than GitHub takes.

    `listing` says which findings are told; by default all, as if none had been seen before. If it shows what is
    suppressed, each result says whether it is. `base` is the folder that URIs are relative to: by default `root`, or
    the folder of a `root` that is a file. Give the root of the repository if a part of it was reviewed and the document
    goes to GitHub, which replaces an earlier document of the same commit, `category` and `codebase`. `plugins` are
    those that ran, with their versions.
    """
    folder, prefix = place(root, base)
    listing = listing or list_new(result.findings)
    run = _Run(
        result,
        sorted({rule.name: rule for rule in rules}.values(), key=lambda rule: rule.name),
        listing,
        listing.issues if listing.shows_suppressed else listing.counting,
        prefix,
    )
    started, finished = _utc(started_at), _utc(finished_at)
    head: dict[str, Any] = {
        "automationDetails": {"id": "/".join([category, *filter(None, [_plain(codebase)]), ""])},
        "originalUriBaseIds": {BASE: {"uri": folder.as_uri().rstrip("/") + "/"}},
    }

    def make(extent: Extent) -> dict[str, Any]:
        chosen, kept = run.choose(extent), run.choose_rules(extent)
        indexes = {rule.name: index for index, rule in enumerate(kept)}
        places = [indexes[issue.finding.rule] for issue in chosen]
        invocation = {
            # False keeps a reader from taking a finding that was not looked for as fixed.
            "executionSuccessful": not result.failures,
            "startTimeUtc": started,
            "endTimeUtc": finished,
            "toolExecutionNotifications": run.notify(extent, indexes),
        }
        tool: dict[str, Any] = {"driver": _driver(kept, tool_version)}
        if plugins:
            tool["extensions"] = _extensions(plugins)
        return {
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [
                {
                    "tool": tool,
                    **head,
                    "invocations": [invocation],
                    "columnKind": "unicodeCodePoints",
                    "results": [
                        run.tell(issue, issue.rule or kept[index], index, extent)
                        for issue, index in zip(chosen, places, strict=True)
                    ],
                    "properties": {
                        "revision": revision,
                        "filesAnalyzed": result.files_analyzed,
                        "filesSkipped": dict(sorted(result.files_skipped.items())),
                    },
                }
            ],
        }

    return limits.fit(make, len(run.issues))


def place(root: Path, base: Path | None) -> tuple[Path, str]:
    """The folder that paths are told from, and what leads from there to a reviewed `root`: empty, or with a slash at
    its end. `base` is None, or a folder at or above `root`."""
    root = root.resolve()
    folder = root.parent if root.is_file() else root
    base = folder if base is None else base.resolve()
    return base, "" if folder == base else folder.relative_to(base).as_posix() + "/"


def encode_path(path: str) -> str:
    """A relative path as a URI reference."""
    # A colon in the first part would read as a scheme; only what never needs quoting is left as it is.
    return quote(os.fsencode(path), safe="/")


@dataclass(frozen=True)
class _Run:
    """What is to be told of a review."""

    result: Result
    rules: Sequence[RuleSpec]
    """By name."""
    listing: Listing
    issues: Sequence[Issue]
    prefix: str

    def choose(self, extent: Extent) -> Sequence[Issue]:
        """The most severe issues, in the order they came in."""
        if len(self.issues) <= extent.results:
            return self.issues
        by_name = {rule.name: rule for rule in self.rules}
        ranks = [rank(issue.judge(by_name).severity) for issue in self.issues]
        order = sorted(range(len(self.issues)), key=lambda index: (-ranks[index], index))
        return [self.issues[index] for index in sorted(order[: extent.results])]

    def choose_rules(self, extent: Extent) -> Sequence[RuleSpec]:
        """The rules of the issues, and others if there is room; the most severe first come in."""
        if extent.all_rules and len(self.rules) <= limits.MAX_RULES:
            return self.rules
        named = {issue.finding.rule for issue in self.choose(extent)}
        order = sorted(self.rules, key=lambda rule: (rule.name not in named, -rank(rule.severity)))
        kept = {rule.name for rule in order[: limits.MAX_RULES if extent.all_rules else len(named)]}
        return [rule for rule in self.rules if rule.name in kept]

    def notify(self, extent: Extent, indexes: Mapping[str, int]) -> list[dict[str, Any]]:
        """What went wrong, and what had to be left out."""
        failures = self.result.failures
        shown = failures[: limits.MAX_NOTIFICATIONS]
        missing = {
            "results": (len(self.issues) - extent.results, "results were left out, the least severe"),
            "rules": (len(self.rules) - len(indexes), "rules were left out"),
            "failures": (len(failures) - len(shown), "more failures were left out"),
        }
        texts = [f"{number} {text}: GitHub takes no more." for number, text in missing.values() if number > 0]
        if not extent.snippets:
            texts.append("The code next to the results was left out: GitHub takes no more.")
        left_out = [{"descriptor": {"id": _LEFT_OUT}, "level": "warning", "message": {"text": text}} for text in texts]
        return [_notification(failure, indexes, self.prefix) for failure in shown] + left_out

    def tell(self, issue: Issue, rule: RuleSpec, index: int, extent: Extent) -> dict[str, Any]:
        """The issue as a result of the rule at `index`."""
        finding = issue.finding
        said: dict[str, Any] = {
            "ruleId": finding.rule,
            "ruleIndex": index,
            "level": _LEVELS.get(rule.severity, "warning"),
            "message": {"text": _text(finding.message, rule.message, rule.title, rule.name)},
            "locations": [{"physicalLocation": _place(finding, self.prefix, snippets=extent.snippets)}],
        }
        said["partialFingerprints"] = {LINE_HASH: _hash_line(finding, self.result.fingerprints)}
        if issue.key:
            said["partialFingerprints"][OUR_KEY] = issue.key
        state = self.listing.state(issue)
        if self.listing.is_compared:
            # What came back was not there in the review before, which is what the standard calls new.
            said["baselineState"] = "unchanged" if state == IssueState.EXISTING else "new"
        if self.listing.shows_suppressed:
            # For all results or for none: an empty array says that nothing suppresses it.
            said["suppressions"] = _suppressions(issue, self.prefix)
        properties = {
            "code": finding.code,
            "state": state if state == IssueState.REAPPEARED else "",
            "triage": str(issue.triage) if issue.triage != Triage.OPEN else "",
        }
        if any(properties.values()):
            said["properties"] = {name: value for name, value in properties.items() if value}
        return said


def _hash_line(finding: Finding, fingerprints: Mapping[tuple[str, int], str]) -> str:
    """By what GitHub knows the result again. Without any it would show a new one after each review."""
    found = fingerprints.get((finding.path, finding.start_line))
    if found is not None:
        return found
    # There is no such line: something is missing, such as a file.
    text = "\0".join((finding.rule, finding.path, finding.message))
    return f"{blake2b(text.encode('utf-8', 'replace'), digest_size=8).hexdigest()}:1"


def _driver(rules: Sequence[RuleSpec], version: str) -> dict[str, Any]:
    return {
        "name": TOOL,
        "version": version or "0",
        "rules": [_rule(rule) for rule in rules],
        "notifications": [
            {"id": _FAILURE, "shortDescription": {"text": "An analyzer could not do its work."}},
            {"id": _LEFT_OUT, "shortDescription": {"text": "There was more than a document may hold."}},
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


def _extensions(plugins: Mapping[str, str]) -> list[dict[str, Any]]:
    named = sorted(plugins.items())[: limits.MAX_EXTENSIONS]
    return [{"name": name, "version": version or "0"} for name, version in named]


def _place(finding: Finding, prefix: str, *, snippets: bool) -> dict[str, Any]:
    said: dict[str, Any] = {
        "artifactLocation": _artifact(finding.path, prefix),
        "region": {
            "startLine": finding.start_line,
            "startColumn": finding.start_column,
            "endLine": finding.end_line,
            "endColumn": finding.end_column,
        },
    }
    if snippets and finding.snippet.strip() and finding.start_line == finding.end_line:
        # The line, not the region: it may be shortened, and a credential in it is masked.
        said["contextRegion"] = {"startLine": finding.start_line, "snippet": {"text": finding.snippet}}
    return said


def _suppressions(issue: Issue, prefix: str) -> list[dict[str, Any]]:
    """What suppresses the issue: a comment in the code, people, both or nothing."""
    said: list[dict[str, Any]] = []
    directive = issue.suppressed
    if directive is not None:
        region = {"startLine": directive.line, "startColumn": directive.column, "endColumn": directive.end_column}
        where = {"physicalLocation": {"artifactLocation": _artifact(issue.finding.path, prefix), "region": region}}
        said.append({"kind": "inSource", "status": "accepted", "location": where})
        if directive.reason.strip():
            said[-1]["justification"] = _text(directive.reason)
        if directive.until is not None:
            said[-1]["properties"] = {"until": directive.until.isoformat()}
    if issue.is_dismissed:
        said.append({"kind": "external", "status": "accepted", "justification": str(Triage(issue.triage).label)})
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
    return list(dict.fromkeys(each for each in own if each))[: limits.MAX_TAGS]


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
    return ("".join(part[:1].upper() + part[1:] for part in parts) or name)[: limits.MAX_NAME]


def _text(*candidates: str) -> str:
    """The first of the texts that is not blank, no longer than allowed. The last is never blank."""
    text = next((each.strip() for each in candidates if each.strip()), "-")
    return text if len(text) <= limits.MAX_TEXT else text[: limits.MAX_TEXT - 1] + "…"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(name: str) -> str:
    """`name` on one line."""
    return "".join(letter if letter.isprintable() else "-" for letter in name).strip("/ ")
