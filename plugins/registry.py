"""Which analyzers are installed, which need which, and does a rule do what its examples say?

Built-in analyzers are listed here. Another package adds one by an entry point of the group `code_review.analyzers` that
names a class like those of `plugins.analyzers` (see `plugins.contract.Analyzer`). One that cannot be used costs only
itself: `problems()` says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from plugins import dependencies, isolation, schemas
from plugins.analyzers.bandit import Bandit
from plugins.analyzers.directives import Directives
from plugins.analyzers.metrics import Metrics
from plugins.analyzers.patterns import Patterns
from plugins.analyzers.repository import Repository
from plugins.analyzers.ruff import Ruff
from plugins.analyzers.secrets import Secrets
from plugins.analyzers.structure import Structure
from plugins.contract import (
    ENTRY_POINT_GROUP,
    Analyzer,
    Finding,
    RuleError,
    RuleSpec,
    SourceFile,
    SourceTree,
    TreeAnalyzer,
    TreeFile,
)
from plugins.dependencies import Requirement
from plugins.expressions import compile_expression
from plugins.isolation import AnalyzerFailed

BUILT_IN: tuple[type[Analyzer | TreeAnalyzer], ...] = (
    Patterns,
    Secrets,
    Structure,
    Metrics,
    Repository,
    Ruff,
    Bandit,
    Directives,
)

MAX_EXAMPLES = 50
"""Snippets that must match, and as many that must not."""
MAX_EXAMPLE_LENGTH = 20_000
"""Characters of one snippet. Examples run while a user waits."""

_TEXTS = ("name", "title", "description", "version")
_SCHEMAS = ("configuration_schema", "rule_schema")
_METHODS = ("check_rule", "prepare")
_ASKED = ("analyze", "analyze_tree")
_PATH_LINE = "# path: "
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,49}")

# Files that rules name by path rather than by extension; the first that fits a rule carries its examples.
_KNOWN_PATHS = (
    "Dockerfile",
    "docker-compose.yml",
    "compose.yaml",
    ".env",
    ".github/workflows/ci.yml",
    ".gitlab-ci.yml",
    "requirements.txt",
    "package.json",
    "pyproject.toml",
    "setup.cfg",
    "tsconfig.json",
    "nginx.conf",
    "nginx/default.conf",
    "settings.py",
    "project/settings.py",
    "k8s/deployment.yaml",
    "tests/test_example.py",
    "test_example.py",
    "conftest.py",
    "migrations/0001_initial.py",
    "src/example.test.ts",
    "src/example.test.js",
    "src/example.spec.ts",
    "Makefile",
    "README.md",
)


@dataclass(slots=True)
class _Installed:
    analyzers: dict[str, type[Analyzer]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def analyzers() -> dict[str, type[Analyzer]]:
    """Every analyzer that can be used, by name: built-ins first, then those of other packages."""
    return dict(_installed().analyzers)


def problems() -> dict[str, str]:
    """Entry points that cannot be used, by name, and why."""
    return dict(_installed().problems)


def refresh() -> None:
    """Forget what is installed and what was tried; the next question looks again."""
    _installed.cache_clear()
    _run_examples.cache_clear()
    isolation.forget()


def get(name: str) -> type[Analyzer]:
    """The analyzer of that name; raises `RuleError` about the field `plugin` if none is installed."""
    try:
        return _installed().analyzers[name]
    except KeyError:
        known = ", ".join(sorted(_installed().analyzers))
        raise RuleError(
            f"There is no plugin {name!r}. Installed are: {known}.", field="plugin", code="unknown"
        ) from None


def source(name: str) -> str:
    """Where the class of the installed analyzer `name` is found: `package.module:Class`. Raises as `get`."""
    analyzer = get(name)
    return _installed().sources.get(name, f"{analyzer.__module__}:{analyzer.__qualname__}")


def is_bounded(name: str) -> bool:
    """Whether the analyzer `name` is known to answer in bounded time. Others are asked in a child process: those of
    other packages, and `structure`, because nobody can interrupt ast-grep, which compiles and searches in native code.
    """
    return name != Structure.name and any(analyzer.name == name for analyzer in BUILT_IN)


def requirements(name: str) -> tuple[Requirement, ...]:
    """What the installed analyzer `name` requires; nothing if it is not installed."""
    analyzer = _installed().analyzers.get(name)
    return () if analyzer is None else tuple(map(dependencies.parse, analyzer.requires))


def cycle(requires: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Names that require each other in a circle, the first repeated at the end, or None if there is no circle."""
    done: set[str] = set()
    for start in sorted(requires):
        path: list[str] = []
        pending = [(start, iter(sorted(requires.get(start, ()))))]
        path.append(start)
        while pending:
            name, rest = pending[-1]
            following = next((each for each in rest if each not in done), None)
            if following is None:
                done.add(name)
                pending.pop()
                path.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            else:
                path.append(following)
                pending.append((following, iter(sorted(requires.get(following, ())))))
    return None


