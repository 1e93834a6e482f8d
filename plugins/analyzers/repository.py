"""Does a codebase hold what it should, and only that? The plugin `repository`, which looks at all files at once."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pathspec import GitIgnoreSpec

from plugins.analyzers.manifests import READERS, NotRead, Unpinned, kind_of
from plugins.analyzers.options import check_options
from plugins.analyzers.patterns import check_configuration, normalise, shorten
from plugins.contract import Finding, PartialFailure, RuleError, RuleSpec, SourceFile, SourceTree

_OPTIONS = {
    "forbidden_path": ("paths",),
    "large_file": ("max_bytes", "paths"),
    "missing_file": ("paths",),
    "missing_test": ("paths", "tests"),
    "unpinned_dependency": ("kinds", "allowed"),
}
_REQUIRED = {
    "forbidden_path": ("paths",),
    "large_file": ("max_bytes",),
    "missing_file": ("paths",),
    "missing_test": ("paths", "tests"),
}
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_PLACEHOLDERS = ("name", "stem", "folder")
_WILDCARD = re.compile(r"[*?[]")


def _list_of(title: str, description: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "array",
        "title": title,
        "description": description,
        "items": {"type": "string", "minLength": 1, "maxLength": 200, **item},
        "maxItems": 100,
        "uniqueItems": True,
    }


class Repository:
    """Judges paths, sizes, missing files and dependencies of a codebase."""

    name = "repository"
    title = "Repository"
    description = (
        "Looks at the codebase as a whole: files that should not be there, files that are too large, "
        "files and tests that are missing, dependencies that are not pinned."
    )
    version = "1.0.0"
    requires: Sequence[str] = ()
    seconds_per_tree = 120
    configuration_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Repository",
        "properties": {},
        "additionalProperties": False,
    }
    rule_schema: Mapping[str, Any] = {
        "type": "object",
        "title": "Repository rule",
        "properties": {
            "check": {
                "type": "string",
                "title": "Check",
                "description": "`forbidden_path`: no file may have one of the paths. `large_file`: none may be larger "
                "than the limit. `missing_file`: one with one of the paths must be there, when a whole codebase is "
                "reviewed. `missing_test`: each file with one of the paths has a test. `unpinned_dependency`: a "
                "dependency may not change by itself.",
                "enum": list(_OPTIONS),
            },
            "paths": _list_of(
                "Paths",
                "As in a `.gitignore`: `*.pem` anywhere, `/README*` at the root, `src/**/*.py`; "
                "`!` takes back what an earlier line took. For a large file: only those; empty means all.",
                {"title": "Path", "format": "gitignore"},
            ),
            "max_bytes": {
                "type": "integer",
                "title": "Largest size",
                "description": "For a large file: bytes that a file may have.",
                "format": "int64",
                "minimum": 1,
                "maximum": 1 << 40,
            },
            "tests": _list_of(
                "Tests",
                "For a missing test: where it is looked for; one is enough. `{stem}` is the name of the file without "
                "its ending, `{name}` with it, `{folder}` where it is; `**/` is any folder, once: "
                "`{folder}/test_{stem}.py`, `tests/**/test_{stem}.py`.",
                {"title": "Path of a test", "format": "path-template"},
            ),
            "kinds": _list_of(
                "Kinds",
                "For an unpinned dependency: `requirements` of pip, `package_json`, the `FROM` of a `dockerfile`, "
                "what a `workflow` of GitHub uses. Empty means all.",
                {"title": "Kind", "enum": list(READERS)},
            ),
            "allowed": _list_of(
                "Allowed",
                "For an unpinned dependency: names that need no pin; `*` stands for any text, as in `actions/*`.",
                {"title": "Name"},
            ),
        },
        "required": ["check"],
        "additionalProperties": False,
    }

    def __init__(self) -> None:
        self.prepare((), {})

    def check_rule(self, rule: RuleSpec) -> None:
        """Raise `RuleError` if an option is missing, does not go with the check, or cannot be read."""
        check_configuration(rule, self.rule_schema)
        check_options(rule, "check", _OPTIONS, _REQUIRED)
        _compile_paths(rule)
        _read_templates(rule)
        if rule.configuration["check"] == "missing_file":
            for field in ("file_types", "file_patterns"):
                if getattr(rule, field):
                    message = "A missing file belongs to the codebase and not to other files: leave this empty."
                    raise RuleError(message, field=field, code="not_for_this")

    def prepare(self, rules: Sequence[RuleSpec], configuration: Mapping[str, Any]) -> None:
        """Compile the paths of a run."""
        self._paths = {rule.name: _compile_paths(rule) for rule in rules}
        self._templates = {rule.name: _read_templates(rule) for rule in rules}

    def analyze_tree(self, tree: SourceTree, rules: Sequence[RuleSpec]) -> Iterable[Finding | PartialFailure]:
        """Findings of the given rules, rule by rule; each file that names dependencies is read once for all."""
        by_check: dict[str, list[RuleSpec]] = {}
        for rule in rules:
            by_check.setdefault(rule.configuration["check"], []).append(rule)
        for rule in by_check.get("forbidden_path", ()):
            yield from self._find_forbidden(tree, rule)
        for rule in by_check.get("large_file", ()):
            yield from self._find_large(tree, rule)
        for rule in by_check.get("missing_file", ()):
            yield from self._find_missing(tree, rule)
        if "missing_test" in by_check:
            paths = _Paths([file.path for file in tree.files])
            for rule in by_check["missing_test"]:
                yield from self._find_untested(tree, rule, paths)
        if "unpinned_dependency" in by_check:
            yield from _find_unpinned(tree, by_check["unpinned_dependency"])

    def _find_forbidden(self, tree: SourceTree, rule: RuleSpec) -> Iterator[Finding]:
        paths = self._paths[rule.name]
        for file in tree.files:
            if paths.match_file(file.path):
                # Most such files hold credentials. All their lines are the finding's, so that none is shown.
                end = _end_of(tree.read(file))
                yield Finding(rule.name, file.path, 1, 1, *end, _message(rule), sensitive=True)

    def _find_large(self, tree: SourceTree, rule: RuleSpec) -> Iterator[Finding]:
        highest = rule.configuration["max_bytes"]
        paths = self._paths[rule.name] if rule.configuration.get("paths") else None
        for file in tree.files:
            if file.size > highest and (paths is None or paths.match_file(file.path)):
                message = f"{_message(rule)} ({file.size:,} bytes, {highest:,} is the limit)"
                yield Finding(rule.name, file.path, 1, 1, 1, 1, message)

    def _find_missing(self, tree: SourceTree, rule: RuleSpec) -> Iterator[Finding]:
        paths = self._paths[rule.name]
        # Nothing can be missing from a part of a codebase, nor from an empty folder.
        whole = tree.is_whole and bool(tree.files)
        if whole and not any(paths.match_file(file.path) for file in tree.files):
            wanted = rule.configuration["paths"]
            plain = [each for each in wanted if not _WILDCARD.search(each) and not each.startswith("!")]
            listed = ", ".join(f"`{each}`" for each in plain or wanted)
            message = f"{_message(rule)} ({'such as ' if 0 < len(plain) < len(wanted) else ''}{listed})"
            yield Finding(rule.name, _plain_path(plain or wanted), 1, 1, 1, 1, message)

    def _find_untested(self, tree: SourceTree, rule: RuleSpec, known: _Paths) -> Iterator[Finding]:
        paths, templates = self._paths[rule.name], self._templates[rule.name]
        for file in tree.files:
            # An empty file, such as many an `__init__.py`, has nothing to test.
            if file.size and paths.match_file(file.path):
                wanted = [_fill(template, file.path) for template in templates]
                if not any(known.hold(folder, rest) for folder, rest in wanted):
                    listed = ", ".join(f"`{_join(folder, rest)}`" for folder, rest in wanted)
                    yield Finding(rule.name, file.path, 1, 1, 1, 1, f"{_message(rule)} (there is no {listed})")


Template = tuple[str | None, str]
"""What comes before `**/` (None: there is none) and what comes after it."""


class _Paths:
    """The paths of a tree, made to be asked often: each question takes about the time of one look-up."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = frozenset(paths)
        self._ends: dict[int, dict[str, list[str]]] = {}

    def hold(self, folder: str | None, rest: str) -> bool:
        """Whether there is a file `rest`, or, with a folder, one that ends in `rest` at any depth below the folder."""
        if folder is None:
            return rest in self._paths
        candidates = self._with_end(rest.count("/") + 1).get(rest, [])
        prefix = f"{folder}/" if folder else ""
        for index in range(bisect_left(candidates, prefix), len(candidates)):
            if not candidates[index].startswith(prefix):
                break
            # The two may overlap: `a/b/c` starts with `a/b/` and ends in `b/c`.
            if len(candidates[index]) >= len(prefix) + len(rest):
                return True
        return False

    def _with_end(self, steps: int) -> dict[str, list[str]]:
        """The paths, sorted, by their last `steps` steps."""
        if steps not in self._ends:
            ends = self._ends[steps] = {}
            for path in sorted(self._paths):
                before, *last = path.rsplit("/", steps)
                if len(last) == steps:
                    ends.setdefault(path[len(before) + 1 :], []).append(path)
                elif len(last) == steps - 1:
                    ends.setdefault(path, []).append(path)
        return self._ends[steps]


