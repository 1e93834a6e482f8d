"""Does the admin offer what would fail? Every link that a page shows to a role leads somewhere."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.contrib import admin
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
from tests.permission_table import NOBODY, ROLES
from tests.review_factories import make_finding, make_issue, make_prompt, make_session

pytestmark = [pytest.mark.django_db, pytest.mark.walk]
LINK = re.compile(r'href="(/admin/[^"#]*|\?[^"#]*)')


def list_starts() -> list[str]:
    """The overview, the list of each model, and the page and history of one object of it."""
    starts = [reverse("admin:index")]
    for model in admin.site._registry:
        name, item = f"admin:{model._meta.app_label}_{model._meta.model_name}", model._default_manager.first()
        starts += [
            reverse(f"{name}_changelist"),
            *(reverse(f"{name}_{page}", args=[item.pk]) for page in ("change", "history")),
        ]
    return starts


def name_kind(link: str) -> str:
    """Links of one kind differ in keys and parameters alone."""
    path, _, query = link.partition("?")
    return re.sub(r"/\d+/", "/N/", path) + "?" + "&".join(sorted(part.split("=")[0] for part in query.split("&")))


@pytest.mark.parametrize("role", [*ROLES, NOBODY])
def test_every_link_that_a_page_shows_leads_somewhere(role):
    make_persona("security")
    make_policy()
    make_preset()
    make_webhook()
    rule = make_rule()
    make_governance_rule()
    make_override(rule.name)
    session, finding = make_session(), make_finding(rule_name=rule.name)
    make_issue(session, finding)
    make_prompt(session)
    browser = sign_in(make_user(None if role == NOBODY else role))
    followed: dict[str, str] = {}
    for start in list_starts():
        page = browser.get(start)
        if page.status_code != 200:
            continue
        for link in map(unescape, LINK.findall(page.content.decode())):
            address = link if link.startswith("/") else start + link
            if "/logout" not in address and name_kind(address) not in followed:
                followed[name_kind(address)] = f"{start} → {address}: {browser.get(address).status_code}"
    assert followed
    assert [told for told in followed.values() if not told.endswith((": 200", ": 302"))] == []
