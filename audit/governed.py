"""What is a governed thing, and how is it written? The base of every configuration model, and the set-based write.

A governed object changes only inside a change set, whichever door it comes through: `save()` and `delete()` open one
themselves. Each change leaves a history row (exact) and a journal row (masked); a save that changes nothing leaves
none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self, TypeVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models.deletion import ProtectedError
from django.utils import timezone

from audit import encryption
from audit.changes import ChangeSet, change_set, current_change_set
from audit.documents import digest, find_unstorable, is_same, read_content
from audit.errors import InvalidEntries, StaleVersion, StateConflict, UngovernedWrite
from audit.journal import BATCH_SIZE, Change

ACTIONS = {"+": "created", "~": "updated", "-": "deleted"}


class GovernedQuerySet(models.QuerySet):
    """A queryset without side doors: set-based writes are refused, `delete` goes through one change set."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UngovernedWrite(
            f"{self.model._meta.verbose_name_plural} are governed: change them with save() and delete(), or many at "
            "once with audit.governed.save_all(), so that the change is validated and journalled."
        )

    update = bulk_create = bulk_update = _raw_delete = _refuse
    aupdate = abulk_create = abulk_update = _refuse

    def get_or_create(self, *args: Any, **kwargs: Any) -> tuple[Any, bool]:
        with change_set():
            return super().get_or_create(*args, **kwargs)

    def update_or_create(self, *args: Any, **kwargs: Any) -> tuple[Any, bool]:
        with change_set():
            return super().update_or_create(*args, **kwargs)

    def select_for_update(self, *args: Any, **kwargs: Any) -> Self:
        # A row locked before the change set's lock is how two writers come to wait for each other.
        if current_change_set() is None:
            raise UngovernedWrite("Open a change_set() first: its lock is taken before any row's.")
        return super().select_for_update(*args, **kwargs)

    def delete(self) -> tuple[int, dict[str, int]]:
        with change_set():
            return _delete_protected(super().delete)

    delete.alters_data = True
    delete.queryset_only = True


