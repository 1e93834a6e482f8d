"""Can ast-grep run a rule, what does it cost, and which words must a file hold for the rule to match?

A rule is checked field by field, because ast-grep names no field when it refuses one; and in some ways that it does not
check itself: utility rules that refer to each other in a circle, and deep trees under some kinds of rules, end the
process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, NoReturn

import re2

from plugins.contract import RuleError
from plugins.expressions import ExpressionSet, compile_set
from plugins.languages import LANGUAGES, Language
from plugins.rule_trees import RELATIONS, Clause, RuleTrees, rareness, references, repeats_metavariable

MAX_SIZE = 20_000
"""Bytes of a rule as JSON, its constraints and utilities included."""
MAX_DEPTH = 20
"""Rules nested in each other."""
MAX_PARTS = 1000
"""Rules that make up a rule, where each use of a utility counts as the whole utility."""
MAX_PATTERN_LENGTH = 2000
MAX_REGEX_LENGTH = 500
DEPTH_LIMITS = {0: 1000, 1: 1000, 2: 250, 3: 100}
"""Levels of a syntax tree by the number of searches (`stopBy`) nested in each other: their cost multiplies. Comparing
two deep trees, which a metavariable used twice does, needs a deep stack, which is what the limit for 0 is for."""
MAX_WIDTH = 2000
"""Nodes side by side in a syntax tree of which a rule may look at all for each one: their cost is the square."""

_WITH_FIELD = ("inside", "has")
_WORDS = ("pattern", "kind", "regex", "nthChild", *RELATIONS, "all", "any", "not", "matches")
_STRICTNESS = ("cst", "smart", "ast", "relaxed", "signature")


@dataclass(frozen=True, slots=True)
class SyntaxRule:
    """A rule that ast-grep can run: `document` is what it is given."""

    language: Language
    document: dict[str, Any]
    clauses: tuple[Clause, ...]
    """A file that lacks all words of any one of these cannot match."""
    max_depth: int | None
    """Levels of the tree beyond which the rule must not be run; None: any number."""
    max_width: int | None
    """Nodes side by side beyond which the rule must not be run; None: any number."""

    def may_match(self, words: Set[str]) -> bool:
        """False only if the rule cannot match anything in a file where `words` are those that `Words` finds."""
        return all(not clause.isdisjoint(words) for clause in self.clauses)


class Words:
    """Finds the words of many rules in one pass over a file."""

    def __init__(self, rules: Iterable[SyntaxRule]) -> None:
        self._words = sorted({word for rule in rules for clause in rule.clauses for word in clause})
        self._set: ExpressionSet = compile_set([re2.escape(word) for word in self._words])

    def find(self, content: bytes) -> frozenset[str]:
        """Those that occur in `content`."""
        return frozenset(self._words[index] for index in self._set.matching(content))


def compile_rule(configuration: Mapping[str, Any]) -> SyntaxRule:
    """What runs a rule of this configuration, or a `RuleError` that names the field. The same content is tried once."""
    try:
        key = json.dumps(configuration, ensure_ascii=False, default=dict, sort_keys=True)
        key.encode()
    except UnicodeEncodeError:
        raise RuleError("The rule holds a character that is not valid Unicode.", code="syntax") from None
    except (TypeError, ValueError, RecursionError):
        raise RuleError("The configuration cannot be read as JSON.", code="type") from None
    compiled = _compile(key)
    if isinstance(compiled, SyntaxRule):
        return compiled
    message, pointer, code = compiled
    raise RuleError(message, field=pointer, code=code)


@lru_cache(maxsize=4096)
def _compile(key: str) -> SyntaxRule | tuple[str, str, str]:
    try:
        if len(key.encode()) > MAX_SIZE:
            _refuse("", f"The rule has {len(key.encode())} bytes; {MAX_SIZE:,} are allowed: split it.", code="too_long")
        return _Compiler(json.loads(key)).compile()
    except RuleError as error:
        return error.message, error.field, error.code


def _refuse(pointer: str, message: str, *, code: str = "invalid") -> NoReturn:
    raise RuleError(message, field=f"configuration{pointer}", code=code)


@dataclass(slots=True)
class _Compiler:
    configuration: dict[str, Any]
    language: Language = field(init=False)
    trees: RuleTrees = field(init=False)

    def compile(self) -> SyntaxRule:
        name = self.configuration.get("language", "")
        if not isinstance(name, str) or name not in LANGUAGES:
            _refuse("/language", f"Unknown language. Known are: {', '.join(LANGUAGES)}.", code="unknown")
        self.language = LANGUAGES[name]
        self.trees = RuleTrees(self.language, self._names("utils"))
        for each, rule in self.trees.utils.items():
            self._check(rule, f"/utils/{_escape(each)}", 1)
        self._check_circles()
        constraints = self._names("constraints")
        for each, rule in constraints.items():
            pointer = f"/constraints/{_escape(each)}"
            if not re.fullmatch("[A-Z][A-Z0-9_]*", each):
                _refuse(pointer, "A constraint is named like its metavariable, without `$`: in upper case, as `NAME`.")
            self._check(rule, pointer, 1)
        parts = []
        if "pattern" in self.configuration:
            self._check_pattern(self.configuration["pattern"], "/pattern")
            parts.append({"pattern": self.configuration["pattern"]})
        if "rule" in self.configuration:
            self._check(self.configuration["rule"], "/rule", 1)
            parts.append(self.configuration["rule"])
        if not parts:
            _refuse("/pattern", "Give a `pattern`, or a `rule` for more than that.", code="required")
        whole = "/rule" if "rule" in self.configuration else "/pattern"
        rule = parts[0] if len(parts) == 1 else {"all": parts}
        if sum(self.trees.size(each) for each in (rule, *constraints.values())) > MAX_PARTS:
            _refuse("/rule", f"The rule has more than {MAX_PARTS} parts: split it.", code="too_costly")
        if not self.trees.is_anchored(rule):
            _refuse(
                whole,
                "The rule would be tried on every node of the tree, and found on those that merely contain what is "
                "meant. Say what kind of code it is about: add `kind`, or a `pattern` that is more than a "
                "metavariable.",
                code="unanchored",
            )
        searches = max(self.trees.searches(each) for each in (rule, *constraints.values()))
        if searches not in DEPTH_LIMITS:
            _refuse(
                "/rule",
                f"{searches} searches (`stopBy`) are nested in each other; {max(DEPTH_LIMITS)} are allowed, because "
                "their cost multiplies.",
                code="too_costly",
            )
        sweeps = max(self.trees.sweeps(each) for each in (rule, *constraints.values()))
        if sweeps > 1:
            _refuse(
                "/rule",
                "Looks at all siblings (`nthChild`, `precedes` and `follows` with `stopBy`) are nested in each other, "
                "which is not allowed, because their cost multiplies.",
                code="too_costly",
            )
        document = {"rule": rule, "constraints": constraints, "utils": self.trees.utils}
        self._try(document, whole)
        guarded = searches > 0 or repeats_metavariable(document)
        return SyntaxRule(
            language=self.language,
            document=document,
            clauses=tuple(sorted(set(self.trees.clauses(rule)), key=rareness, reverse=True)),
            max_depth=DEPTH_LIMITS[searches] if guarded else None,
            max_width=MAX_WIDTH if sweeps else None,
        )

    # ---- checks, each at its own pointer

    def _names(self, name: str) -> dict[str, Any]:
        rules = self.configuration.get(name, {})
        if not isinstance(rules, dict):
            _refuse(f"/{name}", "This must be an object of rules by name.", code="type")
        return rules

    def _check_circles(self) -> None:
        uses = {name: set(references(rule)) for name, rule in self.trees.utils.items()}
        try:
            TopologicalSorter(uses).prepare()
        except CycleError as error:
            circle = " → ".join(reversed(error.args[1]))
            _refuse(f"/utils/{_escape(error.args[1][0])}", f"Utilities refer to each other: {circle}.", code="cycle")

    def _check(self, rule: Any, pointer: str, depth: int, relation: str = "") -> None:
        if not isinstance(rule, dict):
            _refuse(pointer, 'A rule is an object such as `{"pattern": "eval($X)"}`.', code="type")
        if depth > MAX_DEPTH:
            _refuse(pointer, f"More than {MAX_DEPTH} rules are nested in each other.", code="too_deep")
        if not any(word in rule for word in _WORDS):
            _refuse(pointer, f"The rule is empty: give one of {', '.join(_WORDS)}.", code="empty")
        for word, value in rule.items():
            self._check_word(word, value, f"{pointer}/{_escape(word)}", depth, relation)

    def _check_word(self, word: str, value: Any, pointer: str, depth: int, relation: str) -> None:
        if word in RELATIONS:
            self._check(value, pointer, depth + 1, word)
        elif word in ("all", "any"):
            if not isinstance(value, list) or not value:
                _refuse(pointer, "This must be a list of at least one rule.", code="type")
            for index, each in enumerate(value):
                self._check(each, f"{pointer}/{index}", depth + 1)
        elif word == "not":
            self._check(value, pointer, depth + 1)
        elif word == "stopBy" and relation:
            if isinstance(value, dict):
                self._check(value, pointer, depth + 1)
            elif value not in ("neighbor", "end"):
                _refuse(pointer, "This is `neighbor`, `end`, or a rule.")
        elif word == "field" and relation in _WITH_FIELD:
            self._try({"rule": {"has": {"regex": "", "field": _text(value, pointer)}}}, pointer)
        elif word == "pattern":
            self._check_pattern(value, pointer)
        elif word == "nthChild":
            self._check_position(value, pointer, depth)
        elif word == "matches":
            if _text(value, pointer) not in self.trees.utils:
                known = f"known are {', '.join(self.trees.utils)}" if self.trees.utils else "there are none"
                _refuse(pointer, f"There is no such utility under `utils`; {known}.", code="unknown")
        elif word in ("kind", "regex"):
            if word == "regex" and len(_text(value, pointer)) > MAX_REGEX_LENGTH:
                _refuse(pointer, f"{MAX_REGEX_LENGTH} characters are allowed: split the rule.", code="too_long")
            self._try({"rule": {word: _text(value, pointer)}}, pointer)
        else:
            words = (*_WORDS, *(("stopBy",) if relation else ()), *(("field",) if relation in _WITH_FIELD else ()))
            _refuse(pointer, f"This field is not known here. Known are: {', '.join(words)}.", code="schema")

    def _check_position(self, value: Any, pointer: str, depth: int) -> None:
        position = value
        if isinstance(value, dict):
            for word in value:
                if word not in ("position", "reverse", "ofRule"):
                    _refuse(f"{pointer}/{_escape(word)}", "Known are: position, reverse, ofRule.", code="schema")
            if "ofRule" in value:
                self._check(value["ofRule"], f"{pointer}/ofRule", depth + 1)
            if not isinstance(value.get("reverse", False), bool):
                _refuse(f"{pointer}/reverse", "This is true or false.", code="type")
            position = value.get("position")
            pointer = f"{pointer}/position"
        if isinstance(position, int) and not isinstance(position, bool) and 1 <= position <= 100_000:
            return
        if not isinstance(position, str) or len(position) > 50:
            _refuse(pointer, "This is a number from 1, or a formula such as `2n+1`.", code="type")
        self._try({"rule": {"nthChild": position}}, pointer)

    def _check_pattern(self, value: Any, pointer: str) -> None:
        at, context = pointer, value
        if isinstance(value, dict):
            for word in value:
                if word not in ("context", "selector", "strictness"):
                    _refuse(f"{pointer}/{_escape(word)}", "Known are: context, selector, strictness.", code="schema")
            if value.get("strictness", "smart") not in _STRICTNESS:
                _refuse(f"{pointer}/strictness", f"This is one of {', '.join(_STRICTNESS)}.")
            at, context = f"{pointer}/context", value.get("context")
            if "selector" in value:
                self._try({"rule": {"kind": _text(value["selector"], f"{pointer}/selector")}}, f"{pointer}/selector")
        if len(_text(context, at)) > MAX_PATTERN_LENGTH:
            _refuse(at, f"{MAX_PATTERN_LENGTH} characters are allowed: split the rule.", code="too_long")
        self._try({"rule": {"pattern": value}}, at)
        node = self.trees.pattern_node(value)
        if node is None:
            return
        if node.kind() == "ERROR":
            _refuse(
                at,
                f"This is no {self.language.name} code by itself, so it would match nothing but broken code. Complete "
                'it, or show it in its surroundings: `{"context": "code around it", "selector": "kind of the part"}`.',
                code="syntax",
            )
        if self.language.name == "python" and _lacks_body(node):
            _refuse(at, "The block after the last colon is missing: write `: $$$` for any block.", code="syntax")

    def _try(self, document: dict[str, Any], pointer: str) -> None:
        """Let ast-grep compile `document`; translate what it says."""
        try:
            self.language.parse("").find(document)
        except Exception as error:  # it raises bare Exception, and RuntimeError with the causes in its text
            if name := re.search("Undefined meta var `(.*?)`", str(error)):
                pointer = f"/constraints/{_escape(name[1])}"
            raise RuleError(_explain(str(error)), field=f"configuration{pointer}", code="syntax") from error


def _lacks_body(node: Any) -> bool:
    while True:
        if node.kind() == "block" and not node.text():
            return True
        children = node.children()
        if not children:
            return False
        node = children[-1]


def _text(value: Any, pointer: str) -> str:
    if not isinstance(value, str):
        _refuse(pointer, "This must be a text.", code="type")
    return value


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


# What ast-grep says -> what the author should do. The first that occurs wins.
_ADVICE = (
    ("No AST root is detected", "The pattern is empty: write the code to be found."),
    (
        "Multiple AST nodes are detected",
        "The pattern is more than one piece of code, and a pattern is one. Take one expression or statement, or show "
        "it in its surroundings with `context` and `selector`. A metavariable is in upper case, as `$NAME`.",
    ),
    (
        "Standalone multi meta variable",
        "`$$$` alone matches nothing: use `$NAME`, or write what stands around it, as `call($$$)`.",
    ),
    ("Fails to create Contextual pattern", "No part of `context` is of the kind that `selector` names."),
    ("Undefined meta var", "A constraint is about a metavariable that occurs in no pattern."),
    ("exceeds size limit", "The expression is too large to run: shorten its repetitions and classes."),
    ("look-around", "Lookahead and lookbehind are not supported: use `not` and a second `regex`."),
    ("backreferences are not supported", "References to an earlier group are not supported: write them out."),
)


def _explain(text: str) -> str:
    lines = [line.strip() for line in text.partition("\n\nStack backtrace")[0].splitlines() if line.strip()]
    cause = re.sub(r"^\d+: ", "", lines[-1]) if lines else "unknown"
    cause = cause.removeprefix("error: ").rstrip(".")
    shown = cause if len(cause) <= 120 else cause[:119] + "…"
    for known, advice in _ADVICE:
        if known in text:
            return advice
    if kind := re.search(r"Kind `(.*)` is invalid", text):
        return f"The language has no kind of node named {kind[1][:80]!r}. The playground of ast-grep shows the kinds."
    if name := re.search(r"invalid field (.*?)\.?$", cause):
        return f"The language has no field named {name[1][:80]!r}."
    if "regex parse error" in text:
        return f"The expression is not valid: {shown}."
    return f"ast-grep cannot run this: {shown}."
