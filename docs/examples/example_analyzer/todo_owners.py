"""Who will do it? Finds notes such as TODO that name nobody. Run by code-review as the plugin `todo-owners`.

A note with an owner is written `TODO(ann): drop the old column`. Nothing but the contract is imported: what a plugin
gets are plain values, and what it gives back are findings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plugins.contract import Finding, PartialFailure, RuleError, RuleSpec, SourceFile

WORDS = ("TODO", "FIXME")
MAX_LINE = 10_000  # characters; longer lines are generated, and nobody has left a note there
MAX_SNIPPET = 200  # characters


class TodoOwners:
    """Looks for the words of each rule, and lets those pass that are followed by a name in parentheses."""

    name = "todo-owners"
    title = "Notes without an owner"
    description = "Finds notes such as TODO and FIXME that do not say in parentheses who will do it."
    version = "1.0.0"
    requires = ()
    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Notes without an owner",
        "properties": {
            "people": {
                "type": "array",
                "title": "People",
                "description": "Names that count as owners. Empty: any name does.",
                "items": {"type": "string", "minLength": 1, "maxLength": 100},
                "maxItems": 1000,
                "default": [],
            }
        },
        "additionalProperties": False,
    }
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Notes without an owner",
        "properties": {
            "words": {
                "type": "array",
                "title": "Words",
                "description": "What a note begins with, in capitals as written here.",
                "items": {"type": "string", "minLength": 1, "maxLength": 30},
                "minItems": 1,
                "maxItems": 20,
                "default": list(WORDS),
            }
        },
        "additionalProperties": False,
    }

    def __init__(self) -> None:
        self._notes: dict[str, re.Pattern[str]] = {}
        self._people: frozenset[str] = frozenset()

    def check_rule(self, rule: RuleSpec) -> None:
        """Say what the schema cannot: here, that a word must be one."""
        _compile(rule)

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Everything that is the same for all files is done here, once."""
        self._notes = {rule.name: _compile(rule) for rule in rules}
        self._people = frozenset(configuration.get("people", ()))

    def analyze(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterator[Finding | PartialFailure]:
        """One finding for each note without an owner."""
        skipped = []
        for number in range(1, len(source.line_starts) + 1):
            line = source.line(number)
            if len(line) > MAX_LINE:
                skipped.append(number)
                continue
            for rule in rules:
                yield from self._find(rule, source.path, number, line)
        if skipped:
            # The rest of the file was looked at, and its findings count.
            yield PartialFailure(
                f"{len(skipped)} too long lines were passed over, the first is {skipped[0]}", source.path
            )

    def _find(self, rule: RuleSpec, path: str, number: int, line: str) -> Iterator[Finding]:
        for note in self._notes[rule.name].finditer(line):
            owner = (note["owner"] or "").strip()
            if owner and (not self._people or owner in self._people):
                continue
            message = f"{owner} is not known here." if owner else f"{note['word']} does not say who will do it."
            yield Finding(
                rule=rule.name,
                path=path,
                start_line=number,
                start_column=note.start() + 1,
                end_line=number,
                end_column=note.end() + 1,
                message=rule.message or message,
                snippet=line.strip()[:MAX_SNIPPET],
            )


def _compile(rule: RuleSpec) -> re.Pattern[str]:
    words = rule.configuration.get("words", WORDS)
    for index, word in enumerate(words):
        if not re.fullmatch(r"\w+", word):
            raise RuleError(f"{word!r} is not a word.", field=f"configuration/words/{index}", code="word")
    # No repetition inside a repetition: the time is linear in the length of the line.
    return re.compile(rf"\b(?P<word>{'|'.join(words)})\b(?:\((?P<owner>[^()]*)\))?")
