"""Which dependencies that a file names may be something else tomorrow? Pure: the path and the text in, places out.

Pinned is what names one version (`==1.2.3`, `1.2.3`), or content itself: a commit, a digest, a hash. Local paths are
not judged, nor is what another file or a variable decides. Peer dependencies of a `package.json` are ranges by their
nature. A git tag can be moved, so that only a commit pins an action or a repository; a tag of an image is taken for
a pin unless it is `latest`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_SECTIONS = ("dependencies", "devDependencies", "optionalDependencies")
_MAX_DEPTH = 100
"""Levels of a YAML file. None of those read here needs ten, and the parser's time is quadratic in them."""

_COMMIT = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{40}|[0-9a-f]{64})(?![0-9a-f])")
_HASHED = re.compile(r"[#&](?:sha\d+|md5)=")
_USER = re.compile(r"(?<=://)[^/\s@]++(?=@)")

_COMMENT = re.compile(r"(?:^|\s)#.*")
_EDITABLE = re.compile(r"\s*(?:-e|--editable)[\s=]\s*")
_OPTIONS = re.compile(r"\s(?:--|;).*")
_ADDRESS = re.compile(r"(?:(?P<name>[\w.-]++)\s*+(?:\[[^]]*+\])?\s*+@\s*+)?(?P<url>[a-z][a-z0-9+.-]++:\S++)")
_NAMED = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*+)\s*+(?:\[[^]]*+\])?\s*+(?P<versions>\(?[<>=!~][^;]*+)?(?:;.*)?", re.DOTALL
)
_LOCAL = (".", "/", "~", "\\", "file:")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\],]')
_EXACT = re.compile(r"[v=]*\s*\d+\.\d+\.\d+(?:-[\w.-]+)?(?:\+[\w.-]+)?")
_NOT_JUDGED = ("./", "../", "/", "~/", "file:", "link:", "workspace:", "portal:", "patch:", "catalog:")
_REPOSITORY = re.compile(
    r"(?:git[+:@]|ssh:).*|\w+:[\w.-]+/.*|[\w.-]+/[\w.-]+(?:#.*)?|https?://\S+\.git(?:#.*)?", re.DOTALL
)

_FROM = re.compile(r"\s*+FROM\s++(?:--\S++\s++)*+(?P<image>\S++)(?:\s++AS\s++(?P<stage>\S++))?", re.IGNORECASE)
_HEREDOC = re.compile(r"(?:^|\s)\d*<<-?(['\"]?)([A-Za-z_]\w*)\1")

Place = tuple[int, int, int, int]
"""Start line and column, end line and column, all from 1; the end is the column after."""


class NotRead(ValueError):
    """The file is not what its name says; the message tells where and why."""


@dataclass(frozen=True, slots=True)
class Unpinned:
    """A dependency that is not pinned: its name, what the file says of it without credentials, and where."""

    name: str
    shown: str
    place: Place
    sensitive: bool = False
    """Whether the file says it with credentials."""


def kind_of(path: str) -> str | None:
    """What a file at `path` names dependencies for, one of `READERS`, or None."""
    folder, _, name = path.rpartition("/")
    if name.endswith(".txt"):
        is_list = "requirements" in name or folder.rpartition("/")[2] == "requirements"
        return "requirements" if is_list else None
    if name == "package.json":
        return "package_json"
    if name.endswith((".yml", ".yaml")):
        is_workflow = folder == ".github/workflows" or folder.endswith("/.github/workflows")
        return "workflow" if is_workflow or name in ("action.yml", "action.yaml") else None
    lowered = name.lower()
    if lowered.endswith((".dockerfile", ".containerfile")) or lowered.partition(".")[0] in _IMAGE_FILES:
        return "dockerfile"
    return None


_IMAGE_FILES = ("dockerfile", "containerfile")


