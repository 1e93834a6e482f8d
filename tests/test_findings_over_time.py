"""Do findings in real files stay what they are, whatever happens to the files and the rules?

The files are Django's own, copied from where it is installed.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import pytest
from django.db import connection

from audit.permissions import SYSTEM_ACTOR
from plugins import registry
from plugins.contract import Finding
from plugins.models import Plugin, PluginRun
from plugins.services import sync_plugins, toggle
from reviews.choices import Presence, Scope, SessionStatus
from reviews.models import Codebase, ReviewSession, TrackedFinding
from reviews.sessions import Review, review
from reviews.triage import decide
from rules.models import AnalysisRule
from tests.factories import make_rule

pytestmark = pytest.mark.django_db

SOURCE = Path(django.__file__).parent
FILES = ("template/base.py", "core/cache/backends/locmem.py", "core/cache/backends/filebased.py", "utils/html.py")
TEMPLATE, LOCMEM, FILEBASED, HTML = FILES


class Project:
    """A folder with some files of Django, under review."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in FILES:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / name, root / name)
        make_rule(name="pickle-load", configuration={"pattern": r"pickle\.loads?\("}, examples={})
        make_rule(name="broad-except", configuration={"pattern": r"except Exception\b"}, examples={}, severity="low")
        make_rule(name="mark-safe", configuration={"pattern": r"\bmark_safe\("}, examples={}, severity="medium")

    def review(self, **options: Any) -> Review:
        return review(options.pop("path", self.root), started_by="me", jobs=0, use_cache=False, **options)

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.root / name
        before = path.read_text()
        after = change(before)
        assert after != before
        path.write_text(after)

    def move(self, old: str, new: str) -> None:
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        (self.root / old).rename(self.root / new)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    return Project(root)


def states(done: Review) -> Counter[str]:
    return Counter(issue.state for issue in done.issues)


def gone(done: Review) -> dict[str, int]:
    return {
        name: number
        for name, number in done.session.counts["by_state"].items()
        if number and name in ("fixed", "rule_removed")
    }


def keys(done: Review) -> dict[str, tuple[str, str]]:
    """Rule and code by key."""
    return {issue.key: (issue.finding.rule, issue.finding.snippet) for issue in done.issues}


def insert(text: str, after: int, lines: str) -> str:
    parts = text.splitlines(keepends=True)
    return "".join([*parts[:after], lines, *parts[after:]])


def line_of(done: Review, key: str) -> int:
    return next(issue.finding.start_line for issue in done.issues if issue.key == key)


def test_everything_is_new_at_first_and_then_nothing_changes(project: Project) -> None:
    first, second = project.review(), project.review()
    assert len(first.issues) > 20
    assert states(first) == {"new": len(first.issues)}
    assert states(second) == {"existing": len(first.issues)}
    assert keys(second) == keys(first)
    assert first.gone is None
    assert gone(second) == {}


def test_lines_inserted_above_change_nothing(project: Project) -> None:
    first = project.review()
    project.edit(TEMPLATE, lambda text: insert(text, 60, "# one\n\n# two\n"))
    second = project.review()
    assert states(second) == {"existing": len(first.issues)}
    assert keys(second) == keys(first)
    moved = next(issue for issue in second.issues if issue.finding.path == TEMPLATE)
    assert TrackedFinding.objects.get(key=moved.key).line == moved.finding.start_line


def test_a_file_that_is_formatted_anew_keeps_its_findings(project: Project) -> None:
    first = project.review()
    project.edit(LOCMEM, lambda text: text.replace("    ", "\t"))
    assert states(project.review()) == {"existing": len(first.issues)}


def test_a_block_that_moves_in_its_file_keeps_its_findings(project: Project) -> None:
    first = project.review()

    def swap(text: str) -> str:
        """The last method of the class before the others."""
        methods = re.split(r"(?m)^(?=    def )", text)
        return "".join([methods[0], methods[-1].rstrip() + "\n\n", *methods[1:-1]])

    project.edit(LOCMEM, swap)
    second = project.review()
    assert keys(second) == keys(first)
    assert states(second) == {"existing": len(first.issues)}


def test_a_block_that_moves_to_another_file_keeps_its_findings(project: Project) -> None:
    first = project.review()
    block = re.search(r"(?ms)^    def get\(self.*?(?=^    def touch)", (project.root / LOCMEM).read_text())[0]
    assert "pickle.loads" in block
    project.edit(LOCMEM, lambda text: text.replace(block, ""))
    (project.root / "moved.py").write_text("class Moved:\n" + block)
    second = project.review()
    assert keys(second) == keys(first)
    assert gone(second) == {}


