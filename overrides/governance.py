"""Does a change satisfy the governance rules? Judged at the end of each change set, over all that it changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from audit.changes import SYSTEM, ChangeSet, Origin
from audit.errors import CheckRefusal
from audit.facts import find_facts
from audit.journal import Change
from overrides import conditions
from overrides.choices import DecisionKind, Enforcement, TargetType
from overrides.models import GovernanceRule, GovernanceRuleOverride, OverrideDecision

RIGHTS = ("role_membership", "user_permission", "role_permission")
MAX_PROBLEMS = 50  # refusals told one by one


@dataclass(frozen=True)
class NetChange:
    """What became of one object: from what it was before the change set to what it is at its end."""

    entity_type: str
    entity_id: str
    entity_name: str
    types: tuple[str, ...]  # of all changes on the way
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    instance: models.Model | None

    @property
    def action(self) -> str:
        """created, updated or deleted."""
        if self.old is None:
            return "created"
        return "deleted" if self.new is None else "updated"


@dataclass(frozen=True)
class Verdict:
    """A governance rule that a change does not satisfy."""

    rule: GovernanceRule
    change: NetChange
    problem: str

    def __str__(self) -> str:
        return f"{self.change.entity_name}: {self.problem} (governance rule {self.rule.name})"


def check_governance(changes: ChangeSet) -> Sequence[ValidationError]:
    """What refuses the change set; what only warns is told to it."""
    refusals = []
    for verdict in judge(changes):
        if verdict.rule.enforcement == Enforcement.WARN or changes.break_glass:
            changes.warn(str(verdict))
        elif verdict.rule.enforcement == Enforcement.BLOCK or not find_waiver(verdict, changes):
            about = (verdict.change.entity_type, verdict.change.entity_id)
            demands = verdict.rule.enforcement == Enforcement.REQUIRE_OVERRIDE
            refusals.append(CheckRefusal(_advise(verdict), about=about, needs_override=demands))
    return refusals[:MAX_PROBLEMS]


def judge(changes: ChangeSet) -> list[Verdict]:
    """The governance rules that the changes do not satisfy."""
    net = find_net_changes(changes.changes)
    rules = list_rules(changes.changes)
    if not net or not rules:
        return []
    actor = describe_actor(changes.origin)
    facts = _Facts(net)
    verdicts = []
    for rule in rules:
        for change in net:
            if applies(rule, change):
                problem = _judge_one(rule, change, actor, changes, facts)
                if problem is not None:
                    verdicts.append(Verdict(rule, change, problem))
    return verdicts


def find_net_changes(changes: Iterable[Change]) -> list[NetChange]:
    """One change for each object; what was made and taken away again, or put back, is as if nothing had happened.

    A row that tells of some rights of a holder is no later state of the row before it: these stay apart.
    """
    grouped: dict[tuple[str, ...], list[Change]] = {}
    for change in changes:
        rights = (change.new or change.old or {}).get("rights", ()) if change.entity_type in RIGHTS else ()
        grouped.setdefault((change.entity_type, change.entity_id, *rights), []).append(change)
    net = [
        NetChange(
            entity_type=mine[-1].entity_type,
            entity_id=mine[-1].entity_id,
            entity_name=mine[-1].entity_name,
            types=tuple(change.change_type for change in mine),
            old=mine[0].old,
            new=mine[-1].new,
            instance=mine[-1].instance,
        )
        for mine in grouped.values()
    ]
    return [change for change in net if change.old != change.new]


def list_rules(changes: Sequence[Change]) -> list[GovernanceRule]:
    """The enabled rules, as they are and as they were: one that this change set switches off still judges it."""
    rules = {rule.name: rule for rule in GovernanceRule.objects.filter(enabled=True)}
    for change in changes:
        if change.entity_type == GovernanceRule.entity_type and change.old and change.old["enabled"]:
            before = GovernanceRule(**change.old)
            if before.name not in rules or _differs(before, rules[before.name]):
                rules[f"{before.name} (before)"] = before
    return list(rules.values())


def _differs(one: GovernanceRule, other: GovernanceRule) -> bool:
    names = ("condition", "applies_to", "enforcement")
    return any(getattr(one, name) != getattr(other, name) for name in names)


def applies(rule: GovernanceRule, change: NetChange) -> bool:
    """Whether `rule` judges such a change."""
    kinds, types = rule.applies_to.get("entity_types"), rule.applies_to.get("change_types")
    return (not kinds or change.entity_type in kinds) and (not types or not set(types).isdisjoint(change.types))


def describe_actor(origin: Origin) -> dict[str, Any]:
    """Who acts, as conditions see it."""
    kind, name, _ = origin.actor()
    user = origin.acting_user()
    roles = sorted(user.groups.values_list("name", flat=True)) if user is not None else []
    return {"kind": kind, "name": name, "roles": roles, "is_superuser": bool(getattr(user, "is_superuser", False))}


class _Facts:
    """Facts of the changed objects, asked for when a condition wants them, of all objects of a kind at once."""

    def __init__(self, changes: Sequence[NetChange]) -> None:
        self._changes = changes
        self._found: dict[str, dict[str, dict[str, Any]]] = {}

    def of(self, change: NetChange) -> dict[str, Any]:
        """The facts of the object of `change`; of a deleted one those that its fields still tell."""
        kind = change.entity_type
        if kind not in self._found:
            mine = [other for other in self._changes if other.entity_type == kind and other.instance is not None]
            facts = find_facts(kind, [other.instance for other in mine])
            self._found[kind] = {other.entity_id: own for other, own in zip(mine, facts, strict=True)}
        return self._found[kind].get(change.entity_id, {})


def _judge_one(
    rule: GovernanceRule, change: NetChange, actor: Mapping[str, Any], changes: ChangeSet, facts: _Facts
) -> str | None:
    """Why the change does not satisfy the rule, or None. What cannot be judged does not pass."""
    try:
        program = conditions.compile_condition(rule.condition)
        variables = {
            "old": change.old,
            "new": change.new,
            "actor": actor,
            "change": {
                "action": change.action,
                "type": change.types[-1],
                "entity_type": change.entity_type,
                "entity_id": change.entity_id,
                "entity_name": change.entity_name,
                "source": changes.origin.source,
                "reason": changes.reason,
            },
            "facts": facts.of(change) if "facts" in program.variables() else {},
        }
        return None if conditions.holds(rule.condition, variables) else rule.message
    except conditions.ConditionError as error:
        return f"This change cannot be judged, so it is refused: {error}."


def find_waiver(verdict: Verdict, changes: ChangeSet) -> GovernanceRuleOverride | None:
    """An approved waiver of the rule that is in force and covers the changed object, asked for by whoever acts.

    People approve what somebody asks for, not what others make of it. The system asks nobody and may use any.
    """
    waivers = GovernanceRuleOverride.objects.filter(
        target_type=TargetType.GOVERNANCE_RULE,
        rule_name=verdict.rule.name,
        enabled=True,
        expires_at__gt=changes.started_at,
    )
    kind, name, key = changes.origin.actor()
    if kind != SYSTEM:
        waivers = asked_by(waivers, name, key)
    return next((waiver for waiver in waivers.order_by("id") if covers(waiver, verdict.change)), None)


def asked_by(
    waivers: models.QuerySet[GovernanceRuleOverride], name: str, key: str
) -> models.QuerySet[GovernanceRuleOverride]:
    """Those that the account asked for: by name and key, for another account may get the name of one that is gone."""
    others = OverrideDecision.objects.filter(kind=DecisionKind.REQUESTED, decided_by=name).exclude(decided_by_id=key)
    return waivers.filter(created_by=name).exclude(pk__in=others.values("override"))


def covers(waiver: GovernanceRuleOverride, change: NetChange) -> bool:
    """Whether a waiver is about the changed object; one that names nothing is about all."""
    wanted = waiver.override_config
    seen = {
        "entity_type": change.entity_type,
        "entity_id": change.entity_id,
        "entity_name": change.entity_name,
    }
    return all(seen.get(name) == value for name, value in wanted.items())


def _advise(verdict: Verdict) -> str:
    if verdict.rule.enforcement == Enforcement.REQUIRE_OVERRIDE:
        change = verdict.change
        return (
            f"{verdict} That takes an approved waiver: ask for an override about the governance rule "
            f"{verdict.rule.name} (target_type governance_rule) that names the {change.entity_type} "
            f"{change.entity_name!r}, and let others approve it; in an emergency, break the glass."
        )
    return str(verdict)
