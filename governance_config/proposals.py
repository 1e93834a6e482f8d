"""Which entries of a document become requests? Those that a governance rule lets pass for an approved override only.

Everything else is applied. Requests and changes are one change set: all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError

from audit.changes import change_set
from audit.errors import list_errors
from audit.exchange import Plan, Progress, apply
from audit.plans import Step
from audit.sources import InvalidDocument, Problem, SourceDocument
from overrides import approvals
from overrides.choices import OVERRIDABLE, OverrideStatus, TargetType
from overrides.models import GovernanceRuleOverride
from overrides.validation import find_patch
from rules.models import AnalysisRule

MAX_REQUESTS = 200  # of one document: somebody reads each of them
COMMON_FIELDS = ("expires_at", "reason")  # said once for all requests
INEXPRESSIBLE = (
    f"It cannot be filed as a request either: a request changes {', '.join(OVERRIDABLE[:-1])} or {OVERRIDABLE[-1]} of "
    "an analysis rule that is there, and no secret."
)

Patches = dict[str, tuple[Step, dict[str, Any]]]
"""Pointer of an entry → what it would have done, and the merge patch that its request asks for."""


def propose(
    document: Mapping[str, Any],
    *,
    user: Any,
    reason: str,
    expires_at: datetime | None,
    seen: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Make the configuration what `document` says, and file what takes an approved override as requests for it.

    `reason` and `expires_at` are those of all requests. A request for the same that waits or is in force already is not
    filed again. The plan has the steps `proposed`, each with the key of its request. Raises like `apply`;
    `InvalidDocument` names each entry that can neither be applied nor be filed.
    """
    _check_common(reason, expires_at)
    plan, rest, patches = _separate(document, user, seen)
    if not patches:
        return apply(document, user=user, reason=reason, seen=plan.revision, progress=progress)
    with change_set(reason=reason, restoring="persona_assignments" in document) as changes:
        apply(rest, user=user, reason=reason, seen=plan.revision, progress=progress)
        requests = _file(patches, document, user, reason, expires_at)
    steps = tuple(
        replace(patches[step.pointer][0], status="proposed", problems=(), override=requests[step.pointer])
        if step.pointer in patches
        else step
        for step in plan.steps
    )
    return Plan(steps, changes.revision, tuple(changes.warnings), plan.implied)


def _check_common(reason: str, expires_at: datetime | None) -> None:
    errors = {}
    if not reason.strip():
        errors["change_reason"] = ValidationError("Say why: whoever approves the requests reads this.", "required")
    if expires_at is None:
        errors["expires_at"] = ValidationError("Say when the requested overrides end.", "required")
    if errors:
        raise ValidationError(errors)


def _separate(document: Mapping[str, Any], user: Any, seen: int | None) -> tuple[Plan, Mapping[str, Any], Patches]:
    """The plan of what can be applied, the document of that, and what is to be requested.

    Governance tells a bounded number of refusals at once, so it is asked until it refuses nothing more.
    """
    rest, patches = document, Patches()
    plan = apply(rest, user=user, dry_run=True, seen=seen)
    while plan.problems:
        found = _express(plan, len(patches))
        patches |= found
        rest = _leave_out(rest, found)
        plan = apply(rest, user=user, dry_run=True, seen=plan.revision)
    return plan, rest, patches


def _express(plan: Plan, before: int) -> Patches:
    """The merge patches of the refused entries. Raises `InvalidDocument` if one of them has none."""
    asking = {step.pointer: step for step in plan.steps if step.needs_override}
    secret = _find_rules_with_secrets(step.name for step in asking.values())
    patches = {
        pointer: (step, patch)
        for pointer, step in asking.items()
        if step.name not in secret and (patch := express(step)) is not None
    }
    problems = [
        replace(problem, detail=f"{problem.detail} {INEXPRESSIBLE}") if problem.code == "needs_override" else problem
        for problem in plan.problems
        if _find_entry(problem.pointer) not in patches
    ]
    if problems:
        raise InvalidDocument(problems)
    if before + len(patches) > MAX_REQUESTS:
        raise InvalidDocument([Problem("", f"More than {MAX_REQUESTS} requests at once: divide the document.")])
    return patches