def _find_unpinned(tree: SourceTree, rules: Sequence[RuleSpec]) -> Iterator[Finding | PartialFailure]:
    for file in tree.files:
        kind = kind_of(file.path)
        asking = [rule for rule in rules if kind and kind in (rule.configuration.get("kinds") or READERS)]
        content = tree.read(file) if asking else None
        if kind is None or content is None:
            continue
        # Bytes that are no UTF-8 are replaced.
        source = normalise(SourceFile(file.path, content))
        try:
            for found in READERS[kind](source.content.decode("utf-8", "replace")):
                for rule in asking:
                    if not _is_allowed(rule, found):
                        message = f"{_message(rule)} (`{shorten(found.shown)}`)"
                        shown = shorten(found.shown)
                        yield Finding(rule.name, file.path, *found.place, message, shown, sensitive=found.sensitive)
        except NotRead as error:
            yield PartialFailure(str(error), path=file.path)


def _is_allowed(rule: RuleSpec, found: Unpinned) -> bool:
    return any(fnmatchcase(found.name, each) for each in rule.configuration.get("allowed", ()))


def _message(rule: RuleSpec) -> str:
    return rule.message or rule.title or rule.name


def _end_of(content: bytes | None) -> tuple[int, int]:
    """Line and column of the end of a text; the first place if there is none."""
    if not content:
        return 1, 1
    source = normalise(SourceFile("", content.rstrip(b"\r\n")))
    number = len(source.line_starts)
    return number, len(source.line(number)) + 1


