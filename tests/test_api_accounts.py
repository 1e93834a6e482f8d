"""Accounts and roles over HTTP: what the admin can, the API can, and neither can more."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from rest_framework.test import APIClient

from audit.models import ConfigurationAuditLog
from tests.factories import PASSWORD, api_client, make_user
from tests.rest import CONFIG, TOKEN, expect_problem, last_change, names, revision

pytestmark = pytest.mark.django_db
USERS, ROLES = f"{CONFIG}/users", f"{CONFIG}/roles"
NEW_PASSWORD = "quite another long sentence"
NEW = {"username": "newcomer", "password": NEW_PASSWORD, "email": "new@example.org", "roles": ["viewer"]}


@pytest.fixture
def boss():
    return api_client(make_user("administrator", username="otto"))


def test_an_account_is_created_with_its_roles_and_signs_in(boss):
    response = boss.post(USERS, {**NEW, "change_reason": "joined"})
    assert response.status_code == 201, response.content
    body = response.json()
    assert (body["username"], body["roles"], body["is_active"]) == ("newcomer", ["viewer"], True)
    assert "password" not in body and "pbkdf2" not in str(body) and "md5" not in str(body)
    assert response["Location"] == f"{USERS}/newcomer"
    rows = ConfigurationAuditLog.objects.filter(batch=last_change().batch)
    assert {row.change_type for row in rows} == {"user_created", "role_membership_added"}
    assert {row.change_reason for row in rows} == {"joined"}
    assert NEW_PASSWORD not in str(list(rows.values()))
    assert response["X-Revision"] == str(last_change().revision)
    token = APIClient().post(TOKEN, {"username": "newcomer", "password": NEW_PASSWORD})
    assert token.status_code == 201


def test_accounts_are_listed_found_and_read_without_their_hashes(boss):
    make_user("viewer", username="anna", email="anna@example.org")
    make_user(username="berta", is_active=False)
    assert names(boss.get(USERS), "username") == ["anna", "berta", "otto"]
    assert names(boss.get(f"{USERS}?search=example.org"), "username") == ["anna"]
    assert names(boss.get(f"{USERS}?is_active=false"), "username") == ["berta"]
    assert names(boss.get(f"{USERS}?role=viewer"), "username") == ["anna"]
    expect_problem(boss.get(f"{USERS}?role=king"), 400, "invalid", "#/role")
    response = boss.get(f"{USERS}/anna")
    assert "password" not in response.json() and User.objects.get(username="anna").password not in str(response.content)
    expect_problem(boss.get(f"{USERS}/nobody"), 404, "not-found")


def test_roles_are_given_and_taken_away(boss):
    make_user("viewer", username="anna")
    response = boss.patch(f"{USERS}/anna", {"roles": ["rule editor", "auditor"], "change_reason": "promoted"})
    assert response.status_code == 200, response.content
    assert response.json()["roles"] == ["auditor", "rule editor"]
    rows = ConfigurationAuditLog.objects.filter(batch=last_change().batch)
    assert {row.change_type for row in rows} == {"role_membership_added", "role_membership_removed"}
    before = revision()
    assert boss.put(f"{USERS}/anna", response.json()).status_code == 200
    assert revision() == before


def test_an_account_is_switched_off_and_its_token_is_of_no_use(boss):
    anna = api_client(make_user("viewer", username="anna"))
    assert boss.patch(f"{USERS}/anna", {"is_active": False}).status_code == 200
    assert last_change().change_type == "user_updated"
    expect_problem(anna.get("/api/v1/me"), 401, "unauthenticated")


def test_a_password_is_set_and_never_recorded(boss):
    anna = make_user("viewer", username="anna")
    response = boss.patch(f"{USERS}/anna", {"password": NEW_PASSWORD})
    assert response.status_code == 200, response.content
    anna.refresh_from_db()
    assert anna.check_password(NEW_PASSWORD)
    assert last_change().change_type == "user_password_changed"
    assert NEW_PASSWORD not in str(list(ConfigurationAuditLog.objects.values()))


@pytest.mark.parametrize("password", ["short", "123456789012345", "password1234", "newcomer-newcomer"])
def test_a_poor_password_is_refused(boss, password):
    before = revision()
    expect_errors(boss.post(USERS, {**NEW, "username": "newcomer-newcomer", "password": password}), "#/password")
    assert revision() == before


def expect_errors(response, pointer):
    body = expect_problem(response, 400, "invalid")
    assert {entry["pointer"] for entry in body["errors"]} == {pointer}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"username": "a b"}, "#/username"),
        ({"username": "OTTO"}, "#/username"),
        ({"username": 7}, "#/username"),
        ({"email": "nowhere"}, "#/email"),
        ({"roles": ["king"]}, "#/roles/0"),
        ({"roles": "viewer"}, "#/roles"),
        ({"colour": "red"}, "#/colour"),
    ],
)
def test_a_mistake_is_named(boss, changes, pointer):
    before = revision()
    expect_errors(boss.post(USERS, {**NEW, **changes}), pointer)
    assert revision() == before


def test_a_new_account_needs_a_password(boss):
    expect_errors(boss.post(USERS, {"username": "newcomer"}), "#/password")


def test_only_who_manages_accounts_reads_and_changes_them():
    make_user("viewer", username="anna")
    for role in ("viewer", "rule editor", "auditor", None):
        client = api_client(make_user(role))
        for response in (
            client.get(USERS),
            client.get(f"{USERS}/anna"),
            client.post(USERS, NEW),
            client.patch(f"{USERS}/anna", {"is_active": False}),
            client.delete(f"{USERS}/anna"),
            client.get(ROLES),
        ):
            expect_problem(response, 403, "forbidden")


def test_an_administrator_touches_no_superuser_and_makes_none(boss):
    make_user(superuser=True, username="root")
    for send, body in (
        (boss.patch, {"is_active": False}),
        (boss.patch, {"password": NEW_PASSWORD}),
        (boss.delete, {}),
    ):
        expect_problem(send(f"{USERS}/root", body), 403, "forbidden")
    expect_problem(boss.post(USERS, {**NEW, "is_superuser": True}), 403, "forbidden")
    make_user(username="anna")
    expect_problem(boss.patch(f"{USERS}/anna", {"is_superuser": True}), 403, "forbidden")
    expect_problem(boss.patch(f"{USERS}/otto", {"is_superuser": True}), 403, "forbidden")
    assert User.objects.filter(is_superuser=True).count() == 1


def test_nobody_gives_a_role_or_takes_over_an_account_with_more_rights():
    manager = make_user("viewer")
    manager.user_permissions.add(
        *Permission.objects.filter(codename__in=["view_user", "add_user", "change_user", "delete_user"])
    )
    client = api_client(manager)
    make_user("rule editor", username="editor")
    make_user(username="anna")
    expect_problem(client.patch(f"{USERS}/editor", {"password": NEW_PASSWORD}), 403, "forbidden")
    expect_problem(client.delete(f"{USERS}/editor"), 403, "forbidden")
    expect_errors(client.patch(f"{USERS}/anna", {"roles": ["viewer", "administrator"]}), "#/roles/1")
    expect_errors(client.post(USERS, {**NEW, "roles": ["rule editor"]}), "#/roles/0")
    assert client.patch(f"{USERS}/anna", {"roles": ["viewer"]}).status_code == 200


def test_an_account_is_deleted_and_never_ones_own(boss):
    make_user("viewer", username="leaver")
    assert boss.delete(f"{USERS}/leaver", {"change_reason": "left"}).status_code == 204
    row = ConfigurationAuditLog.objects.get(change_type="user_deleted")
    assert (row.entity_name, row.change_reason, row.changed_by) == ("leaver", "left", "otto")
    expect_problem(boss.delete(f"{USERS}/otto"), 403, "forbidden")


def test_a_superuser_makes_a_superuser():
    make_user(username="anna")
    client = api_client(make_user(superuser=True))
    assert client.patch(f"{USERS}/anna", {"is_superuser": True}).json()["is_superuser"] is True


def test_roles_tell_their_rights_and_members(boss):
    make_user("viewer", username="anna")
    listed = {row["name"]: row for row in boss.get(ROLES).json()["results"]}
    assert set(listed) == set(Group.objects.values_list("name", flat=True))
    assert listed["viewer"]["members"] == ["anna"]
    assert "rules.view_analysisrule" in listed["viewer"]["permissions"]
    assert boss.get(f"{ROLES}/rule%20editor").json()["name"] == "rule editor"
    assert PASSWORD not in str(listed)
