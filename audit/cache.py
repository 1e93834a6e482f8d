"""How do values stand in Redis? As numbers, bytes or JSON: whoever can write there must not be able to run code."""

from __future__ import annotations

import json
from typing import Any

BYTES, DOCUMENT = b"b", b"j"


class PlainSerializer:
    """What Django's cache calls instead of pickle. Tuples come back as lists."""

    def dumps(self, value: Any) -> bytes | int:
        """`value` for Redis; whole numbers as they are, so that Redis can count. Raises `TypeError` for objects."""
        if type(value) is int:
            return value
        if isinstance(value, bytes):
            return BYTES + value
        return DOCUMENT + json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        """The value that stands in `data`. Raises `ValueError` for what `dumps` has not made."""
        if data[:1] == BYTES:
            return data[1:]
        if data[:1] == DOCUMENT:
            return json.loads(data[1:])
        return int(data)
