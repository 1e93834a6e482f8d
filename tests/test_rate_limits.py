"""Each user may send so many requests a minute: counted by scope, without the database, and told how long to wait."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver
from rest_framework.test import APIRequestFactory

from governance_config import throttling
from governance_config.health import LivenessView, ReadinessView
from governance_config.throttling import ScopeThrottle, count_request, find_scope
from tests.factories import api_client, make_rule, make_user
from tests.rest import CONFIG, RULES, expect_problem
from tests.test_permission_table import methods, walk

SCOPES = {"read", "write", "bulk", "auth"}
NOON = 1_800_000_000.0  # the beginning of a minute


def set_rates(settings, **rates: int) -> None:
    settings.RATES = {**settings.RATES, **rates}


@pytest.mark.django_db
def test_who_reads_too_often_is_told_how_long_to_wait(settings):
    set_rates(settings, read=2)
    client = api_client(make_user("viewer"))
    assert [client.get(RULES).status_code for _ in range(2)] == [200, 200]
    response = client.get(RULES)
    body = expect_problem(response, 429, "throttled")
    assert "More than 2 requests to read in a minute" in body["detail"]
    assert 0 < int(response["Retry-After"]) <= 61


@pytest.mark.django_db
def test_each_scope_and_each_user_has_a_count_of_his_own(settings):
    set_rates(settings, read=1, write=1, bulk=1)
    rule = make_rule()
    anna, berta = (api_client(make_user("rule editor")) for _ in range(2))
    bulk = {"updates": [{"id": rule.pk, "severity": "low"}]}
    for client in (anna, berta):
        assert client.get(RULES).status_code == 200
        assert client.patch(f"{RULES}/{rule.pk}", {"severity": "low"}).status_code == 200
        assert client.post(f"{RULES}/bulk", bulk).status_code == 200
        assert client.get(RULES).status_code == 429
        assert client.patch(f"{RULES}/{rule.pk}", {"severity": "high"}).status_code == 429
        assert client.post(f"{RULES}/bulk", bulk).status_code == 429
    rule.refresh_from_db()
    assert rule.severity == "low"


@pytest.mark.django_db
def test_a_user_with_two_tokens_has_one_count(settings):
    set_rates(settings, read=1)
    user = make_user("viewer")
    assert api_client(user).get(RULES).status_code == 200
    assert api_client(user).get(RULES).status_code == 429


@pytest.mark.django_db
def test_strangers_are_counted_by_their_address(settings):
    set_rates(settings, read=1)
    schema = "/api/v1/schema.json"
    assert api_client().get(schema, REMOTE_ADDR="10.0.0.1").status_code == 200
    assert api_client().get(schema, REMOTE_ADDR="10.0.0.1").status_code == 429
    assert api_client().get(schema, REMOTE_ADDR="10.0.0.2").status_code == 200


@pytest.mark.django_db
def test_probes_are_never_told_to_wait(settings):
    set_rates(settings, read=1)
    assert [api_client().get("/healthz").status_code for _ in range(3)] == [200] * 3


@pytest.mark.django_db
def test_counting_asks_no_database(settings):
    user = make_user("viewer")
    client = api_client(user)
    counts = []
    for limit in (0, 100):
        set_rates(settings, read=limit)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"{CONFIG}/personas").status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_a_new_minute_begins_from_nought(settings):
    set_rates(settings, read=2)
    assert [count_request("read", "anna", NOON + second) for second in (0, 1, 2, 59)] == [None, None, 59, 2]
    assert count_request("read", "anna", NOON + 60) is None


def test_nought_is_no_limit(settings):
    set_rates(settings, write=0)
    assert all(count_request("write", "anna", NOON) is None for _ in range(50))


class Unreachable:
    """A Redis that does not answer, and counts how often it was asked."""

    asked = 0

    def add(self, *arguments):
        self.asked += 1
        raise ConnectionError("no route")


def test_while_redis_is_down_reads_and_writes_go_on_and_sign_ins_are_counted_by_the_process(settings):
    settings.REDIS_URL = "redis://nowhere"
    set_rates(settings, read=1, write=1, auth=2)
    broken = Unreachable()
    with patch.object(throttling, "cache", broken):
        assert [count_request("read", "anna", NOON) for _ in range(5)] == [None] * 5
        assert [count_request("write", "anna", NOON) for _ in range(5)] == [None] * 5
        assert [count_request("auth", "anna", NOON) for _ in range(3)] == [None, None, 61]
        assert broken.asked == 1  # each question costs time
        count_request("read", "anna", NOON + throttling.PATIENCE + 1)
        assert broken.asked == 2


def test_the_processes_count_together_through_the_cache(settings):
    settings.REDIS_URL = "redis://the-cache-of-this-test"
    set_rates(settings, read=3)
    here, there = throttling.SharedCounts(), throttling.SharedCounts()
    with patch.object(throttling, "shared", here):
        assert [count_request("read", "anna", NOON) for _ in range(2)] == [None, None]
    with patch.object(throttling, "shared", there):
        assert [count_request("read", "anna", NOON) for _ in range(2)] == [None, 61]


def test_a_process_remembers_a_bounded_number_of_callers(monkeypatch):
    monkeypatch.setattr(throttling, "MAX_COUNTED", 10)
    counts = throttling.LocalCounts()
    for number in range(25):
        counts.count(f"address-{number}", 1)
    assert len(counts._counts) <= 10


def api_views():
    for route, pattern in walk(get_resolver()):
        view = getattr(pattern.callback, "cls", None)
        if view is not None and view not in (LivenessView, ReadinessView):
            yield route, pattern, view


def test_every_route_of_the_api_has_a_scope():
    checked = 0
    for route, pattern, view in api_views():
        assert ScopeThrottle in view.throttle_classes, route
        options = getattr(pattern.callback, "initkwargs", {})
        for method in methods(pattern):
            request = getattr(APIRequestFactory(), method.lower())(route)
            scope = find_scope(request, view(**{k: v for k, v in options.items() if hasattr(view, k)}))
            assert scope in SCOPES, route
            assert scope != "read" or method == "GET", (method, route)
            checked += 1
    assert checked > 50


@pytest.mark.parametrize(
    ("method", "route", "scope"),
    [
        ("POST", "/api/v1/config/analysis-rules/bulk", "bulk"),
        ("POST", "/api/v1/config/rollback", "bulk"),
        ("POST", "/api/v1/config/import", "bulk"),
        ("POST", "/api/v1/config/presets/(?P<name>[a-z0-9][a-z0-9_-]{0,99})/plan", "bulk"),
        ("POST", "/api/v1/config/presets/(?P<name>[a-z0-9][a-z0-9_-]{0,99})/apply", "bulk"),
        ("POST", "/api/v1/auth/token", "auth"),
        ("POST", "/api/v1/config/analysis-rules", "write"),
        ("GET", "/api/v1/config/configuration", "read"),
    ],
)
def test_what_costs_more_has_a_scope_of_its_own(method, route, scope):
    ((pattern, view),) = [
        (pattern, view) for found, pattern, view in api_views() if found == route and method in methods(pattern)
    ]
    options = {k: v for k, v in pattern.callback.initkwargs.items() if hasattr(view, k)}
    assert find_scope(getattr(APIRequestFactory(), method.lower())(route), view(**options)) == scope