def test_a_renamed_file_keeps_its_findings(project: Project) -> None:
    first = project.review()
    project.move(TEMPLATE, "templates/engine.py")
    second = project.review()
    assert keys(second) == keys(first)
    assert states(second) == {"existing": len(first.issues)}
    assert not TrackedFinding.objects.filter(path=TEMPLATE).exists()


def test_a_file_that_is_renamed_and_edited_around_its_findings_keeps_them(project: Project) -> None:
    first = project.review()
    project.move(FILEBASED, "core/cache/backends/files.py")
    project.edit(
        "core/cache/backends/files.py", lambda text: re.sub(r"(?m)^( *)(try:|with .*:)$", r"\1\2  # edited", text)
    )
    second = project.review()
    assert gone(second) == {}
    assert keys(second) == keys(first)


def test_a_folder_that_is_renamed_keeps_its_findings(project: Project) -> None:
    first = project.review()
    (project.root / "core").rename(project.root / "kernel")
    assert keys(project.review()) == keys(first)


def test_another_title_of_a_rule_changes_nothing(project: Project) -> None:
    first = project.review()
    rule = AnalysisRule.objects.get(name="pickle-load")
    rule.title, rule.message, rule.severity = "Pickle", "Do not unpickle what others wrote.", "critical"
    rule.save()
    second = project.review()
    assert keys(second) == keys(first)
    assert states(second) == {"existing": len(first.issues)}
    assert set(TrackedFinding.objects.filter(rule_name="pickle-load").values_list("severity", flat=True)) == {
        "critical"
    }


def test_equal_findings_stay_apart_and_of_them_exactly_the_removed_one_is_fixed(project: Project) -> None:
    first = project.review()
    equal = [issue for issue in first.issues if issue.finding.snippet == "except Exception as e:"]
    assert len(equal) >= 4
    removed = equal[1]
    project.edit(TEMPLATE, lambda text: "".join(
        line for number, line in enumerate(text.splitlines(keepends=True), 1) if number != removed.finding.start_line
    ))  # fmt: skip
    second = project.review()
    assert gone(second) == {"fixed": 1}
    assert states(second) == {"existing": len(first.issues) - 1}
    assert TrackedFinding.objects.get(presence=Presence.FIXED).key == removed.key


def test_a_copied_block_is_one_new_finding(project: Project) -> None:
    first = project.review()
    project.edit(LOCMEM, lambda text: text + "\n\ndef again():\n    return pickle.loads(pickled)\n")
    second = project.review()
    assert states(second) == {"existing": len(first.issues), "new": 1}
    (new,) = [issue for issue in second.issues if issue.state == "new"]
    assert new.finding.start_line == max(line_of(second, key) for key in keys(second) if key == new.key)
    assert set(keys(first)) < set(keys(second))


def test_the_flagged_line_may_be_edited(project: Project) -> None:
    first = project.review()
    project.edit(
        FILEBASED, lambda text: text.replace("exp = pickle.load(f)", "expiry = pickle.load(f, encoding='ascii')")
    )
    second = project.review()
    assert set(keys(second)) == set(keys(first))
    assert gone(second) == {}


def test_what_was_decided_survives_every_rerun(project: Project) -> None:
    first = project.review()
    chosen = TrackedFinding.objects.get(key=first.issues[0].key)
    decide([chosen], triage="false_positive", reason="trusted", user=SYSTEM_ACTOR)
    project.edit(first.issues[0].finding.path, lambda text: "# a new first line\n" + text)
    second = project.review()
    issue = next(issue for issue in second.issues if issue.key == chosen.key)
    assert (issue.triage, issue.counts) == ("false_positive", False)
    assert second.session.counts["dismissed"] == 1
    assert sum(second.session.counts["by_severity"].values()) == len(second.issues) - 1


def test_a_rule_that_is_disabled_fixes_nothing_and_gives_its_findings_back(project: Project) -> None:
    first = project.review()
    picked = [issue for issue in first.issues if issue.finding.rule == "pickle-load"]
    decide(TrackedFinding.objects.filter(rule_name="pickle-load"), triage="wont_fix", reason="ours", user=SYSTEM_ACTOR)
    rule = AnalysisRule.objects.get(name="pickle-load")
    rule.enabled = False
    rule.save()
    second = project.review()
    assert set(TrackedFinding.objects.filter(rule_name="pickle-load").values_list("presence")) == {("rule_removed",)}
    assert "fixed" not in gone(second)
    project.edit(LOCMEM, lambda text: "# edited meanwhile\n" + text)
    rule.enabled = True
    rule.save()
    third = project.review()
    back = [issue for issue in third.issues if issue.finding.rule == "pickle-load"]
    assert {issue.key for issue in back} == {issue.key for issue in picked}
    assert {(issue.state, issue.triage) for issue in back} == {("reappeared", "wont_fix")}


