"""What does ruff find in the Python files of a codebase? The plugin `ruff`.

Nothing of the codebase decides how ruff runs: `--isolated` reads no configuration file. Comments such as `# noqa` are
obeyed, as everywhere ruff runs.

A file that does not parse is a failure and no finding, `E902` included: ruff has then looked at parts of it at most, so
that "no findings" would be untrue, and no governed rule says how severe a file is that nobody could read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from plugins.analyzers.sarif_reader import Result
from plugins.analyzers.sarif_tool import SarifTool
from plugins.contract import Executable, RuleSpec

_CODE = re.compile(r"[A-Z]+[0-9]+")
_SELECTOR: Mapping[str, Any] = {
    "type": "string",
    "title": "Code",
    "pattern": "^[A-Z]{1,10}[0-9]{0,5}$",
    "maxLength": 15,
}


class Ruff(SarifTool):
    """Runs ruff."""

    name = "ruff"
    title = "Ruff"
    description = (
        "Runs the linter ruff over Python files, once for all of its rules, without the codebase's own settings."
    )
    version = "1.0.0"
    executables = (Executable("ruff", "pip install ruff", "0.5"),)
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Ruff rule",
        "properties": {
            "select": {
                "type": "array",
                "title": "Codes",
                "description": "Codes of ruff, or what they begin with: `S` for all of flake8-bandit, `B006` for one.",
                "items": _SELECTOR,
                "minItems": 1,
                "maxItems": 200,
                "uniqueItems": True,
            },
            "ignore": {
                "type": "array",
                "title": "Except",
                "description": "Codes, or what they begin with, that the rule does not select after all. "
                "The longer of two that fit wins.",
                "items": _SELECTOR,
                "maxItems": 200,
                "uniqueItems": True,
                "default": [],
            },
        },
        "required": ["select"],
        "additionalProperties": False,
    }

    file_types = (".py", ".pyi", ".pyw")
    # 2 is a wrong command line, anything else a crash.
    exit_codes = frozenset({0, 1})
    list_arguments = ("rule", "--all", "--output-format", "json")
    sensitive_codes = frozenset({"S105", "S106", "S107"})

    def command(self, codes: Collection[str], report: Path) -> list[str]:
        """The arguments before the files."""
        # Without E902, ruff says nothing at all of a file that it cannot read.
        selected = ["--select", ",".join(sorted({*codes, "E902"}))]
        return [
            "check",
            "--isolated",
            "--no-cache",
            "--no-fix",
            *selected,
            "--output-format",
            "sarif",
            "-o",
            str(report),
        ]

    def read_codes(self, text: str) -> set[str]:
        """The codes of the rules that are neither removed nor in preview, which ruff runs without further options."""
        return {rule["code"] for rule in json.loads(text) if rule.get("code") and _is_stable(rule)}

    def selected(self, rule: RuleSpec, known: Collection[str]) -> tuple[set[str], list[str]]:
        """The known codes that the rule selects, and its selectors that no known code belongs to."""
        selectors = rule.configuration["select"]
        unknown = [selector for selector in selectors if not any(_fits(selector, code) for code in known)]
        return {code for code in known if _weigh(rule, code) is not None}, unknown

    def weigh(self, rule: RuleSpec, result: Result) -> int | None:
        """The length of the selector that fits."""
        return _weigh(rule, result.code)

    def is_failure(self, result: Result) -> bool:
        """Whether ruff could not read or parse the file: `invalid-syntax` (no code at all before 0.12), or `E902`."""
        return result.code == "E902" or not _CODE.fullmatch(result.code)


def _weigh(rule: RuleSpec, code: str) -> int | None:
    wanted = _longest(rule.configuration["select"], code)
    return wanted if wanted > _longest(rule.configuration.get("ignore", ()), code) else None


def _longest(selectors: Sequence[str], code: str) -> int:
    return max((len(selector) for selector in selectors if _fits(selector, code)), default=0)


def _fits(selector: str, code: str) -> bool:
    """Whether the code belongs to the selector: letters are the name of a family, so `S` is not the start of `SLF001`.

    Pylint's families, `PLC` to `PLW`, are parts of one.
    """
    return code.startswith(selector) and (selector == "PL" or _letters(code) == _letters(selector))


def _letters(code: str) -> str:
    return code.rstrip("0123456789")


def _is_stable(rule: Mapping[str, Any]) -> bool:
    # Before 0.14 there was no `status`, but the explanation of what is removed begins by saying so.
    status, explanation = rule.get("status", {}), rule.get("explanation", "").lstrip()
    removed = "Removed" in status or explanation.startswith(("## Removed", "## Removal"))
    return not rule.get("preview") and not removed
