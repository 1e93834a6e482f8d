"""Does a program of somebody else stay within its limits, and is nothing of it left?"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plugins import processes
from plugins.processes import MEGABYTE, Limits, Outcome, ToolError, detect_version, find_executable, run
from tests.tools import is_running, wait_for_text, write_tool

QUICK = Limits(seconds=20, memory=512 * MEGABYTE, output=MEGABYTE)


def start(tmp_path: Path, body: str, *arguments: str, **limits: float) -> Outcome:
    """Run a tool that does `body`."""
    folder = tmp_path / "run"
    folder.mkdir()
    tool = write_tool(tmp_path / "bin", body)
    wanted = {"seconds": QUICK.seconds, "memory": QUICK.memory, "output": QUICK.output, **limits}
    return run([tool, *arguments], folder=folder, limits=Limits(**wanted))


def test_program_runs_in_an_empty_folder_with_an_environment_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "hidden")
    monkeypatch.setenv("PATH", f"relative:.::{os.environ['PATH']}")
    body = "print(os.listdir(), os.getcwd(), sorted(os.environ), repr(sys.stdin.read()), os.environ['PATH'])"
    outcome = start(tmp_path, body)
    said = outcome.stdout.read_text()
    assert outcome.exit_code == 0
    # LC_CTYPE is Python's own doing.
    known = ("'HOME', 'LANG', 'LC_CTYPE', 'PATH', 'TMPDIR'", "'HOME', 'LANG', 'PATH', 'TMPDIR'")
    assert said.startswith(tuple(f"[] {tmp_path}/run/empty [{names}] ''" for names in known))
    assert "relative" not in said
    assert ":." not in said


def test_arguments_arrive_as_they_are(tmp_path):
    odd = ["-x.py", "a b", "line\nend", "caf\udce9", "$HOME; exit 3", ""]
    outcome = start(tmp_path, "os.write(1, repr(sys.argv[1:]).encode())", *odd)
    assert outcome.stdout.read_text() == repr(odd)


def test_exit_code_and_complaint_are_told(tmp_path):
    outcome = start(tmp_path, "sys.stderr.write('x' * 9000 + '\\n bad  option\\n'); sys.exit(7)")
    assert (outcome.exit_code, outcome.ended, outcome.left) == (7, "", 0)
    assert outcome.describe() == "exited with code 7"
    assert outcome.tail().endswith("x bad option")
    assert len(outcome.tail()) == processes.TAIL


def test_program_that_hangs_is_ended(tmp_path):
    outcome = start(
        tmp_path, "open(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)", str(tmp_path / "pid"), seconds=2
    )
    assert outcome.exit_code is None
    assert outcome.describe() == "was ended after 2 s"
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_program_that_takes_all_memory_is_refused_it(tmp_path):
    outcome = start(tmp_path, "held = []\nwhile True:\n    held.append(bytearray(1 << 24))", memory=200 * MEGABYTE)
    assert outcome.exit_code == 1
    assert "MemoryError" in outcome.tail()


def test_program_that_writes_without_end_is_ended(tmp_path):
    # Started by Python, a program written in Python ignores the signal; one that is not does not.
    body = "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nwhile True:\n    os.write(1, bytes(65536))"
    outcome = start(tmp_path, body, output=MEGABYTE)
    assert outcome.describe() == "was ended because it wrote a file of more than 1 MB"
    assert outcome.stdout.stat().st_size == MEGABYTE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans are inherited on Linux only")
@pytest.mark.parametrize("flight", ["", "os.setsid()\n    if os.fork():\n        os._exit(0)"])
def test_children_are_ended_wherever_they_hide(tmp_path, flight):
    body = f"""
reading, writing = os.pipe()
if os.fork() == 0:
    {flight}
    os.write(writing, str(os.getpid()).encode())
    time.sleep(600)
