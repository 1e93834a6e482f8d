"""Wrong settings and missing databases: one line that says what to do, and an exit code that is not a verdict."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"


def run(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**inherited, "GOVERNANCE_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"GOVERNANCE_HOME": "/proc/nowhere"}, "GOVERNANCE_HOME"),
        ({"GOVERNANCE_PRODUCTION": "1"}, "GOVERNANCE_HOSTS"),
        ({"GOVERNANCE_PRODUCTION": "perhaps"}, "GOVERNANCE_PRODUCTION must be 1 or 0"),
        ({"GOVERNANCE_LOG_LEVEL": "LOUD"}, "GOVERNANCE_LOG_LEVEL"),
        ({"DATABASE_URL": "mysql://root@localhost/x"}, "DATABASE_URL must begin with"),
        ({"GOVERNANCE_RATE_READ": "fast"}, "GOVERNANCE_RATE_READ must be a whole number"),
        ({"GOVERNANCE_LOCKOUT_FAILURES": "0"}, "GOVERNANCE_LOCKOUT_FAILURES must be a whole number, 1 or more"),
        ({"REDIS_URL": "localhost"}, "REDIS_URL must begin with"),
        ({"GOVERNANCE_WAKE_UP": "bell"}, "GOVERNANCE_WAKE_UP must be database or redis"),
        ({"GOVERNANCE_WAKE_UP": "redis"}, "GOVERNANCE_WAKE_UP=redis needs REDIS_URL"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(tmp_path, environment, words):
    ended = run("code_review", "README.md", home=tmp_path, **environment)
    assert ended.returncode == 3
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "command", [("code_review", "README.md", "--as", "admin"), ("export_config",), ("migrate", "-v0"), ("prepare",)]
)
def test_a_database_that_is_not_there_is_said_at_once_without_a_traceback(tmp_path, command):
    ended = run(*command, home=tmp_path, DATABASE_URL=NOWHERE)
    assert ended.returncode == 3
    assert "Connection refused" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_database_without_tables_says_how_to_set_it_up(tmp_path):
    ended = run("code_review", "README.md", home=tmp_path)
    assert ended.returncode == 3
    assert "make run" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_weak_administrator_password_is_refused_before_anything_is_stored(tmp_path):
    assert run("migrate", "-v0", home=tmp_path).returncode == 0
    ended = run("prepare", home=tmp_path, GOVERNANCE_ADMIN_PASSWORD="short")
    assert ended.returncode == 2
    assert "GOVERNANCE_ADMIN_PASSWORD" in ended.stderr
    assert (
        run("export_config", home=tmp_path)
        .stdout.split("\n", 1)[1]
        .startswith("format: code-review-governance/1\nplugins: []")
    )


def test_the_first_screen_shows_a_password_and_no_warning_which_the_journal_keeps(tmp_path):
    assert run("migrate", "-v0", home=tmp_path).returncode == 0
    ended = run("prepare", home=tmp_path)
    assert ended.returncode == 0 and "Password:" in ended.stderr + ended.stdout
    assert "Warning" not in ended.stderr + ended.stdout
    with sqlite3.connect(tmp_path / "governance.sqlite3") as journal:
        (warned,) = journal.execute(
            "SELECT count(*) FROM configuration_audit_log WHERE warnings LIKE '%second person%'"
        ).fetchone()
    assert warned


def test_what_is_kept_in_the_home_is_for_its_owner_alone(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    run("migrate", "-v0", home=home)
    for name in ("governance.sqlite3", "secret.key"):
        assert (home / name).stat().st_mode & 0o077 == 0, name
