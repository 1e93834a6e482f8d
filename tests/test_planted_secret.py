"""Is a secret found anywhere? Planted through every door, and looked for in everything that can be read."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views.debug import ExceptionReporter

from audit.exchange import FORMAT
from governance_config.error_pages import QuietFilter
from overrides.effective import load_configuration
from overrides.models import Webhook
from overrides.webhooks import deliver_pending
from plugins.models import Plugin
from plugins.services import check_all, sync_plugins
from reviews.models import ReviewSession
from reviews.sessions import review
from rules.models import AnalysisRule
from tests.admin_client import address, sign_in, submit
from tests.factories import api_client, make_override, make_persona, make_user
from tests.packages import Packages, packages  # noqa: F401, a fixture
from tests.remote_analyzer import CODE
from tests.rest import CONFIG, PLUGINS, RULES, expect_problem

pytestmark = pytest.mark.django_db(transaction=True)

WORD = "pl4nted"
"""Stands in every planted secret and nowhere else."""


@pytest.fixture
def planted(packages: Packages, settings: Any, tmp_path: Path, caplog: Any, monkeypatch: Any) -> dict[str, Any]:  # noqa: F811
    """An installation with secrets from every door, a review of it, and everything that was answered meanwhile."""
    settings.ENCRYPTION_KEYS, settings.ENCRYPTION_KEY_FILE = [], tmp_path / "encryption.keys"
    settings.DEBUG_PROPAGATE_EXCEPTIONS = False
    caplog.set_level(logging.DEBUG)
    # Django's own lines do not propagate.
    monkeypatch.setattr(logging.getLogger("django"), "handlers", [caplog.handler])
    caplog.set_level(logging.DEBUG, "django")
    packages.install("remote_package", CODE, remote="Remote")
    sync_plugins()
    make_persona("security")
    boss = make_user(superuser=True, username="boss")
    client, browser = api_client(boss), sign_in(boss)
    answers = plant_by_api(client)
    answers += plant_by_admin(browser)
    answers += plant_webhook(client)
    plant_by_document(tmp_path)
    plant_by_code()
    run_reviews(tmp_path)
    return {"client": client, "browser": browser, "answers": answers}


def plant_by_api(client: Any) -> list[Any]:
    settings = {"token": f"{WORD}-token", "login": {"user": "ann", "password": f"{WORD}-login"}}
    rule = {"name": "asks", "rule_type": "security", "severity": "high", "plugin": "remote", "message": "Asked."}
    rule["configuration"] = {"word": "ask", "password": f"{WORD}-rule"}
    done = [
        client.patch(f"{PLUGINS}/remote", {"configuration": settings, "change_reason": "planted"}),
        client.post(RULES, rule),
    ]
    assert [response.status_code for response in done] == [200, 201], [response.content for response in done]
    wrong = [
        client.patch(f"{PLUGINS}/remote", {"configuration": {"token": f"{WORD}-a", "url": 7}}),
        client.patch(f"{PLUGINS}/remote", {"configuration": {"token": [f"{WORD}-b"], "mood": "no"}}),
        client.post(RULES, {**rule, "name": "b", "configuration": {"word": 1, "password": f"{WORD}-c"}}),
        client.post(RULES, {**rule, "name": "c", "configuration": {"word": "x", "password": f"refuse-{WORD}"}}),
        client.post(f"{RULES}/bulk", {"updates": [{"id": 1, "configuration": {"password": f"{WORD}-d"}}]}),
        client.patch(f"{PLUGINS}/remote", {"configuration": f"{WORD}-e"}),
    ]
    for response in wrong:
        expect_problem(response, 400, "invalid")
    return [*done, *wrong]


def plant_webhook(client: Any) -> list[Any]:
    """One with a delivery that failed, and one that was refused."""
    hook = {"name": "hook", "url": "https://hooks.invalid/", "secret": f"{WORD}-of-a-webhook"}
    done = [client.post(f"{CONFIG}/webhooks", hook), client.post(f"{CONFIG}/webhooks/hook/test")]
    assert [response.status_code for response in done] == [201, 200]
    wrong = client.post(f"{CONFIG}/webhooks", {**hook, "name": "wrong", "secret": f"{WORD}-x"})
    expect_problem(wrong, 400, "invalid")
    deliver_pending(Webhook.objects.get().pk)
    return [*done, wrong]


def plant_by_admin(browser: Client) -> list[Any]:
    page = address("change", Plugin.objects.get(name="remote"))
    hosts = [{"host": "a", "key": f"{WORD}-host"}]
    done = submit(browser, page, configuration=json.dumps({"login": {"user": "ann"}, "hosts": hosts}))
    assert done.status_code == 302
    wrong = submit(browser, page, configuration=json.dumps({"token": f"{WORD}-f", "url": 7}))
    assert wrong.status_code == 200
    rule = address("change", AnalysisRule.objects.get(name="asks"))
    refused = submit(browser, rule, configuration=json.dumps({"word": "", "password": f"refuse-{WORD}-g"}))
    assert refused.status_code == 200
    return [done, wrong, refused]


def plant_by_document(folder: Path) -> None:
    file = folder / "document.json"
    rule = {"name": "imported", "rule_type": "security", "plugin": "remote", "message": "Imported."}
    rule["configuration"] = {"word": "import", "password": f"{WORD}-imported"}
    plugin = {"name": "remote", "configuration": {"token": f"{WORD}-token-2", "login": {"user": "bob"}}}
    file.write_text(json.dumps({"format": FORMAT, "plugins": [plugin], "analysis_rules": [rule]}))
    call_command("import_config", str(file), plan=True)
    call_command("import_config", str(file), apply=True, reason="planted")
    file.unlink()


def plant_by_code() -> None:
    patch = {"configuration": {"password": f"{WORD}-override"}}
    make_override("asks", override_config=patch, status="active", enabled=True, approved_by="somebody")
    rule = AnalysisRule.objects.get(name="asks")
    rule.configuration = {"word": "ask", "password": f"{WORD}-rule-2"}
    rule.save()


def run_reviews(folder: Path) -> None:
    """A quiet one, one whose analyzer says its secrets, and one in which it fails with them."""
    code = folder / "code"
    code.mkdir()
    (code / "a.py").write_text("ask()\nimport os\n")
    for mood in ("quiet", "chatty", "broken"):
        plugin = Plugin.objects.get(name="remote")
        plugin.configuration = {**plugin.configuration, "mood": mood}
        plugin.save()
        review(code, started_by="boss", jobs=0)
    check_all([Plugin.objects.get(name="remote")])
    sessions = list(ReviewSession.objects.order_by("pk"))
    assert sessions[1].issues.exists() and sessions[2].failures


def everything_stored() -> dict[str, str]:
    """Every table of the database as text."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[table] = "\n".join(
                " ".join(
                    bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else str(value)
                    for value in row
                )
                for row in cursor.fetchall()
            )
    return found


