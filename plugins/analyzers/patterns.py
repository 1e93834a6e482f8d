"""Where does a file match a rule's regular expression? The plugin `patterns`, and the scanner that others build on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugins import schemas
from plugins.contract import Finding, RuleError, RuleSpec, SourceFile
from plugins.expressions import ExpressionSet, compile_expression, compile_set

SNIPPET_LENGTH = 300
"""Characters of a snippet at most."""
# A character takes up to four bytes; what is decoded for one snippet stays bounded in a file of one long line.
_WINDOW = 4 * SNIPPET_LENGTH
_LEAD = 100
# A path pattern may choose other rules for every file. Beyond this number of different choices one set of all
# prepared rules is used, and what was not asked for is left out of its answer.
_SETS = 32
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

PATTERN_PROPERTY = {
    "type": "string",
    "title": "Pattern",
    "description": "RE2 expression. `^` and `$` are the ends of a line; line ends are `\\n` in every file.",
    "format": "re2",
    "minLength": 1,
    "maxLength": 2000,
}
IGNORE_CASE_PROPERTY = {
    "type": "boolean",
    "title": "Ignore case",
    "description": "Upper and lower case letters are the same, in the pattern and in `unless`.",
    "format": "checkbox",
    "default": False,
}
DOT_ALL_PROPERTY = {
    "type": "boolean",
    "title": "Dot matches line ends",
    "description": "`.` also matches the end of a line, so that a match can span lines.",
    "format": "checkbox",
    "default": False,
}
UNLESS_PROPERTY = {
    "type": "string",
    "title": "Unless",
    "description": "RE2 expression: a match is dropped if the lines it stands on also match this one. "
    "Does the work of a lookahead.",
    "format": "re2",
    "maxLength": 2000,
    "default": "",
}
MAX_FINDINGS_PROPERTY = {
    "type": "integer",
    "title": "Findings per file",
    "description": "Findings of one rule in one file after which the rest of the file is not searched for that rule.",
    "format": "int32",
    "minimum": 1,
    "maximum": 10_000,
    "default": 200,
}


@dataclass(frozen=True, slots=True)
class Match:
    """Where an expression matched: byte offsets without surrounding white space, and what it captured."""

    start: int
    end: int
    captured: Any


@dataclass(frozen=True, slots=True)
class _Search:
    expression: Any
    unless: Any | None


class Scanner:
    """Finds the matches of many rules in a file: one pass says which rules match at all, only those are searched."""

    def __init__(self, rules: Sequence[RuleSpec]) -> None:
        self._searches = {rule.name: compile_rule(rule) for rule in rules}
        self._sets: dict[tuple[str, ...], ExpressionSet] = {}

    def scan(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterator[tuple[RuleSpec, Iterator[Match]]]:
        """Each rule that matches `source` (see `normalise`), with its matches in the order of the file."""
        by_name = {rule.name: rule for rule in rules}
        for name in self._names_matching(source.content, tuple(by_name)):
            yield by_name[name], self._matches(source, self._searches[name])

    def _names_matching(self, content: bytes, names: tuple[str, ...]) -> list[str]:
        if not names:
            return []
        if names in self._sets or len(self._sets) < _SETS:
            return [names[index] for index in self._set(names).matching(content)]
        everything = tuple(self._searches)
        chosen = frozenset(names)
        matching = (everything[index] for index in self._set(everything).matching(content))
        return [name for name in matching if name in chosen]

    def _set(self, names: tuple[str, ...]) -> ExpressionSet:
        if names not in self._sets:
            self._sets[names] = compile_set([self._searches[name].expression for name in names])
        return self._sets[names]

    def _matches(self, source: SourceFile, search: _Search) -> Iterator[Match]:
        content = source.content
        judged: tuple[int, int, bool] = (0, 0, False)
        for found in search.expression.finditer(content):
            start, end = _trim(content, found.start(), found.end())
            if start == end:
                continue
            if search.unless is not None:
                first, last = bisect_right(source.line_starts, start), bisect_right(source.line_starts, end - 1)
                # Lines already judged are not read again: a file of one long line with many matches stays linear.
                if judged[:2] != (first, last):
                    lines = content[source.line_starts[first - 1] : _line_end(source, last)]
                    judged = (first, last, search.unless.search(lines) is not None)
                if judged[2]:
                    continue
            yield Match(start, end, found)


class Locator:
    """Lines and columns of byte offsets. Offsets asked for in ascending order cost one reading of the file in all."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._ascii = source.content.isascii()
        self._line = 0
        self._offset = 0
        self._column = 1

    def locate(self, offset: int) -> tuple[int, int]:
        """Line and column (in characters, from 1) of the character that starts at `offset`."""
        line = bisect_right(self._source.line_starts, offset)
        start = self._source.line_starts[line - 1]
        if self._ascii:
            return line, offset - start + 1
        if line != self._line or offset < self._offset:
            self._line, self._offset, self._column = line, start, 1
        self._column += len(self._source.content[self._offset : offset].decode("utf-8", "replace"))
        self._offset = offset
        return line, self._column

    def finding(self, rule: RuleSpec, match: Match, snippet: str) -> Finding:
        """The finding of `rule` at `match`."""
        start_line, start_column = self.locate(match.start)
        end_line, end_column = self.locate(match.end)
        return Finding(
            rule=rule.name,
            path=self._source.path,
            start_line=start_line,
            start_column=start_column,
            end_line=end_line,
            end_column=end_column,
            message=rule.message or rule.title or rule.name,
            snippet=snippet,
        )