def read_requirements(text: str) -> Iterator[Unpinned]:
    """Requirements of pip that no exact version, hash or commit holds."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        first = number
        number += 1
        parts = [_COMMENT.sub("", lines[first])]
        while parts[-1].endswith("\\") and number < len(lines):
            parts[-1] = parts[-1][:-1] + " "
            parts.append(_COMMENT.sub("", lines[number]))
            number += 1
        line = "".join(parts)
        editable = _EDITABLE.match(line)
        start = editable.end() if editable else len(line) - len(line.lstrip())
        found = _judge_requirement(line[start:])
        if found is not None:
            name, said = found
            # What is continued on the next line is shown to the end of the first.
            end = max(min(start + len(said), len(parts[0].rstrip())), start)
            place = (first + 1, start + 1, first + 1, end + 1)
            yield _make_unpinned(name, " ".join(said.split()), place)


def _judge_requirement(text: str) -> tuple[str, str] | None:
    """Name and text of a requirement that is not pinned."""
    if "--hash" in text or text.startswith(("-", *_LOCAL)):
        return None
    text = _OPTIONS.sub("", text).rstrip()
    address = _ADDRESS.fullmatch(text)
    if address is not None:
        url = address["url"]
        if url.startswith("file:") or _COMMIT.search(url) or _HASHED.search(url):
            return None
        return address["name"] or _hide_user(url), text
    named = _NAMED.fullmatch(text)
    if named is None or text.lower().endswith(_ARCHIVES):
        return None
    versions = (named["versions"] or "").strip("() \t")
    if any(each.strip().startswith("==") and not each.rstrip().endswith("*") for each in versions.split(",")):
        return None
    return named["name"], text.partition(";")[0].rstrip()


def read_package(text: str) -> Iterator[Unpinned]:
    """Dependencies of a `package.json` that allow more than one version."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise NotRead(f"line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise NotRead("the JSON is nested too deeply or holds a number that is too long") from error
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    line = 0
    # The document is valid, so that strings and brackets say where everything is: name and start of each open bracket.
    opened: list[tuple[str, str]] = []
    key: Any = None
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "{[":
            opened.append((sign, json.loads(key[0]) if key else ""))
            key = None
        elif sign in "]},":
            key = None
            if sign != ",":
                opened.pop()
        elif not opened or opened[-1][0] == "[":
            continue
        elif key is None:
            key = token
        elif len(opened) == 2 and opened[0][0] == "{" and opened[1][1] in _SECTIONS:
            name, version = json.loads(key[0]), json.loads(sign)
            if not _is_exact(version):
                while line + 1 < len(starts) and starts[line + 1] <= key.start():
                    line += 1
                last = line
                while last + 1 < len(starts) and starts[last + 1] <= token.start():
                    last += 1
                place = (line + 1, key.start() - starts[line] + 1, last + 1, token.end() - starts[last] + 1)
                yield _make_unpinned(name, f"{name} {version}".rstrip(), place)


def _is_exact(version: str) -> bool:
    version = version.strip()
    if version.startswith("npm:"):
        version = version[5:].rpartition("@")[2] if "@" in version[5:] else ""
    if version.startswith(_NOT_JUDGED):
        return True
    if _REPOSITORY.fullmatch(version):
        return _COMMIT.search(version.partition("#")[2]) is not None
    return "://" in version or _EXACT.fullmatch(version) is not None


def read_dockerfile(text: str) -> Iterator[Unpinned]:
    """Images of a Dockerfile that have no tag, or the tag `latest`."""
    stages = {"scratch"}
    lines = text.split("\n")
    last = {line.strip(): at for at, line in enumerate(lines)}
    continued = False
    number = 0
    while number < len(lines):
        line = lines[number]
        number = here = number + 1
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        # In the middle of an instruction `FROM` is a word like any other, as in SQL.
        found = None if continued else _FROM.match(line)
        continued = bare.endswith("\\")
        for heredoc in _HEREDOC.finditer(line):
            if last.get(heredoc[2], -1) >= number:
                number = next(at for at in range(number, len(lines)) if lines[at].strip() == heredoc[2]) + 1
        if found is None:
            continue
        image = found["image"]
        if image.lower() not in stages and not _has_tag(image):
            place = (here, found.start("image") + 1, here, found.end("image") + 1)
            yield Unpinned(_name_image(image), image, place)
        if found["stage"]:
            stages.add(found["stage"].lower())