def holders(texts: dict[str, str]) -> list[str]:
    return [name for name, text in texts.items() if WORD in text]


def test_a_secret_is_in_no_table(planted):
    texts = everything_stored()
    assert "$encrypted" in texts["plugins"] and "$encrypted" in texts["analysis_rules_history"]
    assert "$encrypted" not in texts["configuration_audit_log"]
    assert holders(texts) == []


def test_a_secret_is_in_no_file(planted, tmp_path, capsys):
    call_command("backup", str(tmp_path / "backup.gz"))
    for form in ("yaml", "json"):
        call_command("export_config", output=tmp_path / f"export.{form}", format=form)
    kept = {file.name: file for file in (tmp_path / "backup.gz", *tmp_path.glob("export.*"))}
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(FULL)")
        name = str(connection.settings_dict["NAME"])
        kept |= {f"database{end}": Path(name + end) for end in ("", "-wal") if Path(name + end).exists()}
    assert len(kept) >= 3
    content = {name: path.read_bytes() for name, path in kept.items()}
    content["backup.gz"] = gzip.decompress(content["backup.gz"])
    assert b"$encrypted" in content["backup.gz"]
    key = (tmp_path / "encryption.keys").read_text().strip()
    assert [name for name, data in content.items() if WORD.encode() in data or key.encode() in data] == []
    assert b"remote" in content["export.yaml"] and b"$encrypted" not in content["export.yaml"] + content["export.json"]


def test_a_secret_is_in_no_answer_that_was_given(planted):
    for response in planted["answers"]:
        assert WORD not in response.content.decode(), response.request["PATH_INFO"]


def name_targets() -> dict[str, Any]:
    """What stands for the arguments of routes."""
    session = ReviewSession.objects.order_by("pk")[1]
    return {
        "session": session,
        "issue": session.issues.first(),
        "rule": AnalysisRule.objects.get(name="asks"),
        "revisions": range(1, 1 + load_configuration().revision),
    }


