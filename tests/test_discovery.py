"""Which files a review reads, on real folders."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.contract import SourceFile
from reviews.discovery import Entry, RootError, Skip, discover, read


def make(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def paths(root: Path, **options: object) -> list[str]:
    return [entry.path for entry in discover(root, **options)]


def test_all_regular_files_are_found_in_an_order_that_depends_on_names_alone(tmp_path: Path) -> None:
    make(tmp_path, {"b/z.py": "", "b.py": "", "a/c/d.py": "", "a/b.py": "", "Z.py": ""})
    assert paths(tmp_path) == ["Z.py", "b.py", "a/b.py", "a/c/d.py", "b/z.py"]


def test_gitignore_hides_files_and_folders_and_is_itself_found(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.log\nbuild/\n", "a.py": "", "x.log": "", "build/a.py": "", "src/build/b.py": ""})
    found = discover(tmp_path)
    assert [entry.path for entry in found] == [".gitignore", "a.py"]
    assert found.skipped == {"ignored": 3}  # a file, and two folders that were not entered


def test_a_line_takes_back_what_an_earlier_one_ignored(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.py\n!keep.py\n", "a.py": "", "keep.py": "", "sub/keep.py": ""})
    assert paths(tmp_path) == [".gitignore", "keep.py", "sub/keep.py"]


def test_a_nested_gitignore_is_stronger_and_holds_only_below_its_folder(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.txt\n", "sub/.gitignore": "!*.txt\n/top.py\n", "a.txt": "", "top.py": ""})
    make(tmp_path / "sub", {"b.txt": "", "top.py": "", "deep/top.py": "", "deep/c.txt": ""})
    assert paths(tmp_path) == [
        ".gitignore", "top.py", "sub/.gitignore", "sub/b.txt", "sub/deep/c.txt", "sub/deep/top.py",
    ]  # fmt: skip


def test_nothing_inside_an_ignored_folder_can_be_taken_back(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "out/\n!out/keep.py\n", "out/keep.py": "", "out/.gitignore": "!keep.py\n"})
    assert paths(tmp_path) == [".gitignore"]


def test_a_gitignore_above_the_root_does_not_hide_the_root(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*\n", "inside/a.py": ""})
    assert paths(tmp_path / "inside") == ["a.py"]


def test_a_gitignore_with_windows_line_ends_and_a_byte_order_mark_is_understood(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": b"\xef\xbb\xbf*.log\r\nvoil\xc3\xa0/\r\n", "a.log": "", "voilà/a.py": "", "b.py": ""})
    assert paths(tmp_path) == [".gitignore", "b.py"]


def test_a_gitignore_that_is_a_link_is_not_obeyed(tmp_path: Path) -> None:
    make(tmp_path, {"elsewhere": "*.py\n", "root/a.py": ""})
    (tmp_path / "root/.gitignore").symlink_to(tmp_path / "elsewhere")
    assert paths(tmp_path / "root") == ["a.py"]


@pytest.mark.parametrize("name", [".git", ".hg", ".svn"])
def test_version_control_folders_are_never_entered(tmp_path: Path, name: str) -> None:
    make(tmp_path, {f"{name}/config.py": "", f"sub/{name}/hook.py": "", "a.py": ""})
    assert paths(tmp_path, exclude=[f"!{name}/"]) == ["a.py"]


@pytest.mark.parametrize("name", ["node_modules", "__pycache__", ".venv", "venv"])
def test_installed_and_generated_folders_are_skipped_unless_taken_back_or_named(tmp_path: Path, name: str) -> None:
    make(tmp_path, {f"{name}/a.py": "", "b.py": ""})
    assert paths(tmp_path) == ["b.py"]
    assert paths(tmp_path, exclude=[f"!{name}/"]) == ["b.py", f"{name}/a.py"]
    assert paths(tmp_path / name) == ["a.py"]


def test_a_file_named_like_a_skipped_folder_is_found(tmp_path: Path) -> None:
    make(tmp_path, {"venv": "", "node_modules": ""})
    assert paths(tmp_path) == ["node_modules", "venv"]


def test_exclude_lines_are_stronger_than_gitignore_files(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "!a.min.js\nsecret.py\n", "a.min.js": "", "secret.py": "", "docs/x.py": ""})
    assert paths(tmp_path, exclude=["*.min.js", "!secret.py", "/docs", ".gitignore"]) == ["secret.py"]


def test_links_are_not_followed_and_a_circle_ends(tmp_path: Path) -> None:
    make(tmp_path, {"root/a.py": "", "outside.py": "", "other/b.py": ""})
    (tmp_path / "root/circle").symlink_to(tmp_path / "root")
    (tmp_path / "root/file.py").symlink_to(tmp_path / "outside.py")
    (tmp_path / "root/dangling.py").symlink_to(tmp_path / "nowhere")
    found = discover(tmp_path / "root")
    assert [entry.path for entry in found] == ["a.py"]
    assert found.skipped == {"symlink": 3}


def test_a_root_that_is_a_link_is_reviewed(tmp_path: Path) -> None:
    make(tmp_path, {"real/a.py": "x"})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file.py").symlink_to(tmp_path / "real/a.py")
    assert paths(tmp_path / "link") == ["a.py"]
    (entry,) = discover(tmp_path / "file.py")
    assert read(entry) == SourceFile("a.py", b"x")


def test_pipes_and_sockets_are_counted_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, {"a.py": ""})
    os.mkfifo(tmp_path / "pipe.py")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.py")
        found = discover(tmp_path)
        assert [entry.path for entry in found] == ["a.py"]
    assert found.skipped == {"special": 2}


@pytest.mark.parametrize(
    ("become", "reason"),
    [("pipe", Skip.SPECIAL), ("link", Skip.SYMLINK), ("folder", Skip.SPECIAL), ("gone", Skip.UNREADABLE)],
)
def test_a_file_that_became_something_else_since_it_was_found_is_skipped(
    tmp_path: Path, become: str, reason: Skip
) -> None:
    (entry,) = discover(make(tmp_path, {"a.py": "text"}))
    path = tmp_path / "a.py"
    path.unlink()
    if become == "pipe":
        os.mkfifo(path)  # opening it for reading would wait for a writer
    elif become == "link":
        path.symlink_to("/etc/hostname")
    elif become == "folder":
        path.mkdir()
    assert read(entry) is reason


def test_a_single_file_is_a_root_even_if_it_would_be_ignored(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*\n", "a.py": "x = 1\n"})
    (entry,) = discover(tmp_path / "a.py")
    assert read(entry) == SourceFile("a.py", b"x = 1\n")


def test_what_is_not_there_or_no_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(RootError, match="missing cannot be reviewed: No such file or directory"):
        discover(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RootError, match="neither a folder nor a regular file"):
        discover(tmp_path / "pipe")
    with pytest.raises(RootError, match=r"bad\\xff"):
        discover(tmp_path / os.fsdecode(b"bad\xff"))


def test_binary_files_are_known_by_a_zero_byte_near_the_start(tmp_path: Path) -> None:
    make(tmp_path, {"early": b"a" * 8191 + b"\0", "late": b"a" * 8192 + b"\0", "empty": b""})
    early, empty, late = map(read, discover(tmp_path))
    assert early is Skip.BINARY
    assert isinstance(late, SourceFile)
    assert empty == SourceFile("empty", b"")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_wide_text_with_a_byte_order_mark_becomes_utf8(tmp_path: Path, encoding: str) -> None:
    text = "\ufeffpassword = 'é😀'\n" if encoding[-2:] in ("le", "be") else "password = 'é😀'\n"
    (entry,) = discover(make(tmp_path, {"a.ps1": text.encode(encoding)}))
    assert read(entry) == SourceFile("a.ps1", "password = 'é😀'\n".encode())


def test_a_broken_wide_text_is_binary(tmp_path: Path) -> None:
    (entry,) = discover(make(tmp_path, {"a": b"\xff\xfea\0b"}))
    assert read(entry) is Skip.BINARY


def test_a_file_over_the_limit_is_too_large(tmp_path: Path) -> None:
    make(tmp_path, {"fits": b"a" * 100, "over": b"a" * 101})
    fits, over = (read(entry, max_bytes=100) for entry in discover(tmp_path, max_bytes=100))
    assert isinstance(fits, SourceFile)
    assert over is Skip.TOO_LARGE


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs a file that says it is empty and is not")
def test_a_file_that_hides_its_size_is_read_up_to_the_limit() -> None:
    entry = Entry("environ", b"/proc/self/status")
    assert os.stat(entry.location).st_size == 0
    assert read(entry, max_bytes=10) is Skip.TOO_LARGE
    source = read(entry)
    assert isinstance(source, SourceFile)
    assert source.content.startswith(b"Name:")


def test_names_that_are_no_text_are_shown_escaped_and_can_be_read(tmp_path: Path) -> None:
    location = os.fsencode(tmp_path) + b"/caf\xe9\n.py"
    with open(location, "wb") as file:
        file.write(b"content")
    (entry,) = discover(tmp_path)
    assert entry.path == "caf\\xe9\n.py"
    entry.path.encode()  # it can be stored
    assert read(entry) == SourceFile(entry.path, b"content")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_unreadable_files_and_folders_are_counted(tmp_path: Path) -> None:
    make(tmp_path, {"shut/a.py": "", "b.py": ""})
    (tmp_path / "shut").chmod(0)
    (tmp_path / "b.py").chmod(0)
    found = discover(tmp_path)
    (entry,) = found
    assert found.skipped == {"unreadable": 1}
    assert read(entry) is Skip.UNREADABLE
    (tmp_path / "shut").chmod(0o700)


def test_a_folder_that_vanishes_during_the_walk_is_counted(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": "", "gone/b.py": ""})
    found = discover(tmp_path)
    walk = iter(found)
    assert next(walk).path == "a.py"
    shutil.rmtree(tmp_path / "gone")
    assert list(walk) == []
    assert found.skipped == {"unreadable": 1}


def test_very_deep_folders_are_walked(tmp_path: Path) -> None:
    # Deeper than nested calls could go. Neither can Python's own cleaning, so this is taken away here.
    depth = sys.getrecursionlimit() + 100
    path = "d/" * depth + "a.py"
    (tmp_path / "stays").write_text("")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir("d", dir_fd=folder)
            deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = deeper
        os.close(os.open("a.py", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        assert paths(tmp_path) == ["stays", path]
    finally:
        os.close(folder)
        os.unlink(tmp_path / path)
        os.removedirs(os.path.dirname(tmp_path / path))


def test_a_hostile_gitignore_costs_little(tmp_path: Path) -> None:
    lines = ["a*" * 400 + "b", "[z-a]", "[", "\\", "**/" * 200 + "x", *(f"*{number}*x*y*z*" for number in range(300))]
    make(tmp_path, {".gitignore": "\n".join(lines), **{"a" * 200 + str(number): "" for number in range(50)}})
    assert len(paths(tmp_path)) == 51


def test_only_the_wanted_paths_are_looked_at(tmp_path: Path) -> None:
    make(tmp_path, {".gitignore": "*.log\n", "a.py": "", "b.py": "", "src/a.py": "", "src/b/c.py": "", "x.log": ""})
    make(tmp_path, {"other/a.py": "", "x.py/b.py": "", "y.log": ""})
    (tmp_path / "link.py").symlink_to("a.py")
    (tmp_path / "other.py").symlink_to("a.py")
    os.mkfifo(tmp_path / "pipe.py")
    wanted = ["a.py", "src/b/c.py", "x.log", "gone/d.py", "link.py", "x.py"]
    found = discover(tmp_path, only=wanted)
    assert [entry.path for entry in found] == ["a.py", "src/b/c.py"]
    assert found.skipped == {"ignored": 1, "symlink": 1}
    assert paths(tmp_path, only=[]) == []
    assert paths(tmp_path / "a.py", only=["a.py"]) == ["a.py"]
    assert paths(tmp_path / "a.py", only=["b.py"]) == []


def test_a_link_to_itself_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    found = discover(tmp_path)
    assert list(found) == []
    assert found.skipped == {"symlink": 1}


def test_a_device_is_counted_and_never_opened() -> None:
    found = discover(Path("/dev"), only=["null", "zero", "random"])
    assert list(found) == []
    assert found.skipped == {"special": 3}


def test_a_huge_sparse_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(100 << 20)
    (entry,) = discover(tmp_path)
    assert read(entry) is Skip.TOO_LARGE


@pytest.mark.skipif(shutil.which("git") is None, reason="compares with git")
@pytest.mark.parametrize("seed", range(12))
def test_git_ignores_the_same_files(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = ["a", "b", "foo", "bar.py", "x.log", "build", "é", "sp ace"]
    lines = [
        "*.log", "!x.log", "build/", "/build", "!build", "foo", "foo/", "foo/**", "**/foo", "a/**/b", "a/b", "/a/*",
        "!/a/b", "*", "!*/", "!*.py", "*/", "**", "b/*", "!b/foo", "[ab]", "[!ab]", "?", "foo/bar.py", "!foo/bar.py",
        "é", "sp ace", "# comment", "\\#a", "a/", "!a/", "**/a/**", "*/b", "!**/b", "x.*", "bar.??", "",
    ]  # fmt: skip
    folders = [tmp_path]
    for _ in range(14):
        folder = chance.choice(folders) / chance.choice(names)
        if not folder.exists():
            folder.mkdir()
            folders.append(folder)
    for folder in folders:
        for name in chance.sample(names, 4):
            if not (folder / name).exists():
                (folder / name).write_text("")
        if folder == tmp_path or chance.random() < 0.4:
            (folder / ".gitignore").write_text("\n".join(chance.sample(lines, chance.randint(1, 5))) + "\n")
    git = ["git", "-C", str(tmp_path), "-c", "core.excludesFile="]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"], check=True, capture_output=True
    )
    assert sorted(paths(tmp_path)) == sorted(listed.stdout.decode().split("\0")[:-1])
