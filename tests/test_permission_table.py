"""Every route, page, action and role has its row, and the server answers as it says; so it does a grant on one object.

The tests walk the router and the pages of the admin: what has no row in `permission_table` fails by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client, RequestFactory
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone

from audit.governed import GovernedModel, governed_models
from audit.models import ConfigurationAuditLog
from audit.permissions import grant, has_grants
from personas.models import PersonaRuleAssignment
from plugins.models import Plugin
from tests.admin_client import said
from tests.factories import (
    api_client,
    make_approved,
    make_governance_rule,
    make_override,
    make_persona,
    make_policy,
    make_preset,
    make_request,
    make_rule,
    make_user,
    make_webhook,
)
from tests.permission_table import (
    ADMIN,
    ADMIN_PAGES,
    ANONYMOUS,
    API,
    AUDITOR,
    CALLERS,
    EVERYONE,
    LISTS,
    MORE_PAGES,
    NOBODY,
    SUPERUSER,
    Page,
    Pages,
    Row,
)
from tests.review_factories import make_finding, make_issue, make_prompt, make_session

pytestmark = [pytest.mark.django_db, pytest.mark.walk]


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The examples and the callers: made once, since each test is undone within this transaction."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_examples(), {name: make_caller(name) for name in CALLERS}
        transaction.set_rollback(True)


@pytest.fixture
def examples(world, db) -> dict[str, Any]:
    """One object of each kind, by the name that the table uses."""
    return world[0]


@pytest.fixture
def callers(world, db) -> dict[str, User | None]:
    """A user of each role, nobody for the anonymous."""
    return world[1]


def make_examples() -> dict[str, Any]:
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
        "webhook": make_webhook("hook", url="https://hooks.invalid/"),
        "before": before,
        "session": session,
        "queued": make_session(status="queued"),
        "issue": make_issue(session, finding),
        "finding": finding,
        "codebase": finding.codebase,
        "prompt": make_prompt(session),
        "preset": make_preset(),
        "change": ConfigurationAuditLog.objects.first(),
        "user": make_user(username="leaver"),
        "group": Group.objects.get(name="viewer"),
    }


@pytest.fixture
def others(examples) -> dict[str, Any]:
    """A second object of each kind on which single rights can be given."""
    return {
        "rule": make_rule(),
        "plugin": Plugin.objects.get(name="patterns"),
        "idle": make_persona("other", rule_types=[]),
        "override": make_override(examples["rule"].name, paths=["legacy/**"]),
        "governance_rule": make_governance_rule("another-one"),
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
    return (
        value.format(**{name: find_key(item) for name, item in examples.items()}) if isinstance(value, str) else value
    )


def find_key(item: Any) -> Any:
    """What identifies `item` in a route."""
    return getattr(item, "entity_id", item.pk) if isinstance(item, GovernedModel) else item.pk


@contextmanager
def undone() -> Iterator[None]:
    """What happens inside is rolled back, so that the next caller finds the same objects."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def send(client: Any, row: Row, path: str, body: Any) -> Any:
    return getattr(client, row.method.lower())(path, body, format="json")


@pytest.mark.parametrize("row", API, ids=lambda row: f"{row.method} {row.path}")
def test_the_api_answers_each_role_as_the_table_says(row: Row, examples, callers):
    for caller in CALLERS:
        with undone():
            client = api_client(callers[caller])
            before = ConfigurationAuditLog.objects.count()
            path, body = fill(row.path, examples), fill(row.body, examples)
            response = send(client, row, path, body)
            assert response.status_code == row.expect(caller), (caller, response.content)
            if response.status_code >= 400:
                assert response["Content-Type"] == "application/problem+json", caller
                assert ConfigurationAuditLog.objects.count() == before, caller


def names_in(value: Any) -> set[str]:
    """The examples that stand in a path or a body."""
    return set(re.findall(r"\{(\w+)\}", str(value)))


OF_ONE_OBJECT = [row for row in API if row.grant]


