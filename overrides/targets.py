"""What does an override stand on? The rule that it is about, as it is now: what it weighs, and what has moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError

from audit import encryption
from audit.errors import FieldError, StateConflict
from audit.governed import GovernedModel, governed_models, merge_errors
from overrides.choices import JUDGING_FIELDS, OVERRIDABLE, SECOND_PERSON, Enforcement, TargetType
from overrides.models import ApprovalPolicy, GovernanceRule, GovernanceRuleOverride
from overrides.validation import find_leaves, look_up, merge_patch, names_one
from plugins import masking
from plugins.sealing import redact_errors
from rules.choices import RuleStatus, Severity
from rules.models import AnalysisRule, list_secret_fields
from rules.validation import check_content

RIGHTS = ("grant", "role_membership", "role_permission", "token", "user", "user_permission")
"""Kinds of objects that are not governed, but protected."""


@dataclass(frozen=True)
class Requirement:
    """What an override needs, because of how bad the findings are that it is about."""

    severity: str
    approvals: int
    max_days: int


@dataclass(frozen=True)
class Conflict:
    """A field that the override changes, and that was changed in the rule since."""

    path: tuple[str, ...]
    original: Any
    override: Any
    current: Any

    @property
    def field(self) -> str:
        """``configuration.limit``."""
        return ".".join(self.path)

    def document(self) -> dict[str, Any]:
        """As it is told to a client."""
        return {
            "field": self.field,
            "original": encryption.hide(self.original),
            "override": encryption.hide(self.override),
            "current": encryption.hide(self.current),
        }


class OverrideConflict(StateConflict):
    """The rule was changed where the override changes it, since the override was asked for (HTTP 409)."""

    def __init__(self, override: GovernanceRuleOverride, conflicts: Sequence[Conflict]) -> None:
        told = "; ".join(
            "{field}: {original!r} when it was asked for, {override!r} by the override, {current!r} now".format(
                **each.document()
            )
            for each in conflicts
        )
        super().__init__(
            f"{override.rule_name} was changed since this was asked for. {told}. Propose it again, or edit it: it is "
            "then compared with the rule as it is now, and approved anew.",
            code="conflict",
        )
        self.conflicts = list(conflicts)


def find_target(override: GovernanceRuleOverride) -> GovernedModel | None:
    """The rule that `override` is about, or None. The one that protects governance is no row."""
    if override.target_type == TargetType.GOVERNANCE_RULE and override.rule_name == SECOND_PERSON:
        return GovernanceRule(name=SECOND_PERSON, enforcement=Enforcement.REQUIRE_OVERRIDE)
    model = GovernanceRule if override.target_type == TargetType.GOVERNANCE_RULE else AnalysisRule
    return model.objects.filter(name=override.rule_name).first()


def require_target(override: GovernanceRuleOverride) -> GovernedModel:
    """The rule that `override` is about. Raises `ValidationError` at `rule_name` if there is none."""
    target = find_target(override)
    if target is None:
        raise refuse_target(override)
    if override.target_type == TargetType.GOVERNANCE_RULE:
        check_object(override)
    return target


def check_object(override: GovernanceRuleOverride) -> None:
    """Raise unless a waiver names a kind of object that there is, and that of the second person one object."""
    wanted = override.override_config
    if not isinstance(wanted, Mapping):
        return  # which the model says in words of its own
    kinds = sorted({*RIGHTS, *(model.entity_type for model in governed_models())})
    if wanted.get("entity_type") not in (*kinds, None):
        problem = f"There is no such kind of object. Kinds: {', '.join(kinds)}."
        raise ValidationError({"override_config": [FieldError(problem, pointer="entity_type")]})
    if override.rule_name == SECOND_PERSON and not names_one(wanted):
        problem = f"A waiver of {SECOND_PERSON} names one object: entity_type, and entity_name or entity_id."
        raise ValidationError({"override_config": [FieldError(problem, pointer="entity_type")]})


def refuse_target(override: GovernanceRuleOverride) -> ValidationError:
    """What somebody is told who asks for a rule that is not there, or that he may not know of."""
    what = TargetType(override.target_type).label.lower()
    return ValidationError({"rule_name": f"There is no {what} {override.rule_name!r}."})


def check_patch(override: GovernanceRuleOverride, target: GovernedModel) -> None:
    """Raise unless the rule would still be a valid one under the override.

    Its examples are not run: they prove the rule as it is, and what an override allows may be just what they show.
    """
    if not isinstance(target, AnalysisRule):
        return
    patched = apply_patch(override, target)
    names = {field.name for field in target._meta.concrete_fields}
    problems = []
    try:
        patched.clean_fields(exclude=names - set(override.override_config))
    except ValidationError as error:
        problems.append(error)
    try:
        check_content(patched.spec(), examples=target.examples, enabled=False)
    except ValidationError as error:
        problems.append(error)
    if patched.enabled and patched.status == RuleStatus.DRAFT:
        problems.append(ValidationError({"enabled": "A draft cannot be enabled: make the rule active first."}))
    if problems:
        found = redact_errors(merge_errors(problems), _list_secrets(patched))
        raise ValidationError({"override_config": _move_below(found)}) from None


def apply_patch(override: GovernanceRuleOverride, target: AnalysisRule) -> AnalysisRule:
    """The rule as it is under the override; not stored."""
    values = merge_patch({name: getattr(target, name) for name in OVERRIDABLE}, override.override_config)
    patched = AnalysisRule(**{field.attname: getattr(target, field.attname) for field in target._meta.concrete_fields})
    for name, value in values.items():
        setattr(patched, name, value)
    patched.configuration, _ = encryption.reveal_readable(patched.configuration)
    return patched


def _list_secrets(patched: AnalysisRule) -> list[str]:
    """What an analyzer must not quote: secrets of the rule and of the patch, in clear."""
    stored = AnalysisRule.objects.filter(pk=patched.pk).values_list("configuration", flat=True).first()
    sealed = [place for place, _ in encryption.find_envelopes(stored)]
    return masking.list_texts(patched.configuration, [*list_secret_fields(patched.plugin_id), *sealed])


def _move_below(error: ValidationError) -> list[ValidationError]:
    """What is wrong with the patched rule, as places of the patch."""
    return [
        FieldError(
            " ".join(item.messages),
            pointer="/".join(filter(None, (name.replace("__all__", ""), getattr(item, "pointer", "")))),
            code=item.code or "invalid",
        )
        for name, items in error.error_dict.items()
        for item in items
    ]


def find_conflicts(override: GovernanceRuleOverride, target: GovernedModel) -> list[Conflict]:
    """Where the override touches the rule and the rule has moved since `original_config` was taken."""
    original, current = override.original_config, target.document()
    patch: Mapping[str, Any] = override.document()["override_config"]
    if override.target_type == TargetType.GOVERNANCE_RULE:
        places = [((name,), None) for name in JUDGING_FIELDS]
    else:
        places = [(path, look_up(patch, path)) for path in find_leaves(patch)]
    return [
        Conflict(path, look_up(original, path), wanted, look_up(current, path))
        for path, wanted in places
        if look_up(original, path) != look_up(current, path)
    ]


def find_requirement(override: GovernanceRuleOverride) -> Requirement:
    """What the policy asks: by the severity of the rule as it is, or as the override makes it, whichever is worse.

    A waiver weighs what the analysis rule weighs that it is about; one that is not limited to a rule weighs most.
    """
    return read_requirement(weigh(override))


def weigh(override: GovernanceRuleOverride) -> str:
    """The severity that decides how many approve."""
    if override.target_type == TargetType.GOVERNANCE_RULE:
        if override.rule_name == SECOND_PERSON:
            return Severity.HIGH  # two people in all, as its name says, unless the policy asks for more
        rule = _find_waived_rule(override.override_config)
        return rule.severity if rule is not None else Severity.CRITICAL
    target = find_target(override)
    severities = [
        *([target.severity] if isinstance(target, AnalysisRule) else []),
        override.original_config.get("severity"),
        override.override_config.get("severity"),
    ]
    known = [Severity(each) for each in severities if each in Severity.values]
    return max(known, key=lambda each: each.rank, default=Severity.CRITICAL)


def _find_waived_rule(wanted: Mapping[str, Any]) -> AnalysisRule | None:
    """The one analysis rule that a waiver is about, or None."""
    if wanted.get("entity_type") != AnalysisRule.entity_type:
        return None
    rules = AnalysisRule.objects.all()
    if "entity_name" in wanted:
        rules = rules.filter(name=wanted["entity_name"])
    if "entity_id" in wanted:
        rules = rules.filter(pk=wanted["entity_id"]) if str(wanted["entity_id"]).isdecimal() else rules.none()
    return rules.first() if set(wanted) & {"entity_name", "entity_id"} else None


def read_requirement(severity: str) -> Requirement:
    """What the policy asks for rules of a severity; without a row, its own defaults."""
    policy = ApprovalPolicy.objects.filter(severity=severity).first()
    if policy is None:
        usual = ApprovalPolicy.STRICT if severity == Severity.CRITICAL else ApprovalPolicy.USUAL
        return Requirement(severity, usual, ApprovalPolicy.MAX_DAYS)
    return Requirement(severity, policy.approvals, policy.max_days)
