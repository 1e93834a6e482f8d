"""What does an entry of a document say, and what is stored of it? The reading half of an import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from audit.documents import canonical, read_content
from audit.exports import entry_key, is_ended
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
        if entry.get(STATE, "present") not in STATES:
            problems.append(Problem(f"{pointer}/{STATE}", f"This must be one of {', '.join(STATES)}.", name))
        if key in seen:
            problems.append(Problem(pointer, "This entry stands twice in the document.", name))
        seen.add(key)
    return problems


def find_related(model: type[GovernedModel], entries: Iterable[Entry]) -> dict[str, dict[str, Any]]:
    """For each relation the named objects that exist, by name."""
    found = {}
    for name in model.exchange_fields:
        relation = model._meta.get_field(name)
        if relation.is_relation:
            names = {entry.content[name] for entry in entries if isinstance(entry.content.get(name), str)}
            rows = relation.related_model._base_manager.filter(name__in=names) if names else ()
            found[name] = {row.name: row for row in rows}
    return found


def find_stored(model: type[GovernedModel], entries: Sequence[Entry]) -> Iterable[GovernedModel]:
    if not entries:
        return []
    first = model.natural_key_fields[0]
    lookup = f"{first}__name__in" if model._meta.get_field(first).is_relation else f"{first}__in"
    rows = model._base_manager.filter(**{lookup: {entry.key[0] for entry in entries}})
    relations = [item.name for item in model._meta.concrete_fields if item.is_relation]
    if is_ended(model):
        rows = rows.filter(is_active=True)
    return rows.select_related(*relations)


def read_key(model: type[GovernedModel], row: GovernedModel) -> tuple[str, ...]:
    values = (getattr(row, name) for name in model.natural_key_fields)
    return tuple(str(value.name if isinstance(value, models.Model) else value) for value in values)


def copy_row(model: type[GovernedModel], row: GovernedModel | None) -> GovernedModel:
    item = model()
    if row is not None:
        for stored_field in model._meta.concrete_fields:
            setattr(item, stored_field.attname, getattr(row, stored_field.attname))
        item._state.adding = False
    return item


def compare_contents(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (old.get(name), new.get(name)) for name in new if canonical(old.get(name)) != canonical(new.get(name))
    }


def read_loosely(model: type[GovernedModel], item: GovernedModel) -> dict[str, Any] | None:
    """Content of an object that is not validated yet; None for one that cannot be read, and is refused when stored."""
    try:
        content = read_content(model, item)
        canonical(content)
        return content
    except (TypeError, ValueError, ValidationError):
        return None
