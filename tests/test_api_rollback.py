"""How is a change undone over HTTP and by command? Planned first, refused with reasons, never half."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from rules.models import AnalysisRule
from tests.factories import api_client, make_rule, make_user
from tests.rest import CONFIG, RULES, expect_problem

pytestmark = pytest.mark.django_db
ROLLBACK = f"{CONFIG}/rollback"


@pytest.fixture
def client():
    return api_client(make_user("administrator"))


@pytest.fixture
def rule() -> AnalysisRule:
    """A rule whose severity went from high to low."""
    rule = make_rule(severity="high")
    rule.severity = "low"
    rule.save()
    return rule


def test_a_plan_tells_what_would_happen_and_writes_nothing(client, rule):
    response = client.post(ROLLBACK, {"change": rule.version, "mode": "plan"})
    assert response.status_code == 200, response.content
    (step,) = response.json()["steps"]
    assert (step["action"], step["entity_name"]) == ("update", rule.name)
    assert step["fields"] == {"severity": {"old": "low", "new": "high"}}
    assert response.json()["revision"] == current_revision() == rule.version
    assert "X-Revision" not in response


def test_applying_writes_one_change_set_with_who_and_why(client, rule):
    response = client.post(ROLLBACK, {"change": rule.version, "mode": "apply", "change_reason": "wrong rule"})
    assert response.status_code == 200, response.content
    row = ConfigurationAuditLog.objects.first()
    assert response["X-Revision"] == str(row.revision) == str(response.json()["revision"])
    assert (row.source, row.change_reason, row.change_type) == ("api", "wrong rule", "rule_updated")
    assert client.get(f"{RULES}/{rule.pk}").json()["severity"] == "high"


def test_an_apply_after_somebody_elses_change_is_409(client, rule):
    plan = client.post(ROLLBACK, {"change": rule.version, "mode": "plan"}).json()
    make_rule()
    body = {"change": rule.version, "mode": "apply", "planned_at": plan["revision"]}
    expect_problem(client.post(ROLLBACK, body), 409, "conflict")


def test_everything_that_stands_against_it_is_named(client, rule):
    wrong = rule.version
    rule.severity = "medium"
    rule.save()
    body = expect_problem(client.post(ROLLBACK, {"change": wrong, "mode": "apply"}), 409, "conflict")
    assert f"in revision {rule.version}" in body["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"mode": "plan"}, "#"),
        ({"mode": "plan", "change": 1, "to_revision": 1}, "#"),
        ({"mode": "look", "change": 1}, "#/mode"),
        ({"mode": "plan", "change": "one"}, "#/change"),
        ({"mode": "plan", "batch": "x"}, "#/batch"),
        ({"mode": "plan", "to_time": "yesterday"}, "#/to_time"),
        ({"mode": "plan", "change": 99_999}, "#/change"),
        ({"mode": "plan", "to_revision": 99_999}, "#/to_revision"),
        ({"mode": "plan", "change": 1, "force": True}, "#/force"),
    ],
)
def test_a_mistake_is_named_by_its_place(client, body, pointer):
    expect_problem(client.post(ROLLBACK, body), 400, "invalid", pointer)


def test_without_the_right_to_change_the_rule_it_is_403(rule):
    client = api_client(make_user("auditor"))
    body = {"change": rule.version, "mode": "plan"}
    assert rule.name in expect_problem(client.post(ROLLBACK, body), 403, "forbidden")["detail"]


def test_the_command_plans_and_applies(rule, capsys):
    out = StringIO()
    call_command("rollback_config", change=rule.version, plan=True, stdout=out)
    assert out.getvalue().splitlines() == [f"~ analysis_rule {rule.name}", '    severity: "low" -> "high"']
    assert "Nothing was written" in capsys.readouterr().err
    call_command("rollback_config", change=rule.version, apply=True, reason="wrong rule")
    assert AnalysisRule.objects.get().severity == "high"
    row = ConfigurationAuditLog.objects.first()
    assert (row.source, row.changed_by, row.change_reason) == ("command", "system", "wrong rule")


def test_the_command_says_why_it_refuses_and_fails(rule, capsys):
    wrong = rule.version
    rule.severity = "medium"
    rule.save()
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("rollback_config", change=wrong, apply=True, stdout=out)
    assert ended.value.code == 1
    assert "was changed again since" in out.getvalue()
    with pytest.raises(CommandError, match="There is no revision 99999"):
        call_command("rollback_config", change=99_999, plan=True)


def test_the_command_writes_json_for_scripts(rule, capsys):
    out = StringIO()
    call_command("rollback_config", to=rule.version - 1, plan=True, format="json", stdout=out)
    assert json.loads(out.getvalue())["steps"][0]["fields"]["severity"] == {"old": "low", "new": "high"}
