"""With what does a review work? The configuration in force, frozen at one revision, and its secrets in clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils import timezone

from audit.encryption import is_shown
from overrides.effective import Configuration, load_configuration, reveal_rules
from plugins.contract import RuleSpec
from plugins.masking import list_texts
from plugins.services import Settings, reveal_settings
from reviews.engine import Failure, PluginTally, Result


@dataclass(frozen=True)
class Frozen:
    """The configuration in force, and what analyzers need besides: the same with secrets in clear."""

    configuration: Configuration
    settings: Settings
    specs: tuple[RuleSpec, ...]
    """The rules that can run."""
    lost: Mapping[str, str]
    """Rules with secrets that cannot be decrypted, and what to do about it."""
    secrets: Sequence[str]


def freeze() -> Frozen:
    """All of it as of one revision. What is secret comes from the rows, because the configuration hides it."""
    while True:
        configuration = load_configuration()
        settings = reveal_settings()
        holders = [rule.name for rule in configuration.specs if _hides_something(rule.configuration)]
        revealed, lost = reveal_rules(holders, timezone.now()) if holders else ({}, {})
        if load_configuration().etag == configuration.etag:
            break
    specs = tuple(
        replace(rule, configuration=revealed[rule.name]) if rule.name in revealed else rule
        for rule in configuration.specs
        if rule.plugin not in settings.lost and rule.name not in lost
    )
    own = [
        text
        for rule in configuration.specs
        if rule.name in revealed
        for text in _list_hidden(rule.configuration, revealed[rule.name])
    ]
    return Frozen(configuration, settings, specs, lost, [*settings.secrets, *own])


def _hides_something(document: Any) -> bool:
    if is_shown(document):
        return True
    items = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return any(_hides_something(item) for item in items)


def _list_hidden(shown: Any, clear: Any) -> list[str]:
    """The texts in `clear` that `shown` has `{"set": true}` for."""
    if is_shown(shown):
        return list_texts(clear, [""])
    if isinstance(shown, dict) and isinstance(clear, dict):
        return [text for name in shown if name in clear for text in _list_hidden(shown[name], clear[name])]
    if isinstance(shown, list) and isinstance(clear, list):
        return [text for old, new in zip(shown, clear, strict=False) for text in _list_hidden(old, new)]
    return []


def report_lost(result: Result, frozen: Frozen) -> None:
    """Rules that could not run for want of a secret are failures of their plugins."""
    asked = {rule.plugin for rule in frozen.configuration.specs}
    failures = [Failure(name, None, None, text) for name, text in frozen.settings.lost.items() if name in asked]
    plugins = {rule.name: rule.plugin for rule in frozen.configuration.specs}
    failures += [
        Failure(plugins[name], name, None, text)
        for name, text in frozen.lost.items()
        if plugins[name] not in frozen.settings.lost
    ]
    for failure in failures:
        tally = result.plugin_runs.setdefault(failure.plugin, PluginTally())
        tally.failures += 1
        tally.detail = tally.detail or failure.message
    result.failures += failures
