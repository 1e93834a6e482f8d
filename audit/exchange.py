"""How does a configuration travel? One YAML or JSON document over all governed models, by natural keys.

Export writes it, a plan compares it with what is stored, apply makes it so: all or nothing, in one change set. The
document has no keys of the database, no revision, time or author, and no secret. What it does not mention stays; what
an entry calls absent is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from audit import encryption
from audit.changes import ChangeSet, change_set
from audit.documents import canonical, read_content
from audit.entries import (
    STATE,
    Entry,
    check_entries,
    compare_contents,
    copy_row,
    find_related,
    find_stored,
    read_key,
    read_loosely,
    spell,
)
from audit.errors import CheckRefusal, InvalidEntries, StateConflict, list_errors
from audit.exports import FORMAT, dump, entry_key, exchanged_models, export_document, is_ended
from audit.governed import GovernedModel, save_all
from audit.permissions import DELETE, VIEW, may, object_permissions
from audit.plans import Plan, Step, refuse
from audit.sources import InvalidDocument, Problem, SourceDocument, escape, parse

__all__ = [
    "FORMAT",
    "InvalidDocument",
    "Plan",
    "Problem",
    "Step",
    "apply",
    "dump",
    "export_document",
    "list_errors",
    "parse",
]

MASKED = "(secret)"
HEAD = {"$schema", "format", "title", "description"}
MAX_ENTRIES = 30_000  # of one section: SQLite takes as many values in one statement
PART = 500  # objects that are stored at once
IMPLIED = 200  # changes that no entry asks for, told one by one

Progress = Callable[[int, int], None]


def apply(
    document: Mapping[str, Any],
    *,
    user: Any,
    reason: str = "",
    dry_run: bool = False,
    seen: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Make the configuration what `document` says; with `dry_run` only tell what that would do.

    A document with `persona_assignments` is complete: rules get those personas and no default ones. `seen` is the
    revision of the plan that was read: if the journal has moved since, nothing is done. `progress` is told how many
    entries of how many are done.

    Raises `InvalidDocument` with every problem, or `Busy`; a dry run tells the problems of entries in its plan.
    """
    located = document.locate if isinstance(document, SourceDocument) else list
    try:
        _check_head(document)
    except InvalidDocument as error:
        raise InvalidDocument(located(error.problems)) from None
    work = _Import(document, user, progress)
    try:
        with change_set(reason=reason, restoring="persona_assignments" in document, dry_run=dry_run) as changes:
            work.start = changes.first_free - 1
            if seen is not None and seen != work.start:
                raise StateConflict(
                    f"The configuration has moved from revision {seen} to {work.start} since this was planned: plan it "
                    "again."
                )
            work.carry_out()
    except InvalidDocument:
        problems = located(work.problems)
    except ValidationError as error:
        if not work.done:
            raise
        problems = located(work.place(error))
    else:
        revision = work.start if dry_run else changes.revision
        return Plan(work.ordered(), revision, tuple(changes.warnings), work.list_implied(changes))
    if dry_run:
        return Plan(tuple(refuse(work.ordered(), problems)), work.start, problems=tuple(problems))
    raise InvalidDocument(problems)


def _check_head(document: Mapping[str, Any]) -> None:
    problems = []
    if document.get("format") != FORMAT:
        found = repr(document.get("format"))[:100]
        problems.append(Problem("/format", f"This must be {FORMAT!r}, not {found}."))
    sections = {model.section for model in exchanged_models()}
    for key in document:
        if key not in sections | HEAD:
            problems.append(Problem(f"/{escape(key)}", f"No such section. Sections: {', '.join(sorted(sections))}."))
    for section in sorted(sections):
        entries = document.get(section) or []
        if not isinstance(entries, list):
            problems.append(Problem(f"/{section}", "This must be a list of entries."))
        elif len(entries) > MAX_ENTRIES:
            problems.append(Problem(f"/{section}", f"At most {MAX_ENTRIES:,} entries, these are {len(entries):,}."))
    if problems:
        raise InvalidDocument(problems)


@dataclass
class _Section:
    """The entries of one model that make sense, and what their user may do with each row."""

    model: type[GovernedModel]
    entries: list[Entry]
    rights: Mapping[Any, Sequence[str]] = field(default_factory=dict)


