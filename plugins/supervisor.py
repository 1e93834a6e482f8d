"""How does a program run under limits and leave nothing behind? A script that `plugins.processes` starts.

It stands between this server and the program. Limits are set in its own child before the program starts, so that not
one instruction of the program runs without them (limits that are set from outside come later than the start), and no
Python code runs in a fork of a server that has threads. On Linux it inherits what the program leaves behind, in
whatever process group or session, and ends it. Its standard input is the leash: when the other end is closed, even
because the server was killed, everything ends.

Arguments: an order as JSON, the program, its arguments. It answers with one line of JSON on standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

LEASH = 0
ANSWER = 1
PATIENCE = 5.0
"""Seconds that ending everything may take. A process that the system itself blocks cannot be ended at once."""
CANNOT_START = 127

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform.startswith("linux")


def main(order: dict[str, Any], command: list[str]) -> dict[str, Any]:
    """Run the command to its end, or to that of its time or of the leash; then end whatever is left of it."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _ask_system(_PR_SET_CHILD_SUBREAPER, 1)
    deadline = time.monotonic() + order["seconds"]
    started = time.monotonic()
    program = os.fork()
    if program == 0:
        _become(order, command)
    status, ended = _await(program, woken, deadline)
    seconds = time.monotonic() - started
    left = _end_everything(program)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return {"exit_code": code, "ended": ended, "left": left if status is not None else 0, "seconds": seconds}


def _become(order: dict[str, Any], command: list[str]) -> NoReturn:
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for each in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(each, signal.SIG_DFL)  # Python ignores some, and a program would inherit that
        _ask_system(_PR_SET_PDEATHSIG, signal.SIGKILL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(order["stdout"], flags, 0o600), 1)
        os.dup2(os.open(order["stderr"], flags, 0o600), 2)
        os.closerange(3, 256)
        for name, value in order["limits"].items():
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
            # One second more to the hard limit of the processor's time: at the soft one the signal says why.
            above = soft + 1 if kind == resource.RLIMIT_CPU else soft
            resource.setrlimit(kind, (soft, above if hard == resource.RLIM_INFINITY else min(above, hard)))
        os.execve(command[0], command, order["environment"])  # noqa: S606 no shell is wanted
    except BaseException as error:
        os.write(2, f"It cannot be started: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(CANNOT_START)


def _await(program: int, woken: int, deadline: float) -> tuple[int | None, str]:
    """The program's status and ``""``, or None and why it is not waited for any longer: `time` or `stopped`."""
    while True:
        remaining = deadline - time.monotonic()
        ready = select.select([LEASH, woken], [], [], max(0.0, remaining))[0]
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, 4096)
        pid, status = os.waitpid(program, os.WNOHANG)
        if pid:
            return status, ""
        if LEASH in ready:
            return None, "stopped"
        if remaining <= 0:
            return None, "time"


def _end_everything(program: int) -> int:
    """End the program and what came of it; how many of the others were still running."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program, signal.SIGKILL)
    left = 0
    patience = time.monotonic() + PATIENCE
    while time.monotonic() < patience:
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if not pid:
            time.sleep(0.002)
        elif pid != program and os.WIFSIGNALED(status):
            left += 1
    return left


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listed:
            return [int(pid) for pid in listed.read().split()]
    except OSError:  # not Linux: the process group is all that is known
        return []


def _ask_system(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    answer = main(json.loads(sys.argv[1]), sys.argv[2:])
    with suppress(BrokenPipeError):
        os.write(ANSWER, json.dumps(answer).encode() + b"\n")
