"""Who sees and changes what in the admin? Roles and grants hold on every page."""

import pytest
from django.urls import reverse

from audit.models import ConfigurationAuditLog
from audit.permissions import grant
from personas.models import Persona, PersonaRuleAssignment
from plugins.models import Plugin
from reviews.models import DiscoveredIssue, ReviewSession
from rules.models import AnalysisRule
from tests.admin_client import REASON, address, errors, sign_in, submit, text
from tests.factories import make_assignment, make_override, make_persona, make_rule, make_user

pytestmark = pytest.mark.django_db

ROLES = ("none", "viewer", "rule editor", "plugin manager", "persona manager", "override approver", "auditor")
SEEN_BY_ALL_ROLES = "rule plugin persona assignment override session issue".split()
CHANGED_BY = {
    "rule": "rule editor",
    "plugin": "plugin manager",
    "persona": "persona manager",
    "assignment": "persona manager",
    "override": "rule editor",
}


def make_everything():
    rule, persona = make_rule(), make_persona("security")
    session = ReviewSession.objects.create(
        codebase="app", root="/app", revision=1, started_by="ada", status="completed"
    )
    issue = DiscoveredIssue.objects.create(
        session=session, rule_name=rule.name, rule_type="security", severity="high", path="a.py", message="eval",
        start_line=1, start_column=1, end_line=1, end_column=5,
    )  # fmt: skip
    return {
        "rule": rule,
        "plugin": Plugin.objects.get(name="secrets"),
        "persona": persona,
        "assignment": make_assignment(rule, persona),
        "override": make_override(rule.name),
        "session": session,
        "issue": issue,
        "journal": ConfigurationAuditLog.objects.first(),
    }


@pytest.mark.parametrize("role", ROLES)
def test_lists_details_and_histories_are_for_those_who_may_see_them(role):
    things = make_everything()
    browser = sign_in(make_user(None if role == "none" else role))
    for kind, thing in things.items():
        seen = (kind in SEEN_BY_ALL_ROLES and role != "none") or (kind == "journal" and role == "auditor")
        assert browser.get(address("changelist", thing)).status_code == (200 if seen else 403), kind
        # What may not be seen is as if it were not there: Django leads back to the overview.
        assert browser.get(address("change", thing)).status_code in ((200,) if seen else (302, 403)), kind
        if kind not in ("session", "issue"):
            assert browser.get(address("history", thing)).status_code in ((200,) if seen else (302, 403)), kind


@pytest.mark.parametrize("role", ROLES)
def test_forms_can_be_sent_by_those_who_may_change_and_by_nobody_else(role):
    things = make_everything()
    browser = sign_in(make_user(None if role == "none" else role))
    for kind, thing in things.items():
        allowed = CHANGED_BY.get(kind) == role
        page = browser.get(address("change", thing))
        writable = page.status_code == 200 and 'name="change_reason"' in page.content.decode()
        assert writable == allowed, kind
        response = browser.post(address("change", thing), {"change_reason": REASON})
        assert response.status_code in ((200, 302) if allowed else (302, 403, 405)), kind
        if not allowed and kind != "journal":
            thing.refresh_from_db()


@pytest.mark.parametrize("role", ROLES)
def test_deletions_are_for_those_who_may_delete(role):
    things = make_everything()
    browser = sign_in(make_user(None if role == "none" else role))
    for kind in ("override", "journal", "plugin", "issue", "session", "assignment", "rule", "persona"):
        thing = things[kind]
        allowed = CHANGED_BY.get(kind) == role and kind not in ("plugin", "override")
        response = browser.get(address("delete", thing))
        assert response.status_code in ((200,) if allowed else (302, 403)), kind
        refused = browser.post(address("delete", thing), {"post": "yes", "change_reason": REASON})
        assert (refused.status_code == 302 or kind == "persona") if allowed else refused.status_code in (302, 403), kind
        if not allowed:
            assert type(thing)._base_manager.filter(pk=thing.pk).exists(), kind


