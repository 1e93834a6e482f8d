"""As what does a rule run on a file? Overrides that are limited to paths make variants of it. Pure.

A variant is a rule of its own to the engine and to analyzers, under a label that no rule can have as its name.
Everybody else hears of the rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from plugins.contract import RuleSpec
from reviews.discovery import IgnoreLines

if TYPE_CHECKING:  # the engine runs without Django
    from overrides.places import Form, Places

MARK = "@"
"""Stands between the name of a rule and the number of a variant."""


def name_rule(label: str) -> str:
    """The name of the rule that runs under `label`."""
    return label.partition(MARK)[0]


class Scopes:
    """The rules that are not in force alike everywhere. Paths are relative to the folder of the codebase, from which
    `prefix` leads to the reviewed folder."""

    def __init__(self, places: Mapping[str, Places] | None = None, prefix: str = "") -> None:
        self._places = {name: each for name, each in (places or {}).items() if not each.is_tangled}
        self._prefix = prefix
        self._labels: dict[tuple[str, object], str] = {}
        self._lines: dict[tuple[str, ...], IgnoreLines] = {}
        for name, each in self._places.items():
            self._labels[name, each.elsewhere.content] = name
            for number, form in enumerate(each.forms):
                self._labels.setdefault((name, form.content), f"{name}{MARK}{number}")
            for globs, _ in each.steps:
                self._lines[globs] = IgnoreLines([glob.encode("utf-8", "surrogateescape") for glob in globs])
        self.find_labels = lru_cache(maxsize=4096)(self._find_labels)

    def list_variants(self) -> Iterator[tuple[str, str, Form]]:
        """Label, rule and form of each variant that runs somewhere, once."""
        told = set()
        for name, each in self._places.items():
            for form in each.forms:
                label = self._labels[name, form.content]
                if form.enabled and label not in told:
                    told.add(label)
                    yield label, name, form

    def is_in_force(self, label: str, path: str) -> bool:
        """Whether what runs under `label` looks at the file at `path`, relative to the reviewed folder."""
        return name_rule(label) not in self._places or label in self.find_labels(path)

    def judge(self, rule: RuleSpec, path: str) -> RuleSpec:
        """The rule as it is in force at `path` of the codebase."""
        return self._find(rule.name, path).spec if rule.name in self._places else rule

    def is_silent(self, name: str, path: str) -> bool:
        """Whether the rule is disabled at `path` of the codebase."""
        return name in self._places and not self._find(name, path).enabled

    def _find_labels(self, path: str) -> frozenset[str]:
        """The labels under which rules that have variants run on a file, whose path is relative to the reviewed
        folder."""
        found = ((name, self._find(name, self._prefix + path)) for name in self._places)
        return frozenset(self._labels[name, form.content] for name, form in found if form.enabled)

    def _find(self, name: str, path: str) -> Form:
        return self._places[name].find(lambda globs: _speaks_of(self._lines[globs], path))


def _speaks_of(lines: IgnoreLines, path: str) -> bool:
    """As git does: what is said of a folder holds for everything in it."""
    name = path.encode("utf-8", "surrogateescape")
    ends = [index + 1 for index, each in enumerate(name) if each == 0x2F]
    return any(lines.judge(name[:end]) for end in (*ends, len(name)))