def express(step: Step) -> dict[str, Any] | None:
    """The merge patch on the rule that does what `step` would have done, or None if there is none."""
    if step.section != AnalysisRule.section or not step.fields or not set(step.fields) <= set(OVERRIDABLE):
        return None
    try:
        return {name: find_patch(old, new) for name, (old, new) in step.fields.items()}
    except ValueError:
        return None


def can_propose(plan: Plan) -> bool:
    """Whether all that stands against a plan can be filed as requests."""
    try:
        return bool(plan.problems) and bool(_express(plan, 0))
    except InvalidDocument:
        return False


def _find_rules_with_secrets(names: Iterable[str]) -> set[str]:
    """The rules whose plugin has secrets: plans mask these, so a request could not tell what is to change."""
    return {rule.name for rule in AnalysisRule.objects.filter(name__in=list(names)) if rule.secret_fields}


def _find_entry(pointer: str) -> str:
    return "/".join(pointer.split("/")[:3])


def _leave_out(document: Mapping[str, Any], pointers: Iterable[str]) -> Mapping[str, Any]:
    """`document` with the entries at `pointers` saying nothing; the others keep their places and lines."""
    rest = SourceDocument(document) if isinstance(document, SourceDocument) else dict(document)
    if isinstance(document, SourceDocument):
        rest.text = document.text
    entries = list(document[AnalysisRule.section])
    for pointer in pointers:
        index = int(pointer.rpartition("/")[2])
        # Made if it is missing, else left alone: this one is there.
        entries[index] = {"name": entries[index]["name"], "state": "created"}
    rest[AnalysisRule.section] = entries
    return rest


def _file(
    patches: Patches, document: Mapping[str, Any], user: Any, reason: str, expires_at: datetime | None
) -> dict[str, int]:
    """Ask for each patch: pointer of the entry → key of its request. In the change set."""
    present = _find_present([step.name for step, _ in patches.values()], expires_at)
    requests: dict[str, int] = {}
    problems: list[Problem] = []
    for pointer, (step, patch) in patches.items():
        same = (each.pk for each in present if each.rule_name == step.name and each.override_config == patch)
        key = next(same, None)
        try:
            requests[pointer] = key or _ask(step.name, patch, user, reason, expires_at)
        except ValidationError as error:
            problems += _place(error, step)
    if problems:
        raise InvalidDocument(document.locate(problems) if isinstance(document, SourceDocument) else problems)
    return requests


def _ask(name: str, patch: dict[str, Any], user: Any, reason: str, expires_at: datetime | None) -> int:
    override = approvals.request(user=user, rule_name=name, override_config=patch, reason=reason, expires_at=expires_at)
    return int(override.pk)


def _find_present(names: Sequence[str], expires_at: datetime | None) -> list[GovernanceRuleOverride]:
    """What was asked for the rules before, everywhere, and waits or is in force for as long."""
    return list(
        GovernanceRuleOverride.objects.filter(
            target_type=TargetType.ANALYSIS_RULE,
            rule_name__in=names,
            status__in=[OverrideStatus.PROPOSED, OverrideStatus.ACTIVE],
            expires_at__gte=expires_at,
            paths=[],
        ).order_by("id")
    )


def _place(error: ValidationError, step: Step) -> list[Problem]:
    """What stands against a request, at its entry; what is said once for all of them, at its own field."""
    if hasattr(error, "error_dict"):
        common = {name: error.error_dict[name] for name in COMMON_FIELDS if name in error.error_dict}
        if common:
            told = {"change_reason" if name == "reason" else name: items for name, items in common.items()}
            raise ValidationError(told) from error
    return [
        Problem(f"{step.pointer}{pointer.removeprefix('/override_config')}", detail, step.name)
        for pointer, detail in list_errors(error)
    ]
