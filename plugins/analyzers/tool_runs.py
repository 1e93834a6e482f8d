"""How is everything had from a tool that may fail on some of its files? Run by run, halving what fails."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from plugins.analyzers.sarif_reader import Report, SarifError, read_report
from plugins.contract import PartialFailure
from plugins.processes import MEGABYTE, Limits, Outcome, ToolError, run

HOPELESS = 8
"""Runs that fail before one succeeds, after which the tool itself is held to be broken."""
MAX_FAILED = 64
"""Runs that may fail before chunks are given up as a whole."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    report: Report | None
    sentence: str = ""
    """Why there is no report."""
    late: bool = False
    left: int = 0


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of a tool in one review. `tool` is its name and version, as sentences begin with it."""

    tool: str
    command: Callable[[Path], list[str]]
    """Program and arguments before the files, for the report that is to be written."""
    exit_codes: Collection[int]
    """Those with which the tool has written a report. With 1 it says that there are results."""
    limits: Limits
    """`seconds` is for all runs together."""
    chunks: Sequence[Sequence[bytes]]
    """Absolute paths."""
    folder: Path

    def run(self) -> Iterator[tuple[Report, Sequence[bytes]] | PartialFailure]:
        """Reports with the files they are about, and what was not to be had. The path of a failure is absolute here.

        Raises `ToolError` if no run succeeds.
        """
        pending = deque(self.chunks)
        deadline = monotonic() + self.limits.seconds
        succeeded = failed = 0
        first = ""
        held: list[PartialFailure] = []
        while pending and (succeeded or failed < HOPELESS):
            files = pending.popleft()
            attempt = self._attempt(files, succeeded + failed, deadline - monotonic())
            if attempt.left:
                held.append(PartialFailure(f"{self.tool} left {attempt.left} processes running; they were ended."))
            if attempt.report is not None:
                succeeded += 1
                yield attempt.report, files
                continue
            failed += 1
            first = first or attempt.sentence
            if attempt.late:
                number = len(files) + sum(map(len, pending))
                held.append(PartialFailure(f"{attempt.sentence} {number} files were not looked at."))
                break
            if len(files) == 1:
                held.append(PartialFailure(attempt.sentence, path=os.fsdecode(files[0])))
            elif failed < MAX_FAILED:
                # At the end of the queue: the other half may succeed, which tells a bad file from a broken tool.
                pending.extend((files[: len(files) // 2], files[len(files) // 2 :]))
            else:
                held.append(PartialFailure(f"{attempt.sentence} {len(files)} files were not looked at."))
        if not succeeded:
            raise ToolError(first)
        yield from held

    def _attempt(self, files: Sequence[bytes], number: int, seconds: float) -> _Attempt:
        late = f"{self.tool} was ended after the {self.limits.seconds:.3g} s that it may take."
        if seconds <= 0:
            return _Attempt(None, late, late=True)
        folder = self.folder / f"run-{number}"
        folder.mkdir()
        report = folder / "report.sarif"
        try:
            command = [*self.command(report), *map(os.fsdecode, files)]
            outcome = run(command, folder=folder, limits=replace(self.limits, seconds=seconds))
            if outcome.ended == "time":
                return _Attempt(None, late, late=True)
            return self._read(outcome, report)
        except ToolError as error:
            return _Attempt(None, str(error))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self, outcome: Outcome, report: Path) -> _Attempt:
        did = f"{self.tool} {outcome.describe()}"
        if outcome.exit_code in self.exit_codes:
            try:
                found = self._read_report(report)
                if outcome.exit_code == 1 and not found.listed:
                    raise SarifError("it lists no results, though the exit code says that there are some")
                return _Attempt(found, left=outcome.left)
            except SarifError as error:
                did = f"{did}, but its report cannot be used: {error}"
        tail = outcome.tail()
        return _Attempt(None, f"{did}. It said: {tail}" if tail else f"{did}.", left=outcome.left)

    def _read_report(self, report: Path) -> Report:
        if not report.is_file():
            raise SarifError("there is none")
        if report.stat().st_size >= self.limits.output:
            raise SarifError(f"it is larger than {self.limits.output / MEGABYTE:.3g} MB")
        return read_report(report.read_bytes())
