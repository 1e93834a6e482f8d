"""Personas and their assignments over HTTP."""

import pytest

from audit.permissions import grant
from personas import services
from personas.models import Persona, PersonaRuleAssignment
from tests.factories import api_client, make_assignment, make_persona, make_plugins, make_rule, make_user
from tests.rest import CONFIG, PERSONAS, expect_problem, last_change, names, revision

pytestmark = pytest.mark.django_db
ASSIGNMENTS = f"{PERSONAS}/assignments"
ASSIGN = f"{PERSONAS}/assign"


@pytest.fixture
def manager():
    make_plugins()
    return api_client(make_user("persona manager", username="manager"))


def test_a_persona_is_created_changed_and_deleted(manager):
    response = manager.post(PERSONAS, {"name": "ops", "title": "Operator", "rule_types": ["configuration"]})
    assert response.status_code == 201, response.content
    body = response.json()
    assert (body["name"], body["assignment_count"], body["assignments"]) == ("ops", 0, [])
    assert response["Location"] == f"{PERSONAS}/ops"
    response = manager.put(f"{PERSONAS}/ops", {"voice": "Dry.", "change_reason": "tone"})
    assert response.status_code == 200
    assert (response.json()["voice"], response.json()["title"]) == ("Dry.", "Operator")
    assert last_change().change_reason == "tone"
    assert manager.delete(f"{PERSONAS}/ops").status_code == 204
    expect_problem(manager.get(f"{PERSONAS}/ops"), 404, "not-found")


def test_a_personas_mistakes_are_named(manager):
    response = manager.post(PERSONAS, {"name": "Not A Name", "rule_types": ["security", "magic"], "colour": 1})
    expect_problem(response, 400, "invalid", "#/name", "#/rule_types/1", "#/colour")
    for name in ("assign", "assignments"):
        expect_problem(manager.post(PERSONAS, {"name": name}), 400, "invalid", "#/name")
    make_persona("ops")
    expect_problem(manager.post(PERSONAS, {"name": "ops"}), 400, "invalid", "#/name")
    expect_problem(manager.patch(f"{PERSONAS}/ops", {"name": "other"}), 400, "invalid", "#/name")


def test_a_persona_shows_the_rules_that_it_speaks_for(manager):
    persona = make_persona("security")
    rules = [make_rule(name=name) for name in ("b", "a")]
    services.unassign(rules[0].assignments.get())
    body = manager.get(f"{PERSONAS}/security").json()
    assert body["assignment_count"] == 1
    (shown,) = body["assignments"]
    assert shown["rule_id"] == rules[1].pk and shown["rule_name"] == "a"
    assert shown["confidence_score"] == 1.0
    assert set(shown) == {
        *("rule_id", "rule_name", "confidence_score", "assignment_reason", "created_by", "created_at")
    }
    listed = manager.get(PERSONAS).json()["results"]
    assert listed == [body] and persona.name == "security"


def test_a_personas_assignments_are_the_first_ones_by_rule(manager, monkeypatch):
    monkeypatch.setattr("personas.api.SHOWN_ASSIGNMENTS", 2)
    for persona in ("security", "careful"):
        make_persona(persona, rule_types=[])
    for name in ("c", "a", "b"):
        rule = make_rule(name=name)
        for persona in Persona.objects.all():
            make_assignment(rule, persona)
    for body in manager.get(PERSONAS).json()["results"]:
        assert body["assignment_count"] == 3
        assert [item["rule_name"] for item in body["assignments"]] == ["a", "b"]


def test_rules_that_one_may_not_see_are_not_shown_at_a_persona():
    persona = make_persona("security")
    make_rule(name="hidden")
    seen = make_rule(name="seen")
    user = make_user()
    grant(action="view", holder=user, target=persona)
    grant(action="view", holder=user, target=seen)
    body = api_client(user).get(f"{PERSONAS}/security").json()
    assert [item["rule_name"] for item in body["assignments"]] == ["seen"]


