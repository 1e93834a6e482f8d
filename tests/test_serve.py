"""The real processes: a review started over HTTP runs in a worker, and `serve` leaves nothing running behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

ROOT = Path(__file__).parent.parent
SECONDS = 60
TOKEN = """
import django; django.setup()
from django.contrib.auth.models import User
from knox.models import AuthToken
print(AuthToken.objects.create(User.objects.get(username="admin"))[1])
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="the server has a database of its own: once is enough"),
]


class Installation:
    """A server with a home of its own, as a person at a terminal runs it."""

    def __init__(self, home: Path) -> None:
        kept = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
        self.environment = {
            **kept,
            "GOVERNANCE_HOME": str(home),
            "GOVERNANCE_ADMIN_PASSWORD": "a passphrase for the worker",
            "DJANGO_SETTINGS_MODULE": "governance_config.settings",
        }
        for command in ("migrate", "prepare"):
            self.manage(command, "-v0")
        self.shop = home / "codebases" / "shop"
        self.shop.mkdir()
        (self.shop / "a.py").write_text("eval(text)\n")
        self.token = self.run("-c", TOKEN).strip()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def run(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def manage(self, *arguments: str) -> str:
        return self.run("manage.py", *arguments)

    def serve(self, *arguments: str) -> subprocess.Popen[str]:
        """`manage.py serve`, once it answers; in a process group of its own, as a shell would start it."""
        command = [sys.executable, "manage.py", "serve", "--port", str(self.port), *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stderr=subprocess.PIPE, text=True, process_group=0
        )
        wait_until(self.answers)
        return process

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz").status == 200
        except urllib.error.URLError:
            return False

    def call(self, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/v1{path}", data, headers)
        return json.load(urllib.request.urlopen(request))

    def children(self) -> list[int]:
        """Every process of this installation, by its environment."""
        mark = f"GOVERNANCE_HOME={self.environment['GOVERNANCE_HOME']}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def workers(self) -> list[int]:
        return [pid for pid in self.children() if b"db_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (answer := true()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    if not Path("/proc/self/environ").exists():
        pytest.skip("tells its processes by /proc")
    return Installation(tmp_path_factory.mktemp("home"))


@pytest.fixture
def installation(prepared):
    yield prepared
    for pid in prepared.children():
        os.kill(pid, signal.SIGKILL)


def test_a_review_started_over_http_is_run_by_a_worker(installation):
    server = installation.serve("--no-worker")
    started = installation.call("/reviews/sessions", {"root": "shop"})
    assert (started["status"], installation.workers()) == ("queued", [])
    installation.manage("db_worker", "--batch", "--no-startup-delay")
    session = installation.call(f"/reviews/sessions/{started['id']}")
    assert (session["status"], session["files_done"], session["files_total"]) == ("completed", 1, 1)
    issues = installation.call(f"/reviews/sessions/{started['id']}/issues")["results"]
    assert "a.py" in {issue["path"] for issue in issues}
    server.terminate()
    assert server.wait(SECONDS) == -signal.SIGTERM
    assert installation.children() == []


def test_ctrl_c_ends_server_and_worker_without_a_traceback(installation):
    server = installation.serve()
    wait_until(installation.workers)
    # What a terminal does: the signal goes to the foreground group.
    os.killpg(server.pid, signal.SIGINT)
    _, errors = server.communicate(timeout=SECONDS)
    assert server.returncode == 0
    assert "Traceback" not in errors and "KeyboardInterrupt" not in errors
    assert installation.children() == []


def test_a_worker_that_is_killed_is_replaced_and_reviews_go_on(installation):
    server = installation.serve()
    (worker,) = wait_until(installation.workers)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: [pid for pid in installation.workers() if pid != worker])
    started = installation.call("/reviews/sessions", {"root": "shop"})
    wait_until(lambda: installation.call(f"/reviews/sessions/{started['id']}")["status"] == "completed")
    server.terminate()
    _, errors = server.communicate(timeout=SECONDS)
    assert "the review worker ended with code -9; another one starts in 1 s" in errors


def test_the_end_of_the_server_is_the_end_of_all(installation):
    command = [sys.executable, "manage.py", "serve", "--host", "not.an.address.example", "--port", "1"]
    ended = subprocess.run(command, cwd=ROOT, env=installation.environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    assert installation.children() == []


def test_nothing_outlives_a_killed_supervisor(installation):
    server = installation.serve()
    wait_until(installation.workers)
    server.kill()
    server.wait(SECONDS)
    wait_until(lambda: installation.children() == [])
