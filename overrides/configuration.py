"""What is in force of that which is stored? The clock decides which overrides count. Pure: no database.

A configuration is frozen. The next one is made from it: only what changed is derived and spelt again, the rest is
shared, so that one edited rule costs one rule.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from audit.documents import digest
from overrides.places import Places, derive, make_spec
from overrides.stored import Assignment, Mark, Override, Stored, spell
from overrides.validation import merge_patch
from plugins.contract import RuleSpec

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
PARTS = ("rules", "plugins", "personas", "assignments", "overrides")


def tag(epoch: str, revision: int, kind: str) -> str:
    """A strong entity tag of what is told of the configuration at a revision."""
    return f'"{epoch[:8]}-{revision}-{kind}"'


@dataclass(frozen=True, eq=False)
class Configuration:
    """The configuration in force at one revision; `valid_until` is when the next override lapses, or None.

    `evaluated_at` is the moment since which this is the answer: of the last change, or of the lapse after it. So the
    answer is the same, to the byte, whichever process gives it.
    """

    stored: Stored
    lapsed_at: datetime | None  # when the last override lapsed that is still stored as enabled
    valid_until: datetime | None
    entries: Mapping[str, bytes]  # rules in force by name, as JSON
    spoken: Mapping[str, bytes]  # assignments by the rule's name, as JSON with commas between them
    in_force: Mapping[int, Override]

    @property
    def epoch(self) -> str:
        """The identity of the history that the revision counts in."""
        return self.stored.mark.epoch

    @property
    def revision(self) -> int:
        """The revision that this is the configuration of."""
        return self.stored.mark.revision

    @cached_property
    def evaluated_at(self) -> datetime:
        """Since when this is the answer."""
        return max(self.stored.changed_at or NEVER, self.lapsed_at or NEVER)

    @cached_property
    def etag(self) -> str:
        """Strong tag: it changes with every revision, and when a lapse changes which overrides count."""
        return tag(self.epoch, self.revision, digest(list(self.in_force))[:8])

    def answers(self, mark: Mark, moment: datetime) -> bool:
        """Whether this is the configuration in force at `mark` and `moment`."""
        return (
            self.stored.mark == mark
            and (self.lapsed_at is None or self.lapsed_at <= moment)
            and (self.valid_until is None or moment < self.valid_until)
        )

    def describe(self) -> dict[str, Any]:
        """What stands before the parts, in the full answer and in a delta."""
        return {
            "epoch": self.epoch,
            "revision": self.revision,
            "evaluated_at": self.evaluated_at.isoformat(),
            "valid_until": self.valid_until.isoformat() if self.valid_until else None,
        }

    def list_entries(self, part: str) -> list[bytes]:
        """The JSON of each object of a part, in order."""
        if part == "rules":
            return [self.entries[name] for name in sorted(self.entries)]
        if part == "assignments":
            return [self.spoken[name] for name in sorted(self.spoken)]
        return [spell(item) for item in getattr(self, part)]

    @cached_property
    def body(self) -> bytes:
        """The answer of `GET /configuration`, ready to send."""
        head = spell(self.describe())[:-1] + b","
        return join_lists(head, {part: self.list_entries(part) for part in PARTS}, b"}")

    @cached_property
    def rules(self) -> tuple[Mapping[str, Any], ...]:
        """Every enabled rule, and every rule that an override enables, as it is in force; by name."""
        return tuple(json.loads(b"[%b]" % b",".join(self.list_entries("rules"))))

    @cached_property
    def assignments(self) -> tuple[Mapping[str, Any], ...]:
        """Who speaks for which rule: by the rule's name, who fits best first."""
        return tuple(json.loads(b"[%b]" % b",".join(self.list_entries("assignments"))))

    @cached_property
    def plugins(self) -> tuple[Mapping[str, Any], ...]:
        """Every plugin, its secrets masked."""
        return tuple(self.stored.plugins[name] for name in sorted(self.stored.plugins))

    @cached_property
    def personas(self) -> tuple[Mapping[str, Any], ...]:
        """Every persona."""
        return tuple(self.stored.personas[name] for name in sorted(self.stored.personas))

    @cached_property
    def overrides(self) -> tuple[Mapping[str, Any], ...]:
        """Overrides of analysis rules in force, oldest first, so that a later one wins."""
        return tuple(
            {
                "id": key,
                "rule_name": item.rule_name,
                "override_config": item.override_config,
                "paths": item.paths,
                "approved_by": item.approved_by,
                "expires_at": item.expires_at.isoformat(),
            }
            for key, item in self.in_force.items()
        )

    @cached_property
    def specs(self) -> tuple[RuleSpec, ...]:
        """The rules that run, as analyzers see them: enabled, and their plugin enabled."""
        return tuple(
            make_spec(rule) for rule in self.rules if rule["enabled"] and rule["plugin"] in self.plugin_configurations
        )

    @cached_property
    def specs_anywhere(self) -> tuple[RuleSpec, ...]:
        """The rules that run, and those that run in some paths only, as they are there; by name."""
        found = {rule.name: rule for rule in self.specs}
        for name, each in self.places.items():
            for form in each.forms:
                if form.enabled or each.is_tangled:
                    found.setdefault(name, form.spec)
        return tuple(found[name] for name in sorted(found))

    @cached_property
    def places(self) -> Mapping[str, Places]:
        """How the rules are in force that have overrides limited to paths, by name; only those of enabled plugins."""
        overrides: dict[str, list[tuple[int, Override]]] = {}
        for key, item in self.in_force.items():
            overrides.setdefault(item.rule_name, []).append((key, item))
        found: dict[str, Places] = {}
        for name in sorted({item.rule_name for item in self.in_force.values() if item.paths}):
            key = self.stored.ids.get(name)
            if key is not None:
                personas = [item.persona for item in self.stored.list_speakers(key)]
                rule = {**json.loads(self.stored.rules[key].spelt + b"}"), "personas": personas}
                if rule["plugin"] in self.plugin_configurations:
                    found[name] = derive(rule, overrides[name])
        return found

    @cached_property
    def plugin_configurations(self) -> dict[str, Mapping[str, Any]]:
        """Settings of the enabled plugins by name."""
        return {item["name"]: item["configuration"] for item in self.plugins if item["enabled"]}


