"""Who looks at what in this run? The rules sorted by analyzer, and what cannot be asked at all.

Analyzers are only looked up here, never made or asked: that happens in the processes that `reviews.pool` starts.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from plugins import registry
from plugins.contract import Executable, RuleError, RuleSpec
from reviews.assignments import Assignment
from reviews.outcome import Failure
from reviews.scopes import Scopes, name_rule
from reviews.selection import Selection, Tasks, check_paths
from reviews.suppressions import NAME as DIRECTIVES

SECONDS_PER_FILE = 10.0
SECONDS_PER_TREE = 600.0
MEGABYTE = 1 << 20

_SOURCES = ("reviews", "plugins", "plugins/analyzers")


class Plan:
    """The assignments of a run, in the order in which analyzers require each other, and who asks for which file."""

    def __init__(
        self,
        rules: Iterable[RuleSpec],
        plugin_configurations: Mapping[str, Mapping[str, Any]],
        scopes: Scopes | None = None,
    ) -> None:
        self.failures: list[Failure] = []
        """What can be told before anything runs."""
        self.rules = {rule.name: rule for rule in _unique(rules) if self._has_valid_paths(rule)}
        """Of all plugins, by name; variants of a rule by their labels."""
        self.scopes = scopes or Scopes()
        self.by_name = {name_rule(label): rule for label, rule in self.rules.items()}
        """One of the variants of each rule."""
        self.assignments: list[Assignment] = []
        by_plugin: dict[str, list[RuleSpec]] = {}
        for rule in self.rules.values():
            by_plugin.setdefault(rule.plugin, []).append(rule)
        # What it reports needs the findings of all others: the engine itself speaks for it.
        self.directive_rules = by_plugin.pop(DIRECTIVES, [])
        for plugin in self._order(by_plugin):
            configuration = plugin_configurations.get(plugin, {})
            self.assignments.append(_assign(plugin, by_plugin[plugin], configuration))
        self.for_files = [each for each in self.assignments if not each.looks_at_tree]
        self.for_tree = [each for each in self.assignments if each.looks_at_tree]
        self._files = self._select({each.plugin: each.rules for each in self.for_files})
        self._tree = self._select({each.plugin: each.rules for each in self.for_tree})
        self._directives = self._select({DIRECTIVES: self.directive_rules})
        self._digests: dict[Tasks, bytes] = {}

    def tasks(self, path: str) -> Tasks:
        """What the analyzers of single files are asked about the file at `path`."""
        return self._files.tasks(path)

    def tree_tasks(self, path: str) -> Tasks:
        """Which analyzers of the whole tree may find something in the file at `path`, by which rules."""
        return self._tree.tasks(path) if self.for_tree else ()

    def directive_rules_for(self, path: str) -> list[RuleSpec]:
        """The rules that report the suppressions in the file at `path`."""
        return [self.rules[name] for _, names in self._directives.tasks(path) for name in names]

    def names(self, plugin: str) -> set[str]:
        """All rules of a plugin."""
        return {rule.name for rule in self.rules.values() if rule.plugin == plugin}

    def digest(self, tasks: Tasks) -> bytes:
        """Changes with everything but the file itself that decides what is found by `tasks`."""
        if tasks not in self._digests:
            by_plugin = {each.plugin: each for each in self.for_files}
            parts = [self.describe(by_plugin[plugin], names) for plugin, names in tasks]
            self._digests[tasks] = blake2b(b"\0".join(parts), digest_size=16).digest()
        return self._digests[tasks]

    def describe(self, assignment: Assignment, names: Iterable[str]) -> bytes:
        """What decides about the findings of an analyzer by these rules, besides what it looks at."""
        content = [
            sys.version,
            self._code.hex(),
            assignment.plugin,
            assignment.source,
            _digest_module(assignment.source),
            assignment.version,
            assignment.configuration,
            [_describe(self.rules[name]) for name in names],
            [_identify(each) for each in assignment.executables],
        ]
        return json.dumps(content, sort_keys=True, default=repr).encode()

    @cached_property
    def _code(self) -> bytes:
        """What stands in a cache was found by this code; a line that changes makes it worthless.

        Read anew for each run: the processes that review start from the files as they are now.
        """
        root = Path(__file__).resolve().parents[1]
        digest = blake2b(digest_size=16)
        for folder in _SOURCES:
            for path in sorted((root / folder).glob("*.py")):
                digest.update(path.read_bytes())
        return digest.digest()

    def _select(self, rules: Mapping[str, Sequence[RuleSpec]]) -> Selection:
        labels = {label for label, _, _ in self.scopes.list_variants()}
        return Selection(rules, self.scopes.find_labels, labels)

    def _has_valid_paths(self, rule: RuleSpec) -> bool:
        try:
            check_paths(rule)
        except RuleError as error:
            self.failures.append(Failure(rule.plugin, rule.name, None, error.message))
            return False
        return True

    def _order(self, plugins: Iterable[str]) -> list[str]:
        installed = []
        for plugin in sorted(plugins):
            try:
                registry.get(plugin)
            except RuleError as error:
                self.failures.append(Failure(plugin, None, None, error.message))
            else:
                installed.append(plugin)
        return registry.dependency_order(installed)


def _assign(plugin: str, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> Assignment:
    analyzer: Any = registry.get(plugin)
    looks_at_tree = callable(getattr(analyzer, "analyze_tree", None))
    seconds = SECONDS_PER_TREE if looks_at_tree else SECONDS_PER_FILE
    return Assignment(
        plugin=plugin,
        source=registry.source(plugin),
        version=analyzer.version,
        configuration=dict(configuration),
        rules=tuple(rules),
        seconds=_positive(analyzer, "seconds_per_tree" if looks_at_tree else "seconds_per_file", seconds),
        memory=int(_positive(analyzer, "memory_megabytes", 0) * MEGABYTE),
        looks_at_tree=looks_at_tree,
        executables=tuple(getattr(analyzer, "executables", ())),
    )


def _describe(rule: RuleSpec) -> list[Any]:
    return [getattr(rule, each.name) for each in fields(rule)]


def _positive(analyzer: Any, attribute: str, default: float) -> float:
    value = getattr(analyzer, attribute, default)
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _unique(rules: Iterable[RuleSpec]) -> list[RuleSpec]:
    """The rules in the order of their names, which does not depend on where they came from; of a name, the last."""
    return sorted({rule.name: rule for rule in rules}.values(), key=lambda rule: rule.name)


def _identify(executable: Executable) -> list[Any]:
    """A program as it is installed now: another version is another file."""
    folders = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    found = shutil.which(executable.name, path=folders)
    if found is None:
        return [executable.name]
    state = os.stat(found)
    return [found, state.st_size, state.st_mtime_ns]


def _digest_module(source: str) -> str:
    """Of the file that an analyzer's class is in: its version alone may be forgotten when it changes."""
    path = getattr(sys.modules.get(source.partition(":")[0]), "__file__", None)
    try:
        return blake2b(Path(path).read_bytes(), digest_size=16).hexdigest() if path else ""
    except OSError:
        return ""
