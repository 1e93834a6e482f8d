"""Reviews over HTTP: started, watched, cancelled, compared, deleted, and what they found."""

from datetime import timedelta

import pytest
from django.utils import timezone

from reviews.models import DiscoveredIssue, ReviewSession, TrackedFinding
from tests.factories import api_client, make_user
from tests.rest import expect_problem, names
from tests.review_factories import make_finding, make_issue, make_prompt, make_session

pytestmark = pytest.mark.django_db
SESSIONS = "/api/v1/reviews/sessions"


@pytest.fixture
def viewer():
    return api_client(make_user("viewer"))


@pytest.fixture
def editor():
    return api_client(make_user("rule editor"))


@pytest.fixture
def root(settings, tmp_path):
    """An allowed root with a folder in it."""
    (tmp_path / "shop").mkdir()
    settings.REVIEW_ROOTS = [tmp_path]
    return tmp_path


def test_sessions_are_listed_newest_first_and_filtered(viewer):
    first, second = make_session("shop", status="failed"), make_session("bank")
    assert names(viewer.get(SESSIONS), "id") == [second.pk, first.pk]
    for query in ("codebase=bank", "status=completed", "search=bank", "since=2020-01-01&codebase=bank"):
        assert names(viewer.get(f"{SESSIONS}?{query}"), "codebase") == ["bank"], query
    assert names(viewer.get(f"{SESSIONS}?until=2020-01-01")) == []
    expect_problem(viewer.get(f"{SESSIONS}?status=perhaps"), 400, "invalid", "#/status")


def test_a_session_tells_the_revision_that_it_ran_at(viewer):
    session = make_session()
    body = viewer.get(f"{SESSIONS}/{session.pk}").json()
    assert (body["codebase"], body["revision"], body["started_by"]) == ("shop", 7, "ci")
    assert body["counts"]["by_severity"] == {"high": 2}


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


def test_an_issue_of_a_session_is_shown_with_the_code_around_it(viewer):
    session = make_session()
    issue = make_issue(session, make_finding(triage="acknowledged"))
    issues = f"{SESSIONS}/{session.pk}/issues"
    (listed,) = viewer.get(issues).json()["results"]
    assert "context" not in listed
    assert (listed["triage"], listed["key"], listed["finding"]) == ("acknowledged", issue.finding.key, issue.finding_id)
    body = viewer.get(f"{issues}/{issue.pk}").json()
    assert (body["context_start"], body["context"][2]) == (1, "    eval(text)")


def test_issues_are_filtered_by_what_people_and_tools_say_of_them(viewer):
    session = make_session()
    plain = make_issue(session, state="existing", plugin="ruff", personas=["style"])
    wanted = make_issue(
        session, make_finding(triage="wont_fix"), rule_type="style", personas=["security", "care"], suppressed=True
    )
    issues = f"{SESSIONS}/{session.pk}/issues"
    for query in (
        *("state=new", "triage=wont_fix", "plugin=patterns", "persona=care", "suppressed=true", "rule_type=style"),
    ):
        assert names(viewer.get(f"{issues}?{query}"), "id") == [wanted.pk], query
    for query in ("triage=open", "suppressed=false", "state=existing"):
        assert names(viewer.get(f"{issues}?{query}"), "id") == [plain.pk], query
    for name in ("state", "triage", "suppressed", "persona", "severity", "min_severity", "rule_type"):
        expect_problem(viewer.get(f"{issues}?{name}=perhaps!"), 400, "invalid", f"#/{name}")
    expect_problem(viewer.get(f"{issues}?colour=red"), 400, "invalid", "#/colour")


def test_a_review_is_started_and_told_where_to_watch_it(editor, root):
    response = editor.post(SESSIONS, {"root": "shop", "codebase": "The shop", "exclude": ["docs/"]})
    assert response.status_code == 201, response.content
    session = ReviewSession.objects.get()
    assert response["Location"] == f"{SESSIONS}/{session.pk}"
    body = editor.get(response["Location"]).json()
    assert (body["status"], body["codebase"], body["exclude"]) == ("queued", "The shop", ["docs/"])
    assert (body["files_done"], body["files_total"], body["waiting"]) == (0, 0, "")
    expect_problem(editor.post(SESSIONS, {"root": str(root / "shop")}), 409, "conflict")


def test_a_start_that_cannot_be_is_refused_at_its_place(editor, root):
    expect_problem(editor.post(SESSIONS, {}), 400, "invalid", "#/root")
    refusal = expect_problem(editor.post(SESSIONS, {"root": "/etc"}), 400, "invalid", "#/root")
    assert str(root) in refusal["detail"]
    expect_problem(editor.post(SESSIONS, {"root": "shop", "colour": "red"}), 400, "invalid", "#/colour")
    expect_problem(editor.post(SESSIONS, {"root": "shop", "exclude": ["a", "b\nc"]}), 400, "invalid", "#/exclude/1")
    expect_problem(editor.post(SESSIONS, {"root": "shop", "codebase": "a\nb"}), 400, "invalid", "#/codebase")
    assert not ReviewSession.objects.exists()


