"""Has somebody changed the record? The journal is walked row by row, with its history and what is stored today.

Each row carries the hash of the row before, and the revision row the last hash: a row that was altered, removed or put
in by hand shows. So does a history row that differs from what the journal kept of it, and an object that was changed
past the journal. Whoever can rewrite all of it, hashes included, is caught by a checkpoint that was kept elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from audit import encryption
from audit.documents import canonical, digest, read_content
from audit.encryption import SHOWN, MissingKey, Unreadable, find_envelopes, is_envelope, is_shown
from audit.governed import GovernedModel, governed_models
from audit.journal import hash_row
from audit.models import ConfigurationAuditLog, Revision

CHUNK = 1000  # rows read at once
MAX_BREAKS = 100  # told one by one; where the journal is rewritten, all later rows differ


@dataclass(frozen=True)
class Break:
    """Something that does not fit. `revision` is the journal row it was seen at."""

    revision: int
    problem: str

    def __str__(self) -> str:
        return f"revision {self.revision}: {self.problem}"


@dataclass(frozen=True)
class Checkpoint:
    """How far the journal had come at some time: kept elsewhere, it shows a journal that was rewritten as a whole."""

    epoch: str
    revision: int
    row_hash: str

    def document(self) -> dict[str, Any]:
        """As it is written to a file."""
        return {"epoch": self.epoch, "revision": self.revision, "row_hash": self.row_hash}


@dataclass
class Report:
    """What was walked, and what does not fit, by revision."""

    rows: int = 0
    breaks: list[Break] = field(default_factory=list)
    more: int = 0
    """Breaks beyond `MAX_BREAKS`."""
    unread: int = 0
    """Secrets that could not be checked, because their keys are not here: no proof that somebody changed anything."""

    @property
    def intact(self) -> bool:
        """Whether everything fits."""
        return not self.breaks

    def add(self, revision: int, problem: str) -> None:
        """Note that something does not fit."""
        if len(self.breaks) < MAX_BREAKS:
            self.breaks.append(Break(revision, problem))
        else:
            self.more += 1


def take_checkpoint() -> Checkpoint:
    """The present end of the journal."""
    epoch, value, last_hash = models.QuerySet(Revision).values_list("epoch", "value", "last_hash").get(pk=1)
    return Checkpoint(str(epoch), value, last_hash)


def read_checkpoint(document: Any) -> Checkpoint:
    """The checkpoint in a parsed file. Raises `ValueError` with a sentence if it is none."""
    if not isinstance(document, Mapping) or set(document) != {"epoch", "revision", "row_hash"}:
        raise ValueError('A checkpoint is an object with "epoch", "revision" and "row_hash".')
    epoch, revision, row_hash = document["epoch"], document["revision"], document["row_hash"]
    if not isinstance(epoch, str) or not isinstance(row_hash, str) or type(revision) is not int:
        raise ValueError("The epoch and the hash of a checkpoint are texts, its revision is a number.")
    return Checkpoint(epoch, revision, row_hash)


def verify(*, checkpoints: Sequence[Checkpoint] = (), progress: Callable[[int, int], None] | None = None) -> Report:
    """Walk the whole journal up to its present end. `progress` is told how many rows of how many are done."""
    report = Report()
    end = take_checkpoint()
    known = {item.entity_type: item for item in governed_models()}
    wanted = {item.revision: item for item in checkpoints}
    told: Counter[str] = Counter()
    latest: dict[tuple[str, int], tuple[int, Mapping[str, Any] | None]] = {}
    previous, expected = "", 1
    for rows in _read_chunks(end.revision):
        for row in rows:
            _check_link(row, previous, expected, report)
            if row.revision in wanted:
                _check_point(wanted.pop(row.revision), end.epoch, row.row_hash, report)
            previous, expected = row.row_hash, row.revision + 1
        _check_history(rows, known, report, told, latest)
        report.rows += len(rows)
        if progress is not None:
            progress(report.rows, end.revision)
    _check_end(end, previous, expected - 1, report)
    for missing in wanted.values():
        _check_point(missing, end.epoch, None, report)
    _check_extra_history(known, told, end.revision, report)
    _check_present(known, latest, end.revision, report)
    report.breaks.sort(key=lambda item: item.revision)
    return report


def _read_chunks(last: int) -> Iterator[list[ConfigurationAuditLog]]:
    reached = -1
    while True:
        rows = list(
            ConfigurationAuditLog.objects.filter(revision__gt=reached, revision__lte=last).order_by("revision")[:CHUNK]
        )
        if not rows:
            return
        yield rows
        reached = rows[-1].revision


def _check_link(row: ConfigurationAuditLog, previous: str, expected: int, report: Report) -> None:
    if row.revision != expected:
        missing = f"{expected}" if row.revision == expected + 1 else f"{expected} to {row.revision - 1}"
        report.add(expected, f"the journal has no row {missing}.")
    elif row.previous_hash != previous:
        report.add(row.revision, "it does not follow the row before: that one was altered, with its hash.")
    if hash_row(row) != row.row_hash:
        report.add(row.revision, f"the row was altered ({row.change_type} of {row.entity_name or row.entity_id}).")


def _check_end(end: Checkpoint, last_hash: str, last: int, report: Report) -> None:
    if last < end.revision:
        report.add(last + 1, f"the journal ends at {last}, but it had come to {end.revision}: its end was removed.")
    elif last_hash != end.row_hash:
        report.add(last, "the last row is not the one that was written last.")


def _check_point(point: Checkpoint, epoch: str, row_hash: str | None, report: Report) -> None:
    if point.epoch != epoch:
        report.add(point.revision, "the checkpoint is of another epoch: the database was restored since.")
    elif row_hash is None and point.revision > 0:
        report.add(point.revision, "the checkpoint knows this row, the journal does not.")
    elif row_hash is not None and row_hash != point.row_hash:
        report.add(point.revision, "the row is not the one that the checkpoint knows: the journal was rewritten.")


def _check_history(
    rows: Sequence[ConfigurationAuditLog],
    known: Mapping[str, type[GovernedModel]],
    report: Report,
    told: Counter[str],
    latest: dict[tuple[str, int], tuple[int, Mapping[str, Any] | None]],
) -> None:
    """Compare the history rows with what the journal kept of them, and note each object's last state."""
    wanted: dict[str, dict[int, ConfigurationAuditLog]] = {}
    for row in rows:
        if row.history_id is not None and row.entity_type in known:
            wanted.setdefault(row.entity_type, {})[row.history_id] = row
    for entity_type, by_history in wanted.items():
        model = known[entity_type]
        found = {item.pk: item for item in model.history.filter(pk__in=by_history)}
        told[entity_type] += len(by_history)
        for history_id, row in by_history.items():
            history_row = found.get(history_id)
            if history_row is None:
                report.add(row.revision, "its history row was removed.")
                continue
            document = row.new_config if row.new_config is not None else row.old_config or {}
            if digest_like(model, history_row, document) != row.history_digest:
                report.add(row.revision, f"its history row ({model._meta.verbose_name} {row.entity_name}) was altered.")
            _check_secrets(model, history_row, row.revision, f"the history row of {row.entity_name}", report)
            key = getattr(history_row, model._meta.pk.attname)
            latest[entity_type, key] = (row.revision, row.new_config)


