"""Presets: shipped ones say what they promise, saved ones are kept, compared, planned and applied by API and admin."""

from __future__ import annotations

import pytest
from django.urls import reverse

from audit.exchange import apply, parse
from audit.permissions import SYSTEM_ACTOR
from governance_config import library
from governance_config.library import find_preset, list_shipped
from governance_config.management.commands.prepare import STARTER
from governance_config.models import Preset
from personas.models import Persona
from plugins.services import sync_plugins
from rules.choices import RuleType, Severity
from rules.models import AnalysisRule
from tests.admin_client import REASON, said, sign_in, text
from tests.factories import api_client, make_persona, make_preset, make_rule, make_user
from tests.rest import CONFIG, expect_problem, last_change, revision

pytestmark = pytest.mark.django_db
PRESETS = f"{CONFIG}/presets"
FAMILIES = ("go", "java", "javascript", "php", "python")
NAMES = ("baseline", "strict", "security-first", *FAMILIES)


@pytest.fixture
def starter():
    sync_plugins()
    return apply(parse(STARTER.read_bytes()), user=SYSTEM_ACTOR)


def page(name: str, *arguments: str) -> str:
    return reverse(f"admin:governance_config_preset_{name}", args=arguments)


def test_the_release_brings_the_presets_that_it_promises():
    shipped = {preset.name: preset for preset in list_shipped()}
    assert set(shipped) >= {"starter", "external-tools", *NAMES}
    assert all(preset.title and preset.description for name, preset in shipped.items() if name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preset_applies_without_refusal_or_warning_and_only_sets_what_is_there(starter, name):
    document = find_preset(name).document
    plan = apply(document, user=SYSTEM_ACTOR, dry_run=True)
    assert (plan.problems, plan.warnings, plan.implied) == ((), (), ())
    assert plan.count("created") == plan.count("refused") == plan.count("deleted") == 0
    assert plan.count("updated") > 0
    apply(document, user=SYSTEM_ACTOR)
    again = apply(document, user=SYSTEM_ACTOR, dry_run=True)
    assert again.count("unchanged") == len(again.steps)


@pytest.mark.parametrize("name", NAMES)
def test_no_shipped_preset_weakens_a_critical_security_rule(starter, name):
    guarded = AnalysisRule.objects.filter(rule_type=RuleType.SECURITY, severity=Severity.CRITICAL, enabled=True)
    before = set(guarded.values_list("name", flat=True))
    apply(find_preset(name).document, user=SYSTEM_ACTOR)
    assert set(guarded.values_list("name", flat=True)) >= before


@pytest.mark.parametrize("name", ("baseline", "strict", *FAMILIES))
def test_a_shipped_preset_speaks_of_every_starter_rule_but_the_guarded_ones(starter, name):
    named = {entry["name"] for entry in find_preset(name).document["analysis_rules"]}
    every = set(AnalysisRule.objects.values_list("name", flat=True))
    guarded = AnalysisRule.objects.filter(rule_type=RuleType.SECURITY, severity=Severity.CRITICAL)
    assert every - named <= set(guarded.values_list("name", flat=True))
    assert named <= every


def test_strict_is_stricter_and_baseline_is_calmer(starter):
    everything = AnalysisRule.objects.count()
    apply(find_preset("baseline").document, user=SYSTEM_ACTOR)
    assert 0 < AnalysisRule.objects.enabled().count() < everything
    assert not AnalysisRule.objects.enabled().filter(rule_type=RuleType.STYLE).exists()
    apply(find_preset("strict").document, user=SYSTEM_ACTOR)
    assert AnalysisRule.objects.enabled().count() == everything
    assert not AnalysisRule.objects.filter(severity=Severity.INFO).exists()


def test_a_language_preset_leaves_the_other_languages_out(starter):
    apply(find_preset("go").document, user=SYSTEM_ACTOR)
    enabled = set(AnalysisRule.objects.enabled().values_list("name", flat=True))
    assert "go-weak-hash" in enabled and "secrets-github-token" in enabled
    assert "python-eval-call" not in enabled and "java-weak-hash" not in enabled


def test_presets_are_listed_shipped_ones_first():
    make_preset("a-saved-one")
    body = api_client(make_user("viewer")).get(f"{PRESETS}?limit=3&skip=0").json()
    assert body["results"][0]["name"] == "starter"
    assert body["count"] == len(list_shipped()) + 1
    assert "skip=3" in body["next"]
    last = api_client(make_user("viewer")).get(PRESETS).json()["results"][-1]
    assert (last["name"], last["shipped"], last["created_by"]) == ("a-saved-one", False, "somebody")


def test_the_configuration_is_saved_as_a_preset_and_applied_again():
    make_persona("guest", title="The guest")
    user = make_user("administrator")
    client = api_client(user)
    response = client.post(PRESETS, {"name": "monday", "title": "As of Monday", "description": "Before the change."})
    assert response.status_code == 201
    assert response["Location"] == f"{PRESETS}/monday"
    assert response.json()["created_by"] == user.username
    assert response.json()["document"]["title"] == "As of Monday"
    Persona.objects.get().delete()
    plan = client.post(f"{PRESETS}/monday/plan").json()
    assert [(step["name"], step["status"]) for step in plan["steps"]] == [("guest", "created")]
    body = {"planned_at": plan["revision"], "change_reason": "back to Monday"}
    assert client.post(f"{PRESETS}/monday/apply", body).status_code == 200
    assert Persona.objects.get().title == "The guest"
    assert last_change().change_reason == "back to Monday"


@pytest.mark.parametrize("name", ["strict", "Not A Name", "", "x" * 101, "taken"])
def test_a_preset_needs_a_name_that_is_free(name):
    make_preset("taken")
    client = api_client(make_user("administrator"))
    expect_problem(client.post(PRESETS, {"name": name}), 400, "invalid", "#/name")
    assert Preset.objects.count() == 1


def test_there_are_not_more_saved_presets_than_people_can_read(monkeypatch):
    monkeypatch.setattr(library, "MAX_SAVED", 1)
    client = api_client(make_user("administrator"))
    assert client.post(PRESETS, {"name": "one"}).status_code == 201
    expect_problem(client.post(PRESETS, {"name": "two"}), 409, "conflict")
    monkeypatch.setattr(library, "MAX_PRESET", 10)
    expect_problem(client.post(PRESETS, {"name": "large"}), 409, "conflict")


def test_a_saved_preset_is_deleted_by_whoever_saved_it_and_a_shipped_one_by_nobody():
    owner, other = make_user("viewer"), make_user("viewer")
    make_preset(created_by=owner.username)
    expect_problem(api_client(other).delete(f"{PRESETS}/kept"), 403, "forbidden")
    assert api_client(owner).delete(f"{PRESETS}/kept").status_code == 204
    expect_problem(api_client(owner).get(f"{PRESETS}/kept"), 404, "not-found")
    make_preset()
    assert api_client(make_user("administrator")).delete(f"{PRESETS}/kept").status_code == 204
    expect_problem(api_client(make_user(superuser=True)).delete(f"{PRESETS}/strict"), 403, "forbidden")


def test_two_presets_are_compared():
    make_preset("one", document=f"format: {parse(STARTER.read_bytes())['format']}\npersonas:\n- name: a\n  title: A\n")
    make_preset("two", document="format: x\npersonas:\n- {name: a, title: B}\n- {name: b}\n")
    client = api_client(make_user("viewer"))
    steps = client.get(f"{PRESETS}/one/compare?with=two").json()["steps"]
    assert [(step["name"], step["status"]) for step in steps] == [("a", "updated"), ("b", "created")]
    assert steps[0]["fields"] == {"title": {"old": "A", "new": "B"}}
    expect_problem(client.get(f"{PRESETS}/one/compare"), 400, "invalid", "#/with")
    expect_problem(client.get(f"{PRESETS}/one/compare?with=none"), 400, "invalid", "#/with")
    shown = text(sign_in(make_user("viewer")).get(page("compare", "one") + "?with=two"))
    assert "2 entries differ" in shown


def test_applying_a_preset_needs_the_right_to_what_it_changes(starter):
    client = api_client(make_user("persona manager"))
    before = revision()
    expect_problem(client.post(f"{PRESETS}/strict/apply"), 403, "forbidden")
    assert revision() == before
    expect_problem(api_client(make_user("viewer")).post(f"{PRESETS}/strict/apply"), 403, "forbidden")
    assert api_client(make_user("rule editor")).post(f"{PRESETS}/strict/apply").status_code == 200


def test_the_admin_shows_a_preset_plans_it_and_applies_it(starter):
    browser = sign_in(make_user("rule editor"))
    assert "Every rule is on" in text(browser.get(page("change", "strict")))
    planned = browser.get(page("plan", "strict"))
    assert "updated" in text(planned) and "python-named-lambda" in text(planned)
    sent = {"planned_at": planned.context["plan"].revision}
    assert "Say why" in text(browser.post(page("plan", "strict"), {**sent, "change_reason": ""}))
    stale = browser.post(page("plan", "strict"), {"planned_at": 1, "change_reason": REASON})
    assert "plan it again" in text(stale)
    done = browser.post(page("plan", "strict"), {**sent, "change_reason": REASON})
    assert done.status_code == 302 and "updated" in said(done)
    assert "nothing to change" in text(browser.get(page("plan", "strict")))
    assert last_change().change_reason == REASON


def test_the_admin_saves_and_deletes_presets():
    make_rule()
    browser = sign_in(make_user("administrator"))
    refused = browser.post(page("add"), {"name": "Not A Name"})
    assert "lower-case letters" in text(refused)
    assert browser.post(page("add"), {"name": "friday", "title": "Friday"}).status_code == 302
    assert "friday" in text(browser.get(page("changelist")))
    assert "Friday" in text(browser.get(page("change", "friday")))
    assert browser.get(page("delete", "friday")).status_code == 200
    assert browser.post(page("delete", "friday")).status_code == 302
    assert not Preset.objects.exists()
    assert browser.get(page("change", "friday")).status_code == 302


def test_a_preset_that_is_missing_what_it_sets_says_so():
    sync_plugins()
    plan = apply(find_preset("strict").document, user=SYSTEM_ACTOR, dry_run=True)
    assert plan.count("refused") == len(plan.steps)
    assert "yet: a new one needs this" in plan.problems[0].detail
