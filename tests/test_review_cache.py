"""What is kept of a review, when it is used again, and when it must not be."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins import registry
from plugins.contract import RuleSpec
from reviews import cache, plan
from reviews.cache import KEPT_DAYS, Cache
from reviews.discovery import discover
from reviews.engine import Result, run
from tests.foreign import install

EVAL = RuleSpec("eval", configuration={"pattern": r"eval\("}, message="eval found")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(autouse=True)
def foreign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(folder)
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.py").write_text("eval(a)  # code-review: ignore[eval] -- known\n")
    (root / "b.py").write_text("eval(b)\n")
    (root / "c.bin").write_bytes(b"\0")
    return root


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def review(folder: Path, root: Path, tmp_path: Path, log: Path) -> Callable[..., Result]:
    """Reviews with analyzers that log what they look at."""

    def review(*rules: RuleSpec, **options: Any) -> Result:
        log.write_text("")
        marked = RuleSpec("marked", plugin="foreign", configuration={"do": "mark_time", "log": str(log)})
        settings = {"plugin_configurations": {}, "search_path": [folder], "cache": tmp_path / "cache", "jobs": 1}
        return run([EVAL, marked, *rules], discover(root), **{**settings, **options})

    return review


def looked_at(log: Path) -> list[str]:
    return sorted(log.read_text().split())


def comparable(result: Result) -> dict[str, Any]:
    kept = dict(vars(result))
    for name in ("seconds", "analyzer_seconds"):
        del kept[name]
    kept["plugin_runs"] = {name: (each.files, each.findings) for name, each in result.plugin_runs.items()}
    return kept


def test_what_has_not_changed_is_not_looked_at_again(review: Callable[..., Result], log: Path) -> None:
    first = review(suppression_policy={})
    assert looked_at(log) == ["a.py", "b.py"]
    second = review(suppression_policy={})
    assert looked_at(log) == []
    assert comparable(first) == comparable(second)
    assert len(second.suppressed) == 1
    assert second.analyzer_seconds == {"foreign": 0.0, "patterns": 0.0}


def test_a_file_that_changed_is_looked_at_again_whatever_its_time_says(
    review: Callable[..., Result], root: Path, log: Path
) -> None:
    review()
    before = os.stat(root / "b.py")
    (root / "b.py").write_text("evil(b)\n")
    os.utime(root / "b.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    result = review()
    assert looked_at(log) == ["b.py"]
    assert [finding.path for finding in result.findings if finding.rule == "eval"] == ["a.py"]


def test_a_file_under_another_name_is_another_file(review: Callable[..., Result], root: Path, log: Path) -> None:
    review()
    (root / "b.py").rename(root / "d.py")
    review()
    assert looked_at(log) == ["d.py"]


@pytest.mark.parametrize(
    "change",
    [
        {"rule": {"message": "other"}},
        {"rule": {"severity": "low"}},
        {"rule": {"configuration": {"pattern": "eval"}}},
        {"options": {"plugin_configurations": {"foreign": {"x": 1}}}},
        {"version": "2"},
        {"code": True},
    ],
)
def test_whatever_decides_about_findings_makes_them_looked_for_again(
    review: Callable[..., Result], log: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    review()
    if "version" in change:
        monkeypatch.setattr(registry.get("foreign"), "version", change["version"])
    if "code" in change:
        monkeypatch.setattr(plan, "_SOURCES", ("plugins",))
    rule = RuleSpec(**{"name": "eval", "configuration": {"pattern": r"eval\("}, **change.get("rule", {})})
    review(*([rule] if "rule" in change else []), **change.get("options", {}))
    assert looked_at(log) == ["a.py", "b.py"]


def test_days_and_policies_are_judged_anew(review: Callable[..., Result], log: Path) -> None:
    assert review().suppressed == {}
    assert len(review(suppression_policy={}).suppressed) == 1
    assert review(suppression_policy={"max_days": 3}).suppressed == {}
    assert looked_at(log) == []


def test_failures_are_never_kept(review: Callable[..., Result], log: Path) -> None:
    failing = RuleSpec("failing", plugin="other", configuration={"do": "fail_partly", "on": "(b)"})
    assert len(review(failing).failures) == 1
    assert len(review(failing).failures) == 1
    assert looked_at(log) == ["b.py"]


def test_a_file_of_which_an_analyzer_was_spared_is_looked_at_again(review: Callable[..., Result], log: Path) -> None:
    crashing = RuleSpec("crashing", plugin="other", configuration={"do": "exit_process", "on": "eval"})
    review(crashing)
    review(crashing)
    assert set(looked_at(log)) == {"a.py", "b.py"}


def test_the_tree_is_looked_at_again_if_any_file_changed(review: Callable[..., Result], root: Path, log: Path) -> None:
    tree = RuleSpec("tree", plugin="woods", configuration={"do": "log", "log": str(log)})
    first = review(tree)
    assert looked_at(log) == ["a.py", "b.py", "tree"]
    second = review(tree)
    assert looked_at(log) == []
    assert comparable(first) == comparable(second)
    (root / "c.bin").write_bytes(b"\0\0")
    review(tree)
    assert looked_at(log) == ["tree"]
    (root / "d.bin").write_bytes(b"\0\0")
    review(tree)
    assert looked_at(log) == ["tree"]


def test_a_tree_with_failures_is_not_kept(review: Callable[..., Result]) -> None:
    tree = RuleSpec("tree", plugin="woods", configuration={"do": "fail_partly"})
    assert len(review(tree).failures) == 1
    assert len(review(tree).failures) == 1


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_tree_whose_analyzer_was_never_ready_is_not_kept(review: Callable[..., Result], jobs: int) -> None:
    tree = RuleSpec("tree", plugin="woods", configuration={"do": "find", "findings": []})
    unready = {"plugin_configurations": {"woods": {"prepare": "raise_base"}}, "jobs": jobs}
    first, second = review(tree, **unready), review(tree, **unready)
    assert "no Exception at all" in first.failures[0].message
    assert second.failures == first.failures


def test_the_cache_is_its_owners_alone(review: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    review()
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    (file,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def spoil_with_text(file: Path) -> None:
    file.write_text("no database")


def spoil_with_another_database(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE entries (key TEXT, value TEXT, used TEXT)")
        connection.execute("INSERT INTO entries VALUES ('a', 'b', 'c')")
    connection.close()


def spoil_in_the_middle(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[200:-200] = bytes(len(content) - 400)
    file.write_bytes(content)


def spoil_values(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entries SET value = substr(value, 1, 8) || ?", (b"[[]]",))
    connection.close()


def open_to_others(file: Path) -> None:
    file.chmod(0o666)


def link_elsewhere(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


@pytest.mark.parametrize(
    "spoil",
    [spoil_with_text, spoil_with_another_database, spoil_in_the_middle, spoil_values, open_to_others, link_elsewhere],
)
def test_a_spoilt_cache_is_made_anew(
    review: Callable[..., Result], tmp_path: Path, log: Path, spoil: Callable[[Path], None]
) -> None:
    first = review()
    (file,) = (tmp_path / "cache").glob("*.sqlite3")
    spoil(file)
    second = review()
    assert looked_at(log) == ["a.py", "b.py"]
    assert comparable(first) == comparable(second)
    review()
    review()
    assert looked_at(log) == []


def test_a_cache_that_somebody_holds_is_left_alone(
    review: Callable[..., Result], tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_WAIT", 0.05)
    review()
    (file,) = (tmp_path / "cache").glob("*.sqlite3")
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    assert len(review().findings) == 4
    connection.execute("ROLLBACK")
    connection.close()
    review()
    assert looked_at(log) == []


def test_a_folder_that_cannot_be_used_costs_only_time(review: Callable[..., Result], tmp_path: Path, log: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "link"):
        assert len(review(cache=place).findings) == 4
        assert looked_at(log) == ["a.py", "b.py"]


def test_entries_that_nobody_asked_for_are_dropped(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", "root", today=100) as kept:
        kept.put(b"old", ["old"])
        kept.put(b"used", ["used"])
    with Cache(tmp_path / "cache", "root", today=100 + KEPT_DAYS) as kept:
        assert kept.get(b"used") == ["used"]
    with Cache(tmp_path / "cache", "root", today=101 + KEPT_DAYS) as kept:
        assert kept.get(b"old") == ["old"]  # dropped at the end of a review
        kept._used.clear()
    with Cache(tmp_path / "cache", "root", today=101 + KEPT_DAYS) as kept:
        assert (kept.get(b"old"), kept.get(b"used")) == (None, ["used"])


def test_a_cache_that_grew_too_large_drops_what_was_not_used_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MAX_BYTES", 10_000)
    for day in range(20):
        with Cache(tmp_path / "cache", "root", today=day) as kept:
            kept.put(str(day).encode(), ["x" * 1000])
    with Cache(tmp_path / "cache", "root", today=20) as kept:
        assert [day for day in range(20) if kept.get(str(day).encode())] == list(range(11, 20))


def test_codebases_do_not_share_a_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with Cache(tmp_path, name) as kept:
            assert kept.get(b"key") is None
            kept.put(b"key", [name])
    assert len(list(tmp_path.glob("*.sqlite3"))) == 2


def test_the_caches_of_codebases_that_nobody_reviews_any_more_are_dropped(tmp_path: Path) -> None:
    for name in ("gone", "alive"):
        with Cache(tmp_path, name, today=100) as kept:
            kept.put(b"key", [name])
    (stays,) = (file for file in tmp_path.glob("*.sqlite3") if file == kept._path)
    for file in tmp_path.iterdir():
        os.utime(file, (100 * 86_400, 100 * 86_400))
    (tmp_path / "notes.txt").write_text("not ours")
    os.utime(tmp_path / "notes.txt", (0, 0))
    with Cache(tmp_path, "alive", today=101 + KEPT_DAYS) as kept:
        assert kept.get(b"key") == ["alive"]
    assert {file for file in tmp_path.iterdir() if file.suffix != ".txt"} == {stays}
    assert (tmp_path / "notes.txt").exists()
