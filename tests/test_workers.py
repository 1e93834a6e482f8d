"""Whatever an analyzer does to its process costs what it would have found, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from plugins import registry
from plugins.contract import RuleSpec, SourceFile
from reviews import child, pool
from reviews.discovery import discover
from reviews.engine import Result, run
from reviews.pool import PoolError
from tests.foreign import install

FILES = {"a.py": "eval(a)\n", "b.py": "eval(b) # bad\n", "c.py": "eval(c)\n"}
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
def review(folder: Path) -> Callable[..., Result]:
    def review(*rules: RuleSpec, files: Mapping[str, str] = FILES, **options: Any) -> Result:
        sources = [SourceFile(path, text.encode()) for path, text in files.items()]
        return run(
            [EVAL, *rules],
            sources,
            **{"plugin_configurations": {}, "jobs": 1, "search_path": [folder], **options},
        )

    return review


def do(deed: str, *, on: str = "bad", plugin: str = "foreign", **configuration: Any) -> RuleSpec:
    return RuleSpec(f"{plugin}-{deed}", plugin=plugin, configuration={"do": deed, "on": on, **configuration})


def places(result: Result, rule: str = "eval") -> list[str]:
    return [finding.path for finding in result.findings if finding.rule == rule]


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("sleep", "took longer than 2 s and was stopped"),
        ("exit_process", "ended its process with exit code 3"),
        ("segfault", "crashed (SIGSEGV)"),
        ("abort", "the last words"),
        ("close_files", "closed files that are not its own"),
        ("swap_files", "closed files that are not its own"),
        ("fork_and_die", "ended its process with exit code 4"),
        ("exit_python", "SystemExit: enough"),
        ("raise_base", "BaseException: no Exception at all"),
        ("interrupt", "KeyboardInterrupt: "),
        ("eat_and_return", "MemoryError: "),
        ("return_text", "returned str where a Finding was due"),
        ("return_nothing", "TypeError: 'NoneType' object is not iterable"),
        ("find_elsewhere", "returned a finding in 'other.py'"),
        ("find_odd_types", "whose start_line is no whole number"),
    ],
)
def test_one_that_goes_wrong_on_a_file_costs_its_own_findings_there(
    review: Callable[..., Result], deed: str, said: str
) -> None:
    result = review(do(deed), do("print_much", on="eval", plugin="other"))
    assert places(result) == ["a.py", "b.py", "c.py"]
    assert places(result, "other-print_much") == ["a.py", "b.py", "c.py"]
    (failure,) = result.failures
    assert (failure.plugin, failure.path) == ("foreign", "b.py")
    assert said in failure.message
    assert result.files == {"a.py", "b.py", "c.py"}
    assert result.plugin_runs["foreign"].failures == 1
    assert result.plugin_runs["foreign"].detail == failure.message


def test_one_that_keeps_the_memory_it_ate_costs_its_own_findings(review: Callable[..., Result]) -> None:
    result = review(do("eat"), memory=64 << 20)
    assert places(result) == ["a.py", "b.py", "c.py"]
    (failure,) = result.failures
    assert (failure.plugin, failure.path) == ("foreign", "b.py")
    assert failure.message in ("needed more memory than it may use", "took longer than 2 s and was stopped")


def test_one_that_finds_without_end_is_cut_short(review: Callable[..., Result]) -> None:
    result = review(do("find_much", plugin="other"), do("find_long"))
    assert places(result) == ["a.py", "b.py", "c.py"]
    assert len(places(result, "other-find_much")) == 50_000
    (long,) = [finding for finding in result.findings if finding.rule == "foreign-find_long"]
    assert len(long.message) == 4000
    assert [failure.message for failure in result.failures] == ["found more than 50,000 times; the rest was not taken"]


def test_one_that_writes_into_other_files_is_not_heard(review: Callable[..., Result]) -> None:
    result = review(do("write_rubbish", on="eval"))
    assert places(result) == places(result, "foreign-write_rubbish") == ["a.py", "b.py", "c.py"]
    assert result.failures == []


@pytest.mark.parametrize(("deed", "code"), [("end_later", 5), ("claim_to_prepare", 6)])
def test_a_file_at_which_workers_end_nobody_knows_why_is_given_up_alone(
    review: Callable[..., Result], deed: str, code: int
) -> None:
    result = review(do(deed))
    assert places(result) == ["a.py", "c.py"]
    assert result.failures == [("engine", None, "b.py", f"ended its process with exit code {code}")]


@pytest.mark.parametrize("deed", ["lie", "lie_nonsense"])
def test_a_worker_that_says_what_makes_no_sense_is_not_believed(review: Callable[..., Result], deed: str) -> None:
    result = review(do(deed))
    assert {"a.py", "c.py"} <= set(places(result))
    # Who is blamed depends on what the worker did when it was heard.
    assert "said what makes no sense" in {failure.message for failure in result.failures}
    assert {failure.plugin for failure in result.failures} <= {"engine", "foreign"}


def test_nonsense_costs_nothing_of_the_analyzer_that_is_asked_when_it_is_heard(review: Callable[..., Result]) -> None:
    result = review(do("lie_and_point"))
    assert places(result) == ["a.py", "c.py"]
    assert result.failures == [("engine", None, "b.py", "said what makes no sense")]


def test_one_that_never_stops_talking_is_not_listened_to_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker = child.Child([], memory=0, folder=tmp_path)
    real, said = os.read, 0

    def read(number: int, size: int) -> bytes:
        nonlocal said
        said += number == talker.answers
        assert said < 1000
        return b"rubbish\n" if number == talker.answers else real(number, size)

    monkeypatch.setattr(os, "read", read)
    assert talker.receive() == ([], True)
    talker.end()


def test_what_was_printed_last_can_be_stored(review: Callable[..., Result]) -> None:
    (failure,) = review(do("abort_with_nul")).failures
    assert failure.message.endswith("printed last: nothing\ufffdthat a database stores")


def test_a_rule_whose_failure_is_one_of_too_many_has_not_looked(review: Callable[..., Result]) -> None:
    names = {f"foreign-fail_much-{number}" for number in range(150)}
    idle = [RuleSpec(name, plugin="foreign", configuration={"do": "sleep", "on": "nowhere"}) for name in names]
    told = {failure.rule for failure in review(do("fail_much"), *idle).failures}
    assert None in told or told >= names


@pytest.mark.parametrize("deed", ["fork", "fork_and_return"])
def test_a_copy_of_the_process_is_not_heard_and_does_not_hold_up_the_review(
    review: Callable[..., Result], deed: str
) -> None:
    result = review(do(deed, on="eval"))
    assert places(result, f"foreign-{deed}") == ["a.py", "b.py", "c.py"]
    assert result.failures == []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not tell of children")
def test_what_an_analyzer_left_running_is_ended(review: Callable[..., Result], tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    result = review(do("leave_daemon", mark=mark))
    assert result.failures == []
    assert running_with(mark) == []


def test_one_that_crashes_again_and_again_is_switched_off(review: Callable[..., Result]) -> None:
    files = {f"{number:02}.py": "eval(bad)" for number in range(20)}
    result = review(do("exit_process"), files=files)
    assert places(result) == sorted(files)
    assert [failure.path for failure in result.failures] == ["00.py", "01.py", "02.py", None]
    assert result.failures[-1].message == "was switched off; 17 files were not reviewed by it"


@pytest.mark.parametrize(
    ("deed", "said"), [("sleep", "took longer than 2 s"), ("segfault", "crashed (SIGSEGV)"), ("raise_base", "no Exc")]
)
def test_one_that_cannot_be_made_ready_costs_its_own_findings(
    review: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, deed: str, said: str
) -> None:
    monkeypatch.setattr(child, "PREPARE_SECONDS", 2.0)
    result = review(do("print_much"), plugin_configurations={"foreign": {"prepare": deed}})
    assert places(result) == ["a.py", "b.py", "c.py"]
    assert said in result.failures[0].message
    assert {failure.plugin for failure in result.failures} == {"foreign"}


def test_workers_know_nothing_of_the_server(review: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "GOVERNANCE_SECRET_KEY", "REDIS_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")
    (finding,) = [each for each in review(do("look_around")).findings if each.rule == "foreign-look_around"]
    assert finding.message.startswith("/ False ")
    assert "hunter2" not in finding.message
    assert "GOVERNANCE" not in finding.message


def test_workers_do_not_import_django() -> None:
    code = "import reviews.worker, sys; sys.exit(any(name.startswith('django') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], cwd=settings.BASE_DIR, check=True)


def test_several_workers_find_what_one_finds(review: Callable[..., Result]) -> None:
    files = {f"{number:03}.py": "eval(x)\n" * (number % 3) for number in range(400)}
    one, three, none = (review(files=files, jobs=jobs) for jobs in (1, 3, 0))
    assert one.findings == three.findings == none.findings
    assert one.marks == three.marks == none.marks
    assert one.failures == three.failures == []


def test_a_worker_that_has_grown_is_replaced(review: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    started = count_starts(monkeypatch)
    monkeypatch.setattr(pool, "BATCH_FILES", 2)
    files = {f"{number:03}.py": "eval(x)\n" for number in range(12)}
    result = review(do("leak", on="eval"), files=files, memory=200 << 20)
    assert places(result) == sorted(files)
    assert result.failures == []
    assert len(started) > 1


def test_no_worker_is_started_for_nothing(review: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    started = count_starts(monkeypatch)
    assert review(files={}).findings == []
    assert started == []


def test_few_files_need_one_worker_only(review: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    started = count_starts(monkeypatch)
    review(files={f"{number}.py": "eval(x)" for number in range(100)}, jobs=8)
    assert len(started) == 1


def test_a_cancelled_review_ends_at_once_with_what_was_found(review: Callable[..., Result]) -> None:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 3

    result = review(do("sleep_long", plugin="other"), cancelled=cancelled)
    assert result.cancelled
    assert "b.py" not in result.files
    assert result.failures == []


def test_a_review_that_is_done_is_not_cancelled(review: Callable[..., Result]) -> None:
    assert not review(cancelled=lambda: False).cancelled


def test_an_interrupt_leaves_no_worker(review: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    started = count_starts(monkeypatch)

    def cancelled() -> bool:
        if started:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        review(do("sleep"), cancelled=cancelled)
    assert [each.process.returncode for each in started] == [-signal.SIGKILL]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not end children")
def test_workers_end_with_their_parent(folder: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(folder)!r}, {str(settings.BASE_DIR)!r}]
from plugins.contract import RuleSpec, SourceFile
from reviews import engine, pool
class Child(pool.Child):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        print(self.process.pid, flush=True)
pool.Child = Child
rule = RuleSpec("r", plugin="other", configuration={{"do": "sleep_long"}})
engine.run([rule], [SourceFile("a.py", b"x")], plugin_configurations={{}}, jobs=1, search_path=[{str(folder)!r}])
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(500):
        if not is_running(worker):
            break
        subprocess.run(["/bin/sleep", "0.01"], check=True)
    assert not is_running(worker)


def test_workers_that_cannot_start_are_told(review: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_ROOT", Path("/nowhere"))
    # Workers look there as well, and `make test` names this project in it.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(PoolError, match="No module named 'reviews'"):
        review()


def test_a_partial_failure_is_told_beside_what_was_found(review: Callable[..., Result]) -> None:
    result = review(do("fail_partly"))
    assert places(result, "foreign-fail_partly") == ["b.py"]
    assert [tuple(failure) for failure in result.failures] == [
        ("foreign", "foreign-fail_partly", "b.py", "the second half is missing")
    ]


def test_programs_that_print_do_not_disturb(review: Callable[..., Result], capfd: pytest.CaptureFixture[str]) -> None:
    review(do("print_much", on="eval"))
    assert capfd.readouterr() == ("", "")


def test_the_pool_survives_a_hostile_tree(tmp_path: Path) -> None:
    (tmp_path / "line.py").write_bytes(b"eval(" + b"x" * 999_000)
    with open(tmp_path / "sparse.py", "wb") as sparse:
        sparse.truncate(100 << 20)
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    with open(os.fsencode(tmp_path) + b"/caf\xe9\n.py", "wb") as odd:
        odd.write(b"eval(\xff\xfe\0")
    (tmp_path / "bad\nname.py").write_bytes(b"\xff\xffeval(x)\n" * 3)
    deep = tmp_path / "d"
    for _ in range(150):
        deep /= "d"
    deep.mkdir(parents=True)
    (deep / "a.py").write_text("eval(x)")
    result = run([EVAL], discover(tmp_path), plugin_configurations={}, jobs=1)
    assert sorted(set(places(result))) == sorted(["line.py", "bad\nname.py", "d/" * 151 + "a.py"])
    assert result.files_skipped == {"symlink": 2, "special": 1, "too_large": 1, "binary": 1}
    assert result.failures == []


@pytest.mark.slow
def test_many_tiny_files_do_not_make_the_parent_grow(tmp_path: Path) -> None:
    for number in range(20_000):
        if number % 200 == 0:
            folder = tmp_path / str(number)
            folder.mkdir()
        (folder / f"{number}.py").write_text("eval(x)\n" if number % 1000 == 0 else "x = 1\n")
    done: list[tuple[int, int]] = []
    result = run([EVAL], discover(tmp_path), plugin_configurations={}, jobs=2, progress=lambda *told: done.append(told))
    assert len(places(result)) == 20
    assert result.files_analyzed == 20_000
    assert (done[0], done[-1]) == ((0, 20_000), (20_000, 20_000))


def count_starts(monkeypatch: pytest.MonkeyPatch) -> list[child.Child]:
    started: list[child.Child] = []

    class Counted(child.Child):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(pool, "Child", Counted)
    return started


def running_with(argument: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if argument.encode() in arguments:
                found.append(int(entry.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