@pytest.mark.parametrize("model", [Plugin, ReviewSession, DiscoveredIssue, ConfigurationAuditLog])
def test_what_comes_from_elsewhere_cannot_be_added_even_by_a_superuser(model):
    browser = sign_in(make_user(superuser=True))
    assert browser.get(address("add", model)).status_code == 403
    assert browser.post(address("add", model), {"change_reason": REASON}).status_code == 403


def test_the_journal_is_read_only_even_for_a_superuser():
    make_rule()
    row = ConfigurationAuditLog.objects.first()
    browser = sign_in(make_user(superuser=True))
    browser.post(address("change", row), {"change_reason": "forged"})
    assert browser.post(address("delete", row), {"post": "yes", "change_reason": "x"}).status_code == 403
    browser.post(address("changelist", row), {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert ConfigurationAuditLog.objects.filter(pk=row.pk, change_reason=row.change_reason).exists()


def test_a_grant_on_one_rule_opens_its_pages_and_no_others():
    mine, other = make_rule(title="Mine"), make_rule(title="Other")
    user = make_user()
    for action in ("view", "change"):
        grant(action=action, holder=user, target=mine)
    browser = sign_in(user)
    page = text(browser.get(address("changelist", mine)))
    assert mine.name in page
    assert other.name not in page
    assert browser.get(address("change", other)).status_code == 302
    assert browser.get(address("history", mine)).status_code == 200
    assert browser.get(address("history", other)).status_code == 302
    response = submit(browser, address("change", mine), severity="info")
    assert response.status_code == 302, errors(response)
    mine.refresh_from_db()
    assert mine.severity == "info"
    assert browser.get(address("delete", mine)).status_code == 403
    assert browser.get(address("add", mine)).status_code == 403


def test_a_viewer_with_a_grant_changes_that_rule_and_reads_the_others():
    mine, other = make_rule(), make_rule()
    user = make_user("viewer")
    grant(action="change", holder=user, target=mine)
    browser = sign_in(user)
    assert submit(browser, address("change", mine), severity="info").status_code == 302
    assert 'name="change_reason"' not in browser.get(address("change", other)).content.decode()
    assert browser.post(address("change", other), {"change_reason": REASON}).status_code == 403


def test_a_grant_to_toggle_one_plugin_leaves_its_settings_alone():
    make_rule()
    plugin = Plugin.objects.get(name="secrets")
    user = make_user("viewer")
    grant(action="toggle", holder=user, target=plugin)
    browser = sign_in(user)
    response = submit(browser, address("change", plugin), enabled=None, configuration='{"max_findings_per_file": 7}')
    assert response.status_code == 302, errors(response)
    plugin.refresh_from_db()
    assert (plugin.enabled, plugin.configuration) == (False, {})


def test_the_overview_and_the_navigation_show_what_may_be_seen():
    make_everything()
    index = reverse("admin:index")
    nothing = text(sign_in(make_user()).get(index))
    assert "Rules in force" not in nothing
    assert "Journal" not in nothing
    viewer = text(sign_in(make_user("viewer")).get(index))
    assert "Rules in force" in viewer and "Last review" in viewer and "Your recent changes" in viewer
    assert "Journal" not in viewer and "Users" not in viewer
    auditor = text(sign_in(make_user("auditor")).get(index))
    assert "Recent changes" in auditor and "Journal" in auditor
    administrator = text(sign_in(make_user("administrator")).get(index))
    assert "Users" in administrator and "Roles" in administrator


def test_an_account_without_admin_access_is_asked_to_sign_in():
    user = make_user("viewer")
    user.is_staff = False
    user.save()
    response = sign_in(user).get(reverse("admin:index"))
    assert response.status_code == 302
    assert "/login/" in response["Location"]


@pytest.mark.parametrize("model", [AnalysisRule, Persona, PersonaRuleAssignment])
def test_the_form_to_add_is_for_those_who_may_add(model):
    allowed = "rule editor" if model is AnalysisRule else "persona manager"
    make_rule()
    for role in ("viewer", "rule editor", "persona manager", "auditor"):
        status = sign_in(make_user(role)).get(address("add", model)).status_code
        assert status == (200 if role == allowed else 403), role
