"""How is everything kept and brought back? One compressed file of rows, the same for both databases.

The file holds every table of the installed apps but sessions, failed sign-ins, the queue of tasks and the places of
watchers: journal and history, accounts with their hashed passwords, reviews. Secrets are in it as they are stored. The
keys of the
installation are not.

A restore replaces what is stored, in one transaction: journal triggers are lifted for it and put back, the result is
verified before it is committed, and a new epoch begins, so that no client resumes in a history that is not its own.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management.color import no_style
from django.db import connection, models, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import DatabaseError
from django.utils import timezone

from audit import triggers
from audit.documents import plain
from audit.governed import governed_models
from audit.models import Revision
from audit.verification import verify

FORMAT = "code-review-governance-backup/1"
CHUNK = 1000  # rows read and written at once
SQLITE_VALUES = 30_000  # bound values of one statement
LEFT_OUT = frozenset(
    {
        *("sessions.Session", "django_tasks_database.DBTaskResult", "audit.WatchCursor"),
        # Who guessed passwords in the last minutes.
        *("axes.AccessAttempt", "axes.AccessAttemptExpiration", "axes.AccessFailureLog", "axes.AccessLog"),
    }
)
Progress = Callable[[int, int], None]


class BackupError(Exception):
    """A file that is no whole backup, or that does not fit this installation. Nothing was written."""


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself."""

    revision: int
    epoch: str
    rows: int
    made_at: str
    database: str


def backed_up_models() -> list[type[models.Model]]:
    """Every table that is kept, the tables of many-to-many relations among them."""
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy and model._meta.label not in LEFT_OUT
    ]


