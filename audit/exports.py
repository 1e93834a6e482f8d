"""What does the configuration look like as a document? By names, sorted, no secrets: equal ones are equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from audit.documents import read_content
from audit.governed import GovernedModel, governed_models
from audit.permissions import permitted

FORMAT = "code-review-governance/1"
SCHEMA_FILE = "configuration.schema.json"
HEADER = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
"""Editors look for the schema beside the document: `export_config --schema` writes it, whatever the host is called."""


def exchanged_models() -> list[type[GovernedModel]]:
    """The models that stand in documents, in an order in which what is referred to comes first."""
    return [model for model in governed_models() if model.section is not None]


def is_ended(model: type[GovernedModel]) -> bool:
    """Whether objects of `model` are not deleted but ended: their rows stay, inactive."""
    return any(item.name == "is_active" for item in model._meta.concrete_fields)


def list_joined(model: type[GovernedModel]) -> list[str]:
    """The relations whose objects must be read to know their names; others are stored by name."""
    relations = [item for item in model._meta.concrete_fields if item.is_relation]
    return [item.name for item in relations if item.target_field.name != "name"]


def name_related(row: GovernedModel, name: str) -> str:
    """The name of what `row` refers to."""
    item = row._meta.get_field(name)
    return getattr(row, item.attname) if item.target_field.name == "name" else getattr(row, name).name


def export_document(user: Any, *, title: str = "") -> dict[str, Any]:
    """Everything that `user` may see, as a document. Equal configurations give equal documents."""
    document: dict[str, Any] = {"format": FORMAT}
    if title:
        document["title"] = title
    for model in exchanged_models():
        rows = permitted(user, "view", model._default_manager.select_related(*list_joined(model)))
        if is_ended(model):
            rows = rows.filter(is_active=True)
        entries = [write_entry(model, row) for row in rows.iterator(chunk_size=2000)]
        document[model.section] = sorted(entries, key=lambda entry, model=model: entry_key(model, entry))
    return document


def write_entry(model: type[GovernedModel], row: GovernedModel) -> dict[str, Any]:
    """`row` as an entry of a document."""
    content = model.mask(read_content(model, row))
    for name in model.exchange_fields:
        if model._meta.get_field(name).is_relation:
            content[name] = name_related(row, name)
    return {name: _sort(content[name]) for name in model.exchange_fields}


def _sort(value: Any) -> Any:
    """`value` with the names of its objects sorted: the databases keep them in orders of their own."""
    if isinstance(value, dict):
        return {name: _sort(value[name]) for name in sorted(value)}
    return [_sort(item) for item in value] if isinstance(value, list) else value


def entry_key(model: type[GovernedModel], entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What identifies an entry."""
    return tuple(str(entry.get(name, "")) for name in model.natural_key_fields)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Block style for long texts, so that people can read and compare them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and not text.startswith((" ", "\n")) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(document: Mapping[str, Any], form: str = "yaml") -> str:
    """`document` as text: `form` is yaml or json."""
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    text = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return HEADER + text
