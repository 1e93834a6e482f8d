"""Which configuration is in force now? `load_configuration()`: frozen, plain values, all of one revision.

It is the same for everybody until the revision moves or `valid_until` passes, so each process keeps the last one built.
With Redis the processes share it, so that one of them builds it; Redis being down costs only that.
A lapse of an override changes the answer without a change of a row: readers judge by the clock.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.core.cache import cache
from django.db import models
from django.utils import timezone

from audit import encryption
from audit.changes import change_set, current_change_set
from audit.documents import digest, plain
from audit.models import Revision
from overrides.choices import TargetType
from overrides.models import GovernanceRuleOverride
from overrides.validation import merge_patch
from personas.models import Persona, PersonaRuleAssignment
from plugins.contract import RuleSpec
from plugins.models import Plugin
from rules.models import AnalysisRule

logger = logging.getLogger(__name__)
SHARED_FOR = 3600  # seconds in the shared cache
ATTEMPTS = 5  # reads before the writers' lock is taken to get an undisturbed one

PARTS = ("rules", "plugins", "personas", "assignments", "overrides")
RULE_FIELDS = tuple(
    "id name title description rule_type severity plugin_id configuration file_types file_patterns exclude_patterns "
    "message remediation references tags status suppressible version".split()
)
# Releases that share other fields must not read each other's configurations.
SHAPE = digest([PARTS, RULE_FIELDS, RuleSpec.__slots__])[:8]


@dataclass(frozen=True)
class Configuration:
    """The configuration in force at one revision; `valid_until` is when the next override lapses, or None."""

    epoch: str
    revision: int
    evaluated_at: datetime
    valid_until: datetime | None
    rules: tuple[Mapping[str, Any], ...]
    plugins: tuple[Mapping[str, Any], ...]
    personas: tuple[Mapping[str, Any], ...]
    assignments: tuple[Mapping[str, Any], ...]
    overrides: tuple[Mapping[str, Any], ...]

    @cached_property
    def etag(self) -> str:
        """Strong tag: it changes with every revision, and when a lapse changes which overrides count."""
        in_force = [item["id"] for item in self.overrides]
        return f'"{self.epoch[:8]}-{self.revision}-{digest(in_force)[:8]}"'

    @cached_property
    def body(self) -> bytes:
        """The answer of `GET /configuration`, ready to send."""
        return json.dumps(
            {
                "revision": self.revision,
                "evaluated_at": self.evaluated_at.isoformat(),
                "valid_until": self.valid_until.isoformat() if self.valid_until else None,
                "rules": self.rules,
                "plugins": self.plugins,
                "personas": self.personas,
                "assignments": self.assignments,
                "overrides": self.overrides,
            },
            separators=(",", ":"),
        ).encode()

    @cached_property
    def specs(self) -> tuple[RuleSpec, ...]:
        """The rules that run, as analyzers see them: enabled, and their plugin enabled."""
        running = {item["name"] for item in self.plugins if item["enabled"]}
        return tuple(
            RuleSpec(**{name: rule[name] for name in RuleSpec.__slots__})
            for rule in self.rules
            if rule["enabled"] and rule["plugin"] in running
        )

    @cached_property
    def plugin_configurations(self) -> dict[str, Mapping[str, Any]]:
        """Settings of the enabled plugins by name."""
        return {item["name"]: item["configuration"] for item in self.plugins if item["enabled"]}


_kept: Configuration | None = None
_building = threading.Lock()


def load_configuration(now: datetime | None = None) -> Configuration:
    """The configuration in force at `now` (default: the present), built once for each revision and process."""
    global _kept
    moment = now or timezone.now()
    opened = current_change_set()
    if opened is not None and opened.changes:
        # What is not committed may be undone: it is nobody else's configuration.
        return Configuration(*_read_revision(), moment, **_read_parts(moment))
    epoch, revision = _read_revision()
    kept = _kept
    if kept is not None and _answers(kept, epoch, revision, moment):
        return kept
    with _building:
        kept = _kept
        if kept is None or not _answers(kept, *_read_revision(), moment):
            kept = _fetch_shared(moment)
            if kept is None:
                kept = _build(moment)
                _share(kept)
            _kept = kept
    return kept


def _shared_key(epoch: str, revision: int) -> str:
    return f"configuration:{SHAPE}:{epoch}:{revision}"


def _fetch_shared(moment: datetime) -> Configuration | None:
    """What another process built of the present revision, if it still answers."""
    epoch, revision = _read_revision()
    try:
        stored = cache.get(_shared_key(epoch, revision))
    except Exception as error:
        # The cache is an optimisation: the database has everything.
        logger.warning("shared cache not reachable: %s", type(error).__name__)
        return None
    if stored is None:
        return None
    try:
        values = json.loads(stored)
        for name in ("evaluated_at", "valid_until"):
            values[name] = datetime.fromisoformat(values[name]) if values[name] else None
        for name in PARTS:
            values[name] = tuple(values[name])
        shared = Configuration(epoch=epoch, **values)
    except (ValueError, TypeError, KeyError):
        logger.warning("what the shared cache holds is no configuration; it is built anew")
        return None
    return shared if _answers(shared, epoch, revision, moment) else None


def _share(built: Configuration) -> None:
    try:
        cache.set(_shared_key(built.epoch, built.revision), built.body, SHARED_FOR)
    except Exception as error:
        logger.warning("shared cache not reachable: %s", type(error).__name__)


def _answers(kept: Configuration, epoch: str, revision: int, moment: datetime) -> bool:
    if (kept.epoch, kept.revision) != (epoch, revision):
        return False
    return kept.evaluated_at <= moment and (kept.valid_until is None or moment < kept.valid_until)


def _read_revision() -> tuple[str, int]:
    epoch, value = models.QuerySet(Revision).values_list("epoch", "value").get(pk=1)
    return str(epoch), value


def _build(moment: datetime) -> Configuration:
    """Read all tables between two equal readings of the revision: nothing was committed in between."""
    for _ in range(ATTEMPTS):
        before = _read_revision()
        parts = _read_parts(moment)
        if _read_revision() == before:
            return Configuration(*before, moment, **parts)
    with change_set():
        return Configuration(*_read_revision(), moment, **_read_parts(moment))


def _read_parts(moment: datetime) -> dict[str, Any]:
    assignments = [
        {
            "rule": rule_name,
            "persona": persona,
            "confidence_score": float(score),
            "assignment_reason": reason,
        }
        for rule_name, persona, score, reason in PersonaRuleAssignment.objects.filter(is_active=True)
        .order_by("rule__name", "-confidence_score", "persona_id")
        .values_list("rule__name", "persona_id", "confidence_score", "assignment_reason")
    ]
    speakers: dict[str, list[str]] = {}
    for item in assignments:
        speakers.setdefault(item["rule"], []).append(item["persona"])
    overrides = _read_overrides(moment)
    everywhere = _list_everywhere(overrides)
    return {
        "rules": tuple(_read_rules(speakers, everywhere)),
        "plugins": tuple(
            {
                **Plugin.mask({"name": row.name, "enabled": row.enabled, "configuration": row.configuration}),
                "version": row.version,
            }
            for row in Plugin.objects.all()
        ),
        "personas": tuple(
            Persona.objects.values("name", "title", "description", "voice", "rule_types", "version").order_by("name")
        ),
        "assignments": tuple(assignments),
        "overrides": tuple(
            {key: encryption.hide(value) for key, value in item.items() if key != "moment"} for item in overrides
        ),
        "valid_until": min((item["moment"] for item in overrides), default=None),
    }


def reveal_rules(names: Sequence[str], moment: datetime) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The configurations of rules as they are in force at `moment`, with secrets in clear: never store or show them.

    And of rules with secrets that cannot be decrypted, what to do about it. Whoever asks makes sure that the revision
    has not moved.
    """
    everywhere = _list_everywhere(_read_overrides(moment))
    found: dict[str, dict[str, Any]] = {}
    told: dict[str, str] = {}
    for name, configuration in AnalysisRule.objects.filter(name__in=names).values_list("name", "configuration"):
        row = {"configuration": configuration}
        for override in everywhere.get(name, []):
            row = merge_patch(row, override["override_config"])
        found[name], lost = encryption.reveal_readable(row["configuration"])
        if lost:
            told[name] = " ".join(
                f"The secret {place.strip('/')} of its configuration cannot be used. {error}"
                for place, error in lost.items()
            )
    return found, told


