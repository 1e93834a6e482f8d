"""What does an entry of a document say, and what is stored of it? The reading half of an import."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError

from audit.documents import canonical, find_unstorable, read_content
from audit.exports import entry_key, is_ended, list_joined, name_related
from audit.governed import GovernedModel
from audit.sources import Problem, escape

STATE = "state"
STATES = ("present", "created", "absent")


@dataclass
class Entry:
    """One entry on its way: what it says, the row it is about, and the object it makes of that."""

    pointer: str
    key: tuple[str, ...]
    content: Mapping[str, Any]
    row: GovernedModel | None = None
    item: GovernedModel | None = None
    state: str = "present"
    before: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return " ".join(self.key)


def check_entries(model: type[GovernedModel], entries: list[Any]) -> list[Problem]:
    problems, seen = [], set()
    for index, entry in enumerate(entries):
        pointer = f"/{model.section}/{index}"
        if not isinstance(entry, dict):
            problems.append(Problem(pointer, "An entry must be an object."))
            continue
        key = entry_key(model, entry)
        name = " ".join(key)
        for other in entry:
            if other not in model.exchange_fields and other != STATE:
                known = ", ".join((*model.exchange_fields, STATE))
                problems.append(Problem(f"{pointer}/{escape(other)}", f"No such field. Fields: {known}.", name))
        for part in model.natural_key_fields:
            if not isinstance(entry.get(part), str) or not entry[part]:
                problems.append(
                    Problem(f"{pointer}/{part}", "Every entry needs this text: it tells what is meant.", name)
                )
            elif (reason := find_unstorable(entry[part])) is not None:
                problems.append(Problem(f"{pointer}/{part}", reason))
        if entry.get(STATE, "present") not in STATES:
            problems.append(Problem(f"{pointer}/{STATE}", f"This must be one of {', '.join(STATES)}.", name))
        if key in seen:
            problems.append(Problem(pointer, "This entry stands twice in the document.", name))
        seen.add(key)
    return problems


def find_related(model: type[GovernedModel], entries: Iterable[Entry]) -> dict[str, dict[str, Any]]:
    """For each relation the named objects that exist, by name. What came with the stored rows is not read again."""
    found: dict[str, dict[str, Any]] = {}
    for name in model.exchange_fields:
        relation = model._meta.get_field(name)
        if relation.is_relation:
            given = {entry.content[name] for entry in entries if isinstance(entry.content.get(name), str)}
            joined = [entry.row for entry in entries if entry.row is not None] if name in list_joined(model) else []
            found[name] = {item.name: item for item in {getattr(row, name) for row in joined}}
            missing = {value for value in given - set(found[name]) if find_unstorable(value) is None}
            if missing:
                rows = relation.related_model._base_manager.filter(name__in=missing)
                found[name].update((row.name, row) for row in rows)
    return found


def find_stored(model: type[GovernedModel], entries: Sequence[Entry]) -> Iterable[GovernedModel]:
    """The rows that the entries are about."""
    if not entries:
        return []
    first = model.natural_key_fields[0]
    lookup = f"{first}__name__in" if model._meta.get_field(first).is_relation else f"{first}__in"
    rows = model._base_manager.filter(**{lookup: {entry.key[0] for entry in entries}})
    if is_ended(model):
        rows = rows.filter(is_active=True)
    return rows.select_related(*list_joined(model))


def read_key(model: type[GovernedModel], row: GovernedModel) -> tuple[str, ...]:
    """What identifies a row in documents."""
    return tuple(
        name_related(row, name) if model._meta.get_field(name).is_relation else str(getattr(row, name))
        for name in model.natural_key_fields
    )


def copy_row(model: type[GovernedModel], row: GovernedModel | None) -> GovernedModel:
    """An object like `row` that can be changed without touching it; a new one for none."""
    item = model()
    if row is not None:
        for stored_field in model._meta.concrete_fields:
            setattr(item, stored_field.attname, getattr(row, stored_field.attname))
        item._state.adding = False
    return item


def compare_contents(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, with both values."""
    return {
        name: (old.get(name), new.get(name)) for name in new if canonical(old.get(name)) != canonical(new.get(name))
    }


def spell(content: Mapping[str, Any]) -> str:
    """One spelling for equal contents, which are in JSON types already. Raises `ValueError` for what is no JSON."""
    return json.dumps(content, sort_keys=True, allow_nan=False)


def read_loosely(model: type[GovernedModel], item: GovernedModel) -> dict[str, Any] | None:
    """Content of an object that is not validated yet; None for one that cannot be read, and is refused when stored."""
    try:
        content = read_content(model, item)
        spell(content)
        return content
    except (TypeError, ValueError, ValidationError):
        return None
