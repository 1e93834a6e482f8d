"""What becomes of the findings of a codebase from one review to the next, and what is stored of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from plugins.contract import Finding, RuleSpec
from reviews.choices import Presence, SessionStatus, Triage
from reviews.coverage import Answer, Coverage
from reviews.engine import Failure
from reviews.issues import Issue
from reviews.marks import Marks
from reviews.models import Codebase, DiscoveredIssue, ReviewSession, TrackedFinding
from reviews.suppressions import Directive
from reviews.tracking import Scene, track
from reviews.triage import decide
from tests.factories import make_user

pytestmark = pytest.mark.django_db

EVAL = RuleSpec("no-eval", rule_type="security", severity="high", personas=("security",), file_types=(".py",))
EXEC = RuleSpec("no-exec", rule_type="style", severity="low", file_types=(".py",))
RULES = (EVAL, EXEC)


def found(line: int = 1, rule: str = "no-eval", path: str = "a.py", code: str | None = None) -> tuple[Finding, Marks]:
    """A finding whose code is its own unless another is given."""
    code = code or f"{rule} {path} {line}"
    return Finding(rule, path, line, 1, line, 5, f"{rule}!", "eval(x)", code="S1"), Marks(
        code.ljust(32)[:32], f"around {path} {line}".ljust(32), f"{line}:1", max(1, line - 1), ("before", "eval(x)")
    )


class Folder:
    """A folder that is reviewed again and again, with what a review of it is made to find."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.codebase = Codebase.objects.create(key="k" * 64, name="folder", root=str(root))
        for name in ("a.py", "b.py"):
            (root / name).write_text("")
        self.issues: list[Issue] = []

    def review(
        self,
        *findings: tuple[Finding, Marks],
        rules: Iterable[RuleSpec] = RULES,
        files: Collection[str] = ("a.py", "b.py"),
        failures: Iterable[Failure] = (),
        suppressed: dict[Finding, Directive] | None = None,
        whole: bool = True,
        keep: Any = None,
    ) -> ReviewSession:
        result: Any = SimpleNamespace(
            findings=[finding for finding, _ in findings], marks=dict(findings), suppressed=suppressed or {}
        )
        coverage = Coverage(
            list(rules),
            root=self.root,
            files=files,
            failures=failures,
            whole=whole,
        )
        session = ReviewSession.objects.create(
            tracked_codebase=self.codebase, codebase="folder", root=str(self.root), revision=1, started_by="me"
        )
        scene = Scene(coverage, str(self.root), whole=whole, keep=keep)
        self.issues = track(session, result, list(rules), scene=scene, now=timezone.now())
        return session

    def presences(self) -> list[str]:
        return list(TrackedFinding.objects.order_by("pk").values_list("presence", flat=True))

    def states(self) -> list[str]:
        return [issue.state for issue in self.issues]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def by_state(session: ReviewSession) -> dict[str, int]:
    return {state: number for state, number in session.counts["by_state"].items() if number}


# ---- what is stored


def test_a_new_finding_is_stored_with_all_that_is_known_of_it(folder: Folder) -> None:
    session = folder.review(found(3), found(3, "no-exec"))
    tracked = TrackedFinding.objects.get(rule_name="no-eval")
    assert (tracked.path, tracked.line, tracked.severity, tracked.presence) == ("a.py", 3, "high", Presence.PRESENT)
    assert (tracked.first_session, tracked.last_session, tracked.triage) == (session, session, Triage.OPEN)
    issue = DiscoveredIssue.objects.get(rule_name="no-eval")
    assert (issue.finding, issue.session, issue.state) == (tracked, session, "new")
    assert (issue.plugin, issue.code, issue.personas, issue.line_hash) == ("patterns", "S1", ["security"], "3:1")
    assert (issue.context_start, issue.context) == (2, ["before", "eval(x)"])
    assert [each.key for each in folder.issues] == [tracked.key, TrackedFinding.objects.get(rule_name="no-exec").key]
    session.refresh_from_db()
    assert session.status == SessionStatus.COMPLETED
    assert session.counts["by_severity"] == {"critical": 0, "high": 1, "medium": 0, "low": 1, "info": 0}
    assert session.counts["by_persona"] == {"security": 1, "unassigned": 1}
    assert by_state(session) == {"new": 2}


def test_the_same_input_twice_changes_nothing(folder: Folder) -> None:
    findings = [found(line, rule) for line in (1, 5, 9) for rule in ("no-eval", "no-exec")]
    folder.review(*findings)
    before = list(TrackedFinding.objects.order_by("pk").values())
    keys = [issue.key for issue in folder.issues]
    session = folder.review(*findings)
    after = list(TrackedFinding.objects.order_by("pk").values())
    for one, other in zip(before, after, strict=True):
        assert other.pop("last_session_id") == session.pk
        assert other.pop("last_seen_at") > one.pop("last_seen_at")
        del one["last_session_id"]
        assert one == other
    assert [issue.key for issue in folder.issues] == keys
    assert by_state(session) == {"existing": 6}


