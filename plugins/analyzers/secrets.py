"""Does a file hold a credential that somebody can use? The plugin `secrets`.

A rule captures what may be a credential; this plugin drops what is only a placeholder or too regular to be one, and
never repeats the rest: snippets show its first characters at most.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from plugins import schemas
from plugins.analyzers.patterns import (
    IGNORE_CASE_PROPERTY,
    MAX_FINDINGS_PROPERTY,
    PATTERN_PROPERTY,
    UNLESS_PROPERTY,
    Locator,
    Match,
    Scanner,
    check_configuration,
    compile_rule,
    normalise,
    shorten,
    snippet_window,
)
from plugins.contract import Finding, RuleError, RuleSpec, SourceFile
from plugins.expressions import compile_expression

MIN_ENTROPY = 3.0
"""Bits per character below which a captured text is taken for a word and not for a credential."""
SHOWN = 4
"""Characters of a credential that a snippet shows at most."""
MAX_KEY_LINES = 300
"""Lines that a key in armour may go on for."""

# Texts that stand for a credential: a reference that something else fills in, or a word that says so.
_REFERENCE = (
    r"^[$%#@!&]?[({<\[].*[)}>\]]$|\w\(.*\)$|\$\{|\{\{|\}\}|\$\(|<[^<>]*>|^\$\w|^%\w+%$|%\(\w+\)s|%s"
    r"|process\.env|environ|getenv|\bENV\b|import\.meta|secrets?\.|vault:|\bvault\b|ssm:|secretsmanager|arn:aws"
)
_LONG_WORD = (
    r"example|placeholder|change.?me|replace.?me|insert.?your|your.?(?:own|secret|password|token|api|key|access|account)"
    r"|redacted|not.?(?:a|so|very|real).?(?:secret|password|key)|dummy|sample|lorem|foobar"
    # Only letters, and the word itself among them: the name of a field or of a message.
    r"|^[a-z_.\- ]*(?:password|passphrase|secret|token|credential|api.?key)[a-z_.\- ]*$|^[\w.+-]+@[\w-]+\.[a-z]{2,}$"
    r"|xxxx|\*\*\*|\.\.\.|____|----|••"
)
_SHORT_WORD = (
    r"(?:^|[^a-z0-9])(?:test|testing|fake|mock|todo|fixme|tbd|secret|none|null|foo|bar|my|your|some|p[a@]ssw[o0]rd\d{0,3})"
    r"(?:[^a-z0-9]|$)"
)
# A further line of a key in armour, as it stands in a file of its own or in the text of a program; or its last line.
_KEY_LINE = re.compile(rb"""[ \t"'`+.\\]*(?:[A-Za-z0-9+/=]{4,}|-----END[ A-Z]*-----)(?:\\n|[ \t"'`+.,;\\)])*\r?""")
_SEQUENCES = ("abcdefghijklmnopqrstuvwxyz" * 2, "0123456789" * 8, "0123456789abcdef" * 5, "qwertyuiopasdfghjklzxcvbnm")


class Secrets:
    """Finds credentials left in files."""

    name = "secrets"
    title = "Secrets"
    description = "Finds credentials by shape and randomness, lets placeholders pass, and never repeats one in full."
    version = "1.0.0"
    requires: Sequence[str] = ("patterns",)
    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Secrets",
        "properties": {
            "extra_placeholders": {
                "type": "array",
                "title": "Further placeholders",
                "description": "A captured text that holds one of these, in any case, is not a credential.",
                "format": "list",
                "items": {"type": "string", "title": "Text", "minLength": 3, "maxLength": 200},
                "maxItems": 500,
                "uniqueItems": True,
                "default": [],
            },
            "max_findings_per_file": MAX_FINDINGS_PROPERTY,
        },
        "additionalProperties": False,
    }
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Secret rule",
        "properties": {
            "pattern": {
                **PATTERN_PROPERTY,
                "description": "RE2 expression that captures the credential in the group `(?P<secret>…)`, "
                "or in its first group.",
            },
            "min_entropy": {
                "type": "number",
                "title": "Least entropy",
                "description": "Shannon bits per character (a word has about 2.5, random base64 more than 4). "
                "A captured text below is not reported; 0 reports all.",
                "format": "double",
                "minimum": 0,
                "maximum": 8,
                "default": MIN_ENTROPY,
            },
            "ignore_placeholders": {
                "type": "boolean",
                "title": "Ignore placeholders",
                "description": "`changeme`, `<token>`, `${VAR}` and their like are not reported.",
                "format": "checkbox",
                "default": True,
            },
            "ignore_case": IGNORE_CASE_PROPERTY,
            "unless": UNLESS_PROPERTY,
        },
        "required": ["pattern"],
        "additionalProperties": False,
    }

    def __init__(self) -> None:
        self.prepare((), {})

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if the configuration does not fit, an expression cannot run, or nothing is captured."""
        check_configuration(rule, self.rule_schema)
        _capture_group(rule)

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Compile the rules of a run."""
        settings = schemas.with_defaults(self.configuration_schema, configuration)
        self._limit: int = settings["max_findings_per_file"]
        self._placeholders = tuple(text.lower() for text in settings["extra_placeholders"])
        self._scanner = Scanner(rules)
        self._groups = {rule.name: _capture_group(rule) for rule in rules}

    def analyze(self, source: SourceFile, rules: Sequence[RuleSpec]) -> Iterable[Finding]:
        """Findings of the given rules, in the order of the file."""
        source = normalise(source)
        # All credentials of the file come first: a line may hold two, and no snippet may show either.
        found = [
            (rule, match, match.captured.span(self._groups[rule.name]))
            for rule, matches in self._scanner.scan(source, rules)
            for match in matches
            if self._is_credential(rule, match)
        ]
        if not found:
            return []
        hidden = _merge(span for _, _, span in found)
        findings = []
        taken: Counter[str] = Counter()
        locator = Locator(source)
        for rule, match, _ in sorted(found, key=lambda entry: (entry[1].start, entry[0].name)):
            if taken[rule.name] < self._limit:
                taken[rule.name] += 1
                whole = Match(match.start, _find_end(source.content, match.start, match.end), match.captured)
                finding = locator.finding(rule, whole, _masked_snippet(source, match, hidden))
                # Nothing of these lines may be shown beside other findings either.
                findings.append(replace(finding, sensitive=True))
        return findings

    def _is_credential(self, rule: RuleSpec, match: Match) -> bool:
        captured = match.captured.group(self._groups[rule.name])
        if not captured:
            return False
        text = captured.decode("utf-8", "replace")
        if measure_entropy(text) < rule.configuration.get("min_entropy", MIN_ENTROPY):
            return False
        if not rule.configuration.get("ignore_placeholders", True):
            return True
        lowered = text.lower()
        return not is_placeholder(text) and not any(known in lowered for known in self._placeholders)


