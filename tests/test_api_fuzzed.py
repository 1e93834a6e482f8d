"""The running server under generated requests: no fault, no status that its own document does not name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).parent.parent
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PREPARE = """
import django; django.setup()
from django.contrib.auth.models import User
from knox.models import AuthToken
print(AuthToken.objects.create(User.objects.get(username="admin"))[1])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Address of a server of its own, and a token: what is generated deletes rows as well."""
    environment = {
        **{key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")},
        "GOVERNANCE_HOME": str(tmp_path_factory.mktemp("home")),
        "GOVERNANCE_ADMIN_PASSWORD": "a passphrase for the fuzzer",
        "DJANGO_SETTINGS_MODULE": "governance_config.settings",
    }
    for command in ("migrate", "prepare"):
        subprocess.run([sys.executable, "manage.py", command, "-v0"], cwd=ROOT, env=environment, check=True)
    script = subprocess.run([sys.executable, "-c", PREPARE], cwd=ROOT, env=environment, check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "governance_config.asgi:application",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/readyz")
        yield address, script.stdout.decode().strip()
    finally:
        process.terminate()
        process.wait(20)


def wait_for(address: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address)
            return
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(connection.vendor != "sqlite", reason="the server has a database of its own: once is enough")
def test_generated_requests_meet_no_fault_and_no_undocumented_status(server, tmp_path):
    address, token = server
    outcome = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "run", f"{address}/api/v1/schema"),
            *("--header", f"Authorization: Bearer {token}", "--checks", CHECKS),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "4", "--seed", "7", "--no-color"),
            # The token that carries the run must outlive it.
            *("--exclude-path", "/api/v1/auth/token", "--exclude-path-regex", "/config/users/"),
            # It never ends.
            *("--exclude-path", "/api/v1/config/changes"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stdout[-8000:] + outcome.stderr[-2000:]
