"""Is this line the one that was reported before, although the file around it changed?

The fingerprint `primaryLocationLineHash` as GitHub code scanning computes it: a hash of the 100 characters that follow
the start of a line, white space left out, and how many earlier lines have the same.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection
from itertools import accumulate
from operator import mul

WINDOW = 100
"""Characters that count, from the start of the line and on into the next ones."""
MULTIPLIER = 37

_MASK = (1 << 64) - 1
_POWERS = tuple(pow(MULTIPLIER, WINDOW - 1 - index, 1 << 64) for index in range(WINDOW))
_END_OF_FILE = "\uffff"
# First bytes, in UTF-8, of the characters beyond U+FFFF.
_ASTRAL = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")


def fingerprint_lines(content: bytes, lines: Collection[int]) -> dict[int, str]:
    """Fingerprints of the given lines (the first is 1) of a file; lines that it does not have are left out."""
    text = _squeeze(content) + _END_OF_FILE + "\0" * WINDOW
    last = max(lines, default=0)
    squeezed = text.split("\n", last)[:last]
    # Of the lines before, only those matter that begin like a wanted one.
    wanted = {number: squeezed[number - 1][:WINDOW] for number in lines if 1 <= number <= len(squeezed)}
    beginnings = frozenset(wanted.values())
    lengths = list(accumulate(map(len, squeezed), initial=0))
    seen: Counter[str] = Counter()
    found: dict[int, str] = {}
    for index in [index for index, line in enumerate(squeezed) if line[:WINDOW] in beginnings]:
        start = lengths[index] + index
        window = text[start : start + WINDOW]
        seen[window] += 1
        if index + 1 in wanted:
            found[index + 1] = f"{_hash(window):x}:{seen[window]}"
    return found


def _squeeze(content: bytes) -> str:
    """The text without spaces and tabs, its line ends `\\n`, each character one code unit of UTF-16."""
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if content.isascii():
        return content.translate(None, b" \t").decode("ascii")
    # Decoded first: white space may stand inside of what is not valid.
    text = content.decode("utf-8", "replace").replace(" ", "").replace("\t", "")
    if any(first in content for first in _ASTRAL):
        units = text.encode("utf-16-le")
        return "".join(map(chr, struct.unpack(f"<{len(units) // 2}H", units)))
    return text


def _hash(window: str) -> int:
    value: int = sum(map(mul, map(ord, window), _POWERS))
    return value & _MASK
