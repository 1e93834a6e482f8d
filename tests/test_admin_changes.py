"""What happens when somebody saves a form of the admin?"""

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.db import OperationalError

from audit.changes import change_set, register_check
from audit.errors import StateConflict
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from personas.models import PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.admin_client import REASON, address, errors, read_form, said, sign_in, submit, text
from tests.factories import make_assignment, make_persona, make_plugins, make_rule, make_user

pytestmark = pytest.mark.django_db


def last() -> ConfigurationAuditLog:
    return ConfigurationAuditLog.objects.first()


@pytest.fixture
def editor():
    return make_user("rule editor", username="ada")


@pytest.fixture
def browser(editor):
    return sign_in(editor)


def test_a_saved_rule_is_journalled_with_who_why_and_from_where(browser):
    rule = make_rule(severity="high")
    response = submit(browser, address("change", rule), severity="low", tags="one\ntwo")
    assert response.status_code == 302, errors(response)
    rule.refresh_from_db()
    assert (rule.severity, rule.tags) == ("low", ["one", "two"])
    row = last()
    assert (row.change_type, row.entity_name) == ("rule_updated", rule.name)
    assert (row.changed_by, row.source, row.change_reason, row.ip_address) == ("ada", "admin", REASON, "127.0.0.1")
    assert (row.old_config["severity"], row.new_config["severity"]) == ("high", "low")
    assert "changed successfully" in said(response)


def test_a_rule_added_in_the_admin_gets_its_persona_in_the_same_request(browser):
    make_plugins()
    make_persona("security")
    url = address("add", AnalysisRule)
    response = submit(
        browser,
        url,
        name="new-rule",
        rule_type="security",
        configuration=json.dumps({"pattern": "eval"}),
        examples=json.dumps({"match": ["eval"], "no_match": []}),
    )
    assert response.status_code == 302, errors(response)
    rule = AnalysisRule.objects.get(name="new-rule")
    assert [item.persona_id for item in rule.assignments.all()] == ["security"]
    rows = ConfigurationAuditLog.objects.filter(change_reason=REASON)
    assert {row.change_type for row in rows} == {"rule_created", "persona_assigned"}
    assert len({row.batch for row in rows}) == 1


@pytest.mark.parametrize("reason", ["", "   "])
def test_nothing_is_saved_without_a_reason(browser, reason):
    rule = make_rule(severity="high")
    before = current_revision()
    response = submit(browser, address("change", rule), reason, severity="low")
    assert "Say why" in errors(response)["change_reason"][0]
    rule.refresh_from_db()
    assert (rule.severity, current_revision()) == ("high", before)


def test_a_rule_is_not_added_without_a_reason(browser):
    make_plugins()
    response = submit(
        browser, address("add", AnalysisRule), "", name="new-rule", rule_type="style", configuration='{"pattern": "x"}'
    )
    assert set(errors(response)) == {"change_reason"}
    assert not AnalysisRule.objects.exists()


def test_a_save_that_changes_nothing_says_so_and_leaves_no_journal_row(browser):
    rule = make_rule()
    before = current_revision()
    response = submit(browser, address("change", rule))
    assert response.status_code == 302, errors(response)
    assert "nothing to change" in said(response)
    assert "success" not in said(response)
    assert current_revision() == before


def test_what_the_drawn_form_fills_in_by_itself_is_no_change(browser):
    rule = make_rule(configuration={"pattern": r"\beval\("})
    before = current_revision()
    filled = {"pattern": r"\beval\(", "ignore_case": False, "dot_all": False, "unless": ""}
    response = submit(browser, address("change", rule), configuration=json.dumps(filled))
    assert "nothing to change" in said(response)
    assert current_revision() == before


def test_an_optional_entry_that_is_emptied_goes(browser):
    rule = make_rule(configuration={"pattern": r"\beval\(", "unless": "never"})
    emptied = {"pattern": r"\beval\(", "ignore_case": False, "unless": ""}
    submit(browser, address("change", rule), configuration=json.dumps(emptied))
    rule.refresh_from_db()
    assert rule.configuration == {"pattern": r"\beval\("}


