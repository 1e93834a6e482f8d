"""Do the holes that a review of the kernel has found stay closed?"""

from __future__ import annotations

import time
from typing import Any, ClassVar
from unittest import mock

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import DatabaseError, connection, transaction
from knox.models import AuthToken

from audit import journal
from audit.changes import Origin, change_set, originating
from audit.diffs import compare
from audit.errors import Busy, StateConflict, UngovernedWrite
from audit.exchange import FORMAT, InvalidDocument, apply, parse
from audit.governed import digest_history
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import SYSTEM_ACTOR, grant
from overrides.effective import load_configuration
from plugins import registry
from plugins.models import Plugin
from plugins.services import sync_plugins
from rules.models import AnalysisRule, AnalysisRuleUserGrant
from tests.admin_client import address, sign_in, submit
from tests.factories import (
    PASSWORD,
    api_client,
    build_rule,
    make_assignment,
    make_override,
    make_persona,
    make_plugins,
    make_rule,
    make_user,
)
from tests.rest import RULES, TOKEN, expect_problem

pytestmark = pytest.mark.django_db


def seconds(act: Any) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


# Nothing without its record


@pytest.mark.django_db(transaction=True)
def test_an_account_whose_journal_row_cannot_be_written_is_not_changed():
    account = make_user("viewer")
    account.is_superuser = True
    with mock.patch("audit.journal.append", side_effect=Busy("held")), pytest.raises(Busy):
        account.save()
    assert not User.objects.get(pk=account.pk).is_superuser


def test_a_membership_deleted_by_itself_is_journalled():
    account = make_user("viewer")
    before = journal.current_revision()
    User.groups.through.objects.get(user=account).delete()
    row = ConfigurationAuditLog.objects.get(revision__gt=before)
    assert (row.change_type, row.entity_id) == ("role_membership_removed", str(account.pk))
    assert not account.groups.exists()


def test_a_membership_cannot_become_another_one():
    account = make_user("viewer")
    membership = User.groups.through.objects.get(user=account)
    membership.group = Group.objects.get(name="administrator")
    with pytest.raises(UngovernedWrite), transaction.atomic():
        membership.save()
    assert [group.name for group in account.groups.all()] == ["viewer"]


def test_a_grant_cannot_become_another_one():
    grant(action="view", holder=make_user(), target=make_rule())
    right = AnalysisRuleUserGrant.objects.get()
    right.permission = Permission.objects.get(codename="delete_analysisrule")
    with pytest.raises(UngovernedWrite):
        right.save()
    assert AnalysisRuleUserGrant.objects.get().permission.codename == "view_analysisrule"


def test_a_token_that_is_gone_is_not_revoked_once_more():
    AuthToken.objects.create(make_user())
    first, second = AuthToken.objects.get(), AuthToken.objects.get()
    first.delete()
    before = journal.current_revision()
    second.delete()
    assert journal.current_revision() == before


def test_the_journal_refuses_to_have_a_row_replaced():
    make_rule()
    row = ConfigurationAuditLog.objects.first()
    columns = [field.column for field in ConfigurationAuditLog._meta.concrete_fields]
    chosen = ", ".join("'forged'" if name == "changed_by" else name for name in columns)
    verb = "INSERT OR REPLACE" if connection.vendor == "sqlite" else "INSERT"
    statement = (
        f"{verb} INTO configuration_audit_log ({', '.join(columns)}) "
        f"SELECT {chosen} FROM configuration_audit_log WHERE revision = %s"
    )
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, [row.revision])
    assert ConfigurationAuditLog.objects.get(pk=row.pk).changed_by == row.changed_by


@pytest.mark.parametrize(
    ("seen", "stored"), [("::ffff:10.1.2.3", "10.1.2.3"), ("fe80::1%eth0", "fe80::1"), ("nonsense", None)]
)
def test_the_hash_of_a_row_holds_for_every_address(seen, stored):
    client, rule = api_client(make_user("administrator")), make_rule()
    response = client.patch(f"{RULES}/{rule.pk}", {"severity": "low"}, REMOTE_ADDR=seen)
    assert response.status_code == 200, response.content
    row = ConfigurationAuditLog.objects.order_by("-revision").first()
    assert row.ip_address == stored
    assert journal.hash_row(row) == row.row_hash


@pytest.mark.parametrize("number", [1e23, 1.7e308, -0.0, 1e-7, 5e-324, 123456789.123456789, 2**70])
def test_a_number_is_the_same_after_a_round_trip_through_the_database(number):
    override = make_override(override_config={"configuration": {"limit": number}})
    stored = type(override).objects.get(pk=override.pk)
    assert stored.document() == override.document()
    row = ConfigurationAuditLog.objects.get(entity_type=override.entity_type)
    assert journal.hash_row(row) == row.row_hash
    assert digest_history(type(override), stored.history.get()) == row.history_digest
    stored.override_config = {"configuration": {"limit": number}}
    stored.save()
    assert stored.version == override.version


def test_a_dry_run_cannot_join_a_change_set():
    with change_set(), pytest.raises(RuntimeError), change_set(dry_run=True):
        pass


