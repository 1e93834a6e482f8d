"""Reviews and their findings over HTTP: read only."""

import pytest

from reviews.models import ReviewSession
from tests.factories import api_client, make_user
from tests.rest import expect_problem, names

pytestmark = pytest.mark.django_db
SESSIONS = "/api/v1/reviews/sessions"


@pytest.fixture
def viewer():
    return api_client(make_user("viewer"))


def make_session(codebase="shop", **fields):
    values = {"root": f"/srv/{codebase}", "revision": 7, "started_by": "ci", "counts": {"severity": {"high": 2}}}
    return ReviewSession.objects.create(codebase=codebase, **{**values, **fields})


def make_issue(session, path="src/a.py", severity="high", rule_name="no-eval"):
    return session.issues.create(
        rule_name=rule_name,
        rule_type="security",
        severity=severity,
        personas=["security"],
        path=path,
        start_line=3,
        start_column=1,
        end_line=3,
        end_column=9,
        message="eval runs whatever it is given.",
        snippet="eval(text)",
    )


def test_sessions_are_listed_newest_first_and_filtered(viewer):
    first, second = make_session("shop"), make_session("bank", status="completed")
    assert names(viewer.get(SESSIONS), "id") == [second.pk, first.pk]
    for query in ("codebase=bank", "status=completed", "search=bank", "since=2020-01-01&codebase=bank"):
        assert names(viewer.get(f"{SESSIONS}?{query}"), "codebase") == ["bank"], query
    assert names(viewer.get(f"{SESSIONS}?until=2020-01-01")) == []
    expect_problem(viewer.get(f"{SESSIONS}?status=perhaps"), 400, "invalid", "#/status")


def test_a_session_tells_the_revision_that_it_ran_at(viewer):
    session = make_session()
    body = viewer.get(f"{SESSIONS}/{session.pk}").json()
    assert (body["codebase"], body["revision"], body["started_by"]) == ("shop", 7, "ci")
    assert body["counts"] == {"severity": {"high": 2}}


def test_findings_are_those_of_their_session(viewer):
    session, other = make_session(), make_session("bank")
    low, high = make_issue(session, severity="low"), make_issue(session, path="lib/b.py", rule_name="no-exec")
    make_issue(other)
    issues = f"{SESSIONS}/{session.pk}/issues"
    assert names(viewer.get(issues), "id") == [low.pk, high.pk]
    assert names(viewer.get(f"{issues}?ordering=-severity"), "id") == [high.pk, low.pk]
    for query in ("min_severity=medium", "severity=high", "path=lib/", "rule_name=no-exec", "search=no-exec"):
        assert names(viewer.get(f"{issues}?{query}"), "id") == [high.pk], query
    body = viewer.get(f"{issues}/{low.pk}").json()
    assert (body["path"], body["start_line"], body["personas"]) == ("src/a.py", 3, ["security"])
    expect_problem(viewer.get(f"{SESSIONS}/{other.pk}/issues/{low.pk}"), 404, "not-found")


def test_findings_of_a_session_that_is_not_there_are_not_found(viewer):
    expect_problem(viewer.get(f"{SESSIONS}/1/issues"), 404, "not-found")
    expect_problem(viewer.get(f"{SESSIONS}/{'9' * 19}/issues"), 404, "not-found")


def test_reviews_are_read_only_here_and_need_a_right():
    session = make_session()
    administrator, stranger = api_client(make_user(superuser=True)), api_client(make_user())
    for response in (
        administrator.post(SESSIONS, {}),
        administrator.delete(f"{SESSIONS}/{session.pk}"),
        administrator.post(f"{SESSIONS}/{session.pk}/issues", {}),
    ):
        expect_problem(response, 405, "method-not-allowed")
    for address in (SESSIONS, f"{SESSIONS}/{session.pk}", f"{SESSIONS}/{session.pk}/issues"):
        expect_problem(stranger.get(address), 403, "forbidden")
