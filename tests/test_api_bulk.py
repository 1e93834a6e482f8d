"""Many rules at once: all or nothing, each mistake at its place, few questions to the database."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import ConfigurationAuditLog
from audit.permissions import grant
from rules.models import AnalysisRule
from tests.factories import api_client, make_plugins, make_rule, make_user
from tests.rest import RULES, expect_problem, revision

pytestmark = pytest.mark.django_db
BULK = f"{RULES}/bulk"


@pytest.fixture
def editor():
    make_plugins()
    return api_client(make_user("rule editor", username="editor"))


def severities():
    return list(AnalysisRule.objects.order_by("pk").values_list("severity", flat=True))


def test_several_rules_change_in_one_batch(editor):
    rules = [make_rule(severity="high") for _ in range(3)]
    before = revision()
    response = editor.post(
        BULK,
        {
            "updates": [
                {"id": rules[0].pk, "severity": "low", "version": rules[0].version},
                {"id": rules[1].pk, "severity": "high"},
                {"id": rules[2].pk, "enabled": False, "tags": ["old"]},
            ],
            "change_reason": "spring cleaning",
        },
    )
    assert response.status_code == 200, response.content
    assert response.json() == {
        "applied": 2,
        "results": [
            {"id": rules[0].pk, "status": "updated"},
            {"id": rules[1].pk, "status": "unchanged"},
            {"id": rules[2].pk, "status": "updated"},
        ],
    }
    assert response["X-Revision"] == str(before + 2) == str(revision())
    assert severities() == ["low", "high", "high"]
    rows = ConfigurationAuditLog.objects.filter(revision__gt=before)
    assert {row.change_reason for row in rows} == {"spring cleaning"}
    assert len({row.batch for row in rows}) == 1
    assert {row.changed_by for row in rows} == {"editor"}


def test_nothing_changes_when_one_entry_is_wrong_and_each_mistake_is_named(editor):
    rules = [make_rule() for _ in range(3)]
    before = revision()
    response = editor.post(
        BULK,
        {
            "updates": [
                {"id": rules[0].pk, "severity": "low"},
                {"id": rules[1].pk, "severity": "terrible"},
                {"severity": "low"},
                {"id": rules[2].pk, "colour": "red", "enabled": 1},
                {"id": rules[0].pk, "severity": "info"},
                {"id": str(rules[1].pk)},
            ]
        },
    )
    places = ["1/severity", "2/id", "3/colour", "3/enabled", "4/id", "5/id"]
    body = expect_problem(response, 400, "invalid", *(f"#/updates/{place}" for place in places))
    codes = {entry["pointer"]: entry["code"] for entry in body["errors"]}
    assert codes["#/updates/4/id"] == "duplicate"
    assert severities() == ["high"] * 3
    assert revision() == before


def test_what_the_model_refuses_is_named_at_its_entry(editor):
    rules = [make_rule() for _ in range(2)]
    response = editor.post(
        BULK,
        {
            "updates": [
                {"id": rules[0].pk, "severity": "low"},
                {"id": rules[1].pk, "configuration": {"pattern": "("}, "tags": ["Bad Tag"]},
            ]
        },
    )
    body = expect_problem(response, 400, "invalid")
    found = {entry["pointer"] for entry in body["errors"]}
    assert "#/updates/1/tags/0" in found
    assert any(pointer.startswith("#/updates/1/configuration") for pointer in found)
    assert not any(pointer.startswith("#/updates/0") for pointer in found)
    assert severities() == ["high"] * 2


def test_the_name_of_a_rule_is_fixed_in_bulk_too(editor):
    rule = make_rule()
    response = editor.post(BULK, {"updates": [{"id": rule.pk, "name": "other"}]})
    expect_problem(response, 400, "invalid", "#/updates/0/name")


def test_an_unknown_plugin_is_named_at_its_entry(editor):
    rule = make_rule()
    response = editor.post(BULK, {"updates": [{"id": rule.pk, "plugin": "magic"}]})
    body = expect_problem(response, 400, "invalid")
    assert {entry["pointer"] for entry in body["errors"]} == {"#/updates/0/plugin"}


def test_personas_are_not_changed_in_bulk(editor):
    rule = make_rule()
    response = editor.post(BULK, {"updates": [{"id": rule.pk, "personas": []}]})
    expect_problem(response, 400, "invalid", "#/updates/0/personas")


def test_unknown_rules_are_named(editor):
    rule = make_rule()
    response = editor.post(
        BULK, {"updates": [{"id": rule.pk, "severity": "low"}, {"id": 2**62, "severity": "low"}, {"id": 2**64}]}
    )
    expect_problem(response, 400, "invalid", "#/updates/2/id")
    response = editor.post(BULK, {"updates": [{"id": rule.pk, "severity": "low"}, {"id": 2**62, "severity": "low"}]})
    body = expect_problem(response, 400, "invalid", "#/updates/1/id")
    assert body["errors"][0]["code"] == "does_not_exist"
    assert severities() == ["high"]


def test_stale_versions_are_named_and_nothing_changes(editor):
    rules = [make_rule() for _ in range(2)]
    response = editor.post(
        BULK,
        {
            "updates": [
                {"id": rules[0].pk, "severity": "low", "version": rules[0].version},
                {"id": rules[1].pk, "severity": "low", "version": rules[1].version - 1},
            ]
        },
    )
    body = expect_problem(response, 412, "stale", "#/updates/1/version")
    assert body["errors"][0]["code"] == "stale"
    assert severities() == ["high"] * 2


def test_rules_that_one_may_not_change_are_named_and_hidden_ones_are_unknown():
    mine, seen, hidden = make_rule(), make_rule(name="only-seen"), make_rule()
    user = make_user()
    grant(action="view", holder=user, target=mine)
    grant(action="change", holder=user, target=mine)
    grant(action="view", holder=user, target=seen)
    client = api_client(user)
    updates = [{"id": rule.pk, "severity": "low"} for rule in (mine, seen, hidden)]
    expect_problem(client.post(BULK, {"updates": updates}), 400, "invalid", "#/updates/2/id")
    body = expect_problem(client.post(BULK, {"updates": updates[:2]}), 403, "forbidden", "#/updates/1")
    assert "only-seen" in body["errors"][0]["detail"]
    assert severities() == ["high"] * 3
    assert client.post(BULK, {"updates": updates[:1]}).json()["applied"] == 1


@pytest.mark.parametrize("updates", [[], None, {}, "x", [1], [None]])
def test_updates_must_be_a_list_of_objects(editor, updates):
    expect_problem(editor.post(BULK, {"updates": updates}), 400, "invalid")


def test_at_most_a_thousand_at_once(editor):
    updates = [{"id": key, "severity": "low"} for key in range(1, 1002)]
    expect_problem(editor.post(BULK, {"updates": updates}), 400, "invalid", "#/updates")


def test_a_bulk_change_asks_as_many_questions_for_many_as_for_few(editor):
    def count(rules):
        updates = [{"id": rule.pk, "severity": "low"} for rule in rules]
        with CaptureQueriesContext(connection) as captured:
            response = editor.post(BULK, {"updates": updates})
        assert response.json()["applied"] == len(rules)
        return len(captured)

    few = count([make_rule() for _ in range(2)])
    assert count([make_rule() for _ in range(20)]) == few


def test_bulk_is_a_post(editor):
    response = editor.get(BULK)
    expect_problem(response, 405, "method-not-allowed")
    assert response["Allow"] == "POST"
