"""Can nobody gain rights through the accounts in the admin?"""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse

from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from tests.admin_client import REASON, address, errors, read_form, said, sign_in, submit, text
from tests.factories import make_user

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "another long passphrase 7"


def password_page(account):
    return reverse("admin:auth_user_password_change", args=[account.pk])


@pytest.fixture
def administrator():
    return make_user("administrator", username="otto")


@pytest.fixture
def browser(administrator):
    return sign_in(administrator)


def test_an_account_is_added_with_a_reason_and_journalled(browser):
    passwords = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    refused = submit(browser, address("add", User), "", username="newcomer", **passwords)
    assert set(errors(refused)) == {"change_reason"}
    assert not User.objects.filter(username="newcomer").exists()
    response = submit(browser, address("add", User), username="newcomer", **passwords)
    assert response.status_code == 302, errors(response)
    row = ConfigurationAuditLog.objects.get(change_type="user_created", entity_name="newcomer")
    assert (row.changed_by, row.change_reason, row.source) == ("otto", REASON, "admin")
    assert NEW_PASSWORD not in str(row.new_config)


def test_roles_are_given_with_a_reason_and_journalled(browser):
    account = make_user()
    viewer = Group.objects.get(name="viewer")
    response = submit(browser, address("change", account), groups=[viewer.pk])
    assert response.status_code == 302, errors(response)
    assert list(account.groups.all()) == [viewer]
    row = ConfigurationAuditLog.objects.first()
    assert (row.change_type, row.change_reason) == ("role_membership_added", REASON)
    found = text(browser.get(address("history", account)))
    assert "Role membership added by otto" in found


def test_an_account_that_is_saved_unchanged_leaves_no_row(browser):
    account = make_user("viewer")
    before = current_revision()
    response = submit(browser, address("change", account))
    assert "nothing to change" in said(response)
    assert current_revision() == before


def test_an_administrator_cannot_make_anybody_a_superuser(browser, administrator):
    account = make_user("viewer")
    assert "is_superuser" not in read_form(browser, address("change", account))
    for target in (account, administrator):
        submit(browser, address("change", target), is_superuser="on", user_permissions=["1"], first_name="X")
        target.refresh_from_db()
        assert target.is_superuser is False
        assert not target.user_permissions.exists()


def test_an_administrator_cannot_touch_a_superuser(browser):
    boss = make_user(superuser=True)
    page = browser.get(address("change", boss))
    assert 'name="change_reason"' not in page.content.decode()
    assert browser.post(address("change", boss), {"username": "x", "change_reason": REASON}).status_code == 403
    assert browser.post(address("delete", boss), {"post": "yes", "change_reason": REASON}).status_code == 403
    assert browser.get(password_page(boss)).status_code == 403
    sent = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true", "change_reason": REASON}
    assert browser.post(password_page(boss), sent).status_code == 403
    boss.refresh_from_db()
    assert not boss.check_password(NEW_PASSWORD)


def test_nobody_takes_over_an_account_that_holds_more_than_he_does():
    manager = make_user("viewer", username="manager")
    manager.user_permissions.add(
        *Permission.objects.filter(codename__in=["view_user", "add_user", "change_user", "delete_user"])
    )
    editor = make_user("rule editor")
    browser = sign_in(manager)
    assert browser.get(password_page(editor)).status_code == 403
    assert browser.post(address("change", editor), {"change_reason": REASON}).status_code == 403
    assert browser.post(address("delete", editor), {"post": "yes", "change_reason": REASON}).status_code == 403


def test_nobody_gives_a_role_with_rights_that_he_does_not_hold():
    manager = make_user("viewer", username="manager")
    manager.user_permissions.add(*Permission.objects.filter(codename__in=["view_user", "change_user"]))
    account = make_user()
    browser = sign_in(manager)
    for role in ("rule editor", "administrator"):
        response = submit(browser, address("change", account), groups=[Group.objects.get(name=role).pk])
        assert "groups" in errors(response)
    assert not account.groups.exists()
    submit(browser, address("change", manager), groups=[Group.objects.get(name="administrator").pk])
    assert [group.name for group in manager.groups.all()] == ["viewer"]
    submit(browser, address("change", account), groups=[Group.objects.get(name="viewer").pk])
    assert [group.name for group in account.groups.all()] == ["viewer"]


def test_a_password_is_set_with_a_reason_and_never_recorded(browser):
    account = make_user("viewer")
    sent = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    refused = browser.post(password_page(account), sent)
    assert "Say why" in text(refused)
    account.refresh_from_db()
    assert not account.check_password(NEW_PASSWORD)
    response = browser.post(password_page(account), {**sent, "change_reason": REASON})
    assert response.status_code == 302
    account.refresh_from_db()
    assert account.check_password(NEW_PASSWORD)
    row = ConfigurationAuditLog.objects.first()
    assert (row.change_type, row.change_reason, row.changed_by) == ("user_password_changed", REASON, "otto")


def test_an_account_is_deleted_with_a_reason_and_never_ones_own(browser, administrator):
    account = make_user("viewer", username="leaver")
    assert "Say why" in text(browser.post(address("delete", account), {"post": "yes"}))
    browser.post(address("delete", account), {"post": "yes", "change_reason": REASON})
    assert not User.objects.filter(username="leaver").exists()
    row = ConfigurationAuditLog.objects.filter(change_type="user_deleted").get()
    assert (row.entity_name, row.change_reason) == ("leaver", REASON)
    assert browser.post(address("delete", administrator), {"post": "yes", "change_reason": REASON}).status_code == 403


def test_a_superuser_may_make_a_superuser():
    browser = sign_in(make_user(superuser=True))
    account = make_user()
    response = submit(browser, address("change", account), is_superuser="on")
    assert response.status_code == 302, errors(response)
    account.refresh_from_db()
    assert account.is_superuser


def test_roles_are_read_only_even_for_a_superuser():
    role = Group.objects.get(name="viewer")
    before = set(role.permissions.values_list("codename", flat=True))
    browser = sign_in(make_user(superuser=True))
    page = browser.get(address("change", role))
    assert "Can view analysis rule" in text(page)
    assert browser.post(address("change", role), {"name": "viewer", "permissions": []}).status_code == 403
    assert browser.get(address("add", Group)).status_code == 403
    assert browser.get(address("delete", role)).status_code == 403
    assert set(role.permissions.values_list("codename", flat=True)) == before
