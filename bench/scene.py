"""Where is it measured? Scratch homes, databases and servers of its own, all gone afterwards; never the user's."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.client import Client
from tests.private_services import find_free_port

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60  # for a server to answer, and to end
FOREIGN = ("GOVERNANCE_", "DATABASE_URL", "REDIS_URL", "DJANGO_", "PROMETHEUS_", "PORT", "FORWARDED_")
METRICS_TOKEN = "the-token-of-the-benchmark"  # noqa: S105, of a server that lives for a minute

Progress = Callable[[int, int], None]


class Scene:
    """One installation: a home, a database, perhaps a Redis."""

    def __init__(self, database_url: str = "", redis_url: str = "") -> None:
        self.vendor = "postgresql" if database_url else "sqlite"
        self.home = Path(tempfile.mkdtemp(prefix="governance-bench-"))
        # Nothing of the user's own settings: neither his database nor his limits.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.environment = {
            **kept,
            "GOVERNANCE_HOME": str(self.home),
            "DATABASE_URL": database_url or f"sqlite:///{self.home / 'governance.sqlite3'}",
            "REDIS_URL": redis_url,
            "GOVERNANCE_METRICS_TOKEN": METRICS_TOKEN,
            "GOVERNANCE_LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "bench.settings",
            "PYTHONPATH": str(ROOT),
        }

    def __enter__(self) -> Scene:
        self._run([sys.executable, "manage.py", "migrate", "--verbosity", "0"])
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def fill(self, rules: int, journal: int, progress: Progress) -> dict[str, Any]:
        """Have so many rules and journal rows; what a client needs to know of them."""
        with self.child("bench.data", str(rules), str(journal)) as process:
            assert process.stdout is not None
            last = ""
            for line in process.stdout:
                last = line
                if line.startswith("progress"):
                    _, done, wanted = line.split()
                    progress(int(done), int(wanted))
        if process.returncode:
            raise RuntimeError(f"the data could not be made: exit code {process.returncode}")
        return dict(json.loads(last))

    def look_inside(self, requests: int) -> dict[str, Any]:
        """The figures of one process."""
        command = [sys.executable, "-m", "bench.inside", "configuration", str(requests)]
        return dict(json.loads(self._run(command).splitlines()[-1]))

    @contextmanager
    def child(self, module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A module of the benchmark in a process of its own, ended at the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        try:
            yield process
        finally:
            with suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.close()
            try:
                process.wait(2 if process.poll() is None else 0)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait(SECONDS)

    @contextmanager
    def server(self, workers: int = 1, log: Path | None = None, port: int | None = None) -> Iterator[ServerProcess]:
        """`manage.py serve` on `port` or a free one, once it answers. What it says goes to `log`, if given."""
        port = port or find_free_port()
        command = [sys.executable, "manage.py", "serve", "--no-worker", "--port", str(port)]
        command += ["--workers", str(workers)]
        said = log.open("ab") if log is not None else None
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=said)
        if said is not None:
            said.close()
        try:
            server = ServerProcess(process.pid, port)
            wait_until(lambda: process.poll() is not None or server.answers())
            if process.poll() is not None:
                raise RuntimeError(f"the server did not start: exit code {process.returncode}")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} ended with code {done.returncode}")
        return done.stdout


class ServerProcess:
    """A server that runs."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self.port = pid, port

    def answers(self) -> bool:
        """Whether it can serve."""
        client = Client(self.port)
        try:
            return client.send(client.request("GET", "/readyz"))[0] == 200
        except OSError:
            return False
        finally:
            client.close()

    def read_figures(self) -> dict[str, float]:
        """Its own figures, by name and labels as Prometheus's text has them."""
        client = Client(self.port, METRICS_TOKEN)
        status, _, body = client.send(client.request("GET", "/metrics"))
        client.close()
        if status != 200:
            raise RuntimeError(f"/metrics answered {status}")
        lines = (line.rsplit(" ", 1) for line in body.decode().splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def read_memory(self) -> float:
        """Resident memory in MB of the largest of its processes."""
        pids = [self.pid]
        for pid in pids:
            with suppress(OSError):
                pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        sizes = []
        for pid in pids:
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                sizes += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
        return round(max(sizes) / 1024, 1)


def end_in_order() -> None:
    """Let SIGTERM and SIGINT unwind the stack, so that servers and folders go too; a shell's `&` ignores SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: sys.exit(128 + received))


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that takes a moment."""
    deadline = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not answer")
        time.sleep(0.05)


def read_line(process: subprocess.Popen[str], seconds: float) -> str:
    """The next line that `process` says, empty if it has ended or says nothing for so long."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else ""
