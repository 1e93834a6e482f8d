"""Nothing is lost, repeated or out of order for anybody who follows, whatever ends in the middle of it.

Real servers and writers on the database of the test, killed while they work; followers that are cut off and come back.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.db import connection
from knox.models import AuthToken
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from audit.models import ConfigurationAuditLog
from audit.stream import read_position
from tests.factories import make_user

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
ROOT = Path(__file__).parent.parent.parent
SECONDS = 120
CHANGES, KILLS = 2_000, 5
NOBODY = "redis://127.0.0.1:1/0"  # where no Redis answers
WRITER = """
import random, sys
import django; django.setup()
from audit.changes import change_set
from audit.errors import Busy
from personas.models import Persona
own = sys.argv[1]
with change_set():
    for number in range(3):
        if not Persona.objects.filter(name=f"{own}-{number}").exists():
            Persona(name=f"{own}-{number}", title="T", voice="V").save()
step = 0
while True:
    try:
        with change_set():
            for number in random.sample(range(3), random.randint(1, 3)):
                persona = Persona.objects.get(name=f"{own}-{number}")
                persona.voice = f"{own} {step} {random.random()}"
                persona.save()
            step += 1
            if step % 10 == 0:
                raise ValueError("rolled back on purpose")
    except (ValueError, Busy):
        pass
"""


def database_url() -> str:
    """Address of the database of this test, for other processes."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    parts = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(parts._replace(path=f"/{name}"))


class Processes:
    """Servers and writers; all have ended afterwards."""

    def __init__(self, home: Path) -> None:
        self._environment = {
            **os.environ,
            "GOVERNANCE_HOME": str(home),
            "GOVERNANCE_SECRET_KEY": settings.SECRET_KEY,
            "DATABASE_URL": database_url(),
            "REDIS_URL": NOBODY,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "governance_config.settings",
        }
        self.all: list[subprocess.Popen] = []

    def start(self, *command: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=self._environment, stderr=subprocess.DEVNULL
        )
        self.all.append(process)
        return process

    def serve(self) -> tuple[int, subprocess.Popen]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        arguments = ("--port", str(port), "--lifespan", "on", "--log-level", "critical")
        process = self.start("-m", "uvicorn", "governance_config.asgi:application", *arguments)
        wait_until(lambda: answers(port))
        return port, process

    def write(self, name: str) -> subprocess.Popen:
        return self.start("-c", WRITER, name)

    def end(self) -> None:
        for process in self.all:
            process.kill()
            process.wait(SECONDS)


def answers(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def wait_until(true, seconds: float = SECONDS):
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
    return answer


@pytest.fixture
def processes(tmp_path):
    running = Processes(tmp_path)
    yield running
    running.end()


class Follower(threading.Thread):
    """A client that keeps what it hears, and comes back to where it was when it loses its socket."""

    def __init__(self, ports: list[int], token: str, start: int, *, cut_after: int | None = None) -> None:
        super().__init__(daemon=True)
        self.ports, self.token, self.cut_after = ports, token, cut_after
        self.heard, self.last, self.done, self.connections = [], start, False, 0

    def run(self) -> None:
        while not self.done:
            with suppress(OSError, WebSocketException, TimeoutError):
                self.follow(random.choice(self.ports))
            time.sleep(0.02)

    def follow(self, port: int) -> None:
        address = f"ws://127.0.0.1:{port}/ws/v1/config/changes"
        with connect(address, additional_headers={"Authorization": f"Bearer {self.token}"}) as client:
            hello = json.loads(client.recv(10))
            client.send(json.dumps({"type": "resume", "epoch": hello["epoch"], "since": self.last}))
            self.connections += 1
            until = None if self.cut_after is None else len(self.heard) + self.cut_after
            while not self.done and (until is None or len(self.heard) < until):
                try:
                    message = json.loads(client.recv(1))
                except TimeoutError:
                    continue
                assert message["type"] in ("change", "ping"), message
                if message["type"] == "change":
                    self.last = message["revision"]
                    self.heard.append(self.last)
            if until is not None:
                client.socket.shutdown(socket.SHUT_RDWR)  # as a cable that is pulled


def terminate_listeners() -> int:
    """End the sessions in which servers listen; SQLite has none."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'governance listener' AND datname = current_database()"
        )
        return cursor.fetchone()[0]


def test_nobody_misses_anything_while_processes_die(processes):
    token = AuthToken.objects.create(make_user(superuser=True))[1]
    start = read_position().revision
    ports, servers = zip(*(processes.serve() for _ in range(2)), strict=True)
    ports = list(ports)
    followers = [Follower(ports, token, start, cut_after=cut) for cut in (None, None, None, 40, 150)]
    for follower in followers:
        follower.start()
    writers = [processes.write(name) for name in ("a", "b")]
    ended_listeners = 0
    for kills in range(1, KILLS + 1):
        wait_until(lambda goal=CHANGES * kills // KILLS: read_position().revision - start >= goal)
        ended_listeners += terminate_listeners()
        victim = writers[kills % 2]
        victim.send_signal(signal.SIGKILL)
        victim.wait(SECONDS)
        writers[kills % 2] = processes.write("ab"[kills % 2])
        if kills == 2:
            port = ports.pop(0)
            servers[0].send_signal(signal.SIGKILL)
            servers[0].wait(SECONDS)
            assert not answers(port)
    for writer in writers:
        writer.kill()
        writer.wait(SECONDS)
    end = read_position().revision
    wait_until(lambda: all(follower.last >= end for follower in followers))
    for follower in followers:
        follower.done = True
    for follower in followers:
        follower.join(SECONDS)
    expected = list(range(start + 1, end + 1))
    assert (
        list(
            ConfigurationAuditLog.objects.filter(revision__gt=start)
            .order_by("revision")
            .values_list("revision", flat=True)
        )
        == expected
    )
    assert [follower.heard == expected for follower in followers] == [True] * len(followers)
    assert len(expected) >= CHANGES and all(follower.connections > 3 for follower in followers[3:])
    assert ended_listeners or connection.vendor == "sqlite"


def test_a_command_in_another_process_wakes_the_server(processes):
    """Within a heartbeat's time there is one safety look a second, so this says that it arrives, and not when."""
    token = AuthToken.objects.create(make_user(superuser=True))[1]
    start = read_position().revision
    port, _ = processes.serve()
    follower = Follower([port], token, start)
    follower.start()
    wait_until(lambda: follower.connections)
    writer = processes.write("command")
    wait_until(lambda: len(follower.heard) > 5)
    writer.kill()
    writer.wait(SECONDS)
    follower.done = True
    follower.join(SECONDS)
    assert follower.heard == list(range(start + 1, start + 1 + len(follower.heard)))