def test_a_conflict_names_who_and_what_keeps_the_input_and_stores_nothing(browser):
    rule = make_rule(severity="high", title="Before")
    sent = read_form(browser, address("change", rule))
    other = AnalysisRule.objects.get(pk=rule.pk)
    other.severity = "critical"
    other.message = "Said by somebody else."
    with change_set(reason="meanwhile"):
        other.save()
    before = current_revision()
    sent.update(severity="low", title="After", change_reason=REASON)
    response = browser.post(address("change", rule), sent)
    found = errors(response)
    assert "system changed this at" in found["__all__"][0]
    assert "severity" in found["__all__"][0] and "message" in found["__all__"][0]
    assert found["severity"] == ["system set this to: critical"]
    form = response.context["adminform"].form
    assert (form["severity"].value(), form["title"].value()) == ("low", "After")
    assert form["change_reason"].value() == REASON
    assert current_revision() == before
    rule.refresh_from_db()
    assert (rule.severity, rule.title) == ("critical", "Before")


def test_a_form_that_says_no_version_is_refused(browser):
    rule = make_rule(severity="high")
    response = submit(browser, address("change", rule), severity="low", version="")
    assert "which version" in errors(response)["__all__"][0]


def test_errors_stand_at_their_field_and_name_the_entry(browser):
    rule = make_rule()
    response = submit(
        browser,
        address("change", rule),
        configuration=json.dumps({"pattern": "(open"}),
        tags="fine\nNot A Tag",
        file_patterns="[",
    )
    found = errors(response)
    assert found["configuration"][0].startswith("Pattern: ")
    assert found["tags"][0].startswith("Line 2: 'Not A Tag'")
    assert found["file_patterns"][0].startswith("Line 1: ")
    assert "Line 2: 'Not A Tag'" in text(response)


def test_a_failing_example_is_named(browser):
    rule = make_rule()
    examples = json.dumps({"match": ["eval(text)", "nothing here"], "no_match": []})
    found = errors(submit(browser, address("change", rule), examples=examples))
    assert found["examples"][0].startswith("Must match 2: ")


def test_text_that_is_not_json_is_kept_and_refused(browser):
    rule = make_rule()
    response = submit(browser, address("change", rule), configuration="{pattern")
    assert "valid JSON" in errors(response)["configuration"][0]
    assert "{pattern" in response.content.decode()


def test_a_refusal_at_the_end_of_the_change_set_is_an_error_on_the_form(browser, monkeypatch):
    def refuse(changes):
        return [StateConflict("Not on a Friday.")] if changes.reason == REASON else []

    monkeypatch.setattr("audit.changes._checks", [])
    register_check(refuse)
    rule = make_rule(severity="high")
    before = current_revision()
    response = submit(browser, address("change", rule), severity="low")
    assert errors(response)["__all__"] == ["Not on a Friday."]
    assert response.context["adminform"].form["severity"].value() == "low"
    assert "success" not in said(response)
    assert current_revision() == before


def test_a_warning_of_a_check_is_shown_and_journalled(browser, monkeypatch):
    def warn(changes):
        changes.warn("Nobody speaks for this rule.")
        return []

    rule = make_rule(severity="high")
    monkeypatch.setattr("audit.changes._checks", [warn])
    response = submit(browser, address("change", rule), severity="low")
    assert "Nobody speaks for this rule." in said(response)
    assert last().warnings == ["Nobody speaks for this rule."]


def test_a_lock_that_cannot_be_had_is_an_error_on_the_form(browser, monkeypatch):
    rule = make_rule(severity="high")
    url = address("change", rule)
    sent = {**read_form(browser, url), "severity": "low", "change_reason": REASON}

    def time_out():
        raise OperationalError("database is locked")

    monkeypatch.setattr("audit.changes.journal.lock", time_out)
    response = browser.post(url, sent)
    assert "Another change is being stored" in errors(response)["__all__"][0]


def test_the_name_of_a_stored_rule_cannot_be_changed(browser):
    rule = make_rule()
    submit(browser, address("change", rule), name="another-name", severity="info")
    rule.refresh_from_db()
    assert rule.name != "another-name"
    assert rule.severity == "info"


