"""What does an ast-grep rule ask of a file: which kinds of nodes, how many searches, which words?

Everything here takes rules whose form is right (`plugins.syntax_rules` checks it) and whose utilities do not refer to
each other in a circle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from plugins.languages import METAVARIABLE_NAME, Language

RELATIONS = ("inside", "has", "precedes", "follows")
MIN_WORD_LENGTH = 3
"""Characters. Shorter words occur in every file."""
MAX_WORD_LENGTH = 60
"""Characters. Of longer words their beginning is looked for."""
_MAX_CLAUSE = 50
_SIDEWAYS = ("precedes", "follows")

Rule = Mapping[str, Any]
Clause = frozenset[str]
"""Words of which at least one must occur in a file."""


@dataclass(frozen=True, slots=True)
class RuleTrees:
    """Answers about rules of one language that may use `utils`."""

    language: Language
    utils: Mapping[str, Rule]
    _sizes: dict[int, int] = field(default_factory=dict)

    def size(self, rule: Rule) -> int:
        """Rules that make up `rule`, itself included, where each use of a utility counts as the whole utility."""
        # Each is counted once and remembered: utilities that use others twice multiply.
        if id(rule) not in self._sizes:
            parts = [rule[word] for word in RELATIONS if word in rule]
            self._sizes[id(rule)] = 1 + sum(self.size(part) for part in (*parts, *inner(rule), *self._used(rule)))
        return self._sizes[id(rule)]

    def searches(self, rule: Rule) -> int:
        """Relations nested in each other that look further than the next node."""
        found = [0, *(self.searches(part) for part in (*inner(rule), *self._used(rule)))]
        for word in RELATIONS:
            if word in rule:
                is_search = rule[word].get("stopBy", "neighbor") != "neighbor"
                found.append(is_search + self.searches(rule[word]))
        return max(found)

    def sweeps(self, rule: Rule) -> int:
        """Looks at all the siblings of a node, nested in each other."""
        found = [0, *(self.sweeps(part) for part in (*inner(rule), *self._used(rule)))]
        for word in RELATIONS:
            if word in rule:
                is_sweep = word in _SIDEWAYS and rule[word].get("stopBy", "neighbor") != "neighbor"
                found.append(is_sweep + self.sweeps(rule[word]))
        if "nthChild" in rule:
            position = rule["nthChild"]
            counted = position.get("ofRule") if isinstance(position, Mapping) else None
            found.append(1 + (self.sweeps(counted) if counted else 0))
        return max(found)

    def is_anchored(self, rule: Rule) -> bool:
        """Whether only nodes of some kinds can match."""
        if "kind" in rule or ("pattern" in rule and self._names_kind(rule["pattern"])):
            return True
        if any(self.is_anchored(each) for each in (*rule.get("all", ()), *self._used(rule))):
            return True
        return "any" in rule and all(self.is_anchored(each) for each in rule["any"])

    def clauses(self, rule: Rule) -> list[Clause]:
        """A file where `rule` matches has a word of each of these. `not`, `kind` and `regex` say nothing of words."""
        clauses: list[Clause] = []
        if "pattern" in rule:
            clauses += self._pattern_clauses(rule["pattern"])
        needed = [rule[word] for word in RELATIONS if word in rule]
        for each in (*needed, *rule.get("all", ()), *self._used(rule)):
            clauses += self.clauses(each)
        if "any" in rule:
            choices = [rarest(self.clauses(each)) for each in rule["any"]]
            words = frozenset(word for choice in choices if choice for word in choice)
            if None not in choices and len(words) <= _MAX_CLAUSE:
                clauses.append(words)
        return clauses

    def pattern_node(self, pattern: Any) -> Any:
        """The part of a pattern's tree that is compared with code: below the nodes that only wrap it. None: no part."""
        if isinstance(pattern, Mapping) and "selector" in pattern:
            return self.language.parse_pattern(pattern["context"]).find(kind=pattern["selector"])
        node = self.language.parse_pattern(pattern["context"] if isinstance(pattern, Mapping) else pattern)
        while _is_wrapper(children := node.children()):
            node = children[0]
        return node

    def _used(self, rule: Rule) -> tuple[Rule, ...]:
        return (self.utils[rule["matches"]],) if "matches" in rule else ()

    def _names_kind(self, pattern: Any) -> bool:
        if isinstance(pattern, Mapping) and "selector" in pattern:
            return True
        return not self.language.is_metavariable(self.pattern_node(pattern).text())

    def _pattern_clauses(self, pattern: Any) -> Iterator[Clause]:
        # Only leaves that have a name must occur letter by letter: keywords and brackets may be skipped in places, and
        # `signature` compares no text at all.
        if isinstance(pattern, Mapping) and pattern.get("strictness") == "signature":
            return
        pending = [self.pattern_node(pattern)]
        while pending:
            node = pending.pop()
            text = node.text()
            if self.language.is_metavariable(text):
                continue
            children = node.children()
            pending += children
            is_word = not children and node.is_named() and "comment" not in node.kind()
            if is_word and len(text) >= MIN_WORD_LENGTH and "\ufffd" not in text:
                yield frozenset({text[:MAX_WORD_LENGTH]})


def inner(rule: Rule) -> Iterator[Rule]:
    """The rules inside `rule` other than its relations and the utilities it names."""
    yield from rule.get("all", ())
    yield from rule.get("any", ())
    if "not" in rule:
        yield rule["not"]
    if isinstance(rule.get("stopBy"), Mapping):
        yield rule["stopBy"]
    if isinstance(rule.get("nthChild"), Mapping) and "ofRule" in rule["nthChild"]:
        yield rule["nthChild"]["ofRule"]


def references(rule: Rule) -> Iterator[str]:
    """Names of the utilities that `rule` uses."""
    if "matches" in rule:
        yield rule["matches"]
    for part in (*(rule[word] for word in RELATIONS if word in rule), *inner(rule)):
        yield from references(part)


def rarest(clauses: Iterable[Clause]) -> Clause | None:
    """The clause that is likely to rule out most files; None if there is none."""
    return max(clauses, key=rareness, default=None)


def rareness(clause: Clause) -> tuple[int, list[str]]:
    """By its shortest word, then by its words, so that the order is the same in every process."""
    return min(map(len, clause)), sorted(clause)


def repeats_metavariable(document: Mapping[str, Any]) -> bool:
    """Whether a metavariable occurs twice, so that two pieces of code are compared."""
    names = re.findall(rf"\$+({METAVARIABLE_NAME})", json.dumps(document))
    return len(names) > len(set(names))


def _is_wrapper(children: list[Any]) -> bool:
    # Some languages end a tree in an empty node.
    return len(children) == 1 or (len(children) == 2 and not children[1].text())
