"""What the server tells of itself: figures for Prometheus, degraded parts, and the lines of its log."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ConnectionError as RedisGone
from rest_framework.test import APIClient

from audit import key_checks, metrics, readiness
from audit.log import JsonFormatter, LineFormatter, RequestIdFilter, hide_secrets, naming
from audit.models import ConfigurationAuditLog
from overrides.effective import load_configuration
from plugins.models import PluginHealth
from reviews.sessions import review
from tests.factories import PASSWORD, api_client, make_override, make_rule, make_user
from tests.rest import CONFIG, RULES, TOKEN, expect_problem, revision

METRICS_TOKEN = "a-token-that-only-opens-the-figures"


def read(settings_fixture) -> dict[tuple, float]:
    """Every figure by its name and labels, as Prometheus reads them."""
    settings_fixture.METRICS_TOKEN = METRICS_TOKEN
    response = APIClient().get("/metrics", HTTP_AUTHORIZATION=f"Bearer {METRICS_TOKEN}")
    assert response.status_code == 200, response.content
    return parse(response.content.decode())


def parse(text: str) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def count(figures, name, **labels):
    return figures.get((name, *sorted(labels.items())), 0)


# Figures


@pytest.mark.django_db
def test_requests_are_counted_by_the_name_of_their_route_and_never_by_their_path(settings):
    rule, client = make_rule(), api_client(make_user("viewer"))
    labels = {"route": "analysis-rule-detail", "method": "GET", "status": "2xx"}
    before = count(read(settings), "governance_http_request_seconds_count", **labels)
    client.get(f"{RULES}/{rule.pk}")
    client.get("/nowhere-at-all-4711")
    figures = read(settings)
    assert count(figures, "governance_http_request_seconds_count", **labels) == before + 1
    unmatched = {"route": "unmatched", "method": "GET", "status": "4xx"}
    assert count(figures, "governance_http_request_seconds_count", **unmatched) >= 1
    assert not any("4711" in str(key) or str(rule.pk) in dict(key[1:]).get("route", "") for key in figures)


@pytest.mark.django_db
def test_a_method_that_nobody_knows_makes_no_figure_of_its_own(settings):
    APIClient().generic("BREW", RULES)
    figures = read(settings)
    assert not any("BREW" in str(key) for key in figures)
    assert any(("method", "other") in key for key in figures)


@pytest.mark.django_db
def test_throttled_requests_are_counted(settings):
    before = count(read(settings), "governance_throttled_requests_total", route="token")
    make_user(username="locked-out")
    answers = [APIClient().post(TOKEN, {"username": "locked-out", "password": "wrong"}).status_code for _ in range(12)]
    assert (
        count(read(settings), "governance_throttled_requests_total", route="token") - before == answers.count(429) > 0
    )


@pytest.mark.django_db
def test_readings_of_the_configuration_are_counted_as_hits_and_misses(settings):
    make_rule()
    before = read(settings)
    for _ in range(3):
        load_configuration()
    after = read(settings)

    def grown(result):
        name, labels = "governance_cache_requests_total", {"cache": "configuration", "result": result}
        return count(after, name, **labels) - count(before, name, **labels)

    assert (grown("hit"), grown("miss")) == (2, 1)


@pytest.mark.django_db
def test_the_queue_of_approvals_and_what_expires_are_read_from_the_database(settings):
    rule = make_rule()
    now = timezone.now()
    make_override(rule.name)
    make_override(rule.name, status="active", enabled=True, approved_by="other", expires_at=now + timedelta(days=3))
    make_override(rule.name, status="active", enabled=True, approved_by="other", expires_at=now + timedelta(days=30))
    figures = read(settings)
    assert count(figures, "governance_approvals_waiting") == 1
    assert 0 <= count(figures, "governance_approvals_oldest_seconds") < 60
    assert count(figures, "governance_overrides_active") == 2
    assert count(figures, "governance_overrides_expiring") == 1
    assert ("governance_overrides_to_review",) in figures
    assert count(figures, "governance_revision") == revision()
    assert (
        count(figures, "governance_plugins", health="unknown") == PluginHealth.objects.filter(status="unknown").count()
    )


@pytest.mark.django_db
def test_reviews_are_counted_by_outcome(settings, tmp_path):
    make_rule()
    before = read(settings)
    (tmp_path / "a.py").write_text("eval(text)\n")
    review(tmp_path, started_by="system", jobs=1, use_cache=False)
    after = read(settings)
    name = "governance_review_seconds_count"
    assert count(after, name, outcome="completed") == count(before, name, outcome="completed") + 1
    assert count(after, "governance_reviews_stored", status="completed") == 1


@pytest.mark.django_db
def test_the_relay_tells_its_lag_and_how_long_changes_took(settings, monkeypatch):
    monkeypatch.setattr(metrics, "_relay_revision", None)
    make_rule()
    before = count(read(settings), "governance_propagation_seconds_count")
    changed = datetime(2026, 1, 1, tzinfo=UTC)
    metrics.note_relay(revision() - 1, changed, changed + timedelta(milliseconds=7))
    figures = read(settings)
    assert count(figures, "governance_revision_lag") == 1
    assert count(figures, "governance_relay_revision") == revision() - 1
    assert count(figures, "governance_propagation_seconds_count") == before + 1


@pytest.mark.django_db
def test_the_token_of_the_figures_opens_nothing_else(settings):
    settings.METRICS_TOKEN = METRICS_TOKEN
    for address in (RULES, f"{CONFIG}/configuration"):
        assert APIClient().get(address, HTTP_AUTHORIZATION=f"Bearer {METRICS_TOKEN}").status_code == 401


@pytest.mark.django_db
def test_without_a_token_set_no_token_opens_the_figures_but_that_of_an_auditor(settings):
    settings.METRICS_TOKEN = ""
    expect_problem(APIClient().get("/metrics"), 401, "unauthenticated")
    expect_problem(APIClient().get("/metrics", HTTP_AUTHORIZATION="Bearer "), 401, "unauthenticated")
    expect_problem(api_client(make_user("viewer")).get("/metrics"), 403, "forbidden")
    assert api_client(make_user("auditor")).get("/metrics").status_code == 200


@pytest.mark.django_db
def test_the_figures_are_read_by_any_host_name(settings):
    settings.METRICS_TOKEN = METRICS_TOKEN
    answer = APIClient().get("/metrics", HTTP_AUTHORIZATION=f"Bearer {METRICS_TOKEN}", HTTP_HOST="10.0.0.7:8000")
    assert answer.status_code == 200


PROCESS = """
import os, sys
from audit import metrics
metrics.count_cache("configuration", "hit")
metrics.count_subscribers("websocket", 2)
if sys.argv[1:] == ["tell"]:
    class Nothing:
        def collect(self):
            return []
    print(metrics.render(Nothing()).decode())
