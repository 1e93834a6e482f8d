"""In a real browser: an override is asked for, approved, in force, and over; and what forms say before they store."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.test_serve import Installation, wait_until

RULE = "comment-todo-without-reference"
GUARDED = "python-jwt-not-verified"
DOCUMENT = f"format: code-review-governance/1\nanalysis_rules:\n  - name: {RULE}\n    severity: low\n"
WORD = "correct horse battery staple"
LASTS = timedelta(seconds=15)  # enough for two people to press their buttons on a busy machine
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ACCOUNTS = """
import django; django.setup()
from tests.factories import make_user
make_user("rule editor", username="ada")
make_user("override approver", username="grace")
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="the server has a database of its own: once is enough"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of the machine. Where real services are required, one that is missing is a failure."""
    program = shutil.which("chromium")
    if program is None and os.environ.get("TESTS_REQUIRE_REAL") != "1":
        pytest.skip("needs a browser: apt-get install chromium")
    assert program, "TESTS_REQUIRE_REAL=1 wants a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("home"))
    installation.run("-c", ACCOUNTS)
    server = installation.serve("--no-worker")
    yield installation
    server.send_signal(signal.SIGTERM)
    server.wait()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What browsers report of the pages that they walk: nothing, if all is well."""
    heard: list[str] = []
    yield heard
    assert heard == []


@pytest.fixture
def sign_in(chromium: Browser, installation: Installation, complaints: list[str]) -> Iterator[Any]:
    """A window of somebody's own, signed in, on the overview."""
    windows = []

    def enter(username: str) -> Page:
        window = chromium.new_context(base_url=f"http://127.0.0.1:{installation.port}")
        windows.append(window)
        page = window.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error.stack}"))
        page.goto("/admin/login/")
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(WORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(lambda address: address.endswith(f":{installation.port}/admin/"))
        return page

    yield enter
    for window in windows:
        window.close()


def find_in_force(installation: Installation) -> tuple[str, list[str]]:
    """The severity of the rule, and the rules with an override, as the configuration in force has them."""
    configuration = installation.call("/config/configuration")
    severity = next(rule["severity"] for rule in configuration["rules"] if rule["name"] == RULE)
    return severity, [override["rule_name"] for override in configuration["overrides"]]


def ask(page: Page, until: datetime) -> None:
    page.goto("/admin/overrides/governanceruleoverride/add/")
    page.locator("[name=rule_name]").fill(RULE)
    page.locator("[name=severity]").select_option("high")
    page.locator("[name=expires_at_0]").fill(f"{until:%Y-%m-%d}")
    page.locator("[name=expires_at_1]").fill(f"{until:%H:%M:%S}")
    page.locator("[name=change_reason]").fill("Until the release is out.")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/governanceruleoverride/")


def approve(page: Page) -> None:
    """Select the request in the list, read the page, say why, and press the button."""
    page.get_by_role("row", name=RULE).get_by_role("checkbox").check()
    page.locator("[name=action]").select_option("approve")
    page.get_by_role("button", name=re.compile("^(Run|Go)")).click()
    expect(page.locator(".three-way")).to_contain_text("high")
    expect(page.locator(".why")).to_have_text("Until the release is out.")
    page.locator("[name=change_reason]").fill("I have read it.")
    page.get_by_role("button", name="Approve").click()


def test_an_override_is_asked_for_approved_in_force_and_over(installation, sign_in):
    ada, grace = sign_in("ada"), sign_in("grace")
    grace.goto("/admin/overrides/governanceruleoverride/")
    before = find_in_force(installation)
    assert before == ("info", [])
    until = datetime.now(UTC).replace(microsecond=0) + LASTS
    ask(ada, until)
    assert find_in_force(installation) == before
    grace.reload()
    approve(grace)
    expect(grace.get_by_role("row", name=RULE)).to_contain_text("active")
    assert find_in_force(installation) == ("high", [RULE])
    ada.reload()
    expect(ada.get_by_role("row", name=RULE)).to_contain_text("grace")

    wait_until(lambda: find_in_force(installation) == before)
    assert datetime.now(UTC) >= until
    ada.reload()
    expect(ada.get_by_role("row", name=RULE)).to_contain_text("expired")
    ada.get_by_role("link", name=RULE).click()
    expect(ada.locator(".override-head")).to_contain_text("Its time is over: without force.")
    expect(ada.locator(".decisions")).to_contain_text("I have read it.")


def test_a_form_says_what_a_governance_rule_refuses_before_it_is_stored(installation, sign_in):
    page = sign_in("ada")
    page.goto(f"/admin/rules/analysisrule/?q={GUARDED}")
    page.get_by_role("link", name=GUARDED).click()
    page.locator("[name=severity]").select_option("low")
    page.locator("[name=change_reason]").fill("Too loud.")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("alert")).to_contain_text("takes a second person")
    stored = installation.call("/config/configuration")["rules"]
    assert next(rule["severity"] for rule in stored if rule["name"] == GUARDED) == "critical"


def test_a_pasted_document_is_shown_as_a_plan_and_not_stored(installation, sign_in):
    page = sign_in("ada")
    page.goto("/admin/governance_config/preset/import/")
    page.locator("textarea[name=text]").fill(DOCUMENT)
    page.get_by_role("button", name="Show the plan").click()
    expect(page.locator(".entry")).to_contain_text(RULE)
    expect(page.get_by_role("button", name="Apply")).to_be_visible()
    assert find_in_force(installation)[0] == "info"
