"""How is a SARIF document made to fit what GitHub takes? Pure.

GitHub refuses a document as a whole that is too large. So the code next to the results goes first, then the rules that
found nothing, then the least severe results.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

MAX_BYTES = 9_500_000
"""Of a document once it is compressed. GitHub takes 10 MB; the rest is for white space, and for who writes it anew."""
MAX_RESULTS = 25_000
MAX_RULES = 25_000
MAX_NOTIFICATIONS = 1_000
"""Ours: somebody who has that many failures has one problem."""
MAX_EXTENSIONS = 100
MAX_TEXT = 1024
"""Characters of a description, and of a message."""
MAX_NAME = 255
MAX_TAGS = 10
"""Tags of a rule that GitHub keeps."""

_MARGIN = 0.95  # of the results that would fit if all were of one size


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a document holds."""

    results: int
    """The most severe ones."""
    snippets: bool = True
    all_rules: bool = True
    """Whether rules are in it that found nothing."""


def fit(make: Callable[[Extent], dict[str, Any]], results: int) -> dict[str, Any]:
    """What `make` gives for the largest extent, of at most so many results, that GitHub takes."""
    extent = Extent(min(results, MAX_RESULTS))
    while True:
        document = make(extent)
        size = measure(document)
        if size <= MAX_BYTES or (extent.results == 0 and not extent.all_rules):
            return document
        extent = _narrow(extent, size)


def measure(document: dict[str, Any]) -> int:
    """Bytes of the document once it is compressed; those it has without, if they are few enough."""
    text = json.dumps(document, separators=(",", ":")).encode()
    return len(text) if len(text) <= MAX_BYTES else len(zlib.compress(text))


def _narrow(extent: Extent, size: int) -> Extent:
    if extent.snippets:
        return replace(extent, snippets=False)
    if extent.all_rules:
        return replace(extent, all_rules=False)
    return replace(extent, results=min(extent.results - 1, int(extent.results * MAX_BYTES / size * _MARGIN)))
