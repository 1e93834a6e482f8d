"""Every route, method and role has its row, and the server answers as the row says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone

from audit.models import ConfigurationAuditLog
from personas.models import PersonaRuleAssignment
from plugins.models import Plugin
from tests.factories import (
    api_client,
    make_approved,
    make_governance_rule,
    make_persona,
    make_policy,
    make_request,
    make_rule,
    make_user,
)
from tests.permission_table import (
    ADMIN,
    ADMIN_PAGES,
    ANONYMOUS,
    API,
    AUDITOR,
    CALLERS,
    EVERYONE,
    MORE_PAGES,
    NOBODY,
    SUPERUSER,
    Page,
    Pages,
    Row,
)
from tests.review_factories import make_finding, make_issue, make_prompt, make_session

pytestmark = pytest.mark.django_db


@pytest.fixture
def examples() -> dict[str, Any]:
    """One object of each kind, by the name that the table uses."""
    make_persona("security")
    idle = make_persona("idle", rule_types=[])
    rule = make_rule(name="example")
    emergency = make_request(
        rule, by=make_user("administrator"), break_glass=True, reason="Every build fails on false findings.",
        expires_at=timezone.now() + timedelta(hours=1),
    )  # fmt: skip
    before, session, finding = make_session(), make_session(), make_finding(rule_name=rule.name)
    return {
        "rule": rule,
        "plugin": Plugin.objects.get(name="secrets"),
        "idle": idle,
        "assignment": PersonaRuleAssignment.objects.get(),
        "override": make_request(rule),
        "draft": make_request(rule, draft=True),
        "active": make_approved(rule),
        "emergency": emergency,
        "policy": make_policy("info"),
        "governance_rule": make_governance_rule(),
        "before": before,
        "session": session,
        "queued": make_session(status="queued"),
        "issue": make_issue(session, finding),
        "finding": finding,
        "codebase": finding.codebase,
        "prompt": make_prompt(session),
        "change": ConfigurationAuditLog.objects.first(),
        "user": make_user(),
        "group": Group.objects.get(name="viewer"),
    }


def make_caller(name: str) -> User | None:
    if name == ANONYMOUS:
        return None
    return make_user(None if name in (NOBODY, SUPERUSER) else name, superuser=name == SUPERUSER)


def fill(value: Any, examples: dict[str, Any]) -> Any:
    """`value` with the keys of the examples in place of their names."""
    if isinstance(value, dict):
        return {key: fill(item, examples) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, examples) for item in value]
    if isinstance(value, str) and (found := re.fullmatch(r"\{(\w+)\}", value)):
        return examples[found[1]].pk
    return value.format(**{name: item.pk for name, item in examples.items()}) if isinstance(value, str) else value


@contextmanager
def undone() -> Iterator[None]:
    """What happens inside is rolled back, so that the next caller finds the same objects."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.parametrize("row", API, ids=lambda row: f"{row.method} {row.path}")
def test_the_api_answers_each_role_as_the_table_says(row: Row, examples):
    for caller in CALLERS:
        with undone():
            client = api_client(make_caller(caller))
            before = ConfigurationAuditLog.objects.count()
            path, body = fill(row.path, examples), fill(row.body, examples)
            response = getattr(client, row.method.lower())(path, body, format="json")
            assert response.status_code == row.expect(caller), (caller, response.content)
            if response.status_code >= 400:
                assert response["Content-Type"] == "application/problem+json", caller
                assert ConfigurationAuditLog.objects.count() == before, caller


def walk(resolver: Any, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern).replace("^", "").replace("$", "")
        if hasattr(pattern, "url_patterns"):
            yield from walk(pattern, route)
        else:
            yield "/" + route, pattern


def routes() -> list[tuple[str, URLPattern]]:
    return list(walk(get_resolver()))


def methods(pattern: URLPattern) -> set[str]:
    """What the view behind `pattern` can do."""
    actions = getattr(pattern.callback, "actions", None)
    view = getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
    offered = set(getattr(view, "http_method_names", ["get"])) - {"head", "options"}
    found = offered & set(actions or {name for name in offered if hasattr(view, name)})
    return {name.upper() for name in found} or {"GET"}


def matches(row: Row | Page, route: str) -> bool:
    """Whether the row's path is one of the route's."""
    # Groups of the route match one part of a path.
    expression = re.sub(r"\(\?P<\w+>(?:[^()]|\([^()]*\))*\)|<[^>]+>", r"[^/]+", route.replace(".", r"\."))
    return re.fullmatch(expression, re.sub(r"\{\w+\}", "1", row.path.partition("?")[0])) is not None


def test_every_route_and_method_of_the_api_has_a_row():
    missing = [
        f"{method} {route}"
        for route, pattern in routes()
        if not route.startswith("/admin/")
        for method in sorted(methods(pattern))
        if not any(row.method == method and matches(row, route) for row in API)
    ]
    assert missing == []


SHARED_PAGES = {
    "/admin/",
    "/admin/search/",
    "/admin/login/",
    "/admin/logout/",
    "/admin/password_change/",
    "/admin/password_change/done/",
    "/admin/autocomplete/",
    "/admin/jsi18n/",
    "/admin/r/<path:content_type_id>/<path:object_id>/",
    "/admin/(?P<url>.*)",
}
PASSWORD_PAGE = "/admin/auth/user/<id>/password/"
UNDO_PAGE = "/admin/audit/configurationauditlog/undo/<str:what>/<int:revision>/"
MODEL_PAGES = ("", "add/", "<path:object_id>/history/", "<path:object_id>/delete/", "<path:object_id>/change/")


