"""What does a SARIF document say that somebody else's tool wrote? Pure.

Strict about what a review needs (a log with runs, each run with its results, each result with a rule or a message)
and tolerant about the rest. Positions are handed on as they stand; `plugins.analyzers.regions` makes sense of them.
Source: SARIF 2.1.0, OASIS.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

UTF_16 = "utf16CodeUnits"
CODE_POINTS = "unicodeCodePoints"
MAX_MESSAGE = 1000
"""Characters of a message that are kept."""

_BASES = 8
"""How many base addresses may hang on each other."""


class SarifError(ValueError):
    """The document cannot be used. The message is the end of a sentence about it."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where in a file, as the tool says it: whole numbers, or None where it says nothing."""

    start_line: int | None = None
    start_column: int | None = None
    end_line: int | None = None
    end_column: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One result. `code` is empty if the tool names no rule, which it may, for instance where a file does not parse.
    `location` is the file as the tool names it: a path, absolute or not, or None if it names none."""

    code: str
    message: str
    location: bytes | None
    region: Region = Region()
    properties: Mapping[str, Any] = field(default_factory=dict)
    column_kind: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the tool could not do."""

    message: str
    location: bytes | None
    region: Region = Region()


@dataclass(slots=True)
class Report:
    """All runs of a document together."""

    results: list[Result] = field(default_factory=list)
    """Without those that are suppressed in the tool, or that say that all is well."""
    listed: int = 0
    """Results in the document, all of them."""
    notices: list[Notice] = field(default_factory=list)
    properties: list[Mapping[str, Any]] = field(default_factory=list)
    """The property bag of each run."""


