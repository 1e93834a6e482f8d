"""What would applying a document do, entry by entry? Plans, and the difference of two documents. Pure: no database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audit.documents import canonical
from audit.sources import Problem

STATUSES = ("created", "updated", "deleted", "unchanged", "proposed", "refused")


@dataclass(frozen=True)
class Step:
    """What applying an entry does: `fields` maps a field to its old and new value, secrets masked."""

    section: str
    name: str
    status: str  # one of STATUSES
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    pointer: str = ""
    problems: tuple[Problem, ...] = ()
    override: int | None = None  # key of the request that stands for a proposed entry

    @property
    def needs_override(self) -> bool:
        """Whether the entry is refused only for want of an approved override."""
        return bool(self.problems) and all(problem.code == "needs_override" for problem in self.problems)

    def document(self) -> dict[str, Any]:
        """The step as plain values."""
        return {
            "section": self.section,
            "name": self.name,
            "pointer": self.pointer,
            "status": self.status,
            "fields": {name: {"old": old, "new": new} for name, (old, new) in self.fields.items()},
            "problems": [str(problem.detail) for problem in self.problems],
            "line": next((problem.line for problem in self.problems if problem.line is not None), None),
            "needs_override": self.needs_override,
            "override": self.override,
        }


@dataclass(frozen=True)
class Plan:
    """What applying a document does. `revision` is where the journal stood, or after applying the last one written.

    `implied` are changes that no entry asks for: what goes with a deleted object, the personas of new rules. A plan
    with `problems` cannot be applied.
    """

    steps: tuple[Step, ...]
    revision: int
    warnings: tuple[str, ...] = ()
    implied: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def count(self, status: str) -> int:
        """Number of entries of a status."""
        return sum(step.status == status for step in self.steps)

    @property
    def counts(self) -> dict[str, int]:
        """The number of entries of each status."""
        return {status: self.count(status) for status in STATUSES}

    @property
    def differing(self) -> list[Step]:
        """The steps that do something, or cannot."""
        return [step for step in self.steps if step.status != "unchanged"]

    def document(self) -> dict[str, Any]:
        """The plan as plain values, for the API and for scripts; unchanged entries are only counted."""
        return {
            "revision": self.revision,
            "counts": self.counts,
            "steps": [step.document() for step in self.differing],
            "implied": list(self.implied),
            "warnings": list(self.warnings),
            "problems": [
                {"pointer": problem.pointer, "name": problem.name, "line": problem.line, "detail": problem.detail}
                for problem in self.problems
            ],
        }


def refuse(steps: Iterable[Step], problems: Sequence[Problem]) -> list[Step]:
    """The steps, those that a problem concerns refused."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        found.setdefault("/".join(problem.pointer.split("/")[:3]), []).append(problem)
    return [
        replace(step, status="refused", problems=tuple(found[step.pointer])) if step.pointer in found else step
        for step in steps
    ]


def compare_documents(
    before: Mapping[str, Any], after: Mapping[str, Any], keys: Mapping[str, tuple[str, ...]]
) -> list[Step]:
    """How `after` differs from `before`; `keys` maps each section to the fields that identify its entries."""
    steps = []
    for section, names in keys.items():
        old, new = _index(before, section, names), _index(after, section, names)
        for key in dict.fromkeys((*old, *new)):
            one, other = old.get(key), new.get(key)
            fields = {
                name: ((one or {}).get(name), (other or {}).get(name))
                for name in dict.fromkeys((*(one or {}), *(other or {})))
                if canonical((one or {}).get(name)) != canonical((other or {}).get(name))
            }
            status = "created" if one is None else "deleted" if other is None else "updated" if fields else "unchanged"
            steps.append(Step(section, " ".join(key), status, fields))
    return steps


def _index(document: Mapping[str, Any], section: str, names: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(str(entry[name]) for name in names): dict(entry) for entry in document.get(section) or []}