def test_a_rule_created_and_deleted_at_once_needs_no_persona():
    make_plugins()
    make_persona()
    with change_set():
        rule = build_rule()
        rule.save()
        AnalysisRule.objects.filter(pk=rule.pk).delete()
    assert not AnalysisRule.objects.exists()


# Nobody gains rights


@pytest.mark.parametrize("right", ["group", "permission", "grant"])
def test_nobody_takes_over_an_account_for_rights_that_do_not_count_at_the_moment_or_everywhere(right):
    manager, account = make_user("viewer"), make_user(is_active=right == "grant")
    manager.user_permissions.add(*Permission.objects.filter(codename__in=["view_user", "change_user"]))
    if right == "group":
        account.groups.add(Group.objects.get(name="administrator"))
    elif right == "permission":
        account.user_permissions.add(Permission.objects.get(codename="delete_analysisrule"))
    else:
        grant(action="change", holder=account, target=make_rule())
    response = sign_in(manager).post(address("change", account), {"change_reason": "x", "username": account.username})
    assert response.status_code == 403


class Keeper:
    """An analyzer with a secret."""

    name, title, description, version = "keeper", "Keeper", "Keeps a secret.", "1.0.0"
    requires: ClassVar[list[str]] = []
    configuration_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"token": {"type": "string", "secret": True}},
    }
    rule_schema: ClassVar[dict[str, Any]] = {"type": "object"}

    def check_rule(self, rule: Any) -> None: ...

    def prepare(self, rules: Any, configuration: Any) -> None: ...

    def analyze(self, source: Any, rules: Any) -> list[Any]:
        return []


@pytest.fixture
def keeper(monkeypatch):
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, Keeper))
    registry.refresh()
    sync_plugins()
    plugin = Plugin.objects.get(name="keeper")
    plugin.configuration = {"token": "first"}
    plugin.save()
    yield plugin
    monkeypatch.undo()
    registry.refresh()


def secret_document(token: Any) -> dict[str, Any]:
    return {"format": FORMAT, "plugins": [{"name": "keeper", "configuration": {"token": token}}]}


def test_an_import_asks_for_the_right_to_change_a_secret(keeper):
    with pytest.raises(InvalidDocument, match="You may not change this plugin"):
        apply(secret_document("stolen"), user=make_user("viewer"))
    keeper.refresh_from_db()
    assert keeper.reveal_configuration() == {"token": "first"}


def test_an_import_tells_that_a_secret_changes_and_not_which_one(keeper):
    plan = apply(secret_document("second"), user=SYSTEM_ACTOR)
    assert [step.status for step in plan.steps] == ["updated"]
    assert "second" not in str(plan)
    again = apply(secret_document({"set": True}), user=make_user("viewer"))
    assert [step.status for step in again.steps] == ["unchanged"]


@pytest.mark.parametrize("rights", [["change_plugin"], ["toggle_plugin"], []])
def test_the_admin_shows_no_secret(keeper, rights):
    keeper.configuration = {"token": "sesame-open"}
    keeper.save()
    user = make_user("viewer")
    user.user_permissions.add(*Permission.objects.filter(codename__in=rights))
    client = sign_in(user)
    for page in (address("change", keeper), address("history", keeper), address("changelist", keeper)):
        assert "sesame-open" not in client.get(page).content.decode()


def test_a_secret_that_the_admin_did_not_show_stays_when_the_form_is_saved(keeper):
    submit(sign_in(make_user(superuser=True)), address("change", keeper), enabled=None)
    keeper.refresh_from_db()
    assert (keeper.enabled, keeper.reveal_configuration()) == (False, {"token": "first"})


# Nothing that one request can bring to a standstill


def test_a_body_that_names_something_twice_is_refused_at_once():
    names = ",".join(f'"n{number}":0' for number in range(50_000))
    body = f'{{{names},"n49999":0}}'
    client = api_client()
    took = seconds(lambda: expect_problem(client.post(TOKEN, body, content_type="application/json"), 400, "malformed"))
    assert took < 5


def test_a_body_of_unknown_fields_is_answered_without_listing_them_all():
    body = {f"n{number}": 0 for number in range(5_000)}
    problem = expect_problem(api_client().post(TOKEN, body), 400, "invalid")
    assert len(problem["errors"]) <= 202 and "mistakes" in problem["detail"]


def test_a_moment_of_many_letters_is_refused_at_once():
    client = api_client(make_user("administrator"))
    took = seconds(lambda: client.get("/api/v1/config/audit-trail", {"since": "T" * 50_000}))
    assert took < 5


def test_a_difference_of_long_repetitive_texts_is_found_in_time():
    old, new = "a\n" * 5_000, "b\n" + "a\nc\n" * 2_500
    assert seconds(lambda: compare({"voice": old}, {"voice": new})) < 5
    assert seconds(lambda: compare({"voice": old[:1_500]}, {"voice": new[:1_500]})) < 5


