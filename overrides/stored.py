"""What decides the configuration in force, as it is stored? All of one revision, and what a few changes make of it.

Rules are kept as JSON, ready to be joined, because most readers want nothing else: ten thousand of them are read,
spelt and kept in a fraction of the time and memory that as many dictionaries take. JSON columns come as the text that
the database has.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from json.encoder import encode_basestring_ascii as quote
from operator import call
from typing import Any, NamedTuple

from django.db import models
from django.db.models.functions import Cast

from audit import encryption
from audit.documents import plain
from audit.models import ConfigurationAuditLog, Revision
from overrides.choices import TargetType
from overrides.models import GovernanceRuleOverride
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule

KINDS = (AnalysisRule, PersonaRuleAssignment, Plugin, Persona, GovernanceRuleOverride)
ENTITY_TYPES = tuple(model.entity_type for model in KINDS)
RULE_FIELDS = tuple(
    "id name title description rule_type severity plugin_id configuration file_types file_patterns exclude_patterns "
    "message remediation references tags status suppressible enabled version".split()
)
PERSONA_FIELDS = ("name", "title", "description", "voice", "rule_types", "version")
PART = 1_000  # keys asked for in one statement
_encoder = json.JSONEncoder(separators=(",", ":"))
Touched = Mapping[str, Collection[str]]  # entity type → ids of objects that changed


class Mark(NamedTuple):
    """Where the journal stands; the hash tells a history from another one that came as far."""

    epoch: str
    revision: int
    last_hash: str


class Rule(NamedTuple):
    """A rule as it is stored: `spelt` is its JSON but for the closing brace."""

    name: str
    enabled: bool
    spelt: bytes


class Assignment(NamedTuple):
    """A persona speaks for a rule."""

    rule_id: int
    persona: str
    score: float
    reason: str | None


class Override(NamedTuple):
    """An enabled override of an analysis rule, in force until it expires."""

    rule_name: str
    override_config: Mapping[str, Any]
    paths: list[str]
    approved_by: str | None
    expires_at: datetime


@dataclass(frozen=True)
class Stored:
    """Everything that is stored of the configuration. Never changed: the next one shares with it what stayed."""

    mark: Mark
    changed_at: datetime | None  # when the last change was made
    rules: dict[int, Rule] = field(default_factory=dict)  # enabled or not
    ids: dict[str, int] = field(default_factory=dict)  # name → id of rules
    assignments: dict[int, Assignment] = field(default_factory=dict)  # the active ones
    speakers: dict[int, tuple[int, ...]] = field(default_factory=dict)  # rule → ids of its active assignments
    plugins: dict[str, dict[str, Any]] = field(default_factory=dict)
    personas: dict[str, dict[str, Any]] = field(default_factory=dict)
    overrides: dict[int, Override] = field(default_factory=dict)  # whether the clock has passed them or not

    def list_speakers(self, rule_id: int) -> list[Assignment]:
        """The active assignments of a rule, who fits best first."""
        found = [self.assignments[key] for key in self.speakers.get(rule_id, ())]
        if len(found) > 1:
            found.sort(key=lambda item: (-item.score, item.persona))
        return found


def read_mark() -> Mark:
    """Where the journal stands now: one indexed query."""
    epoch, revision, last_hash = models.QuerySet(Revision).values_list("epoch", "value", "last_hash").get(pk=1)
    return Mark(str(epoch), revision, last_hash)


def read_all(mark: Mark) -> Stored:
    """Read every table. The caller sees to it that nothing is committed meanwhile, or follows it up."""
    changes = ConfigurationAuditLog.objects.filter(revision=mark.revision)
    everything = {model: models.QuerySet(model) for model in KINDS}
    return _put(Stored(mark, changes.values_list("created_at", flat=True).first()), everything)


def read_again(stored: Stored, mark: Mark, changed_at: datetime | None, touched: Touched) -> Stored:
    """`stored` with the objects `touched` as they are in the tables now."""
    stored = replace(without(stored, touched), mark=mark, changed_at=changed_at)
    for model in KINDS:
        key = "name" if model in (Plugin, Persona) else "pk"
        for part in parts(list(touched.get(model.entity_type, ()))):
            stored = _put(stored, {model: models.QuerySet(model).filter(**{f"{key}__in": part})})
    return stored


def put_history(stored: Stored, model: type[models.Model], keys: Collection[int]) -> Stored:
    """`stored` with the objects that the history rows `keys` of `model` tell of, as they were."""
    for part in parts(list(keys)):
        stored = _put(stored, {model: model.history.model.objects.filter(history_id__in=part)})
    return stored


def parts(values: list[Any]) -> Iterable[list[Any]]:
    """`values` in portions that a statement can take."""
    return (values[index : index + PART] for index in range(0, len(values), PART))


def without(stored: Stored, touched: Touched) -> Stored:
    """`stored` but for the objects `touched`."""
    rules, ids = dict(stored.rules), dict(stored.ids)
    for key in map(int, touched.get(AnalysisRule.entity_type, ())):
        rule = rules.pop(key, None)
        if rule is not None and ids.get(rule.name) == key:
            del ids[rule.name]
    assignments, speakers = dict(stored.assignments), dict(stored.speakers)
    for key in map(int, touched.get(PersonaRuleAssignment.entity_type, ())):
        ended = assignments.pop(key, None)
        if ended is not None:
            rest = tuple(other for other in speakers.pop(ended.rule_id) if other != key)
            speakers |= {ended.rule_id: rest} if rest else {}
    gone = {int(key) for key in touched.get(GovernanceRuleOverride.entity_type, ())}
    return replace(
        stored,
        rules=rules,
        ids=ids,
        assignments=assignments,
        speakers=speakers,
        plugins=_leave_out(stored.plugins, touched.get(Plugin.entity_type, ())),
        personas=_leave_out(stored.personas, touched.get(Persona.entity_type, ())),
        overrides=_leave_out(stored.overrides, gone),
    )


def _leave_out(items: dict[Any, Any], gone: Collection[Any]) -> dict[Any, Any]:
    return {key: item for key, item in items.items() if key not in gone} if gone else items


def _put(stored: Stored, rows: Mapping[type[models.Model], models.QuerySet]) -> Stored:
    """`stored` with what `rows` hold, by model; querysets of tables and of their history alike."""
    rules, ids, assignments, speakers = map(dict, (stored.rules, stored.ids, stored.assignments, stored.speakers))
    plugins, personas, overrides = dict(stored.plugins), dict(stored.personas), dict(stored.overrides)
    if AnalysisRule in rows:
        for key, rule in _read_rules(rows[AnalysisRule]):
            rules[key], ids[rule.name] = rule, key
    if PersonaRuleAssignment in rows:
        for key, assignment in _read_assignments(rows[PersonaRuleAssignment]):
            assignments[key] = assignment
            speakers[assignment.rule_id] = tuple(sorted((*speakers.get(assignment.rule_id, ()), key)))
    if Plugin in rows:
        plugins |= {item["name"]: item for item in _read_plugins(rows[Plugin])}
    if Persona in rows:
        personas |= {item["name"]: item for item in rows[Persona].order_by().values(*PERSONA_FIELDS)}
    if GovernanceRuleOverride in rows:
        overrides |= dict(_read_overrides(rows[GovernanceRuleOverride]))
    return replace(
        stored,
        rules=rules,
        ids=ids,
        assignments=assignments,
        speakers=speakers,
        plugins=plugins,
        personas=personas,
        overrides=overrides,
    )


def _read_rules(rows: models.QuerySet) -> Iterable[tuple[int, Rule]]:
    documents = {
        name: Cast(name, models.TextField())
        for name in RULE_FIELDS
        if isinstance(AnalysisRule._meta.get_field(name), models.JSONField)
    }
    columns = [documents.get(name, models.F(name)) for name in RULE_FIELDS]
    spell = [_hide if name in documents else _spellers(name) for name in RULE_FIELDS]
    names = [name.removesuffix("_id") for name in RULE_FIELDS]
    template = "{" + ",".join(f'"{name}":%s' for name in names)
    enabled = RULE_FIELDS.index("enabled")
    for row in rows.order_by().values_list(*columns):
        spelt = template % tuple(map(call, spell, row))
        yield row[0], Rule(row[1], row[enabled], spelt.encode())


def _hide(text: str) -> str:
    """A document as it is stored, its secrets hidden; without any it stays as it is."""
    return _encoder.encode(encryption.hide(json.loads(text))) if encryption.FIELD in text else text


def _spellers(name: str) -> Any:
    """The function that spells a column as JSON."""
    column = AnalysisRule._meta.get_field(name)
    if isinstance(column, models.BooleanField):
        return {True: "true", False: "false"}.__getitem__
    return str if isinstance(column, models.BigIntegerField | models.BigAutoField) else quote


def _read_assignments(rows: models.QuerySet) -> Iterable[tuple[int, Assignment]]:
    active = rows.filter(is_active=True).order_by()
    for key, rule_id, persona, score, reason in active.values_list(
        "id", "rule_id", "persona_id", "confidence_score", "assignment_reason"
    ):
        yield key, Assignment(rule_id, persona, float(score), reason)


def _read_plugins(rows: models.QuerySet) -> Iterable[dict[str, Any]]:
    for name, enabled, configuration, version in rows.order_by().values_list(
        "name", "enabled", "configuration", "version"
    ):
        yield {
            **Plugin.mask({"name": name, "enabled": enabled, "configuration": configuration}),
            "version": version,
        }


def _read_overrides(rows: models.QuerySet) -> Iterable[tuple[int, Override]]:
    active = rows.filter(enabled=True, target_type=TargetType.ANALYSIS_RULE).order_by()
    for key, rule_name, override_config, paths, approved_by, expires_at in active.values_list(
        "id", "rule_name", "override_config", "paths", "approved_by", "expires_at"
    ):
        yield key, Override(rule_name, encryption.hide(plain(override_config)), paths, approved_by, expires_at)


def spell(value: Any) -> bytes:
    """`value` as JSON without spaces."""
    return _encoder.encode(value).encode()
