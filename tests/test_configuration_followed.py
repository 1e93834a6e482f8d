"""The configuration in force follows the journal: whatever changes, it is what reading everything anew would give.

The same for what a client makes of a delta, and for what is recalled of an earlier revision.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from audit import exchange
from audit.changes import change_set
from audit.governed import save_all
from audit.permissions import SYSTEM_ACTOR
from audit.rollback import RollbackRefused, Target, roll_back
from overrides import sharing
from overrides.configuration import PARTS, put_in_force
from overrides.delta import spell_delta
from overrides.effective import load_configuration
from overrides.models import GovernanceRuleOverride
from overrides.past import recall_configuration
from overrides.stored import read_all, read_mark
from personas.models import Persona, PersonaRuleAssignment
from personas.services import assign, unassign
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.factories import build_rule, make_override, make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db
STEPS = 90


class Clock:
    """The time of day, which moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, 12, tzinfo=timezone.get_current_timezone())

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    moving = Clock()
    monkeypatch.setattr(timezone, "now", moving)
    return moving


class Editor:
    """Somebody who does everything that may be done to a configuration, by chance."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.dice, self.clock, self.number = random.Random(seed), clock, 0
        self.ends = [clock.now]

    def any_of(self, model: type, **conditions: Any) -> Any:
        found = list(model.objects.filter(**conditions).order_by("pk"))
        return self.dice.choice(found) if found else None

    def create_rule(self) -> None:
        self.number += 1
        rule_type = self.dice.choice(["security", "style", "performance"])
        make_rule(
            name=f"{self.dice.choice('amz')}-{self.number}", rule_type=rule_type, enabled=self.dice.random() < 0.8
        )

    def edit_rule(self) -> None:
        if rule := self.any_of(AnalysisRule):
            rule.severity = self.dice.choice(["low", "medium", "critical"])
            rule.message = f'Ä "quoted" {self.number}\n100 % {self.dice.random()}'
            rule.enabled = self.dice.random() < 0.7
            rule.tags = self.dice.choice([[], ["one"], ["one", "two"]])
            rule.save()

    def retype_rule(self) -> None:
        if rule := self.any_of(AnalysisRule):
            rule.rule_type = self.dice.choice(["security", "style"])
            rule.save()

    def delete_rule(self) -> None:
        if rule := self.any_of(AnalysisRule):
            rule.delete()

    def edit_many(self) -> None:
        rules = list(AnalysisRule.objects.order_by("pk")[:5])
        for rule in rules:
            rule.title = f"Title {self.dice.random()}"
        save_all([*rules])
        save_all([build_rule(name=f"bulk-{self.number}-{each}") for each in range(3)])
        self.number += 1

    def edit_persona(self) -> None:
        name = self.dice.choice(["security", "style", "guest", "passing"])
        persona = Persona.objects.filter(name=name).first()
        if persona is None:
            make_persona(name, rule_types=[name] if name in ("security", "style") else [])
            return
        persona.voice = f"Voice {self.dice.random()}"
        persona.save()

    def delete_persona(self) -> None:
        persona = Persona.objects.filter(name="passing").first()
        if persona and not persona.assignments.filter(is_active=True).exists():
            persona.delete()

    def assign(self) -> None:
        rule, persona = self.any_of(AnalysisRule), self.any_of(Persona, rule_types=[])
        if rule and persona:
            assign(rule=rule, persona=persona, confidence_score=self.dice.choice([0, 0.25, 0.5, 1]))

    def unassign(self) -> None:
        if assignment := self.any_of(PersonaRuleAssignment, is_active=True):
            unassign(assignment)

    def set_plugin(self) -> None:
        plugin = Plugin.objects.get(name="secrets")
        plugin.enabled = not plugin.enabled
        plugin.configuration = {"max_findings_per_file": self.dice.randint(1, 9)}
        plugin.save()

    def override(self) -> None:
        rule = self.any_of(AnalysisRule)
        name = rule.name if rule and self.dice.random() < 0.9 else "nobody-has-this-name"
        patch = self.dice.choice([{"severity": "info"}, {"enabled": False}, {"enabled": True, "message": "Later."}])
        ends = self.clock.now + timedelta(hours=self.dice.randint(1, 30))
        self.ends.append(ends)
        make_override(
            name,
            override_config=patch,
            status="active",
            enabled=True,
            approved_by="approver",
            paths=self.dice.choice([[], [], ["legacy/**"]]),
            expires_at=ends,
        )

    def revoke(self) -> None:
        if override := self.any_of(GovernanceRuleOverride, enabled=True):
            override.enabled, override.status = False, self.dice.choice(["revoked", "expired"])
            override.save()

    def delete_override(self) -> None:
        if override := self.any_of(GovernanceRuleOverride):
            override.delete()

    def roll_back(self) -> None:
        back = max(1, read_mark().revision - self.dice.randint(1, 6))
        try:
            roll_back(Target(change=back), user=SYSTEM_ACTOR)
        except (RollbackRefused, ValidationError):
            return

    def exchange(self) -> None:
        document = exchange.export_document(SYSTEM_ACTOR)
        for entry in document.get("analysis_rules", [])[:3]:
            entry["title"] = f"Imported {self.dice.random()}"
        exchange.apply(document, user=SYSTEM_ACTOR)

    def undo_by_failing(self) -> None:
        try:
            with change_set():
                self.edit_rule()
                self.override()
                raise RuntimeError
        except RuntimeError:
            return

    def something_else(self) -> None:
        make_user()

    def act(self) -> None:
        """One thing of these, or the clock moves, sometimes just over the end of an override."""
        if self.dice.random() < 0.2:
            self.clock.now = max(self.clock.now, self.dice.choice(self.ends)) + timedelta(
                seconds=self.dice.randint(0, 1)
            )
            return
        self.clock.move(seconds=1)
        deeds: list[Callable[[], None]] = [
            *[self.create_rule, self.edit_rule, self.assign, self.override] * 3,
            *(self.retype_rule, self.delete_rule, self.edit_many, self.edit_persona, self.delete_persona),
            *(self.unassign, self.set_plugin, self.revoke, self.delete_override, self.roll_back, self.exchange),
            *(self.undo_by_failing, self.something_else),
        ]
        try:
            self.dice.choice(deeds)()
        except ValidationError:
            return


def read_anew():
    return put_in_force(read_all(read_mark()), timezone.now())


def apply_delta(body: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """What a client makes of the answer it has and a delta."""
    keys = {
        "rules": lambda item: item["name"],
        "plugins": lambda item: item["name"],
        "personas": lambda item: item["name"],
        "assignments": lambda item: (item["rule"], item["persona"]),
        "overrides": lambda item: item["id"],
    }
    order = {**keys, "assignments": lambda item: (item["rule"], -item["confidence_score"], item["persona"])}
    result = {name: delta[name] for name in ("epoch", "revision", "evaluated_at", "valid_until")}
    for part in PARTS:
        key = keys[part]
        items = {key(item): item for item in body[part]} | {key(item): item for item in delta["changed"][part]}
        for gone in delta["removed"][part]:
            items.pop((gone["rule"], gone["persona"]) if part == "assignments" else gone, None)
        result[part] = sorted(items.values(), key=order[part])
    return result


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_followed_is_what_reading_everything_gives(seed, clock):
    editor = Editor(seed, clock)
    make_rule(name="first")
    make_persona("guest", rule_types=[])
    told = []
    for _ in range(STEPS):
        editor.act()
        followed, anew = load_configuration(), read_anew()
        assert followed.body == anew.body
        assert followed.etag == anew.etag
        assert (followed.valid_until, followed.lapsed_at) == (anew.valid_until, anew.lapsed_at)
        assert followed.stored == anew.stored
        told.append((followed.revision, json.loads(followed.body)))
        for revision, body in editor.dice.sample(told, min(3, len(told))):
            delta = json.loads(spell_delta(followed, revision))
            assert delta["since"] == revision
            assert apply_delta(body, delta) == json.loads(followed.body)
    assert len({revision for revision, _ in told}) > STEPS / 3


@pytest.mark.parametrize("seed", [4, 5])
def test_what_is_recalled_is_what_was_told_at_the_revision(seed, clock):
    editor = Editor(seed, clock)
    make_rule(name="first")
    make_persona("guest", rule_types=[])
    told = {}
    for _ in range(STEPS):
        editor.act()
        configuration = load_configuration()
        told.setdefault(configuration.revision, configuration.body)
    assert len(told) > STEPS / 3
    for revision, body in told.items():
        assert recall_configuration(revision).body == body


def test_a_shared_one_is_what_was_packed(clock):
    editor = Editor(6, clock)
    make_rule(name="first")
    make_persona("guest", rule_types=[])
    for _ in range(STEPS):
        editor.act()
    stored = read_all(read_mark())
    unpacked = sharing.unpack(sharing.pack(stored))
    assert put_in_force(unpacked, clock.now).body == put_in_force(stored, clock.now).body
    assert unpacked.mark == stored.mark
