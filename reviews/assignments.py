"""What has one analyzer to do in a run? Passes between processes, so it is plain and knows little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from plugins.contract import Executable, RuleSpec


@dataclass(frozen=True)
class Assignment:
    """An analyzer with its rules in this run."""

    plugin: str
    source: str
    """Where its class is found: `package.module:Class`."""
    version: str
    configuration: Mapping[str, Any]
    rules: tuple[RuleSpec, ...]
    seconds: float
    """How long it may take: for a file, or for the tree."""
    memory: int
    """Bytes that it asks for beyond what all may use."""
    looks_at_tree: bool
    executables: tuple[Executable, ...] = ()


@lru_cache(maxsize=256)
def load(source: str) -> Any:
    """The class that `source` names as `package.module:Class`."""
    module, _, name = source.partition(":")
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