def dependency_order(names: Iterable[str]) -> list[str]:
    """The names so that each comes after those it requires, otherwise in alphabetical order.

    Raises `RuleError` if one is not installed or if they require each other in a circle. A required analyzer that
    is not among `names` is not added.
    """
    requires = {name: _required_names(get(name)) for name in sorted(set(names))}
    circle = cycle(requires)
    if circle is not None:
        raise RuleError(f"Plugins require each other: {' → '.join(circle)}.", field="requires", code="cycle")
    ordered: list[str] = []

    def place(name: str) -> None:
        for required in sorted(requires[name]):
            if required in requires and required not in ordered:
                place(required)
        if name not in ordered:
            ordered.append(name)

    for name in requires:
        place(name)
    return ordered


def required_by(name: str) -> list[str]:
    """Names of the installed analyzers that require `name`."""
    return sorted(other for other, analyzer in _installed().analyzers.items() if name in _required_names(analyzer))


def check_rule(rule: RuleSpec) -> None:
    """Raise `RuleError` unless the rule's analyzer can run it. Bounded in time, whoever's analyzer it is."""
    if is_bounded(rule.plugin):
        get(rule.plugin)().check_rule(rule)
        return
    try:
        isolation.check_rule(source(rule.plugin), rule)
    except AnalyzerFailed as error:
        raise RuleError(f"The plugin {rule.plugin!r} {error}.", field="plugin", code="failed") from error


def check_examples(
    rule: RuleSpec, examples: Mapping[str, Sequence[str]], configuration: Mapping[str, Any] | None = None
) -> list[tuple[str, str]]:
    """Which examples the rule contradicts: JSON pointers such as `/examples/match/0`, and messages.

    Every snippet under `match` must give a finding of the rule, none under `no_match` may. To a `TreeAnalyzer` a
    snippet is a codebase of one file; it may begin with the line `# path: some/name.ext`. `configuration` is the
    plugin's own. A rule that cannot run is answered by the field that is wrong. The same content is tried once.
    """
    shape = _check_shape(examples)
    if shape:
        return shape
    content = (
        rule.plugin,
        dict(rule.configuration),
        list(rule.file_types),
        list(rule.file_patterns),
        list(rule.exclude_patterns),
        {kind: list(examples.get(kind, ())) for kind in ("match", "no_match")},
        dict(configuration or {}),
    )
    try:
        key = json.dumps(content, sort_keys=True, default=dict)
    except (TypeError, ValueError):
        return [("/configuration", "The configuration cannot be read as JSON.")]
    try:
        return list(_run_examples(key))
    except AnalyzerFailed as error:
        return [("/plugin", f"The plugin {rule.plugin!r} {error}.")]


