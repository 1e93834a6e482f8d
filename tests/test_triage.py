"""Who may decide about findings, and what is left of a decision."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from audit.errors import NotPermitted
from audit.permissions import SYSTEM_ACTOR
from reviews.choices import Triage
from reviews.models import Codebase, FindingDecision, TrackedFinding
from reviews.triage import decide
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def make_findings(number: int = 1) -> list[TrackedFinding]:
    codebase, _ = Codebase.objects.get_or_create(key="k", name="codebase", root="/")
    return [
        TrackedFinding.objects.create(
            codebase=codebase,
            key=f"{index}",
            rule_name="no-eval",
            rule_type="security",
            severity="high",
            path="a.py",
            line=index + 1,
            code_hash="c",
            context_hash="x",
        )
        for index in range(number)
    ]


def test_a_decision_is_kept_on_the_finding_and_in_its_history() -> None:
    (finding,) = make_findings()
    user = make_user(superuser=True, username="ada")
    (decision,) = decide([finding], triage="wont_fix", reason=" legacy ", user=user)
    stored = TrackedFinding.objects.get()
    assert (stored.triage, stored.triage_reason, stored.triaged_by) == (Triage.WONT_FIX, "legacy", "ada")
    assert stored.triaged_at == decision.decided_at
    assert (finding.triage, finding.triage_reason) == ("wont_fix", "legacy")
    decide([finding], triage="open", reason="", user=user)
    assert [(each.old_triage, each.new_triage, each.reason, each.decided_by) for each in finding.decisions.all()] == [
        ("open", "wont_fix", "legacy", "ada"),
        ("wont_fix", "open", "", "ada"),
    ]


def test_many_findings_are_decided_at_once() -> None:
    findings = make_findings(1100)
    assert len(decide(findings, triage="acknowledged", reason="", user=SYSTEM_ACTOR)) == 1100
    assert set(TrackedFinding.objects.values_list("triage", "triaged_by")) == {("acknowledged", "system")}


def test_a_decision_that_changes_nothing_leaves_no_trace() -> None:
    (finding,) = make_findings()
    assert decide([finding], triage="open", reason="", user=SYSTEM_ACTOR) == []
    assert TrackedFinding.objects.get().triaged_at is None


def test_what_was_decided_meanwhile_is_the_old_state() -> None:
    (finding,) = make_findings()
    other = TrackedFinding.objects.get()
    decide([other], triage="acknowledged", reason="", user=SYSTEM_ACTOR)
    (decision,) = decide([finding], triage="wont_fix", reason="r", user=SYSTEM_ACTOR)
    assert decision.old_triage == "acknowledged"


@pytest.mark.parametrize("triage", ["false_positive", "wont_fix"])
@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_finding_is_not_dismissed_without_a_reason(triage: str, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        decide(make_findings(), triage=triage, reason=reason, user=SYSTEM_ACTOR)
    assert "reason" in caught.value.message_dict


@pytest.mark.parametrize(
    ("triage", "reason", "field"),
    [("solved", "r", "triage"), ("wont_fix", "x" * 2001, "reason"), ("wont_fix", "a\0b", "reason")],
)
def test_a_wrong_decision_is_refused(triage: str, reason: str, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        decide(make_findings(), triage=triage, reason=reason, user=SYSTEM_ACTOR)
    assert field in caught.value.message_dict


def test_only_who_may_triage_decides() -> None:
    findings = make_findings()
    with pytest.raises(NotPermitted):
        decide(findings, triage="acknowledged", reason="", user=make_user("viewer"))
    assert not FindingDecision.objects.exists()


def test_all_are_decided_or_none() -> None:
    findings = make_findings(3)
    TrackedFinding.objects.filter(pk=findings[1].pk).delete()
    with pytest.raises(ValidationError) as caught:
        decide(findings, triage="acknowledged", reason="", user=SYSTEM_ACTOR)
    assert "findings" in caught.value.message_dict
    assert not FindingDecision.objects.exists()
    assert not TrackedFinding.objects.exclude(triage="open").exists()
