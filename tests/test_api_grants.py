"""Rights on single objects: given, listed, taken away, in force at once, and kept by who creates."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import ConfigurationAuditLog
from audit.permissions import grant
from tests.factories import api_client, make_governance_rule, make_persona, make_rule, make_user
from tests.rest import CONFIG, NEW_RULE, PERSONAS, RULES, expect_problem, last_change, names, revision

pytestmark = pytest.mark.django_db
GRANTS = f"{CONFIG}/grants"


@pytest.fixture
def boss():
    return api_client(make_user("administrator", username="otto"))


@pytest.fixture
def rule():
    return make_rule()


def wish(rule, **changes):
    wanted = {"entity_type": "analysis_rule", "entity_id": rule.pk, "user": "anna", "permission": "view", **changes}
    return {name: value for name, value in wanted.items() if value is not None}


def test_a_right_is_given_used_listed_and_taken_away(boss, rule):
    other, anna = make_rule(), make_user(username="anna")
    client = api_client(anna)
    expect_problem(client.get(f"{RULES}/{rule.pk}"), 404, "not-found")
    response = boss.post(GRANTS, wish(rule, change_reason="she looks after it"))
    assert response.status_code == 201, response.content
    told = {
        "entity_type": "analysis_rule",
        "entity_id": str(rule.pk),
        "entity_name": rule.name,
        "user": "anna",
        "role": None,
        "permission": "view",
    }
    assert response.json() == told
    row = last_change()
    assert (row.change_type, row.changed_by, row.change_reason) == ("grant_added", "otto", "she looks after it")
    assert response["X-Revision"] == str(row.revision)
    assert client.get(f"{RULES}/{rule.pk}").status_code == 200
    assert names(client.get(RULES)) == [rule.name]
    expect_problem(client.get(f"{RULES}/{other.pk}"), 404, "not-found")
    expect_problem(client.patch(f"{RULES}/{rule.pk}", {"severity": "low"}), 403, "forbidden")
    assert boss.get(GRANTS).json()["results"] == [told]
    response = boss.delete(GRANTS, wish(rule, change_reason="no more"))
    assert response.status_code == 204 and response.content == b""
    assert (last_change().change_type, last_change().change_reason) == ("grant_removed", "no more")
    expect_problem(client.get(f"{RULES}/{rule.pk}"), 404, "not-found")
    assert boss.get(GRANTS).json()["results"] == []


def test_a_right_that_is_given_twice_is_answered_with_200_and_leaves_no_row(boss, rule):
    make_user(username="anna")
    assert boss.post(GRANTS, wish(rule)).status_code == 201
    before = revision()
    assert boss.post(GRANTS, wish(rule)).status_code == 200
    assert revision() == before


def test_a_right_is_taken_away_by_the_query_too(boss, rule):
    make_user(username="anna")
    boss.post(GRANTS, wish(rule))
    query = f"entity_type=analysis_rule&entity_id={rule.pk}&user=anna&permission=view&change_reason=enough"
    assert boss.delete(f"{GRANTS}?{query}").status_code == 204
    assert last_change().change_reason == "enough"
    expect_problem(boss.delete(f"{GRANTS}?{query}"), 404, "not-found")


def test_a_role_holds_rights_on_single_objects(boss):
    persona = make_persona("security")
    response = boss.post(
        GRANTS, {"entity_type": "persona", "entity_id": "security", "role": "viewer", "permission": "change"}
    )
    assert response.status_code == 201, response.content
    client = api_client(make_user("viewer"))
    assert client.patch(f"{PERSONAS}/security", {"voice": "Calm."}).status_code == 200
    persona.refresh_from_db()
    assert persona.voice == "Calm."


def test_the_list_is_narrowed_by_kind_object_holder_and_right(boss, rule):
    anna, persona = make_user(username="anna"), make_persona("security")
    group = Group.objects.get(name="viewer")
    grant(action="view", holder=anna, target=rule)
    grant(action="change", holder=anna, target=rule)
    grant(action="view", holder=anna, target=persona)
    grant(action="change", holder=group, target=rule)

    def found(query: str):
        body = boss.get(f"{GRANTS}?{query}").json()
        assert body["count"] == len(body["results"])
        return [(row["entity_type"], row["user"] or row["role"], row["permission"]) for row in body["results"]]

    assert sorted(found("user=anna")) == [
        ("analysis_rule", "anna", "change"),
        ("analysis_rule", "anna", "view"),
        ("persona", "anna", "view"),
    ]
    assert found("role=viewer") == [("analysis_rule", "viewer", "change")]
    assert found("entity_type=persona") == [("persona", "anna", "view")]
    assert len(found(f"entity_type=analysis_rule&entity_id={rule.pk}")) == 3
    assert len(found("permission=change")) == 2
    assert found("entity_type=analysis_rule&entity_id=nonsense") == []
    page = boss.get(f"{GRANTS}?limit=3").json()
    assert (page["count"], len(page["results"])) == (4, 3)
    rest = boss.get(page["next"]).json()
    assert len(rest["results"]) == 1 and rest["next"] is None
    assert rest["results"][0] not in page["results"]
    expect_problem(boss.get(f"{GRANTS}?who=anna"), 400, "invalid", "#/who")


def test_a_list_of_many_grants_takes_as_many_queries_as_one_of_few(boss):
    counts = []
    for _ in range(2):
        for _ in range(6):
            grant(action="view", holder=make_user(), target=make_rule())
        with CaptureQueriesContext(connection) as captured:
            boss.get(GRANTS)
        counts.append(len(captured))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"entity_type": "user"}, "#/entity_type"),
        ({"entity_id": "99999"}, "#/entity_id"),
        ({"entity_id": "x"}, "#/entity_id"),
        ({"entity_id": "no-eval"}, "#/entity_id"),
        ({"entity_id": True}, "#/entity_id"),
        ({"user": "nobody"}, "#/user"),
        ({"user": None}, "#/user"),
        ({"role": "viewer"}, "#/user"),
        ({"user": None, "role": "king"}, "#/role"),
        ({"permission": "add"}, "#/permission"),
        ({"permission": "toggle"}, "#/permission"),
        ({"permission": None}, "#/permission"),
        ({"colour": "red"}, "#/colour"),
    ],
)
def test_a_mistake_is_named(boss, rule, changes, pointer):
    make_user(username="anna")
    make_rule(name="no-eval")
    before = revision()
    for send in (boss.post, boss.delete):
        expect_problem(send(GRANTS, wish(rule, **changes)), 400, "invalid", pointer)
    assert revision() == before


def test_only_who_manages_accounts_gives_rights(rule):
    anna = make_user(username="anna")
    for client in (api_client(make_user("rule editor")), api_client(make_user("auditor")), api_client(anna)):
        for response in (client.get(GRANTS), client.post(GRANTS, wish(rule)), client.delete(GRANTS, wish(rule))):
            expect_problem(response, 403, "forbidden")
    assert not ConfigurationAuditLog.objects.filter(entity_type="grant").exists()


def test_nobody_gives_a_right_that_he_does_not_have(rule):
    make_user(username="anna")
    manager = make_user("viewer")
    manager.user_permissions.add(*Permission.objects.filter(codename__in=["view_user", "change_user"]))
    client = api_client(manager)
    assert client.post(GRANTS, wish(rule)).status_code == 201
    expect_problem(client.post(GRANTS, wish(rule, permission="delete")), 403, "forbidden")


def test_an_object_that_the_giver_may_not_see_is_unknown_to_him(rule):
    make_user(username="anna")
    manager = make_user()
    manager.user_permissions.add(*Permission.objects.filter(codename__in=["view_user", "change_user"]))
    expect_problem(api_client(manager).post(GRANTS, wish(rule)), 400, "invalid", "#/entity_id")


def test_an_administrator_still_manages_who_holds_a_grant(boss, rule):
    make_user(username="anna")
    boss.post(GRANTS, wish(rule))
    assert boss.patch(f"{CONFIG}/users/anna", {"is_active": False}).status_code == 200


# Whoever creates


def give(user, *codenames: str):
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return user


def test_who_may_only_add_keeps_what_he_creates_and_nothing_else(rule):
    anna = give(make_user(username="anna"), "add_analysisrule")
    client = api_client(anna)
    response = client.post(RULES, {**NEW_RULE, "change_reason": "mine"})
    assert response.status_code == 201, response.content
    address = f"{RULES}/{response.json()['id']}"
    batch = ConfigurationAuditLog.objects.filter(batch=last_change().batch)
    assert sorted(row.entity_name.split()[1] for row in batch.filter(change_type="grant_added")) == [
        "change_analysisrule",
        "delete_analysisrule",
        "view_analysisrule",
    ]
    assert {row.change_reason for row in batch} == {"mine"}
    assert {row.changed_by for row in batch} == {"anna"}
    assert names(client.get(RULES)) == ["no-eval"]
    assert client.patch(address, {"severity": "low"}).status_code == 200
    expect_problem(client.patch(f"{RULES}/{rule.pk}", {"severity": "low"}), 404, "not-found")
    assert client.delete(address).status_code == 204


def test_who_may_change_all_gets_no_right_on_one():
    make_persona("security")
    for user in (make_user("rule editor"), make_user(superuser=True)):
        make_rule()
        response = api_client(user).post(RULES, {**NEW_RULE, "name": f"no-eval-{user.pk}"})
        assert response.status_code == 201, response.content
    assert not ConfigurationAuditLog.objects.filter(entity_type="grant").exists()


def test_who_sees_all_is_granted_only_what_he_lacks():
    anna = give(make_user("viewer"), "add_persona")
    assert api_client(anna).post(PERSONAS, {"name": "newcomer"}).status_code == 201
    rows = ConfigurationAuditLog.objects.filter(change_type="grant_added")
    assert sorted(row.new_config["permission"] for row in rows) == ["change_persona", "delete_persona"]


def test_a_rollback_gives_no_rights(boss):
    anna = give(make_user("viewer"), "add_persona")
    api_client(anna).post(PERSONAS, {"name": "newcomer"})
    api_client(anna).delete(f"{PERSONAS}/newcomer")
    deleted = ConfigurationAuditLog.objects.get(change_type="persona_deleted")
    given = ConfigurationAuditLog.objects.filter(change_type="grant_added").count()
    response = api_client(anna).post(f"{CONFIG}/rollback", {"change": deleted.revision, "mode": "apply"})
    assert response.status_code == 200, response.content
    assert ConfigurationAuditLog.objects.filter(change_type="grant_added").count() == given


# Grants hold wherever an object is met


def test_a_right_to_see_one_rule_lets_nobody_undo_its_change(rule):
    anna = make_user(username="anna")
    grant(action="view", holder=anna, target=rule)
    api_client(make_user("rule editor")).patch(f"{RULES}/{rule.pk}", {"severity": "low"})
    body = {"change": revision(), "mode": "plan"}
    expect_problem(api_client(anna).post(f"{CONFIG}/rollback", body), 403, "forbidden")


def test_who_lost_the_right_to_change_cannot_undo_his_own_change(boss, rule):
    anna = make_user(username="anna")
    for action in ("view", "change"):
        grant(action=action, holder=anna, target=rule)
    client = api_client(anna)
    client.patch(f"{RULES}/{rule.pk}", {"severity": "low"})
    body = {"change": revision(), "mode": "apply"}
    assert client.post(f"{CONFIG}/rollback", {**body, "mode": "plan"}).status_code == 200
    boss.delete(GRANTS, wish(rule, permission="change"))
    assert "You may not change" in expect_problem(client.post(f"{CONFIG}/rollback", body), 403, "forbidden")["detail"]
    boss.delete(GRANTS, wish(rule))
    told = expect_problem(client.post(f"{CONFIG}/rollback", body), 403, "forbidden")["detail"]
    assert rule.name not in told
    rule.refresh_from_db()
    assert rule.severity == "low"


def test_an_export_has_what_its_reader_may_see(rule):
    make_rule(name="secret-rule")
    anna = give(make_user(username="anna"), "export_configuration")
    grant(action="view", holder=anna, target=rule)
    response = api_client(anna).get(f"{CONFIG}/export?format=json")
    assert response.status_code == 200
    assert [entry["name"] for entry in response.json()["analysis_rules"]] == [rule.name]


def test_a_grant_on_one_plugin_switches_that_plugin_alone(rule, boss):
    anna = make_user(username="anna")
    for action in ("view", "toggle"):
        body = {"entity_type": "plugin", "entity_id": "secrets", "user": "anna", "permission": action}
        assert boss.post(GRANTS, body).status_code == 201
    client = api_client(anna)
    assert client.post(f"{CONFIG}/plugins/secrets/toggle", {"enabled": False}).status_code == 200
    expect_problem(client.post(f"{CONFIG}/plugins/secrets/check"), 403, "forbidden")
    expect_problem(client.post(f"{CONFIG}/plugins/patterns/toggle", {"enabled": False}), 404, "not-found")


def test_a_grant_on_one_governance_rule_changes_that_one_alone(boss):
    one, other = make_governance_rule(), make_governance_rule("another")
    anna = make_user(username="anna")
    for action in ("view", "change"):
        grant(action=action, holder=anna, target=one)
    client, address = api_client(anna), f"{CONFIG}/governance-rules"
    assert client.patch(f"{address}/{one.pk}", {"message": "No!"}).status_code == 200
    expect_problem(client.delete(f"{address}/{one.pk}"), 403, "forbidden")
    expect_problem(client.patch(f"{address}/{other.pk}", {"message": "No!"}), 404, "not-found")


def test_the_journal_is_not_for_who_holds_a_grant(rule):
    anna = make_user(username="anna")
    grant(action="change", holder=anna, target=rule)
    expect_problem(api_client(anna).get(f"{CONFIG}/audit-trail?entity_id={rule.pk}"), 403, "forbidden")


def test_the_list_tells_nothing_of_objects_that_the_caller_may_not_see(rule):
    hidden = make_rule(name="hidden")
    clerk = make_user(username="clerk")
    clerk.user_permissions.add(Permission.objects.get(codename="view_user"))
    for target in (rule, hidden):
        grant(action="change", holder=make_user(), target=target)
    grant(action="view", holder=clerk, target=rule)
    client = api_client(clerk)
    body = client.get(GRANTS).json()
    assert {row["entity_name"] for row in body["results"]} == {rule.name} and body["count"] == 2
    assert client.get(GRANTS, {"entity_type": "analysis_rule", "entity_id": hidden.pk}).json()["count"] == 0
