"""Small programs that stand where an external tool would, trees to give them, and what is left of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from plugins.contract import SourceTree, TreeFile

VERSION = "1.2.3"

_PRELUDE = f"""#!{sys.executable} -IS
import json, os, sys, time

if '--version' in sys.argv:
    print('NAME {VERSION}')
    sys.exit(0)
if sys.argv[1:2] == ['rule']:
    print(json.dumps([{{'code': code}} for code in ('S101', 'S105', 'S602', 'E501', 'B006')]))
    sys.exit(0)
report = sys.argv[sys.argv.index('-o') + 1] if '-o' in sys.argv else ''
files = sys.argv[sys.argv.index('--') + 1:] if '--' in sys.argv else []


def result(path, code='S101', text='Text', **region):
    place = {{'artifactLocation': {{'uri': 'file://' + path}}, 'region': region or {{'startLine': 1}}}}
    return {{'ruleId': code, 'message': {{'text': text}}, 'locations': [{{'physicalLocation': place}}]}}


def write(*results, **run):
    run = {{'tool': {{'driver': {{'name': 'fake'}}}}, 'results': results, **run}}
    with open(report, 'w') as file:
        json.dump({{'version': '2.1.0', 'runs': [run]}}, file)


"""


def write_tool(folder: Path, body: str, name: str = "ruff") -> Path:
    """An executable Python script `name` that answers `--version` and lists its rules, and else does what `body` says.

    `body` has `report`, where a report is due, `files`, what it is about, and `write(*results)` and `result(path)`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(_PRELUDE.replace("NAME", name) + body + "\n")
    path.chmod(0o755)
    return path


def make_tree(root: Path, files: Mapping[str | bytes, str | bytes]) -> SourceTree:
    """A tree of real files."""
    listed = []
    for path, content in files.items():
        name = os.fsencode(path)
        location = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(location), exist_ok=True)
        with open(location, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        listed.append(TreeFile(name.decode("utf-8", "backslashreplace"), location, os.path.getsize(location)))
    return SourceTree(root, listed, _read)


def list_tree(root: Path) -> SourceTree:
    """The tree of all files below a folder that is there already."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    files = [TreeFile(path.relative_to(root).as_posix(), os.fsencode(path), path.stat().st_size) for path in paths]
    return SourceTree(root, files, _read)


def make_example(path: str, content: str) -> SourceTree:
    """A tree of one file that lies nowhere."""
    encoded = content.encode()
    return SourceTree(Path("/nowhere"), [TreeFile(path, path.encode(), len(encoded))], lambda _: encoded)


def is_running(pid: int) -> bool:
    """Whether the process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def find_running(tool: Path) -> list[int]:
    """Processes that run a tool or were started to run it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(tool) in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if is_running(pid)]


def wait_for_text(path: Path, seconds: float = 20.0) -> str:
    """The text of a file that another process is about to write."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return text
        os.sched_yield()
    raise AssertionError(f"{path} was not written")


def _read(file: TreeFile) -> bytes | None:
    try:
        content = Path(os.fsdecode(file.location)).read_bytes()
    except OSError:
        return None
    return None if b"\0" in content or len(content) > 1_000_000 else content