def write_backup(path: Path, *, progress: Progress | None = None) -> Manifest:
    """Write everything to `path`, which only its owner may read, all of one moment. Raises `OSError`."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with (
            os.fdopen(descriptor, "wb") as raw,
            gzip.open(raw, "wt", compresslevel=6, encoding="utf-8") as file,
            _one_moment(),
        ):
            manifest = _write(file, progress)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return manifest


@contextmanager
def _one_moment() -> Iterator[None]:
    """A transaction that sees one state of the database, whatever is committed meanwhile."""
    if connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
        return
    # Django's own transactions take the writers' lock here; a plain one reads beside them.
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def _write(file: Any, progress: Progress | None) -> Manifest:
    digest = hashlib.sha256()

    def put(value: Any) -> None:
        line = json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
        digest.update(line.encode())
        file.write(line)

    tables = {model: models.QuerySet(model).count() for model in backed_up_models()}
    epoch, revision = models.QuerySet(Revision).values_list("epoch", "value").get(pk=1)
    manifest = Manifest(revision, str(epoch), sum(tables.values()), timezone.now().isoformat(), connection.vendor)
    put({"format": FORMAT, **manifest.__dict__, "migrations": _list_migrations()})
    done = 0
    for model, count in tables.items():
        names = [field.attname for field in model._meta.concrete_fields]
        put({"table": model._meta.label, "fields": names, "rows": count})
        rows = models.QuerySet(model).order_by("pk").values_list(*names)
        for row in rows.iterator(chunk_size=CHUNK):
            put([_spell(value) for value in row])
            done += 1
            if progress is not None and done % CHUNK == 0:
                progress(done, manifest.rows)
    put({"end": manifest.rows})
    file.write(json.dumps({"sha256": digest.hexdigest()}) + "\n")
    return manifest


def _spell(value: Any) -> Any:
    """A value of a column as JSON. JSON columns stay what they are, their numbers as both databases keep them."""
    if isinstance(value, bytes | memoryview):
        return {"hex": bytes(value).hex()}
    if isinstance(value, dict | list):
        return {"json": value}
    if isinstance(value, float):
        return value
    return plain(value) if value is None or isinstance(value, bool | int | str) else str(plain(value))


def _list_migrations() -> list[str]:
    return sorted(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations())


def has_configuration() -> bool:
    """Whether there is anything that a restore would give up: a governed object, or an account."""
    return any(model._base_manager.exists() for model in (*governed_models(), get_user_model()))


def restore_backup(path: Path, *, progress: Progress | None = None) -> Manifest:
    """Replace everything that is stored by what `path` holds.

    Raises `BackupError` or `OSError`; nothing is changed then. The database must have been migrated by the same
    release, and nobody else should be using it.
    """
    manifest = _check(path)
    try:
        with _without_triggers(), transaction.atomic():
            _empty()
            _load(path, manifest, progress)
            _begin_epoch()
            report = verify()
            if not report.intact:
                raise BackupError(f"What the file holds does not verify: {report.breaks[0]}")
    except DatabaseError as error:
        raise BackupError(f"The database refused a row of the file: {str(error).strip()}") from error
    return manifest


@contextmanager
def _without_triggers() -> Iterator[None]:
    triggers.lift(connection)
    try:
        yield
    finally:
        triggers.install(connection)


def _check(path: Path) -> Manifest:
    """Read the file once, whole: it must be complete, unaltered, and of this release."""
    digest, last, first = hashlib.sha256(), None, None
    for line in _read_lines(path):
        if first is None:
            first = _parse(line)
        if last is not None:
            digest.update(last.encode())
        last = line
    if not isinstance(first, dict) or first.get("format") != FORMAT:
        raise BackupError(f"{path} is no backup of this program.")
    if last is None or _parse(last) != {"sha256": digest.hexdigest()}:
        raise BackupError(f"{path} is not whole, or was altered: its checksum does not fit.")
    theirs, ours = set(first["migrations"]), set(_list_migrations())
    if theirs != ours:
        missing, more = sorted(theirs - ours), sorted(ours - theirs)
        what = f"this database lacks {', '.join(missing[:3])}" if missing else f"the file lacks {', '.join(more[:3])}"
        raise BackupError(f"{path} was made by another release ({what}): restore it with that release, then migrate.")
    return Manifest(**{name: first[name] for name in Manifest.__dataclass_fields__})


def _read_lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            yield from file
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise BackupError(f"{path} is not whole, or no backup: {error}") from error


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise BackupError("The file holds a line that is no JSON.") from error


def _empty() -> None:
    with connection.cursor() as cursor:
        for model in backed_up_models():
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")  # noqa: S608, own names


def _load(path: Path, manifest: Manifest, progress: Progress | None) -> None:
    known = {model._meta.label: model for model in backed_up_models()}
    model, fields, waiting, done = None, [], [], 0
    for line in _read_lines(path):
        value = _parse(line)
        if isinstance(value, list):
            waiting.append(_read_row(model, fields, value))
            done += 1
            if len(waiting) >= CHUNK:
                _insert(model, waiting)
                waiting = []
                if progress is not None:
                    progress(done, manifest.rows)
        elif "table" in value:
            _insert(model, waiting)
            waiting = []
            model = known[value["table"]]
            fields = [_find_field(model, name) for name in value["fields"]]
    _insert(model, waiting)
    if done != manifest.rows:
        raise BackupError(f"The file announces {manifest.rows:,} rows and holds {done:,}.")
    statements = connection.ops.sequence_reset_sql(no_style(), list(known.values()))
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _find_field(model: type[models.Model], name: str) -> models.Field:
    return next(field for field in model._meta.concrete_fields if field.attname == name)


def _read_row(model: type[models.Model], fields: Sequence[models.Field], values: Sequence[Any]) -> models.Model:
    row = model()
    for field, value in zip(fields, values, strict=True):
        if isinstance(value, dict):
            value = bytes.fromhex(value["hex"]) if "hex" in value else value["json"]
        elif value is not None and not isinstance(field, models.JSONField):
            value = (field.target_field if field.is_relation else field).to_python(value)
        setattr(row, field.attname, value)
    return row


def _insert(model: type[models.Model] | None, rows: Sequence[models.Model]) -> None:
    if not rows:
        return
    fields = model._meta.concrete_fields
    size = max(1, SQLITE_VALUES // len(fields))
    for start in range(0, len(rows), size):
        # Raw: dates that fields set by themselves, and everything else, stay what they were.
        models.QuerySet(model)._insert(rows[start : start + size], fields=fields, using="default", raw=True)


def _begin_epoch() -> None:
    models.QuerySet(Revision).filter(pk=1).update(epoch=uuid.uuid4())