def test_a_finding_that_moved_is_updated_and_keeps_its_key(folder: Folder) -> None:
    folder.review(found(3, code="same"))
    key = folder.issues[0].key
    session = folder.review(found(40, code="same"), rules=[RuleSpec("no-eval", rule_type="style", severity="low")])
    tracked = TrackedFinding.objects.get()
    assert (tracked.key, tracked.line, tracked.severity, tracked.rule_type) == (key, 40, "low", "style")
    assert tracked.last_session == session != tracked.first_session
    assert folder.states() == ["existing"]


def test_findings_of_another_codebase_are_others(folder: Folder, tmp_path: Path) -> None:
    folder.review(found())
    other = Folder.__new__(Folder)
    other.root, other.issues = tmp_path, []
    other.codebase = Codebase.objects.create(key="o" * 64, name="other", root=str(tmp_path))
    other.review(found())
    assert other.states() == ["new"]
    assert TrackedFinding.objects.count() == 2


def test_the_number_of_statements_does_not_grow_with_the_findings(folder: Folder) -> None:
    def statements(number: int) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            folder.review(*(found(line) for line in range(1, number)))
        return len(queries)

    statements(4)
    few = statements(10)
    assert few <= 20
    # SQLite takes fewer rows at once.
    assert statements(200) <= few + 30


# ---- what is no longer there


def test_what_is_not_found_again_is_fixed(folder: Folder) -> None:
    folder.review(found(1), found(9))
    session = folder.review(found(9))
    assert folder.presences() == [Presence.FIXED, Presence.PRESENT]
    assert TrackedFinding.objects.get(line=1).resolved_at is not None
    assert by_state(session) == {"existing": 1, "fixed": 1}
    assert by_state(folder.review(found(9))) == {"existing": 1}


def test_what_was_in_a_file_that_is_gone_is_fixed(folder: Folder) -> None:
    folder.review(found(path="b.py"))
    (folder.root / "b.py").unlink()
    assert by_state(folder.review(files=["a.py"])) == {"fixed": 1}


def test_what_a_rule_no_longer_looks_for_is_not_fixed(folder: Folder) -> None:
    folder.review(found(), found(2, "no-exec"))
    session = folder.review(found(), rules=[EVAL])
    assert folder.presences() == [Presence.PRESENT, Presence.RULE_REMOVED]
    assert by_state(session) == {"existing": 1, "rule_removed": 1}


def test_a_rule_that_no_longer_asks_for_such_files_has_not_fixed_anything(folder: Folder) -> None:
    folder.review(found())
    folder.review(rules=[RuleSpec("no-eval", file_types=(".js",))])
    assert folder.presences() == [Presence.RULE_REMOVED]
    folder.review(rules=[RuleSpec("no-eval", exclude_patterns=("^a",))])
    assert folder.presences() == [Presence.RULE_REMOVED]


def test_what_is_in_a_file_that_was_left_out_is_not_fixed(folder: Folder) -> None:
    folder.review(found())
    session = folder.review(files=["b.py"])
    assert folder.presences() == [Presence.NOT_REVIEWED]
    assert TrackedFinding.objects.get().resolved_at is None
    assert by_state(session) == {}
    folder.review()
    assert folder.presences() == [Presence.FIXED]


@pytest.mark.parametrize(
    "failure",
    [
        Failure("patterns", None, None, "crashed"),
        Failure("patterns", "no-eval", None, "crashed"),
        Failure("patterns", None, "a.py", "crashed"),
        Failure("patterns", "no-eval", "a.py", "crashed"),
        Failure("engine", None, "a.py", "crashed"),
        Failure("engine", None, None, "crashed"),
    ],
)
def test_where_an_analyzer_failed_nothing_is_fixed(folder: Folder, failure: Failure) -> None:
    folder.review(found())
    session = folder.review(failures=[failure])
    assert folder.presences() == [Presence.PRESENT]
    assert by_state(session) == {}


@pytest.mark.parametrize(
    "failure",
    [
        Failure("other", None, None, "crashed"),
        Failure("patterns", "no-exec", None, "crashed"),
        Failure("patterns", None, "b.py", "crashed"),
    ],
)
def test_a_failure_elsewhere_does_not_keep_a_finding(folder: Folder, failure: Failure) -> None:
    folder.review(found())
    folder.review(failures=[failure], rules=[*RULES, RuleSpec("x", plugin="other")])
    assert folder.presences() == [Presence.FIXED]


