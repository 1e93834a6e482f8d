"""The journal over HTTP: newest first, by filters and a cursor, for those who may."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from audit.models import ConfigurationAuditLog
from tests.factories import api_client, make_persona, make_rule, make_user
from tests.rest import JOURNAL, RULES, expect_problem, names, revision

pytestmark = pytest.mark.django_db
FIELDS = (
    "revision change_type entity_type entity_id entity_name old_config new_config changed_by actor_kind change_reason "
    "warnings break_glass source batch ip_address user_agent created_at"
).split()


@pytest.fixture
def auditor():
    return api_client(make_user("auditor", username="auditor"))


def test_a_change_over_http_is_told_with_who_when_why_and_from_where(auditor):
    rule = make_rule(severity="low")
    editor = api_client(make_user("rule editor", username="editor"))
    editor.patch(
        f"{RULES}/{rule.pk}",
        {"severity": "high", "change_reason": "worse than thought"},
        headers={"User-Agent": "probe/1"},
    )
    changed = editor.get(f"{RULES}/{rule.pk}").json()["version"]
    body = auditor.get(f"{JOURNAL}/{changed}").json()
    assert list(body) == FIELDS
    assert body["change_type"] == "rule_updated"
    assert (body["entity_type"], body["entity_id"], body["entity_name"]) == ("analysis_rule", str(rule.pk), rule.name)
    assert body["old_config"]["severity"] == "low" and body["new_config"]["severity"] == "high"
    assert (body["changed_by"], body["actor_kind"], body["source"]) == ("editor", "user", "api")
    assert (body["change_reason"], body["user_agent"], body["ip_address"]) == (
        *("worse than thought", "probe/1", "127.0.0.1"),
    )
    moment = datetime.fromisoformat(body["created_at"])
    assert timezone.now() - timedelta(minutes=1) < moment <= timezone.now()


def test_the_journal_is_read_backwards_by_the_cursor(auditor):
    make_rule()
    make_persona("security")
    everything = list(ConfigurationAuditLog.objects.order_by("-revision").values_list("revision", flat=True))
    read, address = [], f"{JOURNAL}?limit=3"
    while address:
        response = auditor.get(address)
        read += names(response, "revision")
        assert response.json()["count"] == len(everything)
        address = response.json()["next"]
        assert address is None or "before=" in address
    assert read == everything


def test_before_gives_older_changes_only(auditor):
    make_rule()
    newest = revision()
    assert names(auditor.get(f"{JOURNAL}?before={newest}&limit=2"), "revision") == [newest - 1, newest - 2]
    assert names(auditor.get(f"{JOURNAL}?before=0"), "revision") == []


def test_far_pages_name_the_cursor(auditor):
    body = expect_problem(auditor.get(f"{JOURNAL}?skip=10001"), 400, "invalid", "#/skip")
    assert "before=" in body["detail"]


def test_the_journal_is_filtered(auditor):
    rule = make_rule(name="looked-for")
    editor = api_client(make_user("rule editor", username="editor"))
    editor.patch(f"{RULES}/{rule.pk}", {"severity": "low", "change_reason": "why not"})
    row = ConfigurationAuditLog.objects.get(change_type="rule_updated")
    for query in (
        "filter_type=rule_updated",
        f"entity_type=analysis_rule&entity_id={rule.pk}&limit=1",
        "changed_by=editor&entity_type=analysis_rule",
        f"batch={row.batch}",
        "search=why+not",
        "search=looked-for&filter_type=rule_updated",
    ):
        assert names(auditor.get(f"{JOURNAL}?{query}"), "revision") == [row.revision], query


def test_the_journal_is_limited_in_time(auditor):
    make_rule()
    moment = ConfigurationAuditLog.objects.order_by("-revision").first().created_at
    since = {"since": moment.isoformat()}
    assert revision() in names(auditor.get(JOURNAL, since), "revision")
    assert revision() not in names(auditor.get(JOURNAL, {"until": moment.isoformat()}), "revision")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert names(auditor.get(JOURNAL, {"since": tomorrow}), "revision") == []
    unquoted = "2020-01-01T00:00:00+02:00"
    assert auditor.get(f"{JOURNAL}?since={unquoted}").json()["count"] > 0


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T23:59:59-14:00",
        "batch=x",
        "before=x",
        "before=99999999999999999999",
        "entity_id=%00",
        "colour=red",
        "ordering=changed_by",
        "limit=0",
    ],
)
def test_filters_of_the_journal_are_strict(auditor, query):
    expect_problem(auditor.get(f"{JOURNAL}?{query}"), 400, "invalid", f"#/{query.split('=')[0]}")


def test_only_who_may_reads_the_journal():
    make_rule()
    for role in ("viewer", "rule editor", None):
        client = api_client(make_user(role))
        expect_problem(client.get(JOURNAL), 403, "forbidden")
        expect_problem(client.get(f"{JOURNAL}/1"), 403, "forbidden")


def test_nobody_writes_the_journal(auditor):
    administrator = api_client(make_user(superuser=True))
    for client in (auditor, administrator):
        expect_problem(client.post(JOURNAL, {}), 405, "method-not-allowed")
        expect_problem(client.delete(f"{JOURNAL}/1"), 405, "method-not-allowed")
        expect_problem(client.patch(f"{JOURNAL}/1", {}), 405, "method-not-allowed")


def test_a_change_that_is_not_there_is_not_found(auditor):
    expect_problem(auditor.get(f"{JOURNAL}/{10**17}"), 404, "not-found")
    expect_problem(auditor.get(f"{JOURNAL}/{10**30}"), 404, "not-found")


def test_a_clock_that_went_back_hides_no_change(auditor, monkeypatch):
    """Later revisions may be of earlier moments: servers' clocks differ, and are set right."""
    noon = timezone.now()
    for minutes in (0, -20, 10):
        monkeypatch.setattr("audit.changes.timezone.now", lambda minutes=minutes: noon + timedelta(minutes=minutes))
        make_persona(f"p{minutes + 20}")
    monkeypatch.undo()
    at = {row.created_at - noon: row.revision for row in ConfigurationAuditLog.objects.filter(entity_type="persona")}
    zero, back, ahead = (at[timedelta(minutes=minutes)] for minutes in (0, -20, 10))
    query = {"entity_type": "persona"}
    since = {**query, "since": (noon - timedelta(minutes=5)).isoformat()}
    until = {**query, "until": (noon + timedelta(minutes=5)).isoformat()}
    assert names(auditor.get(JOURNAL, since), "revision") == [ahead, zero]
    assert names(auditor.get(JOURNAL, until), "revision") == [back, zero]