@pytest.mark.parametrize("row", OF_ONE_OBJECT, ids=lambda row: f"{row.method} {row.path}")
def test_a_grant_on_one_object_opens_that_object_alone(row: Row, examples, others):
    (kind,) = names_in([row.path, row.body]) & set(LISTS)
    one, client = examples[kind], api_client(user := make_user())
    other = {**examples, kind: others[kind]}

    def answer(named: dict[str, Any]) -> int:
        with undone():
            return send(client, row, fill(row.path, named), fill(row.body, named)).status_code

    assert (answer(examples), answer(other)) == (row.unseen, row.unseen)
    grant(action="view", holder=user, target=one)
    if row.grant != "view":
        assert (answer(examples), answer(other)) == (row.refused, row.unseen)
        grant(action=row.grant, holder=user, target=one)
    assert (answer(examples), answer(other)) == (row.status, row.unseen)
    # Seen, and yet not opened by a right on its neighbour.
    grant(action="view", holder=user, target=others[kind])
    assert answer(other) == (row.status if row.grant == "view" else row.refused)


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_shows_the_objects_that_were_granted_and_no_other(kind, examples, others):
    client = api_client(user := make_user())
    assert client.get(LISTS[kind]).status_code == 403
    grant(action="view", holder=user, target=examples[kind])
    body = client.get(LISTS[kind]).json()
    assert body["count"] == 1
    shown = body["results"][0]
    assert str(shown.get("id", shown.get("name"))) == str(find_key(examples[kind]))


def test_every_row_on_a_kind_with_rights_on_single_objects_says_what_they_open():
    silent = [
        f"{row.method} {row.path}: say `grant`" for row in API if row.grant is None and names_in(row.path) & set(LISTS)
    ]
    assert silent == []


def test_every_kind_with_rights_on_single_objects_is_listed(examples):
    kinds = {model for model in governed_models() if has_grants(model)}
    assert {type(examples[name]) for name in LISTS} == kinds, "add the missing ones to LISTS in permission_table.py"


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
        f"add a Row to API in permission_table.py: {method} {route}"
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
        f"add Pages or a Page to permission_table.py: {route}"
        for route, _ in routes()
        if route.startswith("/admin/") and route not in known and "app_label" not in route
        if not any(matches(page, route) for page in MORE_PAGES)
    ]
    assert missing == []


def admin_client(user: User | None) -> Client:
    client = Client()
    if user is not None:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def reachable(may: tuple[str, ...]) -> set[str]:
    return {*may, SUPERUSER} if may else set()


each_model = pytest.mark.parametrize("pages", ADMIN_PAGES, ids=lambda pages: pages.model)


@each_model
def test_the_admin_shows_each_role_the_pages_that_the_table_says(pages: Pages, examples, callers):
    pk, name = examples[pages.example].pk, f"admin:{pages.model.replace('.', '_')}"
    visible = {*pages.view, SUPERUSER}
    for caller in CALLERS:
        with undone():
            client = admin_client(callers[caller])
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
def test_the_other_pages_of_the_admin_answer_each_role_as_the_table_says(page: Page, examples, callers):
    for caller in CALLERS:
        with undone():
            send = getattr(admin_client(callers[caller]), page.method.lower())
            response = send(fill(page.path, examples), fill(page.body, examples) or {})
            if caller == ANONYMOUS:
                assert "/login/" in response["Location"]
            else:
                assert response.status_code in page.expect(caller), (caller, response.content)


def test_only_administrators_see_the_page_that_sets_a_password(examples, callers):
    path = reverse("admin:auth_user_password_change", args=[examples["user"].pk])
    for caller in CALLERS:
        with undone():
            status = admin_client(callers[caller]).get(path).status_code
            assert (status == 200) == (caller in (ADMIN, SUPERUSER)), (caller, status)


def test_only_readers_of_the_journal_see_the_page_that_undoes_a_change(examples, callers):
    path = reverse("admin:audit_configurationauditlog_undo", args=["change", examples["change"].pk])
    for caller in CALLERS:
        with undone():
            status = admin_client(callers[caller]).get(path).status_code
            assert (status == 200) == (caller in (AUDITOR, ADMIN, SUPERUSER)), (caller, status)


@each_model
def test_the_admin_writes_nothing_for_a_role_that_may_not(pages: Pages, examples, callers):
    item = examples[pages.example]
    for caller in CALLERS:
        with undone():
            write_what_may_not_be(pages, caller, admin_client(callers[caller]), item)


def write_what_may_not_be(pages: Pages, caller: str, client: Client, item: Any) -> None:
    model, pk = type(item), item.pk
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


