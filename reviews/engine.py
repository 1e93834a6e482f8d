"""What do the rules find in these files? `run` leads a review from its rules and files to its result.

Analyzers are asked in workers (`reviews.pool`), so that nothing they do harms this process: one that fails, crashes or
hangs costs what it would have found and nothing else, and the result says so. Files that have not changed since they
were reviewed last need not be looked at again (`reviews.cache`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import date
from hashlib import blake2b
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from plugins.contract import RuleSpec, SourceFile, TreeFile
from reviews import discovery
from reviews.cache import Cache
from reviews.discovery import Discovery, Entry, Skip
from reviews.ledger import Ledger, PluginTally, Result
from reviews.outcome import Failure, Outcome, decode, encode
from reviews.plan import Plan
from reviews.pool import MAX_JOBS, MEMORY, Pool, count_cores
from reviews.reviewer import MAX_FAILURES
from reviews.scopes import Scopes
from reviews.selection import Tasks, file_types, names_in
from reviews.suppressions import Policy
from reviews.work import Event, FileDone, Job, Spent, Tree, TreeDone, review_here

__all__ = [
    "MAX_FAILURES",
    "SEVERITIES",
    "Failure",
    "PluginTally",
    "Result",
    "file_types",
    "rank",
    "route",
    "run",
]

SEVERITIES = ("info", "low", "medium", "high", "critical")
"""Least first."""

_ASK_SECONDS = 0.25  # between two questions whether the review is to be ended


def run(
    rules: Iterable[RuleSpec],
    files: Discovery | Iterable[Entry | SourceFile],
    *,
    plugin_configurations: Mapping[str, Mapping[str, Any]],
    progress: Callable[[int, int], None] | None = None,
    jobs: int | None = None,
    cache: Path | None = None,
    cancelled: Callable[[], bool] | None = None,
    suppression_policy: Policy | Mapping[str, Any] | None = None,
    today: date | None = None,
    memory: int = MEMORY,
    search_path: Sequence[str | Path] = (),
    wanted: Callable[[str], bool] | None = None,
    scopes: Scopes | None = None,
) -> Result:
    """Review `files` by `rules`.

    `progress` is told how many files of how many are done, first with 0. `jobs` is the number of workers at most (None:
    one for each core, eight at most); 0 asks the analyzers in this process, where nothing protects it from them.
    `cache` is a folder where outcomes are kept. `cancelled` is asked several times a second: once it says yes, what was
    found until then is the result. Suppressions in the code are honoured if there is a `suppression_policy`: the
    configuration of the plugin `directives`. `memory` is how many bytes the analyzers of one worker may use together.
    Workers look for analyzers in the folders of `search_path` as well. `wanted` says which paths the analyzers of
    single files are asked about; those of the tree need all of it. `scopes` say which variants among the rules are for
    which paths. Raises `pool.PoolError` if no worker can run.
    """
    started = perf_counter()
    policy = Policy.of(suppression_policy) if isinstance(suppression_policy, Mapping) else suppression_policy
    plan = Plan(rules, plugin_configurations, scopes)
    observer = _Observer(progress, cancelled)
    root = str(files.root) if isinstance(files, Discovery) else ""
    with Cache(cache, root) as kept:
        review = _Review(plan, files, observer, kept, wanted)
        review.survey()
        if jobs == 0:
            events = review_here(plan.for_files, review.feed(), review.trees)
        else:
            workers = min(count_cores(), MAX_JOBS) if jobs is None else jobs
            pool = Pool(plan.for_files, jobs=workers, memory=memory, search_path=search_path)
            events = pool.run(review.feed(), review.trees)
        with closing(events):
            for event in events:
                review.take(event)
                if observer.is_cancelled():
                    break
    result = review.ledger.close(policy, today or date.today())
    result.cancelled = observer.was_cancelled
    result.seconds = perf_counter() - started
    return result


def route(rule: RuleSpec) -> tuple[str, ...]:
    """Who speaks for the findings of a rule: its personas, the one who speaks most first, each once."""
    return tuple(dict.fromkeys(rule.personas))


def rank(severity: str) -> int:
    """Place of a severity among them, 0 for the least; an unknown one counts as the least."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0