def _plain_path(lines: Sequence[str]) -> str:
    """A path that says what the first line asks for: `/README*` → `README`, `docs/**/*.md` → `docs`."""
    first = next((line for line in lines if not line.startswith("!")), lines[0])
    kept = []
    for step in first.removeprefix("!").strip("/").removeprefix("**/").split("/"):
        plain = _WILDCARD.split(step, maxsplit=1)[0]
        if plain != step:
            kept.append(plain.rstrip(".-_"))
            break
        kept.append(step)
    return "/".join(step for step in kept if step) or first.strip("/")


def _compile_paths(rule: RuleSpec) -> GitIgnoreSpec:
    """The paths of a rule, which match in linear time (RE2). Raises `RuleError` about a line that says nothing."""
    lines = rule.configuration.get("paths") or ()
    for index, line in enumerate(lines):
        field = f"configuration/paths/{index}"
        try:
            patterns = GitIgnoreSpec.from_lines([line]).patterns
        # The library lets through what `re` and RE2 say of a class such as `[z-a]`.
        except (ValueError, re.error, RuntimeError) as error:
            raise RuleError(f"This is no path as in a `.gitignore`: {error}.", field=field, code="syntax") from error
        if not any(pattern.include is not None for pattern in patterns):
            raise RuleError("This line matches no path.", field=field, code="matches_nothing")
    return GitIgnoreSpec.from_lines(lines)


def _read_templates(rule: RuleSpec) -> list[Template]:
    """The templates of the tests of a rule; raises `RuleError` about one that cannot be filled."""
    templates: list[Template] = []
    for index, template in enumerate(rule.configuration.get("tests") or ()):
        names = _PLACEHOLDER.findall(template)
        before, any_folder, after = f"/{template}".partition("/**/")
        problem = ""
        if any(name not in _PLACEHOLDERS for name in names):
            problem = "Known are `{stem}`, `{name}` and `{folder}`."
        elif "stem" not in names and "name" not in names:
            problem = "It must hold `{stem}` or `{name}`, or all files would have the same test."
        elif _WILDCARD.search(before + after):
            problem = "`**/` is the one wildcard, once: list several paths instead."
        elif template.endswith("/") or template.startswith("/") or "\\" in template:
            problem = "It is the path of a file below the root, with forward slashes."
        if problem:
            raise RuleError(problem, field=f"configuration/tests/{index}", code="template")
        templates.append((before, after) if any_folder else (None, template))
    return templates


def _fill(template: Template, path: str) -> Template:
    folder, _, name = path.rpartition("/")
    values = {"folder": folder, "name": name, "stem": name.rpartition(".")[0] or name}

    def fill(text: str) -> str:
        filled = _PLACEHOLDER.sub(lambda found: values[found[1]], text)
        return "/".join(step for step in filled.split("/") if step)

    before, after = template
    return None if before is None else fill(before), fill(after)


def _join(folder: str | None, rest: str) -> str:
    if folder is None:
        return rest
    return f"{folder}/**/{rest}" if folder else f"**/{rest}"
