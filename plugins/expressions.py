"""Which regular expressions are safe to run? Those that RE2 accepts, whose program is small.

Rules are edited by people while a server runs, so every expression is run by RE2, whose time is linear in the text.
Linear is not cheap, though: a program of thousands of instructions crawls. The limits here are what keeps one rule
from slowing down everybody's review.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import re2

from plugins.contract import RuleError

MAX_PATTERN_LENGTH = 2000
MAX_PROGRAM_SIZE = 500
SET_MEMORY = 256 << 20
"""Bytes a set may use for its program and the states it has seen; taken as needed, not at once."""
SET_LENGTH = 1000
"""Expressions in one automaton; larger sets are split, because their states grow with the number of expressions."""

# Compiled first with little memory: `\pL{1000}` would otherwise build for 0.1 s before it is refused.
_PROBE_MEMORY = 256 << 10
_FULL_MEMORY = 8 << 20
# Texts in which an expression that can match nothing shows it: at a boundary, on an empty line, between letters.
_EMPTY_MATCH_PROBES = (b"", b"a", b"a b\n\nc.d", b"aa11", b"..")

# What RE2 says -> what the author should do. The first that fits wins.
_LOOKAROUND = (
    "Lookahead and lookbehind are not supported. Match the surrounding text itself, or move what must not be there "
    "into a second expression (such as `unless`)."
)
_BACKREFERENCE = "References to an earlier group are not supported: write the alternatives out."
_UNKNOWN_GROUP = (
    "This group is not supported. Known are `(…)`, `(?:…)`, `(?P<name>…)` and the flags `(?i)`, `(?m)`, `(?s)`."
)
_ADVICE = (
    (r"invalid perl operator: \(\?<?[=!]", _LOOKAROUND, "lookaround"),
    (r"invalid perl operator: \(\?(P$|P=|\()", _BACKREFERENCE, "backreference"),
    (r"invalid perl operator: \(\?>", "Atomic groups are not supported and not needed: use `(?:…)`.", "possessive"),
    (r"invalid perl operator: \(\?#", "Comments inside an expression are not supported: remove `(?#…)`.", "syntax"),
    (r"invalid perl operator", _UNKNOWN_GROUP, "syntax"),
    (r"bad repetition operator: .*\+$", "Possessive repetition is not supported: drop the last `+`.", "possessive"),
    (r"bad repetition operator", "Two repetitions follow each other: escape the second, or group the first.", "syntax"),
    (r"invalid escape sequence: \\[1-9]", _BACKREFERENCE, "backreference"),
    (r"invalid escape sequence: \\[ZG]", "`\\Z` and `\\G` are not supported: the end of the text is `\\z`.", "anchor"),
    (r"invalid escape sequence: \\[uUN]", "Write a character by its code, as `\\x{20AC}`.", "syntax"),
    (r"invalid escape sequence", "This escape is not supported; a backslash itself is written `\\\\`.", "syntax"),
    (r"invalid repetition size", "A repetition may not exceed 1000, nested ones multiplied.", "too_costly"),
    (r"pattern too large", "The expression is too large to run: shorten its repetitions and classes.", "too_costly"),
    (r"missing \)", "A parenthesis is never closed; a literal one is written `\\(`.", "syntax"),
    (r"unexpected \)", "A parenthesis is closed that was never opened; a literal one is written `\\)`.", "syntax"),
    (r"missing \]", "A character class is never closed; a literal bracket is written `\\[`.", "syntax"),
    (r"no argument for repetition", "There is nothing to repeat; a literal operator is escaped, as `\\*`.", "syntax"),
    (r"trailing \\", "The expression ends in a lone backslash; a literal one is written `\\\\`.", "syntax"),
    (r"invalid named capture", "The name of a group may hold only letters, digits and `_`.", "syntax"),
)


def compile_expression(
    pattern: str,
    *,
    ignore_case: bool = False,
    dot_all: bool = False,
    multiline: bool = True,
    allow_empty_match: bool = True,
    field: str = "configuration/pattern",
) -> Any:
    """Compile `pattern`, or raise `RuleError` about `field` with a message that says what to do.

    The result is searched in UTF-8 bytes (offsets are then bytes) or in a str (offsets are then characters, at about
    twice the time). With `multiline`, `^` and `$` are the ends of each line. `allow_empty_match=False` also refuses an
    expression that can match no character at all, which would be found everywhere.
    """
    if not isinstance(pattern, str):
        raise RuleError("The expression must be a text.", field=field, code="type")
    flags = ("i" if ignore_case else "") + ("m" if multiline else "") + ("s" if dot_all else "")
    expression, message, code = _compile(pattern, flags, allow_empty_match)
    if expression is None:
        raise RuleError(message, field=field, code=code)
    return expression


# Answers are kept, refusals too: a second check of the same content costs nothing. 16,384 hold a full configuration.
@lru_cache(maxsize=16_384)
def _compile(pattern: str, flags: str, allow_empty_match: bool) -> tuple[Any, str, str]:
    if not pattern:
        return None, "The expression is empty.", "empty"
    if len(pattern) > MAX_PATTERN_LENGTH:
        message = f"The expression has {len(pattern)} characters; {MAX_PATTERN_LENGTH} are allowed: split the rule."
        return None, message, "too_long"
    # A prefix and not a group round the pattern: `a)|(b` must stay an error.
    source = f"(?{flags}){pattern}" if flags else pattern
    try:
        probe = re2.compile(source, _options(_PROBE_MEMORY))
        size = max(probe.programsize, probe.reverseprogramsize)
        if size > MAX_PROGRAM_SIZE:
            message = (
                f"The expression is too costly: {size} instructions, {MAX_PROGRAM_SIZE} are allowed. "
                "Shorten counted repetitions such as `{0,200}`, or use `*` instead."
            )
            return None, message, "too_costly"
        if not allow_empty_match and _matches_nothing(probe):
            message = (
                "The expression also matches an empty text, so it would be found everywhere. Make a part required."
            )
            return None, message, "matches_empty"
        return re2.compile(source, _options(_FULL_MEMORY)), "", ""
    except UnicodeEncodeError:
        return None, "The expression holds a character that is not valid Unicode.", "syntax"
    except re2.error as error:
        return None, *_advise(_text(error))


def _options(memory: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    return options


def _matches_nothing(expression: Any) -> bool:
    return any(found.end() == found.start() for probe in _EMPTY_MATCH_PROBES for found in expression.finditer(probe))


def _text(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _advise(reason: str) -> tuple[str, str]:
    for known, advice, code in _ADVICE:
        if re.match(known, reason):
            return f"{advice} ({_shown(reason)})", code
    return f"The expression is not valid: {_shown(reason)}.", "syntax"


def _shown(reason: str) -> str:
    # RE2 repeats the whole expression, with the flags put before it, after some messages.
    reason = re.sub(r"(?<=: )\(\?[ims]+\)", "", reason)
    return reason if len(reason) <= 80 else reason[:79] + "…"


class ExpressionSet:
    """Which of many expressions occur in a text, found in one pass over it."""

    def __init__(self, expressions: Sequence[Any]) -> None:
        self._parts: list[tuple[int, Any]] = []
        for first in range(0, len(expressions), SET_LENGTH):
            self._add(first, expressions[first : first + SET_LENGTH])

    def _add(self, first: int, expressions: Sequence[Any]) -> None:
        automaton = re2.Set.SearchSet(_options(SET_MEMORY))
        for expression in expressions:
            automaton.Add(expression.pattern)
        try:
            automaton.Compile()
        except re2.error:
            # Too many large expressions for one automaton: two smaller ones give the same answer.
            if len(expressions) == 1:
                raise
            half = len(expressions) // 2
            self._add(first, expressions[:half])
            self._add(first + half, expressions[half:])
        else:
            self._parts.append((first, automaton))

    def matching(self, content: bytes) -> list[int]:
        """Indexes, ascending, of the expressions that match somewhere in `content`."""
        found = []
        for first, automaton in self._parts:
            # None, not an empty list, when nothing matches.
            found += [first + index for index in automaton.Match(content) or ()]
        return sorted(found)


def compile_set(patterns: Sequence[Any]) -> ExpressionSet:
    """A set of expressions: results of `compile_expression`, or texts, which are compiled with its defaults."""
    return ExpressionSet([compile_expression(each) if isinstance(each, str) else each for each in patterns])
