"""How is a change undone? By a new change: objects are put back to what their exact history rows say.

Three questions, one answer: one change (`change`), all of one request (`batch`), or everything after a revision
(`to_revision`). Undoing a change or a batch is refused for an object that was changed again since; going back to a
revision takes all later changes back. A plan says what would happen; applying it is one change set under today's rules
and rights. Accounts, roles, grants and tokens are left alone, and so is what came with an installed package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models

from audit.changes import change_set
from audit.documents import canonical, content_fields, is_same
from audit.errors import InvalidEntries, NotPermitted, StateConflict
from audit.exchange import list_errors
from audit.governed import GovernedModel, governed_models, save_all
from audit.models import ConfigurationAuditLog
from audit.permissions import may

MAX_CHANGES = 100_000  # journal rows that one rollback takes back
PART = 5000  # keys asked for in one statement
TOLD = 5  # missing rights told one by one


class RollbackRefused(Exception):
    """What stands against a rollback, one sentence for each object. Nothing was written."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Target:
    """What to undo: exactly one of the three."""

    to_revision: int | None = None
    batch: UUID | None = None
    change: int | None = None


@dataclass(frozen=True)
class Step:
    """What happens to one object: `fields` maps a field to its present and its coming value, secrets masked."""

    action: str  # create, update, delete
    entity_type: str
    entity_id: str
    entity_name: str
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a rollback does. `revision` is where the journal stood, after applying the last one written."""

    steps: tuple[Step, ...]
    revision: int
    left_alone: tuple[str, ...] = ()
    """Changes that are not taken back, and why."""
    warnings: tuple[str, ...] = ()

    def count(self, action: str) -> int:
        """Number of objects that are created, updated or deleted."""
        return sum(step.action == action for step in self.steps)

    def document(self) -> dict[str, Any]:
        """The plan as plain values, for the API and for scripts."""
        return {
            "revision": self.revision,
            "steps": [
                {
                    "action": step.action,
                    "entity_type": step.entity_type,
                    "entity_id": step.entity_id,
                    "entity_name": step.entity_name,
                    "fields": {name: {"old": old, "new": new} for name, (old, new) in step.fields.items()},
                }
                for step in self.steps
            ],
            "left_alone": list(self.left_alone),
            "warnings": list(self.warnings),
        }


@dataclass
class _Wish:
    """An object and the history row it should be like again; None: it was not there."""

    model: type[GovernedModel]
    key: Any
    history_row: models.Model | None
    first: ConfigurationAuditLog  # the first change that is taken back
    name: str


def find_revision(moment: datetime) -> int:
    """The last revision that was written at `moment` or before."""
    rows = ConfigurationAuditLog.objects.filter(created_at__lte=moment)
    return rows.aggregate(last=models.Max("revision"))["last"] or 0


def roll_back(target: Target, *, user: Any, reason: str = "", dry_run: bool = False, seen: int | None = None) -> Plan:
    """Undo `target`; with `dry_run` only tell what that would do.

    `seen` is the revision at which the plan was read: if the journal has moved since, nothing is done. Raises
    `NotPermitted`, `RollbackRefused` with every reason, `ValidationError` from a check of today's rules, or `Busy`.
    """
    with change_set(reason=reason, restoring=True, dry_run=dry_run) as changes:
        start = changes.first_free - 1
        if seen is not None and seen != start:
            raise StateConflict(
                f"The configuration has moved from revision {seen} to {start} since this was planned: plan it again."
            )
        rows, keep_later = _select(target, start)
        _require_reading(user, rows)
        wishes, left_alone, problems = _find_wishes(rows, keep_later)
        if problems:
            raise RollbackRefused(problems)
        steps = _carry_out(wishes, user, left_alone)
    revision = start if dry_run else changes.revision
    return Plan(tuple(steps), revision, tuple(left_alone), tuple(changes.warnings))


def _require_reading(user: Any, rows: Sequence[ConfigurationAuditLog]) -> None:
    """A plan tells what was changed: whoever may not read the journal may undo what he has done himself."""
    if may(user, "view", ConfigurationAuditLog):
        return
    own = ("user", str(getattr(user, "pk", "")))
    if not rows or any((row.actor_kind, row.actor_id) != own for row in rows):
        raise NotPermitted("To undo more than your own changes you need the right to view the journal.")


def _find_wishes(rows: Sequence[ConfigurationAuditLog], keep_later: bool) -> tuple[list[_Wish], list[str], list[str]]:
    known = {model.entity_type: model for model in governed_models()}
    left_alone = [
        f"revision {row.revision}, {row.change_type.replace('_', ' ')} of {row.entity_name or row.entity_id}: "
        "rights and accounts are not rolled back."
        for row in rows
        if row.entity_type not in known or row.history_id is None
    ]
    wishes: list[_Wish] = []
    problems: list[str] = []
    for entity_type, model in known.items():
        mine = [row for row in rows if row.entity_type == entity_type and row.history_id is not None]
        for key, changed in _group(model, mine).items():
            later = _find_later(changed) if keep_later else None
            if later is not None:
                problems.append(
                    f"{changed[-1].entity_name} was changed again since, in revision {later}: undo that first, or "
                    f"roll back to revision {changed[0].revision - 1}."
                )
            else:
                wishes.append(_Wish(model, key, None, changed[0], changed[-1].entity_name))
    _find_former(wishes)
    return wishes, left_alone, problems


def _group(model: type[GovernedModel], rows: Sequence[ConfigurationAuditLog]) -> dict[Any, list[ConfigurationAuditLog]]:
    """The rows of each object by its key: a name may have been used by two objects, one after the other."""
    keys: dict[int, Any] = {}
    for part in _parts([row.history_id for row in rows]):
        keys.update(model.history.filter(pk__in=part).values_list("pk", model._meta.pk.attname))
    grouped: dict[Any, list[ConfigurationAuditLog]] = {}
    for row in rows:
        if row.history_id not in keys:
            raise RollbackRefused([f"The history row of revision {row.revision} is missing: run `verify_audit`."])
        grouped.setdefault(keys[row.history_id], []).append(row)
    return grouped


def _parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[index : index + PART] for index in range(0, len(values), PART))


def _find_former(wishes: Sequence[_Wish]) -> None:
    """For each wish the history row from before its first change; none for an object that was not there."""
    for model in {wish.model for wish in wishes}:
        changed = {wish.key: wish for wish in wishes if wish.model is model and wish.first.old_config is not None}
        for part in _parts(list(changed)):
            history = model.history.filter(**{f"{model._meta.pk.attname}__in": part})
            for row in history.order_by("version", "history_id"):
                wish = changed[getattr(row, model._meta.pk.attname)]
                # The row of a deletion says what was deleted, and carries the version of the change before.
                own = row.pk == wish.first.history_id and row.history_type == "-"
                if own or (row.version < wish.first.revision and row.history_type != "-"):
                    wish.history_row = row
        for wish in changed.values():
            if wish.history_row is None:
                raise RollbackRefused(
                    [f"The history before revision {wish.first.revision} is missing: run `verify_audit`."]
                )


def _select(target: Target, start: int) -> tuple[list[ConfigurationAuditLog], bool]:
    """The rows to take back, oldest first, and whether later changes of their objects stand against it."""
    rows = ConfigurationAuditLog.objects.order_by("revision").defer("user_agent", "warnings")
    if target.change is not None:
        row = rows.filter(revision=target.change).first()
        if row is None:
            raise ValidationError({"change": f"There is no revision {target.change}."}, code="does_not_exist")
        return [*_find_cascaded(row), row], True
    if target.batch is not None:
        found = list(rows.filter(batch=target.batch)[: MAX_CHANGES + 1])
        if not found:
            raise ValidationError({"batch": f"There is no batch {target.batch}."}, code="does_not_exist")
        return found, True
    if target.to_revision is None or not 0 <= target.to_revision <= start:
        raise ValidationError({"to_revision": f"This must be a revision from 0 to {start}."})
    _refuse_middle(target.to_revision)
    later = rows.filter(revision__gt=target.to_revision)
    if start - target.to_revision > MAX_CHANGES:
        raise ValidationError({"to_revision": f"At most {MAX_CHANGES:,} changes can be taken back at once."})
    return list(later), False


def _find_cascaded(row: ConfigurationAuditLog) -> list[ConfigurationAuditLog]:
    """What was deleted together with the object of `row` because it belonged to it."""
    model = next((item for item in governed_models() if item.entity_type == row.entity_type), None)
    if model is None or row.new_config is not None or row.history_id is None:
        return []
    deleted = model.history.filter(pk=row.history_id).first()
    found = []
    for relation in model._meta.related_objects:
        dependent = relation.related_model
        if isinstance(dependent, type) and issubclass(dependent, GovernedModel) and deleted is not None:
            value = getattr(deleted, relation.field.target_field.attname)
            same = ConfigurationAuditLog.objects.filter(batch=row.batch, entity_type=dependent.entity_type)
            found += [
                item
                for item in same.filter(new_config__isnull=True).order_by("revision")
                if item.old_config and item.old_config.get(relation.field.name) == value
            ]
    return found


def find_end(revision: int) -> int:
    """The last revision of the batch that `revision` belongs to."""
    row = ConfigurationAuditLog.objects.filter(revision=revision).only("batch").first()
    if row is None:
        return revision
    later = ConfigurationAuditLog.objects.filter(revision__gt=revision).order_by("revision")
    next_of_others = later.exclude(batch=row.batch).values_list("revision", flat=True).first()
    if next_of_others is not None:
        return next_of_others - 1
    return later.aggregate(last=models.Max("revision"))["last"] or revision


def _refuse_middle(revision: int) -> None:
    """A configuration as of a revision means the end of its batch: nobody has ever seen half of one."""
    last = find_end(revision)
    if last != revision:
        raise ValidationError(
            {"to_revision": f"Revision {revision} lies inside a change that ended with revision {last}: name that one."}
        )


def _find_later(rows: Sequence[ConfigurationAuditLog]) -> int | None:
    """The first revision after these rows that changed the same object and is not among them."""
    last = rows[-1]
    later = ConfigurationAuditLog.objects.filter(
        entity_type=last.entity_type, entity_id=last.entity_id, revision__gt=rows[0].revision
    ).exclude(revision__in=[row.revision for row in rows])
    return later.order_by("revision").values_list("revision", flat=True).first()


def _carry_out(wishes: Sequence[_Wish], user: Any, left_alone: list[str]) -> list[Step]:
    """Deletions first, from the top storey down, then what is put back, from the bottom up."""
    steps: list[Step] = []
    problems: list[str] = []
    lacking: list[str] = []
    order = governed_models()
    for model in reversed(order):
        gone = [wish for wish in wishes if wish.model is model and wish.history_row is None]
        steps += _delete(model, gone, user, left_alone, problems, lacking)
    for model in order:
        back = [wish for wish in wishes if wish.model is model and wish.history_row is not None]
        steps += _put_back(model, back, user, left_alone, problems, lacking)
    if lacking:
        more = f" and {len(lacking) - TOLD} more" if len(lacking) > TOLD else ""
        raise NotPermitted(" ".join(lacking[:TOLD]) + more)
    if problems:
        raise RollbackRefused(problems)
    return steps


def _delete(
    model: type[GovernedModel],
    wishes: Sequence[_Wish],
    user: Any,
    left_alone: list[str],
    problems: list[str],
    lacking: list[str],
) -> list[Step]:
    steps = []
    stored = {item.pk: item for item in model._base_manager.filter(pk__in=[wish.key for wish in wishes])}
    for wish in wishes:
        item = stored.get(wish.key)
        if item is None:
            continue
        if "delete" not in model._meta.default_permissions:
            left_alone.append(
                f"{model._meta.verbose_name} {item.entity_name} stays: it came with an installed package."
            )
            continue
        if not may(user, "delete", item):
            lacking.append(_refuse(model, user, "delete", item, item.entity_name))
            continue
        steps.append(Step("delete", model.entity_type, item.entity_id, item.entity_name, _list_fields(item, None)))
        try:
            item.delete()
        except ValidationError as error:
            problems += [f"{item.entity_name}: {message}" for message in error.messages]
    return steps


def _put_back(
    model: type[GovernedModel],
    wishes: Sequence[_Wish],
    user: Any,
    left_alone: list[str],
    problems: list[str],
    lacking: list[str],
) -> list[Step]:
    stored = {item.pk: item for item in model._base_manager.filter(pk__in=[wish.key for wish in wishes])}
    steps, objects = [], []
    for wish in wishes:
        present = stored.get(wish.key)
        item = _restore(model, wish.history_row, present)
        if item is None:
            left_alone.append(f"{model._meta.verbose_name} {wish.name}: such objects do not come back by a rollback.")
            continue
        if present is not None and is_same(model, item, present):
            continue
        if present is None and "add" not in model._meta.default_permissions:
            left_alone.append(f"{model._meta.verbose_name} {wish.name} stays away: it comes with an installed package.")
            continue
        step = Step(
            "create" if present is None else "update",
            model.entity_type,
            item.entity_id,
            _name(item, wish),
            _list_fields(present, item),
        )
        lacking += _ask_rights(model, user, present, step)
        steps.append(step)
        objects.append(item)
    if objects and not problems and not lacking:
        try:
            save_all(objects)
        except InvalidEntries as error:
            problems += [
                f"{steps[index].entity_name}{pointer}: {message}"
                for index, invalid in sorted(error.errors.items())
                for pointer, message in list_errors(invalid)
            ]
    return steps


def _restore(
    model: type[GovernedModel], history_row: models.Model, present: GovernedModel | None
) -> GovernedModel | None:
    """The object as `history_row` says; None for a kind that never comes back."""
    if model.restore == "never":
        return None
    item = model()
    if present is not None:
        for stored in model._meta.concrete_fields:
            setattr(item, stored.attname, getattr(present, stored.attname))
        item._state.adding = False
    for restored in content_fields(model):
        setattr(item, restored.attname, getattr(history_row, restored.attname))
    setattr(item, model._meta.pk.attname, getattr(history_row, model._meta.pk.attname))
    if present is None:
        item.created_at = history_row.created_at
    if model.restore == "propose":
        item.become_proposal()
    return item


def _name(item: GovernedModel, wish: _Wish) -> str:
    try:
        return item.entity_name
    except models.ObjectDoesNotExist:  # what it belongs to is put back in the same plan
        return wish.name


def _ask_rights(model: type[GovernedModel], user: Any, present: GovernedModel | None, step: Step) -> Iterable[str]:
    if present is None:
        wanted: Iterable[str] = ["add"]
    else:
        wanted = dict.fromkeys(model.action_for(present, [name]) for name in step.fields or ["*"])
    return [
        _refuse(model, user, action, present, step.entity_name)
        for action in wanted
        if not may(user, action, present or model)
    ]


def _refuse(model: type[GovernedModel], user: Any, action: str, present: GovernedModel | None, name: str) -> str:
    """A sentence that does not name what the user may not know of."""
    if may(user, "view", present or model):
        return f"You may not {action} the {model._meta.verbose_name} {name}."
    return f"A {model._meta.verbose_name} that you may not see stands against it."


def _list_fields(old: GovernedModel | None, new: GovernedModel | None) -> dict[str, tuple[Any, Any]]:
    before = old.document() if old is not None else {}
    after = new.document() if new is not None else {}
    names = dict.fromkeys((*before, *after))
    return {
        name: (before.get(name), after.get(name))
        for name in names
        if canonical(before.get(name)) != canonical(after.get(name))
    }


def describe_target(target: Target) -> str:
    """What is undone, in words."""
    if target.change is not None:
        return f"revision {target.change}"
    if target.batch is not None:
        return f"batch {target.batch}"
    return f"everything after revision {target.to_revision}"
