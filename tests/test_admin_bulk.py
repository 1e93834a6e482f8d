"""What happens when somebody changes many objects at once in the admin?"""

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME

from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from audit.permissions import grant
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from rules.models import AnalysisRule
from tests.admin_client import REASON, address, said, sign_in, text
from tests.factories import make_persona, make_plugins, make_rule, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser():
    return sign_in(make_user("rule editor", username="ada"))


def run(browser, action, objects, *, query="", **sent):
    url = address("changelist", objects[0]) + query
    return browser.post(url, {"action": action, ACTION_CHECKBOX_NAME: [item.pk for item in objects], **sent})


def confirm(browser, action, objects, **sent):
    return run(browser, action, objects, post="yes", change_reason=REASON, expected=len(objects), **sent)


def test_a_bulk_action_asks_for_a_reason_and_does_nothing_yet(browser):
    rules = [make_rule(), make_rule()]
    before = current_revision()
    page = run(browser, "disable", rules)
    assert page.status_code == 200
    assert "Disable 2 analysis rules?" in text(page)
    assert rules[1].name in text(page)
    assert 'name="change_reason"' in page.content.decode()
    assert current_revision() == before


def test_a_bulk_action_without_a_reason_is_refused(browser):
    rules = [make_rule(), make_rule()]
    before = current_revision()
    page = run(browser, "disable", rules, post="yes", change_reason=" ")
    assert "Say why" in text(page)
    assert current_revision() == before


@pytest.mark.parametrize(("action", "was", "becomes"), [("enable", False, True), ("disable", True, False)])
def test_rules_are_switched_in_one_change_set(browser, action, was, becomes):
    rules = [make_rule(enabled=was) for _ in range(3)]
    response = confirm(browser, action, rules)
    assert response.status_code == 302, text(response)
    assert set(AnalysisRule.objects.values_list("enabled", flat=True)) == {becomes}
    rows = ConfigurationAuditLog.objects.filter(change_type="rule_updated")
    assert rows.count() == 3
    assert {(row.changed_by, row.source, row.change_reason) for row in rows} == {("ada", "admin", REASON)}
    assert len({row.batch for row in rows}) == 1
    assert f"3 analysis rules {action}d." in said(response)


def test_the_severity_of_many_rules_is_set(browser):
    rules = [make_rule(severity="high"), make_rule(severity="critical")]
    page = confirm(browser, "set_severity", rules)
    assert "This field is required" in text(page)
    response = confirm(browser, "set_severity", rules, severity="critical")
    assert "1 analysis rule set." in said(response)
    assert set(AnalysisRule.objects.values_list("severity", flat=True)) == {"critical"}


def test_one_rule_that_cannot_be_enabled_keeps_all_as_they_are_and_is_named(browser):
    good = make_rule(enabled=False)
    draft = make_rule(enabled=False, status="draft")
    failing = make_rule(enabled=False, examples={"match": ["harmless"], "no_match": []})
    before = current_revision()
    page = confirm(browser, "enable", [good, draft, failing])
    found = text(page)
    assert "Nothing was stored" in found
    assert f"{draft.name}: Enabled: A draft cannot be enabled" in found
    assert f"{failing.name}: Examples: The rule finds nothing in this example" in found
    assert REASON in page.content.decode()
    assert not AnalysisRule.objects.filter(enabled=True).exists()
    assert current_revision() == before


def test_what_is_so_already_is_told_and_not_journalled(browser):
    rules = [make_rule(), make_rule()]
    before = current_revision()
    response = confirm(browser, "enable", rules)
    assert "nothing to change" in said(response)
    assert current_revision() == before


def test_selected_rules_are_deleted_with_a_reason(browser):
    make_persona()
    rules = [make_rule(), make_rule()]
    kept = make_rule()
    page = run(browser, "delete_selected", rules)
    assert "Delete 2 analysis rules?" in text(page)
    assert "Say why" in text(run(browser, "delete_selected", rules, post="yes"))
    response = confirm(browser, "delete_selected", rules)
    assert response.status_code == 302
    assert list(AnalysisRule.objects.all()) == [kept]
    deleted = ConfigurationAuditLog.objects.filter(change_type="rule_deleted")
    assert {row.change_reason for row in deleted} == {REASON}