def test_a_persona_that_speaks_for_rules_cannot_be_deleted(manager):
    make_persona("security")
    make_rule(name="spoken-for")
    body = expect_problem(manager.delete(f"{PERSONAS}/security"), 409, "conflict")
    assert "spoken-for" in body["detail"]


def test_a_persona_honours_if_match(manager):
    persona = make_persona("ops", rule_types=[])
    tag = {"If-Match": '"0"'}
    for response in (
        manager.patch(f"{PERSONAS}/ops", {"title": "x"}, headers=tag),
        manager.delete(f"{PERSONAS}/ops", headers=tag),
    ):
        expect_problem(response, 412, "stale")
        assert response["ETag"] == f'"{persona.version}"'


def test_personas_are_found_by_type_and_ordered_by_their_work(manager):
    make_persona("security")
    make_persona("style", rule_types=["style"])
    make_rule()
    assert names(manager.get(f"{PERSONAS}?rule_type=style")) == ["style"]
    assert names(manager.get(f"{PERSONAS}?ordering=-assignment_count")) == ["security", "style"]
    assert names(manager.get(f"{PERSONAS}?search=styl")) == ["style"]


@pytest.mark.parametrize("by", ["rule_id", "rule_name"])
def test_a_persona_is_assigned_by_the_rules_id_or_name(manager, by):
    rule, _ = make_rule(), make_persona("careful", rule_types=[])
    which = {"rule_id": rule.pk} if by == "rule_id" else {"rule_name": rule.name}
    response = manager.put(
        ASSIGN,
        {
            **which,
            "persona_name": "careful",
            "confidence_score": 0.75,
            "assignment_reason": "knows it",
            "change_reason": "asked for",
        },
    )
    assert response.status_code == 200, response.content
    body = response.json()
    assert (body["rule_id"], body["rule_name"], body["persona_name"]) == (rule.pk, rule.name, "careful")
    assert (body["confidence_score"], body["assignment_reason"]) == (0.75, "knows it")
    assert (body["created_by"], body["is_active"]) == ("manager", True)
    row = last_change()
    assert (row.change_type, row.change_reason) == ("persona_assigned", "asked for")
    assert response["ETag"] == f'"{body["version"]}"' and response["X-Revision"] == str(row.revision)
    assert manager.get(f"{CONFIG}/analysis-rules/{rule.pk}").json()["personas"] == ["careful"]


def test_a_pair_that_exists_is_updated_with_what_is_given(manager):
    rule, persona = make_rule(), make_persona("careful", rule_types=[])
    made = make_assignment(rule, persona, assignment_reason="kept")
    response = manager.put(ASSIGN, {"rule_id": rule.pk, "persona_name": "careful", "confidence_score": 0.5})
    assert response.json()["id"] == made.pk
    assert (response.json()["confidence_score"], response.json()["assignment_reason"]) == (0.5, "kept")
    before = revision()
    assert manager.put(ASSIGN, response.json()).status_code == 200
    assert revision() == before
    stale = manager.put(
        ASSIGN, {"rule_id": rule.pk, "persona_name": "careful"}, headers={"If-Match": f'"{made.version}"'}
    )
    expect_problem(stale, 412, "stale")


def test_if_match_matches_no_assignment_that_is_not_there(manager):
    rule, _ = make_rule(), make_persona("careful", rule_types=[])
    for tag in ("*", '"0"'):
        response = manager.put(ASSIGN, {"rule_id": rule.pk, "persona_name": "careful"}, headers={"If-Match": tag})
        expect_problem(response, 412, "stale")
    assert not PersonaRuleAssignment.objects.exists()


