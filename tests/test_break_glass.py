"""In an emergency, can somebody pass over the governance rules, by right, with a reason, and seen by all?"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.core.management import CommandError, call_command

from audit.journal import hash_row
from audit.models import ConfigurationAuditLog
from audit.verification import verify
from overrides import break_glass
from overrides.models import GovernanceRule
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.admin_client import REASON, address, errors, read_form, said, sign_in, submit
from tests.factories import api_client, make_governance_rule, make_rule, make_user
from tests.rest import CONFIG, JOURNAL, PLUGINS, RULES, expect_problem, names

pytestmark = pytest.mark.django_db
GLASS = "The scanner stops every release; incident 7."
MARK = f"break-glass: {GLASS}"
MINE = "/api/v1/me/notifications"
BROKEN = {"X-Break-Glass": GLASS}


@pytest.fixture
def alice():
    return make_user("administrator", username="alice")


@pytest.fixture
def client(alice):
    make_user("override approver", username="bob")
    return api_client(alice)


@pytest.fixture
def rule() -> AnalysisRule:
    """A rule, and a governance rule that wants no rule to be of severity info."""
    rule = make_rule(name="no-eval")
    make_governance_rule()
    return rule


def rows() -> list[ConfigurationAuditLog]:
    return list(ConfigurationAuditLog.objects.filter(break_glass=True))


@pytest.mark.parametrize("enforcement", ["block", "require_override"])
def test_it_lifts_what_governance_rules_refuse_and_is_marked(client, rule, enforcement):
    GovernanceRule.objects.all().delete()
    make_governance_rule(enforcement=enforcement)
    route = f"{RULES}/{rule.pk}"
    expect_problem(client.put(route, {"severity": "info"}), 409, "conflict")
    answer = client.put(route, {"severity": "info", "change_reason": "release"}, headers=BROKEN)
    assert answer.status_code == 200, answer.content
    first, second = answer.json()["warnings"]
    assert first == MARK and "governance rule no-info" in second
    (row,) = rows()
    assert (row.changed_by, row.change_reason, row.warnings) == ("alice", "release", [first, second])


def test_it_lifts_the_second_person(client, rule):
    guard = GovernanceRule.objects.get()
    route = f"{CONFIG}/governance-rules/{guard.pk}"
    answer = client.patch(route, {"enabled": False}, headers=BROKEN)
    assert answer.json()["warnings"] == [
        MARK,
        "Without a second person: the governance rule no-info is switched off.",
    ]


def test_every_row_of_the_change_set_is_marked(client, rule):
    other = make_rule(name="other")
    updates = [{"id": item.pk, "severity": "info"} for item in (rule, other)]
    assert client.post(f"{RULES}/bulk", {"updates": updates}, headers=BROKEN).status_code == 200
    assert {row.entity_name for row in rows()} == {"no-eval", "other"}
    assert client.delete(f"{RULES}/{other.pk}", headers=BROKEN).status_code == 200
    assert len(rows()) == 3


def test_it_lifts_neither_validation_nor_other_conflicts_nor_rights(client, rule):
    body = {"configuration": {"pattern": "("}}
    expect_problem(client.patch(f"{RULES}/{rule.pk}", body, headers=BROKEN), 400, "invalid")
    assert Plugin.objects.get(name="secrets").enabled
    toggled = client.post(f"{PLUGINS}/patterns/toggle", {"enabled": False}, headers=BROKEN)
    assert "secrets requires patterns" in expect_problem(toggled, 409, "conflict")["detail"]
    viewer = make_user("viewer")
    give(viewer)
    expect_problem(
        api_client(viewer).patch(f"{RULES}/{rule.pk}", {"severity": "info"}, headers=BROKEN), 403, "forbidden"
    )
    assert rows() == []


def give(user) -> None:
    user.user_permissions.add(Permission.objects.get(codename="break_glass"))


class TestTheRight:
    def test_without_it_nothing_is_stored(self, client, rule):
        editor = make_user("rule editor", username="eve")
        answer = api_client(editor).put(f"{RULES}/{rule.pk}", {"severity": "low"}, headers=BROKEN)
        body = expect_problem(answer, 403, "forbidden")
        assert "eve may not break the glass: that takes the right overrides.break_glass" in body["detail"]
        assert AnalysisRule.objects.get().severity == "high"

    def test_a_superuser_has_it_only_by_name(self, client, rule):
        boss = make_user(superuser=True)
        route = f"{RULES}/{rule.pk}"
        expect_problem(api_client(boss).put(route, {"severity": "info"}, headers=BROKEN), 403, "forbidden")
        give(boss)
        assert api_client(boss).put(route, {"severity": "info"}, headers=BROKEN).status_code == 200

    @pytest.mark.parametrize("header", ["", "   ", "x" * 2001])
    def test_it_takes_a_reason(self, client, rule, header):
        answer = client.put(f"{RULES}/{rule.pk}", {"severity": "info"}, headers={"X-Break-Glass": header})
        expect_problem(answer, 400, "invalid", "#/break_glass")

    def test_it_is_for_one_change(self, client, rule):
        assert client.put(f"{RULES}/{rule.pk}", {"severity": "info"}, headers=BROKEN).status_code == 200
        expect_problem(client.post(RULES, {**NEW, "severity": "info"}), 409, "conflict")


NEW = {"name": "no-print", "rule_type": "style", "configuration": {"pattern": "print"}}


class TestAdmin:
    def test_the_field_is_offered_once_a_rule_has_refused(self, client, alice, rule):
        browser = sign_in(alice)
        page = address("change", rule)
        assert "break_glass" not in read_form(browser, page)
        refused = submit(browser, page, severity="info")
        assert errors(refused) and "break_glass" in refused.context["adminform"].form.fields
        assert "Break the glass" in refused.content.decode()
        stored = submit(browser, page, severity="info", break_glass=GLASS)
        assert stored.status_code == 302 and MARK in said(stored)
        assert [row.entity_name for row in rows()] == ["no-eval"]

    def test_it_is_not_offered_to_whoever_may_not_and_does_not_work_for_him(self, client, rule):
        browser = sign_in(make_user("rule editor", username="eve"))
        page = address("change", rule)
        assert "break_glass" not in submit(browser, page, severity="info").context["adminform"].form.fields
        refused = submit(browser, page, severity="info", break_glass=GLASS)
        assert "eve may not break the glass" in str(errors(refused))
        assert rows() == []

    def test_nor_where_the_entry_is_wrong(self, client, alice, rule):
        refused = submit(sign_in(alice), address("change", rule), severity="bad")
        assert "break_glass" not in refused.context["adminform"].form.fields

    def test_bulk_actions_and_deletions_ask_as_well(self, client, alice, rule):
        guard, browser = GovernanceRule.objects.get(), sign_in(alice)
        sent = {"action": "disable", "_selected_action": [guard.pk], "post": "yes", "change_reason": REASON}
        assert 'name="break_glass"' in browser.post(address("changelist", guard), sent).content.decode()
        assert browser.post(address("changelist", guard), {**sent, "break_glass": GLASS}).status_code == 302
        sent = {"post": "yes", "change_reason": REASON}
        assert 'name="break_glass"' in browser.post(address("delete", guard), sent).content.decode()
        assert browser.post(address("delete", guard), {**sent, "break_glass": GLASS}).status_code == 302
        assert [row.change_type for row in rows()] == ["governance_rule_deleted", "governance_rule_updated"]

    def test_undoing_a_change_asks_as_well(self, client, alice, rule):
        guard, browser = GovernanceRule.objects.get(), sign_in(alice)
        page = f"/admin/audit/configurationauditlog/undo/change/{guard.version}/"
        shown = browser.get(page).content.decode()
        assert "takes a second person" in shown and 'name="break_glass"' in shown
        assert 'name="break_glass"' in browser.post(page, {"change_reason": REASON}).content.decode()
        assert browser.post(page, {"change_reason": REASON, "break_glass": GLASS}).status_code == 302
        assert not GovernanceRule.objects.exists() and len(rows()) == 1


class TestCommands:
    @pytest.fixture
    def file(self, tmp_path, rule) -> str:
        file = tmp_path / "weaker.yaml"
        file.write_text("format: code-review-governance/1\nanalysis_rules: [{name: no-eval, severity: info}]\n")
        return str(file)

    def test_they_take_a_reason_and_mark_the_change(self, client, file, capsys):
        with pytest.raises(CommandError, match="governance rule no-info"):
            call_command("import_config", file, apply=True, acting_user="alice")
        call_command("import_config", file, apply=True, acting_user="alice", break_glass=GLASS)
        assert f"Warning: {MARK}" in capsys.readouterr().err
        assert [row.changed_by for row in rows()] == ["alice"]

    def test_the_right_is_asked_there_too(self, client, file):
        make_user("administrator", username="carol").groups.first().permissions.remove(
            Permission.objects.get(codename="break_glass")
        )
        with pytest.raises(CommandError, match="carol may not break the glass"):
            call_command("import_config", file, apply=True, acting_user="carol", break_glass=GLASS)
        assert rows() == []

    def test_the_system_may(self, file):
        call_command("import_config", file, apply=True, break_glass=GLASS)
        assert [row.changed_by for row in rows()] == ["system"]


class TestTheRecord:
    @pytest.fixture
    def broken(self, client, rule) -> int:
        answer = client.put(f"{RULES}/{rule.pk}", {"severity": "info"}, headers=BROKEN)
        return int(answer["X-Revision"])

    def test_the_journal_is_filtered_by_it(self, client, alice, broken):
        assert names(client.get(f"{JOURNAL}?break_glass=true"), "revision") == [broken]
        assert broken not in names(client.get(f"{JOURNAL}?break_glass=false"), "revision")
        page = sign_in(alice).get("/admin/audit/configurationauditlog/?break_glass__exact=1")
        assert [row.revision for row in page.context["cl"].result_list] == [broken]

    def test_the_mark_is_part_of_what_is_verified(self, broken):
        assert verify().intact
        from_here = ConfigurationAuditLog.objects.get(revision=broken)
        for row, said_now in ((from_here, False), (ConfigurationAuditLog.objects.get(revision=broken - 1), True)):
            row.break_glass = said_now
            assert hash_row(row) != row.row_hash

    def test_emergencies_since_a_revision_are_listed(self, broken):
        assert [row.revision for row in break_glass.list_emergencies(broken - 1)] == [broken]
        assert not break_glass.list_emergencies(broken).exists()


@pytest.mark.django_db(transaction=True)
def test_watchers_hear_of_it_after_the_commit_alone(client, rule, monkeypatch):
    heard = []
    monkeypatch.setattr(break_glass, "_watchers", [])
    break_glass.register_watcher(heard.append)
    route = f"{RULES}/{rule.pk}"
    assert client.patch(route, {"configuration": {"pattern": "("}}, headers=BROKEN).status_code == 400
    assert client.patch(route, {"severity": "low"}).status_code == 200
    assert heard == []
    answer = client.patch(route, {"severity": "info"}, headers=BROKEN)
    (emergency,) = heard
    assert (emergency.changed_by, emergency.reason) == ("alice", GLASS)
    assert emergency.first == emergency.last == int(answer["X-Revision"])


@pytest.mark.django_db(transaction=True)
class TestWhoHears:
    def break_glass(self, client, rule) -> int:
        answer = client.put(f"{RULES}/{rule.pk}", {"severity": "info"}, headers=BROKEN)
        assert answer.status_code == 200, answer.content
        return int(answer["X-Revision"])

    def test_the_others_who_may_approve_are_told_and_not_its_author(self, client, rule):
        other, viewer = make_user("administrator", username="carol"), make_user("viewer")
        changed = self.break_glass(client, rule)
        for user in (other, User.objects.get(username="bob")):
            (told,) = api_client(user).get(MINE).json()["results"]
            assert (told["kind"], told["revision"], told["override_id"]) == ("emergency", changed, None)
            assert told["text"] == f"alice has broken the glass (revision {changed}). Please review it: {GLASS}"
        assert client.get(MINE).json()["results"] == api_client(viewer).get(MINE).json()["results"] == []

    def test_the_page_leads_into_the_journal_whoever_may_read_it(self, client, rule):
        carol = make_user("administrator", username="carol")
        link = f"/admin/audit/configurationauditlog/{self.break_glass(client, rule)}/change/"
        shown = sign_in(carol).get("/admin/overrides/governanceruleoverride/notifications/").content.decode()
        assert link in shown and GLASS in shown
        assert sign_in(carol).get(link).status_code == 200
        bob = sign_in(User.objects.get(username="bob"))
        shown = bob.get("/admin/overrides/governanceruleoverride/notifications/").content.decode()
        assert link not in shown and GLASS in shown

    def test_a_mail_says_where_to_look(self, client, rule, settings):
        settings.SENDS_MAIL, settings.PUBLIC_URL = True, "https://governance.example.org"
        settings.TASKS = {"default": {"BACKEND": "django_tasks.backends.immediate.ImmediateBackend"}}
        make_user("administrator", username="carol", email="carol@example.org")
        bob = User.objects.get(username="bob")
        bob.email = "bob@example.org"
        bob.save()
        changed = self.break_glass(client, rule)
        bodies = {sent.to[0]: sent.body for sent in mail.outbox}
        assert f"https://governance.example.org/admin/audit/configurationauditlog/{changed}/change/" in bodies.pop(
            "carol@example.org"
        )
        assert f"It is in the journal at revision {changed}." in bodies.pop("bob@example.org")
        assert bodies == {}


class TestChecking:
    """The button of a form that tells what governance rules would say, and stores nothing."""

    def check(self, user, item, **changes):
        return submit(sign_in(user), address("change", item), "", **{**self.button(item), **changes})

    def button(self, item) -> dict[str, str]:
        return {f"{item._meta.app_label}_{item._meta.model_name}_check_first": "1"}

    def test_it_says_what_would_be_refused(self, client, alice, rule):
        response = self.check(alice, rule, severity="info")
        assert "governance rule no-info" in str(errors(response))
        assert AnalysisRule.objects.get().version == rule.version

    def test_it_says_what_would_be_warned_of_and_keeps_the_entries(self, client, alice, rule):
        GovernanceRule.objects.all().delete()
        make_governance_rule(enforcement="warn")
        response = self.check(alice, rule, severity="info")
        form = response.context["adminform"].form
        assert errors(response) == {} and form["severity"].value() == "info"
        page = response.content.decode()
        assert "Checked; nothing was stored." in page and "governance rule no-info" in page
        assert "was changed successfully" not in said(response)
        assert AnalysisRule.objects.get().version == rule.version

    def test_it_says_that_nothing_objects(self, client, alice, rule):
        response = self.check(alice, rule, severity="low")
        assert "No governance rule objects to it." in response.content.decode()
        assert AnalysisRule.objects.get().severity == "high"

    def test_it_says_what_is_wrong_with_an_entry(self, client, alice, rule):
        assert "severity" in errors(self.check(alice, rule, severity="bad"))

    def test_plugins_personas_and_governance_rules_have_it_too(self, client, alice, rule):
        guard = GovernanceRule.objects.get()
        assert "second person" in str(errors(self.check(alice, guard, enabled=None)))
        plugin = Plugin.objects.get(name="secrets")
        assert "No governance rule objects" in self.check(alice, plugin).content.decode()
        guard.refresh_from_db()
        assert guard.enabled

    def test_whoever_may_only_look_is_not_offered_it(self, rule):
        page = sign_in(make_user("viewer")).get(address("change", rule)).content.decode()
        assert "check_first" not in page


class TestConditionsThatFail:
    def test_one_that_errors_at_run_time_refuses_by_api_and_admin_and_says_why(self, client, alice, rule):
        GovernanceRule.objects.all().delete()
        make_governance_rule(
            condition="old.severity != 'x' && new.severity != 'info'",
            examples={
                "pass": [{"old": {"severity": "a"}, "new": {"severity": "b"}}],
                "fail": [{"old": {"severity": "x"}}],
            },
        )
        said_so = "This change cannot be judged, so it is refused: a value has another type"
        assert said_so in expect_problem(client.post(RULES, NEW), 409, "conflict")["detail"]
        assert said_so in expect_problem(client.delete(f"{RULES}/{rule.pk}"), 409, "conflict")["detail"]
        response = sign_in(alice).post(address("delete", rule), {"post": "yes", "change_reason": REASON})
        assert said_so in response.content.decode()

    @pytest.mark.parametrize(
        ("change", "field", "said_so"),
        [
            ({"condition": "new.severity =="}, "condition", "This is no CEL expression"),
            ({"condition": "new == null || new.severity != 'none'"}, "examples", "should fail"),
        ],
    )
    def test_one_that_cannot_be_used_is_not_saved_in_the_admin(self, client, alice, rule, change, field, said_so):
        guard = GovernanceRule.objects.get()
        found = errors(submit(sign_in(alice), address("change", guard), **change))
        assert said_so in str(found[field])
        guard.refresh_from_db()
        assert guard.condition == "new == null || new.severity != 'info'"