def test_a_protected_object_keeps_the_others_from_being_deleted():
    free, speaking = make_persona("free", rule_types=[]), make_persona("security")
    make_rule()
    browser = sign_in(make_user("persona manager"))
    page = confirm(browser, "delete_selected", [free, speaking])
    assert "Cannot delete" in text(page)
    assert Persona.objects.count() == 2


def test_everything_that_a_filter_selects_is_changed(browser):
    for _ in range(3):
        make_rule(severity="low")
    other = make_rule(severity="high")
    low = list(AnalysisRule.objects.filter(severity="low"))
    query = "?severity__exact=low"
    page = run(browser, "disable", low[:1], query=query, select_across="1")
    assert "Disable 3 analysis rules?" in text(page)
    run(browser, "disable", low[:1], query=query, select_across="1", post="yes", expected=3, change_reason=REASON)
    assert list(AnalysisRule.objects.filter(enabled=True)) == [other]


def test_a_selection_that_has_grown_since_it_was_confirmed_is_asked_again(browser):
    rules = [make_rule(severity="low") for _ in range(2)]
    sent = {"select_across": "1", "post": "yes", "expected": 1, "change_reason": REASON}
    page = run(browser, "disable", rules[:1], query="?severity__exact=low", **sent)
    assert "the selection has 2 now" in text(page)
    assert AnalysisRule.objects.filter(enabled=True).count() == 2


def test_a_viewer_is_offered_no_bulk_action_and_cannot_send_one():
    rules = [make_rule(), make_rule()]
    browser = sign_in(make_user("viewer"))
    page = browser.get(address("changelist", rules[0]))
    assert "Disable selected" not in text(page)
    confirm(browser, "disable", rules)
    assert AnalysisRule.objects.filter(enabled=True).count() == 2


def test_a_grant_on_one_rule_does_not_carry_the_others():
    mine, other = make_rule(), make_rule()
    user = make_user("viewer")
    grant(action="change", holder=user, target=mine)
    browser = sign_in(user)
    page = confirm(browser, "disable", [mine, other])
    assert f"You may not disable {other.name}." in text(page)
    assert AnalysisRule.objects.filter(enabled=True).count() == 2
    confirm(browser, "disable", [mine])
    mine.refresh_from_db()
    assert mine.enabled is False


def test_plugins_are_switched_together_and_dependencies_are_judged_at_the_end():
    make_plugins()
    browser = sign_in(make_user("plugin manager"))
    patterns = Plugin.objects.get(name="patterns")
    page = confirm(browser, "disable", [patterns])
    assert "secrets requires patterns" in text(page)
    response = confirm(browser, "disable", list(Plugin.objects.all()))
    assert response.status_code == 302
    assert not Plugin.objects.filter(enabled=True).exists()


def test_health_is_checked_without_a_reason_and_without_a_journal_row():
    plugin = make_plugins()
    browser = sign_in(make_user("plugin manager"))
    before = current_revision()
    response = run(browser, "check_now", [plugin], index="0")
    assert "patterns: Healthy." in said(response)
    assert current_revision() == before


@pytest.mark.parametrize("action", ["change", "toggle"])
def test_health_is_checked_of_plugins_that_may_be_changed_only(action):
    make_plugins()
    user = make_user("viewer")
    mine, other = Plugin.objects.get(name="patterns"), Plugin.objects.get(name="secrets")
    grant(action=action, holder=user, target=mine)
    said_to_user = said(run(sign_in(user), "check_now", [mine, other], index="0"))
    assert ("patterns: Healthy." in said_to_user) is (action == "change")
    assert "secrets: Healthy." not in said_to_user


def test_assignments_are_ended_and_kept():
    make_persona("security")
    rules = [make_rule(), make_rule()]
    browser = sign_in(make_user("persona manager"))
    response = confirm(browser, "end", list(PersonaRuleAssignment.objects.all()))
    assert response.status_code == 302, text(response)
    assert list(PersonaRuleAssignment.objects.values_list("is_active", flat=True)) == [False, False]
    rows = ConfigurationAuditLog.objects.filter(change_type="persona_unassigned")
    assert {row.entity_name for row in rows} == {f"security for {rule.name}" for rule in rules}


def test_the_persona_leads_to_the_rules_it_speaks_for():
    persona = make_persona("security")
    rule = make_rule()
    browser = sign_in(make_user("persona manager"))
    page = browser.get(address("change", persona)).content.decode()
    link = next(link for link in page.split('"') if "persona__name__exact=security" in link)
    assert rule.name in text(browser.get(link.replace("&amp;", "&")))