def test_a_disabled_plugin_fixes_nothing(project: Project) -> None:
    project.review()
    toggle(name="secrets", enabled=False)
    toggle(name="patterns", enabled=False)
    assert "fixed" not in gone(project.review())


class Fragile:
    """An analyzer that fails when it is told to."""

    name, title, description, version = "fragile", "Fragile", "Fails.", "1"
    requires: tuple[str, ...] = ()
    configuration_schema = rule_schema = {"type": "object"}
    broken = False

    def check_rule(self, rule: Any) -> None: ...

    def prepare(self, rules: Any, configuration: Any) -> None: ...

    def analyze(self, source: Any, rules: Any) -> Any:
        if Fragile.broken:
            raise RuntimeError("no luck today")
        for number, line in enumerate(source.content.split(b"\n"), 1):
            if b"import pickle" in line:
                yield Finding(rules[0].name, source.path, number, 1, number, 2, "found", "import pickle")


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(registry, "BUILT_IN", (*registry.BUILT_IN, Fragile))
    registry.refresh()
    sync_plugins()
    yield Fragile
    Fragile.broken = False
    monkeypatch.undo()
    registry.refresh()


def test_a_failing_analyzer_fixes_nothing(project: Project, fragile: Any) -> None:
    make_rule(name="import-pickle", plugin_id="fragile", configuration={}, examples={})
    first = project.review()
    assert TrackedFinding.objects.filter(rule_name="import-pickle").count() == 2
    fragile.broken = True
    second = project.review()
    assert second.result.failures
    assert gone(second) == {}
    assert set(TrackedFinding.objects.values_list("presence")) == {("present",)}
    fragile.broken = False
    third = project.review()
    assert keys(third) == keys(first)
    assert states(third) == {"existing": len(first.issues)}


def test_an_excluded_file_fixes_nothing(project: Project) -> None:
    first = project.review()
    second = project.review(exclude=["html.py"])
    assert gone(second) == {}
    assert set(TrackedFinding.objects.filter(path=HTML).values_list("presence")) == {("not_reviewed",)}
    assert states(project.review())["reappeared"] == len(first.issues) - len(second.issues)


def test_a_deleted_file_is_fixed(project: Project) -> None:
    first = project.review()
    (project.root / HTML).unlink()
    second = project.review()
    assert gone(second) == {"fixed": len(first.issues) - len(second.issues)}


def test_a_suppression_in_the_code_is_kept_with_its_reason(project: Project) -> None:
    first = project.review()
    project.edit(LOCMEM, lambda text: text.replace(
        "return pickle.loads(pickled)",
        "return pickle.loads(pickled)  # code-review: ignore[pickle-load] -- we wrote it (until=2999-12-31)",
    ))  # fmt: skip
    second = project.review()
    assert set(keys(second)) == set(keys(first))
    (issue,) = [issue for issue in second.issues if issue.suppressed]
    assert issue.suppressed.reason == "we wrote it"
    assert second.session.counts["suppressed"] == 1
    assert TrackedFinding.objects.get(key=issue.key).suppressed
    toggle(name="directives", enabled=False)
    assert not any(issue.suppressed for issue in project.review().issues)


def test_a_directive_for_a_rule_that_is_switched_off_is_no_mistake(project: Project) -> None:
    make_rule(
        name="malformed", plugin_id="directives", configuration={"report": "malformed"}, examples={}, file_types=[]
    )
    make_rule(name="asleep", enabled=False)
    (project.root / "a.py").write_text(
        "x = 1  # code-review: ignore[asleep] -- r\ny = 2  # code-review: ignore[nobody] -- r\n"
    )
    found = [issue.finding for issue in project.review().issues if issue.finding.rule == "malformed"]
    assert [(finding.path, finding.start_line) for finding in found] == [("a.py", 2)]
    assert "nobody" in found[0].message


# ---- which codebase


