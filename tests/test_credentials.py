"""Is a credential that a review finds repeated anywhere: in what is stored, shown, exported or kept between reviews?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import models

from audit.exchange import apply, parse
from audit.permissions import SYSTEM_ACTOR
from governance_config.management.commands.prepare import STARTER
from plugins.analyzers.secrets import Secrets
from plugins.contract import RuleSpec, SourceFile
from plugins.services import sync_plugins
from reviews import sessions
from reviews.models import DiscoveredIssue, ReviewSession
from tests.factories import api_client, make_user

pytestmark = pytest.mark.django_db(transaction=True)

KEY_LINES = [
    "MIIEpQIBAAKCAQEAx9Tq2b5YtLr7sZ4mPn3KcJd6WgHf8uEo3RiTaXyBvQpLkMnO",
    "k3Wq7ZyTm5Rx1Yb8Nc4KdJfHgTsEaPzXuCiWoVbRyQmNlKjIhGfEdCbAzYxWvUtS",
    "Zp4Rk8vQw2Xy7Lm3",
]
TOKEN = "3d5cd2f5-7fe7-43c0-ba34-7e01678ba8b6"
JSON_KEY = "h5Rw9ZkTq2Lx8Vb3Nm6Y"
PLANTED = [*KEY_LINES, TOKEN[6:], JSON_KEY[6:]]


@pytest.fixture
def codebase(tmp_path: Path, monkeypatch) -> Path:
    """A key in a file of its own and in a program, tokens in Java and JSON, each with other findings close by."""
    root = tmp_path / "shop"
    root.mkdir()
    armour = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *KEY_LINES, "-----END RSA PRIVATE KEY-----"])
    (root / "worker.key").write_text(armour + "\n")
    (root / "keys.py").write_text(f'import os\nKEY = """{armour}"""\nos.system(command)\nresult = eval(text)\n')
    (root / "Api.java").write_text(
        f'class Api {{\n  String apiToken = "{TOKEN}";\n  boolean f() {{ return role == "admin"; }}\n}}\n'
    )
    (root / "config.json").write_text(json.dumps({"a": 1, "api_token": JSON_KEY}, indent=1))
    monkeypatch.setattr(sessions, "CACHE", tmp_path / "cache")
    sync_plugins()
    apply(parse(STARTER.read_bytes()), user=SYSTEM_ACTOR)
    return root


def everything_stored() -> str:
    return "".join(
        str(list(models.QuerySet(model).values()))
        for model in apps.get_models()
        if model._meta.app_label in ("reviews", "plugins", "audit")
    )


def expect_nothing(text: str) -> None:
    assert [planted for planted in PLANTED if planted in text] == []


def test_no_credential_is_stored_shown_or_exported(codebase, tmp_path):
    documents = {form: tmp_path / f"review.{form}" for form in ("json", "sarif", "github", "markdown", "junit")}
    call_command(
        "code_review", str(codebase), "--copilot", *(f"--write={name}={file}" for name, file in documents.items())
    )
    found = set(DiscoveredIssue.objects.values_list("path", "rule_name"))
    assert {("worker.key", "secrets-private-key"), ("keys.py", "secrets-private-key")} <= found
    assert {("Api.java", "secrets-assigned-literal"), ("config.json", "secrets-assigned-literal")} <= found
    assert {("keys.py", "python-eval-call"), ("Api.java", "java-string-identity")} <= found
    expect_nothing(everything_stored())
    for file in documents.values():
        expect_nothing(file.read_text())
    for file in (codebase / ".github").rglob("*.md"):
        expect_nothing(file.read_text())
    session = ReviewSession.objects.get()
    client = api_client(make_user("viewer"))
    answers = client.get(f"/api/v1/reviews/sessions/{session.pk}/issues?limit=1000").content.decode()
    expect_nothing(answers)


def test_nor_kept_for_the_next_review(codebase, tmp_path):
    call_command("code_review", codebase)
    kept = b"".join(file.read_bytes() for file in (tmp_path / "cache").rglob("*") if file.is_file())
    assert kept
    assert [planted for planted in PLANTED if planted.encode() in kept] == []
    assert str(settings.HOME) not in str(tmp_path)


def test_a_key_in_armour_is_one_finding_up_to_its_last_line():
    analyzer = Secrets()
    pattern = r"-----BEGIN PRIVATE KEY-----\s*(?P<secret>[A-Za-z0-9+/=]{40,})"
    rule = RuleSpec("key", plugin="secrets", configuration={"pattern": pattern})
    analyzer.prepare([rule], {})
    text = "\n".join(["a = 1", "-----BEGIN PRIVATE KEY-----", *KEY_LINES, "-----END PRIVATE KEY-----", "b = 2"])
    (finding,) = analyzer.analyze(SourceFile("a.pem", text.encode()), [rule])
    assert (finding.start_line, finding.end_line, finding.sensitive) == (2, 6, True)
