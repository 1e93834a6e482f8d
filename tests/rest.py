"""What the tests of the API share: addresses, and what a problem must look like."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from audit.models import ConfigurationAuditLog

CONFIG = "/api/v1/config"
RULES = f"{CONFIG}/analysis-rules"
PLUGINS = f"{CONFIG}/plugins"
PERSONAS = f"{CONFIG}/personas"
JOURNAL = f"{CONFIG}/audit-trail"
TOKEN = "/api/v1/auth/token"

NEW_RULE = {
    "name": "no-eval",
    "title": "No eval",
    "rule_type": "security",
    "severity": "high",
    "configuration": {"pattern": r"\beval\("},
    "file_types": [".py"],
    "message": "eval runs whatever it is given.",
    "examples": {"match": ["eval(text)"], "no_match": ["evaluate(text)"]},
}


def expect_problem(response: Any, status: int, slug: str, *pointers: str) -> dict[str, Any]:
    """The body of a problem of RFC 9457; with `pointers`, exactly these places are named."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response["X-Request-ID"]
    body = response.json()
    assert body["type"] == f"/problems/{slug}"
    assert body["status"] == status
    assert body["title"] and body["detail"]
    assert unquote(body["instance"]) == response.wsgi_request.path and body["instance"].isascii()
    if pointers:
        assert sorted(entry["pointer"] for entry in body["errors"]) == sorted(pointers)
        assert all(entry["detail"] and entry["code"] for entry in body["errors"])
    return body


def names(response: Any, field: str = "name") -> list[Any]:
    """A field of each result of a list."""
    assert response.status_code == 200, response.content
    return [result[field] for result in response.json()["results"]]


def last_change() -> ConfigurationAuditLog:
    """The newest row of the journal."""
    return ConfigurationAuditLog.objects.order_by("-revision").first()


def revision() -> int:
    """How far the journal has come."""
    newest = last_change()
    return newest.revision if newest is not None else 0