class GovernedModel(models.Model):
    """Base of all configuration models.

    `entity_type` and `noun` name it in the journal (`rule_created` of an `analysis_rule`); `natural_key_fields`
    identify it; `section` and `exchange_fields` say where and what of it stands in exported documents; `restore` says
    how import and rollback may bring it back: `exact`, `propose` or `never`.
    """

    entity_type: ClassVar[str]
    noun: ClassVar[str]
    natural_key_fields: ClassVar[tuple[str, ...]] = ("name",)
    fixed_fields: ClassVar[tuple[str, ...]] = ("name",)  # other objects and documents refer to them
    section: ClassVar[str | None] = None  # key of its list in exported documents; None: not exported
    exchange_fields: ClassVar[tuple[str, ...]] = ()
    restore: ClassVar[str] = "exact"

    version = models.BigIntegerField(default=0, editable=False, help_text="Revision of the last change.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = GovernedQuerySet.as_manager()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    def __str__(self) -> str:
        return self.entity_name

    @property
    def entity_id(self) -> str:
        """The identifier that routes and journal use for this object."""
        return str(self.pk)

    @property
    def entity_name(self) -> str:
        """How people call this object."""
        return str(getattr(self, self.natural_key_fields[0]))

    @classmethod
    def action_for(cls, stored: Self, changed: Collection[str]) -> str:
        """The action that a user must be allowed to change the fields `changed` of `stored`."""
        return "change"

    @classmethod
    def conceal(cls, content: dict[str, Any]) -> dict[str, Any]:
        """`content` as the journal keeps it: secrets masked, with marks that tell one from another.

        Envelopes are masked here; models replace what else of theirs is secret.
        """
        return encryption.mark(content)

    @classmethod
    def mask(cls, content: dict[str, Any]) -> dict[str, Any]:
        """`content` as it may be shown and exported: a secret is `{"set": true}`."""
        return encryption.hide(cls.conceal(content))

    def document(self) -> dict[str, Any]:
        """The content of this object as the journal keeps it."""
        return self.conceal(read_content(type(self), self))

    def shown(self) -> dict[str, Any]:
        """The content of this object as it may be shown."""
        return self.mask(read_content(type(self), self))

    def keep_hidden(self, stored: Self) -> None:
        """Take the secrets that a document did not say from `stored`: models that have any do it here."""

    @classmethod
    def name_change(cls, action: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
        """The `change_type` of a change, such as `rule_created`."""
        return f"{cls.noun}_{action}"

    def clean_fields(self, exclude: Iterable[str] | None = None) -> None:
        super().clean_fields(exclude=exclude)
        problems = {}
        for name, value in read_content(type(self), self).items():
            if name not in (exclude or ()) and (problem := find_unstorable(value)) is not None:
                problems[name] = problem
        if problems:
            raise ValidationError(problems)

    def save(
        self,
        force_insert: bool = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Validate and store this object in a change set, unless nothing differs from what is stored.

        With `update_fields` the other fields are first set to what is stored, so that history says what is in the row.
        Raises `ValidationError`, `StaleVersion` if the row changed since this object was read, or `Busy`.
        """
        with change_set() as changes:
            stored = self._load_stored()
            if stored is not None and update_fields is not None:
                self._keep_only(set(update_fields), stored)
            _check_fixed(self, stored)
            # Constraints are judged by clean() in words and by the database in fact: Django would ask one query each.
            self.full_clean(validate_constraints=False)
            if stored is not None and is_same(type(self), self, stored):
                self.version, self.updated_at = stored.version, stored.updated_at
                return
            self._stored_document = stored.document() if stored is not None else None
            self.version, self.updated_at = changes.next_revision(), changes.started_at
            if stored is None:
                self.created_at = changes.started_at
            try:
                with transaction.mark_for_rollback_on_error(using="default"):
                    super().save(force_insert=stored is None, force_update=stored is not None)
                    if changes.revision != self.version:
                        raise UngovernedWrite("History was switched off for this object, so it may not be saved.")
            except IntegrityError as error:
                raise explain_integrity(type(self), error) from error
            finally:
                del self._stored_document

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete this object and what cascades from it in a change set. `StateConflict` names what forbids it."""
        with change_set():
            stored = self._load_stored()
            if stored is None:
                raise StateConflict(f"{self.entity_name} does not exist any more.", code="gone")
            result = _delete_protected(super(GovernedModel, stored).delete)
        self.pk = None
        return result

    def _load_stored(self) -> Self | None:
        """The row as it is now, under the lock. Raises if this object was read before somebody else changed it."""
        if self._state.adding or self.pk is None:
            return None
        stored = type(self)._base_manager.filter(pk=self.pk).first()
        if stored is None:
            raise StateConflict(f"{self.entity_name} was deleted by somebody else.", code="gone")
        if stored.version != self.version:
            raise StaleVersion(f"{self._meta.verbose_name} {self.entity_name}", self.version, stored.version)
        return stored

    def _keep_only(self, names: set[str], stored: models.Model) -> None:
        for field in self._meta.concrete_fields:
            if field.name not in names and field.attname not in names:
                setattr(self, field.attname, getattr(stored, field.attname))


Governed = TypeVar("Governed", bound=GovernedModel)


def governed_models() -> list[type[GovernedModel]]:
    """Every governed model, lowest storey first."""
    found: list[type[GovernedModel]] = []

    def collect(parent: type[GovernedModel]) -> None:
        for child in parent.__subclasses__():
            # History models and abstract bases are not governed things themselves.
            if not child._meta.abstract and child._meta.apps.is_installed(child._meta.app_config.name):
                found.append(child)
            collect(child)

    collect(GovernedModel)
    return found


def record(instance: GovernedModel, history_row: models.Model, changes: ChangeSet) -> None:
    """Add the change that `history_row` tells of to the change set."""
    model, action = type(instance), ACTIONS[history_row.history_type]
    present = instance.document()
    if action == "deleted":
        old, new = present, None
    else:
        old, new = getattr(instance, "_stored_document", None), present
    changes.add(_describe(model, instance, action, old, new, history_row, changes.next_revision()))


def _describe(
    model: type[GovernedModel],
    instance: GovernedModel,
    action: str,
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
    history_row: models.Model,
    revision: int,
) -> Change:
    return Change(
        revision=revision,
        action=action,
        change_type=model.name_change(action, old, new),
        entity_type=model.entity_type,
        entity_id=instance.entity_id,
        entity_name=instance.entity_name,
        old=old,
        new=new,
        instance=instance,
        history_id=history_row.pk,
        history_digest=digest_history(model, history_row),
    )


def digest_history(model: type[GovernedModel], history_row: models.Model) -> str:
    """SHA-256 of what a history row says of the object, masked: kept in the journal to tell an altered row."""
    content = model.conceal(read_content(model, history_row))
    return digest([history_row.history_type, history_row.version, content])


def save_all(objects: Sequence[Governed]) -> list[Governed]:
    """Store many objects of one model, new and changed, in one change set; return those that differed.

    Rows, history and journal are one statement each. Validates like `save()` with a constant number of queries. Raises
    `InvalidEntries` with every invalid entry by its index, or `StaleVersion`; nothing is written then.
    """
    if not objects:
        return []
    model = type(objects[0])
    with change_set() as changes:
        known = [item.pk for item in objects if not item._state.adding]
        stored = {row.pk: row for row in model._base_manager.filter(pk__in=known)} if known else {}
        _clean_all(model, objects, stored)
        differing = [item for item in objects if item.pk not in stored or not is_same(model, item, stored[item.pk])]
        first = changes.next_revision()
        for number, item in enumerate(differing, start=first):
            item.version, item.updated_at = number, changes.started_at
            if item.pk not in stored:
                item.created_at = changes.started_at
        try:
            with transaction.mark_for_rollback_on_error(using="default"):
                _write_rows(model, differing, stored)
                _write_history(model, differing, stored, changes)
        except IntegrityError as error:
            raise explain_integrity(model, error) from error
        return differing


def _write_rows(model: type[Governed], differing: Sequence[Governed], stored: Mapping[Any, Governed]) -> None:
    rows = models.QuerySet(model)
    new = [item for item in differing if item._state.adding]
    if new:
        rows.bulk_create(new, batch_size=BATCH_SIZE)
    changed = [item for item in differing if item.pk in stored]
    if changed:
        # An upsert of rows that are known to exist, under the lock: one statement, and no CASE for each row and field.
        names = [field.name for field in model._meta.concrete_fields if not field.primary_key]
        rows.bulk_create(
            changed,
            batch_size=BATCH_SIZE,
            update_conflicts=True,
            update_fields=names,
            unique_fields=[model._meta.pk.name],
        )


def _write_history(
    model: type[Governed], differing: Sequence[Governed], stored: Mapping[Any, Governed], changes: ChangeSet
) -> None:
    history_model, user = model.history.model, changes.origin.acting_user()
    rows = []
    for item in differing:
        row = history_model(
            history_date=changes.started_at,
            history_type="~" if item.pk in stored else "+",
            history_user_id=user.pk if user is not None else None,
            history_change_reason=changes.reason or None,
        )
        for field in model._meta.concrete_fields:
            setattr(row, field.attname, getattr(item, field.attname))
        rows.append(row)
    history_model.objects.bulk_create(rows, batch_size=BATCH_SIZE)
    for item, row in zip(differing, rows, strict=True):
        before = stored.get(item.pk)
        old = before.document() if before is not None else None
        action = ACTIONS[row.history_type]
        changes.add(_describe(model, item, action, old, item.document(), row, item.version))


def _clean_all(model: type[Governed], objects: Sequence[Governed], stored: Mapping[Any, Governed]) -> None:
    relations = [field for field in model._meta.concrete_fields if field.is_relation]
    existing = {field: _existing_keys(field, objects) for field in relations}
    errors: dict[int, ValidationError] = {}
    for index, item in enumerate(objects):
        before = None
        if not item._state.adding:
            before = stored.get(item.pk)
            if before is None:
                errors[index] = ValidationError(f"{item.entity_name} was deleted by somebody else.", code="gone")
                continue
            if before.version != item.version:
                raise StaleVersion(f"{model._meta.verbose_name} {item.entity_name}", item.version, before.version)
        problems: list[ValidationError] = []
        for step in (
            lambda item=item, before=before: _check_fixed(item, before),
            lambda item=item: item.clean_fields(exclude={field.name for field in relations}),
            lambda item=item: _check_relations(item, existing),
            item.clean,
        ):
            try:
                step()
            except ValidationError as error:
                problems.append(error)
        if problems:
            errors[index] = merge_errors(problems)
    for index, error in _find_duplicates(model, objects).items():
        errors[index] = merge_errors([errors[index], error]) if index in errors else error
    if errors:
        raise InvalidEntries(errors)


def merge_errors(problems: Sequence[ValidationError]) -> ValidationError:
    """One error that says all of `problems`."""
    merged: dict[str, list[Any]] = {}
    for problem in problems:
        merged = problem.update_error_dict(merged)
    return ValidationError(merged)


def _existing_keys(field: models.ForeignKey, objects: Sequence[models.Model]) -> set[Any]:
    wanted = {getattr(item, field.attname) for item in objects} - {None}
    target = field.target_field.name
    return set(field.related_model._base_manager.filter(**{f"{target}__in": wanted}).values_list(target, flat=True))


def _check_relations(item: models.Model, existing: Mapping[models.ForeignKey, set[Any]]) -> None:
    problems = {}
    for field, keys in existing.items():
        value = getattr(item, field.attname)
        if value is None and not field.null:
            problems[field.name] = "This field cannot be null."
        elif value is not None and value not in keys:
            problems[field.name] = f"There is no {field.related_model._meta.verbose_name} {value!r}."
    if problems:
        raise ValidationError(problems)


def _find_duplicates(model: type[Governed], objects: Sequence[Governed]) -> dict[int, ValidationError]:
    """Entries whose unique fields collide with each other or with rows that are not among them."""
    errors: dict[int, ValidationError] = {}
    ours = {item.pk for item in objects if not item._state.adding}
    for field in model._meta.concrete_fields:
        if not field.unique or field.primary_key:
            continue
        first: dict[Any, int] = {}
        values = [getattr(item, field.attname) for item in objects]
        taken = model._base_manager.filter(**{f"{field.name}__in": values}).exclude(pk__in=ours)
        outside = set(taken.values_list(field.name, flat=True))
        for index, value in enumerate(values):
            if value in outside or value in first:
                errors[index] = ValidationError(
                    {
                        field.name: ValidationError(
                            f"There already is a {model._meta.verbose_name} {value!r}.", code="unique"
                        )
                    }
                )
            first.setdefault(value, index)
    return errors


def _check_fixed(item: GovernedModel, stored: GovernedModel | None) -> None:
    if stored is None:
        return
    for name in item.fixed_fields:
        field = item._meta.get_field(name)
        if getattr(item, field.attname) != getattr(stored, field.attname):
            raise ValidationError(
                {name: f"The {field.verbose_name} of a {item._meta.verbose_name} is fixed; create a new one."}
            )


def _delete_protected(delete: Any) -> tuple[int, dict[str, int]]:
    try:
        return delete()
    except ProtectedError as error:
        dependents = sorted(error.protected_objects, key=str)
        names = ", ".join(str(item) for item in dependents[:5])
        more = f" and {len(dependents) - 5} more" if len(dependents) > 5 else ""
        raise StateConflict(f"Cannot delete: {names}{more} still depend on it. Change or delete them first.") from error


def explain_integrity(model: type[models.Model], error: IntegrityError) -> ValidationError:
    """What a database constraint says, in the words of the model's constraint."""
    text = str(error)
    for constraint in model._meta.constraints:
        if constraint.name in text:
            return ValidationError(
                {NON_FIELD_ERRORS: ValidationError(constraint.violation_error_message, code="constraint")}
            )
    if "unique" in text.lower():
        return ValidationError(f"There already is such a {model._meta.verbose_name}.", code="unique")
    return ValidationError("The database refused this: it contradicts another row.", code="constraint")
