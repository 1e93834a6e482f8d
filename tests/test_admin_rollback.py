"""Can somebody undo a change in the admin? With the plan before his eyes, and a reason."""

from __future__ import annotations

import pytest
from django.urls import reverse

from audit.models import ConfigurationAuditLog
from rules.models import AnalysisRule
from tests.admin_client import REASON, said, sign_in, text
from tests.factories import make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def rule() -> AnalysisRule:
    """A rule whose severity went from high to low."""
    rule = make_rule(severity="high")
    rule.severity = "low"
    rule.save()
    return rule


@pytest.fixture
def client():
    return sign_in(make_user("administrator"))


def page(what: str, revision: int) -> str:
    return reverse("admin:audit_configurationauditlog_undo", args=[what, revision])


def test_the_page_of_a_change_leads_to_undoing_it(client, rule):
    shown = client.get(reverse("admin:audit_configurationauditlog_change", args=[rule.version]))
    assert page("change", rule.version) in shown.content.decode()
    assert page("since", rule.version) in shown.content.decode()


def test_the_plan_is_shown_and_looking_changes_nothing(client, rule):
    shown = client.get(page("change", rule.version))
    assert "1 object would change" in text(shown)
    assert "low → high" in text(shown)
    assert ConfigurationAuditLog.objects.first().revision == rule.version


def test_with_a_reason_it_is_done(client, rule):
    planned_at = client.get(page("change", rule.version)).context["plan"].revision
    answer = client.post(page("change", rule.version), {"change_reason": REASON, "planned_at": planned_at})
    row = ConfigurationAuditLog.objects.first()
    assert answer.status_code == 302
    assert "Undone: 1 updated" in said(answer)
    assert (row.source, row.change_reason, AnalysisRule.objects.get().severity) == ("admin", REASON, "high")


def test_without_a_reason_nothing_is_done(client, rule):
    answer = client.post(page("change", rule.version), {"change_reason": " "})
    assert "Say why you make this change." in text(answer)
    assert AnalysisRule.objects.get().severity == "low"


def test_a_plan_that_is_out_of_date_is_shown_anew(client, rule):
    make_persona("late", rule_types=[])
    answer = client.post(page("change", rule.version), {"change_reason": REASON, "planned_at": rule.version})
    assert "plan it again" in text(answer)
    assert AnalysisRule.objects.get().severity == "low"


def test_what_stands_against_it_is_said(client, rule):
    wrong = rule.version
    rule.severity = "medium"
    rule.save()
    shown = text(client.get(page("change", wrong)))
    assert "cannot be undone" in shown
    assert f"changed again since, in revision {rule.version}" in shown


def test_going_back_to_a_revision_takes_everything_later_back(client, rule):
    start = rule.version
    late = make_rule()
    planned_at = client.get(page("since", start)).context["plan"].revision
    client.post(page("since", start), {"change_reason": REASON, "planned_at": planned_at})
    assert not AnalysisRule.objects.filter(pk=late.pk).exists()
    assert AnalysisRule.objects.get().pk == rule.pk


def test_a_revision_that_is_not_there_leads_back(client, rule):
    assert client.get(page("change", 99_999)).status_code == 302
    assert client.get(page("something", rule.version)).status_code == 302


def test_an_auditor_sees_that_the_change_is_not_his_to_undo(rule):
    auditor = sign_in(make_user("auditor"))
    assert "You may not change" in text(auditor.get(page("change", rule.version)))
    auditor.post(page("change", rule.version), {"change_reason": REASON})
    assert AnalysisRule.objects.get().severity == "low"
