"""Where is a program, which version is it, and what does it answer within limits? Pure of Django.

The name of a program and its arguments come from code, never from the database, and nothing of the code under review
decides what runs: programs are looked for beside the Python that runs this and on the search path, they run in an empty
folder, with an environment of their own, and without input.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

MEGABYTE = 1024 * 1024
TAIL = 500
"""Characters of what a program complained about that are told."""

# Seconds beyond a program's own time after which the supervisor is given up as well.
_GRACE = 15.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_VERSION = re.compile(r"\d+(?:\.\d+)+(?:[-+.]?[A-Za-z0-9]+)*")


class ToolError(RuntimeError):
    """A program is not there, or did not do what it was started for. The message says so in a sentence."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use."""

    seconds: float = 60.0
    """Of the clock. The processor's time is limited to as much on each core."""
    memory: int = 2048 * MEGABYTE
    """Bytes of addresses (RLIMIT_AS), each process by itself."""
    output: int = 64 * MEGABYTE
    """Bytes of each file that it writes, standard output and error among them."""


VERSION_LIMITS = Limits(seconds=20, output=MEGABYTE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    exit_code: int | None
    """Negative: the signal that ended it. None: it was ended here."""
    ended: str
    """Why it was ended: `time`, `stopped` (somebody else no longer wanted it), or empty."""
    left: int
    """Processes that it left running. They were ended."""
    seconds: float
    stdout: Path
    stderr: Path
    limits: Limits

    def tail(self) -> str:
        """The end of what it complained about, on one line: `TAIL` characters at most."""
        try:
            with self.stderr.open("rb") as file:
                file.seek(max(0, self.stderr.stat().st_size - 4 * TAIL))
                text = file.read(4 * TAIL).decode("utf-8", "replace")
        except OSError:
            return ""
        return " ".join(text.split())[-TAIL:]

    def describe(self) -> str:
        """What it did, as the rest of a sentence: "exited with code 7", "was ended after 60 s"."""
        if self.ended == "time":
            return f"was ended after {self.limits.seconds:.3g} s"
        if self.exit_code is None:
            return "was ended before it was done"
        if self.exit_code >= 0:
            return f"exited with code {self.exit_code}"
        number = -self.exit_code
        if number == signal.SIGXFSZ:
            return f"was ended because it wrote a file of more than {self.limits.output / MEGABYTE:.3g} MB"
        if number == signal.SIGXCPU:
            return f"was ended because it used the processor for more than {self.limits.seconds:.3g} s on each core"
        try:
            return f"was ended by the signal {signal.Signals(number).name}"
        except ValueError:
            return f"was ended by the signal {number}"


def find_executable(name: str) -> Path | None:
    """The program `name` beside the Python that runs this, or on the search path; never from a relative folder, nor
    from the current one, which may be the one under review."""
    if not _NAME.fullmatch(name):
        return None
    here = _current_folder()
    beside = Path(sys.executable or os.devnull).parent
    for folder in (beside, *_search_path()):
        candidate = folder / name
        if folder != beside and os.path.realpath(folder) == here:
            continue
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    return None


def detect_version(path: Path, arguments: Sequence[str] = ("--version",)) -> str | None:
    """The version that the program says it is, such as `0.17.6`, or None. A program that has not changed since is not
    asked again."""
    try:
        state = path.stat()
        return _ask_version(path, tuple(arguments), state.st_mtime_ns, state.st_size)
    except (OSError, ToolError):
        return None


def run(command: Sequence[str | Path], *, folder: Path, limits: Limits) -> Outcome:
    """Run a program, given by its absolute path, within limits, and end what it leaves behind.

    `folder` is a fresh temporary folder of the caller; what is printed is kept there in `stdout` and `stderr`, and the
    program's own folder, which is its home as well, is an empty one below.
    """
    empty = folder / "empty"
    empty.mkdir(mode=0o700)
    order = {
        "seconds": limits.seconds,
        "stdout": str(folder / "stdout"),
        "stderr": str(folder / "stderr"),
        "environment": _environment(empty),
        "limits": {
            "RLIMIT_AS": limits.memory,
            "RLIMIT_CPU": max(1, round(limits.seconds * (os.cpu_count() or 1))),
            "RLIMIT_FSIZE": limits.output,
            "RLIMIT_CORE": 0,
        },
    }
    answer = _supervise([json.dumps(order), *map(str, command)], empty, limits.seconds + _GRACE)
    return Outcome(
        exit_code=answer["exit_code"],
        ended=answer["ended"],
        left=answer["left"],
        seconds=answer["seconds"],
        stdout=folder / "stdout",
        stderr=folder / "stderr",
        limits=limits,
    )


def _supervise(arguments: Sequence[str], folder: Path, seconds: float) -> dict[str, Any]:
    script = Path(__file__).with_name("supervisor.py")
    leash, hand = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 the command is fixed in code
            [sys.executable, "-I", "-S", str(script), *arguments],
            stdin=leash,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        os.close(hand)
        raise ToolError(f"No process can be started: {error}") from error
    finally:
        os.close(leash)
    try:
        said, _ = process.communicate(timeout=seconds)
        answer: dict[str, Any] = json.loads(said)
        return answer
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise ToolError(f"The supervisor of {Path(arguments[1]).name} failed: {type(error).__name__}") from error
    finally:
        _release(process, hand)


def _release(process: subprocess.Popen[bytes], hand: int) -> None:
    with suppress(OSError):
        os.write(hand, b".")
    os.close(hand)
    try:
        process.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join(map(str, _search_path()))
    return {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}


def _current_folder() -> str | None:
    try:
        return os.path.realpath(os.getcwd())
    except FileNotFoundError:  # somebody has removed it
        return None


def _search_path() -> list[Path]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [Path(folder) for folder in folders if os.path.isabs(folder)]


@lru_cache(maxsize=64)
def _ask_version(path: Path, arguments: tuple[str, ...], modified: int, size: int) -> str:
    # When it was modified, and its size, are there to tell one state of the file from the next. What fails is raised
    # and so not remembered.
    with tempfile.TemporaryDirectory(prefix="code-review-") as folder:
        outcome = run([path.absolute(), *arguments], folder=Path(folder), limits=VERSION_LIMITS)
        said = b" ".join(each.read_bytes()[:1000] for each in (outcome.stdout, outcome.stderr) if each.exists())
    found = _VERSION.search(said.decode("utf-8", "replace"))
    if outcome.exit_code != 0 or found is None:
        raise ToolError(f"{path.name} {' '.join(arguments)} {outcome.describe()} and told no version")
    return found.group()
