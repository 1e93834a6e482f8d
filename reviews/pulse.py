"""What is a worker doing right now, and how did it end? A few bytes of memory, shared with its parent.

Writing them is no call of the system, so that it can be done before every single question to an analyzer. When the
worker hangs or is gone they say who was asked about what. A worker may be interrupted in the middle of writing, so the
bytes can be trusted only when they have not changed for a while: the parent measures the time, nobody writes it down.
"""

from __future__ import annotations

import mmap
import struct
from enum import IntEnum
from typing import NamedTuple

_FORM = struct.Struct("<iiiii")
SIZE = _FORM.size


class Phase(IntEnum):
    """What a worker is busy with."""

    IDLE = 0
    """Starting, or waiting."""
    PREPARING = 1
    """An analyzer is made ready."""
    ASKING = 2
    """An analyzer is asked."""
    OWN = 3
    """What the analyzers found is marked."""


class Exit(IntEnum):
    """Why a worker ended itself, as its exit code."""

    DONE = 0
    EXHAUSTED = 81
    """An analyzer ran out of memory and still holds it."""
    SEVERED = 82
    """An analyzer closed the files by which the parent is reached."""
    FAULT = 83
    """Our own code failed."""


class Beat(NamedTuple):
    """What a worker does: for which plugin, a place among its assignments; about which file, a place in which batch."""

    phase: Phase = Phase.IDLE
    plugin: int = -1
    batch: int = -1
    file: int = -1
    count: int = 0
    """Differs from that of the beat before."""


class Pulse:
    """The shared memory, in a file of `SIZE` bytes that is open as `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, SIZE)
        self._count = 0

    def write(self, phase: Phase, plugin: int = -1, batch: int = -1, file: int = -1) -> None:
        """Say what is done from now on."""
        self._count = (self._count + 1) & 0x7FFFFFFF
        _FORM.pack_into(self._memory, 0, phase, plugin, batch, file, self._count)

    def read(self) -> Beat:
        """What was said last. What makes no sense, because somebody else wrote there, is read as idle."""
        phase, *rest = _FORM.unpack_from(self._memory)
        try:
            return Beat(Phase(phase), *rest)
        except ValueError:
            return Beat()

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
