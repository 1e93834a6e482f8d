"""By what is a finding known again when the file around it has changed, and what stands around it? Pure.

Three hashes speak of its lines: their code, the lines next to them, and GitHub's hash of where it starts. White space
never counts, so that a formatter does not make a finding new.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

from plugins.contract import Finding, SourceFile
from reviews.fingerprints import fingerprint_lines
from reviews.outcome import Hashes, Lines

NEIGHBOURS = 2
"""Lines before a finding, and as many after it, that its context hash is made of; empty ones do not count."""
CONTEXT = 5
"""Lines before a finding, and as many after it, that are shown."""
SHOWN = 20
"""Lines of a finding itself that are shown; of a longer one the end is left out, and what follows it."""
LINE_LENGTH = 300
"""Characters of a line that are shown."""
HIDDEN = "***"
"""Stands for a line of a finding that holds a credential, but for the first, which its snippet stands for."""


class Marks(NamedTuple):
    """By what a finding is known again, and what stands around it."""

    code_hash: str
    """32 hexadecimal digits of the finding's own lines."""
    context_hash: str
    """32 hexadecimal digits of the lines next to them."""
    line_hash: str
    """`primaryLocationLineHash` of the first line, or empty if there is no such line."""
    context_start: int
    """Number of the first line of `context`."""
    context: tuple[str, ...]
    """Its lines and those around it; none if the file could not be read."""


class Marker:
    """Hashes of lines of one file. What is asked for twice is computed once."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._hashes: dict[Lines, tuple[str, str]] = {}

    def add(self, lines: Lines) -> None:
        """Mark the lines from the first to the last; raises IndexError if the file does not have them."""
        if lines not in self._hashes:
            first, last = lines
            if last > len(self._squeezed):
                raise IndexError(f"there is no line {last}")
            code = _digest([b"".join(self._squeezed[first - 1 : last])])
            self._hashes[lines] = code, _digest([*self._before(first), b"", *self._after(last)])

    def hashes(self) -> dict[Lines, Hashes]:
        """The hashes of all that was added."""
        starts = fingerprint_lines(self._source.content, {first for first, _ in self._hashes}) if self._hashes else {}
        return {lines: Hashes(*pair, starts.get(lines[0], "")) for lines, pair in self._hashes.items()}

    def lines(self) -> dict[int, str]:
        """The lines in and around all that was added, as they are shown."""
        wanted = {number for lines in self._hashes for number in _shown(lines)}
        return {number: self._cut(number) for number in sorted(wanted) if number <= len(self._source.line_starts)}

    @cached_property
    def _squeezed(self) -> list[bytes]:
        return [b"".join(line.split()) for line in self._source.content.split(b"\n")]

    @cached_property
    def _filled(self) -> list[int]:
        """Numbers of the lines that are not blank."""
        return [number for number, line in enumerate(self._squeezed, start=1) if line]

    def _before(self, line: int) -> list[bytes]:
        place = bisect_left(self._filled, line)
        return [self._squeezed[number - 1] for number in self._filled[max(0, place - NEIGHBOURS) : place]]

    def _after(self, line: int) -> list[bytes]:
        place = bisect_right(self._filled, line)
        return [self._squeezed[number - 1] for number in self._filled[place : place + NEIGHBOURS]]

    def _cut(self, number: int) -> str:
        starts = self._source.line_starts
        start = starts[number - 1]
        end = starts[number] if number < len(starts) else len(self._source.content)
        # A character has four bytes at most; a line may be as long as the file.
        text = self._source.content[start : min(end, start + 4 * LINE_LENGTH)].decode("utf-8", "replace")
        return text.rstrip("\r\n")[:LINE_LENGTH].replace("\0", "\ufffd")


def hide(lines: Mapping[int, str], findings: Iterable[Finding]) -> dict[int, str]:
    """`lines` without those in which one of the findings sees a credential."""
    numbers = sorted(lines)
    hidden: dict[int, str] = {}
    for finding in findings:
        if finding.sensitive:
            own = numbers[bisect_left(numbers, finding.start_line) : bisect_right(numbers, finding.end_line)]
            for number in own:
                shown = finding.snippet[:LINE_LENGTH] if number == finding.start_line else ""
                # What masks one credential may show the other.
                hidden[number] = shown if hidden.get(number, shown) == shown and shown else HIDDEN
    return {**lines, **hidden}


def gather(finding: Finding, hashes: Mapping[Lines, Hashes], lines: Mapping[int, str]) -> Marks:
    """The marks of a finding, from the hashes and lines of its file."""
    own = hashes.get((finding.start_line, finding.end_line), _UNKNOWN)
    numbers = [number for number in _shown((finding.start_line, finding.end_line)) if number in lines]
    start = numbers[0] if numbers else finding.start_line
    return Marks(own.code, own.context, own.line, start, tuple(lines[number] for number in numbers))


def _shown(lines: Lines) -> Iterator[int]:
    first, last = lines
    if last - first < SHOWN:
        return iter(range(max(1, first - CONTEXT), last + CONTEXT + 1))
    return iter(range(max(1, first - CONTEXT), first + SHOWN))


def _digest(parts: Iterable[bytes]) -> str:
    return blake2b(b"\n".join(parts), digest_size=16).hexdigest()


_UNKNOWN = Hashes(_digest([]), _digest([]), "")
