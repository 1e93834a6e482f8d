"""What is to be done in a review, what comes of it, and how is it done in this process? The pool does it in others."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plugins.contract import SourceFile, SourceTree, TreeFile
from reviews.assignments import Assignment
from reviews.discovery import Entry, read
from reviews.outcome import Failure, Outcome
from reviews.reviewer import Reviewer
from reviews.selection import Tasks


@dataclass(eq=False)
class Job:
    """A file to be reviewed."""

    source: SourceFile
    tasks: Tasks
    without: frozenset[str] = frozenset()
    """Plugins that are not asked any more."""
    key: bytes = b""
    """By which its outcome is kept."""
    suspicions: int = 0
    """How often a worker ended, nobody knows why, when it may have been at this file."""


@dataclass(frozen=True, eq=False)
class Tree:
    """The whole tree, to be reviewed by one analyzer."""

    assignment: Assignment
    root: Path
    files: Sequence[TreeFile]
    max_bytes: int
    """Size of a file above which its content is not given to the analyzer."""
    is_whole: bool
    """As the contract has it: not a part of a codebase."""


@dataclass(frozen=True)
class Orders:
    """What a worker is started for."""

    assignments: Sequence[Assignment]
    memory: int
    """Bytes of addresses it may use beyond those it starts with, and again beyond those its analyzers take to get
    ready."""
    seal: bytes
    """Begins each line of a worker: what analyzers write among them by mistake does not count."""


@dataclass(frozen=True)
class Batch:
    """Files to be reviewed one after the other."""

    number: int
    jobs: Sequence[Job]


@dataclass(frozen=True)
class FileDone:
    """A file was reviewed."""

    job: Job
    outcome: Outcome


@dataclass(frozen=True)
class TreeDone:
    """An analyzer of the tree has ended: what it found, by path, and what it could not do."""

    tree: Tree
    outcomes: dict[str, Outcome]
    failures: Sequence[Failure]


@dataclass(frozen=True)
class Spent:
    """Analyzers have taken so many seconds more."""

    seconds: dict[str, float]


Event = FileDone | TreeDone | Spent | Failure | None
"""None: nothing happened."""


def make_tree(tree: Tree) -> SourceTree:
    """The tree as its analyzer sees it."""

    def read_file(file: TreeFile) -> bytes | None:
        source = read(Entry(file.path, file.location), max_bytes=tree.max_bytes)
        return source.content if isinstance(source, SourceFile) else None

    return SourceTree(tree.root, tree.files, read_file, tree.is_whole)


def review_here(
    assignments: Iterable[Assignment], jobs: Iterable[Job], trees: Iterable[Tree]
) -> Generator[Event, None, None]:
    """Review everything in this process, one after the other: an analyzer that crashes takes everything with it."""
    reviewer = Reviewer(assignments)
    yield from reviewer.failures
    for job in jobs:
        yield FileDone(job, reviewer.review(job.source, job.tasks))
    for tree in trees:
        specialist = Reviewer([tree.assignment])
        outcomes, failures = specialist.review_tree(tree.assignment, make_tree(tree), max_bytes=tree.max_bytes)
        yield Spent(specialist.seconds)
        yield TreeDone(tree, outcomes, [*specialist.failures, *failures])
    yield Spent(reviewer.seconds)
