"""What does one analyzer answer? The child's side of `plugins.isolation`: python -m plugins.probe package.module:Class

Reads questions as lines of JSON from standard input and writes one line for each answer to where standard output was.
Whatever the analyzer prints goes nowhere. No Django here: an analyzer has no business with the database.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import sys
from importlib.metadata import EntryPoint
from typing import Any

from plugins import registry
from plugins.contract import ENTRY_POINT_GROUP, RuleError, RuleSpec

IDLE = 10.0
"""Seconds without a question after which the process ends."""
MEMORY = 2 << 30
"""Bytes of address space."""
MAX_MESSAGE = 500
"""Characters of what went wrong."""


def main(source: str) -> int:
    """Answer until there is nothing more to read, or nobody asks."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    questions = os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _limit()
    pending = b""
    while True:
        line, newline, rest = pending.partition(b"\n")
        if newline:
            pending = rest
            answers.write(json.dumps(_answer(source, json.loads(line))).encode() + b"\n")
            continue
        if not select.select([questions], [], [], IDLE)[0]:
            return 0
        part = questions.read(65536)
        if not part:
            return 0
        pending += part


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _answer(source: str, question: dict[str, Any]) -> dict[str, Any]:
    try:
        analyzer = EntryPoint("asked", source, ENTRY_POINT_GROUP).load()
        return {"answer": _TASKS[question.pop("task")](analyzer, **question)}
    except RuleError as error:
        return {"rule_error": {"message": str(error.message), "field": str(error.field), "code": str(error.code)}}
    # Not only Exception: native modules panic with other classes, and a script may call sys.exit.
    except BaseException as error:
        return {"failed": f"failed: {type(error).__name__}: {_say(error)}"[:MAX_MESSAGE]}


def _check(analyzer: Any, configuration: dict[str, Any]) -> dict[str, Any]:
    analyzer().prepare([], configuration)
    return {"version": str(analyzer.version)}


def _check_rule(analyzer: Any, rule: dict[str, Any]) -> None:
    analyzer().check_rule(RuleSpec(**rule))


def _examples(analyzer: Any, key: str) -> Any:
    return registry.try_examples(analyzer, key)


_TASKS = {"check": _check, "check_rule": _check_rule, "examples": _examples}


def _say(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "it cannot say why"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