def _find_end(content: bytes, start: int, end: int) -> int:
    """Where the credential ends that was found from `start` to `end`: a key in armour goes on up to its last line."""
    if b"-----BEGIN " not in content[start:end]:
        return end
    position = end
    for _ in range(MAX_KEY_LINES):
        newline = content.find(b"\n", position)
        if newline == -1:
            break
        after = content.find(b"\n", newline + 1)
        line = content[newline + 1 : len(content) if after == -1 else after]
        if not _KEY_LINE.fullmatch(line):
            break
        position = newline + 1 + len(line.rstrip())
    return max(position, end)


def measure_entropy(text: str) -> float:
    """Shannon entropy of the characters of `text`, in bits per character."""
    length = len(text)
    return -sum(count / length * math.log2(count / length) for count in Counter(text).values())


def is_placeholder(text: str) -> bool:
    """Whether `text` only stands for a credential: a reference, a telling word, one character repeated, a sequence."""
    lowered = text.lower()
    if len(set(lowered)) <= 2 or any(lowered in sequence for sequence in _SEQUENCES):
        return True
    return any(expression.search(text) is not None for expression in _placeholder_expressions())


def mask(text: str) -> str:
    """`text` made unusable: its first characters, a quarter of it and `SHOWN` at most, and `***`."""
    return text[: min(SHOWN, len(text) // 4)] + "***"


@lru_cache(maxsize=1)
def _placeholder_expressions() -> tuple[Any, ...]:
    return tuple(compile_expression(each, ignore_case=True) for each in (_REFERENCE, _LONG_WORD, _SHORT_WORD))


def _capture_group(rule: RuleSpec) -> int:
    expression = compile_rule(rule).expression
    if not expression.groups:
        raise RuleError(
            "The expression captures nothing: put the credential itself in a group, as `(?P<secret>[a-z0-9]{20})`.",
            field="configuration/pattern",
            code="no_group",
        )
    group: int = expression.groupindex.get("secret", 1)
    return group


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in ascending order, overlapping ones joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _masked_snippet(source: SourceFile, match: Match, hidden: Sequence[tuple[int, int]]) -> str:
    """The line of a match with every credential in it masked before anything is cut."""
    start, end = snippet_window(source, match)
    content = source.content
    parts: list[str] = []
    values: set[str] = set()
    position = start
    # The span before the first one that starts inside may reach into the window.
    for index in range(max(0, bisect_right(hidden, (start, start)) - 1), len(hidden)):
        left, right = hidden[index]
        if left >= end:
            break
        if right <= position:
            continue
        value = content[left:right].decode("utf-8", "replace")
        parts.append(content[position : max(left, position)].decode("utf-8", "ignore"))
        parts.append(mask(value) if left >= position else "***")
        values.add(value)
        position = min(right, end)
    parts.append(content[position:end].decode("utf-8", "ignore"))
    text = "".join(parts)
    # The same credential may stand on the line a second time where no rule looks.
    for value in values:
        text = text.replace(value, mask(value))
    return shorten(text)
