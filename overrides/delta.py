"""What has changed in the configuration in force since a revision? Enough to make the old answer the new one.

A delta tells how things are now, not what was done: objects that changed, as they are in force, and keys of those that
are not any more. So it can be applied twice, and to any answer that was given at the revision, whether an override had
lapsed by then or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from audit.models import ConfigurationAuditLog
from overrides.configuration import PARTS, Configuration, join_lists
from overrides.models import GovernanceRuleOverride
from overrides.stored import ENTITY_TYPES, spell
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule

MAX_CHANGES = 10_000  # changes that a delta may cover: loading everything costs less than more of them
LINKED = (PersonaRuleAssignment.entity_type, GovernanceRuleOverride.entity_type)
Gone = dict[str, list[Any]]


def spell_delta(now: Configuration, since: int) -> bytes:
    """What was touched after revision `since`, which is at most `MAX_CHANGES` before that of `now`; as JSON."""
    touched = _list_touched(since, now.revision)
    pairs, overridden = _list_links(since, now.revision, {**_map_names(now), **touched[AnalysisRule.entity_type]})
    lapsed = {key: item.rule_name for key, item in now.stored.overrides.items() if key not in now.in_force}
    overridden |= lapsed
    rules = {
        *touched[AnalysisRule.entity_type].values(),
        *(rule for rule, _ in pairs),
        *overridden.values(),
    }
    changed: dict[str, list[bytes]] = {part: [] for part in PARTS}
    removed: Gone = {part: [] for part in PARTS}
    _sort_out("rules", sorted(rules), now.entries, changed, removed)
    for part, model, items in (
        ("plugins", Plugin, now.stored.plugins),
        ("personas", Persona, now.stored.personas),
    ):
        names = sorted(touched[model.entity_type])
        _sort_out(part, names, {name: spell(items[name]) for name in names if name in items}, changed, removed)
    spelt = {item["id"]: spell(item) for item in now.overrides}
    _sort_out("overrides", sorted(overridden), spelt, changed, removed)
    changed["assignments"] = [now.spoken[name] for name in sorted({rule for rule, _ in pairs}) if name in now.spoken]
    active = {(item["rule"], item["persona"]) for item in _list_active(now, {rule for rule, _ in pairs})}
    removed["assignments"] = [{"rule": rule, "persona": persona} for rule, persona in sorted(pairs - active)]
    head = spell({**now.describe(), "since": since})[:-1] + b',"changed":{'
    return join_lists(head, changed, b'},"removed":' + spell(removed) + b"}")


def _sort_out(
    part: str, keys: Iterable[Any], spelt: dict[Any, bytes], changed: dict[str, list[bytes]], removed: Gone
) -> None:
    for key in keys:
        if key in spelt:
            changed[part].append(spelt[key])
        else:
            removed[part].append(key)


def _list_touched(since: int, until: int) -> dict[str, dict[str, str]]:
    """Entity type → id → name of everything that changed after `since`."""
    rows = ConfigurationAuditLog.objects.filter(
        revision__gt=since, revision__lte=until, entity_type__in=ENTITY_TYPES
    ).order_by()
    touched: dict[str, dict[str, str]] = {entity_type: {} for entity_type in ENTITY_TYPES}
    for entity_type, key, name in rows.values_list("entity_type", "entity_id", "entity_name").distinct():
        touched[entity_type][key] = name
    return touched


def _map_names(now: Configuration) -> dict[str, str]:
    """Id → name of every rule that there is."""
    return {str(key): rule.name for key, rule in now.stored.rules.items()}


def _list_links(since: int, until: int, names: dict[str, str]) -> tuple[set[tuple[str, str]], dict[int, str]]:
    """Rule and persona of the assignments, id and rule of the overrides, that changed after `since`."""
    rows = ConfigurationAuditLog.objects.filter(revision__gt=since, revision__lte=until, entity_type__in=LINKED)
    pairs: set[tuple[str, str]] = set()
    overridden: dict[int, str] = {}
    for entity_type, key, old, new in rows.order_by().values_list(
        "entity_type", "entity_id", "old_config", "new_config"
    ):
        document = new if new is not None else old
        if entity_type == GovernanceRuleOverride.entity_type:
            overridden[int(key)] = document["rule_name"]
        elif str(document["rule"]) in names:
            pairs.add((names[str(document["rule"])], document["persona"]))
    return pairs, overridden


def _list_active(now: Configuration, rules: Iterable[str]) -> Iterable[dict[str, str]]:
    for name in rules:
        for item in now.stored.list_speakers(now.stored.ids.get(name, 0)):
            yield {"rule": name, "persona": item.persona}
