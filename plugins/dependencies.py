"""What does an analyzer need: which plugins of which versions, which programs, and are they there?

Needs are written as in package metadata, `patterns` or `patterns>=1.2,<2`; versions are compared as PEP 440 says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from plugins.contract import Executable
from plugins.processes import detect_version, find_executable

_REQUIREMENT = re.compile(r"\s*([a-z][a-z0-9_-]{0,49})\s*(.*?)\s*")
_VERSION = re.compile(r"\d+(?:\.\d+)*(?:[-.]?(?:a|b|rc|post|dev)\d+)?")


@dataclass(frozen=True, slots=True)
class Requirement:
    """Another plugin that must be on, and its versions that will do."""

    name: str
    versions: SpecifierSet
    written: str
    """The versions as they were written."""

    def __str__(self) -> str:
        return f"{self.name} {self.written}".strip()

    def allows(self, version: str) -> bool:
        """Whether `version` will do. One that cannot be compared does only where any will."""
        if not self.versions:
            return True
        try:
            return self.versions.contains(Version(version), prereleases=True)
        except InvalidVersion:
            return False


@lru_cache(maxsize=1024)
def parse(text: str) -> Requirement:
    """The requirement that `text` spells, such as `patterns>=1.2,<2`. Raises `ValueError`."""
    found = _REQUIREMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not the name of a plugin, with or without versions such as 'patterns>=1.2,<2'")
    try:
        return Requirement(found[1], SpecifierSet(found[2]), found[2])
    except InvalidSpecifier:
        raise ValueError(f"{text!r} does not say versions as in 'patterns>=1.2,<2'") from None


def find_fault(requires: Any, executables: Any) -> str | None:
    """What is wrong with the needs that an analyzer states; None if they can be used."""
    if isinstance(requires, str) or not isinstance(requires, Sequence) or not all(isinstance(n, str) for n in requires):
        return "lacks 'requires', a sequence of plugin names"
    try:
        names = [parse(text).name for text in requires]
    except ValueError as error:
        return f"has 'requires' that cannot be read: {error}"
    if len(set(names)) < len(names):
        return "requires a plugin twice: write its versions in one entry, such as 'patterns>=1.2,<2'"
    if isinstance(executables, str) or not isinstance(executables, Sequence):
        return "has 'executables' that are not a sequence"
    for each in executables:
        if not isinstance(each, Executable):
            return "has 'executables' that are not plugins.contract.Executable"
        if each.minimum and read_version(each.minimum) is None:
            return f"asks for {each.name} {each.minimum!r}, which is not a version"
    return None


@dataclass(frozen=True, slots=True)
class Program:
    """A program that an analyzer runs, as it was found on this machine."""

    name: str
    minimum: str
    install: str
    path: str = ""
    """Empty: it was not found."""
    version: str = ""
    """Empty: it did not tell."""

    @property
    def problem(self) -> str:
        """Why the analyzer cannot run it, and what to do; empty if it can."""
        get_it = f"install it with: {self.install}"
        if not self.path:
            return f"the program {self.name} was not found; {get_it}"
        if not self.minimum:
            return ""
        found, wanted = read_version(self.version), read_version(self.minimum)
        if found is None:
            return f"{self.path} does not tell its version, and {self.minimum} or newer is needed; {get_it}"
        if wanted is not None and found < wanted:
            return f"{self.path} is version {self.version}, {self.minimum} or newer is needed; {get_it}"
        return ""


def find_programs(executables: Sequence[Executable], *, again: bool = False) -> list[Program]:
    """The programs as they are on this machine now.

    Each is asked for its version once, until its file changes: this is also asked under the lock of a change. `again`:
    those that did not tell are asked once more.
    """
    found = []
    for each in executables:
        path = find_executable(each.name)
        version = "" if path is None else _ask_version(path, again)
        found.append(Program(each.name, each.minimum, each.install, "" if path is None else str(path), version))
    return found


def read_version(text: str) -> Version | None:
    """The first version that `text` tells, as in ``ruff 0.17.6``; None if there is none."""
    found = _VERSION.search(text)
    return None if found is None else Version(found[0])


_versions: dict[Path, tuple[int, int, str]] = {}
"""What each program told: when its file was modified, its size, and the version, empty if it told none."""


def _ask_version(path: Path, again: bool) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return ""
    modified, size, version = _versions.get(path, (-1, -1, ""))
    if (modified, size) != (state.st_mtime_ns, state.st_size) or (again and not version):
        version = detect_version(path) or ""
        _versions[path] = (state.st_mtime_ns, state.st_size, version)
    return version