def test_a_secret_is_in_no_answer_of_the_api(planted):
    """Every route that takes no argument or the key of something that has a secret."""
    client, seen = planted["client"], 0
    document = client.get("/api/v1/schema.json")
    assert document.status_code == 200
    targets = name_targets()
    values = {
        "name": ["remote", "security", "hook"],
        "id": [targets["rule"].pk, targets["session"].pk, targets["issue"].pk],
        "pk": [targets["rule"].pk, targets["session"].pk, targets["issue"].pk],
        "revision": targets["revisions"],
    }
    for route in read_paths(document):
        for path in fill(route, values):
            if path.endswith("/changes"):
                continue  # it never ends; its events have no documents
            response = client.get(path)
            content = b"".join(response.streaming_content) if response.streaming else response.content
            assert WORD.encode() not in content and b"$encrypted" not in content, path
            seen += response.status_code == 200
    assert seen > 60


def read_paths(response: Any) -> list[str]:
    """The routes that can be read."""
    return [path for path, methods in response.json()["paths"].items() if "get" in methods]


def fill(route: str, values: dict[str, Any]) -> list[str]:
    """The addresses of a route with every known value for its first argument; others get 1."""
    if "{" not in route:
        return [route]
    name = route.partition("{")[2].partition("}")[0]
    known = values.get(name, values["id"])
    return [path for value in known for path in fill(route.replace("{" + name + "}", str(value)), values)]


@pytest.mark.walk
def test_a_secret_is_on_no_page_of_the_admin(planted):
    browser, seen = planted["browser"], []
    for model, own in admin.site._registry.items():
        options = model._meta
        base = f"admin:{options.app_label}_{options.model_name}"
        pages = [reverse(f"{base}_changelist"), f"{reverse(f'{base}_changelist')}?q={WORD}", reverse(f"{base}_add")]
        for item in own.get_queryset(request_of(browser))[:40]:
            pages += [reverse(f"{base}_{page}", args=[item.pk]) for page in ("change", "history", "delete")]
        for page in pages:
            response = browser.get(page)
            text = response.content.decode().replace(f"q={WORD}", "").replace(f'value="{WORD}"', "")
            told = [line for line in text.splitlines() if WORD in line and "_changelist_filters" not in line]
            assert not told or f"?q={WORD}" in page, (page, told)
            assert "$encrypted" not in text, page
            seen += [page] if response.status_code == 200 else []
    assert len(seen) > 60
    assert WORD not in browser.get(reverse("admin:index")).content.decode()


def request_of(browser: Client) -> Any:
    request = RequestFactory().get("/")
    request.user = browser.get(reverse("admin:index")).wsgi_request.user
    return request


def test_a_secret_is_in_no_line_of_the_log(planted, caplog):
    assert [record.getMessage() for record in caplog.records if WORD in record.getMessage()] == []
    assert not any(WORD in (record.exc_text or "") for record in caplog.records)


def test_a_secret_is_in_nothing_that_a_review_gives_out(planted, tmp_path, capsys):
    code = tmp_path / "code"
    plugin = Plugin.objects.get(name="remote")
    plugin.configuration = {**plugin.configuration, "mood": "chatty"}
    plugin.save()
    outputs = {}
    for form in ("json", "sarif", "github", "markdown", "junit", "table"):
        call_review(str(code), form)
        outputs[form] = capsys.readouterr().out
    assert holders(outputs) == []
    assert all(outputs.values())


def call_review(code: str, form: str) -> None:
    try:
        call_command("code_review", code, format=form, jobs=0)
    except SystemExit:
        return


@pytest.mark.parametrize("debug", [True, False])
def test_a_secret_is_on_no_error_page(planted, settings, debug, monkeypatch, caplog):
    settings.DEBUG = debug
    client = planted["client"]
    client.raise_request_exception = False

    def fail(plugin: Any) -> None:
        in_memory = {"token": f"{WORD}-in-memory"}
        raise RuntimeError(f"of {len(in_memory)}")

    monkeypatch.setattr(Plugin, "clean", fail)
    response = client.patch(f"{PLUGINS}/remote", {"configuration": {"token": f"{WORD}-sent"}})
    assert response.status_code == 500
    assert WORD not in response.content.decode()
    browser = planted["browser"]
    browser.raise_request_exception = False
    page = address("change", Plugin.objects.get(name="remote"))
    response = submit(browser, page, configuration=json.dumps({"token": f"{WORD}-sent"}))
    assert response.status_code == 500
    assert ("RuntimeError" in response.content.decode()) is debug
    assert WORD not in response.content.decode()
    assert not any(WORD in caplog.handler.format(record) for record in caplog.records)


def test_an_error_report_names_what_it_hides():
    request = RequestFactory().post("/", {"token": f"{WORD}-sent"})
    try:
        raise ValueError("of nothing")
    except ValueError as error:
        reporter = ExceptionReporter(request, type(error), error, error.__traceback__)
    assert isinstance(reporter.filter, QuietFilter)
    for text in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert WORD not in text and "token" in text
