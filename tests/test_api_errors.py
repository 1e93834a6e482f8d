"""Whatever goes wrong under /api is a problem of RFC 9457, and tells no secret."""

import io
import json
import logging
from unittest.mock import patch

import pytest
from django.db import DataError, IntegrityError, OperationalError
from django.test import Client
from rest_framework.test import APIClient

from audit.documents import MAX_DEPTH
from audit.errors import Busy
from audit.log import RequestIdFilter
from rules.models import AnalysisRule
from tests.factories import api_client, make_plugins, make_rule, make_user
from tests.rest import CONFIG, NEW_RULE, RULES, expect_problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor():
    make_plugins()
    return api_client(make_user("rule editor", username="editor"))


def send(client, text, content_type="application/json"):
    return client.generic("POST", RULES, text, content_type=content_type)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{", "line 1, column 2"),
        ('{\n  "name": }', "line 2, column 11"),
        ('{"name": NaN}', "NaN"),
        ('{"name": -Infinity}', "-Infinity"),
        ('{"name": 1e999}', "1e999"),
        ('{"name": ' + "9" * 5000 + "}", "JSON"),
        ('{"name": "a", "name": "b"}', "'name' stands twice"),
        ('{"name": "a\\u0000"}', "NUL"),
        ('{"name": "\\ud800"}', "surrogate"),
        (b'{"name": "\xff"}', "byte 10"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ('{"configuration":' * 50 + "1" + "}" * 50, str(MAX_DEPTH)),
        ("[" * 100_000, str(MAX_DEPTH)),
        ("[" * 100_000 + "]" * 100_000, str(MAX_DEPTH)),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, str(MAX_DEPTH)),
        ("", "JSON"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(editor, text, hint):
    response = send(editor, text)
    if text == "":
        expect_problem(response, 400, "invalid", "#/name", "#/rule_type")
    else:
        assert hint in expect_problem(response, 400, "malformed")["detail"]


@pytest.mark.parametrize("text", ["[]", '"x"', "7", "null", "true"])
def test_a_body_must_be_an_object(editor, text):
    expect_problem(send(editor, text), 400, "invalid", "#")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
)
def test_other_media_types_are_refused(editor, content_type):
    expect_problem(send(editor, json.dumps(NEW_RULE), content_type), 415, "unsupported-media-type")


def test_a_charset_beside_the_media_type_does_not_matter(editor):
    assert send(editor, json.dumps(NEW_RULE), "Application/JSON; charset=utf-8").status_code == 201


def test_a_body_that_is_too_large_is_refused(editor, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    body = expect_problem(send(editor, json.dumps({**NEW_RULE, "description": "x" * 1000})), 413, "too-large")
    assert "1,000" in body["detail"]


def test_a_body_of_unknown_length_is_read(editor):
    response = editor.generic(
        "POST", RULES, json.dumps(NEW_RULE), content_type="application/json", HTTP_TRANSFER_ENCODING="chunked"
    )
    assert response.status_code == 201, response.content


def test_any_wish_for_a_media_type_is_answered_with_json(editor):
    response = editor.get(RULES, headers={"Accept": "text/html"})
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


def test_a_method_that_is_not_there_names_those_that_are(editor):
    response = editor.put(RULES, {})
    expect_problem(response, 405, "method-not-allowed")
    assert response["Allow"] == "GET, POST, HEAD"
    expect_problem(editor.options(RULES), 405, "method-not-allowed")
    for address in (RULES, f"{RULES}?colour=1", "/api/v1/me?colour=1", f"{CONFIG}/export?colour=1"):
        expect_problem(editor.generic("TRACE", address), 405, "method-not-allowed")


@pytest.mark.parametrize(
    "address", ["/api", "/api/", "/api/v1", "/api/v2/x", f"{CONFIG}/", f"{RULES}/", f"{RULES}/1/x"]
)
def test_an_unknown_route_is_a_problem_too(editor, address):
    expect_problem(editor.get(address), 404, "not-found")


def test_an_unknown_page_outside_of_the_api_is_a_page():
    response = Client().get("/nothing-here")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_a_host_that_is_not_served_is_a_problem(editor):
    response = editor.get(RULES, headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (Busy("Another change is being stored."), 503, "busy"),
        (OperationalError("database is locked"), 503, "busy"),
        (OperationalError("connection refused by db.internal:5432"), 503, "unavailable"),
        (IntegrityError("UNIQUE constraint failed: secret_table"), 409, "conflict"),
        (DataError("value out of range: secret"), 400, "invalid"),
    ],
)
def test_what_the_database_refuses_is_told_without_its_words(editor, error, status, slug):
    with patch.object(AnalysisRule, "save", side_effect=error):
        response = editor.post(RULES, NEW_RULE)
    body = expect_problem(response, status, slug)
    assert "secret" not in str(body) and "internal" not in str(body)
    assert ("Retry-After" in response) == (status == 503)


def test_a_mistake_of_the_server_tells_nothing_but_the_request():
    rule = make_rule()
    client = api_client(make_user("viewer"))
    client.raise_request_exception = False
    with patch("audit.viewsets.ReadViewSet.show", side_effect=RuntimeError("the password is swordfish")):
        response = client.get(f"{RULES}/{rule.pk}", headers={"X-Request-ID": "look-for-this"})
    assert response.status_code == 500
    assert response["Content-Type"] == "application/problem+json"
    assert response["X-Request-ID"] == "look-for-this"
    body = response.json()
    assert body["type"] == "/problems/internal"
    assert "look-for-this" in body["detail"]
    assert "swordfish" not in response.content.decode() and "Traceback" not in response.content.decode()


def test_a_request_without_parameters_takes_none(editor):
    rule = make_rule()
    for address in (f"{RULES}/{rule.pk}?colour=1", "/api/v1/me?colour=1", "/healthz?colour=1"):
        expect_problem(editor.get(address), 400, "invalid", "#/colour")
    expect_problem(editor.patch(f"{RULES}/{rule.pk}?colour=1", {}), 400, "invalid", "#/colour")


def test_answers_are_kept_by_nobody_else(editor):
    response = editor.get(RULES)
    assert response["Cache-Control"] == "private, no-cache"
    assert "Authorization" in response["Vary"]


def test_the_type_of_a_problem_is_an_address_that_explains_it(editor):
    body = expect_problem(editor.get(f"{RULES}/1"), 404, "not-found")
    page = Client().get(body["type"])
    assert page.status_code == 200
    assert body["title"] in page.content.decode()
    assert Client().get("/problems/nonsense").status_code == 404


def test_the_same_error_under_the_admin_is_a_page():
    response = APIClient().get("/admin/nothing-here/")
    assert not response["Content-Type"].startswith("application/problem")


def test_the_log_names_the_request_that_the_client_knows(monkeypatch):
    """Somebody who reports the id of a failed request can be helped."""
    stream = io.StringIO()
    line = logging.StreamHandler(stream)
    line.setFormatter(logging.Formatter("%(request_id)s %(message)s"))
    line.addFilter(RequestIdFilter())
    monkeypatch.setattr(logging.getLogger("django.request"), "handlers", [line])
    monkeypatch.setattr("overrides.configuration_api.load_configuration", lambda: 1 / 0)
    client = api_client(make_user("viewer"))
    client.raise_request_exception = False
    response = client.get("/api/v1/config/configuration", headers={"X-Request-ID": "known-to-both"})
    assert response.status_code == 500
    assert response["X-Request-ID"] == "known-to-both"
    assert stream.getvalue().startswith("known-to-both ")
