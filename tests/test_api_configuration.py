"""The configuration in force, exports and overrides over HTTP."""

import json
from datetime import timedelta

import pytest
import yaml
from django.db import models
from django.utils import timezone

from overrides.effective import load_configuration
from tests.factories import api_client, make_override, make_persona, make_rule, make_user
from tests.rest import CONFIG, NEW_RULE, RULES, expect_problem, names, revision

pytestmark = pytest.mark.django_db
CONFIGURATION = f"{CONFIG}/configuration"
OVERRIDES = f"{CONFIG}/governance-overrides"
EXPORT = f"{CONFIG}/export"


@pytest.fixture
def viewer():
    return api_client(make_user("viewer"))


def test_the_configuration_is_whole_and_tagged(viewer):
    make_persona("security")
    rule = make_rule()
    response = viewer.get(CONFIGURATION)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    body = json.loads(response.content)
    assert body["revision"] == revision()
    assert [item["name"] for item in body["rules"]] == [rule.name]
    assert body["rules"][0]["personas"] == ["security"]
    assert {item["name"] for item in body["plugins"]} >= {"patterns"}
    assert [item["name"] for item in body["personas"]] == ["security"]
    assert [item["persona"] for item in body["assignments"]] == ["security"]
    assert body["overrides"] == [] and body["valid_until"] is None and body["evaluated_at"]
    assert response["ETag"].startswith('"')


def test_an_edit_shows_in_the_next_reading(viewer):
    rule = make_rule(severity="low")
    before = viewer.get(CONFIGURATION)
    api_client(make_user("rule editor")).patch(f"{RULES}/{rule.pk}", {"severity": "critical"})
    after = viewer.get(CONFIGURATION, headers={"If-None-Match": before["ETag"]})
    assert after.status_code == 200
    assert json.loads(after.content)["rules"][0]["severity"] == "critical"
    assert after["ETag"] != before["ETag"]


@pytest.mark.parametrize("header", ["{tag}", "W/{tag}", '"other", {tag}', '"other",W/{tag}', "*"])
def test_nothing_is_sent_while_nothing_has_changed(viewer, header):
    make_rule()
    tag = viewer.get(CONFIGURATION)["ETag"]
    response = viewer.get(CONFIGURATION, headers={"If-None-Match": header.format(tag=tag)})
    assert response.status_code == 304
    assert not response.content
    assert response["ETag"] == tag


def test_an_empty_configuration_is_an_answer_too(viewer):
    response = viewer.get(CONFIGURATION, headers={"If-None-Match": '"other"'})
    assert response.status_code == 200
    assert json.loads(response.content)["rules"] == []


def test_what_changed_since_a_revision_is_told_alone(viewer):
    make_persona("security")
    rule, gone = make_rule(severity="low"), make_rule()
    make_rule()
    before = json.loads(viewer.get(CONFIGURATION).content)
    editor = api_client(make_user("administrator"))
    editor.patch(f"{RULES}/{rule.pk}", {"severity": "critical"})
    editor.delete(f"{RULES}/{gone.pk}")
    response = viewer.get(f"{CONFIGURATION}?since={before['revision']}")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    delta = json.loads(response.content)
    assert (delta["since"], delta["revision"], delta["epoch"]) == (before["revision"], revision(), before["epoch"])
    assert [(item["name"], item["severity"]) for item in delta["changed"]["rules"]] == [(rule.name, "critical")]
    assert delta["removed"]["rules"] == [gone.name]
    assert delta["removed"]["assignments"] == [{"rule": gone.name, "persona": "security"}]
    assert delta["changed"]["plugins"] == delta["changed"]["personas"] == delta["changed"]["overrides"] == []


