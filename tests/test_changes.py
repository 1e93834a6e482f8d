"""What changed in a working tree, whatever its files are called and whatever its repository tries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reviews.changes import Changes, ChangesError, find_changes


class Repository:
    """A git repository with one commit on `main`, on a branch `work`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        names = {
            f"GIT_{who}_{what}": "somebody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        run = subprocess.run(
            ["git", *arguments], cwd=self.root, env=os.environ | names, capture_output=True, text=True, check=True
        )
        return run.stdout

    def write(self, name: str | bytes, text: str) -> None:
        path = os.path.join(os.fsencode(self.root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--no-verify", "-m", "commit")

    def changes(self, ref: str = "main", at: str = ".") -> Changes:
        return find_changes((self.root / at).resolve(), ref)


TEN = "".join(f"line {number}\n" for number in range(1, 11))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    made = Repository(tmp_path / "repository")
    made.write("a.py", TEN)
    made.write("src/b.py", TEN)
    made.commit()
    made.git("checkout", "-q", "-b", "work")
    return made


def test_nothing_changed(repository: Repository) -> None:
    assert repository.changes().files == {}
    assert repository.changes().base == repository.git("rev-parse", "HEAD").strip()


def test_committed_staged_and_unstaged_lines_are_changed(repository: Repository) -> None:
    repository.write("a.py", TEN.replace("line 2\n", "two\n"))
    repository.commit()
    repository.write("a.py", TEN.replace("line 2\n", "two\n") + "more\nand more\n")
    repository.git("add", "a.py")
    repository.write("src/b.py", "first\n" + TEN)
    assert repository.changes().files == {"a.py": [(2, 2), (11, 12)], "src/b.py": [(1, 1)]}


def test_what_changed_on_the_other_branch_since_is_not_ours(repository: Repository) -> None:
    repository.write("a.py", TEN + "ours\n")
    repository.commit()
    repository.git("checkout", "-q", "main")
    repository.write("src/b.py", "theirs\n")
    repository.commit()
    repository.git("checkout", "-q", "work")
    assert repository.changes().files == {"a.py": [(11, 11)]}


def test_a_finding_touches_what_changed_in_any_of_its_lines(repository: Repository) -> None:
    repository.write("a.py", TEN.replace("line 5\n", "five\n"))
    changes = repository.changes()
    assert changes.touch("a.py", 5, 5)
    assert changes.touch("a.py", 1, 9)
    assert not changes.touch("a.py", 1, 4)
    assert not changes.touch("a.py", 6, 6)
    assert not changes.touch("src/b.py", 5, 5)


def test_lines_taken_away_touch_what_spans_the_gap(repository: Repository) -> None:
    repository.write("a.py", TEN.replace("line 5\nline 6\n", ""))
    changes = repository.changes()
    assert changes.touch("a.py", 4, 5)
    assert not changes.touch("a.py", 4, 4)
    assert not changes.touch("a.py", 5, 5)
    repository.write("a.py", TEN.replace("line 1\n", ""))
    assert not repository.changes().touch("a.py", 1, 3)


def test_new_files_have_changed_as_a_whole_tracked_or_not(repository: Repository) -> None:
    repository.write("new.py", "x\ny\n")
    repository.git("add", "new.py")
    repository.write("src/untracked.py", "x\n")
    repository.write("ignored.py", "x\n")
    repository.write(".gitignore", "ignored.py\n")
    changes = repository.changes()
    assert changes.files == {"new.py": [(1, 2)], "src/untracked.py": None, ".gitignore": None}
    assert changes.touch("src/untracked.py", 400, 400)


def test_an_untracked_repository_inside_has_changed_as_a_whole(repository: Repository) -> None:
    inner = Repository(repository.root / "inner")
    inner.write("c.py", "x\n")
    inner.commit()
    changes = repository.changes()
    assert changes.include("inner/c.py")
    assert changes.touch("inner/c.py", 1, 1)
    assert not changes.include("inner.py")


def test_of_a_renamed_file_only_the_edited_lines_changed(repository: Repository) -> None:
    repository.git("mv", "a.py", "c.py")
    assert repository.changes().files == {}
    repository.write("c.py", TEN + "more\n")
    assert repository.changes().files == {"c.py": [(11, 11)]}


def test_a_deleted_file_has_no_lines(repository: Repository) -> None:
    repository.git("rm", "-q", "a.py")
    assert repository.changes().files == {}


@pytest.mark.parametrize(
    "name",
    [
        "with space.py",
        "ümläut.py",
        'quo"te.py',
        "new\nline.py",
        "tab\t.py",
        "-dash.py",
        "b/b/nested.py",
        "trailing .py ",
        ":(top)x",
    ],
)
def test_any_name_of_a_file_is_understood(repository: Repository, name: str) -> None:
    repository.write(name, TEN)
    repository.commit()
    repository.git("branch", "-f", "main")
    repository.write(name, TEN + "more\n")
    assert repository.changes().files == {name: [(11, 11)]}


def test_a_name_that_is_no_text_is_shown_as_everywhere(repository: Repository) -> None:
    repository.write(b"caf\xe9.py", "x\n")
    assert repository.changes().files == {"caf\\xe9.py": None}
    repository.git("add", "-A")
    assert repository.changes().files == {"caf\\xe9.py": [(1, 1)]}


def test_lines_that_look_like_a_diff_are_lines(repository: Repository) -> None:
    repository.write(
        "a.py", "++ b/other.py\n@@ -1 +1,99 @@\ndiff --git a/x b/x\n" + TEN.replace("line 3\n", "-- a/x\n")
    )
    assert repository.changes().files == {"a.py": [(1, 3), (6, 6)]}


def test_a_file_without_a_last_line_end_is_understood(repository: Repository) -> None:
    repository.write("a.py", TEN.removesuffix("\n"))
    assert repository.changes().files == {"a.py": [(10, 10)]}


def test_a_folder_and_a_file_of_the_repository_may_be_asked_about(repository: Repository) -> None:
    repository.write("src/b.py", TEN + "more\n")
    repository.write("src/new.py", "x\n")
    repository.write("a.py", "x\n")
    assert repository.changes(at="src").files == {"b.py": [(11, 11)], "new.py": None}
    assert repository.changes(at="src/b.py").files == {"b.py": [(11, 11)]}


# ---- what goes wrong


@pytest.mark.parametrize("ref", ["", "--output=/tmp/x", "-p", "no-such-branch", "main:a.py", "HEAD^{tree}"])
def test_what_is_no_commit_is_refused(repository: Repository, ref: str) -> None:
    with pytest.raises(ChangesError, match="commit"):
        repository.changes(ref)


def test_a_folder_outside_of_any_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChangesError, match="no git repository"):
        find_changes(tmp_path, "main")


def test_histories_without_a_common_commit_are_refused(repository: Repository) -> None:
    repository.git("checkout", "-q", "--orphan", "lonely")
    repository.write("a.py", "other\n")
    repository.commit()
    with pytest.raises(ChangesError, match="in common"):
        repository.changes()


def test_a_repository_of_somebody_else_is_refused_with_advice(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in (repository.root, repository.root / ".git"):
        os.chown(path, 12345, 12345)
    monkeypatch.delenv("SUDO_UID", raising=False)
    with pytest.raises(ChangesError, match="safe.directory"):
        repository.changes()


def test_without_git_that_is_said(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ChangesError, match="git is needed"):
        repository.changes()


# ---- hostile repositories


@pytest.fixture
def trap(repository: Repository, tmp_path: Path) -> Path:
    """A program that the repository would like to be run; it leaves a file behind."""
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    program.chmod(0o755)
    yield program
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "setting",
    [
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "diff.external",
        "diff.trap.command",
        "diff.trap.textconv",
        "filter.trap.clean",
        "filter.trap.process",
        "filter.trap.smudge",
        "filter.name=with.equals.clean",
        "credential.helper",
    ],
)
def test_no_program_that_the_repository_names_is_run(repository: Repository, trap: Path, setting: str) -> None:
    driver = "name=with.equals" if "equals" in setting else "trap"
    repository.write(".gitattributes", f"*.py diff=trap filter={driver}\n")
    repository.git("config", setting, str(trap))
    repository.git("config", "filter.trap.required", "true")
    repository.write("a.py", TEN + "more\n")
    assert repository.changes().files == {"a.py": [(11, 11)], ".gitattributes": None}


def test_no_program_of_an_included_configuration_or_a_hook_is_run(repository: Repository, trap: Path) -> None:
    (repository.root / ".git" / "more").write_text(f'[filter "trap"]\n\tclean = {trap}\n')
    repository.git("config", "include.path", "more")
    hooks = repository.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "reference-transaction", "post-checkout"):
        (hooks / hook).symlink_to(trap)
    repository.write(".gitattributes", "*.py filter=trap\n")
    repository.write("a.py", TEN + "more\n")
    os.utime(repository.root / "src/b.py", (1, 1))
    assert repository.changes().files["a.py"] == [(11, 11)]


def test_attributes_and_settings_hide_no_change(repository: Repository) -> None:
    repository.write(".gitattributes", "*.py -diff binary -text\n")
    for name, value in {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.relative": "true",
        "diff.context": "9",
        "diff.interHunkContext": "9",
        "diff.renames": "false",
        "color.ui": "always",
        "core.quotePath": "false",
        "diff.submodule": "log",
    }.items():
        repository.git("config", name, value)
    repository.write("a.py", TEN.replace("line 2\n", "two\n").replace("line 6\n", "six\n"))
    repository.write("src/b.py", "\n" + TEN)
    assert repository.changes().files == {"a.py": [(2, 2), (6, 6)], "src/b.py": [(1, 1)], ".gitattributes": None}
    assert repository.changes(at="src").files == {"b.py": [(1, 1)]}


def test_a_repository_whose_files_lie_elsewhere_is_refused(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    repository.git("config", "core.worktree", str(tmp_path / "elsewhere"))
    with pytest.raises(ChangesError):
        repository.changes()


def test_variables_of_a_calling_git_are_not_obeyed(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.write("a.py", TEN + "more\n")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "/nowhere/diff")
    assert repository.changes().files == {"a.py": [(11, 11)]}
