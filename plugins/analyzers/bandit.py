"""What does bandit find in the Python files of a codebase? The plugin `bandit`.

Nothing of the codebase decides how bandit runs. It looks for `.bandit` files in the folders that it is given, so it is
given files; and it leaves out paths that contain `.git`, `.tox` and the like anywhere unless it is told to exclude
nothing. Comments such as `# nosec` are obeyed, as everywhere bandit runs.
"""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plugins.analyzers.regions import BYTES
from plugins.analyzers.sarif_reader import Report, Result
from plugins.analyzers.sarif_tool import SarifTool
from plugins.contract import Executable, RuleSpec

_LEVELS = ("low", "medium", "high")
_LISTED = re.compile(r"^\s+(B\d{3})\s", re.MULTILINE)
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def _level(title: str, description: str) -> dict[str, Any]:
    return {
        "type": "string",
        "title": title,
        "description": description,
        "enum": list(_LEVELS),
        "default": "low",
    }


class Bandit(SarifTool):
    """Runs bandit."""

    name = "bandit"
    title = "Bandit"
    description = "Runs bandit over Python files, once for all of its rules, without the codebase's own settings."
    version = "1.0.0"
    executables = (Executable("bandit", "pip install 'bandit[sarif]'", "1.7.8"),)
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Bandit rule",
        "properties": {
            "select": {
                "type": "array",
                "title": "Tests",
                "description": "Tests of bandit, such as `B602`; none: all of them.",
                "items": {"type": "string", "title": "Test", "pattern": "^B[0-9]{3}$"},
                "maxItems": 200,
                "uniqueItems": True,
                "default": [],
            },
            "min_severity": _level("Severity at least", "Bandit's own severity; the rule's is what is reported."),
            "min_confidence": _level("Confidence at least", "How sure bandit is."),
        },
        "additionalProperties": False,
    }

    file_types = (".py", ".pyw")
    # 2 is a wrong command line. A crash is 1 as well: then there is no report.
    exit_codes = frozenset({0, 1})
    columns = BYTES
    takes_any_name = True
    list_arguments = ("--help",)
    sensitive_codes = frozenset({"B105", "B106", "B107"})
    messages_show_credentials = True

    def command(self, codes: Collection[str], report: Path) -> list[str]:
        """The arguments before the files."""
        return ["-q", "-f", "sarif", "-o", str(report), "-x", "", "-t", ",".join(sorted(codes))]

    def read_codes(self, text: str) -> set[str]:
        """The tests that the help lists at its end."""
        return set(_LISTED.findall(text))

    def selected(self, rule: RuleSpec, known: Collection[str]) -> tuple[set[str], list[str]]:
        """The known tests that the rule selects, and those it selects that are not known."""
        selectors = rule.configuration.get("select") or known
        return set(known).intersection(selectors), [each for each in selectors if each not in known]

    def weigh(self, rule: RuleSpec, result: Result) -> int | None:
        """1 for a rule that names the test, 0 for one that wants them all."""
        for name in ("severity", "confidence"):
            if _rank(result.properties.get(f"issue_{name}")) < _rank(rule.configuration.get(f"min_{name}")):
                return None
        selectors = rule.configuration.get("select")
        return (1 if result.code in selectors else None) if selectors else 0

    def missing(self, report: Report, files: Collection[bytes]) -> Iterable[bytes]:
        """The files that are not among those it has counted lines of. Those it could not open are in its notices."""
        counted = {os.fsencode(path) for bag in report.properties for path in bag.get("metrics", ())}
        told = {notice.location for notice in report.notices}
        return [file for file in files if file not in counted and file not in told]

    def refine(self, results: Sequence[Result], content: bytes) -> Sequence[Result]:
        """The results with their true last lines: bandit names the second line as the last of all that have several."""
        if all(result.region.end_line == result.region.start_line for result in results):
            return results
        ends: dict[tuple[int, int, int], int] = defaultdict(int)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"))
        except _UNREADABLE:
            return results
        for node in ast.walk(tree):
            if isinstance(node, ast.expr | ast.stmt | ast.ExceptHandler | ast.arg | ast.keyword | ast.alias):
                key = (node.lineno, node.col_offset + 1, (node.end_col_offset or 0) + 1)
                ends[key] = max(ends[key], node.end_lineno or node.lineno)
        return [_with_end(result, ends) for result in results]


def _with_end(result: Result, ends: Mapping[tuple[int, int, int], int]) -> Result:
    region = result.region
    if region.end_line == region.start_line:
        return result
    key = (region.start_line or 0, region.start_column or 0, region.end_column or 0)
    end = ends.get(key, region.end_line)
    return replace(result, region=replace(region, end_line=end))


def _rank(level: Any) -> int:
    """Place among the levels. What bandit calls undefined is told by rules that want everything."""
    lowered = str(level).lower()
    return _LEVELS.index(lowered) if lowered in _LEVELS else 0