print(os.read(reading, 20).decode())
"""
    outcome = start(tmp_path, body)
    assert (outcome.exit_code, outcome.left) == (0, 1)
    assert not is_running(int(outcome.stdout.read_text()))


def test_everything_ends_with_the_process_that_wanted_it(tmp_path):
    """A worker that takes too long is killed by the engine; what it started must not go on."""
    (tmp_path / "run").mkdir()
    tool = write_tool(tmp_path / "bin", "print(os.getpid(), flush=True)\ntime.sleep(600)")
    code = (
        "import sys; from pathlib import Path; from plugins.processes import Limits, run\n"
        "run([sys.argv[1]], folder=Path(sys.argv[2]), limits=Limits(seconds=300))"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, tool, tmp_path / "run"], cwd=Path(__file__).parents[1])
    pid = int(wait_for_text(tmp_path / "run" / "stdout"))
    assert is_running(pid)
    watched = os.pidfd_open(pid)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    # A pidfd becomes readable when its process is gone.
    assert select.select([watched], [], [], 20)[0]
    os.close(watched)


def test_program_that_cannot_be_started_says_so(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "broken").write_text("#!/nowhere/python\n")
    (tmp_path / "broken").chmod(0o755)
    outcome = run([tmp_path / "broken"], folder=tmp_path / "run", limits=QUICK)
    assert outcome.exit_code == 127
    assert "cannot be started" in outcome.tail()


def test_command_line_that_is_too_long_is_an_error_that_says_so(tmp_path):
    (tmp_path / "run").mkdir()
    tool = write_tool(tmp_path / "bin", "")
    with pytest.raises(ToolError, match="No process can be started"):
        run([tool, "x" * 10_000_000], folder=tmp_path / "run", limits=QUICK)


def test_programs_are_found_beside_python_first(tmp_path, monkeypatch):
    write_tool(tmp_path, "", name="ruff")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_executable("ruff") == Path(sys.executable).parent / "ruff"


def test_programs_are_not_found_in_the_current_folder(tmp_path, monkeypatch):
    write_tool(tmp_path / "tree", "", name="the-tool")
    monkeypatch.chdir(tmp_path / "tree")
    for path in (".", "", ".:", str(tmp_path / "tree"), f"{tmp_path}/tree/../tree", "../tree"):
        monkeypatch.setenv("PATH", path)
        assert find_executable("the-tool") is None
    write_tool(tmp_path / "bin", "", name="the-tool")
    monkeypatch.setenv("PATH", f"{tmp_path}/tree:{tmp_path}/bin")
    assert find_executable("the-tool") == tmp_path / "bin" / "the-tool"


def test_programs_are_found_where_folders_are_gone_or_lead_in_a_circle(tmp_path, monkeypatch):
    write_tool(tmp_path / "bin", "", name="the-tool")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "gone").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/circle:{tmp_path}/missing:{tmp_path}/bin")
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert find_executable("the-tool") == tmp_path / "bin" / "the-tool"


@pytest.mark.parametrize("name", ["", "../bin/ruff", "/bin/sh", "-c", "a b", "bin/ruff"])
def test_only_plain_names_are_looked_for(name):
    assert find_executable(name) is None


def test_files_that_cannot_be_run_are_not_found(tmp_path, monkeypatch):
    (tmp_path / "the-tool").write_text("text")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_executable("the-tool") is None


def test_version_is_what_the_program_says(tmp_path):
    assert detect_version(write_tool(tmp_path, "")) == "1.2.3"
    talking = write_tool(tmp_path / "other", "print('Tool\\n version v2.10.0-rc.1 (abc 2026)')")
    assert detect_version(talking, ("version",)) == "2.10.0-rc.1"


def test_version_is_asked_again_when_the_program_changes(tmp_path):
    tool = write_tool(tmp_path, "print('tool 1.0')")
    assert detect_version(tool, ("version",)) == "1.0"
    write_tool(tmp_path, "print('tool 22.0.1')")
    assert detect_version(tool, ("version",)) == "22.0.1"


@pytest.mark.parametrize("body", ["print('no idea')", "print('tool 1.0'); sys.exit(3)", "os.kill(os.getpid(), 9)"])
def test_program_that_tells_no_version_has_none(tmp_path, body):
    assert detect_version(write_tool(tmp_path, body), ("version",)) is None
    assert detect_version(tmp_path / "missing") is None
