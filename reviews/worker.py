"""How does a process review files for another one? python -m reviews.worker PARENT ORDERS ANSWERS PULSE

The last three are numbers of open files: orders come in as pickles from the parent, answers go out as lines of JSON,
and `reviews.pulse` says what is being done. Nothing of Django is imported here,
and nothing of the server's environment is known. Analyzers are anybody's code: what they print goes to the parent,
which keeps the end of it, and whatever they do to this process costs no more than this process.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, BinaryIO, NoReturn

from reviews.outcome import encode
from reviews.pulse import Exit, Phase, Pulse
from reviews.reviewer import Reviewer, Watch
from reviews.work import Batch, Orders, Tree, make_tree

FLUSH_SECONDS = 0.1
"""How long an answer may wait for others to be sent together."""

_OUT_OF_THE_WAY = 200
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class _Reporter(Watch):
    """Says what is being done in the shared memory, and makes sure that the parent can still be reached."""

    def __init__(self, pulse: Pulse, plugins: Sequence[str], files: Sequence[int]) -> None:
        self._pulse = pulse
        self._places = {plugin: place for place, plugin in enumerate(plugins)}
        self._files = [(file, os.fstat(file).st_ino) for file in files]
        self._process = os.getpid()
        self.batch = -1
        self.file = -1

    def preparing(self, plugin: str) -> None:
        self._pulse.write(Phase.PREPARING, self._places[plugin])

    def asking(self, plugin: str) -> None:
        self._pulse.write(Phase.ASKING, self._places[plugin], self.batch, self.file)

    def answered(self) -> None:
        if os.getpid() != self._process:
            os._exit(Exit.DONE)  # a copy that the analyzer made of us
        # Somebody else's files may have the numbers of ours now.
        if not all(_is_open(file, inode) for file, inode in self._files):
            os._exit(Exit.SEVERED)
        self._pulse.write(Phase.OWN, -1, self.batch, self.file)

    def rest(self) -> None:
        """Nothing is done until the next order."""
        self._pulse.write(Phase.IDLE)


class _Worker:
    def __init__(self, orders: Orders, pulse: Pulse, incoming: BinaryIO, answers: BinaryIO) -> None:
        self._answers = answers
        self._seal = orders.seal
        self._assignments = orders.assignments
        self._allowance = orders.memory
        plugins = [each.plugin for each in orders.assignments]
        self._reporter = _Reporter(pulse, plugins, (incoming.fileno(), answers.fileno()))
        self._flushed = monotonic()
        _limit_memory(orders.memory)
        # What an analyzer raises as an interrupt is not one: the terminal's do not come here.
        self._reviewer = Reviewer(orders.assignments, watch=self._reporter, fatal=())
        self._base = _limit_memory(orders.memory)
        self._say("ready", self._reviewer.failures, self._take_seconds())
        self._flush()

    def do(self, order: Batch | Tree) -> None:
        """Carry out an order and say so."""
        if isinstance(order, Batch):
            self._review(order)
        else:
            self._review_tree(order)
        self._reporter.rest()
        self._flush()

    def _review(self, batch: Batch) -> None:
        for place, job in enumerate(batch.jobs):
            self._reporter.batch, self._reporter.file = batch.number, place
            outcome = self._reviewer.review(job.source, job.tasks, job.without)
            self._check_memory()
            self._say("file", batch.number, place, encode(outcome))
        self._say("done", batch.number, self._take_seconds(), self._is_worn())

    def _review_tree(self, tree: Tree) -> None:
        outcomes, failures = self._reviewer.review_tree(tree.assignment, make_tree(tree), max_bytes=tree.max_bytes)
        for path, outcome in outcomes.items():
            self._say("path", path, encode(outcome))
        self._say("tree", failures, self._take_seconds())

    def _say(self, *message: Any) -> None:
        self._answers.write(self._seal + json.dumps(message, separators=(",", ":")).encode() + b"\n")
        if monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        self._answers.flush()
        self._flushed = monotonic()

    def _take_seconds(self) -> dict[str, float]:
        taken = dict(self._reviewer.seconds)
        self._reviewer.seconds.clear()
        return taken

    def _check_memory(self) -> None:
        """End if an analyzer ran out of memory and did not give it back: the next one would pay for it."""
        if self._reviewer.out_of_memory:
            plugin = self._reviewer.out_of_memory.pop()
            self._reviewer.out_of_memory.clear()
            gc.collect()
            if self._is_worn():
                self._flush()
                self._reporter.asking(plugin)
                os._exit(Exit.EXHAUSTED)

    def _is_worn(self) -> bool:
        """Whether so much memory is taken that a new process should take over."""
        return self._allowance > 0 and _count_addresses() - self._base > self._allowance // 2


def main(arguments: Sequence[str]) -> int:
    """Carry out orders until there are none; the exit code."""
    parent, orders_file, answers_file, pulse_file = map(int, arguments)
    _tie_to(parent)
    pulse = Pulse(pulse_file)
    os.close(pulse_file)
    orders_file, answers_file = _put_away(orders_file), _put_away(answers_file)
    with open(orders_file, "rb") as orders, open(answers_file, "wb", buffering=1 << 16) as answers:
        # A copy of this process must not speak for it, nor keep the parent waiting for the end of what it says.
        os.register_at_fork(after_in_child=lambda: _close(orders_file, answers_file))
        try:
            worker = _Worker(pickle.load(orders), pulse, orders, answers)  # noqa: S301 from our parent
            while True:
                try:
                    order = pickle.load(orders)  # noqa: S301
                except EOFError:
                    break
                worker.do(order)
        except BaseException:
            _give_up()
    return Exit.DONE


def _give_up() -> NoReturn:
    # Not by returning: what analyzers want to do at the end is no concern of ours.
    traceback.print_exc()
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(Exit.FAULT)


def _put_away(file: int) -> int:
    """The same file under a number that nobody hits by mistake, and that no program inherits."""
    moved = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    os.close(file)
    return moved


def _is_open(file: int, inode: int) -> bool:
    try:
        return os.fstat(file).st_ino == inode
    except OSError:
        return False


def _close(*files: int) -> None:
    for file in files:
        with suppress(OSError):
            os.close(file)


def _tie_to(parent: int) -> None:
    """End when the parent does, even by force; and inherit what the analyzers leave running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        system = ctypes.CDLL(None)
        system.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        system.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(Exit.DONE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _limit_memory(allowance: int) -> int:
    """Allow so many bytes of addresses beyond those in use now; returns the latter. 0: as many as there are."""
    used = _count_addresses()
    if allowance and used:
        with suppress(ValueError, OSError):
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            wanted = used + allowance
            # Only the soft limit: it is raised again when the analyzers are ready.
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return used


def _count_addresses() -> int:
    """Bytes of addresses in use; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
