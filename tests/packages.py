"""How does a test install an analyzer of another package, or a program? On the paths of the test alone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins import registry


class Packages:
    """Makes distributions in a folder that is on `sys.path`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, module: str, code: str, **analyzers: str) -> None:
        """A distribution with one module; `analyzers` are its entry points: name → class."""
        (self.folder / f"{module}.py").write_text("from plugins.analyzers.patterns import Patterns\n" + code)
        information = self.folder / f"{module}-1.0.dist-info"
        information.mkdir(exist_ok=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{target}" for name, target in analyzers.items()]
        (information / "entry_points.txt").write_text("\n".join(["[code_review.analyzers]", *lines, ""]))
        self._forget(module)

    def remove(self, module: str) -> None:
        """Take the distribution away again."""
        (self.folder / f"{module}-1.0.dist-info" / "entry_points.txt").unlink()
        self._forget(module)

    def _forget(self, module: str) -> None:
        sys.modules.pop(module, None)
        # Two versions written within a second look alike to the cache of compiled modules.
        shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)
        registry.refresh()


def install_program(folder: Path, name: str, version: str) -> Path:
    """A program that tells its version; `folder` must be on the PATH."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho {name} {version}\n")
    program.chmod(0o755)
    # Its time and size tell whether it is another one than before.
    os.utime(program, ns=(hash(version) % 10**9, hash(version) % 10**9))
    return program


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Where distributions can be installed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Packages(folder)
    monkeypatch.undo()
    registry.refresh()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder
