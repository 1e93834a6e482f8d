"""Pages load and run only what the server has in files: the policies say so, and no page needs more."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from tests.admin_client import sign_in
from tests.factories import (
    make_governance_rule,
    make_override,
    make_persona,
    make_policy,
    make_preset,
    make_rule,
    make_user,
    make_webhook,
)
from tests.review_factories import make_finding, make_issue, make_prompt, make_session

pytestmark = [pytest.mark.django_db, pytest.mark.walk]
INLINE = re.compile(
    r"<script(?![^>]*(?:\ssrc=|json))[^>]*>|\son(?:click|change|submit|load|input|error)=|javascript:", re.I
)


def policy(response) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in response["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


def list_pages() -> list[str]:
    pages = [reverse(f"admin:{name}") for name in ("index", "password_change")]
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        pages += [reverse(f"{name}_changelist"), reverse(f"{name}_add")]
        item = model._default_manager.first()
        assert item is not None, model
        pages += [reverse(f"{name}_{page}", args=[item.pk]) for page in ("change", "delete", "history")]
    return pages


def test_no_page_of_the_admin_has_a_script_of_its_own():
    rule = make_rule()
    make_persona("security")
    make_policy()
    make_preset()
    make_webhook()
    make_governance_rule()
    make_override(rule.name)
    session, finding = make_session(), make_finding(rule_name=rule.name)
    make_issue(session, finding)
    make_prompt(session)
    make_rule()  # which gets its persona
    browser = sign_in(make_user(superuser=True))
    shown = 0
    for page in list_pages():
        response = browser.get(page)
        if response.status_code == 200:
            shown += 1
            assert INLINE.findall(response.content.decode()) == [], page
            assert policy(response)["script-src"] == "'self' 'unsafe-eval'", page
    assert shown > 30
    assert INLINE.findall(Client().get("/admin/login/").content.decode()) == []


@pytest.mark.parametrize(
    "path", ["/api/v1/docs", "/api/v1/schema", "/healthz", "/nowhere", "/administration", "/favicon.ico"]
)
def test_everything_else_is_strict(path):
    found = policy(Client().get(path))
    assert found["default-src"] == "'self'" and found["object-src"] == "'none'" and found["frame-ancestors"] == "'none'"
    assert "script-src" not in found and "style-src" not in found


def test_a_browser_finds_its_icon():
    response = Client().get("/favicon.ico")
    assert response.status_code == 200
    assert response["Content-Type"] == "image/svg+xml"
    assert response.content.startswith(b"<svg")
    assert "max-age" in response["Cache-Control"]


def test_cookies_of_a_session_are_kept_from_scripts_and_other_sites():
    make_user("viewer", username="anna")
    client = Client()
    sent = {"username": "anna", "password": "correct horse battery staple", "next": "/admin/"}
    cookie = client.post("/admin/login/", sent).cookies["sessionid"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"
    assert int(cookie["max-age"]) == 12 * 3600
