"""How is a rule in force in a file, if some of its overrides are limited to paths? Pure.

The overrides that speak of a file make a form of the rule there, oldest first, so that a later one wins. Most ways to
combine them come to the same few forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.encryption import is_shown
from overrides.stored import Override, spell
from overrides.validation import merge_patch
from plugins.contract import RuleSpec

MAX_FORMS = 100
"""Of one rule: each is prepared for every review."""


@dataclass(frozen=True)
class Form:
    """A rule as some of its overrides make it."""

    enabled: bool
    spec: RuleSpec
    applied: tuple[int, ...]
    """The ids of these overrides."""
    content: tuple[bytes, tuple[int, ...]]
    """Equal in forms by which an analyzer finds the same."""


@dataclass(frozen=True)
class Places:
    """The forms of one rule, and how a path leads to one of them."""

    forms: tuple[Form, ...]
    steps: tuple[tuple[tuple[str, ...], Mapping[int, int]], ...]
    """The globs of each override (none: it counts everywhere), and what it makes of which form; oldest first."""
    is_tangled: bool = False
    """There would be too many forms: the rule cannot run."""

    def find(self, is_in: Callable[[tuple[str, ...]], bool]) -> Form:
        """The form in force at a path that `is_in` says of whether globs speak of it."""
        index = 0
        for globs, onwards in self.steps:
            if not globs or is_in(globs):
                index = onwards[index]
        return self.forms[index]

    @property
    def elsewhere(self) -> Form:
        """The form in force where no globs speak of the path."""
        return self.find(lambda _: False)


def derive(rule: Mapping[str, Any], overrides: Sequence[tuple[int, Override]]) -> Places:
    """The forms of `rule`, whose `overrides` come oldest first."""
    documents = [(rule, _make_form(rule, (), ()))]
    indexes = {_identify(documents[0][1]): 0}
    steps: list[tuple[tuple[str, ...], Mapping[int, int]]] = []
    alive = {0}
    for key, item in overrides:
        onwards: dict[int, int] = {}
        for index in sorted(alive):
            document, form = documents[index]
            patched = merge_patch(document, item.override_config)
            secret = (key,) if hides_something(item.override_config) else ()
            made = _make_form(patched, (*form.applied, key), (*form.content[1], *secret))
            onwards[index] = indexes.setdefault(_identify(made), len(documents))
            if onwards[index] == len(documents):
                documents.append((patched, made))
        if len(documents) > MAX_FORMS:
            return Places((documents[0][1],), (), is_tangled=True)
        alive = set(onwards.values()) | (alive if item.paths else set())
        steps.append((tuple(item.paths), onwards))
    return Places(tuple(form for _, form in documents), tuple(steps))


def make_spec(rule: Mapping[str, Any]) -> RuleSpec:
    """A rule in force as analyzers see it."""
    return RuleSpec(**{name: rule[name] for name in RuleSpec.__slots__})


def hides_something(document: Any) -> bool:
    """Whether a secret in it is shown as being set."""
    if is_shown(document):
        return True
    items = document.values() if isinstance(document, Mapping) else document if isinstance(document, list) else ()
    return any(hides_something(item) for item in items)


def _make_form(rule: Mapping[str, Any], applied: tuple[int, ...], secrets: tuple[int, ...]) -> Form:
    """`secrets` are the overrides that set any: what is hidden looks the same whatever it is."""
    content = spell([rule["configuration"], rule["message"]])
    return Form(rule["enabled"], make_spec(rule), applied, (content, secrets))


def _identify(form: Form) -> tuple[Any, ...]:
    return form.enabled, form.spec.severity, form.content