class _Observer:
    """Who is told how far the review is, and who may end it."""

    def __init__(self, progress: Callable[[int, int], None] | None, cancelled: Callable[[], bool] | None) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._done = self._total = 0
        self.was_cancelled = False
        self._asked = float("-inf")

    def begin(self, total: int) -> None:
        """There are so many files."""
        self._total = total
        self.advance(0)

    def advance(self, number: int = 1) -> None:
        """So many more files are done."""
        self._done += number
        if self._progress is not None:
            self._progress(self._done, self._total)

    def is_cancelled(self) -> bool:
        """Whether the review is to be ended. Cheap: who decides is asked only now and then."""
        if self._cancelled is not None and not self.was_cancelled and monotonic() - self._asked >= _ASK_SECONDS:
            self.was_cancelled = self._cancelled()
            self._asked = monotonic()
        return self.was_cancelled


class _Review:
    """One review from its files to its ledger."""

    def __init__(
        self,
        plan: Plan,
        files: Discovery | Iterable[Entry | SourceFile],
        observer: _Observer,
        cache: Cache,
        wanted: Callable[[str], bool] | None,
    ) -> None:
        self.ledger = Ledger(plan)
        self.trees: list[Tree] = []
        """What is left to do for the analyzers of the tree."""
        self._plan = plan
        self._files = files
        self._observer = observer
        self._cache = cache
        self._wanted = wanted
        self._max_bytes = files.max_bytes if isinstance(files, Discovery) else discovery.MAX_BYTES
        self._todo: Sequence[Entry | SourceFile] = []
        self._tree_keys: dict[str, bytes] = {}
        self._digest: Any = None
        """Of all files, while they are surveyed."""

    def survey(self) -> None:
        """List the files, and find out what is known of the tree."""
        entries = []
        for entry in self._files:
            entries.append(entry)
            if self._observer.is_cancelled():
                break
        if isinstance(self._files, Discovery):
            for reason, number in self._files.skipped.items():
                self.ledger.skip(str(reason), number)
        self._observer.begin(len(entries))
        self._todo = entries
        if self._plan.for_tree and self._cache.is_open:
            # What is known of the tree depends on every file, so all are read before anything is done.
            self._digest = blake2b(digest_size=16)
            self._todo = [each for each in entries if not self._observer.is_cancelled() and self._open(each)]
        if self._plan.for_tree and not self._observer.was_cancelled:
            self._plan_trees(entries)

    def feed(self) -> Iterator[Job]:
        """The files that have to be reviewed, each read when it is its turn."""
        self._digest = None
        for each in self._todo:
            if self._observer.is_cancelled():
                return
            job = self._open(each)
            if job is not None:
                yield job

    def take(self, event: Event) -> None:
        """Note what happened."""
        match event:
            case FileDone(job, outcome):
                self.ledger.add_file(job.source.path, len(job.source.content), job.tasks, outcome)
                self._observer.advance()
                if self._cache.is_open and not outcome.failures and not outcome.failed:
                    self._cache.put(job.key, encode(outcome))
            case TreeDone(tree, outcomes, failures):
                self.ledger.add_tree(event)
                key = self._tree_keys.get(tree.assignment.plugin)
                if key is not None and not failures:
                    self._cache.put(key, [[path, encode(outcome)] for path, outcome in outcomes.items()])
            case Spent(seconds):
                self.ledger.spend(seconds)
            case Failure():
                self.ledger.add_failure(event)

    def _open(self, entry: Entry | SourceFile) -> Job | None:
        """What is to be done about a file, or None if that is nothing, or known already."""
        unwanted = None if self._wanted is None or self._wanted(entry.path) else Skip.UNCHANGED
        tasks = () if unwanted else self._plan.tasks(entry.path)
        if not tasks and self._digest is None:
            self._skip(entry, unwanted)
            return None
        content: bytes | Skip
        source: SourceFile | Skip
        if isinstance(entry, SourceFile):
            content, source = entry.content, entry
        else:
            content = discovery.read_bytes(entry, max_bytes=self._max_bytes)
            source = content if isinstance(content, Skip) else discovery.decode(entry, content)
        if self._digest is not None:
            self._digest.update(_identify(entry, content))
        if not tasks or isinstance(source, Skip):
            self._skip(entry, source if tasks and isinstance(source, Skip) else unwanted)
            return None
        job = Job(source, tasks, key=self._make_key(source, tasks))
        outcome = self._look_up(job)
        if outcome is None:
            return job
        self.ledger.add_file(source.path, len(source.content), tasks, outcome)
        self._observer.advance()
        return None

    def _look_up(self, job: Job) -> Outcome | None:
        plain = self._cache.get(job.key)
        if plain is None:
            return None
        try:
            return decode(job.source.path, plain, names_in(job.tasks))
        except ValueError:
            return None

    def _plan_trees(self, entries: Sequence[Entry | SourceFile]) -> None:
        if not isinstance(self._files, Discovery):
            for assignment in self._plan.for_tree:
                message = "looks at folders, and there is none"
                self.ledger.add_failure(Failure(assignment.plugin, None, None, message))
            return
        root = self._files.root
        files = tuple(file for entry in entries if isinstance(entry, Entry) for file in _measure(entry))
        for assignment in self._plan.for_tree:
            folder = root if root.is_dir() else root.parent
            tree = Tree(assignment, folder, files, self._max_bytes, self._files.is_whole)
            outcomes = self._look_up_tree(tree)
            if outcomes is None:
                self.trees.append(tree)
            else:
                self.ledger.add_tree(TreeDone(tree, outcomes, ()))

    def _look_up_tree(self, tree: Tree) -> dict[str, Outcome] | None:
        if self._digest is None:
            return None
        rules = [rule.name for rule in tree.assignment.rules]
        key = blake2b(self._digest.digest(), digest_size=16)
        circumstances = b"\0%d\0%d\0" % (tree.max_bytes, tree.is_whole)
        key.update(os.fsencode(tree.root) + circumstances + self._plan.describe(tree.assignment, rules))
        self._tree_keys[tree.assignment.plugin] = key.digest()
        plain = self._cache.get(key.digest())
        try:
            return None if plain is None else {str(path): decode(path, each, rules) for path, each in plain}
        except (TypeError, ValueError):
            return None

    def _skip(self, entry: Entry | SourceFile, reason: Skip | None) -> None:
        """The file is not reviewed. One that only analyzers of the tree look at does not count as skipped."""
        if reason is not None or not self._plan.tree_tasks(entry.path):
            self.ledger.skip((reason or Skip.NO_RULE).value)
        self._observer.advance()

    def _make_key(self, source: SourceFile, tasks: Tasks) -> bytes:
        if not self._cache.is_open:
            return b""
        digest = blake2b(self._plan.digest(tasks), digest_size=16)
        digest.update(source.path.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(source.content)
        return digest.digest()


def _identify(entry: Entry | SourceFile, content: bytes | Skip) -> bytes:
    """Changes with the file. Of one that is too large to be read its size and the time of its last change must do."""
    path = entry.path.encode("utf-8", "surrogateescape")
    if isinstance(content, bytes):
        return path + b"\0" + blake2b(content, digest_size=16).digest()
    state = None
    if isinstance(entry, Entry):
        with suppress(OSError):
            state = os.lstat(entry.location)
    told = f"{content.value} {state.st_size} {state.st_mtime_ns}" if state is not None else content.value
    return path + b"\0" + blake2b(told.encode(), digest_size=16).digest()


def _measure(entry: Entry) -> Iterator[TreeFile]:
    try:
        yield TreeFile(entry.path, entry.location, os.lstat(entry.location).st_size)
    except OSError:
        return  # it is gone