def test_whoever_may_not_start_is_told_nothing_of_the_server(viewer, root):
    refusal = expect_problem(viewer.post(SESSIONS, {"root": "/etc"}), 403, "forbidden")
    assert str(root) not in str(refusal)


def test_a_review_that_nobody_takes_says_what_is_missing(viewer):
    session = make_session(status="queued", started_at=timezone.now() - timedelta(seconds=11))
    assert "manage.py db_worker" in viewer.get(f"{SESSIONS}/{session.pk}").json()["waiting"]
    assert "manage.py db_worker" in viewer.get(SESSIONS).json()["results"][0]["waiting"]


def test_a_lost_review_has_failed_as_soon_as_somebody_looks(viewer):
    session = make_session(status="running", heartbeat_at=timezone.now() - timedelta(seconds=61))
    body = viewer.get(f"{SESSIONS}/{session.pk}").json()
    assert body["status"] == "failed" and "worker was lost" in body["failures"][0]["message"]


def test_a_review_is_cancelled_unless_it_has_ended(editor):
    queued, running, done = make_session(status="queued"), make_session(status="running"), make_session()
    assert editor.post(f"{SESSIONS}/{queued.pk}/cancel").json()["status"] == "cancelled"
    body = editor.post(f"{SESSIONS}/{running.pk}/cancel").json()
    assert (body["status"], body["cancel_requested"]) == ("running", True)
    expect_problem(editor.post(f"{SESSIONS}/{done.pk}/cancel"), 409, "conflict")


def test_a_deleted_review_leaves_what_people_decided():
    administrator = api_client(make_user("administrator"))
    session, running = make_session(), make_session(status="running")
    finding = make_finding(last_session=session, triage="wont_fix")
    make_issue(session, finding)
    make_prompt(session)
    expect_problem(administrator.delete(f"{SESSIONS}/{running.pk}"), 409, "conflict")
    assert administrator.delete(f"{SESSIONS}/{session.pk}").status_code == 204
    assert not DiscoveredIssue.objects.exists()
    assert TrackedFinding.objects.get().triage == "wont_fix"


def test_two_reviews_are_compared_by_finding(viewer):
    before, after = make_session(), make_session()
    gone, moved, came, hushed, was_hushed = (make_finding(rule_name=f"rule-{number}") for number in range(5))
    make_issue(before, gone)
    make_issue(before, moved, path="old.py")
    make_issue(before, hushed)
    make_issue(before, was_hushed, suppressed=True)
    make_issue(after, moved, path="new.py")
    make_issue(after, came, severity="low")
    make_issue(after, hushed, suppressed=True)
    make_issue(after, was_hushed)
    for session in (before, after):
        make_issue(session, make_finding(triage="wont_fix"))
    body = viewer.get(f"{SESSIONS}/{after.pk}/compare?with={before.pk}").json()
    assert body["counts"] == {"new": 2, "fixed": 1, "unchanged": 1, "suppressed": 1}
    assert [issue["finding"] for issue in body["new"]] == [was_hushed.pk, came.pk]
    assert [issue["finding"] for issue in body["fixed"]] == [gone.pk]
    assert [issue["path"] for issue in body["unchanged"]] == ["new.py"]
    assert [issue["finding"] for issue in body["suppressed"]] == [hushed.pk]
    page = viewer.get(f"{SESSIONS}/{after.pk}/compare?with={before.pk}&skip=1&limit=1").json()
    assert [issue["finding"] for issue in page["new"]] == [came.pk] and page["fixed"] == []


def test_reviews_that_cannot_be_compared_say_why(viewer):
    session, other, partly = make_session(), make_session("bank"), make_session(scope="changes")
    address = f"{SESSIONS}/{session.pk}/compare"
    for query in ("", "?with=", "?with=x", f"?with={other.pk}", f"?with={session.pk}"):
        expect_problem(viewer.get(address + query), 400, "invalid", "#/with")
    expect_problem(viewer.get(f"{address}?with=999999"), 404, "not-found")
    expect_problem(viewer.get(f"{address}?with={partly.pk}"), 409, "conflict")
    expect_problem(viewer.get(f"{address}?with={other.pk}&limit=0"), 400, "invalid")


def test_what_is_read_only_stays_so_and_reading_needs_a_right():
    session = make_session()
    administrator, stranger = api_client(make_user(superuser=True)), api_client(make_user())
    for response in (
        administrator.put(f"{SESSIONS}/{session.pk}", {}),
        administrator.post(f"{SESSIONS}/{session.pk}/issues", {}),
        administrator.post(f"{SESSIONS}/{session.pk}", {}),
    ):
        expect_problem(response, 405, "method-not-allowed")
    for address in (SESSIONS, f"{SESSIONS}/{session.pk}", f"{SESSIONS}/{session.pk}/issues"):
        expect_problem(stranger.get(address), 403, "forbidden")