def test_what_cannot_be_assigned_is_named(manager):
    rule = make_rule()
    make_persona("style", rule_types=["style"])
    for body, pointer in (
        ({"persona_name": "style"}, "#/rule_name"),
        ({"rule_id": rule.pk}, "#/persona_name"),
        ({"rule_id": 2**62, "persona_name": "style"}, "#/rule_id"),
        ({"rule_id": 2**70, "persona_name": "style"}, "#/rule_id"),
        ({"rule_id": True, "persona_name": "style"}, "#/rule_id"),
        ({"rule_name": "nothing", "persona_name": "style"}, "#/rule_name"),
        ({"rule_id": rule.pk, "rule_name": "nothing", "persona_name": "style"}, "#/rule_id"),
        ({"rule_id": rule.pk, "persona_name": "nobody"}, "#/persona_name"),
        ({"rule_id": rule.pk, "persona_name": "style"}, "#/persona_name"),
        ({"rule_id": rule.pk, "persona_name": "style", "confidence_score": 1.5}, "#/confidence_score"),
        ({"rule_id": rule.pk, "persona_name": "style", "confidence_score": "1"}, "#/confidence_score"),
        ({"rule_id": rule.pk, "persona_name": "style", "confidence_score": 0.123}, "#/confidence_score"),
        ({"rule_id": rule.pk, "persona_name": "style", "colour": 1}, "#/colour"),
    ):
        expect_problem(manager.put(ASSIGN, body), 400, "invalid", pointer)
    assert not PersonaRuleAssignment.objects.exists()


def test_assignments_are_listed_filtered_and_ended(manager):
    make_persona("security")
    make_persona("style", rule_types=["style"])
    first, second = make_rule(name="first"), make_rule(name="second", rule_type="style")
    assert names(manager.get(ASSIGNMENTS), "rule_name") == ["first", "second"]
    assert names(manager.get(f"{ASSIGNMENTS}?persona=style"), "rule_name") == ["second"]
    assert names(manager.get(f"{ASSIGNMENTS}?rule=first"), "persona_name") == ["security"]
    assert names(manager.get(f"{ASSIGNMENTS}?rule_id={second.pk}"), "persona_name") == ["style"]
    made = first.assignments.get()
    address = f"{ASSIGNMENTS}/{made.pk}"
    assert manager.get(address)["ETag"] == f'"{made.version}"'
    expect_problem(manager.delete(address, headers={"If-Match": '"0"'}), 412, "stale")
    response = manager.delete(address, headers={"If-Match": f'"{made.version}"', "X-Change-Reason": "enough"})
    assert response.status_code == 204
    assert (last_change().change_type, last_change().change_reason) == ("persona_unassigned", "enough")
    assert manager.get(address).json()["is_active"] is False
    assert names(manager.get(f"{ASSIGNMENTS}?is_active=true"), "rule_name") == ["second"]


@pytest.mark.parametrize("query", ["rule_id=x", "rule_id=99999999999999999999", "persona=x", "rule=%00", "is_active=2"])
def test_filters_of_assignments_are_strict(manager, query):
    expect_problem(manager.get(f"{ASSIGNMENTS}?{query}"), 400, "invalid", f"#/{query.split('=')[0]}")


def test_a_viewer_assigns_nothing():
    make_persona("security")
    rule = make_rule()
    viewer = api_client(make_user("viewer"))
    assert names(viewer.get(ASSIGNMENTS), "rule_name") == [rule.name]
    expect_problem(viewer.put(ASSIGN, {"rule_id": rule.pk, "persona_name": "security"}), 403, "forbidden")
    expect_problem(viewer.delete(f"{ASSIGNMENTS}/{rule.assignments.get().pk}"), 403, "forbidden")
    expect_problem(viewer.post(PERSONAS, {"name": "x"}), 403, "forbidden")


def test_without_a_right_assignments_are_forbidden():
    stranger = api_client(make_user())
    expect_problem(stranger.get(ASSIGNMENTS), 403, "forbidden")
    expect_problem(stranger.get(f"{ASSIGNMENTS}/1"), 403, "forbidden")
    expect_problem(stranger.get(PERSONAS), 403, "forbidden")
