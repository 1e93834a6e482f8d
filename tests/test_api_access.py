"""Tokens, sessions, the caller's own rights and his frontend's state."""

from datetime import timedelta

import pytest
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from audit.models import ConfigurationAuditLog
from governance_config.models import UiConfigurationState
from tests.factories import PASSWORD, api_client, make_rule, make_user
from tests.rest import CONFIG, RULES, TOKEN, expect_problem, last_change, names

pytestmark = pytest.mark.django_db
ME = "/api/v1/me"
STATE = f"{CONFIG}/ui-state"
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


# Tokens


def test_a_token_is_given_used_and_revoked():
    user = make_user("viewer", username="anna")
    client = APIClient()
    response = client.post(TOKEN, {"username": "anna", "password": PASSWORD})
    assert response.status_code == 201, response.content
    assert response["Cache-Control"] == "no-store"
    body = response.json()
    assert timedelta(days=29) < AuthToken.objects.get().expiry - timezone.now() < timedelta(days=31)
    assert body["expiry"]
    user.refresh_from_db()
    assert user.last_login is not None
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {body['token']}")
    assert client.get(ME).json()["username"] == "anna"
    assert client.delete(TOKEN).status_code == 204
    expect_problem(client.get(ME), 401, "unauthenticated")


def test_tokens_are_journalled_without_their_secret():
    make_user(username="anna")
    client = APIClient()
    token = client.post(TOKEN, {"username": "anna", "password": PASSWORD}).json()["token"]
    row = last_change()
    assert (row.change_type, row.entity_type, row.changed_by) == ("token_created", "token", "anna")
    assert row.entity_name == f"anna {token[:8]}"
    assert row.source == "api"
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    response = client.delete(TOKEN)
    assert last_change().change_type == "token_revoked"
    assert last_change().changed_by == "anna"
    assert response["X-Revision"] == str(last_change().revision)
    kept = str(list(ConfigurationAuditLog.objects.filter(entity_type="token").values()))
    assert token not in kept and token[8:24] not in kept
    assert AuthToken.objects.count() == 0


def test_an_expired_token_opens_nothing_and_is_swept_away():
    user = make_user(username="anna")
    stored, token = AuthToken.objects.create(user, expiry=timedelta(seconds=-1))
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {token}")
    expect_problem(client.get(ME), 401, "unauthenticated")
    assert last_change().change_type == "token_expired"
    assert not AuthToken.objects.filter(pk=stored.pk).exists()


def test_wrong_unknown_and_locked_names_are_told_the_same():
    make_user(username="anna")
    make_user(username="locked", is_active=False)
    answers = [
        expect_problem(APIClient().post(TOKEN, {"username": name, "password": password}), 401, "unauthenticated")
        for name, password in (("anna", "wrong"), ("nobody", "wrong"), ("locked", PASSWORD))
    ]
    assert answers[0] == answers[1] == answers[2]


def test_a_wrong_password_is_answered_with_the_way_to_authenticate():
    response = APIClient().post(TOKEN, {"username": "anna", "password": "wrong"})
    assert response["WWW-Authenticate"] == "Bearer"


def test_an_old_token_does_not_stand_in_the_way_of_a_new_one():
    make_user(username="anna")
    client = APIClient(HTTP_AUTHORIZATION="Bearer 0123456789abcdef")
    assert client.post(TOKEN, {"username": "anna", "password": PASSWORD}).status_code == 201


def test_credentials_are_checked_for_their_shape():
    expect_problem(APIClient().post(TOKEN, {"username": 7}), 400, "invalid", "#/username", "#/password")
    expect_problem(APIClient().post(TOKEN, {"username": "a", "password": "b\u0000"}), 400, "malformed")


def test_a_session_has_no_token_to_revoke():
    client = APIClient()
    client.force_login(make_user("viewer"), backend=MODEL_BACKEND)
    expect_problem(client.delete(TOKEN), 400, "malformed")


@pytest.mark.parametrize(
    "header", ["Bearer x", "Bearer", "Bearer a b", "Bearer \xff\xfe", "Bearer é", "Basic eDp5", "Token abc", "x"]
)
def test_what_is_no_token_is_refused(header):
    response = APIClient(HTTP_AUTHORIZATION=header).get(RULES)
    expect_problem(response, 401, "unauthenticated")
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "address",
    [RULES, f"{RULES}/1", f"{CONFIG}/plugins", f"{CONFIG}/personas", f"{CONFIG}/personas/assignments", ME, STATE]
    + [f"{CONFIG}/governance-overrides", f"{CONFIG}/audit-trail", f"{CONFIG}/configuration", f"{CONFIG}/export"]
    + ["/api/v1/reviews/sessions", "/api/v1/reviews/sessions/1/issues"],
)
def test_without_authentication_nothing_is_told(address):
    response = APIClient().get(address)
    expect_problem(response, 401, "unauthenticated")
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_locked_account_has_no_use_of_its_token():
    user = make_user("viewer")
    client = api_client(user)
    user.is_active = False
    user.save()
    expect_problem(client.get(RULES), 401, "unauthenticated")


