"""Reviews that people start: queued below an allowed root, taken by a worker, cancelled, lost."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from audit.errors import NotPermitted, StateConflict
from reviews import tasks
from reviews.liveness import LOST_AFTER, Pulse, close_lost_sessions, explain_wait
from reviews.models import ReviewSession
from reviews.roots import list_folders
from reviews.sessions import review
from reviews.starting import cancel_review, start_review
from reviews.tasks import run_review
from tests.factories import make_rule, make_user
from tests.review_factories import make_session

pytestmark = pytest.mark.django_db
# The sign of life comes from a thread, whose connection sees only what is committed.
committed = pytest.mark.django_db(transaction=True)

NOW = timezone.now()


@pytest.fixture
def editor():
    return make_user("rule editor")


@pytest.fixture
def root(settings, tmp_path) -> Path:
    """An allowed root with a codebase in it, and a secret beside it."""
    allowed, secret = tmp_path / "codebases", tmp_path / "secret"
    (allowed / "shop" / "src").mkdir(parents=True)
    (allowed / "shop" / "src" / "a.py").write_text("eval(text)\n")
    secret.mkdir()
    (secret / "b.py").write_text("eval(text)\n")
    settings.REVIEW_ROOTS = [allowed]
    return allowed


def run_worker() -> None:
    """Do what a worker does with each queued task."""
    for row in DBTaskResult.objects.ready():
        row.task.call(*row.args_kwargs["args"], **row.args_kwargs["kwargs"])
        row.delete()


@committed
def test_a_started_review_waits_until_a_worker_runs_it(root, editor):
    make_rule(name="no-eval")
    session = start_review(root=root / "shop", user=editor, exclude=["docs/", ""])
    assert (session.status, session.codebase, session.exclude) == ("queued", "shop", ["docs/"])
    assert session.started_by == editor.username
    run_worker()
    session.refresh_from_db()
    assert (session.status, session.files_analyzed, session.files_done, session.files_total) == ("completed", 1, 1, 1)
    assert session.issues.get().path == "src/a.py"


def test_a_relative_folder_begins_at_an_allowed_root(root, editor):
    assert start_review(root="shop", user=editor).root == str(root / "shop")


@pytest.mark.parametrize(
    "wanted", ["", " ", "a\0b", "../secret", "shop/../../secret", "/etc", "/", "link", "link/b.py"]
)
def test_nothing_outside_of_the_allowed_roots_is_reviewed(root, editor, wanted):
    (root / "link").symlink_to(root.parent / "secret")
    with pytest.raises(ValidationError) as refusal:
        start_review(root=wanted, user=editor)
    assert str(root) in refusal.value.message_dict["root"][0]
    assert not ReviewSession.objects.exists()


def test_a_link_that_stays_inside_is_followed(root, editor):
    (root / "current").symlink_to(root / "shop")
    assert start_review(root="current", user=editor).root == str(root / "shop")


def test_a_root_that_is_a_link_itself_is_meant_as_it_leads(root, editor, settings):
    alias = root.parent / "alias"
    alias.symlink_to(root)
    settings.REVIEW_ROOTS = [alias]
    assert start_review(root=alias / "shop", user=editor).root == str(root / "shop")


def test_links_that_run_in_circles_and_folders_that_are_not_there_are_refused(root, editor):
    (root / "circle").symlink_to(root / "circle")
    for wanted in ("circle", "circle/x", "nowhere", str(root / "nowhere")):
        with pytest.raises(ValidationError, match="no|circle"):
            start_review(root=wanted, user=editor)


@committed
def test_a_link_bent_after_the_start_leads_nowhere(root, editor):
    make_rule(name="no-eval")
    session = start_review(root="shop", user=editor)
    (root / "shop").rename(root / "old")
    (root / "shop").symlink_to(root.parent / "secret")
    run_worker()
    session.refresh_from_db()
    assert session.status == "failed"
    assert "lies elsewhere" in session.failures[0]["message"]
    assert not session.issues.exists()


def test_whoever_may_not_start_is_told_nothing_of_the_roots(root):
    with pytest.raises(NotPermitted) as refusal:
        start_review(root="/etc", user=make_user("viewer"))
    assert str(root) not in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("codebase", {"codebase_name": "x" * 201}),
        ("codebase", {"codebase_name": "a\nb"}),
        ("exclude", {"exclude": ["x"] * 201}),
        ("exclude", {"exclude": ["fine", "a\nb"]}),
        ("exclude", {"exclude": ["a\0"]}),
    ],
)
def test_names_and_lines_that_cannot_be_kept_are_refused(root, editor, field, values):
    with pytest.raises(ValidationError) as refusal:
        start_review(root="shop", user=editor, **values)
    assert list(refusal.value.message_dict) == [field]


def test_a_folder_is_reviewed_once_at_a_time(root, editor):
    first = start_review(root="shop", user=editor)
    with pytest.raises(StateConflict, match=f"review {first.pk}"):
        start_review(root="shop", user=editor)
    cancel_review(first, editor)
    assert start_review(root="shop", user=editor).pk != first.pk


def test_folders_to_choose_from_are_those_below_the_roots(root):
    (root / "link").symlink_to(root.parent / "secret")
    (root / ".hidden").mkdir()
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    assert list_folders() == [root, root / "shop", root / "shop" / "src"]


@committed
def test_a_queued_review_is_cancelled_at_once_and_never_runs(root, editor):
    session = start_review(root="shop", user=editor)
    assert cancel_review(session, editor).status == "cancelled"
    run_worker()
    session.refresh_from_db()
    assert (session.status, session.files_total) == ("cancelled", 0)


@committed
def test_a_running_review_stops_when_somebody_wants_it_to(root, editor, monkeypatch):
    make_rule(name="no-eval")
    session = start_review(root="shop", user=editor)

    def review(path, *, session, cancelled, progress, **others):
        progress(3, 10)
        assert cancel_review(session, editor).status == "running"
        while not cancelled():
            pass
        session.status = "cancelled"
        session.save(update_fields=["status"])

    monkeypatch.setattr(tasks, "review", review)
    run_worker()
    session.refresh_from_db()
    assert (session.status, session.files_done, session.files_total) == ("cancelled", 3, 10)
    assert cancel_review(session, editor).status == "cancelled"


def test_a_finished_review_cannot_be_cancelled(editor):
    with pytest.raises(StateConflict, match="has ended"):
        cancel_review(make_session(), editor)


def test_only_those_who_may_start_may_cancel():
    with pytest.raises(NotPermitted):
        cancel_review(make_session(status="queued"), make_user("viewer"))


@committed
def test_a_fault_of_the_review_is_kept_with_the_session(root, editor, monkeypatch):
    session = start_review(root="shop", user=editor)
    monkeypatch.setattr(tasks, "review", lambda *_, **__: 1 / 0)
    run_worker()
    session.refresh_from_db()
    assert session.status == "failed" and session.finished_at
    assert session.failures[-1]["message"] == "ZeroDivisionError: division by zero"


@committed
def test_a_stopped_worker_leaves_a_failed_review(root, editor, monkeypatch):
    session = start_review(root="shop", user=editor)

    def stop(*_, **__):
        raise SystemExit(1)

    monkeypatch.setattr(tasks, "review", stop)
    with pytest.raises(SystemExit):
        run_review.call(session.pk)
    session.refresh_from_db()
    assert (session.status, session.failures[-1]["message"]) == ("failed", "The worker was stopped.")


def test_a_session_without_a_sign_of_life_has_failed():
    lost = make_session(status="running", heartbeat_at=NOW - LOST_AFTER - timedelta(seconds=1))
    alive = make_session(status="running", heartbeat_at=NOW - LOST_AFTER)
    command = make_session(status="running")
    done = make_session(heartbeat_at=NOW - timedelta(days=1))
    assert close_lost_sessions(NOW) == 1
    assert close_lost_sessions(NOW) == 0
    for session, status in ((lost, "failed"), (alive, "running"), (command, "running"), (done, "completed")):
        session.refresh_from_db()
        assert session.status == status
    assert lost.failures == [
        {"plugin": "worker", "rule": None, "path": None, "message": "The worker was lost: no sign of life for 61 s."}
    ]


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "SUCCESSFUL", None])
def test_a_review_whose_worker_was_lost_before_it_began_does_not_wait_for_ever(root, editor, status):
    session = start_review(root="shop", user=editor)
    late = session.started_at + LOST_AFTER + timedelta(seconds=1)
    assert close_lost_sessions(late) == 0
    row = DBTaskResult.objects.get()
    row.status, row.started_at = status, late - LOST_AFTER
    if status is None:
        row.delete()
    else:
        row.save()
    assert close_lost_sessions(late) == (status != "RUNNING")
    assert close_lost_sessions(late + timedelta(seconds=1)) == (status == "RUNNING")
    session.refresh_from_db()
    assert (session.status, session.failures[0]["message"]) == ("failed", "The worker was lost before it began.")
    assert start_review(root="shop", user=editor).status == "queued"


def test_a_review_that_was_given_up_as_lost_stays_failed(root):
    (root / "shop" / "src" / "a.py").write_text("x\n")
    session = make_session(status="running", heartbeat_at=NOW - timedelta(days=1))
    review(root / "shop", started_by="me", session=session, cancelled=lambda: close_lost_sessions(NOW) >= 0)
    session.refresh_from_db()
    assert (session.status, session.failures[0]["plugin"]) == ("failed", "worker")


def test_a_review_whose_session_was_closed_or_deleted_stops():
    for end in (lambda session: session.delete(), lambda session: close_lost_sessions(NOW + timedelta(days=1))):
        session = make_session(status="running", heartbeat_at=NOW)
        pulse = Pulse(session.pk)
        pulse.beat(NOW)
        assert not pulse.cancelled()
        end(session)
        pulse.beat(NOW)
        assert pulse.cancelled()


def test_the_wait_of_a_queued_review_is_explained():
    soon, late = NOW + timedelta(seconds=10), NOW + timedelta(seconds=11)
    queued = make_session(status="queued", started_at=NOW)
    assert explain_wait([queued], soon) == {}
    assert "manage.py db_worker" in explain_wait([queued], late)[queued.pk]
    other = make_session(status="running", heartbeat_at=NOW, codebase="bank")
    assert explain_wait([queued, other], late) == {queued.pk: f"Waits for {other}."}