class _Import:
    """One document being applied. `problems` and `steps` grow; a problem anywhere undoes everything."""

    def __init__(self, document: Mapping[str, Any], user: Any, progress: Progress | None) -> None:
        self.document, self.user, self.progress = document, user, progress
        self.steps: dict[str, Step] = {}  # by the pointer of the entry
        self.problems: list[Problem] = []
        self.refused: dict[type[models.Model], set[str]] = {}  # names that entries gave and that were not stored
        self.places: dict[tuple[str, str], tuple[str, str]] = {}  # entity → pointer and name of its entry
        self.start, self.done, self.finished = 0, False, 0
        self.total = sum(len(document.get(model.section) or []) for model in exchanged_models())

    def carry_out(self) -> None:
        """Deletions first, from the top storey down, then the others, from the bottom up. In the change set."""
        sections = [self._read_section(model, self.document.get(model.section) or []) for model in exchanged_models()]
        for section in reversed(sections):
            self._delete(section)
        for section in sections:
            self._store(section)
        if self.problems:
            raise InvalidDocument(self.problems)
        self.done = True

    def ordered(self) -> tuple[Step, ...]:
        """The steps in the order of the document's sections and entries."""
        order = {model.section: number for number, model in enumerate(exchanged_models())}

        def place(step: Step) -> tuple[int, int]:
            return order[step.section], int(step.pointer.rpartition("/")[2])

        return tuple(sorted(self.steps.values(), key=place))

    def place(self, error: ValidationError) -> list[Problem]:
        """What the checks of the change set say, each at the entry that it is about."""
        if hasattr(error, "error_dict"):
            return [Problem(pointer, detail) for pointer, detail in list_errors(error)]
        problems = []
        for item in error.error_list:
            about = item.about if isinstance(item, CheckRefusal) else None
            pointer, name = self.places.get(about, ("", ""))
            needs = isinstance(item, CheckRefusal) and item.needs_override
            code = "needs_override" if needs else "conflict" if isinstance(item, StateConflict) else "invalid"
            problems.append(Problem(pointer, " ".join(item.messages), name, code=code))
        return problems

    def list_implied(self, changes: ChangeSet) -> tuple[str, ...]:
        """What was changed without any entry asking for it."""
        found = [
            f"{change.change_type.replace('_', ' ')}: {change.entity_name}"
            for change in changes.changes
            if (change.entity_type, change.entity_id) not in self.places
        ]
        more = len(found) - IMPLIED
        return (*found[:IMPLIED], f"… and {more:,} more") if more > 0 else tuple(found)

    def _refuse(self, entry: Entry, detail: str, below: str = "", code: str = "invalid") -> None:
        self.problems.append(Problem(entry.pointer + below, detail, entry.name, code=code))

    def _read_section(self, model: type[GovernedModel], given: list[Any]) -> _Section:
        problems = check_entries(model, given)
        self.problems += problems
        bad = {"/".join(problem.pointer.split("/")[:3]) for problem in problems}
        entries = [
            Entry(
                f"/{model.section}/{index}",
                entry_key(model, content),
                {name: value for name, value in content.items() if name != STATE},
                state=content.get(STATE, "present"),
            )
            for index, content in enumerate(given)
            if f"/{model.section}/{index}" not in bad
        ]
        self.refused[model] = {
            str(content.get("name"))
            for index, content in enumerate(given)
            if f"/{model.section}/{index}" in bad and isinstance(content, dict)
        }
        return _Section(model, entries)

    def _find_rows(self, section: _Section, entries: Sequence[Entry]) -> None:
        """Give the entries their rows, and the section the rights on them."""
        model = section.model
        stored = {read_key(model, row): row for row in find_stored(model, entries)}
        for entry in entries:
            entry.row = stored.get(entry.key)
        names = model.exchange_fields
        actions = [
            VIEW,
            DELETE,
            *(model.action_for(row, [name]) for row in list(stored.values())[:1] for name in names),
        ]
        section.rights = object_permissions(self.user, list(stored.values()), tuple(dict.fromkeys(actions)))

    def _may(self, section: _Section, entry: Entry, action: str) -> bool:
        if entry.row is None:
            return may(self.user, action, section.model)
        return action in section.rights.get(entry.row.pk, ())

    def _ask(self, section: _Section, entry: Entry, actions: Iterable[str]) -> bool:
        """Whether the user may do all of `actions` and see what is there; each that he may not is a problem."""
        lacking = [action for action in dict.fromkeys(actions) if not self._may(section, entry, action)]
        if entry.row is not None and not self._may(section, entry, VIEW):
            lacking = lacking or [VIEW]
        for action in lacking:
            self._refuse(entry, f"You may not {action} this {section.model._meta.verbose_name}.", code="forbidden")
        return not lacking

    def _delete(self, section: _Section) -> None:
        model, entries = section.model, [entry for entry in section.entries if entry.state == "absent"]
        self._find_rows(section, entries)
        for entry in entries:
            if entry.row is None:
                self._tell(section, entry, "unchanged")
                continue
            self._tell(section, entry, "deleted")
            if DELETE not in model._meta.default_permissions:
                self._refuse(entry, f"This {model._meta.verbose_name} came with an installed package: it stays.")
            elif self._ask(section, entry, [DELETE]):
                self.places[(model.entity_type, entry.row.entity_id)] = (entry.pointer, entry.name)
                self._remove(section, entry)
        self._advance(len(entries))

    def _remove(self, section: _Section, entry: Entry) -> None:
        try:
            if is_ended(section.model):
                entry.row.is_active = False
                entry.row.save()
            else:
                entry.row.delete()
        except ValidationError as error:
            for message in error.messages:
                self._refuse(entry, message, code="conflict")

    def _store(self, section: _Section) -> None:
        model, entries = section.model, [entry for entry in section.entries if entry.state != "absent"]
        self._find_rows(section, entries)
        related = find_related(model, entries)
        for start in range(0, len(entries), PART):
            part = entries[start : start + PART]
            wanted = [entry for entry in part if self._prepare(section, entry, related)]
            if wanted:
                self._save(section, wanted)
            self._advance(len(part))

    def _prepare(self, section: _Section, entry: Entry, related: Mapping[str, Mapping[str, Any]]) -> bool:
        """Make the object of an entry. True if it differs from what is stored and may be stored."""
        model = section.model
        if entry.row is not None and not self._ask(section, entry, ()):
            self._tell(section, entry, "updated")  # whoever may not see it learns not even whether it is the same
            return False
        if entry.row is not None and entry.state == "created":
            self._tell(section, entry, "unchanged")
            return False
        missing = self._read(section, entry, related)
        if missing:
            return False
        if entry.row is None:
            self._tell(section, entry, "created")
            return self._ask(section, entry, ["add"])
        entry.before = encryption.mark(read_content(model, entry.row))
        after = encryption.mark(read_loosely(model, entry.item))
        if after is not None and spell(entry.before) == spell(after):
            self._tell(section, entry, "unchanged")
            return False
        fields = (
            compare_contents(model.mask(entry.before), model.mask(after)) if after is not None else {"": (None, None)}
        )
        allowed = self._ask(section, entry, (model.action_for(entry.row, [name]) for name in fields))
        self._tell(section, entry, "updated", fields if allowed and after is not None else {})
        return allowed

    def _tell(self, section: _Section, entry: Entry, status: str, fields: Mapping[str, Any] | None = None) -> None:
        self.steps[entry.pointer] = Step(section.model.section, entry.name, status, fields or {}, entry.pointer)

    def _read(self, section: _Section, entry: Entry, related: Mapping[str, Mapping[str, Any]]) -> bool:
        """Set what the entry says; True if it names something that is not there."""
        model, missing = section.model, False
        entry.item = copy_row(model, entry.row)
        for name, value in entry.content.items():
            if name not in related:
                setattr(entry.item, name, value)
                continue
            target = model._meta.get_field(name).related_model
            if isinstance(value, str) and value in related[name]:
                setattr(entry.item, name, related[name][value])
                continue
            missing = True
            if not isinstance(value, str) or value not in self.refused.get(
                target, ()
            ):  # else its own entry says what is wrong
                self._refuse(entry, f"There is no {target._meta.verbose_name} {value!r}.", f"/{name}")
        if missing:
            self._tell(section, entry, "created" if entry.row is None else "updated")
        elif entry.row is not None:
            entry.item.keep_hidden(entry.row)
        return missing

    def _save(self, section: _Section, entries: list[Entry]) -> None:
        """Store the objects of the entries. What is wrong with some of them does not keep the others from being
        judged: it all will be undone.
        """
        try:
            save_all([entry.item for entry in entries])
        except InvalidEntries as error:
            for index, invalid in sorted(error.errors.items()):
                self._refuse_invalid(section, entries[index], invalid)
            rest = [entry for index, entry in enumerate(entries) if index not in error.errors]
            if rest:
                self._save(section, rest)
            return
        except ValidationError as error:
            # The database refused it: nothing more can be asked of it in this transaction.
            self.problems += [Problem(f"/{section.model.section}", message) for message in error.messages]
            raise InvalidDocument(self.problems) from error
        for entry in entries:
            self.places[(section.model.entity_type, entry.item.entity_id)] = (entry.pointer, entry.name)
            if entry.row is not None:
                self._tell_stored(section, entry)

    def _refuse_invalid(self, section: _Section, entry: Entry, error: ValidationError) -> None:
        model = section.model
        self.refused[model].add(entry.key[0])
        for pointer, detail in list_errors(error):
            field_name = pointer.strip("/").partition("/")[0]
            if entry.row is None and field_name and field_name not in entry.content:
                detail = f"{detail} There is no {model._meta.verbose_name} {entry.name} yet: a new one needs this."
            self._refuse(entry, detail, pointer)

    def _tell_stored(self, section: _Section, entry: Entry) -> None:
        """What an entry has changed in fact: its object is in its normal form now, with its secrets."""
        model = section.model
        after = encryption.mark(read_content(model, entry.item))
        changed = [name for name in after if canonical(entry.before[name]) != canonical(after[name])]
        fields = compare_contents(model.mask(entry.before), model.mask(after))
        hidden = [name for name in changed if name not in fields]
        # Masked documents do not show that a secret is another one: the right to change it is asked here.
        self._ask(section, entry, (model.action_for(entry.row, [name]) for name in hidden))
        shown = {**fields, **dict.fromkeys(hidden, (MASKED, MASKED))}
        self._tell(section, entry, "updated" if shown else "unchanged", shown)

    def _advance(self, count: int) -> None:
        self.finished += count
        if self.progress is not None and count:
            self.progress(self.finished, self.total)