def test_a_part_of_the_codebase_cannot_tell_that_anything_was_fixed(folder: Folder) -> None:
    folder.review(found(1), found(2, "no-exec"), found(path="b.py"))
    session = folder.review(found(7, code="new"), files=["a.py"], rules=[EVAL], whole=False)
    assert folder.presences() == [Presence.PRESENT] * 4
    assert by_state(session) == {"new": 1}


def test_of_what_is_compared_only_the_wanted_is_stored(folder: Folder) -> None:
    folder.review(found(1, code="old"))
    keep = lambda finding: finding.start_line > 5  # noqa: E731
    session = folder.review(found(3, code="old"), found(4), found(9), whole=False, keep=keep)
    assert [issue.finding.start_line for issue in folder.issues] == [9]
    assert TrackedFinding.objects.get(code_hash__startswith="old").line == 1
    assert TrackedFinding.objects.count() == 2
    assert session.issues.count() == 1


# ---- what comes back


@pytest.mark.parametrize("meanwhile", [{}, {"rules": [EXEC]}, {"files": ["b.py"]}])
def test_what_comes_back_keeps_what_was_decided(folder: Folder, meanwhile: dict[str, Any]) -> None:
    folder.review(found())
    decide([TrackedFinding.objects.get()], triage="false_positive", reason="a constant", user=make_user(superuser=True))
    key = folder.issues[0].key
    folder.review(**meanwhile)
    session = folder.review(found())
    assert [(each.key, each.state, each.triage) for each in folder.issues] == [(key, "reappeared", "false_positive")]
    tracked = TrackedFinding.objects.get()
    assert (tracked.presence, tracked.resolved_at) == (Presence.PRESENT, None)
    assert (tracked.triage, tracked.triage_reason) == (Triage.FALSE_POSITIVE, "a constant")
    assert session.counts["dismissed"] == 1


# ---- what does not count


def test_suppressed_and_dismissed_findings_are_stored_and_do_not_count(folder: Folder) -> None:
    folder.review(found(1), found(2), found(3))
    decide([TrackedFinding.objects.get(line=1)], triage="wont_fix", reason="legacy", user=make_user(superuser=True))
    directive = Directive(2, 1, 9, ("no-eval",), "known", date(2030, 1, 1))
    session = folder.review(found(1), found(2), found(3), suppressed={found(2)[0]: directive})
    assert session.counts["by_severity"]["high"] == 1
    assert session.counts["by_persona"] == {"security": 1}
    assert (session.counts["suppressed"], session.counts["dismissed"]) == (1, 1)
    assert by_state(session) == {"existing": 1}
    issue = session.issues.get(start_line=2)
    assert (issue.suppressed, issue.suppression_reason, issue.suppressed_until) == (True, "known", date(2030, 1, 1))
    assert [each.counts for each in folder.issues] == [False, False, True]
    assert TrackedFinding.objects.get(line=2).suppressed
    assert by_state(folder.review()) == {"fixed": 1}


def test_a_suppression_that_ends_is_seen(folder: Folder) -> None:
    folder.review(found(), suppressed={found()[0]: Directive(1, 1, 9, ("no-eval",), "r")})
    session = folder.review(found())
    assert not TrackedFinding.objects.get().suppressed
    assert by_state(session) == {"existing": 1}


# ---- what was looked at


def test_names_that_are_no_text_are_found_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "caf\\xe9.txt").write_text("")
    with open(bytes(tmp_path) + b"/caf\xe9.py", "w"):
        pass
    coverage = Coverage([EVAL], root=tmp_path, files=[])
    assert coverage.is_there("caf\\xe9.py")
    assert coverage.is_there("caf\\xe9.txt")
    assert not coverage.is_there("caf\\xe8.py")


def test_a_folder_in_the_place_of_a_file_is_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").mkdir()
    (tmp_path / "b.py").symlink_to("nowhere")
    coverage = Coverage([EVAL], root=tmp_path, files=[])
    assert coverage.answer("no-eval", "a.py") is Answer.GONE
    assert coverage.answer("no-eval", "b.py") is Answer.NOT_REVIEWED


def test_a_rule_whose_path_patterns_cannot_run_is_unknown_and_ends_nothing(tmp_path: Path) -> None:
    broken = RuleSpec("broken", file_patterns=("(",))
    coverage = Coverage(
        [EVAL, broken], root=tmp_path, files=["a.py"], failures=[Failure("patterns", "broken", None, "(")]
    )
    assert coverage.answer("broken", "a.py") is Answer.UNKNOWN
    assert coverage.answer("no-eval", "a.py") is Answer.LOOKED
