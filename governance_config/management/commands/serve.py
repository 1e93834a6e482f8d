"""Serve admin and API, and run the reviews that people start there."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.utils import timezone

from audit.metrics import FOLDER
from reviews.liveness import close_lost_sessions

TICK = 0.1  # seconds
BACK_OFF = (1, 2, 5, 10, 30)
"""Seconds before a worker that has died starts again: the first time, the second time, …"""
STEADY = 60
"""Seconds after which a worker that dies counts as one that dies for the first time."""
ASKING, PATIENCE = 0.5, 5
"""Seconds for an idle worker to end, and for a busy one to put its review away before it is killed."""
STOPPING = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Serve admin and API (uvicorn), and run the reviews that people start there (one db_worker), until the server "
        "ends or somebody stops it. Exits with the server's code."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
        parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 8000, help="default: PORT, 8000")
        parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes of the server; default: 1")
        parser.add_argument("--no-worker", action="store_true", help="run no reviews: a db_worker elsewhere does")

    def handle(self, **options: Any) -> None:
        # Where the processes keep the figures that each of them tells of all; gone with the server.
        with tempfile.TemporaryDirectory(prefix="governance-") as folder:
            os.environ[FOLDER] = folder
            code = self._serve(Path(folder), options)
        if code < 0:
            # Whoever waits for this process sees the signal that ended the server.
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        sys.exit(code)

    def _serve(self, folder: Path, options: dict[str, Any]) -> int:
        logging_file = folder / "logging.json"
        logging_file.write_text(json.dumps(settings.LOGGING))
        server = [
            *(sys.executable, "-m", "uvicorn", "governance_config.asgi:application"),
            *("--host", options["host"], "--port", str(options["port"])),
            *("--no-access-log", "--lifespan", "on", "--log-config", str(logging_file)),
            *("--timeout-graceful-shutdown", "5", "--ws-max-size", "65536"),
        ]
        if options["workers"] > 1:
            server += ["--workers", str(options["workers"])]
        worker = [sys.executable, sys.argv[0], "db_worker", "--no-startup-delay", "--verbosity", "0"]
        return Supervisor(server, None if options["no_worker"] else worker).run()


class Supervisor:
    """Runs the server, and beside it a worker that starts again when it dies. The server's end is the end of both.

    Each has a process group of its own: Ctrl-C on a terminal reaches this process alone, which tells them in order.
    """

    def __init__(self, server: list[str], worker: list[str] | None) -> None:
        self._server_command, self._worker_command = server, worker
        self._server: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._deaths = self._told = 0
        self._started_at = self._start_at = 0.0
        self._stopping = False

    def run(self) -> int:
        """Until the server has ended; its code, negative if a signal ended it."""
        before = {each: signal.signal(each, self._pass_on) for each in STOPPING}
        try:
            self._server = start(self._server_command)
            while (code := self._server.poll()) is None:
                self._look_after_worker(time.monotonic())
                time.sleep(TICK)
            return code
        finally:
            self._end_worker()
            for each, handler in before.items():
                signal.signal(each, handler)

    def _pass_on(self, number: int, frame: Any) -> None:
        self._stopping = True
        if self._server is not None:
            self._server.send_signal(number)
        self._tell_worker()

    def _tell_worker(self) -> None:
        """A worker that is told twice puts its review away at once; told a third time it would not come to that."""
        if self._worker is not None and self._told < 2:
            self._told += 1
            self._worker.send_signal(signal.SIGTERM)

    def _look_after_worker(self, now: float) -> None:
        if self._worker_command is None or self._stopping:
            return
        if self._worker is not None:
            code = self._worker.poll()
            if code is None:
                return
            self._deaths = 0 if now - self._started_at > STEADY else self._deaths
            delay = BACK_OFF[min(self._deaths, len(BACK_OFF) - 1)]
            self._deaths += 1
            self._worker, self._start_at = None, now + delay
            logger.warning("the review worker ended with code %s; another one starts in %s s", code, delay)
        if now >= self._start_at:
            self._close_lost()
            self._worker, self._started_at = start(self._worker_command), now

    def _close_lost(self) -> None:
        try:
            close_lost_sessions(timezone.now())
        except DatabaseError as error:
            logger.warning("lost reviews cannot be told now: %s", error)
        finally:
            connection.close()

    def _end_worker(self) -> None:
        """Ask the worker, then make it, then kill it with whatever its analyzers have started."""
        worker = self._worker
        if worker is None:
            return
        for seconds in (ASKING, PATIENCE):
            self._tell_worker()
            try:
                worker.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
            break
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """A child in a process group of its own."""
    return subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent)  # noqa: S603


def _die_with_parent() -> None:
    """On Linux a child is told when this process is gone, however it went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