"""


def test_one_process_tells_the_figures_of_all_and_forgets_the_sockets_of_dead_ones(tmp_path):
    environment = {**os.environ, metrics.FOLDER: str(tmp_path)}

    def run(*arguments):
        command = [sys.executable, "-c", PROCESS, *arguments]
        return subprocess.run(
            command, env=environment, cwd=settings.BASE_DIR, check=True, capture_output=True, text=True
        )

    run()
    run()
    figures = parse(run("tell").stdout)
    assert count(figures, "governance_cache_requests_total", cache="configuration", result="hit") == 3
    assert count(figures, "governance_subscribers", kind="websocket") == 2


# Readiness


@pytest.mark.django_db
def test_redis_being_away_is_told_and_the_server_serves(settings):
    settings.REDIS_URL = "redis://:hidden-password@cache.internal:6379/0"
    with patch.object(type(cache._connections["default"]), "get", side_effect=RedisGone("cache.internal refused")):
        response = APIClient().get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "degraded")
    assert [part["name"] for part in body["degraded"]] == ["redis"]
    assert "internal" not in str(body) and "hidden-password" not in str(body)


@pytest.mark.django_db
def test_a_relay_far_behind_is_told_as_degraded(monkeypatch):
    monkeypatch.setattr(metrics, "_relay_revision", -200)
    (part,) = APIClient().get("/readyz").json()["degraded"]
    assert part["name"] == "stream" and str(revision() + 200) in part["detail"]


@pytest.mark.django_db
def test_secrets_are_looked_at_again_only_after_a_while_or_with_other_keys(monkeypatch):
    monkeypatch.setattr(key_checks, "_looked", None)
    answers = iter([["one"], [], ["one", "two"]])
    monkeypatch.setattr(key_checks, "list_lost", lambda: next(answers))
    later = key_checks.INTERVAL + 1
    make_rule()
    assert [key_checks.count_lost(("a",), now) for now in (0, 1, later)] == [1, 1, 1]
    make_rule(name="another")
    assert [key_checks.count_lost(("a",), now) for now in (1, later)] == [1, 0]
    assert key_checks.count_lost(("b",), later) == 2


@pytest.mark.django_db
def test_keys_that_are_none_are_told_without_them(settings):
    settings.ENCRYPTION_KEYS = ["no-key-at-all"]
    (part,) = APIClient().get("/readyz").json()["degraded"]
    assert part["name"] == "secrets" and "no-key" not in part["detail"]


@pytest.mark.django_db
def test_every_part_can_say_that_it_is_degraded(monkeypatch):
    monkeypatch.setattr(readiness, "_states", {"clock": lambda: "It is slow.", "rest": lambda: ""})
    body = APIClient().get("/readyz").json()
    assert body["degraded"] == [{"name": "clock", "detail": "It is slow."}]


# The log


@pytest.fixture
def lines():
    """The lines that the access log and the log write meanwhile, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(JsonFormatter())
    access, root = logging.getLogger("governance.access"), logging.getLogger()
    level, propagate = access.level, access.propagate
    access.setLevel(logging.INFO)
    root.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    access.setLevel(level)
    access.propagate = propagate