def example_path(rule: RuleSpec) -> str:
    """A path that the rule would be asked about; if its path patterns fit no known one, only the extension is right."""
    extensions = list(rule.file_types) or _default_file_types(rule) or [""]
    wanted = [compile_expression(each, multiline=False, field="file_patterns") for each in rule.file_patterns]
    unwanted = [compile_expression(each, multiline=False, field="exclude_patterns") for each in rule.exclude_patterns]
    plain = [f"example{extension or '.txt'}" for extension in extensions]
    literal = [text for each in rule.file_patterns if (text := _spell(each))]
    in_folders = [f"{folder}/{name}" for folder in ("src", "tests", "app", "config", "k8s", "deploy") for name in plain]
    for path in (*plain, *literal, *in_folders, *_KNOWN_PATHS):
        if extensions != [""] and not path.endswith(tuple(extensions)):
            continue
        fits = not wanted or any(each.search(path) for each in wanted)
        if fits and not any(each.search(path) for each in unwanted):
            return path
    return plain[0]


def _default_file_types(rule: RuleSpec) -> list[str]:
    choose = getattr(analyzers().get(rule.plugin), "default_file_types", None)
    return [] if choose is None else list(choose(rule))


@lru_cache(maxsize=1)
def _installed() -> _Installed:
    installed = _Installed({analyzer.name: analyzer for analyzer in BUILT_IN})
    for entry_point in sorted(metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda each: (each.name, each.value)):
        try:
            analyzer: Any = entry_point.load()
            complaint = _find_fault(analyzer)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        # Not only Exception: native modules panic with other classes, and a script may call sys.exit when imported.
        except BaseException as error:
            installed.problems[entry_point.name] = f"cannot be loaded: {type(error).__name__}: {error}"
            continue
        if complaint is None and analyzer.name in installed.analyzers:
            complaint = f"the name {analyzer.name!r} is taken by another analyzer"
        if complaint is None:
            installed.analyzers[analyzer.name] = analyzer
            installed.sources[analyzer.name] = entry_point.value
        else:
            installed.problems[entry_point.name] = complaint
    _drop_circles(installed)
    return installed


def _drop_circles(installed: _Installed) -> None:
    # Analyzers in a circle could never be enabled, and would leave all the others without an order.
    requires = {name: _required_names(analyzer) for name, analyzer in installed.analyzers.items()}
    while (circle := cycle(requires)) is not None:
        for name in circle[1:]:
            installed.problems[name] = f"requires itself through others: {' → '.join(circle)}"
            del installed.analyzers[name], requires[name]


def _required_names(analyzer: type[Analyzer]) -> tuple[str, ...]:
    return tuple(dependencies.parse(text).name for text in analyzer.requires)


def _find_fault(analyzer: Any) -> str | None:
    if not isinstance(analyzer, type):
        return "is not a class"
    for attribute in _TEXTS:
        if not isinstance(getattr(analyzer, attribute, None), str):
            return f"lacks the text {attribute!r}"
    name = getattr(analyzer, "name", "")
    if not _NAME.fullmatch(name):
        return f"has the name {name!r}; lower-case letters, digits, - and _ are allowed, 50 at most"
    needs = dependencies.find_fault(getattr(analyzer, "requires", None), getattr(analyzer, "executables", ()))
    if needs is not None:
        return needs
    for attribute in _METHODS:
        if not callable(getattr(analyzer, attribute, None)):
            return f"lacks the method {attribute!r}"
    if not any(callable(getattr(analyzer, attribute, None)) for attribute in _ASKED):
        return "lacks the method 'analyze', or 'analyze_tree'"
    for attribute in _SCHEMAS:
        faults = schemas.check_schema(getattr(analyzer, attribute, None))
        if faults:
            return f"has an invalid {attribute!r}: {faults[0][0]} {faults[0][1]}"
    analyzer()  # one that cannot be made is reported like one that cannot be imported
    return None


