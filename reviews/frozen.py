"""With what does a review work? The configuration in force, frozen at one revision, and its secrets in clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from audit.encryption import is_shown
from overrides.effective import Configuration, load_configuration, reveal_rules
from overrides.places import MAX_FORMS, hides_something
from plugins.contract import RuleSpec
from plugins.masking import list_texts
from plugins.services import Settings, reveal_settings
from reviews.engine import Failure, PluginTally, Result
from reviews.scopes import Scopes

_TANGLED = f"Its overrides limited to paths come to more than {MAX_FORMS} forms of it: withdraw some, or join them."


@dataclass(frozen=True)
class Frozen:
    """The configuration in force, and what analyzers need besides: the same with secrets in clear."""

    configuration: Configuration
    settings: Settings
    specs: tuple[RuleSpec, ...]
    """The rules that can run; see `reviews.scopes` for those that overrides limited to paths make."""
    lost: Mapping[str, str]
    """Rules with secrets that cannot be decrypted, and what to do about it."""
    secrets: Sequence[str]


def freeze() -> Frozen:
    """All of it as of one revision. What is secret comes from the rows, because the configuration hides it."""
    while True:
        configuration = load_configuration()
        settings = reveal_settings()
        runnable = _list_runnable(configuration)
        holders = {
            label: (each.name, each.applied)
            for label, each in runnable.items()
            if hides_something(each.spec.configuration)
        }
        revealed, lost = reveal_rules(holders) if holders else ({}, {})
        if load_configuration().etag == configuration.etag:
            break
    lost |= {name: _TANGLED for name, each in configuration.places.items() if each.is_tangled}
    specs = tuple(
        replace(each.spec, name=label, configuration=revealed.get(label, each.spec.configuration))
        for label, each in runnable.items()
        if each.spec.plugin not in settings.lost and each.name not in lost
    )
    own = [
        text
        for label, configured in revealed.items()
        for text in _list_hidden(runnable[label].spec.configuration, configured)
    ]
    return Frozen(configuration, settings, specs, lost, [*settings.secrets, *own])


class _Runnable(NamedTuple):
    name: str
    spec: RuleSpec
    applied: Sequence[int]


def _list_runnable(configuration: Configuration) -> dict[str, _Runnable]:
    """The rules by name, and the variants of those that are not in force alike everywhere by label."""
    applied: dict[str, list[int]] = {}
    for key, item in configuration.in_force.items():
        applied.setdefault(item.rule_name, []).append(key)
    found = {
        rule.name: _Runnable(rule.name, rule, applied.get(rule.name, ()))
        for rule in configuration.specs
        if rule.name not in configuration.places
    }
    for label, name, form in Scopes(configuration.places).list_variants():
        found[label] = _Runnable(name, form.spec, form.applied)
    return found


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
    asked = {rule.plugin for rule in frozen.configuration.specs_anywhere}
    failures = [Failure(name, None, None, text) for name, text in frozen.settings.lost.items() if name in asked]
    plugins = {rule.name: rule.plugin for rule in frozen.configuration.specs_anywhere}
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