def _has_tag(image: str) -> bool:
    name, _, digest = image.partition("@")
    if digest:
        return True
    last, _, tag = name.rpartition("/")[2].partition(":")
    return tag != "latest" if tag else "$" in last


def _name_image(image: str) -> str:
    folder, slash, last = image.partition("@")[0].rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


def read_workflow(text: str) -> Iterator[Unpinned]:
    """Actions, reusable workflows and images that a workflow or an action of GitHub uses, by a name that can move."""
    # Only line feeds are line ends here; YAML knows more, and its line numbers would be others.
    text = re.sub("[\r\x85\u2028\u2029]", " ", text)
    try:
        for event, path in _walk_yaml(text):
            used = event.value.strip()
            if path[-1] == "uses" and _is_use(path) and not _is_fixed_use(used):
                start, end = event.start_mark, event.end_mark
                place = (start.line + 1, start.column + 1, end.line + 1, end.column + 1)
                name = _name_image(used.removeprefix("docker://")) if used.startswith("docker:") else used
                yield Unpinned(name.partition("@")[0], used, place)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise NotRead(f"{where}{error.problem}") from error
    except yaml.YAMLError as error:
        raise NotRead(str(error).partition("\n")[0]) from error


def _is_use(path: tuple[Any, ...]) -> bool:
    match path:
        case ("jobs", _, "uses") | ("jobs", _, "steps", None, "uses") | ("runs", "steps", None, "uses"):
            return True
    return False


def _is_fixed_use(used: str) -> bool:
    if used.startswith("docker://"):
        return _has_tag(used.removeprefix("docker://"))
    return not used or used.startswith("./") or "${{" in used or _COMMIT.fullmatch(used.rpartition("@")[2]) is not None


def _walk_yaml(text: str) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The scalar values below a key, with the keys on the way to them; None stands for a place in a list.

    Reads events, not nodes: those are made by recursion in C, which ends the process if a file is nested deeply.
    """
    open_keys: list[Any] = []  # of each open mapping its present key, or _NO_KEY; of each open list None
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_keys) == _MAX_DEPTH:
                raise NotRead(f"line {event.start_mark.line + 1}: nested too deeply")
            open_keys.append(_NO_KEY if isinstance(event, yaml.MappingStartEvent) else None)
        elif isinstance(event, yaml.CollectionEndEvent):
            open_keys.pop()
            _end_value(open_keys)
        elif isinstance(event, yaml.ScalarEvent) and open_keys and open_keys[-1] is _NO_KEY:
            open_keys[-1] = event.value
        elif isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            if open_keys and isinstance(event, yaml.ScalarEvent):
                yield event, tuple(open_keys)
            _end_value(open_keys)


_NO_KEY = object()


def _end_value(open_keys: list[Any]) -> None:
    """After a value its mapping waits for the next key. What was itself a key, a list for example, is no name."""
    if open_keys and open_keys[-1] is not None:
        open_keys[-1] = _UNNAMED if open_keys[-1] is _NO_KEY else _NO_KEY


_UNNAMED = object()


def _make_unpinned(name: str, said: str, place: Place) -> Unpinned:
    shown = _hide_user(said)
    return Unpinned(name, shown, place, sensitive=shown != said)


def _hide_user(text: str) -> str:
    return _USER.sub("***", text)


READERS: dict[str, Callable[[str], Iterator[Unpinned]]] = {
    "requirements": read_requirements,
    "package_json": read_package,
    "dockerfile": read_dockerfile,
    "workflow": read_workflow,
}
