"""How does this process talk to a worker, and how does a worker end? One process that runs `reviews.worker`.

Nothing that a worker does may harm its parent: what it says is read without waiting, in pieces of bounded size, and
judged before it is used; what its analyzers print is read as well, and only the end of it kept.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import secrets
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from reviews.assignments import Assignment
from reviews.pulse import SIZE, Beat, Exit, Phase, Pulse
from reviews.work import Orders

PREPARE_SECONDS = 30.0
"""How long an analyzer may take to get ready."""
OWN_SECONDS = 60.0
"""How long a worker may take for anything that is not an analyzer's."""
MAX_MESSAGE = 256 << 20
"""Bytes of one message of a worker."""
TAIL = 300
"""Characters of what was printed last that are told when a worker crashed."""

_ROOT = Path(__file__).resolve().parents[1]
# Everything else may hold passwords.
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "SYSTEMROOT"),
)
_PIECE = 1 << 18
_PIPE = 1 << 20
_PIECES = 64
_MAX_DESCENDANTS = 10_000


class GarbledError(Exception):
    """A worker said what no worker says."""


class Child:
    """A worker, from its start to its end. Its files never block."""

    def __init__(
        self, assignments: Sequence[Assignment], *, memory: int, folder: Path, search_path: Sequence[str | Path] = ()
    ) -> None:
        """Start a worker. `memory` is in bytes, `folder` for its temporary files. Raises `OSError`."""
        self.assignments = list(assignments)
        self.is_ready = False
        self._seal = secrets.token_hex(8).encode()
        self._outgoing: deque[memoryview] = deque()
        self._incoming = bytearray()
        self._printed = b""
        self._seen = (Beat(), monotonic())
        allowance = memory + max((each.memory for each in self.assignments), default=0) if memory else 0
        # Before anything is started: it fails if a rule holds what cannot pass between processes.
        first = _pickle(Orders(self.assignments, allowance, self._seal))
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.noise, noise = os.pipe()
        with tempfile.TemporaryFile(dir=folder) as shared:
            shared.truncate(SIZE)
            self._pulse = Pulse(shared.fileno())
            theirs = (orders, answers, shared.fileno())
            try:
                self.process = subprocess.Popen(  # noqa: S603 our own module
                    [sys.executable, "-P", "-m", "reviews.worker", *map(str, (os.getpid(), *theirs))],
                    stdin=subprocess.DEVNULL,
                    stdout=noise,
                    stderr=noise,
                    pass_fds=theirs,
                    cwd="/",
                    env=make_environment(folder, search_path),
                    start_new_session=True,
                )
            except BaseException:
                self._close()
                raise
            finally:
                for each in (orders, answers, noise):
                    os.close(each)
        for each in (self.orders, self.answers, self.noise):
            os.set_blocking(each, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            # A batch at once, so that neither side waits for the other in small steps.
            with suppress(OSError):
                fcntl.fcntl(self.orders, fcntl.F_SETPIPE_SZ, _PIPE)
        self._outgoing.append(first)
        self.push()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits until the worker takes it."""
        return bool(self._outgoing)

    def send(self, order: Any) -> None:
        """Give the worker an order, as soon as it takes it."""
        self._outgoing.append(_pickle(order))
        self.push()

    def push(self) -> None:
        """Send on what waits. One who no longer listens is found out elsewhere."""
        try:
            while self._outgoing:
                sent = os.write(self.orders, self._outgoing[0])
                self._outgoing[0] = self._outgoing[0][sent:]
                if not self._outgoing[0]:
                    self._outgoing.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()

    def receive(self) -> tuple[list[Any], bool]:
        """What the worker has said since, and whether it may say more. Raises `GarbledError`."""
        messages: list[Any] = []
        # Bounded, because an analyzer may write here as fast as it is listened to. A pipe holds less than that.
        for _ in range(_PIECES):
            try:
                piece = os.read(self.answers, _PIECE)
            except BlockingIOError:
                return messages, True
            except OSError:
                return messages, False
            if not piece:
                return messages, False
            self._incoming += piece
            if b"\n" in piece:
                messages += self._split()
            if len(self._incoming) > MAX_MESSAGE:
                raise GarbledError("a message without end")
        return messages, True

    def hear(self) -> bool:
        """Take what was printed; False if nothing more can come."""
        # Bounded, because an analyzer may print as fast as it is listened to.
        for _ in range(_PIECES):
            try:
                piece = os.read(self.noise, _PIECE)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not piece:
                return False
            self._printed = (self._printed + piece)[-8 * TAIL :]
        return True

    def beat(self) -> Beat:
        """What the worker is doing."""
        return self._pulse.read()

    def overdue(self, owes: bool) -> float | None:
        """The seconds that the worker was allowed, if it has used them up; None if it has not.

        If nobody knows what it does, it must not do so for ever while it `owes` something.
        """
        beat, now = self._pulse.read(), monotonic()
        if beat != self._seen[0]:
            self._seen = beat, now
        allowed = OWN_SECONDS
        if beat.phase is Phase.PREPARING:
            allowed = PREPARE_SECONDS
        elif beat.phase is Phase.ASKING and 0 <= beat.plugin < len(self.assignments):
            allowed = self.assignments[beat.plugin].seconds
        elif not owes and self.is_ready:
            return None
        return allowed if now - self._seen[1] > allowed else None

    def stir(self) -> None:
        """The worker got something new to do: what it did not do before does not count."""
        self._seen = self._seen[0], monotonic()

    def end(self, patience: float = 0.0) -> str:
        """End the worker, and what its analyzers left running, at once; how it had ended by itself, if it had.

        One that no longer says anything is about to end: `patience` is how many seconds it may take.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        code = self.process.returncode
        if code is None:
            _end_descendants(self.process.pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.hear()
        self._close()
        tail = " ".join(self._printed.decode("utf-8", "replace").replace("\0", "\ufffd").split())[-TAIL:]
        return _describe(code) + (f"; printed last: {tail}" if tail and code not in _PLAIN else "")

    def _split(self) -> Iterator[Any]:
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        for line in lines:
            _, seal, text = line.rpartition(self._seal)
            if not seal:
                continue
            try:
                message = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise GarbledError(str(error)) from error
            if not isinstance(message, list) or not message:
                raise GarbledError("a message of no known form")
            yield message

    def _close(self) -> None:
        for name in ("orders", "answers", "noise"):
            number = getattr(self, name)
            if number >= 0:
                os.close(number)
                setattr(self, name, -1)
        self._pulse.close()


def make_environment(folder: Path, search_path: Sequence[str | Path]) -> dict[str, str]:
    """What a worker knows of the environment."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    modules = [str(_ROOT), *map(str, search_path), *(each for each in inherited if os.path.isabs(each))]
    return {**kept, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(dict.fromkeys(modules))}


def _pickle(order: Any) -> memoryview:
    return memoryview(pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL))


def _describe(code: int | None) -> str:
    if code is None or code == Exit.SEVERED:
        return "closed files that are not its own"
    if code == Exit.EXHAUSTED:
        return "needed more memory than it may use"
    if code == -signal.SIGKILL:
        return "was ended by the system (SIGKILL), perhaps because memory ran out"
    if code >= 0:
        return f"ended its process with exit code {code}"
    try:
        return f"crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"crashed (signal {-code})"


_PLAIN = (None, Exit.SEVERED, Exit.EXHAUSTED)


def _end_descendants(pid: int) -> None:
    """End what came of a process, in whatever process group or session."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
    ended: set[int] = set()
    # One that ends while they are listed leaves its own children to the process, where the next look finds them.
    while found := set(_descendants(pid)) - ended:
        for each in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        ended |= found


def _descendants(pid: int) -> list[int]:
    """The processes that came of a process, if the system tells."""
    found: list[int] = []
    pending = [pid]
    while pending and len(found) < _MAX_DESCENDANTS:
        parent = pending.pop()
        children: list[int] = []
        with suppress(OSError, ValueError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                children += map(int, Path(f"/proc/{parent}/task/{thread}/children").read_text().split())
        found += children
        pending += children
    return found