def test_a_name_makes_folders_one_codebase(project: Project, tmp_path: Path) -> None:
    first = project.review(codebase_name="shop")
    shutil.copytree(project.root, tmp_path / "elsewhere")
    second = project.review(path=tmp_path / "elsewhere", codebase_name="shop")
    assert states(second) == {"existing": len(first.issues)}
    assert Codebase.objects.get().root == str(tmp_path / "elsewhere")
    assert states(project.review()) == {"new": len(first.issues)}


@pytest.mark.parametrize("part", ["core", LOCMEM])
def test_a_part_of_a_named_codebase_is_the_same_code_and_fixes_nothing_elsewhere(project: Project, part: str) -> None:
    first = project.review(codebase_name="shop")
    second = project.review(path=project.root / part, codebase_name="shop")
    assert second.session.scope == Scope.PART
    assert set(states(second)) == {"existing"}
    assert set(keys(second)) < set(keys(first))
    assert set(TrackedFinding.objects.values_list("presence")) == {("present",)}
    assert Codebase.objects.get().root == str(project.root)
    assert states(project.review(codebase_name="shop")) == {"existing": len(first.issues)}


def test_a_single_file_is_a_codebase_of_its_own(project: Project) -> None:
    for name in ("", "shop"):
        first = project.review(path=project.root / LOCMEM, codebase_name=name)
        assert first.session.scope == Scope.FULL
        project.edit(LOCMEM, lambda text: text.replace("pickle.loads(pickled)", "pickled", 1))
        second = project.review(path=project.root / LOCMEM, codebase_name=name)
        assert (second.session.scope, gone(second)) == (Scope.FULL, {"fixed": 1})


# ---- the session


def test_the_session_says_how_it_ran(project: Project) -> None:
    project.review(exclude=["html.py"])
    session = ReviewSession.objects.get()
    assert session.exclude == ["html.py"]
    assert (session.files_done, session.files_total, session.files_analyzed) == (3, 3, 3)
    assert session.heartbeat_at is not None
    assert session.plugin_runs["patterns"]["files"] == 3
    assert session.tracked_codebase.root == str(project.root)
    assert PluginRun.objects.get(plugin__name="patterns").files == 3


def test_a_session_that_waited_is_filled(project: Project) -> None:
    waiting = ReviewSession.objects.create(
        codebase="?", root="?", revision=0, status=SessionStatus.QUEUED, started_by="ada", cancel_requested=False
    )
    done = project.review(session=waiting)
    stored = ReviewSession.objects.get()
    assert (stored.pk, stored.status, stored.started_by) == (done.session.pk, SessionStatus.COMPLETED, "ada")
    assert stored.issues.count() == len(done.issues)


def test_a_cancelled_review_stores_nothing_and_fixes_nothing(project: Project) -> None:
    project.review()
    done = project.review(cancelled=lambda: True)
    assert (done.session.status, done.issues) == (SessionStatus.CANCELLED, [])
    assert ReviewSession.objects.get(pk=done.session.pk).finished_at is not None
    assert not done.session.issues.exists()
    assert set(TrackedFinding.objects.values_list("presence")) == {("present",)}


def test_a_review_can_be_cancelled_by_its_row(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reviews.sessions.BEAT", 0)
    monkeypatch.setattr("reviews.engine._ASK_SECONDS", 0)

    def ask(done: int, total: int) -> None:
        ReviewSession.objects.update(cancel_requested=True)

    assert project.review(progress=ask).session.status == SessionStatus.CANCELLED


def test_an_interrupted_review_is_cancelled(project: Project) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.review(progress=interrupt)
    assert ReviewSession.objects.get().status == SessionStatus.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_two_reviews_of_a_codebase_at_once_agree(project: Project) -> None:
    project.review()
    before = TrackedFinding.objects.count()
    (project.root / "more.py").write_text("pickle.loads(one)\npickle.loads(two)\n")
    errors: list[BaseException] = []

    def act() -> None:
        try:
            project.review()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=act) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert TrackedFinding.objects.count() == before + 2
    assert set(TrackedFinding.objects.values_list("presence")) == {("present",)}
    new = ReviewSession.objects.filter(issues__state="new", issues__path="more.py").distinct()
    assert new.count() == 1


def test_the_configuration_of_the_plugin_decides_what_a_suppression_needs(project: Project) -> None:
    (project.root / "a.py").write_text("pickle.loads(x)  # code-review: ignore[pickle-load]\n")
    assert not any(issue.suppressed for issue in project.review().issues)
    plugin = Plugin.objects.get(name="directives")
    plugin.configuration = {"require_reason": False}
    plugin.save()
    assert [issue.finding.path for issue in project.review().issues if issue.suppressed] == ["a.py"]
