"""The analyzer that docs/plugins.md teaches by: installed by pip, found, enabled, given a rule, run."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from django.conf import settings
from django.db import connection

from plugins import registry
from plugins.contract import Finding, PartialFailure, RuleError, RuleSpec, SourceFile

EXAMPLE = settings.BASE_DIR / "docs" / "examples" / "example_analyzer"
CODE = "# TODO: drop the old column\n# TODO(ann): and the new one\nTODOS = 3  # FIXME( )\n"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The module, without installing it."""
    specification = importlib.util.spec_from_file_location("todo_owners", EXAMPLE / "todo_owners.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def analyze(example: ModuleType, code: str, people: tuple[str, ...] = (), **configuration: object) -> list:
    rule = RuleSpec("notes", plugin="todo-owners", configuration=configuration)
    analyzer = example.TodoOwners()
    analyzer.prepare([rule], {"people": list(people)})
    return list(analyzer.analyze(SourceFile("a.py", code.encode()), [rule]))


def test_notes_without_an_owner_are_found(example):
    found = analyze(example, CODE)
    assert [(each.start_line, each.start_column, each.end_column, each.message) for each in found] == [
        (1, 3, 7, "TODO does not say who will do it."),
        (3, 14, 22, "FIXME does not say who will do it."),
    ]
    assert found[0].snippet == "# TODO: drop the old column"


def test_owners_can_be_limited_to_known_people(example):
    (stranger,) = analyze(example, "é TODO(ann) TODO( bob )", people=("bob",))
    assert (stranger.start_column, stranger.message) == (3, "ann is not known here.")


def test_words_are_those_of_the_rule_and_must_be_words(example):
    assert [each.start_line for each in analyze(example, "TODO\nXXX\n", words=["XXX"])] == [2]
    with pytest.raises(RuleError) as caught:
        example.TodoOwners().check_rule(RuleSpec("notes", configuration={"words": ["TODO", "(a+)+"]}))
    assert caught.value.field == "configuration/words/1"


def test_what_was_not_looked_at_is_said(example):
    finding, failure = analyze(example, "TODO\n" + "x" * 10_001 + "\n")
    assert isinstance(finding, Finding) and isinstance(failure, PartialFailure)
    assert failure == PartialFailure("1 too long lines were passed over, the first is 2", "a.py")


def test_the_example_is_without_fault(example):
    assert registry._find_fault(example.TodoOwners) is None


@pytest.mark.slow
@pytest.mark.skipif(connection.vendor != "sqlite", reason="it has a database of its own: once is enough")
def test_the_example_is_installed_by_pip_and_reviews_code(tmp_path: Path):
    shutil.copytree(EXAMPLE, tmp_path / "example")  # building leaves files beside the source
    site, project = tmp_path / "site", tmp_path / "project"
    project.mkdir()
    (project / "a.py").write_text(CODE)
    run(
        *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-build-isolation"),
        *("--no-deps", "--target", site, tmp_path / "example"),
        environment={**os.environ, "PIP_CACHE_DIR": str(tmp_path / "cache")},
    )
    environment = {
        **{key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")},
        "GOVERNANCE_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(site),
    }
    run("manage.py", "migrate", "--verbosity", "0", environment=environment)
    synced = run("manage.py", "sync_plugins", environment=environment)
    assert "todo-owners: enabled, healthy (new) - Version 1.0.0 loads and accepts its settings." in synced
    run("manage.py", "import_config", EXAMPLE / "rule.yaml", "--apply", environment=environment)
    reviewed = json.loads(
        subprocess.run(
            [settings.BASE_DIR / "code-review", project, "--format", "json"],
            env=environment,
            capture_output=True,
            check=True,
        ).stdout
    )
    found = [(each["rule"], each["path"], each["start_line"]) for each in reviewed["findings"]]
    assert found == [("todo-without-owner", "a.py", 1), ("todo-without-owner", "a.py", 3)]
    assert "todo-owners: enabled, healthy" in run("manage.py", "check_plugins", "todo-owners", environment=environment)


def run(*arguments: object, environment: dict[str, str]) -> str:
    """Standard output of Python with these arguments, which must succeed."""
    outcome = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout
