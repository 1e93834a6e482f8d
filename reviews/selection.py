"""Which rules ask for a file, by its path? Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from plugins.contract import RuleSpec
from plugins.expressions import ExpressionSet, compile_expression, compile_set

Task = tuple[str, tuple[str, ...]]
"""A plugin, and the names of those of its rules that a file is asked about."""
Tasks = tuple[Task, ...]

# Files known by their name; what follows the name is a variant of them.
_NAMED_FILES = frozenset({"dockerfile", "containerfile", "makefile", "jenkinsfile", "vagrantfile"})


def file_types(path: str) -> tuple[str, ...]:
    """The file types a path has, as rules name them: lower case with their dot.

    `a.test.ts` has `.ts` and `.test.ts`; `Dockerfile` has `.dockerfile`, and so has `Dockerfile.dev`; `.env` and
    `.env.local` have `.env`.
    """
    head, *parts = path.rpartition("/")[2].lower().split(".")
    endings = tuple("." + ".".join(parts[index:]) for index in range(len(parts) - 1, -1, -1))
    if head:
        return (*endings, f".{head}") if len(parts) == 0 or head in _NAMED_FILES else endings
    first = f".{parts[0]}" if parts else ""
    return endings if not first or first in endings else (*endings, first)


def check_paths(rule: RuleSpec) -> None:
    """Raise `RuleError` if a path pattern of the rule cannot run."""
    for pattern in (*rule.file_patterns, *rule.exclude_patterns):
        _compile(pattern)


@lru_cache(maxsize=1024)
def names_in(tasks: Tasks) -> frozenset[str]:
    """The rules of all plugins."""
    return frozenset(name for _, names in tasks for name in names)


class Selection:
    """The rules of each plugin, asked about paths. Files of one type that the same path patterns fit share an answer.

    The path patterns can run (see `check_paths`).
    """

    def __init__(
        self,
        rules: Mapping[str, Sequence[RuleSpec]],
        find_labels: Callable[[str], frozenset[str]] | None = None,
        variants: Collection[str] = (),
    ) -> None:
        """Of the `variants` among the rules, only those that `find_labels` names for a path are asked about it."""
        self._find_labels = find_labels if variants else None
        self._variants = variants
        self._rules = [rule for mine in rules.values() for rule in mine]
        self._types = frozenset(each for rule in self._rules for each in rule.file_types)
        self._patterns: dict[str, int] = {}
        for rule in self._rules:
            for pattern in (*rule.file_patterns, *rule.exclude_patterns):
                self._patterns.setdefault(pattern, len(self._patterns))
        self._set: ExpressionSet | None = None
        if self._patterns:
            self._set = compile_set([_compile(pattern) for pattern in self._patterns])
        self._answers: dict[tuple[tuple[str, ...], tuple[int, ...], frozenset[str]], Tasks] = {}

    def tasks(self, path: str) -> Tasks:
        """What a file at `path` is asked about, by whom; nothing if no rule asks for it."""
        types = tuple(each for each in file_types(path) if each in self._types)
        matched = () if self._set is None else tuple(self._set.matching(path.encode("utf-8", "replace")))
        labels = self._find_labels(path) if self._find_labels is not None else frozenset()
        key = (types, matched, labels)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = self._choose(frozenset(types), frozenset(matched), labels)
        return answer

    def _choose(self, types: frozenset[str], matched: frozenset[int], labels: frozenset[str]) -> Tasks:
        chosen: dict[str, list[str]] = {}
        for rule in self._rules:
            if rule.name in self._variants and rule.name not in labels:
                continue
            if rule.file_types and types.isdisjoint(rule.file_types):
                continue
            if rule.file_patterns and not any(self._patterns[each] in matched for each in rule.file_patterns):
                continue
            if any(self._patterns[each] in matched for each in rule.exclude_patterns):
                continue
            chosen.setdefault(rule.plugin, []).append(rule.name)
        return tuple((plugin, tuple(names)) for plugin, names in chosen.items())


def _compile(pattern: str) -> Any:
    return compile_expression(pattern, multiline=False, field="file_patterns")