def normalise(source: SourceFile) -> SourceFile:
    """The file with `\\n` line ends and no byte order mark, so that `$` and `^` mean the same in every file."""
    content = source.content.removeprefix(_BYTE_ORDER_MARK)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
    return source if content is source.content else SourceFile(source.path, content)


def snippet_window(source: SourceFile, match: Match) -> tuple[int, int]:
    """Byte offsets of the part of the match's first line that a snippet is made from."""
    line = bisect_right(source.line_starts, match.start)
    start, end = source.line_starts[line - 1], _line_end(source, line)
    if end - start > _WINDOW:
        start = max(start, match.start - _LEAD)
        end = min(end, start + _WINDOW)
    return start, end


def shorten(text: str) -> str:
    """`text` without surrounding white space, cut to the length of a snippet."""
    text = text.strip()
    return text if len(text) <= SNIPPET_LENGTH else text[: SNIPPET_LENGTH - 1] + "…"


def compile_rule(rule: RuleSpec) -> _Search:
    """What runs the rule; raises `RuleError` if its pattern or its `unless` cannot run."""
    configuration = rule.configuration
    flags = {
        "ignore_case": bool(configuration.get("ignore_case", False)),
        "dot_all": bool(configuration.get("dot_all", False)),
        "allow_empty_match": False,
    }
    expression = compile_expression(configuration.get("pattern", ""), field="configuration/pattern", **flags)
    unless = configuration.get("unless") or None
    if unless is not None:
        unless = compile_expression(unless, field="configuration/unless", **flags)
    return _Search(expression, unless)


def check_configuration(rule: RuleSpec, schema: Mapping[str, Any]) -> None:
    """Raise `RuleError` at the first field of the rule's configuration that the schema does not allow."""
    for pointer, message in schemas.errors(schema, dict(rule.configuration)):
        raise RuleError(message, field=f"configuration{pointer}", code="schema")


class Patterns:
    """Finds text by regular expressions."""

    name = "patterns"
    title = "Patterns"
    description = (
        "Searches files with RE2 regular expressions, all rules in one pass. "
        "Its time is linear in the size of the file, whatever the expression."
    )
    version = "1.0.0"
    requires: Sequence[str] = ()
    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Patterns",
        "properties": {"max_findings_per_file": MAX_FINDINGS_PROPERTY},
        "additionalProperties": False,
    }
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Pattern rule",
        "properties": {
            "pattern": PATTERN_PROPERTY,
            "ignore_case": IGNORE_CASE_PROPERTY,
            "dot_all": DOT_ALL_PROPERTY,
            "unless": UNLESS_PROPERTY,
        },
        "required": ["pattern"],
        "additionalProperties": False,
    }

    def __init__(self) -> None:
        self.prepare((), {})

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if the configuration does not fit the schema or an expression cannot run."""
        check_configuration(rule, self.rule_schema)
        compile_rule(rule)

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Compile the rules of a run."""
        settings = schemas.with_defaults(self.configuration_schema, configuration)
        self._limit: int = settings["max_findings_per_file"]
        self._scanner = Scanner(rules)

    def analyze(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterable[Finding]:
        """Findings of the given rules, in the order of the file."""
        source = normalise(source)
        findings = []
        for rule, matches in self._scanner.scan(source, rules):
            locator = Locator(source)
            for _, match in zip(range(self._limit), matches, strict=False):
                start, end = snippet_window(source, match)
                snippet = shorten(source.content[start:end].decode("utf-8", "ignore"))
                findings.append(locator.finding(rule, match, snippet))
        return sorted(findings, key=_place)


def _place(finding: Finding) -> tuple[int, int, str]:
    return finding.start_line, finding.start_column, finding.rule


def _line_end(source: SourceFile, line: int) -> int:
    """Byte offset just before the line end of `line`."""
    starts = source.line_starts
    return starts[line] - 1 if line < len(starts) else len(source.content)


def _trim(content: bytes, start: int, end: int) -> tuple[int, int]:
    """Offsets without the white space round a match: `^\\s*except` begins at `except`, not on the blank line before."""
    matched = content[start:end]
    inner = matched.strip()
    if not inner:
        return start, end
    return start + len(matched) - len(matched.lstrip()), end - (len(matched) - len(matched.rstrip()))
