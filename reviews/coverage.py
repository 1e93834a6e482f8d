"""Would this review have seen a finding, were it still where it was? Pure but for asking whether a file is there.

A finding that is not seen again is fixed only if the answer is yes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from pathlib import Path

from plugins.contract import RuleError, RuleSpec
from reviews.engine import Failure
from reviews.scopes import Scopes
from reviews.selection import Selection, check_paths

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


class Answer(StrEnum):
    """What became of the place of a finding."""

    LOOKED = "looked"
    """Its rule looked there: what it did not find is not there."""
    GONE = "gone"
    """Its file is no longer there."""
    RULE_REMOVED = "rule_removed"
    """Its rule did not run, or no longer asks for such files."""
    NOT_REVIEWED = "not_reviewed"
    """Its file is there, and was left out."""
    UNKNOWN = "unknown"
    """Something went wrong, or this part of the codebase was not to be reviewed."""


class Coverage:
    """What a review looked at. Paths are relative to `root`, the folder of the codebase."""

    def __init__(
        self,
        rules: Sequence[RuleSpec],
        *,
        root: Path,
        files: Collection[str],
        failures: Iterable[Failure] = (),
        whole: bool = True,
        scopes: Scopes | None = None,
    ) -> None:
        """`files` were looked at; `whole` says whether all of the codebase was to be; `scopes` where rules
        are silent."""
        self._scopes = scopes or Scopes()
        self._rules = {rule.name: rule for rule in rules}
        self._root = os.fsencode(root)
        self._files = files
        self._whole = whole
        self._selection = Selection({"": [rule for rule in rules if _can_run(rule)]})
        self._failed = {(each.plugin, each.rule, each.path) for each in failures}
        # What went wrong between the analyzers may concern any of them.
        plugins = {rule.plugin for rule in rules}
        self._troubled = {each.path for each in failures if each.plugin not in plugins}
        self._there: dict[str, bool] = {}
        self._asked: dict[str, frozenset[str]] = {}

    def answer(self, rule_name: str, path: str) -> Answer:
        """What can be said about findings of a rule in a file."""
        rule = self._rules.get(rule_name)
        if rule is None:
            return Answer.RULE_REMOVED if self._whole else Answer.UNKNOWN
        if self._has_failed(rule, path):
            return Answer.UNKNOWN
        if path not in self._files and not self.is_there(path):
            return Answer.GONE
        if not self._whole:
            looked = path in self._files and not self._scopes.is_silent(rule_name, path)
            return Answer.LOOKED if looked else Answer.UNKNOWN
        if not self._asks(rule_name, path):
            return Answer.RULE_REMOVED
        return Answer.LOOKED if path in self._files else Answer.NOT_REVIEWED

    def is_there(self, path: str) -> bool:
        """Whether the codebase has a file at `path`."""
        there = self._there.get(path)
        if there is None:
            there = self._there[path] = path in self._files or any(map(self._is_file, _spellings(path)))
        return there

    def _asks(self, rule_name: str, path: str) -> bool:
        names = self._asked.get(path)
        if names is None:
            names = frozenset(name for _, names in self._selection.tasks(path) for name in names)
            self._asked[path] = names
        return rule_name in names and not self._scopes.is_silent(rule_name, path)

    def _has_failed(self, rule: RuleSpec, path: str) -> bool:
        if None in self._troubled or path in self._troubled:
            return True
        plugin = rule.plugin
        return any(
            each in self._failed
            for each in (
                (plugin, None, None),
                (plugin, rule.name, None),
                (plugin, None, path),
                (plugin, rule.name, path),
            )
        )

    def _is_file(self, path: bytes) -> bool:
        location = os.path.join(self._root, path)
        return os.path.lexists(location) and (os.path.islink(location) or not os.path.isdir(location))


def _can_run(rule: RuleSpec) -> bool:
    # What cannot has failed, and is asked about no path.
    try:
        check_paths(rule)
    except RuleError:
        return False
    return True


def _spellings(path: str) -> Iterable[bytes]:
    """The names that discovery may have shown like this: what is not UTF-8 in them is escaped."""
    name = path.encode("utf-8", "surrogateescape")
    yield name
    if b"\\x" in name:
        yield _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), name)
