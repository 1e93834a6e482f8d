"""When does a condition hold? CEL, bounded: what may be said, how long it is, and how deep it loops. Pure.

CEL (Common Expression Language) always ends, but nested macros over long lists can take long. Hence the bounds: a short
text, macros nested twice at most, and documents whose lists are short.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cel

MAX_LENGTH = 500
"""Characters of a condition."""
MAX_NESTING = 2
"""Macros (`all`, `exists`, `map`, `filter`) inside each other."""
MAX_ITEMS = 100
"""Entries of a list that a condition sees; a longer one is refused rather than judged in part."""

VARIABLES = ("old", "new", "actor", "change", "facts")
"""`old` and `new` are documents (null for an object that is created or deleted), the others objects."""

_MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*(\w+)\s*,")
_STRING = re.compile(r"""r?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")


class ConditionError(ValueError):
    """A condition that cannot be used, or that cannot be judged for a change; the text says why."""


def compile_condition(text: str) -> Any:
    """The program of a condition. Raises `ConditionError`."""
    program = _compile(text)
    if isinstance(program, str):
        raise ConditionError(program)
    return program


@lru_cache(maxsize=1024)
def _compile(text: str) -> Any:
    if not text.strip():
        return "A condition is needed, such as: new == null || new.severity != 'info'"
    if len(text) > MAX_LENGTH:
        return f"The condition has {len(text)} characters; {MAX_LENGTH} are allowed: split the rule."
    if _measure_nesting(text) > MAX_NESTING:
        return f"Macros may be nested {MAX_NESTING} deep: split the rule."
    try:
        program = cel.compile(text)
    except ValueError as error:
        return f"This is no CEL expression: {_shorten(error)}"
    # The names that macros bind are listed among the variables.
    bound = {found[1] for found in _MACRO.finditer(_STRING.sub("''", text))}
    unknown = sorted(set(program.variables()) - set(VARIABLES) - bound)
    if unknown:
        return f"{', '.join(unknown)} is not known. Known are {', '.join(VARIABLES)}."
    return program


def holds(text: str, variables: Mapping[str, Any]) -> bool:
    """Whether the condition is true. Raises `ConditionError` if it cannot be judged, or is neither true nor false."""
    program = compile_condition(text)
    used = {name: variables[name] for name in program.variables() if name in VARIABLES}
    if (long := _find_long_list(used)) is not None:
        raise ConditionError(f"a list has {long} entries; conditions see {MAX_ITEMS} at most")
    try:
        answer = program.execute(used)
    except (RuntimeError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise ConditionError(_explain(error)) from error
    if not isinstance(answer, bool):
        raise ConditionError("it is neither true nor false")
    return answer


def _measure_nesting(text: str) -> int:
    """How deep macros stand inside each other."""
    # Brackets inside of texts do not count.
    bare = _STRING.sub("''", text)
    opened = {bare.index("(", found.start()) for found in _MACRO.finditer(bare)}
    deepest, stack = 0, []
    for position, letter in enumerate(bare):
        if letter in "([{":
            stack.append(position in opened)
            deepest = max(deepest, sum(stack))
        elif letter in ")]}" and stack:
            stack.pop()
    return deepest


def _find_long_list(value: Any) -> int | None:
    if isinstance(value, Mapping):
        value = list(value.values())
    elif isinstance(value, list) and len(value) > MAX_ITEMS:
        return len(value)
    if isinstance(value, list):
        return next((long for item in value if (long := _find_long_list(item)) is not None), None)
    return None


def _explain(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]!r}; has(…) asks whether there is"
    if isinstance(error, TypeError):
        return "a value has another type than the condition takes it for (null, perhaps)"
    return _shorten(error)


def _shorten(error: Exception) -> str:
    text = " ".join(str(error).split("\n")[0].split())
    return text if len(text) <= 200 else f"{text[:199]}…"
