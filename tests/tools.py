"""Small programs that stand where an external tool would, and what is left of them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

VERSION = "1.2.3"


def write_tool(folder: Path, body: str, name: str = "tool") -> Path:
    """An executable Python script `name` that answers `--version`, and otherwise does what `body` says.

    `body` has `os`, `sys` and `time`, and `output`, the argument after `--output`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(
        f"#!{sys.executable} -IS\n"
        "import os, sys, time\n"
        "if '--version' in sys.argv:\n"
        f"    print('{name} {VERSION}')\n"
        "    sys.exit(0)\n"
        "output = sys.argv[sys.argv.index('--output') + 1] if '--output' in sys.argv else None\n" + body
    )
    path.chmod(0o755)
    return path


def is_running(pid: int) -> bool:
    """Whether the process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_text(path: Path, seconds: float = 20.0) -> str:
    """The text of a file that another process is about to write."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return text
        os.sched_yield()
    raise AssertionError(f"{path} was not written")
