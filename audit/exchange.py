"""How does a configuration travel? One YAML or JSON document over all governed models, by natural keys.

Export writes it, a plan compares it with what is stored, apply makes it so: all or nothing, in one change set. The
document has no keys of the database, no revision, time or author, and no secret. What it does not mention stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models

from audit import encryption
from audit.changes import change_set
from audit.documents import MAX_DEPTH, canonical, plain, read_content
from audit.errors import FieldError, InvalidEntries
from audit.governed import GovernedModel, governed_models, save_all
from audit.permissions import may, permitted

FORMAT = "code-review-governance/1"
MAX_BYTES = 20_000_000
MASKED = "(secret)"
SCHEMA_HEAD = {"format", "title", "description"}


@dataclass(frozen=True)
class Problem:
    """What is wrong at one place of a document. `pointer` is a JSON pointer without ``#``."""

    pointer: str
    detail: str
    name: str = ""

    def __str__(self) -> str:
        place = f"{self.pointer}{f' ({self.name})' if self.name else ''}"
        return f"{place}: {self.detail}" if place else self.detail


class InvalidDocument(Exception):
    """A document that cannot be applied, with every problem found. Nothing was written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Step:
    """What applying an entry does: `fields` maps a field to its old and new value."""

    section: str
    name: str
    status: str  # created, updated, unchanged
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What applying a document does, entry by entry; `revision` is the last one written, `warnings` those of checks."""

    steps: tuple[Step, ...]
    revision: int
    warnings: tuple[str, ...] = ()

    def count(self, status: str) -> int:
        """Number of entries that are created, updated or unchanged."""
        return sum(step.status == status for step in self.steps)


def exchanged_models() -> list[type[GovernedModel]]:
    """The models that stand in documents, in an order in which what is referred to comes first."""
    return [model for model in governed_models() if model.section is not None]


def export_document(user: Any, *, title: str = "") -> dict[str, Any]:
    """Everything that `user` may see, as a document. Equal configurations give equal documents."""
    document: dict[str, Any] = {"format": FORMAT}
    if title:
        document["title"] = title
    for model in exchanged_models():
        relations = [item.name for item in model._meta.concrete_fields if item.is_relation]
        rows = permitted(user, "view", model._default_manager.select_related(*relations))
        if any(item.name == "is_active" for item in model._meta.concrete_fields):
            rows = rows.filter(is_active=True)
        entries = [_write_entry(model, row) for row in rows]
        document[model.section] = sorted(entries, key=lambda entry, model=model: _entry_key(model, entry))
    return document


def _write_entry(model: type[GovernedModel], row: GovernedModel) -> dict[str, Any]:
    content = model.mask(read_content(model, row))
    for name in model.exchange_fields:
        if model._meta.get_field(name).is_relation:
            content[name] = getattr(row, name).name
    return {name: _sort(content[name]) for name in model.exchange_fields}


def _sort(value: Any) -> Any:
    """`value` with the names of its objects sorted: the databases keep them in orders of their own."""
    if isinstance(value, dict):
        return {name: _sort(value[name]) for name in sorted(value)}
    return [_sort(item) for item in value] if isinstance(value, list) else value


def _entry_key(model: type[GovernedModel], entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(entry.get(name, "")) for name in model.natural_key_fields)