def test_a_delta_tells_of_overrides_that_lapsed(viewer, monkeypatch):
    rule = make_rule()
    override = make_override(rule.name, status="active", enabled=True, approved_by="chief")
    at = json.loads(viewer.get(CONFIGURATION).content)["revision"]
    moment = override.expires_at + timedelta(seconds=1)
    monkeypatch.setattr("overrides.configuration_api.load_configuration", lambda load=load_configuration: load(moment))
    delta = json.loads(viewer.get(f"{CONFIGURATION}?since={at}").content)
    assert [item["severity"] for item in delta["changed"]["rules"]] == [rule.severity]
    assert delta["removed"]["overrides"] == [override.pk]


def test_a_delta_has_a_tag_of_its_own(viewer):
    make_rule()
    whole = viewer.get(CONFIGURATION)
    at = json.loads(whole.content)["revision"]
    delta = viewer.get(f"{CONFIGURATION}?since={at}")
    assert delta["ETag"] != whole["ETag"]
    assert viewer.get(f"{CONFIGURATION}?since={at}", headers={"If-None-Match": delta["ETag"]}).status_code == 304
    assert viewer.get(f"{CONFIGURATION}?since={at}", headers={"If-None-Match": whole["ETag"]}).status_code == 200


def test_too_old_a_revision_wants_the_whole(viewer, monkeypatch):
    monkeypatch.setattr("overrides.configuration_api.MAX_CHANGES", 2)
    rule = make_rule()
    at = revision() - 2
    assert viewer.get(f"{CONFIGURATION}?since={at}").status_code == 200
    rule.delete()
    expect_problem(viewer.get(f"{CONFIGURATION}?since={at}"), 410, "gone")


def test_the_configuration_as_it_was_can_be_read_for_ever(viewer):
    rule = make_rule(severity="low")
    told = viewer.get(CONFIGURATION)
    at = json.loads(told.content)["revision"]
    api_client(make_user("administrator")).delete(f"{RULES}/{rule.pk}")
    assert json.loads(viewer.get(CONFIGURATION).content)["rules"] == []
    recalled = viewer.get(f"{CONFIGURATION}?revision={at}")
    assert recalled.status_code == 200
    assert recalled.content == told.content
    make_rule()
    again = viewer.get(f"{CONFIGURATION}?revision={at}")
    assert (again.content, again["ETag"]) == (recalled.content, recalled["ETag"])
    tagged = viewer.get(f"{CONFIGURATION}?revision={at}", headers={"If-None-Match": recalled["ETag"]})
    assert tagged.status_code == 304


def test_half_of_a_change_was_never_the_configuration(viewer):
    make_persona("security")
    make_rule()
    api_client(make_user("administrator")).post(RULES, {**NEW_RULE, "personas": ["security"]})
    last = revision()
    body = expect_problem(viewer.get(f"{CONFIGURATION}?revision={last - 1}"), 400, "invalid", "#/revision")
    assert f"ended with revision {last}" in body["detail"]


@pytest.mark.parametrize("name", ["since", "revision"])
def test_revisions_that_mean_nothing_are_refused(viewer, name):
    make_rule()
    for value in (revision() + 1, "-1", "x", "1.5", 2**63):
        expect_problem(viewer.get(f"{CONFIGURATION}?{name}={value}"), 400, "invalid", f"#/{name}")
    expect_problem(viewer.get(f"{CONFIGURATION}?since=1&revision=1"), 400, "invalid", "#/revision")
    expect_problem(viewer.get(f"{CONFIGURATION}?revision=0"), 400, "invalid", "#/revision")
    expect_problem(viewer.get(f"{CONFIGURATION}?colour=1"), 400, "invalid", "#/colour")


def test_a_past_without_its_history_is_not_made_up(viewer):
    rule = make_rule(severity="low")
    at = revision()
    rule.severity = "high"
    rule.save()
    rule.history.filter(version=at).delete()
    expect_problem(viewer.get(f"{CONFIGURATION}?revision={at}"), 409, "conflict")


def test_older_configurations_need_the_same_right():
    make_rule()
    stranger = api_client(make_user())
    for query in ("since=1", "revision=1"):
        expect_problem(stranger.get(f"{CONFIGURATION}?{query}"), 403, "forbidden")