def offered(model_admin: Any, user: Any) -> set[str]:
    """The actions in the list of a model for a caller."""
    request = RequestFactory().get("/")
    request.user = user
    return set(model_admin.get_actions(request))


def test_every_action_of_the_admin_is_offered_to_whom_the_table_says(examples, callers):
    tables = {pages.model: pages for pages in ADMIN_PAGES}
    wrong = []
    for model, model_admin in admin.site._registry.items():
        actions = tables[model._meta.label_lower].actions
        for caller in EVERYONE:
            expected = {name for name, may in actions.items() if caller in reachable(may)}
            if (found := offered(model_admin, callers[caller])) != expected:
                wrong.append(
                    f"{model._meta.label_lower}, {caller}: `actions` say {sorted(expected)}, not {sorted(found)}"
                )
    assert wrong == []


with_actions = pytest.mark.parametrize(
    ("pages", "action"),
    [(pages, action) for pages in ADMIN_PAGES for action in pages.actions],
    ids=lambda value: value if isinstance(value, str) else value.model,
)


@with_actions
def test_an_action_of_the_admin_answers_those_whom_it_is_offered_and_does_nothing_for_others(
    pages, action, examples, callers
):
    item = examples[pages.example]
    address = reverse(f"admin:{pages.model.replace('.', '_')}_changelist")
    stored = type(item).objects.filter(pk=item.pk).values().get()
    for caller in EVERYONE:
        with undone():
            sent = {"action": action, "_selected_action": [str(item.pk)], "index": 0}
            client = admin_client(callers[caller])
            before = ConfigurationAuditLog.objects.count()
            if caller in reachable(pages.actions[action]):
                response = client.post(address, sent)
                # Done at once, or a page that asks why.
                assert response.status_code in (200, 302), caller
                assert "No action selected" not in said(response), caller
            else:
                client.post(address, {**sent, "post": "yes", "change_reason": "because", "severity": "low"})
                assert ConfigurationAuditLog.objects.count() == before, caller
                assert type(item).objects.filter(pk=item.pk).values().get() == stored, caller


GRANTED_PAGES = [pages for pages in ADMIN_PAGES if pages.example in LISTS]


@pytest.mark.parametrize("pages", GRANTED_PAGES, ids=lambda pages: pages.model)
def test_a_grant_opens_the_pages_of_one_object_alone(pages, examples, others):
    one, other, name = examples[pages.example], others[pages.example], f"admin:{pages.model.replace('.', '_')}"
    client, user = Client(), make_user()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    def opens(page: str, item: Any) -> bool:
        response = client.get(reverse(f"{name}_{page}", args=[item.pk]))
        assert response.status_code in (200, 302, 403)
        return response.status_code == 200

    assert client.get(reverse(f"{name}_changelist")).status_code == 403
    grant(action="view", holder=user, target=one)
    for page, expected in (("change", True), ("history", True), ("delete", False)):
        assert (opens(page, one), opens(page, other)) == (expected, False), page
    assert list(client.get(reverse(f"{name}_changelist")).context["cl"].result_list) == [one]
    assert client.get(reverse(f"{name}_add")).status_code == 403
    for action, allowed in (("change", pages.change), ("delete", pages.delete)):
        if allowed:
            grant(action=action, holder=user, target=one)
            grant(action="view", holder=user, target=other)
            check_right_on_one(client, name, action, one, other)


def check_right_on_one(client: Client, name: str, action: str, one: Any, other: Any) -> None:
    """Whoever may do `action` on `one` and sees both is offered it there, and refused at the other."""
    page = {item: client.get(reverse(f"{name}_{action}", args=[item.pk])) for item in (one, other)}
    offers = {
        item: shown.status_code == 200 and 'name="change_reason"' in shown.content.decode()
        for item, shown in page.items()
    }
    assert offers == {one: True, other: False}, action
    before = ConfigurationAuditLog.objects.count()
    sent = {"post": "yes", "change_reason": "because", "version": item_version(other)}
    assert client.post(reverse(f"{name}_{action}", args=[other.pk]), sent).status_code in (302, 403)
    assert ConfigurationAuditLog.objects.count() == before, action


def test_a_table_row_for_nobody_known_would_be_noticed():
    assert set(EVERYONE) < set(CALLERS)
    assert all(set(row.may) <= set(EVERYONE) for row in API)