class _Dumper(yaml.SafeDumper):
    """Block style for long texts, so that people can read and compare them."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and not text.startswith((" ", "\n")) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump(document: Mapping[str, Any], form: str = "yaml") -> str:
    """`document` as text: `form` is yaml or json."""
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def parse(text: str | bytes) -> dict[str, Any]:
    """The document in `text`, YAML or JSON (which is YAML). Raises `InvalidDocument` with the line."""
    if len(text) > MAX_BYTES:
        raise InvalidDocument([Problem("", f"The document has {len(text):,} bytes; at most {MAX_BYTES:,} are read.")])
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Aliases let a small file grow without end, and no export has any.
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            # The loader calls itself for each level and would end the process where the stack ends.
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 2 * MAX_DEPTH:
                line = event.start_mark.line + 1
                raise InvalidDocument([Problem("", f"Line {line}: nested more than {2 * MAX_DEPTH} levels deep.")])
            if isinstance(event, yaml.AliasEvent):
                raise InvalidDocument([Problem("", f"Line {event.start_mark.line + 1}: aliases (*name) are not read.")])
        # code-review: ignore[python-yaml-unsafe-load] -- loader is yaml's safe one, in C where there is one
        document = yaml.load(text, Loader=loader)  # noqa: S506, a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidDocument([Problem("", f"Not YAML or JSON: {' '.join(str(error).split())}")]) from error
    if not isinstance(document, dict):
        raise InvalidDocument([Problem("", "The document must be an object with sections.")])
    return document


def apply(document: Mapping[str, Any], *, user: Any, reason: str = "", dry_run: bool = False) -> Plan:
    """Make the configuration what `document` says; with `dry_run` only tell what that would do.

    A document with `persona_assignments` is complete: rules get those personas and no default ones. Raises
    `InvalidDocument` with every problem, `Busy`, or `ValidationError` from a check.
    """
    _check_head(document)
    complete = "persona_assignments" in document
    steps: list[Step] = []
    problems: list[Problem] = []
    with change_set(reason=reason, restoring=complete, dry_run=dry_run) as changes:
        for model in exchanged_models():
            found = _apply_section(model, document.get(model.section) or [], user, steps)
            problems += found
        if problems:
            raise InvalidDocument(problems)
    return Plan(tuple(steps), changes.revision if not dry_run else changes.first_free - 1, tuple(changes.warnings))


def _check_head(document: Mapping[str, Any]) -> None:
    problems = []
    if document.get("format") != FORMAT:
        problems.append(Problem("/format", f"This must be {FORMAT!r}, not {document.get('format')!r}."))
    sections = {model.section for model in exchanged_models()}
    for key in document:
        if key not in sections | SCHEMA_HEAD:
            problems.append(Problem(f"/{key}", f"No such section. Sections: {', '.join(sorted(sections))}."))
    problems += [
        Problem(f"/{section}", "This must be a list of entries.")
        for section in sorted(sections)
        if not isinstance(document.get(section) or [], list)
    ]
    if problems:
        raise InvalidDocument(problems)


def _apply_section(model: type[GovernedModel], entries: list[Any], user: Any, steps: list[Step]) -> list[Problem]:
    problems = _check_entries(model, entries)
    if problems:
        return problems
    related = _find_related(model, entries)
    stored = {_stored_key(model, row): row for row in _find_stored(model, entries)}
    objects, plans = [], []
    for index, entry in enumerate(entries):
        pointer, key = f"/{model.section}/{index}", _entry_key(model, entry)
        row = stored.get(key)
        item, missing = _read_entry(model, entry, row, related)
        problems += [Problem(f"{pointer}/{name}", detail, " ".join(key)) for name, detail in missing]
        step = _plan_entry(model, item, row, " ".join(key))
        if step.status != "unchanged":
            wanted = ["add"] if row is None else dict.fromkeys(model.action_for(row, [name]) for name in step.fields)
            for action in wanted:
                if not may(user, action, row or model):
                    detail = f"You may not {action} this {model._meta.verbose_name}."
                    problems.append(Problem(pointer, detail, " ".join(key)))
        objects.append(item)
        plans.append(step)
    if not problems and objects:
        contents = {row.pk: encryption.mark(read_content(model, row)) for row in stored.values()}
        problems = _store(model, objects, entries)
    if not problems:
        for index, (item, step) in enumerate(zip(objects, plans, strict=True)):
            hidden = [] if step.status != "unchanged" else _find_hidden(model, item, contents[item.pk])
            if not hidden:
                continue
            # Masked documents do not show that a secret is another one: the right to change it is asked here.
            row = stored[_stored_key(model, item)]
            plans[index] = Step(model.section, step.name, "updated", dict.fromkeys(hidden, (MASKED, MASKED)))
            for action in dict.fromkeys(model.action_for(row, [name]) for name in hidden):
                if not may(user, action, row):
                    detail = f"You may not {action} this {model._meta.verbose_name}."
                    problems.append(Problem(f"/{model.section}/{index}", detail, step.name))
    steps.extend(plans)
    return problems


def _find_hidden(model: type[GovernedModel], item: GovernedModel, before: Mapping[str, Any]) -> list[str]:
    """The fields of a stored object that differ from what they were `before`, secrets included."""
    after = encryption.mark(read_content(model, item))
    return [name for name in after if canonical(before[name]) != canonical(after[name])]


def _check_entries(model: type[GovernedModel], entries: list[Any]) -> list[Problem]:
    problems, seen = [], set()
    for index, entry in enumerate(entries):
        pointer = f"/{model.section}/{index}"
        if not isinstance(entry, dict):
            problems.append(Problem(pointer, "An entry must be an object."))
            continue
        unknown = [str(name) for name in entry if name not in model.exchange_fields]
        problems += [Problem(f"{pointer}/{name}", "No such field.") for name in unknown]
        for name in model.natural_key_fields:
            if not isinstance(entry.get(name), str) or not entry[name]:
                problems.append(Problem(f"{pointer}/{name}", "Every entry needs this text: it tells what is meant."))
        key = _entry_key(model, entry)
        if key in seen:
            problems.append(Problem(pointer, "This entry stands twice in the document.", " ".join(key)))
        seen.add(key)
    return problems


def _find_related(model: type[GovernedModel], entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each relation the named objects that exist, by name."""
    found = {}
    for name in model.exchange_fields:
        relation = model._meta.get_field(name)
        if relation.is_relation:
            names = {entry[name] for entry in entries if isinstance(entry.get(name), str)}
            rows = relation.related_model._base_manager.filter(name__in=names)
            found[name] = {row.name: row for row in rows}
    return found


