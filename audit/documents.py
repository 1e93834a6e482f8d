"""What is the content of a governed object, as plain JSON? Pure: no database.

Documents feed the journal, exports, and the comparison that tells a change from a save that changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import models

from audit import encryption

JSONValue = Any
MAX_DEPTH = 40  # nested lists and objects; deeper documents serve nobody and exhaust recursive readers


def plain(value: Any) -> JSONValue:
    """`value` in JSON types, the same after a round trip through either database.

    PostgreSQL's jsonb keeps numbers as decimals, so 1e23 comes back as an integer and -0.0 as 0: whole floats become
    integers here, before they are compared or hashed, by their decimal spelling (int(1e23) is 99999999999999991611392).
    """
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float | Decimal):
        number = float(value)
        return int(Decimal(repr(number))) if number.is_integer() else number
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def canonical(document: JSONValue) -> str:
    """One spelling for equal documents: sorted keys, no spaces, ASCII."""
    return json.dumps(plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(document: JSONValue) -> str:
    """SHA-256 of the canonical spelling, hexadecimal."""
    return hashlib.sha256(canonical(document).encode("ascii")).hexdigest()


def content_fields(model: type[models.Model]) -> Iterator[models.Field]:
    """The fields that are content: not the key, not the bookkeeping of the kernel."""
    bookkeeping = {"version", "created_at", "updated_at"}
    for field in model._meta.concrete_fields:
        if not field.primary_key and field.name not in bookkeeping:
            yield field


def read_content(model: type[models.Model], source: models.Model) -> dict[str, JSONValue]:
    """Content of `source`, an instance of `model` or of its history model, secrets included. Never store or show it."""
    content = {}
    for field in content_fields(model):
        value = getattr(source, field.attname)
        if isinstance(field, models.DecimalField) and value is not None:
            value = field.to_python(value)
        content[field.name] = plain(value)
    return content


def is_same(model: type[models.Model], one: models.Model, other: models.Model) -> bool:
    """Whether the content is equal. A secret is the same under another key, and another one when it was set anew."""
    first, second = (canonical(encryption.mark(read_content(model, source))) for source in (one, other))
    return first == second


def find_unstorable(value: Any, depth: int = 0) -> str | None:
    """Why `value` cannot be stored in both databases alike, or None."""
    if isinstance(value, str):
        if "\x00" in value:
            return "Text must not contain NUL characters."
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return "Text must be valid Unicode: it contains half of a surrogate pair."
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return "Numbers must be finite: NaN and Infinity are not JSON."
    if isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            return f"Documents may be nested {MAX_DEPTH} levels deep at most."
        items = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
        for item in items:
            if (problem := find_unstorable(item, depth + 1)) is not None:
                return problem
    return None
