"""A document whose refused entries become requests: by API, admin and command, all of it or nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audit.exchange import FORMAT, dump
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR
from governance_config.proposals import propose
from overrides import approvals
from overrides.models import GovernanceRuleOverride
from overrides.validation import find_patch, merge_patch
from personas.models import Persona
from rules.models import AnalysisRule
from tests.admin_client import REASON, said, sign_in, text
from tests.factories import (
    api_client,
    make_governance_rule,
    make_persona,
    make_preset,
    make_rule,
    make_user,
)
from tests.rest import CONFIG, expect_problem, revision

pytestmark = pytest.mark.django_db
IMPORT = f"{CONFIG}/import"
PAGE = "/admin/governance_config/preset/import/"


@pytest.fixture
def guarded():
    """A rule that takes an approved override to be switched off or made less severe than high."""
    make_persona()
    make_governance_rule(
        "stays-on",
        enforcement="require_override",
        condition="new != null && old != null ? new.enabled && new.severity == 'high' && new.title == 'No eval' : true",
        examples={"pass": [{"old": None, "new": None}], "fail": [{"old": {}, "new": {"enabled": False}}]},
    )
    return make_rule(severity="high")


def write(**sections) -> dict:
    return {"format": FORMAT, **sections}


def switch_off(rule, **others) -> dict:
    return write(analysis_rules=[{"name": rule.name, "enabled": False}], **others)


def in_days(days: int) -> str:
    return (timezone.now() + timedelta(days=days)).isoformat()


def ask(document, **fields) -> dict:
    return {
        "document": document,
        "mode": "propose",
        "change_reason": REASON,
        "expires_at": in_days(30),
        **fields,
    }


# Through the API


def test_a_request_stands_for_the_entry_and_the_others_are_applied(guarded):
    user = make_user("administrator")
    client = api_client(user)
    before = revision()
    body = ask(switch_off(guarded, personas=[{"name": "guest", "title": "The guest"}]))
    response = client.post(IMPORT, body)
    told = response.json()
    assert response.status_code == 200, told
    assert (told["counts"]["created"], told["counts"]["proposed"], told["problems"]) == (1, 1, [])
    step = next(step for step in told["steps"] if step["name"] == guarded.name)
    override = GovernanceRuleOverride.objects.get()
    assert (step["status"], step["override"], step["needs_override"]) == ("proposed", override.pk, False)
    assert step["fields"] == {"enabled": {"old": True, "new": False}}
    assert (override.rule_name, override.override_config) == (guarded.name, {"enabled": False})
    assert (override.status, override.created_by, override.reason) == ("proposed", user.username, REASON)
    assert override.expires_at == parse_datetime(body["expires_at"])
    assert Persona.objects.filter(name="guest").exists()
    assert AnalysisRule.objects.get(pk=guarded.pk).enabled
    rows = ConfigurationAuditLog.objects.filter(revision__gt=before)
    assert {row.entity_type for row in rows} == {"persona", "governance_override"}
    assert len({row.batch for row in rows}) == 1
    assert response["X-Revision"] == str(told["revision"]) == str(revision())


def test_a_request_can_be_approved_and_is_then_in_force(guarded):
    asked = api_client(make_user("administrator")).post(IMPORT, ask(switch_off(guarded))).json()
    key = asked["steps"][0]["override"]
    approved = api_client(make_user("administrator")).post(f"{CONFIG}/governance-overrides/{key}/approve", {})
    assert approved.status_code == 200, approved.json()
    assert GovernanceRuleOverride.objects.get(pk=key).enabled


def test_the_same_document_once_more_asks_for_nothing_anew(guarded):
    client = api_client(make_user("administrator"))
    body = ask(switch_off(guarded))
    first = client.post(IMPORT, body).json()
    before = revision()
    again = client.post(IMPORT, body).json()
    assert again["steps"][0]["override"] == first["steps"][0]["override"]
    assert revision() == before
    other = ask(switch_off(guarded), expires_at=in_days(60))
    longer = client.post(IMPORT, other).json()
    assert longer["steps"][0]["override"] != first["steps"][0]["override"]


def test_what_can_neither_be_applied_nor_requested_refuses_all_and_is_named(guarded):
    client = api_client(make_user("administrator"))
    another = make_rule(severity="high")
    document = switch_off(guarded, personas=[{"name": "guest"}])
    document["analysis_rules"].append({"name": another.name, "title": "Another title", "enabled": False})
    before = revision()
    body = expect_problem(client.post(IMPORT, ask(document)), 409, "conflict", "#/document/analysis_rules/1")
    assert another.name in body["detail"] and "cannot be filed as a request" in body["detail"]
    assert revision() == before


def test_what_is_blocked_or_wrong_is_not_requested(guarded):
    client = api_client(make_user("administrator"))
    make_governance_rule()
    document = switch_off(guarded)
    document["analysis_rules"].append({"name": make_rule().name, "severity": "info"})
    before = revision()
    expect_problem(client.post(IMPORT, ask(document)), 409, "conflict")
    text_of_mistake = f"format: {FORMAT}\nanalysis_rules:\n- name: {guarded.name}\n  severity: dreadful\n"
    body = expect_problem(client.post(IMPORT, ask(text_of_mistake)), 400, "invalid")
    assert body["errors"][0]["line"] == 4
    assert revision() == before


def test_a_request_says_why_and_when_it_ends_even_if_nothing_comes_of_it(guarded):
    client = api_client(make_user("administrator"))
    for fields, place in (
        ({"change_reason": " "}, "#/change_reason"),
        ({"expires_at": in_days(-1)}, "#/expires_at"),
        ({"expires_at": in_days(5000)}, "#/expires_at"),
        ({"expires_at": "soon"}, "#/expires_at"),
        ({"mode": "apply"}, "#/expires_at"),
        ({"mode": "plan"}, "#/expires_at"),
    ):
        expect_problem(client.post(IMPORT, ask(switch_off(guarded), **fields)), 400, "invalid", place)
    body = ask(write())
    del body["expires_at"]
    expect_problem(client.post(IMPORT, body), 400, "invalid", "#/expires_at")
    assert not GovernanceRuleOverride.objects.exists()


def test_without_the_right_to_ask_for_overrides_nothing_is_requested(guarded):
    user = make_user("rule editor")
    taken = Permission.objects.get(codename="add_governanceruleoverride")
    Group.objects.get(name="rule editor").permissions.remove(taken)
    client = api_client(user)
    before = revision()
    body = expect_problem(client.post(IMPORT, ask(switch_off(guarded))), 403, "forbidden")
    assert "override" in body["detail"]
    assert revision() == before


def test_what_has_moved_since_the_plan_is_not_requested(guarded):
    client = api_client(make_user("administrator"))
    planned = client.post(IMPORT, {"document": switch_off(guarded), "mode": "plan"}).json()
    assert planned["steps"][0]["needs_override"] is True
    make_persona("other")
    body = ask(switch_off(guarded), planned_at=planned["revision"])
    expect_problem(client.post(IMPORT, body), 409, "conflict")
    assert not GovernanceRuleOverride.objects.exists()


def test_a_preset_is_proposed_like_a_document(guarded):
    make_preset("calm", document=dump(switch_off(guarded)))
    client = api_client(make_user("administrator"))
    address = f"{CONFIG}/presets/calm/apply"
    body = {"change_reason": REASON, "expires_at": in_days(30)}
    expect_problem(client.post(address, {}), 409, "conflict")
    expect_problem(client.post(address, body), 400, "invalid", "#/expires_at")
    response = client.post(address, {**body, "mode": "propose"})
    assert response.status_code == 200
    assert response.json()["steps"][0]["override"] == GovernanceRuleOverride.objects.get().pk


def test_more_entries_than_governance_refuses_at_once_are_all_requested(guarded):
    rules = [guarded, *(make_rule(severity="high") for _ in range(60))]
    document = write(analysis_rules=[{"name": rule.name, "severity": "low"} for rule in rules])
    told = api_client(make_user("administrator")).post(IMPORT, ask(document)).json()
    assert told["counts"]["proposed"] == 61
    assert GovernanceRuleOverride.objects.count() == 61


def test_more_requests_than_somebody_reads_are_refused(guarded, monkeypatch):
    monkeypatch.setattr("governance_config.proposals.MAX_REQUESTS", 1)
    rules = [guarded, make_rule(severity="high")]
    document = write(analysis_rules=[{"name": rule.name, "severity": "low"} for rule in rules])
    body = expect_problem(api_client(make_user("administrator")).post(IMPORT, ask(document)), 400, "invalid")
    assert "divide the document" in body["detail"]


def test_a_request_that_is_refused_takes_the_applied_entries_with_it(guarded, monkeypatch):
    def refuse(**_):
        raise approvals.NotPermitted("You may not ask for this.")

    monkeypatch.setattr(approvals, "request", refuse)
    client = api_client(make_user("administrator"))
    before = revision()
    document = switch_off(guarded, personas=[{"name": "guest"}])
    expect_problem(client.post(IMPORT, ask(document)), 403, "forbidden")
    assert revision() == before
    assert not Persona.objects.filter(name="guest").exists()


# What a request can say


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}}),
        ({"a": [1, 2]}, {"a": [None], "b": {}}),
        ("high", "low"),
        ({"a": {"b": 1}}, {"a": 7}),
        ({"a": True}, {"a": 1}),
    ],
)
def test_a_patch_makes_the_new_of_the_old(old, new):
    assert json.dumps(merge_patch(old, find_patch(old, new)), sort_keys=True) == json.dumps(new, sort_keys=True)


@pytest.mark.parametrize("new", [{"a": None}, {"a": {"b": None}}])
def test_no_patch_sets_null(new):
    with pytest.raises(ValueError, match="no merge patch"):
        find_patch({"a": 1}, new)


def test_only_what_an_override_may_change_is_requested(guarded):
    document = write(
        analysis_rules=[{"name": guarded.name, "severity": "low", "configuration": {"pattern": r"\beval\s*\("}}]
    )
    plan = propose(document, user=SYSTEM_ACTOR, reason=REASON, expires_at=timezone.now() + timedelta(days=30))
    override = GovernanceRuleOverride.objects.get(pk=plan.steps[0].override)
    assert override.override_config == {"severity": "low", "configuration": {"pattern": r"\beval\s*\("}}


# The admin


def test_the_admin_offers_to_file_requests_asks_until_when_and_files_them(guarded):
    browser = sign_in(make_user("administrator"))
    document = dump(switch_off(guarded, personas=[{"name": "guest", "title": "The guest"}]))
    page = browser.post(PAGE, {"text": document})
    assert "takes an approved override" in text(page) and "File as requests" in text(page)
    sent = {"document": document, "planned_at": page.context["plan"].revision, "mode": "propose"}
    lacking = browser.post(PAGE, {**sent, "change_reason": REASON})
    assert "This field is required" in text(lacking)
    past = browser.post(PAGE, {**sent, "change_reason": REASON, "expires_at": "2020-01-01"})
    assert "This has passed" in text(past)
    assert not GovernanceRuleOverride.objects.exists()
    end = (timezone.now() + timedelta(days=30)).date()
    done = browser.post(PAGE, {**sent, "change_reason": REASON, "expires_at": end.isoformat()})
    assert done.status_code == 302
    override = GovernanceRuleOverride.objects.get()
    assert f"{guarded.name} ({override.pk})" in said(done) and "1 proposed" in said(done)
    assert (override.expires_at.date(), override.reason) == (end, REASON)
    assert Persona.objects.filter(name="guest").exists()


def test_the_admin_offers_no_requests_where_they_would_be_refused(guarded):
    browser = sign_in(make_user("administrator"))
    retitled = write(analysis_rules=[{"name": guarded.name, "title": "Another title"}])
    free = write(personas=[{"name": "guest"}])
    for document in (retitled, free):
        page = browser.post(PAGE, {"text": dump(document)})
        assert page.status_code == 200
        assert "File as requests" not in text(page)


# The command


def test_the_command_files_requests_and_tells_their_numbers(guarded, tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text(dump(switch_off(guarded, personas=[{"name": "guest"}])))
    out = StringIO()
    ada = make_user("administrator", username="ada")
    arguments = [str(file), "--propose", "--as", ada.username]
    end = (timezone.now() + timedelta(days=30)).date().isoformat()
    call_command("import_config", *arguments, "--expires", end, "--reason", "from staging", stdout=out)
    override = GovernanceRuleOverride.objects.get()
    assert f"? analysis_rules {guarded.name} (request {override.pk})" in out.getvalue()
    assert "+ personas guest" in out.getvalue()
    assert "1 proposed" in capsys.readouterr().err
    assert (override.created_by, override.reason) == ("ada", "from staging")
    assert override.expires_at.date().isoformat() == end


def test_the_command_asks_for_an_end_and_a_reason_and_takes_no_end_for_anything_else(guarded, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(dump(switch_off(guarded)))
    for arguments in (
        ["--propose", "--reason", "x"],
        ["--propose", "--expires", "2030-01-31"],
        ["--apply", "--expires", "2030-01-31", "--reason", "x"],
    ):
        with pytest.raises(CommandError, match="--expires") as refused:
            call_command("import_config", str(file), *arguments, stdout=StringIO())
        assert refused.value.returncode == 2
    with pytest.raises(CommandError, match="Refused, nothing was written") as refused:
        call_command("import_config", str(file), "--propose", "--expires", "2020-01-01", "--reason", "x")
    assert refused.value.returncode == 1
    assert not GovernanceRuleOverride.objects.exists()