def test_a_document_nested_without_end_is_refused():
    with pytest.raises(InvalidDocument, match="nested"):
        parse("format: " + "[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"plugin": ["patterns"]}, "plugin"),
        ({"configuration": {"pattern": float("nan")}}, "configuration"),
    ],
)
@pytest.mark.parametrize("name", ["known", "new"])
def test_an_import_refuses_what_has_no_place_in_a_document(fields, place, name):
    make_rule(name="known")
    entry = {"name": name, "rule_type": "security", "configuration": {"pattern": "x"}, **fields}
    with pytest.raises(InvalidDocument) as refused:
        apply({"format": FORMAT, "analysis_rules": [entry]}, user=SYSTEM_ACTOR)
    assert f"/analysis_rules/0/{place}" in {
        problem.pointer[: len(f"/analysis_rules/0/{place}")] for problem in refused.value.problems
    }


def test_a_persona_with_endless_rule_types_is_refused_with_one_sentence():
    response = api_client(make_user("administrator")).post(
        "/api/v1/config/personas", {"name": "all", "rule_types": ["security"] * 10_000}
    )
    assert len(expect_problem(response, 400, "invalid")["errors"]) == 1


@pytest.mark.parametrize("digits", ["²", "9" * 5_000])
def test_what_only_looks_like_a_number_breaks_no_page_of_the_admin(digits):
    client, rule = sign_in(make_user(superuser=True)), make_rule()
    journal_list = address("changelist", ConfigurationAuditLog)
    assert client.get(address("history", rule), {"before": digits}).status_code == 200
    assert client.get(journal_list, {"q": digits}).status_code == 200
    assert client.get(f"{journal_list}{digits}/change/").status_code == 302
    reason = {"post": "yes", "change_reason": "x"}
    action = {"action": "disable", "_selected_action": [str(rule.pk)], "expected": digits, **reason}
    assert client.post(address("changelist", rule), action).status_code == 302
    assert client.post(address("delete", rule), {"version": digits, **reason}).status_code == 302


# The configuration in force is the one that is stored


def test_what_is_undone_was_never_in_force():
    rule = make_rule()
    with pytest.raises(RuntimeError), change_set():
        rule.severity = "low"
        rule.save()
        assert load_configuration().rules[0]["severity"] == "low"
        raise RuntimeError
    assert load_configuration().rules[0]["severity"] == "high"


def test_accounts_cannot_be_changed_past_the_journal():
    user = make_user()
    with pytest.raises(UngovernedWrite, match="one by one"):
        type(user).objects.filter(pk=user.pk).update(is_superuser=True)
    with pytest.raises(UngovernedWrite, match="one by one"):
        type(user)._base_manager.filter(pk=user.pk).update(password="x")
    with pytest.raises(UngovernedWrite):
        type(user).objects.bulk_create([type(user)(username="sneaked", is_superuser=True)])
    with pytest.raises(UngovernedWrite):
        type(user).objects.bulk_update([user], ["is_staff"])
    user.refresh_from_db()
    assert not user.is_superuser
    assert type(user).objects.filter(pk=user.pk).update(last_login=None) == 1


def test_a_row_is_not_locked_before_the_change_set():
    rule = make_rule()
    with pytest.raises(UngovernedWrite, match="change_set"), transaction.atomic():
        AnalysisRule.objects.select_for_update().get(pk=rule.pk)
    with change_set():
        assert AnalysisRule.objects.select_for_update().get(pk=rule.pk) == rule


def test_history_keeps_who_acted_when_the_account_is_deleted():
    user = make_user("administrator")
    with originating(Origin(user=user)):
        rule = make_rule()
    key = user.pk
    user.delete()
    assert rule.history.first().history_user_id == key


def test_a_rehash_at_sign_in_is_no_change_of_the_password(settings):
    user = make_user()
    before = current_revision()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher", *settings.PASSWORD_HASHERS]
    assert user.check_password(PASSWORD)
    user.refresh_from_db()
    assert user.password.startswith("pbkdf2")
    assert current_revision() == before
    user.set_password("another long passphrase")
    user.save(update_fields=["password"])
    assert current_revision() == before + 1


def test_a_rule_whose_type_changes_gets_a_voice_that_fits():
    make_persona("security")
    make_persona("performance", rule_types=["performance"])
    generalist = make_persona("generalist", rule_types=[])
    rule = make_rule()
    make_assignment(rule, generalist)
    rule.rule_type = "performance"
    rule.save()
    active = rule.assignments.filter(is_active=True)
    assert list(active.values_list("persona_id", flat=True)) == ["generalist"]
    other = make_rule()
    other.rule_type = "performance"
    other.save()
    assert list(other.assignments.filter(is_active=True).values_list("persona_id", flat=True)) == ["performance"]


def test_a_persona_keeps_the_types_of_the_rules_it_speaks_for():
    persona = make_persona("security")
    rule = make_rule()
    persona.rule_types = ["style"]
    with pytest.raises(StateConflict, match=f"security for {rule.name}"):
        persona.save()
    persona.refresh_from_db()
    assert persona.rule_types == ["security"]
