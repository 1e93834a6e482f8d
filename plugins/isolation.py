"""How is an analyzer asked something without risk to the asker? In a process of its own, with limits.

The child, `plugins.probe`, knows nothing of the database or the settings. It gets a question as one line of JSON and
answers with another. One that hangs is ended, one that crashes or prints costs its own answer: `AnalyzerFailed` says
which. This holds mistakes back, not attacks: the child runs as the same user.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any, cast

from plugins.contract import RuleError, RuleSpec

SECONDS = 10.0
"""How long an answer may take, the start of the process included."""
MAX_ANSWER = 1 << 20
"""Bytes of an answer."""
KEPT = 8
"""Children that wait for another question, one an analyzer; each ends itself after a while (`probe.IDLE`)."""

_ROOT = Path(__file__).resolve().parents[1]
# Nothing of the server's own environment: it may hold passwords.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


class AnalyzerFailed(Exception):
    """The analyzer gave no answer: it crashed, hung, or said something else. The message is a sentence's end."""


class _Ended(AnalyzerFailed):
    """The process ended before it answered."""


class Child:
    """One process in which one analyzer lives. `source` names the class: `package.module:Class`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._process = subprocess.Popen(  # noqa: S603, our own module; `source` was installed here
            [sys.executable, "-P", "-m", "plugins.probe", source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env=_make_environment(),
            start_new_session=True,
        )
        self._to_child: IO[bytes] = cast("IO[bytes]", self._process.stdin)
        self._from_child: IO[bytes] = cast("IO[bytes]", self._process.stdout)
        os.set_blocking(self._to_child.fileno(), False)

    def ask(self, question: Mapping[str, Any]) -> Any:
        """The answer. Raises `RuleError` if that is the answer, else `AnalyzerFailed`; the child is then ended."""
        try:
            kind, said = _read(self._exchange(json.dumps(question, default=dict).encode() + b"\n"))
        except AnalyzerFailed:
            self.end()
            raise
        if kind == "rule_error":
            raise RuleError(**said)
        if kind == "failed":
            raise AnalyzerFailed(said)
        return said

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._process.returncode is not None

    def end(self) -> None:
        """End the process and all that it has started."""
        if self.ended:
            return
        # Until it is waited for, its number belongs to nobody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._to_child, self._from_child):
            pipe.close()

    def _exchange(self, question: bytes) -> bytes:
        """Write and read at once: neither side may wait for the other while a pipe is full."""
        deadline = monotonic() + SECONDS
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._to_child, selectors.EVENT_WRITE)
            selector.register(self._from_child, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                ready = selector.select(deadline - monotonic()) if deadline > monotonic() else []
                if not ready:
                    raise AnalyzerFailed(f"did not answer within {SECONDS:g} seconds")
                for key, _ in ready:
                    if key.fileobj is self._from_child:
                        received += self._read(MAX_ANSWER - len(received))
                    elif not (question := self._write(question)):
                        selector.unregister(self._to_child)
        return bytes(received)

    def _read(self, left: int) -> bytes:
        part = os.read(self._from_child.fileno(), 65536)
        if not part:
            raise _Ended(self._explain_end())
        if len(part) > left:
            raise AnalyzerFailed(f"answered with more than {MAX_ANSWER:,} bytes")
        return part

    def _write(self, question: bytes) -> bytes:
        """What of the question is still to be written."""
        try:
            return question[os.write(self._to_child.fileno(), question) :]
        except BrokenPipeError:
            return b""  # reading tells how it ended

    def _explain_end(self) -> str:
        """How the process ended: its output is closed a moment before. It is not waited for here (see `end`)."""
        deadline = monotonic() + 1
        while (state := os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
            if monotonic() > deadline:
                return "closed its output"
            sleep(0.005)
        if state.si_code == os.CLD_EXITED:
            return f"ended its process (exit code {state.si_status})"
        return f"was ended by {signal.Signals(state.si_status).name}"


def _read(answer: bytes) -> tuple[str, Any]:
    """Kind and content of an answer. Raises `AnalyzerFailed` unless it is one that `plugins.probe` gives."""
    with contextlib.suppress(ValueError, RecursionError):
        match json.loads(answer):
            case {"answer": said}:
                return "answer", said
            case {"failed": str(reason)}:
                return "failed", reason
            case {"rule_error": {"message": str(), "field": str(), "code": str(), **rest} as said} if not rest:
                return "rule_error", said
    raise AnalyzerFailed("gave an answer that cannot be read")


def _make_environment() -> dict[str, str]:
    folders = [str(_ROOT), *(os.path.abspath(folder) for folder in sys.path)]
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**passed_on, "PYTHONPATH": os.pathsep.join(dict.fromkeys(folders))}


def check(source: str, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Load the analyzer in a new process and prepare it without rules: its `version`. Raises as `Child.ask`."""
    child = Child(source)
    try:
        return child.ask({"task": "check", "configuration": configuration})
    finally:
        child.end()


def check_rule(source: str, rule: RuleSpec) -> None:
    """Raise `RuleError` if the analyzer cannot run the rule, or `AnalyzerFailed`. What passed once is kept."""
    _check_rule(source, json.dumps(asdict(rule), sort_keys=True, default=dict))


@lru_cache(maxsize=16_384)
def _check_rule(source: str, rule: str) -> None:
    # A refusal is an exception, which is not kept: a machine that was busy for ten seconds is asked again.
    _ask_kept(source, {"task": "check_rule", "rule": json.loads(rule)})


def run_examples(source: str, key: str) -> tuple[tuple[str, str], ...]:
    """What `registry.try_examples` says, asked in the child. Raises `AnalyzerFailed`."""
    return tuple((pointer, message) for pointer, message in _ask_kept(source, {"task": "examples", "key": key}))


_kept: dict[str, list[Child]] = {}
_lock = threading.Lock()


def forget() -> None:
    """End the children that wait, and forget what passed."""
    _check_rule.cache_clear()
    with _lock:
        waiting = [child for children in _kept.values() for child in children]
        _kept.clear()
    for child in waiting:
        child.end()


def _ask_kept(source: str, question: Mapping[str, Any]) -> Any:
    """Ask a child that waits, else a new one: a document with a thousand rules needs one process, not a thousand."""
    waiting = _take(source)
    if waiting is not None:
        # It may have ended itself while the question was under way.
        with contextlib.suppress(_Ended):
            return _ask_and_keep(waiting, question)
    return _ask_and_keep(Child(source), question)


def _ask_and_keep(child: Child, question: Mapping[str, Any]) -> Any:
    try:
        return child.ask(question)
    finally:
        _keep(child)


def _take(source: str) -> Child | None:
    with _lock:
        children = _kept.get(source)
        return children.pop() if children else None


def _keep(child: Child) -> None:
    with _lock:
        if not child.ended and sum(len(children) for children in _kept.values()) < KEPT:
            _kept.setdefault(child.source, []).append(child)
            return
    child.end()


# Two processes must not write to the same child.
os.register_at_fork(after_in_child=_kept.clear)
