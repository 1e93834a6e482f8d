"""Which functions, classes and files of Python are larger or more tangled than a limit allows? The plugin `metrics`.

What is measured, and how it compares with other tools, is told in `plugins.analyzers.syntax`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugins.analyzers.options import check_options
from plugins.analyzers.patterns import Locator, check_configuration, normalise, shorten
from plugins.analyzers.syntax import Class, Function, Measured, NotParsed, measure
from plugins.contract import Finding, PartialFailure, RuleError, RuleSpec, SourceFile
from plugins.expressions import compile_expression

# What a message says of a value.
_SAYINGS = {
    "complexity": "has complexity {}",
    "length": "has {} lines",
    "arguments": "takes {} arguments",
    "nesting": "nests {} blocks",
    "returns": "returns in {} places",
    "class_length": "has {} lines",
    "file_length": "has {} lines",
}
_OPTIONS = {
    **dict.fromkeys(("complexity", "nesting", "returns"), ("max", "unless")),
    "length": ("max", "unless", "count_docstrings"),
    "arguments": ("max", "unless", "count_self"),
    "class_length": ("max", "unless", "count_docstrings"),
    "file_length": ("max", "count_docstrings"),
}


@dataclass(frozen=True, slots=True)
class _Limit:
    measure: str
    highest: int
    unless: Any | None
    count: Callable[[Measured, Any], int | None]


class Metrics:
    """Measures Python functions, classes and files."""

    name = "metrics"
    title = "Python metrics"
    description = (
        "Python metrics from the syntax tree: complexity, length, arguments, nesting and returns of functions, "
        "length of classes and files. Each file is parsed once for all rules."
    )
    version = "1.0.0"
    requires: Sequence[str] = ()
    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Python metrics",
        "properties": {},
        "additionalProperties": False,
    }
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Metric rule",
        "properties": {
            "measure": {
                "type": "string",
                "title": "Measure",
                "description": "Of each function: its McCabe complexity, length in lines of code, number of arguments, "
                "nesting of blocks, number of `return`s. Or the length of each class or of the file.",
                "enum": list(_SAYINGS),
            },
            "max": {
                "type": "integer",
                "title": "Limit",
                "description": "The highest value that is not reported.",
                "format": "int32",
                "minimum": 0,
                "maximum": 1_000_000,
            },
            "count_docstrings": {
                "type": "boolean",
                "title": "Count docstrings",
                "description": "For lengths: docstrings are lines of code as well. "
                "Blank lines and lines with only a comment never are.",
                "format": "checkbox",
                "default": False,
            },
            "count_self": {
                "type": "boolean",
                "title": "Count self",
                "description": "For arguments: the first one of a method (`self`, `cls`) counts as well.",
                "format": "checkbox",
                "default": False,
            },
            "unless": {
                "type": "string",
                "title": "Unless",
                "description": "RE2 expression: a function or class is not measured if its name matches, "
                "which says where it is defined: `Parser.parse`, `outer.inner`.",
                "format": "re2",
                "maxLength": 2000,
                "default": "",
            },
        },
        "required": ["measure", "max"],
        "additionalProperties": False,
    }

    def __init__(self) -> None:
        self.prepare((), {})

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if the configuration does not fit or the rule would ask about more than Python files."""
        check_configuration(rule, self.rule_schema)
        check_options(rule, "measure", _OPTIONS)
        _limit(rule)
        if not rule.file_types:
            message = "Only Python can be measured: name the file types, such as `.py`."
            raise RuleError(message, field="file_types", code="required")

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Take the limits of a run."""
        self._limits = {rule.name: _limit(rule) for rule in rules}

    def analyze(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterable[Finding | PartialFailure]:
        """What exceeds the limits of the given rules, in the order of the file; a file that is no Python is told."""
        source = normalise(source)
        try:
            # Bytes that are no UTF-8 are replaced first: the offsets of the tree are those of what was parsed.
            text = source.content.decode("utf-8", "replace").encode()
            # A lone carriage return ends a line for Python and not for the contract; the offsets stay the same.
            measured = measure(text.replace(b"\r", b"\n"))
        except NotParsed as error:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            return [PartialFailure(f"{error} (read as Python {version})", path=source.path)]
        exceeding = [entry for rule in rules for entry in self._exceeding(rule, measured)]
        if not exceeding:
            return []
        shown = SourceFile(source.path, text)
        locator = Locator(shown)
        findings = []
        for start, end, rule, message in sorted(exceeding):
            start_line, start_column = locator.locate(start)
            end_line, end_column = locator.locate(end)
            place = (start_line, start_column, end_line, end_column)
            findings.append(Finding(rule, source.path, *place, message, shorten(shown.line(start_line))))
        return findings

    def _exceeding(self, rule: RuleSpec, measured: Measured) -> Iterator[tuple[int, int, str, str]]:
        """Byte offsets of each name that exceeds the limit of the rule, the rule's name, and what to say."""
        limit = self._limits[rule.name]
        candidates: Sequence[Function | Class | None] = measured.functions
        if limit.measure == "class_length":
            candidates = measured.classes
        elif limit.measure == "file_length":
            candidates = (None,)
        for each in candidates:
            value = limit.count(measured, each)
            if value is None or value <= limit.highest:
                continue
            if each is not None and limit.unless is not None and limit.unless.search(each.name) is not None:
                continue
            start, end = measured.locate_name(each.node) if each is not None else (0, 0)
            what = f"`{each.name}`" if each is not None else "the file"
            message = rule.message or rule.title or rule.name
            saying = _SAYINGS[limit.measure].format(value)
            yield start, end, rule.name, f"{message} ({what} {saying}, {limit.highest} is the limit)"


def _limit(rule: RuleSpec) -> _Limit:
    """What the rule asks for; raises `RuleError` if its `unless` cannot run."""
    configuration = rule.configuration
    measure = configuration["measure"]
    unless = configuration.get("unless") or None
    if unless is not None:
        unless = compile_expression(unless, multiline=False, allow_empty_match=False, field="configuration/unless")
    return _Limit(measure, configuration["max"], unless, _counter(measure, configuration))


def _counter(measure: str, configuration: Mapping[str, Any]) -> Callable[[Measured, Any], int | None]:
    """What gives the value of a function, a class or (None) the file; None if there is none to judge."""
    if measure.endswith("length"):
        docstrings = bool(configuration.get("count_docstrings", False))
        return lambda measured, each: measured.count_lines(each and each.node, docstrings=docstrings)
    if measure == "arguments" and not configuration.get("count_self", False):
        return lambda _, each: None if each.arguments is None else each.arguments - each.is_method
    return lambda _, each: getattr(each, measure)
