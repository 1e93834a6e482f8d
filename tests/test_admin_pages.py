"""Do the admin's pages stay fast and whole, and load nothing from elsewhere?"""

import re

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.governed import governed_models, save_all
from audit.governed_admin import ChangeSetAdmin, ReadOnlyAdmin
from audit.models import ConfigurationAuditLog
from personas.models import Persona, PersonaRuleAssignment
from plugins.forms import draw, fits, prune
from plugins.models import Plugin
from plugins.services import check_health
from rules.models import AnalysisRule
from tests.admin_client import address, sign_in, text
from tests.factories import (
    PASSWORD,
    build_rule,
    make_governance_rule,
    make_override,
    make_persona,
    make_plugins,
    make_policy,
    make_preset,
    make_rule,
    make_user,
    make_webhook,
)
from tests.review_factories import make_finding, make_issue, make_prompt, make_session

pytestmark = [pytest.mark.django_db, pytest.mark.walk]


@pytest.fixture
def browser():
    return sign_in(make_user(superuser=True))


def count_queries(browser, url):
    browser.get(url)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert browser.get(url).status_code == 200
    return len(queries)


@pytest.mark.parametrize("model", [AnalysisRule, PersonaRuleAssignment, ConfigurationAuditLog, Plugin, Persona])
def test_a_list_costs_as_many_queries_for_forty_rules_as_for_four(browser, model):
    make_plugins()
    make_persona("security")
    save_all([build_rule() for _ in range(4)])
    few = count_queries(browser, address("changelist", model))
    save_all([build_rule() for _ in range(36)])
    assert count_queries(browser, address("changelist", model)) == few


def test_the_overview_costs_the_same_however_much_there_is(browser):
    make_rule()
    make_override()
    few = count_queries(browser, reverse("admin:index"))
    for _ in range(4):
        make_override(make_rule().name)
    assert count_queries(browser, reverse("admin:index")) == few


def test_every_page_of_every_model_opens(browser):
    make_persona("security")
    rule = make_rule()
    make_override(rule.name)
    make_governance_rule()
    make_policy()
    make_webhook()
    for plugin in Plugin.objects.all():
        check_health(plugin)
    make_session()
    session = make_session()
    make_issue(session, make_finding())
    make_prompt(session)
    make_preset()
    opened = 0
    for model, model_admin in admin.site._registry.items():
        assert isinstance(model_admin, ChangeSetAdmin | ReadOnlyAdmin), model
        item = model._base_manager.first()
        for page in ("changelist", "change", "history"):
            if page == "history" and not isinstance(model_admin, ChangeSetAdmin) and model not in governed_models():
                continue
            response = browser.get(address(page, model if page == "changelist" else item))
            assert response.status_code == 200, (model, page)
            opened += 1
    assert opened >= 25


def test_a_sign_in_without_an_address_leads_to_the_overview(client):
    user = make_user("viewer")
    page = client.get(reverse("admin:login")).content.decode()
    target = re.search(r'<form action="([^"]+)"[^>]*id="login-form"', page)[1]
    response = client.post(target, {"username": user.username, "password": PASSWORD})
    assert (response.status_code, response["Location"]) == (302, reverse("admin:index"))


def test_the_links_of_the_overview_lead_to_lists(browser):
    rule = make_rule()
    make_session()
    session = make_session()
    make_prompt(session, status="ready")
    make_override(rule.name)
    page = browser.get(reverse("admin:index")).content.decode()
    links = [
        link.replace("&amp;", "&") for link in re.findall(r'href="(/admin/[^"]+)"', page[page.index('id="content"') :])
    ]
    assert any(f"session__id__exact={session.pk}" in link for link in links)
    for link in links:
        assert browser.get(link).status_code == 200, link


def test_what_has_no_history_offers_none(browser):
    session = make_session()
    assert address("history", session) not in browser.get(address("change", session)).content.decode()
    assert browser.get(address("history", session)).status_code == 404


def test_every_governed_model_is_in_the_admin():
    assert set(governed_models()) <= set(admin.site._registry)


def test_pages_load_nothing_from_elsewhere_and_carry_the_policy(browser):
    rule = make_rule()
    pages = [reverse("admin:index"), address("changelist", rule), address("change", rule), address("history", rule)]
    for url in pages:
        response = browser.get(url)
        loaded = re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']([^"']+)""", response.content.decode())
        assert loaded
        assert [each for each in loaded if not each.startswith("/")] == []
        assert "default-src 'self'" in response["Content-Security-Policy"]


def test_the_overview_counts_rules_and_tells_of_the_last_review(browser):
    make_rule(severity="critical")
    make_rule(severity="critical", enabled=False)
    make_override()
    make_session(files_analyzed=12, counts={"by_severity": {"critical": 2, "low": 5}})
    found = text(browser.get(reverse("admin:index")))
    assert "1 enabled · 1 disabled" in found
    assert "7 findings in shop" in found
    assert "1 waiting for approval" in found
    assert "Rule created" in found


def test_rules_are_filtered_and_sorted_by_rank(browser):
    make_persona("testing", rule_types=["testing"])
    for severity in ("medium", "critical", "info", "high", "low"):
        make_rule(name=severity, severity=severity, tags=["even"] if severity in ("critical", "high") else [])
    make_rule(name="spoken-for", rule_type="testing", enabled=False, severity="low")
    url = address("changelist", AnalysisRule)

    def shown(**query):
        page = browser.get(url, query)
        assert page.status_code == 200, page.get("Location")
        return [rule.name for rule in page.context["cl"].result_list]

    column = list(admin.site.get_model_admin(AnalysisRule).list_display).index("badge") + 1
    assert [name for name in shown(o=f"-{column}") if name != "spoken-for"] == [
        "critical", "high", "medium", "low", "info",
    ]  # fmt: skip
    assert set(shown(tag="Even")) == {"critical", "high"}
    assert shown(persona="testing") == ["spoken-for"]
    assert "spoken-for" not in shown(persona="-")
    assert shown(enabled__exact="0") == ["spoken-for"]
    assert set(shown(severity__exact="low")) == {"low", "spoken-for"}
    assert shown(rule_type__exact="testing") == ["spoken-for"]
    assert len(shown(plugin__name__exact="patterns")) == 6
    assert shown(q="spoken") == ["spoken-for"]


def test_a_schema_that_cannot_be_drawn_is_edited_as_json():
    assert (
        draw({"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}]}}, "additionalProperties": False})
        is None
    )
    assert draw({"type": "object", "properties": {"a": {"type": "string"}}}) is None
    drawn = draw({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False})
    assert fits(drawn, {"a": 1})
    assert not fits(drawn, {"a": "1"})
    assert not fits(drawn, {"b": 1})
    assert not fits(drawn, {"a": True})


def test_pruning_keeps_what_was_written_and_drops_what_was_filled_in():
    schema = {
        "type": "object",
        "properties": {
            "needed": {"type": "string"},
            "flag": {"type": "boolean", "default": True},
            "off": {"type": "boolean"},
            "limit": {"type": "integer", "default": 5},
            "inner": {"type": "object", "properties": {"text": {"type": "string"}}},
        },
        "required": ["needed"],
    }
    filled = {"needed": "", "flag": True, "off": False, "limit": None, "inner": {"text": ""}}
    assert prune(schema, filled, {}) == {"needed": ""}
    assert prune(schema, filled, {"flag": True, "off": False}) == {"needed": "", "flag": True, "off": False}
    assert prune(schema, {"needed": "x", "flag": False, "limit": 6}, {}) == {"needed": "x", "flag": False, "limit": 6}
