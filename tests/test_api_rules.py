"""Analysis rules over HTTP: who may, what is validated, what is stored, what is told."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import ConfigurationAuditLog
from audit.permissions import grant
from personas.models import PersonaRuleAssignment
from rules.models import AnalysisRule
from tests.factories import api_client, make_assignment, make_persona, make_plugins, make_rule, make_user
from tests.rest import NEW_RULE, RULES, expect_problem, last_change, names, revision

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor():
    make_plugins()
    return api_client(make_user("rule editor", username="editor"))


@pytest.fixture
def administrator():
    make_plugins()
    return api_client(make_user("administrator", username="chief"))


def test_a_created_rule_is_told_whole_with_tag_revision_and_address(editor):
    make_persona("security")
    response = editor.post(RULES, {**NEW_RULE, "change_reason": "found in the wild"})
    assert response.status_code == 201, response.content
    body = response.json()
    rule = AnalysisRule.objects.get(name="no-eval")
    assert body["id"] == rule.pk
    assert body["plugin"] == "patterns"
    assert body["personas"] == ["security"]
    assert body["examples"] == NEW_RULE["examples"]
    assert body["version"] == rule.version
    assert response["ETag"] == f'"{rule.version}"'
    assert response["Location"] == f"{RULES}/{rule.pk}"
    assert response["X-Revision"] == str(revision()), "the assignment of the default persona is the last change"
    row = ConfigurationAuditLog.objects.get(revision=rule.version)
    assert (row.change_type, row.changed_by, row.source) == ("rule_created", "editor", "api")
    assert row.change_reason == "found in the wild"
    assert editor.get(response["Location"]).json() == body


def test_a_rule_is_created_with_the_personas_that_it_names(administrator):
    make_persona("security")
    make_persona("careful", rule_types=[])
    response = administrator.post(RULES, {**NEW_RULE, "personas": ["careful"]})
    assert response.status_code == 201, response.content
    assert response.json()["personas"] == ["careful"]


def test_a_persona_that_does_not_exist_is_named_and_nothing_is_created(administrator):
    body = expect_problem(
        administrator.post(RULES, {**NEW_RULE, "personas": ["nobody"]}), 400, "invalid", "#/personas/0"
    )
    assert "nobody" in body["detail"]
    assert not AnalysisRule.objects.exists()


def test_whoever_sets_personas_needs_the_right_to_assign(editor):
    make_persona("careful", rule_types=[])
    expect_problem(editor.post(RULES, {**NEW_RULE, "personas": ["careful"]}), 403, "forbidden")
    assert not AnalysisRule.objects.exists()


def test_personas_are_replaced_by_those_that_are_sent(administrator):
    rule = make_rule()
    make_assignment(rule, make_persona("security"))
    make_persona("careful", rule_types=[])
    version = rule.version
    response = administrator.patch(f"{RULES}/{rule.pk}", {"personas": ["careful"]})
    assert response.status_code == 200, response.content
    assert response.json()["personas"] == ["careful"]
    assert response.json()["version"] == version
    assert response["X-Revision"] == str(revision())
    ended = PersonaRuleAssignment.objects.get(persona="security")
    assert not ended.is_active


@pytest.mark.parametrize("method", ["put", "patch"])
def test_put_and_patch_change_the_fields_that_are_sent(editor, method):
    rule = make_rule(severity="low", title="Kept")
    response = getattr(editor, method)(f"{RULES}/{rule.pk}", {"severity": "critical"})
    assert response.status_code == 200, response.content
    rule.refresh_from_db()
    assert (rule.severity, rule.title) == ("critical", "Kept")
    assert response["ETag"] == f'"{rule.version}"'
    assert response["X-Revision"] == str(rule.version)


def test_what_was_read_can_be_sent_back_and_leaves_no_revision(editor):
    rule = make_rule()
    before = revision()
    body = editor.get(f"{RULES}/{rule.pk}").json()
    response = editor.put(f"{RULES}/{rule.pk}", body)
    assert response.status_code == 200, response.content
    assert response.json() == body
    assert response["X-Revision"] == str(rule.version)
    assert revision() == before


def test_the_reason_comes_from_the_body_or_from_the_header(editor):
    rule = make_rule()
    editor.patch(f"{RULES}/{rule.pk}", {"severity": "low"}, headers={"X-Change-Reason": "from the header"})
    assert last_change().change_reason == "from the header"
    editor.patch(
        f"{RULES}/{rule.pk}",
        {"severity": "info", "change_reason": "from the body"},
        headers={"X-Change-Reason": "from the header"},
    )
    assert last_change().change_reason == "from the body"


def test_a_reason_that_is_too_long_is_refused_wherever_it_stands(editor):
    rule = make_rule()
    expect_problem(
        editor.patch(f"{RULES}/{rule.pk}", {"severity": "low", "change_reason": "x" * 2001}),
        *(400, "invalid", "#/change_reason"),
    )
    expect_problem(
        editor.patch(f"{RULES}/{rule.pk}", {"severity": "low"}, headers={"X-Change-Reason": "x" * 2001}),
        *(400, "invalid", "#/change_reason"),
    )


def test_a_reason_that_cannot_be_kept_is_refused_even_where_nothing_changes(editor):
    rule = make_rule()
    address = f"{RULES}/{rule.pk}"
    long = {"X-Change-Reason": "x" * 2001}
    for response in (
        editor.patch(address, {}, headers=long),
        editor.delete(f"{address}?change_reason=short", headers=long),
        editor.delete(f"{address}?change_reason={'x' * 2001}", headers={"If-Match": '"0"'}),
        editor.delete(f"{address}?change_reason=%00"),
    ):
        expect_problem(response, 400, "invalid", "#/change_reason")
    assert AnalysisRule.objects.filter(pk=rule.pk).exists()


def test_what_cannot_be_read_is_refused_before_the_version_is_compared(editor):
    rule = make_rule()
    stale = {"If-Match": '"0"'}
    expect_problem(editor.patch(f"{RULES}/{rule.pk}", {"colour": 1}, headers=stale), 400, "invalid", "#/colour")
    expect_problem(editor.patch(f"{RULES}/{rule.pk}", {"severity": "low"}, headers=stale), 412, "stale")


def test_if_match_lets_a_change_pass_that_knows_the_present_version(editor):
    rule = make_rule()
    for tag in (f'"{rule.version}"', "*", f'"1", "{rule.version}"', f'"a,b" , W/"1","{rule.version}"'):
        response = editor.patch(f"{RULES}/{rule.pk}", {"enabled": True}, headers={"If-Match": tag})
        assert response.status_code == 200, tag


def change_meanwhile(monkeypatch, rule, **fields):
    """Somebody else changes `rule` after this request was validated and before it has the lock."""

    def change(self, item, extras):
        other = AnalysisRule.objects.get(pk=rule.pk)
        for name, value in fields.items():
            setattr(other, name, value)
        other.save()

    monkeypatch.setattr("personas.api.RuleWithPersonasViewSet.check_extras", change)


def test_if_match_is_compared_again_under_the_lock(editor, monkeypatch):
    rule = make_rule()
    change_meanwhile(monkeypatch, rule, title="Theirs")
    response = editor.patch(f"{RULES}/{rule.pk}", {"severity": "low"}, headers={"If-Match": f'"{rule.version}"'})
    expect_problem(response, 412, "stale")
    rule.refresh_from_db()
    assert (rule.severity, rule.title) == ("high", "Theirs")
    assert response["ETag"] == f'"{rule.version}"'


def test_a_change_keeps_what_others_changed_meanwhile(editor, monkeypatch):
    rule = make_rule()
    change_meanwhile(monkeypatch, rule, title="Theirs")
    assert editor.patch(f"{RULES}/{rule.pk}", {"severity": "low"}).status_code == 200
    rule.refresh_from_db()
    assert (rule.severity, rule.title) == ("low", "Theirs")


def test_a_rule_that_was_deleted_meanwhile_is_not_found(editor, monkeypatch):
    rule = make_rule()
    monkeypatch.setattr(
        "personas.api.RuleWithPersonasViewSet.check_extras",
        lambda self, item, extras: AnalysisRule.objects.get(pk=rule.pk).delete(),
    )
    expect_problem(editor.patch(f"{RULES}/{rule.pk}", {"severity": "low"}), 404, "not-found")


@pytest.mark.parametrize("tag", ['"1"', 'W/"{version}"', '"1", "2"'])
@pytest.mark.parametrize("method", ["patch", "delete"])
def test_if_match_with_another_version_is_stale_and_tells_the_present_one(editor, tag, method):
    rule = make_rule()
    tag = tag.format(version=rule.version)
    response = getattr(editor, method)(
        f"{RULES}/{rule.pk}", {"severity": "low"} if method == "patch" else None, headers={"If-Match": tag}
    )
    expect_problem(response, 412, "stale")
    assert response["ETag"] == f'"{rule.version}"'
    rule.refresh_from_db()
    assert rule.severity == "high"


def test_if_match_without_quotes_is_a_mistake_of_the_request(editor):
    rule = make_rule()
    for tag in (str(rule.version), "", f'"{rule.version}', f'"{rule.version}" x', "*, *"):
        response = editor.patch(f"{RULES}/{rule.pk}", {"severity": "low"}, headers={"If-Match": tag})
        expect_problem(response, 400, "malformed")


def test_every_mistake_is_named_at_its_place(editor):
    response = editor.post(
        RULES,
        {
            **NEW_RULE,
            "severity": "terrible",
            "enabled": "yes",
            "file_types": [".py", 7],
            "examples": {"match": "eval(x)", "more": []},
            "colour": "red",
        },
    )
    places = ["#/severity", "#/enabled", "#/file_types/1", "#/examples/match", "#/examples/more", "#/colour"]
    expect_problem(response, 400, "invalid", *places)


def test_the_models_own_mistakes_are_named_at_their_place(editor):
    response = editor.post(
        RULES,
        {
            **NEW_RULE,
            "configuration": {"pattern": "(", "colour": 1},
            "file_patterns": ["ok", "(a"],
            "tags": ["Not A Tag"],
        },
    )
    places = ["#/configuration/colour", "#/file_patterns/1", "#/tags/0"]
    body = expect_problem(response, 400, "invalid")
    assert {entry["pointer"] for entry in body["errors"]} >= set(places)


def test_an_example_that_the_rule_contradicts_is_named(editor):
    response = editor.post(RULES, {**NEW_RULE, "examples": {"match": ["eval(a)", "print(a)"], "no_match": []}})
    body = expect_problem(response, 400, "invalid", "#/examples/match/1")
    assert body["errors"][0]["code"] == "example"


def test_a_name_that_is_taken_is_refused(editor):
    make_rule(name="no-eval")
    body = expect_problem(editor.post(RULES, NEW_RULE), 400, "invalid", "#/name")
    assert body["errors"][0]["code"] == "unique"


def test_the_name_of_a_rule_is_fixed(editor):
    rule = make_rule(name="old")
    expect_problem(editor.patch(f"{RULES}/{rule.pk}", {"name": "new"}), 400, "invalid", "#/name")


def test_an_unknown_plugin_is_refused(editor):
    expect_problem(editor.post(RULES, {**NEW_RULE, "plugin": "magic"}), 400, "invalid")


def test_a_deleted_rule_is_gone_and_recorded_with_its_reason(editor):
    rule = make_rule()
    make_assignment(rule, make_persona("security"))
    response = editor.delete(f"{RULES}/{rule.pk}?change_reason=never+used")
    assert response.status_code == 204
    assert response["X-Revision"] == str(revision())
    assert not response.content
    row = ConfigurationAuditLog.objects.get(change_type="rule_deleted")
    assert row.change_reason == "never used"
    expect_problem(editor.get(f"{RULES}/{rule.pk}"), 404, "not-found")


def test_the_reason_of_a_deletion_may_stand_in_the_body(editor):
    rule = make_rule()
    assert editor.delete(f"{RULES}/{rule.pk}", {"change_reason": "in the body"}).status_code == 204
    assert ConfigurationAuditLog.objects.get(change_type="rule_deleted").change_reason == "in the body"


def test_a_viewer_reads_and_may_not_write():
    rule = make_rule()
    viewer = api_client(make_user("viewer"))
    assert names(viewer.get(RULES)) == [rule.name]
    expect_problem(viewer.post(RULES, NEW_RULE), 403, "forbidden")
    expect_problem(viewer.patch(f"{RULES}/{rule.pk}", {"severity": "low"}), 403, "forbidden")
    expect_problem(viewer.patch(f"{RULES}/{rule.pk}", {"colour": "red"}), 403, "forbidden")
    expect_problem(viewer.delete(f"{RULES}/{rule.pk}"), 403, "forbidden")
    expect_problem(viewer.post(f"{RULES}/bulk", {"updates": [{"id": rule.pk, "severity": "low"}]}), 403, "forbidden")


def test_without_any_right_the_list_is_forbidden_and_an_object_unknown():
    rule = make_rule()
    stranger = api_client(make_user())
    expect_problem(stranger.get(RULES), 403, "forbidden")
    expect_problem(stranger.get(f"{RULES}/{rule.pk}"), 404, "not-found")
    expect_problem(stranger.patch(f"{RULES}/{rule.pk}", {"severity": "low"}), 404, "not-found")
    expect_problem(stranger.delete(f"{RULES}/{rule.pk}"), 404, "not-found")


def test_rights_on_one_rule_show_that_rule_alone():
    mine, other = make_rule(name="mine"), make_rule(name="other")
    user = make_user()
    for action in ("view", "change"):
        grant(action=action, holder=user, target=mine)
    client = api_client(user)
    response = client.get(RULES, {"permissions": "true"})
    assert names(response) == ["mine"]
    assert response.json()["count"] == 1
    assert response.json()["results"][0]["permissions"] == ["view", "change"]
    expect_problem(client.get(f"{RULES}/{other.pk}"), 404, "not-found")
    assert client.patch(f"{RULES}/{mine.pk}", {"severity": "low"}).status_code == 200
    expect_problem(client.delete(f"{RULES}/{mine.pk}"), 403, "forbidden")


def test_permissions_are_told_when_asked_for(editor):
    rule = make_rule()
    assert "permissions" not in editor.get(f"{RULES}/{rule.pk}").json()
    body = editor.get(f"{RULES}/{rule.pk}?permissions=true").json()
    assert body["permissions"] == ["view", "change", "delete"]
    expect_problem(editor.get(f"{RULES}/{rule.pk}?permissions=perhaps"), 400, "invalid", "#/permissions")


def test_a_key_that_no_database_can_hold_is_unknown(editor):
    for key in ("999999999999", "9" * 19, "9" * 40, "0", "-1", "abc", "%00"):
        expect_problem(editor.get(f"{RULES}/{key}"), 404, "not-found")


# Lists


@pytest.fixture
def three(editor):
    make_rule(
        name="a-style", rule_type="style", severity="info", tags=["python"], file_types=[".py"], status="deprecated"
    )
    make_rule(name="b-security", rule_type="security", severity="critical", file_types=[], title="Öffnet alles")
    make_rule(
        name="c-secrets",
        rule_type="security",
        severity="medium",
        plugin_id="patterns",
        enabled=False,
        file_types=[".js"],
        tags=["python", "web"],
    )
    return editor


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rule_type=security", ["b-security", "c-secrets"]),
        ("severity=critical", ["b-security"]),
        ("min_severity=medium", ["b-security", "c-secrets"]),
        ("enabled=false", ["c-secrets"]),
        ("enabled=true&rule_type=style", ["a-style"]),
        ("plugin=patterns", ["a-style", "b-security", "c-secrets"]),
        ("plugin=secrets", []),
        ("tag=web", ["c-secrets"]),
        ("status=deprecated", ["a-style"]),
        ("file_type=.py", ["a-style", "b-security"]),
        ("file_type=JS", ["b-security", "c-secrets"]),
        ("search=SECRETS", ["c-secrets"]),
        ("search=alles", ["b-security"]),
        ("search=web+c-", ["c-secrets"]),
        ("search=100%25", []),
        ("ordering=severity", ["a-style", "c-secrets", "b-security"]),
        ("ordering=-severity", ["b-security", "c-secrets", "a-style"]),
        ("ordering=-name", ["c-secrets", "b-security", "a-style"]),
        ("ordering=rule_type,-name", ["c-secrets", "b-security", "a-style"]),
    ],
)
def test_lists_are_filtered_searched_and_ordered(three, query, expected):
    response = three.get(f"{RULES}?{query}")
    assert names(response) == expected
    assert response.json()["count"] == len(expected)


def test_rules_are_found_by_their_persona(three):
    rule = AnalysisRule.objects.get(name="b-security")
    make_assignment(rule, make_persona("security"))
    assert names(three.get(f"{RULES}?persona=security")) == ["b-security"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("severity=terrible", "#/severity"),
        ("min_severity=terrible", "#/min_severity"),
        ("rule_type=x", "#/rule_type"),
        ("status=x", "#/status"),
        ("enabled=maybe", "#/enabled"),
        ("enabled=1", "#/enabled"),
        ("plugin=x", "#/plugin"),
        ("persona=x", "#/persona"),
        ("tag=A%22B", "#/tag"),
        ("file_type=%00", "#/file_type"),
        ("plugin=%00", "#/plugin"),
        ("search=%00", "#/search"),
        ("ordering=colour", "#/ordering"),
        ("colour=red", "#/colour"),
        ("skip=-1", "#/skip"),
        ("skip=x", "#/skip"),
        ("limit=0", "#/limit"),
        ("limit=1001", "#/limit"),
        ("limit=1e3", "#/limit"),
        ("limit=" + "9" * 5000, "#/limit"),
        ("after=x", "#/after"),
        ("after=99999999999999999999", "#/after"),
        ("after=0&ordering=name", "#/ordering"),
    ],
)
def test_what_a_list_does_not_know_is_refused_by_name(three, query, pointer):
    expect_problem(three.get(f"{RULES}?{query}"), 400, "invalid", pointer)


def test_pages_follow_each_other_by_skip(three):
    first = three.get(f"{RULES}?limit=2&rule_type=security&enabled=true").json()
    assert (first["count"], first["next"], first["previous"]) == (1, None, None)
    first = three.get(f"{RULES}?limit=2&ordering=-name").json()
    assert first["count"] == 3 and first["count_capped"] is False and first["previous"] is None
    second = three.get(first["next"])
    assert names(second) == ["a-style"]
    assert second.json()["next"] is None
    assert names(three.get(second.json()["previous"])) == ["c-secrets", "b-security"]


def test_pages_follow_each_other_by_the_cursor(three):
    keys, address = [], f"{RULES}?after=0&limit=2"
    while address:
        body = three.get(address).json()
        assert body["count"] == 3
        keys += [result["id"] for result in body["results"]]
        address = body["next"]
    assert keys == sorted(AnalysisRule.objects.values_list("pk", flat=True))


def test_far_pages_need_the_cursor_and_the_problem_names_it(three):
    body = expect_problem(three.get(f"{RULES}?skip=10001"), 400, "invalid", "#/skip")
    assert "after=" in body["detail"]
    assert names(three.get(f"{RULES}?skip=10000")) == []


def test_counts_stop_at_the_cap(three, monkeypatch):
    monkeypatch.setattr("audit.listing.COUNT_CAP", 2)
    body = three.get(f"{RULES}?limit=2").json()
    assert (body["count"], body["count_capped"]) == (2, True)


def count_queries(client, address):
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


def test_a_list_asks_as_many_questions_for_many_as_for_few(administrator):
    make_persona("security")
    for _ in range(2):
        make_rule()
    few = count_queries(administrator, f"{RULES}?permissions=true")
    for _ in range(10):
        make_rule()
    assert count_queries(administrator, f"{RULES}?permissions=true") == few
    assert few <= 10