def _list_everywhere(overrides: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Overrides that are not limited to paths, by rule."""
    everywhere: dict[str, list[Mapping[str, Any]]] = {}
    for item in overrides:
        if not item["paths"]:
            everywhere.setdefault(item["rule_name"], []).append(item)
    return everywhere


def _read_rules(
    speakers: Mapping[str, list[str]], everywhere: Mapping[str, list[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Every enabled rule, and every rule that an override enables, as it is in force."""
    rules = []
    for row in AnalysisRule.objects.order_by("name").values(*RULE_FIELDS, "enabled"):
        row["plugin"] = row.pop("plugin_id")
        row["overridden_by"] = []
        for override in everywhere.get(row["name"], []):
            row = merge_patch(row, override["override_config"])
            row["overridden_by"] = [*row["overridden_by"], override["id"]]
        row["configuration"] = encryption.hide(row["configuration"])
        if row["enabled"]:
            row["personas"] = speakers.get(row["name"], [])
            rules.append(row)
    return rules


def _read_overrides(moment: datetime) -> list[dict[str, Any]]:
    """Overrides of analysis rules in force at `moment`, oldest first, so that a later one wins."""
    in_force = GovernanceRuleOverride.objects.filter(
        enabled=True, target_type=TargetType.ANALYSIS_RULE, expires_at__gt=moment
    ).order_by("id")
    return [
        {
            "id": row.pk,
            "rule_name": row.rule_name,
            "override_config": plain(row.override_config),
            "paths": row.paths,
            "approved_by": row.approved_by,
            "expires_at": row.expires_at.isoformat(),
            "moment": row.expires_at,
        }
        for row in in_force
    ]
