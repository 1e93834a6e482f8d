"""How do secrets come under another key? Every envelope, in rows and in history, is written anew; its mark stays.

Nothing else changes: no version, no journal row, no hash. A batch is one transaction under the lock of changes, so that
nobody's change is lost; what was done stays done when it is broken off, and is passed over the next time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models.functions import Cast

from audit import encryption
from audit.changes import change_set
from audit.encryption import Unreadable, find_envelopes
from audit.governed import GovernedModel
from audit.models import ConfigurationAuditLog

BATCH = 200  # rows rewritten in one transaction: how long others wait
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Lost:
    """A secret that cannot be decrypted."""

    holder: str
    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.holder}, {self.place}: {self.problem}"


@dataclass
class Rotation:
    """What was done, or with a plan would be."""

    rows: int = 0
    """Rows that hold secrets."""
    rewritten: int = 0
    """Rows of them that came under the first key."""
    keys: Counter[str] = field(default_factory=Counter)
    """How many secrets each key encrypts afterwards, by its id."""
    lost: list[Lost] = field(default_factory=list)


def rotate(*, dry_run: bool = False, progress: Progress | None = None) -> Rotation:
    """Bring every secret under the first key; those that cannot be decrypted stay as they are. Raises `WrongKeys`."""
    report = Rotation()
    holders = [(model, keys) for model in list_holders() if (keys := _find_rows(model))]
    total, done = sum(len(keys) for _, keys in holders), 0
    for model, keys in holders:
        for part in (keys[start : start + BATCH] for start in range(0, len(keys), BATCH)):
            _rotate_batch(model, part, report, dry_run)
            done += len(part)
            if progress is not None:
                progress(done, total)
    return report


def list_lost() -> list[Lost]:
    """The secrets of present objects that cannot be decrypted now."""
    found = []
    for model in list_holders():
        if not issubclass(model, GovernedModel):
            continue
        for row in models.QuerySet(model).filter(pk__in=_find_rows(model)):
            found += [
                Lost(_name(model, row), place, str(problem))
                for name in _json_fields(model)
                for place, problem in _read_all(getattr(row, name), f"/{name}")
                if problem is not None
            ]
    return found


def list_holders() -> list[type[models.Model]]:
    """The models that may hold envelopes: all with JSON but the journal, which has marks in their place."""
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy and model is not ConfigurationAuditLog and _json_fields(model)
    ]


def _json_fields(model: type[models.Model]) -> list[str]:
    return [item.name for item in model._meta.concrete_fields if isinstance(item, models.JSONField)]


def _find_rows(model: type[models.Model]) -> list[Any]:
    """The keys of the rows with envelopes."""
    rows = models.QuerySet(model)
    wanted = models.Q()
    for name in _json_fields(model):
        rows = rows.annotate(**{f"{name}_as_text": Cast(name, models.TextField())})
        wanted |= models.Q(**{f"{name}_as_text__contains": encryption.FIELD})
    return list(rows.filter(wanted).order_by("pk").values_list("pk", flat=True))


def _rotate_batch(model: type[models.Model], keys: Sequence[Any], report: Rotation, dry_run: bool) -> None:
    with change_set():  # its lock: nobody saves what is rewritten here
        for row in models.QuerySet(model).filter(pk__in=keys).order_by("pk"):
            changed = _rewrap_row(model, row, report)
            report.rows += 1
            report.rewritten += bool(changed)
            if changed and not dry_run:
                models.QuerySet(model).filter(pk=row.pk).update(**changed)


def _rewrap_row(model: type[models.Model], row: models.Model, report: Rotation) -> dict[str, Any]:
    """The fields of a row that change."""
    changed = {}
    for name in _json_fields(model):
        before = getattr(row, name)
        after = encryption.replace(
            before, lambda envelope, place, name=name: _rewrap(envelope, f"/{name}{place}", model, row, report)
        )
        if after != before:
            changed[name] = after
    return changed


def _rewrap(
    envelope: dict[str, str], place: str, model: type[models.Model], row: models.Model, report: Rotation
) -> dict[str, str]:
    try:
        envelope = encryption.rewrap(envelope)
    except Unreadable as error:
        report.lost.append(Lost(_name(model, row), place.strip("/"), str(error)))
    report.keys[encryption.key_id(envelope)] += 1
    return envelope


def _read_all(document: Any, path: str) -> Iterator[tuple[str, Unreadable | None]]:
    for place, envelope in find_envelopes(document, path):
        try:
            encryption.unseal(envelope)
            yield place.strip("/"), None
        except Unreadable as error:
            yield place.strip("/"), error


def _name(model: type[models.Model], row: models.Model) -> str:
    """Which row it is, in words: history rows say of what."""
    names = [str(getattr(row, name)) for name in ("name", "rule_name") if getattr(row, name, None)]
    return f"{model._meta.verbose_name} {names[0] if names else row.pk}"