def _check_shape(examples: Any) -> list[tuple[str, str]]:
    if not isinstance(examples, Mapping):
        return [("/examples", "Examples are an object with the lists `match` and `no_match`.")]
    found = [
        (f"/examples/{kind}", "Unknown; known are `match` and `no_match`.") for kind in examples if kind not in _KINDS
    ]
    for kind in _KINDS:
        snippets = examples.get(kind, ())
        if isinstance(snippets, str) or not isinstance(snippets, Sequence):
            found.append((f"/examples/{kind}", "This must be a list of texts."))
            continue
        if len(snippets) > MAX_EXAMPLES:
            found.append((f"/examples/{kind}", f"{MAX_EXAMPLES} examples are allowed."))
        for index, snippet in enumerate(snippets):
            if not isinstance(snippet, str):
                found.append((f"/examples/{kind}/{index}", "An example is a text."))
            elif len(snippet) > MAX_EXAMPLE_LENGTH:
                found.append((f"/examples/{kind}/{index}", f"{MAX_EXAMPLE_LENGTH} characters are allowed."))
    return found


_KINDS = ("match", "no_match")


@lru_cache(maxsize=16_384)
def _run_examples(key: str) -> tuple[tuple[str, str], ...]:
    plugin = json.loads(key)[0]
    try:
        analyzer = get(plugin)
    except RuleError as error:
        return ((f"/{error.field}", error.message),)
    return try_examples(analyzer, key) if is_bounded(plugin) else isolation.run_examples(source(plugin), key)


def try_examples(make: Callable[[], Analyzer], key: str) -> tuple[tuple[str, str], ...]:
    """What `check_examples` says, of an analyzer that `make` makes; `key` is the content as JSON."""
    plugin, configuration, file_types, file_patterns, exclude_patterns, examples, plugin_configuration = json.loads(key)
    rule = RuleSpec(
        name="example",
        plugin=plugin,
        configuration=configuration,
        file_types=file_types,
        file_patterns=file_patterns,
        exclude_patterns=exclude_patterns,
    )
    try:
        analyzer = make()
        analyzer.check_rule(rule)
        analyzer.prepare([rule], plugin_configuration)
        path = example_path(rule)
        return tuple(
            (f"/examples/{kind}/{index}", _EXPECTATIONS[kind])
            for kind in _KINDS
            for index, snippet in enumerate(examples[kind])
            if _is_found(analyzer, rule, path, snippet) is not (kind == "match")
        )
    except RuleError as error:
        return ((f"/{error.field}", error.message),)
    except Exception as error:  # an analyzer of another package may fail in any way; the rule is then not usable
        return (("/plugin", f"The plugin {plugin!r} failed on the examples: {type(error).__name__}: {error}"),)


_EXPECTATIONS = {
    "match": "The rule finds nothing in this example, but it should.",
    "no_match": "The rule finds something in this example, but it should not.",
}


def _is_found(analyzer: Analyzer | TreeAnalyzer, rule: RuleSpec, path: str, snippet: str) -> bool:
    found = (
        _analyze_alone(analyzer, rule, path, snippet)
        if isinstance(analyzer, TreeAnalyzer)
        else analyzer.analyze(SourceFile(path, snippet.encode("utf-8", "replace")), [rule])
    )
    return any(isinstance(each, Finding) and each.rule == rule.name for each in found)


def _analyze_alone(analyzer: TreeAnalyzer, rule: RuleSpec, path: str, snippet: str) -> Iterable[Finding | Any]:
    """What a rule that looks at all files finds in one alone, which may say in its first line what its path is."""
    if snippet.startswith(_PATH_LINE):
        first, _, snippet = snippet.partition("\n")
        path = first.removeprefix(_PATH_LINE).strip() or path
    content = snippet.encode("utf-8", "replace")
    file = TreeFile(path, location=path.encode("utf-8", "replace"), size=len(content))
    return analyzer.analyze_tree(SourceTree(Path(), (file,), lambda _: content), [rule])


def _spell(pattern: str) -> str:
    """A path that a simple path pattern names, such as `(^|/)Dockerfile$`; "" if it is not that simple."""
    text = re.sub(r"^(\^|\(\^\|/\)|\(\?:\^\|/\))|(\$|\\z)$", "", pattern).replace(r"\.", ".").replace("[^/]*", "x")
    return "" if re.search(r"[\\^$*+?()\[\]{}|]", text) else text
