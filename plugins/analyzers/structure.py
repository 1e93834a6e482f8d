"""Where does a file hold code of a given shape? The plugin `structure`, whose rules are those of ast-grep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from plugins import schemas
from plugins.analyzers.patterns import (
    MAX_FINDINGS_PROPERTY,
    SNIPPET_LENGTH,
    check_configuration,
    normalise,
    shorten,
)
from plugins.contract import Finding, PartialFailure, RuleSpec, SourceFile
from plugins.languages import LANGUAGES, METAVARIABLE_NAME, Language
from plugins.syntax_rules import MAX_PATTERN_LENGTH, SyntaxRule, Words, compile_rule

QUOTED_LENGTH = 80
"""Characters of code that a message quotes for a metavariable."""
_LEAD = 100
_USUAL_DEPTH = 60  # a question about few levels is cheap, and answers those about more in nearly every file
_METAVARIABLE = re.compile(rf"(?<!\$)\$(?:\$\$)?({METAVARIABLE_NAME})")


class Structure:
    """Finds code by its syntax tree."""

    name = "structure"
    title = "Structure"
    description = (
        "Searches the syntax tree of a file with ast-grep: patterns that look like the code they find, and rules on "
        "what stands inside, round, before or after it. Layout does not matter."
    )
    version = "1.0.0"
    requires: Sequence[str] = ()
    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Structure",
        "properties": {"max_findings_per_file": MAX_FINDINGS_PROPERTY},
        "additionalProperties": False,
    }
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Structure rule",
        "description": "Either `pattern` or `rule` is needed; if both are given, both must fit. `rule`, `constraints` "
        "and `utils` are written as JSON.",
        "properties": {
            "language": {
                "type": "string",
                "title": "Language",
                "description": "A rule without file types is tried on the files of this language.",
                "enum": sorted(LANGUAGES),
            },
            "pattern": {
                "type": "string",
                "title": "Pattern",
                "description": "Code to be found, such as `eval($CODE)`. `$NAME` stands for one part and `$$$NAME` for "
                "any number of them; the message of the rule may quote them.",
                "minLength": 1,
                "maxLength": MAX_PATTERN_LENGTH,
            },
            "rule": {
                "type": "object",
                "title": "Rule",
                "drawn": False,
                "description": "An ast-grep rule: pattern, kind, regex, nthChild, inside, has, precedes, follows, all, "
                "any, not, matches.",
            },
            "constraints": {
                "type": "object",
                "title": "Constraints",
                "drawn": False,
                "description": "Rules that the code of a metavariable must satisfy, by its name without `$`.",
                "additionalProperties": {"type": "object"},
            },
            "utils": {
                "type": "object",
                "title": "Utilities",
                "drawn": False,
                "description": "Rules by name, which others use by `matches`.",
                "additionalProperties": {"type": "object"},
            },
        },
        "required": ["language"],
        "additionalProperties": False,
    }

    def __init__(self) -> None:
        self.prepare((), {})

    @staticmethod
    def default_file_types(rule: RuleSpec) -> Sequence[str]:
        """The file types of the rule's language; none if it is not known."""
        language = rule.configuration.get("language")
        return LANGUAGES[language].extensions if isinstance(language, str) and language in LANGUAGES else ()

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if the configuration does not fit the schema or ast-grep cannot run the rule."""
        check_configuration(rule, self.rule_schema)
        compile_rule(rule.configuration)

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Compile the rules of a run."""
        settings = schemas.with_defaults(self.configuration_schema, configuration)
        self._limit: int = settings["max_findings_per_file"]
        self._compiled = {rule.name: compile_rule(rule.configuration) for rule in rules}
        self._words = Words(self._compiled.values())

    def analyze(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterable[Finding | PartialFailure]:
        """Findings of the given rules, in the order of the file. The file is parsed once for each language."""
        source = normalise(source)
        chosen: dict[str, list[tuple[RuleSpec, SyntaxRule]]] = {}
        for rule in rules:
            compiled = self._compiled[rule.name]
            if rule.file_types or compiled.language.owns(source.path):
                chosen.setdefault(compiled.language.name, []).append((rule, compiled))
        if not chosen:
            return []
        words = self._words.find(source.content)
        chosen = {
            name: kept
            for name, entries in chosen.items()
            if (kept := [(rule, compiled) for rule, compiled in entries if compiled.may_match(words)])
        }
        if not chosen:
            return []
        text = source.content.decode("utf-8", "replace")
        findings: list[Finding] = []
        failures: list[PartialFailure] = []
        for name, entries in chosen.items():
            tree = _Tree(source.path, text, LANGUAGES[name])
            for rule, compiled in entries:
                excess = tree.find_excess(compiled)
                if excess:
                    failures.append(PartialFailure(excess, path=source.path, rule=rule.name))
                else:
                    found = tree.find(rule, compiled)
                    findings += (finding for _, finding in zip(range(self._limit), found, strict=False))
        return [*sorted(findings, key=_place), *failures]


class _Tree:
    """The syntax tree of one file."""

    def __init__(self, path: str, text: str, language: Language) -> None:
        self._path = path
        self._text = text
        self._root = language.parse(text)
        self._is_deeper: dict[int, bool] = {}

    def find_excess(self, compiled: SyntaxRule) -> str:
        """Why the tree would take the rule too long; "" if it would not."""
        if compiled.max_depth is not None and self.is_deeper_than(compiled.max_depth):
            return f"The code is nested more than {compiled.max_depth} levels deep, too deep for this rule."
        if compiled.max_width is not None and self.width > compiled.max_width:
            return f"More than {compiled.max_width} parts of the code stand side by side, too many for this rule."
        return ""

    @cached_property
    def width(self) -> int:
        """The most nodes that stand side by side; costs one walk over the tree."""
        widest, pending = 0, [self._root]
        while pending:
            children = pending.pop().children()
            widest = max(widest, len(children))
            pending += children
        return widest

    def is_deeper_than(self, levels: int) -> bool:
        """Whether nodes are nested more than `levels` deep; costs one walk over the tree."""
        if levels > _USUAL_DEPTH and not self.is_deeper_than(_USUAL_DEPTH):
            return False
        if levels not in self._is_deeper:
            self._is_deeper[levels] = self._root.matches(**_nest(levels))
        return self._is_deeper[levels]

    def find(self, rule: RuleSpec, compiled: SyntaxRule) -> Iterator[Finding]:
        """The findings of one rule, each place once."""
        seen = set()
        for node in self._root.find_all(compiled.document):
            # Its offsets are counted from the start of the file each time they are asked for: ask once.
            extent = node.range()
            start, end = extent.start, extent.end
            span = (start.index, end.index)
            if span not in seen and span[0] < span[1]:
                seen.add(span)
                yield self._finding(rule, node, start, end)

    def _finding(self, rule: RuleSpec, node: Any, start: Any, end: Any) -> Finding:
        end_line, end_column = end.line + 1, end.column + 1
        if end.column == 0:
            # Some nodes take the line ends behind them along.
            matched = self._text[start.index : end.index].rstrip()
            last = matched.rpartition("\n")[2]
            end_line = start.line + 1 + matched.count("\n")
            end_column = len(last) + 1 + (start.column if end_line == start.line + 1 else 0)
        return Finding(
            rule=rule.name,
            path=self._path,
            start_line=start.line + 1,
            start_column=start.column + 1,
            end_line=end_line,
            end_column=end_column,
            message=self._interpolate(rule.message, node) or rule.title or rule.name,
            snippet=self._snippet(start.index, start.column),
        )

    def _interpolate(self, message: str, node: Any) -> str:
        """`message` with the code that metavariables stand for; those that stand for nothing stay as they are."""
        if "$" not in message:
            return message
        return _METAVARIABLE.sub(lambda name: self._quote(node, name[1]) or name[0], message)

    def _quote(self, node: Any, name: str) -> str:
        single = node.get_match(name)
        parts = [single] if single is not None else node.get_multiple_matches(name)
        if not parts:
            return ""
        code = " ".join(self._text[parts[0].range().start.index : parts[-1].range().end.index].split())
        return code if len(code) <= QUOTED_LENGTH else code[: QUOTED_LENGTH - 1] + "…"

    def _snippet(self, index: int, column: int) -> str:
        start = index - column
        end = self._text.find("\n", index)
        end = len(self._text) if end == -1 else end
        if end - start > 4 * SNIPPET_LENGTH:
            start = max(start, index - _LEAD)
            end = min(end, start + 4 * SNIPPET_LENGTH)
        return shorten(self._text[start:end])


@lru_cache(maxsize=8)
def _nest(levels: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"pattern": "$$ANY"}
    for _ in range(levels):
        rule = {"has": rule}
    return rule


def _place(finding: Finding) -> tuple[int, int, str]:
    return finding.start_line, finding.start_column, finding.rule