def read_report(content: bytes) -> Report:
    """The results and notices of a document; raises `SarifError`."""
    if not content.strip():
        raise SarifError("it is empty")
    try:
        log = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SarifError(f"it is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SarifError(f"it is no JSON, or only the beginning of one ({error.msg}, {where})") from error
    except (ValueError, RecursionError) as error:
        raise SarifError(f"it is no JSON that can be read ({error})") from error
    if not isinstance(log, dict):
        raise SarifError("it is JSON, but no object")
    if not str(log.get("version")).startswith("2.1."):
        raise SarifError(f"it is no SARIF 2.1: its version is {str(log.get('version'))[:20]!r}")
    runs = log.get("runs")
    if not isinstance(runs, list) or not runs:
        raise SarifError("it has no runs")
    report = Report()
    for run in runs:
        if not isinstance(run, dict):
            raise SarifError("one of its runs is no object")
        _read_run(run, report)
    return report


def _read_run(run: Mapping[str, Any], report: Report) -> None:
    results = run.get("results")
    if not isinstance(results, list):
        raise SarifError("one of its runs has no list of results")
    names = _Names(run)
    kind = run.get("columnKind")
    report.listed += len(results)
    for result in results:
        if not isinstance(result, dict):
            raise SarifError("one of its results is no object")
        if not _stands(result):
            continue
        code = names.code(result)
        location, region = names.place(result)
        message = names.message(result, code)
        if not code and not message:
            raise SarifError("one of its results says nothing")
        bag = _mapping(result.get("properties"))
        report.results.append(Result(code, message, location, region, bag, kind if isinstance(kind, str) else None))
    for invocation in _objects(run.get("invocations")):
        report.notices += _read_notices(invocation, names)
    report.properties.append(_mapping(run.get("properties")))


def _stands(result: Mapping[str, Any]) -> bool:
    """Whether the result says that something is there now, and nobody has accepted it in the tool."""
    if result.get("kind") in ("pass", "notApplicable") or result.get("baselineState") == "absent":
        return False
    suppressions = _objects(result.get("suppressions"))
    return not suppressions or any(each.get("status") not in (None, "accepted") for each in suppressions)


def _read_notices(invocation: Mapping[str, Any], names: _Names) -> Iterator[Notice]:
    told = False
    for kind in ("toolConfigurationNotifications", "toolExecutionNotifications"):
        for notification in _objects(invocation.get(kind)):
            # The level is a warning where none is given.
            if notification.get("level", "warning") in ("error", "warning"):
                told = True
                location, region = names.place(notification)
                yield Notice(names.message(notification, ""), location, region)
    if invocation.get("executionSuccessful") is False and not told:
        reason = invocation.get("exitCodeDescription") or invocation.get("exitSignalName") or "it does not say why"
        yield Notice(f"it says that it did not succeed: {str(reason)[:MAX_MESSAGE]}", None)


class _Names:
    """What indexes and base addresses in a run stand for."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        driver = _mapping(_mapping(run.get("tool")).get("driver"))
        self._rules = _objects(driver.get("rules"))
        self._artifacts = _objects(run.get("artifacts"))
        self._bases = _mapping(run.get("originalUriBaseIds"))

    def code(self, result: Mapping[str, Any]) -> str:
        reference = _mapping(result.get("rule"))
        for value in (result.get("ruleId"), reference.get("id"), self._rule(result).get("id")):
            if isinstance(value, str) and value:
                return value[:200]
        return ""

    def message(self, result: Mapping[str, Any], code: str) -> str:
        message = _mapping(result.get("message"))
        identifier = message.get("id")
        templates = _mapping(self._rule(result, code).get("messageStrings"))
        template = _mapping(templates.get(identifier)) if isinstance(identifier, str) else {}
        for value in (message.get("text"), message.get("markdown"), template.get("text")):
            if isinstance(value, str) and value.strip():
                text = " ".join(value.split())
                for index, argument in enumerate(_list(message.get("arguments"))):
                    text = text.replace(f"{{{index}}}", str(argument))
                return text[:MAX_MESSAGE]
        return ""

    def place(self, result: Mapping[str, Any]) -> tuple[bytes | None, Region]:
        """The file and the region of the first location, the only one that is used."""
        first = next(iter(_objects(result.get("locations"))), {})
        physical = _mapping(first.get("physicalLocation"))
        region = _mapping(physical.get("region"))
        numbers = (_number(region.get(name)) for name in ("startLine", "startColumn", "endLine", "endColumn"))
        return self._location(_mapping(physical.get("artifactLocation"))), Region(*numbers)

    def _rule(self, result: Mapping[str, Any], code: str = "") -> Mapping[str, Any]:
        index = result.get("ruleIndex", _mapping(result.get("rule")).get("index"))
        if isinstance(index, int) and 0 <= index < len(self._rules):
            return self._rules[index]
        return next((rule for rule in self._rules if code and rule.get("id") == code), {})

    def _location(self, artifact: Mapping[str, Any]) -> bytes | None:
        index = artifact.get("index")
        if "uri" not in artifact and isinstance(index, int) and 0 <= index < len(self._artifacts):
            artifact = _mapping(self._artifacts[index].get("location"))
        uri = artifact.get("uri")
        return self._path(uri, artifact.get("uriBaseId"), _BASES) if isinstance(uri, str) and uri else None

    def _path(self, uri: str, base: Any, left: int) -> bytes | None:
        """The path of an address. One whose base is not given stays relative."""
        scheme, colon, rest = uri.partition(":")
        if colon and scheme.lower() == "file":
            host, slash, rest = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest)
            if host.lower() not in ("", "localhost"):
                return None
            return _tidy(unquote_to_bytes(slash + rest))
        if colon and scheme.isalnum() and "/" not in scheme:
            return None  # an address on the net, or `untitled:`
        path = unquote_to_bytes(uri)
        parent = _mapping(self._bases.get(base)) if isinstance(base, str) else {}
        parent_uri = parent.get("uri")
        if left and not path.startswith(b"/") and isinstance(parent_uri, str):
            folder = self._path(parent_uri, parent.get("uriBaseId"), left - 1)
            if folder is not None:
                return _tidy(folder.rstrip(b"/") + b"/" + path)
        return _tidy(path)


def _tidy(path: bytes) -> bytes | None:
    if not path or b"\0" in path:
        return None
    return b"/" + posixpath.normpath(path).lstrip(b"/") if path.startswith(b"/") else posixpath.normpath(path)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in _list(value) if isinstance(each, dict)]


def _number(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