def test_every_page_of_the_admin_has_a_row():
    known = {*SHARED_PAGES, PASSWORD_PAGE, UNDO_PAGE}
    for pages in ADMIN_PAGES:
        base = f"/admin/{pages.model.replace('.', '/')}/"
        known |= {base + page for page in (*MODEL_PAGES, "<path:object_id>/")}
    missing = [
        route
        for route, _ in routes()
        if route.startswith("/admin/") and route not in known and "app_label" not in route
        if not any(matches(page, route) for page in MORE_PAGES)
    ]
    assert missing == []


def admin_client(caller: str) -> Client:
    client, user = Client(), make_caller(caller)
    if user is not None:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def reachable(may: tuple[str, ...]) -> set[str]:
    return {*may, SUPERUSER} if may else set()


each_model = pytest.mark.parametrize("pages", ADMIN_PAGES, ids=lambda pages: pages.model)


@each_model
def test_the_admin_shows_each_role_the_pages_that_the_table_says(pages: Pages, examples):
    pk, name = examples[pages.example].pk, f"admin:{pages.model.replace('.', '_')}"
    visible = {*pages.view, SUPERUSER}
    for caller in CALLERS:
        with undone():
            client = admin_client(caller)
            for page, arguments, allowed in (
                ("changelist", [], visible),
                ("add", [], reachable(pages.add)),
                ("change", [pk], visible),
                ("delete", [pk], reachable(pages.delete)),
                ("history", [pk], visible if pages.history else set()),
            ):
                response = client.get(reverse(f"{name}_{page}", args=arguments))
                if caller == ANONYMOUS:
                    assert (response.status_code, "login" in response["Location"]) == (302, True), page
                elif caller in allowed:
                    assert response.status_code == 200, (caller, page)
                else:
                    assert response.status_code in (302, 403, 404), (caller, page)
                    assert "/login/" not in response.get("Location", ""), (caller, page)


@pytest.mark.parametrize("page", MORE_PAGES, ids=lambda page: f"{page.method} {page.path}")
def test_the_other_pages_of_the_admin_answer_each_role_as_the_table_says(page: Page, examples):
    for caller in CALLERS:
        with undone():
            send = getattr(admin_client(caller), page.method.lower())
            response = send(fill(page.path, examples), fill(page.body, examples) or {})
            if caller == ANONYMOUS:
                assert "/login/" in response["Location"]
            else:
                assert response.status_code in page.expect(caller), (caller, response.content)


def test_only_administrators_see_the_page_that_sets_a_password(examples):
    path = reverse("admin:auth_user_password_change", args=[examples["user"].pk])
    for caller in CALLERS:
        with undone():
            status = admin_client(caller).get(path).status_code
            assert (status == 200) == (caller in (ADMIN, SUPERUSER)), (caller, status)


def test_only_readers_of_the_journal_see_the_page_that_undoes_a_change(examples):
    path = reverse("admin:audit_configurationauditlog_undo", args=["change", examples["change"].pk])
    for caller in CALLERS:
        with undone():
            status = admin_client(caller).get(path).status_code
            assert (status == 200) == (caller in (AUDITOR, ADMIN, SUPERUSER)), (caller, status)


@each_model
def test_the_admin_writes_nothing_for_a_role_that_may_not(pages: Pages, examples):
    item = examples[pages.example]
    for caller in CALLERS:
        with undone():
            write_what_may_not_be(pages, caller, item)


def write_what_may_not_be(pages: Pages, caller: str, item: Any) -> None:
    client, model, pk = admin_client(caller), type(item), item.pk
    name = f"admin:{pages.model.replace('.', '_')}"
    refusals = (302, 403, 404, 405)
    before, stored = ConfigurationAuditLog.objects.count(), model.objects.filter(pk=pk).values().get()
    count = model.objects.count()
    data = {
        "change_reason": "because",
        "name": "written",
        "title": "written",
        "post": "yes",
        "version": item_version(item),
    }
    if caller not in reachable(pages.add):
        assert client.post(reverse(f"{name}_add"), data).status_code in refusals, (caller, "add")
    if caller not in reachable(pages.change) and pages.model != "audit.configurationauditlog":
        assert client.post(reverse(f"{name}_change", args=[pk]), data).status_code in refusals, (caller, "change")
    if caller not in reachable(pages.delete):
        assert client.post(reverse(f"{name}_delete", args=[pk]), data).status_code in refusals, (caller, "delete")
        action = {"action": "delete_selected", "_selected_action": [str(pk)], **data}
        assert client.post(reverse(f"{name}_changelist"), action).status_code in (200, *refusals), (caller, "action")
    assert ConfigurationAuditLog.objects.count() == before, caller
    assert model.objects.count() == count, caller
    assert model.objects.filter(pk=pk).values().get() == stored, caller


def item_version(item: Any) -> int:
    return getattr(item, "version", 0)


def test_a_table_row_for_nobody_known_would_be_noticed():
    assert set(EVERYONE) < set(CALLERS)
    assert all(set(row.may) <= set(EVERYONE) for row in API)
