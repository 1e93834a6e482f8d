"""The laws of the house that no other tool checks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings

STOREYS = ["audit", "plugins", "rules", "personas", "overrides", "reviews", "governance_config"]
SOURCES = sorted(
    path
    for storey in STOREYS
    for path in (settings.BASE_DIR / storey).rglob("*.py")
    if "migrations" not in path.relative_to(settings.BASE_DIR).parts
)


def name_source(path: Path) -> str:
    return str(path.relative_to(settings.BASE_DIR))


def test_relations_point_down_only():
    """Foreign keys given as strings escape the import contract; the models themselves do not lie."""
    upward = [
        f"{field} -> {field.related_model._meta.label}"
        for storey in STOREYS
        for model in apps.get_app_config(storey).get_models()
        for field in model._meta.get_fields(include_hidden=False)
        if field.is_relation and field.concrete and field.related_model is not None
        if field.related_model._meta.app_label in STOREYS
        and STOREYS.index(field.related_model._meta.app_label) > STOREYS.index(storey)
    ]
    assert upward == []


@pytest.mark.parametrize("path", SOURCES, ids=name_source)
def test_no_own_code_is_imported_inside_a_function(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = []
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            inside += [f"{function.name}: {name}" for name in names if name.partition(".")[0] in STOREYS]
    assert inside == []


@pytest.mark.parametrize("path", SOURCES, ids=name_source)
def test_every_module_says_what_it_answers(path: Path):
    source = path.read_text(encoding="utf-8")
    assert not source.strip() or ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("path", SOURCES, ids=name_source)
def test_no_module_outgrows_a_reader(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


def test_the_pages_and_scripts_name_no_other_host():
    """Nothing is fetched from elsewhere at run time."""
    own = [
        *(settings.BASE_DIR / "templates").rglob("*.html"),
        *(path for storey in STOREYS for path in (settings.BASE_DIR / storey).rglob("static/**/*") if path.is_file()),
    ]
    assert own
    for path in own:
        text = path.read_text(encoding="utf-8", errors="replace")
        for mark in ('src="http', 'href="http', "url(http", "@import"):
            assert mark not in text, path