def join_lists(head: bytes, lists: Mapping[str, Sequence[bytes]], tail: bytes) -> bytes:
    """`head`, a member for each of `lists` of what is spelt already, and `tail`: joined once, because it is long."""
    pieces: list[bytes] = []
    for name, items in lists.items():
        start = len(pieces)
        pieces += items or [b""]
        pieces[start] = f'"{name}":['.encode() + pieces[start]
        pieces[-1] += b"]"
    pieces[0] = head + pieces[0]
    pieces[-1] += tail
    return b",".join(pieces)


def put_in_force(
    stored: Stored, moment: datetime, before: Configuration | None = None, touched: Collection[str] | None = None
) -> Configuration:
    """What of `stored` is in force at `moment`.

    With `before`, only the rules named by `touched`, and those whose overrides came or went, are derived again.
    """
    in_force = {key: item for key, item in sorted(stored.overrides.items()) if item.expires_at > moment}
    everywhere: dict[str, list[tuple[int, Override]]] = {}
    for key, item in in_force.items():
        if not item.paths:
            everywhere.setdefault(item.rule_name, []).append((key, item))
    entries: dict[str, bytes] = {}
    spoken: dict[str, bytes] = {}
    names: Iterable[str] = stored.ids
    if before is not None and touched is not None:
        entries, spoken = dict(before.entries), dict(before.spoken)
        names = {*touched, *_find_overridden(before.in_force, in_force)}
    for name in names:
        _derive(stored, name, everywhere.get(name, ()), entries, spoken)
    passed = [item.expires_at for key, item in stored.overrides.items() if key not in in_force]
    return Configuration(
        stored=stored,
        lapsed_at=max(passed, default=None),
        valid_until=min((item.expires_at for item in in_force.values()), default=None),
        entries=entries,
        spoken=spoken,
        in_force=in_force,
    )


def _find_overridden(before: Mapping[int, Override], after: Mapping[int, Override]) -> set[str]:
    """Names of the rules whose overrides differ."""
    differing = [key for key in {*before, *after} if before.get(key) != after.get(key)]
    return {item.rule_name for key in differing for item in (before.get(key), after.get(key)) if item is not None}


def _derive(
    stored: Stored,
    name: str,
    overrides: Sequence[tuple[int, Override]],
    entries: dict[str, bytes],
    spoken: dict[str, bytes],
) -> None:
    """Set the rule `name` as it is in force, and who speaks for it; take away what is not."""
    entries.pop(name, None)
    spoken.pop(name, None)
    key = stored.ids.get(name)
    if key is None:
        return
    rule, speakers = stored.rules[key], stored.list_speakers(key)
    if speakers:
        spoken[name] = ",".join([_spell_assignment(name, item) for item in speakers]).encode()
    personas = [item.persona for item in speakers]
    if overrides:
        values = json.loads(rule.spelt + b"}")
        for _, item in overrides:
            values = merge_patch(values, item.override_config)
        if values["enabled"]:
            entries[name] = spell({**values, "personas": personas, "overridden_by": [key for key, _ in overrides]})
    elif rule.enabled:
        spoken_by = ",".join(map(quote, personas)).encode()
        entries[name] = b'%b,"personas":[%b],"overridden_by":[]}' % (rule.spelt, spoken_by)


def _spell_assignment(rule_name: str, item: Assignment) -> str:
    reason = quote(item.reason) if item.reason is not None else "null"
    return (
        f'{{"rule":{quote(rule_name)},"persona":{quote(item.persona)},'
        f'"confidence_score":{item.score!r},"assignment_reason":{reason}}}'
    )