def _find_stored(model: type[GovernedModel], entries: Sequence[Mapping[str, Any]]) -> models.QuerySet:
    first = model.natural_key_fields[0]
    lookup = f"{first}__name__in" if model._meta.get_field(first).is_relation else f"{first}__in"
    rows = model._base_manager.filter(**{lookup: [entry[first] for entry in entries]})
    relations = [item.name for item in model._meta.concrete_fields if item.is_relation]
    if any(item.name == "is_active" for item in model._meta.concrete_fields):
        rows = rows.filter(is_active=True)
    return rows.select_related(*relations)


def _stored_key(model: type[GovernedModel], row: GovernedModel) -> tuple[str, ...]:
    values = (getattr(row, name) for name in model.natural_key_fields)
    return tuple(str(value.name if isinstance(value, models.Model) else value) for value in values)


def _read_entry(
    model: type[GovernedModel],
    entry: Mapping[str, Any],
    row: GovernedModel | None,
    related: Mapping[str, Mapping[str, Any]],
) -> tuple[GovernedModel, list[tuple[str, str]]]:
    """The object that `entry` describes, and the relations it names that do not exist."""
    item, missing = model(), []
    if row is not None:
        for stored_field in model._meta.concrete_fields:
            setattr(item, stored_field.attname, getattr(row, stored_field.attname))
        item._state.adding = False
    for name, value in entry.items():
        if name in related:
            if not isinstance(value, str) or value not in related[name]:
                missing.append(
                    (name, f"There is no {model._meta.get_field(name).related_model._meta.verbose_name} {value!r}.")
                )
            else:
                setattr(item, name, related[name][value])
        else:
            setattr(item, name, value)
    if row is not None:
        item.keep_hidden(row)
    return item, missing


def _plan_entry(model: type[GovernedModel], item: GovernedModel, row: GovernedModel | None, name: str) -> Step:
    if row is None:
        return Step(model.section, name, "created")
    old, new = model.mask(read_content(model, row)), model.mask(_read_loosely(model, item, row))
    fields = {key: (old[key], new[key]) for key in old if canonical(old[key]) != canonical(new[key])}
    return Step(model.section, name, "updated" if fields else "unchanged", fields)


def _read_loosely(model: type[GovernedModel], item: GovernedModel, row: GovernedModel) -> dict[str, Any]:
    """Content of an object that is not validated yet; one that cannot be read differs, and is refused when stored."""
    try:
        content = read_content(model, item)
        canonical(content)
        return content
    except (TypeError, ValueError, ValidationError):
        return {**read_content(model, row), "": plain(str(item.__dict__))}


def _store(
    model: type[GovernedModel], objects: list[GovernedModel], entries: Sequence[Mapping[str, Any]]
) -> list[Problem]:
    try:
        save_all(objects)
    except InvalidEntries as error:
        return [
            Problem(f"/{model.section}/{index}{pointer}", detail, " ".join(_entry_key(model, entries[index])))
            for index, invalid in sorted(error.errors.items())
            for pointer, detail in list_errors(invalid)
        ]
    return []


def list_errors(error: ValidationError) -> list[tuple[str, str]]:
    """The pointer below the object and the sentence of everything in `error`."""
    if not hasattr(error, "error_dict"):
        return [("", message) for message in error.messages]
    found = []
    for name, errors in error.error_dict.items():
        base = "" if name == NON_FIELD_ERRORS else f"/{name}"
        for item in errors:
            below = f"/{item.pointer}" if isinstance(item, FieldError) and item.pointer else ""
            found += [(base + below, message) for message in item.messages]
    return found
