"""Which characters of a file does a tool mean by its lines and columns? Pure.

Tools count columns in code points, in UTF-16 code units or in bytes of UTF-8, and some also end a line at a carriage
return that stands alone. They leave ends out, set them to 0, or name lines that are not there. What comes out is always
a place in the file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property

from plugins.analyzers.patterns import Locator, Match, normalise, shorten, snippet_window
from plugins.analyzers.sarif_reader import UTF_16, Region
from plugins.contract import SourceFile

BYTES = "utf8Bytes"
"""Columns of tools that count bytes of UTF-8, as Python's own syntax trees do."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


class Regions:
    """The places of one file. Asked in ascending order it reads the file once."""

    def __init__(self, path: str, content: bytes) -> None:
        self.source = normalise(SourceFile(path, content))
        self._locator = Locator(self.source)

    def span(self, region: Region, unit: str) -> tuple[int, int]:
        """Byte offsets in `source` of the start and the end of a region. Without a line it is the start of the file."""
        if region.start_line is None or region.start_line < 1:
            return 0, 0
        start = self._offset(region.start_line, region.start_column or 1, unit)
        end_line = region.end_line if region.end_line and region.end_line >= region.start_line else region.start_line
        if region.end_column is None or region.end_column < 1:
            end = self._line(end_line)[1]
        else:
            end = self._offset(end_line, region.end_column, unit)
        return start, max(start, end)

    def place(self, span: tuple[int, int]) -> tuple[int, int, int, int]:
        """Start line and column, end line and column (the one after), in characters from 1."""
        return *self._locator.locate(span[0]), *self._locator.locate(span[1])

    def snippet(self, span: tuple[int, int]) -> str:
        """The first line of a place."""
        start, end = snippet_window(self.source, Match(*span, None))
        return shorten(self.source.content[start:end].decode("utf-8", "ignore"))

    def beginning(self, span: tuple[int, int]) -> str:
        """The first line of a place from its start, even if the place is far behind it."""
        start = self.source.line_starts[bisect_right(self.source.line_starts, span[0]) - 1]
        return self.snippet((start, start))

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in _LINE_END.finditer(self.source.content))]

    def _line(self, number: int) -> tuple[int, int]:
        """Byte offsets of the start of a line and of its end; of the last line if there are not so many."""
        index = min(number, len(self._starts)) - 1
        start = self._starts[index]
        end = self._starts[index + 1] if index + 1 < len(self._starts) else len(self.source.content)
        while end > start and self.source.content[end - 1] in b"\r\n":
            end -= 1
        return start, end

    def _offset(self, line: int, column: int, unit: str) -> int:
        start, end = self._line(line)
        if line > len(self._starts):
            return start
        content = self.source.content[start:end]
        before = max(column, 1) - 1
        if content.isascii():
            return start + min(before, len(content))
        if unit == BYTES:
            before = min(before, len(content))
            while 0 < before < len(content) and content[before] & 0xC0 == 0x80:  # inside a character
                before -= 1
            return start + before
        text = content.decode("utf-8", "surrogateescape")
        if unit == UTF_16:
            before = _count_characters(text, before)
        return start + len(text[:before].encode("utf-8", "surrogateescape"))


def _count_characters(text: str, units: int) -> int:
    """How many characters of `text` the first `units` UTF-16 code units are."""
    for index, character in enumerate(text):
        if units <= 0:
            return index
        units -= 2 if ord(character) > 0xFFFF else 1
    return len(text)