# Sessions


def test_a_session_reads_and_writes_with_its_csrf_token():
    rule = make_rule()
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(make_user("rule editor", username="editor"), backend=MODEL_BACKEND)
    assert names(client.get(RULES)) == [rule.name]
    body = expect_problem(client.patch(f"{RULES}/{rule.pk}", {"severity": "low"}), 403, "forbidden")
    assert "CSRF" in body["detail"]
    client.cookies["csrftoken"] = "a" * 32
    response = client.patch(f"{RULES}/{rule.pk}", {"severity": "low"}, headers={"X-CSRFToken": "a" * 32})
    assert response.status_code == 200, response.content
    assert last_change().changed_by == "editor"


# Me


def test_me_tells_roles_permissions_and_what_may_be_done():
    body = api_client(make_user("rule editor", username="editor")).get(ME).json()
    assert (body["username"], body["roles"], body["is_superuser"]) == ("editor", ["rule editor"], False)
    assert "rules.change_analysisrule" in body["permissions"]
    assert body["may"]["analysis_rule"] == ["add", "change", "delete", "view"]
    assert body["may"]["plugin"] == ["view"]
    assert body["may"]["audit_trail"] == []
    assert body["may"]["configuration"] == ["view", "import"]
    assert body["may"]["governance_override"] == ["add", "change", "view"]


def test_me_tells_a_superuser_that_he_may_everything():
    body = api_client(make_user(superuser=True)).get(ME).json()
    assert body["is_superuser"] is True
    assert body["may"]["plugin"] == ["view", "change", "toggle"]
    assert "approve" in body["may"]["governance_override"]
    assert body["may"]["configuration"] == ["view", "export", "import"]


def test_me_tells_a_stranger_that_he_may_nothing():
    body = api_client(make_user()).get(ME).json()
    assert body["roles"] == [] and body["permissions"] == []
    assert not any(body["may"].values())


# State of the frontend


def test_a_state_is_kept_replaced_listed_and_forgotten():
    client = api_client(make_user())
    expect_problem(client.get(f"{STATE}/rule-list"), 404, "not-found")
    response = client.put(f"{STATE}/rule-list", {"configuration": {"columns": ["name"]}})
    assert response.status_code == 200, response.content
    body = response.json()
    assert (body["component_name"], body["configuration"]) == ("rule-list", {"columns": ["name"]})
    assert body["last_updated"]
    client.put(f"{STATE}/rule-list", {**body, "configuration": {"columns": []}})
    client.put(f"{STATE}/editor", {"configuration": {}})
    assert client.get(f"{STATE}/rule-list").json()["configuration"] == {"columns": []}
    assert names(client.get(STATE), "component_name") == ["editor", "rule-list"]
    assert client.delete(f"{STATE}/rule-list").status_code == 204
    expect_problem(client.delete(f"{STATE}/rule-list"), 404, "not-found")
    assert UiConfigurationState.objects.count() == 1


def test_everybody_has_a_state_of_his_own():
    anna, berta = api_client(make_user()), api_client(make_user(superuser=True))
    anna.put(f"{STATE}/editor", {"configuration": {"theme": "dark"}})
    expect_problem(berta.get(f"{STATE}/editor"), 404, "not-found")
    assert names(berta.get(STATE), "component_name") == []
    berta.put(f"{STATE}/editor", {"configuration": {"theme": "light"}})
    assert anna.get(f"{STATE}/editor").json()["configuration"] == {"theme": "dark"}


def test_a_state_is_an_object_of_limited_size_under_a_proper_name():
    client = api_client(make_user())
    for configuration in ([], "x", None, 7):
        response = client.put(f"{STATE}/editor", {"configuration": configuration})
        expect_problem(response, 400, "invalid", "#/configuration")
    big = {"text": "x" * 65536}
    body = expect_problem(client.put(f"{STATE}/editor", {"configuration": big}), 400, "invalid", "#/configuration")
    assert body["errors"][0]["code"] == "too_large"
    expect_problem(client.put(f"{STATE}/{'x' * 101}", {"configuration": {}}), 404, "not-found")
    expect_problem(client.put(f"{STATE}/a%20b", {"configuration": {}}), 404, "not-found")
    expect_problem(client.post(STATE, {}), 405, "method-not-allowed")
    assert not UiConfigurationState.objects.exists()
