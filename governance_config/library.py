"""Which presets are there? Those that come with the release, as files, and those that people have saved, as rows.

A preset is a document that an import reads. A saved one is never changed: it is deleted, and saved anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from audit.errors import StateConflict
from audit.exports import dump, exchanged_models, export_document
from audit.permissions import holds, may
from audit.plans import Step, compare_documents
from audit.sources import SourceDocument, parse
from governance_config.models import MAX_PRESET, Preset
from overrides.api import EXPORT_CONFIGURATION

FOLDER = Path(__file__).parent / "presets"
STARTER_NAME = "starter"  # what an installation begins with
MAX_SAVED = 200


@dataclass(frozen=True)
class PresetFile:
    """A preset, wherever it is kept."""

    name: str
    text: str
    shipped: bool
    title: str = ""
    description: str = ""
    created_by: str | None = None
    created_at: datetime | None = None

    @cached_property
    def document(self) -> SourceDocument:
        """What it says."""
        return parse(self.text)

    @property
    def counts(self) -> dict[str, int]:
        """The number of its entries in each section that it has."""
        return {key: len(value) for key, value in self.document.items() if isinstance(value, list)}


@lru_cache(maxsize=1)
def list_shipped() -> tuple[PresetFile, ...]:
    """The presets of this release; the one that an installation begins with comes first."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml"), key=lambda path: (path.stem != STARTER_NAME, path.stem)):
        text = path.read_text(encoding="utf-8")
        document = parse(text)
        found.append(PresetFile(path.stem, text, True, document.get("title", ""), document.get("description", "")))
    return tuple(found)


def list_presets() -> list[PresetFile]:
    """All of them: shipped ones first, then by name. What a saved one says is read when it is asked for."""
    return [*list_shipped(), *map(read_row, Preset.objects.order_by("name"))]


def read_row(row: Preset) -> PresetFile:
    """A saved preset."""
    return PresetFile(row.name, row.document, False, row.title, row.description, row.created_by, row.created_at)


def find_preset(name: str) -> PresetFile | None:
    """The preset of this name."""
    for preset in list_shipped():
        if preset.name == name:
            return preset
    row = Preset.objects.filter(name=name).first()
    return read_row(row) if row is not None else None


def save_preset(*, user: Any, name: str, title: str, description: str) -> PresetFile:
    """Keep what `user` may see of the present configuration as a preset. Raises `ValidationError`."""
    document = export_document(user)
    head = {"format": document.pop("format")}
    head |= {key: value for key, value in (("title", title), ("description", description)) if value}
    row = Preset(
        name=name,
        title=title,
        description=description,
        document=dump({**head, **document}),
        created_by=user.get_username(),
    )
    if any(preset.name == name for preset in list_shipped()):
        raise ValidationError({"name": ValidationError("A preset of this release has this name.", code="unique")})
    size = len(row.document.encode())
    if size > MAX_PRESET:
        raise StateConflict(
            f"The configuration has {size:,} bytes, a preset {MAX_PRESET:,} at most: keep it as a file "
            "with export_config."
        )
    with transaction.atomic():
        row.full_clean()
        if Preset.objects.count() >= MAX_SAVED:
            raise StateConflict(f"There are {MAX_SAVED} saved presets already: delete one first.")
        row.save(force_insert=True)
    return read_row(row)


def may_save(user: Any) -> bool:
    """Whether `user` may keep the present configuration as a preset."""
    return may(user, "add", Preset) and holds(user, EXPORT_CONFIGURATION)


def may_delete(user: Any, preset: PresetFile) -> bool:
    """Whether `user` may delete `preset`: it is a saved one, and his own, unless he may delete any."""
    if preset.shipped:
        return False
    own = may(user, "view", Preset) and preset.created_by == user.get_username()
    return own or may(user, "delete", Preset)


def compare_presets(before: PresetFile, after: PresetFile) -> list[Step]:
    """How `after` differs from `before`; entries that are alike are not told."""
    keys = {str(model.section): model.natural_key_fields for model in exchanged_models()}
    return [step for step in compare_documents(before.document, after.document, keys) if step.status != "unchanged"]
