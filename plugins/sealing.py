"""How do secrets get into stored JSON? As envelopes, made when they are set and kept while they stay the same.

What may be sent for a secret: `{"set": true}` or nothing keeps it, null removes it, anything else replaces it. An entry
of a list keeps its secrets while everything else in it stays as it is, also when it moves; once it says something else,
they have to be sent again, because they may belong to the entry that stood there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from audit import encryption
from audit.documents import canonical, plain
from audit.encryption import Unreadable, is_envelope, is_shown
from audit.errors import FieldError
from audit.keys import WrongKeys
from plugins import masking

_ABSENT = object()
_SEALED = "_sealed_marks"  # of envelopes that an object in memory has got and that are not stored yet
_SETTLED = "_settled_secrets"  # fields of an object in memory whose secrets are settled, and how
Steps = tuple[str, ...]


def keep(document: Any, pointers: Sequence[str], stored: Any, *, null_removes: bool = True) -> tuple[Any, list[str]]:
    """`document` with the envelopes of `stored` for secrets that stay, and the places where nothing could stay."""
    keeper = _Keeper(null_removes)
    kept = keeper.keep(document, stored, [masking.split(pointer) for pointer in pointers], "")
    return kept, keeper.missing


class _Keeper:
    """Walks a new document and the stored one side by side."""

    def __init__(self, null_removes: bool) -> None:
        self.missing: list[str] = []
        self._null_removes = null_removes

    def keep(self, value: Any, stored: Any, paths: Sequence[Steps], place: str) -> Any:
        """What `value` becomes. `paths` lead from here to secrets; `_ABSENT` stands for what is not there."""
        if not paths or is_envelope(value) and () not in paths:
            return value
        if () in paths:
            return self._keep_secret(value, stored, place)
        if value is _ABSENT:
            below = self._keep_entries({}, stored, paths, place) if isinstance(stored, dict) else {}
            return below or _ABSENT
        if isinstance(value, dict):
            return self._keep_entries(value, stored, paths, place)
        if isinstance(value, list):
            return self._keep_items(value, stored if isinstance(stored, list) else [], paths, place)
        return value

    def _keep_entries(self, value: dict[str, Any], stored: Any, paths: Sequence[Steps], place: str) -> dict[str, Any]:
        before = stored if isinstance(stored, dict) else {}
        named = [path[0] for path in paths if path[0] != "*"]
        kept = dict(value)
        for name in dict.fromkeys((*value, *named)):
            rest = _below(paths, name)
            item = self.keep(value.get(name, _ABSENT), before.get(name, _ABSENT), rest, f"{place}/{_escape(name)}")
            if item is _ABSENT:
                kept.pop(name, None)
            else:
                kept[name] = item
        return kept

    def _keep_items(self, value: list[Any], stored: list[Any], paths: Sequence[Steps], place: str) -> list[Any]:
        kept = []
        for index, item in enumerate(value):
            rest = _below(paths, str(index))
            found = self.keep(item, _find_twin(index, value, stored, rest), rest, f"{place}/{index}")
            kept += [] if found is _ABSENT else [found]
        return kept

    def _keep_secret(self, value: Any, stored: Any, place: str) -> Any:
        there = stored is not _ABSENT and stored not in masking.EMPTY
        if value is _ABSENT:
            return stored if there else _ABSENT
        if value is None:
            return _ABSENT if self._null_removes else None
        if is_shown(value):
            if not there:
                self.missing.append(place)
            return stored if there else value
        return stored if there and _is_same(value, stored) else value


def _below(paths: Sequence[Steps], name: str) -> list[Steps]:
    return [path[1:] for path in paths if path and path[0] in (name, "*")]


def _find_twin(index: int, items: list[Any], stored: list[Any], paths: Sequence[Steps]) -> Any:
    """The stored item that the one at `index` is, but for its secrets; `_ABSENT` if that is not certain."""
    shape = _shape(items[index], paths)
    shapes = [_shape(item, paths) for item in stored]
    if len(items) == len(stored) and shapes[index] == shape:
        return stored[index]
    return stored[shapes.index(shape)] if shapes.count(shape) == 1 else _ABSENT


def _shape(item: Any, paths: Sequence[Steps]) -> str:
    pointers = ["".join(f"/{_escape(step)}" for step in path) for path in paths]
    try:
        return canonical(encryption.hide(masking.mask(plain(item), pointers)))
    except (TypeError, ValueError):
        return ""


def _is_same(value: Any, stored: Any) -> bool:
    if is_envelope(value):
        return is_envelope(stored) and value["mark"] == stored["mark"]
    try:
        return canonical(value) == canonical(encryption.unseal(stored) if is_envelope(stored) else stored)
    except (Unreadable, TypeError, ValueError):
        return False


def _escape(step: str) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")


Check = Callable[[Any], None]
"""Raises `ValidationError` unless what it is given, secrets in clear, is acceptable."""


def protect(
    instance: models.Model,
    field: str,
    pointers: Sequence[str],
    check: Check,
    *,
    stored: Callable[[], Any] | None = None,
    null_removes: bool = True,
) -> None:
    """Check the JSON in `field` of `instance`, and leave it with envelopes for all that is secret.

    `pointers` lead to its secrets, `stored` gives what they are kept from (default: the row). Errors of `check` lose
    the secrets that they quote. Raises `ValidationError`.
    """
    document = getattr(instance, field)
    if not pointers and next(encryption.find_envelopes(document), None) is None:
        check(document)
        return
    before = (stored or (lambda: read_stored(instance, field)))() or {}
    missing = keep_in(instance, field, pointers, before, null_removes=null_removes)
    document = getattr(instance, field)
    if missing:
        problem = "There is no stored value of this entry that could stay as it is: send one."
        raise _refuse(field, dict.fromkeys(missing, problem))
    document = _take_own(instance, field, document, before)
    clear, lost = encryption.reveal_readable(document)
    _check_quietly(check, clear, field, [*pointers, *(place for place, _ in encryption.find_envelopes(document))], lost)
    _settle(instance, field, _seal(instance, field, document, pointers))


def keep_in(
    instance: models.Model, field: str, pointers: Sequence[str], stored: Any, *, null_removes: bool = True
) -> list[str]:
    """Let the secrets in `field` stay that stay; return the places where nothing could.

    Once is enough: a form validates before it saves, and what null has removed must not come back the second time.
    """
    document = getattr(instance, field)
    settled = getattr(instance, _SETTLED, {})
    if field in settled and settled[field] == document:
        return []
    kept, missing = keep(document, pointers, stored, null_removes=null_removes)
    if missing:
        setattr(instance, field, kept)
    else:
        _settle(instance, field, kept)
    return missing


def _settle(instance: models.Model, field: str, document: Any) -> None:
    setattr(instance, field, document)
    setattr(instance, _SETTLED, {**getattr(instance, _SETTLED, {}), field: document})


def read_stored(instance: models.Model, field: str) -> Any:
    """What the row of `instance` holds in `field`; None if there is none."""
    rows = type(instance)._base_manager.filter(pk=instance.pk) if instance.pk is not None else ()
    return rows.values_list(field, flat=True).first() if rows else None


def _refuse(field: str, problems: Mapping[str, str]) -> ValidationError:
    return ValidationError(
        {field: [FieldError(message, pointer=place.strip("/")) for place, message in problems.items()]}
    )


def _take_own(instance: models.Model, field: str, document: Any, before: Any) -> Any:
    """`document` with the stored envelopes for those of the same marks. Others must be readable, and its own."""
    known = {envelope["mark"]: envelope for _, envelope in encryption.find_envelopes(before)}
    fresh = getattr(instance, _SEALED, set())
    problems = {}
    for place, envelope in encryption.find_envelopes(document):
        if envelope["mark"] in known:
            continue
        try:
            encryption.unseal(envelope)
        except Unreadable as error:
            problems[place] = str(error)
            continue
        if envelope["mark"] not in fresh and not _was_own(instance, field, envelope["mark"]):
            problems[place] = "This is the ciphertext of something else: send the value itself."
    if problems:
        raise _refuse(field, problems)
    return encryption.replace(document, lambda envelope, _: known.get(envelope["mark"], envelope))


def _was_own(instance: models.Model, field: str, wanted: str) -> bool:
    """Whether the history of the object knows a secret of this mark: a rollback brings it back."""
    if instance.pk is None:
        return False
    rows = type(instance).history.filter(**{type(instance)._meta.pk.attname: instance.pk})
    return any(
        envelope["mark"] == wanted
        for found in rows.values_list(field, flat=True)
        for _, envelope in encryption.find_envelopes(found)
    )


def _check_quietly(
    check: Check, clear: Any, field: str, pointers: Sequence[str], lost: Mapping[str, Unreadable]
) -> None:
    """Errors about secrets that are lost are not new: they must not stand against another change."""
    try:
        check(clear)
    except ValidationError as error:
        secrets = masking.list_texts(clear, pointers)
        lost_here = {place.strip("/") for place in lost}
        found = {
            name: [
                _quieten(item, secrets)
                for item in items
                if not (name == field and isinstance(item, FieldError) and item.pointer in lost_here)
            ]
            for name, items in _list_errors(error)
        }
        if any(found.values()):
            raise ValidationError({name: items for name, items in found.items() if items}) from None


def redact_errors(error: ValidationError, secrets: Sequence[str]) -> ValidationError:
    """`error`, an error of fields, without any of `secrets`."""
    return ValidationError({name: [_quieten(item, secrets) for item in items] for name, items in _list_errors(error)})


def _list_errors(error: ValidationError) -> Iterable[tuple[str, list[ValidationError]]]:
    return error.error_dict.items() if hasattr(error, "error_dict") else [("__all__", error.error_list)]


def _quieten(error: ValidationError, secrets: Sequence[str]) -> ValidationError:
    text = masking.redact(" ".join(error.messages), secrets)
    if isinstance(error, FieldError):
        return FieldError(text, pointer=masking.redact(error.pointer, secrets), code=error.code or "invalid")
    return ValidationError(text, code=error.code)


def _seal(instance: models.Model, field: str, document: Any, pointers: Sequence[str]) -> Any:
    fresh = set(getattr(instance, _SEALED, ()))

    def seal(value: Any) -> Any:
        if value in masking.EMPTY or is_envelope(value):
            return value
        envelope = encryption.seal(plain(value))
        fresh.add(envelope["mark"])
        return envelope

    try:
        sealed = masking.replace(document, pointers, seal)
    except WrongKeys as error:
        raise ValidationError({field: f"Secrets cannot be encrypted. {error}"}) from error
    setattr(instance, _SEALED, fresh)
    return sealed
