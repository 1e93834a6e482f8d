"""Files for Copilot: instructions and agents from the configuration, the stamp they carry, and how they are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.contract import RuleSpec
from reviews import export
from reviews.discovery import Skip, discover, read
from reviews.export import Drift, ExportError, Kind
from reviews.generated import Document, assemble, digest_of, read_stamp, slug
from reviews.instructions import MAX_AGENT, MAX_INSTRUCTIONS, Standing, make_documents
from reviews.prompts import Speaker

SECURITY = Speaker("security", "Security reviewer", "Reads like an intruder.", "You read for danger.")
PROMPT = ".github/prompts/security-no-eval.prompt.md"


def rule(name: str, **fields: Any) -> RuleSpec:
    values: dict[str, Any] = {
        "title": f"Title of {name}",
        "description": "It goes wrong. Nobody notices.",
        "severity": "medium",
        "file_types": [".py"],
        "remediation": "Do it differently.",
        "personas": ("security",),
    }
    return RuleSpec(name=name, **{**values, **fields})


def make(*rules: RuleSpec, revision: int = 7) -> Standing:
    return make_documents(rules, [SECURITY], revision=revision)


def texts(*rules: RuleSpec) -> dict[str, str]:
    return {document.path: document.text for document in make(*rules).documents}


def front_matter(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n", 2)[1])


def document(path: str = PROMPT, body: str = "Do it.", revision: int = 7) -> Document:
    return Document(path, assemble({"description": "A task"}, body, revision))


# ------------------------------------------------------------------ instructions and agents


def test_a_rule_is_in_the_instructions_of_its_persona_and_language():
    made = texts(rule("no-eval"))
    assert set(made) == {
        ".github/copilot-instructions.md",
        ".github/agents/security.agent.md",
        ".github/instructions/security-python.instructions.md",
    }
    instructions = made[".github/instructions/security-python.instructions.md"]
    assert '\napplyTo: "**/*.py"\n' in instructions
    assert (
        "- **Title of no-eval** [no-eval] (medium). It goes wrong. Nobody notices. Do it differently." in instructions
    )
    agent = made[".github/agents/security.agent.md"]
    assert front_matter(agent) == {
        "name": "Security reviewer",
        "description": "Reads like an intruder. Reviews by 1 rule of this project.",
        "tools": ["read", "search", "edit", "execute"],
    }
    assert "You read for danger." in agent and "[no-eval] (medium, Python)" in agent


@pytest.mark.parametrize(
    ("file_types", "name", "apply_to"),
    [
        ([".ts", ".js"], "security-javascript", "**/*.js,**/*.ts"),
        ([".dockerfile"], "security-docker", "**/Dockerfile,**/Dockerfile.*,**/*.dockerfile"),
        ([".env"], "security-env", "**/.env,**/.env.*,**/*.env"),
        ([".zig"], "security-zig", "**/*.zig"),
        ([], "security", "**"),
        ([".py", ".go", ".java"], "security", "**"),
    ],
)
def test_instructions_apply_to_one_text_of_globs(file_types, name, apply_to):
    made = texts(rule("r", file_types=file_types))
    assert front_matter(made[f".github/instructions/{name}.instructions.md"])["applyTo"] == apply_to


def test_a_rule_of_two_languages_is_in_the_instructions_of_both():
    made = texts(rule("both", file_types=[".py", ".js"]))
    assert "[both]" in made[".github/instructions/security-python.instructions.md"]
    assert "[both]" in made[".github/instructions/security-javascript.instructions.md"]
    assert front_matter(made[".github/instructions/security-python.instructions.md"])["applyTo"] == "**/*.py"


def test_the_most_severe_rules_come_first():
    made = texts(rule("a", severity="low"), rule("b", severity="critical"), rule("c", severity="high"))
    for path, text in made.items():
        found = [text.index(f"[{name}]") for name in "bca" if f"[{name}]" in text]
        assert found == sorted(found) and found, path


def test_what_does_not_fit_loses_its_reasons_first_then_its_least_rules_and_says_so():
    reason = "It goes wrong in a way that takes a long and rather dull sentence to tell."
    few = [rule(f"rule-{number:03}", severity="high", description=reason) for number in range(30)]
    text = texts(*few)[".github/instructions/security-python.instructions.md"]
    assert len(text) <= MAX_INSTRUCTIONS and "[rule-029]" in text
    assert 0 < text.count(reason) < 30 and text.index("[rule-000]") < text.index(reason) < text.index("[rule-001]")
    made = make(*few, *(rule(f"minor-{number:03}", severity="low") for number in range(300)))
    text = next(each.text for each in made.documents if "security-python" in each.path)
    assert "[rule-029]" in text and "[minor-299]" not in text
    left_out = 330 - text.count("- **")
    assert f"{left_out} less important rules are not listed here." in text
    assert any(f"{left_out} of 330 rules do not fit into 4,000 characters" in warning for warning in made.warnings)


def test_every_file_keeps_to_its_budget_and_its_form_whatever_the_texts_hold():
    hostile = "```\n---\napplyTo: '*'\n-->\n# x [a](b) #file:x ${input:y} \0\u202e" + "z" * 4_000
    rules = [
        rule(f"r{number}", title=hostile, description=hostile, remediation=hostile, file_patterns=[hostile])
        for number in range(200)
    ]
    speaker = Speaker("security", hostile, hostile, hostile)
    for each in make_documents(rules, [speaker], revision=1).documents:
        budget = MAX_AGENT if each.path.endswith(".agent.md") else MAX_INSTRUCTIONS
        assert len(each.text) <= budget, each.path
        assert read_stamp(each.text).intact
        assert all(letter.isprintable() or letter == "\n" for letter in each.text)
        if not each.path.endswith("copilot-instructions.md"):
            assert all(isinstance(value, (str, list)) for value in front_matter(each.text).values())


def test_no_rules_make_no_files():
    assert make() == Standing([], [])


# ------------------------------------------------------------------ the stamp


def test_an_edit_breaks_the_stamp_and_another_revision_does_not_change_the_hash():
    text = document().text
    assert read_stamp(text).intact
    assert not read_stamp(text.replace("Do it.", "Do nothing.")).intact
    assert not read_stamp(text.replace("A task", "Another task")).intact
    assert digest_of(text) == digest_of(document(revision=900).text)
    assert digest_of(text) != digest_of(document(body="Do that.").text)


def test_line_ends_as_git_changes_them_are_no_edit():
    assert read_stamp(document().text.replace("\n", "\r\n")).intact


@pytest.mark.parametrize("text", ["", "---", "---\na: b\n", "# Mine\n", "---\na: b\n---\n# Mine\n"])
def test_a_file_of_somebody_else_has_no_stamp(text):
    assert read_stamp(text) is None


def test_a_stamp_that_is_quoted_further_down_counts_for_nothing():
    stamp = next(line for line in document().text.split("\n") if line.startswith("<!--"))
    assert read_stamp(f"# Mine\n\n{stamp}\n") is None


def test_names_are_stable_and_tell_apart_what_is_cut():
    assert slug("security", "no-eval", "src/app.py") == "security-no-eval-src-app-py"
    long = [slug("security", "x" * 200 + end) for end in "ab"]
    assert long[0] != long[1] and max(map(len, long)) <= 80
    assert slug("Ä", "Ö") != slug("Ü", "ß")


# ------------------------------------------------------------------ writing and comparing


def test_files_are_written_and_then_differ_in_nothing(tmp_path):
    wanted = [document(), *make(rule("r")).documents]
    assert {drift.kind for drift in export.compare(tmp_path, wanted)} == {Kind.MISSING}
    done = export.write(tmp_path, wanted)
    assert (len(done.written), done.removed, done.kept) == (4, [], [])
    assert (tmp_path / PROMPT).read_text() == wanted[0].text
    assert export.compare(tmp_path, wanted) == []
    assert export.write(tmp_path, wanted).written == []
    assert not list(tmp_path.rglob("*.tmp"))


def test_another_revision_alone_writes_nothing(tmp_path):
    export.write(tmp_path, [document(revision=7)])
    assert export.compare(tmp_path, [document(revision=8)]) == []
    assert export.write(tmp_path, [document(revision=8)]).written == []


def test_a_changed_configuration_makes_a_file_outdated(tmp_path):
    export.write(tmp_path, [document()])
    wanted = [document(body="Do that.")]
    assert export.compare(tmp_path, wanted) == [Drift(PROMPT, Kind.OUTDATED)]
    assert export.write(tmp_path, wanted).written == [PROMPT]
    assert (tmp_path / PROMPT).read_text() == wanted[0].text


@pytest.mark.parametrize("wanted", [[document()], [document(body="Do that.")], []])
def test_a_file_that_was_edited_by_hand_is_told_and_kept(tmp_path, wanted):
    export.write(tmp_path, [document()])
    edited = (tmp_path / PROMPT).read_text() + "And my own words.\n"
    (tmp_path / PROMPT).write_text(edited)
    assert export.compare(tmp_path, wanted) == [Drift(PROMPT, Kind.EDITED)]
    done = export.write(tmp_path, wanted)
    assert (done.written, done.removed, done.kept) == ([], [], [Drift(PROMPT, Kind.EDITED)])
    assert (tmp_path / PROMPT).read_text() == edited


def test_what_is_no_longer_wanted_is_removed_and_files_of_others_stay(tmp_path):
    export.write(tmp_path, [document()])
    mine = tmp_path / ".github/prompts/mine.prompt.md"
    mine.write_text("---\ndescription: mine\n---\nMy own prompt.\n")
    (tmp_path / ".github/prompts/notes.txt").write_text("notes")
    assert export.compare(tmp_path, []) == [Drift(PROMPT, Kind.UNEXPECTED)]
    assert export.write(tmp_path, []).removed == [PROMPT]
    assert sorted(os.listdir(tmp_path / ".github/prompts")) == ["mine.prompt.md", "notes.txt"]


def test_a_file_of_somebody_else_at_the_same_name_is_kept(tmp_path):
    file = tmp_path / PROMPT
    file.parent.mkdir(parents=True)
    file.write_text("My own.\n")
    assert export.compare(tmp_path, [document()]) == [Drift(PROMPT, Kind.OCCUPIED)]
    assert export.write(tmp_path, [document()]).kept == [Drift(PROMPT, Kind.OCCUPIED)]
    assert file.read_text() == "My own.\n"


def test_ones_own_instructions_for_the_repository_are_kept_and_no_drift(tmp_path):
    path = ".github/copilot-instructions.md"
    (tmp_path / ".github").mkdir()
    (tmp_path / path).write_text("Use tabs.\n")
    wanted = [Document(path, assemble({}, "Ours.", 1))]
    assert export.compare(tmp_path, wanted) == []
    assert export.write(tmp_path, wanted) == export.Exported([], [], [])
    assert (tmp_path / path).read_text() == "Use tabs.\n"


@pytest.mark.parametrize("link", [".github", ".github/prompts"])
def test_a_folder_that_is_a_link_is_refused_and_nothing_is_written(tmp_path, link):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside, target_is_directory=True)
    wanted = [*make(rule("r")).documents, document()]
    for act in (export.compare, export.write):
        with pytest.raises(ExportError, match="link"):
            act(root, wanted)
    assert not list(outside.iterdir())
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_a_file_that_is_a_link_is_somebody_elses(tmp_path):
    outside, root = tmp_path / "outside.md", tmp_path / "root"
    outside.write_text(document().text)
    (root / PROMPT).parent.mkdir(parents=True)
    (root / PROMPT).symlink_to(outside)
    done = export.write(root, [document(body="Do that.")])
    assert done.kept == [Drift(PROMPT, Kind.OCCUPIED)]
    assert outside.read_text() == document().text


def test_pipes_folders_and_binary_files_in_the_way_are_somebody_elses(tmp_path):
    folder = tmp_path / ".github/prompts"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "a.prompt.md")
    (folder / "b.prompt.md").mkdir()
    (folder / "c.prompt.md").write_bytes(b"\xff\xfe\0")
    wanted = [document(f".github/prompts/{name}.prompt.md") for name in "abc"]
    assert {drift.kind for drift in export.write(tmp_path, wanted).kept} == {Kind.OCCUPIED}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / ".github").write_text("a file")
    with pytest.raises(ExportError, match=r"\.github"):
        export.write(tmp_path, [document()])


def test_a_write_that_fails_leaves_the_old_file_and_no_remains(tmp_path, monkeypatch):
    export.write(tmp_path, [document()])

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.os, "replace", fail)
    with pytest.raises(ExportError, match="No space left"):
        export.write(tmp_path, [document(body="Do that.")])
    assert os.listdir(tmp_path / ".github/prompts") == ["security-no-eval.prompt.md"]
    assert (tmp_path / PROMPT).read_text() == document().text


# ------------------------------------------------------------------ the next review


def read_all(root: Path) -> dict[str, Any]:
    return {entry.path: read(entry) for entry in discover(root)}


def test_generated_files_are_not_reviewed_and_edited_or_copied_ones_are(tmp_path):
    export.write(tmp_path, [document(), *make(rule("r")).documents])
    assert set(read_all(tmp_path).values()) == {Skip.GENERATED}
    (tmp_path / "copy.md").write_text(document().text)
    (tmp_path / PROMPT).write_text(document().text + "rm -rf /\n")
    found = read_all(tmp_path)
    assert found["copy.md"] is not Skip.GENERATED and found[PROMPT] is not Skip.GENERATED
