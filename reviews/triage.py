"""What do people decide about findings? One verb for admin, API and commands; no review undoes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from audit.changes import MAX_REASON, SYSTEM
from audit.documents import find_unstorable
from audit.permissions import SYSTEM_ACTOR, require
from reviews.choices import Triage
from reviews.models import Codebase, FindingDecision, TrackedFinding

NEEDS_NO_REASON = (Triage.OPEN, Triage.ACKNOWLEDGED)
FINDINGS_A_STATEMENT = 500


def decide(
    findings: Iterable[TrackedFinding], *, triage: str, reason: str, user: models.Model | Any
) -> list[FindingDecision]:
    """Decide the same about all of `findings`, or about none; returns the decisions that changed something.

    Raises `NotPermitted` if `user` may not triage one of them, `ValidationError` if the decision is unknown or needs a
    reason. The given objects show the decision afterwards.
    """
    chosen = {finding.pk: finding for finding in findings}
    reason = reason.strip()
    _check(triage, reason)
    for finding in chosen.values():
        require(user, "triage", finding)
    name = SYSTEM if user is SYSTEM_ACTOR else user.get_username()
    now = timezone.now()
    with transaction.atomic():
        current = _lock(chosen)
        decisions = [
            FindingDecision(
                finding_id=pk, old_triage=old, new_triage=triage, reason=reason, decided_by=name, decided_at=now
            )
            for pk, (old, old_reason) in current.items()
            if (old, old_reason) != (triage, reason)
        ]
        FindingDecision.objects.bulk_create(decisions, batch_size=FINDINGS_A_STATEMENT)
        changed = [decision.finding_id for decision in decisions]
        said = {"triage": triage, "triage_reason": reason, "triaged_by": name, "triaged_at": now}
        for start in range(0, len(changed), FINDINGS_A_STATEMENT):
            some = changed[start : start + FINDINGS_A_STATEMENT]
            TrackedFinding.objects.filter(pk__in=some).update(**said)
    for pk in changed:
        for field, value in said.items():
            setattr(chosen[pk], field, value)
    return decisions


def _check(triage: str, reason: str) -> None:
    if triage not in Triage.values:
        raise ValidationError({"triage": f"{triage!r} is not one of {', '.join(Triage.values)}."})
    if not reason and triage not in NEEDS_NO_REASON:
        raise ValidationError({"reason": "Say why: others will wonder, and so will you."})
    if len(reason) > MAX_REASON:
        raise ValidationError({"reason": f"At most {MAX_REASON:,} characters."})
    if find_unstorable(reason) is not None:
        raise ValidationError({"reason": "This text has characters that cannot be stored."})


def _lock(chosen: dict[int, TrackedFinding]) -> dict[int, tuple[str, str]]:
    """What was decided so far, which nobody changes until the transaction ends. Raises `ValidationError` if one of the
    findings is gone."""
    # A review locks its codebase before the findings; who does the same cannot wait for it in a circle.
    codebases = {finding.codebase_id for finding in chosen.values()}
    list(Codebase.objects.select_for_update().filter(pk__in=codebases).order_by("pk").values_list("pk"))
    current: dict[int, tuple[str, str]] = {}
    pks = sorted(chosen)
    for start in range(0, len(pks), FINDINGS_A_STATEMENT):
        some = TrackedFinding.objects.filter(pk__in=pks[start : start + FINDINGS_A_STATEMENT])
        current |= {pk: (triage, reason) for pk, triage, reason in some.values_list("pk", "triage", "triage_reason")}
    if len(current) < len(chosen):
        raise ValidationError({"findings": "One of the findings is no longer there."})
    return current