def _check_secrets(
    model: type[GovernedModel], source: models.Model, revision: int, holder: str, report: Report
) -> None:
    """Digests do not cover ciphertexts, so that keys can be rotated: these prove themselves when they are decrypted."""
    for place, envelope in find_envelopes(read_content(model, source)):
        try:
            encryption.unseal(envelope)
        except MissingKey:
            report.unread += 1
        except Unreadable:
            report.add(revision, f"the secret at {place.strip('/')} in {holder} was altered.")


def digest_like(model: type[GovernedModel], history_row: models.Model, document: Mapping[str, Any]) -> str:
    """The digest of a history row as it was taken when `document` was journalled.

    What was masked then is masked now, whatever the installed analyzer thinks is secret today; fields that the model
    has got since are left out.
    """
    content = read_content(model, history_row)
    content = {name: value for name, value in content.items() if name in document}
    return digest([history_row.history_type, history_row.version, mask_like(content, document)])


def mask_like(content: Any, document: Any) -> Any:
    """`content` with marks wherever `document` has them; an envelope with the mark that it carries."""
    if is_shown(document) and content not in (None, ""):
        return encryption.mark(content) if is_envelope(content) and "mark" in document else dict(SHOWN)
    if isinstance(content, Mapping) and isinstance(document, Mapping):
        return {name: mask_like(value, document.get(name)) for name, value in content.items()}
    if isinstance(content, list) and isinstance(document, list) and len(content) == len(document):
        return [mask_like(value, like) for value, like in zip(content, document, strict=True)]
    return content


def _check_extra_history(
    known: Mapping[str, type[GovernedModel]], told: Counter[str], end: int, report: Report
) -> None:
    """History rows that no journal row tells of were put in by hand."""
    for entity_type, model in known.items():
        extra = model.history.filter(version__lte=end).count() - told[entity_type]
        if extra > 0:
            rows = "row" if extra == 1 else "rows"
            report.add(end, f"{extra} history {rows} of {model._meta.verbose_name_plural} are not in the journal.")


def _check_present(
    known: Mapping[str, type[GovernedModel]],
    latest: Mapping[tuple[str, int], tuple[int, Mapping[str, Any] | None]],
    end: int,
    report: Report,
) -> None:
    """What is stored today must be what the journal says last; what changed during the walk is left out."""
    moved = set(ConfigurationAuditLog.objects.filter(revision__gt=end).values_list("entity_type", flat=True))
    for entity_type, model in known.items():
        seen = set()
        for item in model._base_manager.filter(version__lte=end).iterator(chunk_size=CHUNK):
            seen.add(item.pk)
            revision, document = latest.get((entity_type, item.pk), (0, None))
            if document is None:
                report.add(item.version, f"{model._meta.verbose_name} {item.entity_name} is stored past the journal.")
                continue
            content = {name: value for name, value in read_content(model, item).items() if name in document}
            if canonical(mask_like(content, document)) != canonical(document) or item.version != revision:
                report.add(revision, f"{model._meta.verbose_name} {item.entity_name} was changed past the journal.")
            _check_secrets(model, item, item.version, f"{model._meta.verbose_name} {item.entity_name}", report)
        for item in model._base_manager.filter(version__gt=end):
            # Read after the object: what is committed by now has its journal row.
            if item.version > take_checkpoint().revision:
                report.add(item.version, f"{model._meta.verbose_name} {item.entity_name} is newer than the journal.")
        if entity_type in moved:
            continue  # somebody changed or deleted such objects during the walk
        for (kind, key), (revision, document) in latest.items():
            if kind == entity_type and document is not None and key not in seen:
                report.add(revision, f"{model._meta.verbose_name} {key} was removed past the journal.")