def access_lines(lines):
    return [line for line in lines() if line["logger"] == "governance.access"]


@pytest.mark.django_db(transaction=True)
def test_an_access_line_says_who_did_what_and_up_to_which_revision(lines):
    rule, user = make_rule(), make_user("rule editor")
    client = api_client(user)
    response = client.patch(f"{RULES}/{rule.pk}?colour=", {"severity": "low"})
    assert response.status_code == 400
    response = client.patch(f"{RULES}/{rule.pk}", {"severity": "low"})
    line = access_lines(lines)[-1]
    assert line["request_id"] == response["X-Request-ID"]
    assert line["revision"] == int(response["X-Revision"])
    assert (line["user"], line["method"], line["status"]) == (user.username, "PATCH", 200)
    assert (line["route"], line["path"]) == ("analysis-rule-detail", f"{RULES}/{rule.pk}")
    assert line["level"] == "INFO" and line["duration_ms"] > 0
    assert datetime.fromisoformat(line["time"]).tzinfo is not None


@pytest.mark.django_db(transaction=True)
def test_a_refused_change_has_no_revision_in_the_log(lines):
    rule = make_rule()
    assert api_client(make_user("rule editor")).patch(f"{RULES}/{rule.pk}", {"severity": "none"}).status_code == 400
    assert "revision" not in access_lines(lines)[-1]


@pytest.mark.django_db
def test_no_credential_gets_into_the_log(lines):
    user = make_user("viewer", username="somebody")
    token = APIClient().post(TOKEN, {"username": "somebody", "password": PASSWORD}).json()["token"]
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}", HTTP_COOKIE="sessionid=a-session-key-of-somebody")
    client.get(f"{RULES}?search={token}")
    logging.getLogger("anything").warning("asked with Authorization: Bearer %s for %s", token, user)
    text = json.dumps(lines())
    assert len(lines()) >= 3
    for secret in (token, PASSWORD, "a-session-key-of-somebody"):
        assert secret not in text


@pytest.mark.django_db
def test_probes_that_go_well_make_no_line(lines):
    for address in ("/healthz", "/readyz"):
        assert APIClient().get(address).status_code == 200
    assert access_lines(lines) == []
    APIClient().get("/metrics")
    assert [line["route"] for line in access_lines(lines)] == ["metrics"]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("postgresql://root:s3cret-pw@db/name refused", "s3cret-pw"),
        ("redis://:s3cret-pw@cache:6379/0", "s3cret-pw"),
        ('{"password": "s3 cret"}', "s3 cret"),
        ("GET /ws/v1/config/changes?token=abcdef12 [accepted]", "abcdef12"),
        ("api_key='k-1 2'", "k-1 2"),
        ("Cookie: sessionid=qwertz", "qwertz"),
        ("GOVERNANCE_SECRET_KEY=xyzxyz", "xyzxyz"),
    ],
)
def test_what_looks_like_a_credential_is_hidden(text, secret):
    assert secret not in hide_secrets(text)


def test_ordinary_lines_are_left_as_they_are():
    for text in ("review 7 failed: token not found", "GET /api/v1/auth/token 201 3.2 ms", "https://example.org/a@b"):
        assert hide_secrets(text) == text


def test_a_traceback_is_one_value_of_one_line():
    try:
        raise ValueError("password=s3cret")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "it broke: %s", ("here",), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line and "s3cret" not in line
    entry = json.loads(line)
    assert entry["message"] == "it broke: here" and "ValueError" in entry["exception"]
    assert "s3cret" not in LineFormatter("%(request_id)s %(message)s").format(record)


def test_lines_carry_the_id_of_their_request_and_outside_of_one_a_dash():
    def line():
        record = logging.LogRecord("a", logging.INFO, __file__, 1, "said", (), None)
        RequestIdFilter().filter(record)
        return json.loads(JsonFormatter().format(record))

    with naming("request-1"):
        assert line()["request_id"] == "request-1"
    assert line()["request_id"] == "-"


@pytest.mark.parametrize("value", ["xml", "JSON lines"])
def test_a_log_format_that_nobody_knows_is_refused_in_one_line(value):
    environment = {**os.environ, "GOVERNANCE_LOG_FORMAT": value}
    ended = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env=environment,
        cwd=settings.BASE_DIR,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode != 0 and "GOVERNANCE_LOG_FORMAT must be line or json." in ended.stderr


@pytest.mark.django_db
def test_the_journal_is_not_read_through_the_figures(settings):
    make_rule()
    name = ConfigurationAuditLog.objects.first().entity_name
    assert not any(name in str(key) for key in read(settings))