def test_a_deletion_needs_a_reason_and_takes_the_assignments_along(browser):
    rule = make_rule()
    make_assignment(rule, make_persona())
    url = address("delete", rule)
    assert "security for" in text(browser.get(url))
    refused = browser.post(url, {"post": "yes", "version": rule.version})
    assert refused.status_code == 200
    assert "Say why" in text(refused)
    assert AnalysisRule.objects.exists()
    response = browser.post(url, {"post": "yes", "version": rule.version, "change_reason": REASON})
    assert response.status_code == 302
    assert not AnalysisRule.objects.exists()
    assert not PersonaRuleAssignment.objects.exists()
    rows = ConfigurationAuditLog.objects.filter(change_reason=REASON)
    assert {row.change_type for row in rows} == {"rule_deleted", "persona_unassigned"}


def test_what_has_changed_since_is_not_deleted(browser):
    rule = make_rule()
    seen = rule.version
    rule.title = "Another"
    rule.save()
    response = browser.post(address("delete", rule), {"post": "yes", "version": seen, "change_reason": REASON})
    assert "was changed since you read it" in text(response)
    assert AnalysisRule.objects.exists()


def test_a_persona_that_speaks_for_rules_says_so_instead_of_going():
    persona = make_persona()
    make_rule()
    browser = sign_in(make_user("persona manager"))
    page = browser.get(address("delete", persona))
    assert "cannot be deleted yet" in text(page)
    browser.post(address("delete", persona), {"post": "yes", "change_reason": REASON})
    persona.refresh_from_db()


def test_personas_are_chosen_in_the_form_of_the_rule():
    make_persona("security")
    make_persona("second")
    rule = make_rule()
    assert [item.persona_id for item in rule.assignments.all()] == ["second"]
    browser = sign_in(make_user("administrator"))
    response = submit(browser, address("change", rule), personas=["security"])
    assert response.status_code == 302, errors(response)
    active = rule.assignments.filter(is_active=True).values_list("persona_id", flat=True)
    assert list(active) == ["security"]
    batch = {row.batch for row in ConfigurationAuditLog.objects.filter(change_reason=REASON)}
    assert len(batch) == 1


def test_a_persona_that_does_not_look_after_the_type_is_an_error_at_the_field():
    make_persona("security")
    make_persona("testing", rule_types=["testing"])
    rule = make_rule(severity="high")
    browser = sign_in(make_user("administrator"))
    before = current_revision()
    response = submit(browser, address("change", rule), severity="low", personas=["testing"])
    assert "looks after testing" in errors(response)["personas"][0]
    assert current_revision() == before


def test_an_editor_without_the_right_sees_the_personas_and_cannot_change_them(browser):
    make_persona("security")
    rule = make_rule()
    assert "personas" not in read_form(browser, address("change", rule))
    submit(browser, address("change", rule), personas=[], severity="info")
    assert rule.assignments.filter(is_active=True).count() == 1


def test_plugin_settings_are_drawn_from_the_schema_and_checked():
    make_plugins()
    plugin = Plugin.objects.get(name="secrets")
    browser = sign_in(make_user("plugin manager"))
    url = address("change", plugin)
    response = submit(browser, url, configuration=json.dumps({"max_findings_per_file": 0}))
    assert errors(response)["configuration"][0].startswith("Findings per file: ")
    response = submit(browser, url, configuration=json.dumps({"max_findings_per_file": 5}))
    assert response.status_code == 302, errors(response)
    plugin.refresh_from_db()
    assert plugin.configuration == {"max_findings_per_file": 5}


def test_a_plugin_is_switched_in_its_form():
    make_plugins()
    plugin = Plugin.objects.get(name="secrets")
    browser = sign_in(make_user("plugin manager"))
    submit(browser, address("change", plugin), enabled=None)
    plugin.refresh_from_db()
    assert plugin.enabled is False
    assert last().change_type == "plugin_toggled"


def test_a_plugin_that_others_require_says_so_instead_of_going_off():
    plugin = make_plugins()
    browser = sign_in(make_user("plugin manager"))
    response = submit(browser, address("change", plugin), enabled=None)
    assert "secrets requires patterns" in errors(response)["__all__"][0]
    plugin.refresh_from_db()
    assert plugin.enabled is True


def test_djangos_own_log_stays_empty(browser):
    rule = make_rule()
    submit(browser, address("change", rule), severity="info")
    assert not LogEntry.objects.exists()