def test_the_configuration_needs_its_own_right():
    expect_problem(api_client(make_user()).get(CONFIGURATION), 403, "forbidden")
    expect_problem(api_client().get(CONFIGURATION), 401, "unauthenticated")


def test_an_export_holds_the_rules_in_the_form_asked_for():
    make_persona("security")
    rule = make_rule()
    auditor = api_client(make_user("auditor"))
    for form, media_type, read in (
        ("yaml", "application/yaml", yaml.safe_load),
        ("json", "application/json", json.loads),
    ):
        response = auditor.get(f"{EXPORT}?format={form}")
        assert response.status_code == 200
        assert response["Content-Type"] == media_type
        assert f"configuration.{form}" in response["Content-Disposition"]
        document = read(response.content.decode())
        assert document["format"] == "code-review-governance/1"
        assert [entry["name"] for entry in document["analysis_rules"]] == [rule.name]
        assert document["persona_assignments"][0]["rule"] == rule.name
    assert auditor.get(EXPORT)["Content-Type"] == "application/yaml"
    expect_problem(auditor.get(f"{EXPORT}?format=xml"), 400, "invalid", "#/format")


def test_an_export_needs_its_own_right(viewer):
    expect_problem(viewer.get(EXPORT), 403, "forbidden")


def test_an_override_is_told_as_it_is_stored(viewer):
    override = make_override("old-rule", paths=["legacy/**"])
    response = viewer.get(f"{OVERRIDES}/{override.pk}")
    body = response.json()
    assert response["ETag"] == f'"{override.version}"'
    assert (body["rule_name"], body["target_type"], body["status"]) == ("old-rule", "analysis_rule", "proposed")
    assert body["override_config"] == {"severity": "low"} and body["paths"] == ["legacy/**"]
    assert (body["created_by"], body["approved_by"]) == ("requester", None)
    assert body["approvals"] == []
    assert [decision["decision"] for decision in body["decisions"]] == ["requested"]
    assert body["enabled"] is False and body["in_force"] is False
    assert body["expires_at"] and body["reason"]


def test_an_override_is_out_of_force_by_the_clock(viewer):
    ended = timezone.now() - timedelta(hours=1)
    override = make_override(status="active", enabled=True, approved_by="chief")
    # Two hours later: the row is as it was, the clock is not.
    models.QuerySet(type(override)).filter(pk=override.pk).update(
        created_at=ended - timedelta(hours=1), expires_at=ended
    )
    body = viewer.get(f"{OVERRIDES}/{override.pk}").json()
    assert (body["status"], body["enabled"], body["in_force"]) == ("active", True, False)


def test_overrides_are_listed_newest_first_and_filtered(viewer):
    make_override("alpha")
    make_override("two", status="active", enabled=True, approved_by="chief")
    assert names(viewer.get(OVERRIDES), "rule_name") == ["two", "alpha"]
    for query in ("status=proposed", "rule_name=alpha", "enabled=false", "target_type=analysis_rule&search=alpha"):
        assert names(viewer.get(f"{OVERRIDES}?{query}"), "rule_name") == ["alpha"], query
    expect_problem(viewer.get(f"{OVERRIDES}?status=perhaps"), 400, "invalid", "#/status")


def test_overrides_are_not_deleted_here():
    override = make_override()
    response = api_client(make_user(superuser=True)).delete(f"{OVERRIDES}/{override.pk}")
    expect_problem(response, 405, "method-not-allowed")
    assert response["Allow"] == "GET, HEAD, PUT, PATCH"


def test_overrides_need_a_right():
    override = make_override()
    stranger = api_client(make_user())
    expect_problem(stranger.get(OVERRIDES), 403, "forbidden")
    expect_problem(stranger.get(f"{OVERRIDES}/{override.pk}"), 404, "not-found")
