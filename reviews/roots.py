"""Which folders may be reviewed from admin and API? Those at or below the allowed roots, wherever links lead.

Commands review whatever they can read: who runs one has the server's files before him anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError

MAX_PATH = 4096  # characters
MAX_LISTED = 500  # folders offered to choose from
LISTED_DEPTH = 2


def allowed_roots() -> list[Path]:
    """The allowed roots as they are now, links resolved."""
    return [Path(os.path.realpath(root)) for root in settings.REVIEW_ROOTS]


def resolve_root(wanted: str) -> Path:
    """The folder or file that `wanted` leads to; a relative path begins at an allowed root.

    Raises `ValidationError` at `root` if it lies outside of the allowed roots or is not there. Whoever sees that error
    may start reviews, so it names the roots.
    """
    if not wanted.strip() or "\0" in wanted or len(wanted) > MAX_PATH:
        raise ValidationError({"root": f"Name a folder. {_name_roots()}"})
    roots = allowed_roots()
    # An absolute path is what remains when a root is joined with it.
    inside = [
        resolved
        for resolved in dict.fromkeys(Path(os.path.realpath(root / wanted)) for root in roots)
        if any(resolved.is_relative_to(root) for root in roots)
    ]
    if not inside:
        raise ValidationError({"root": f"{wanted} lies elsewhere. {_name_roots()}"})
    for resolved in inside:
        if os.path.lexists(resolved) and _is_storable(resolved):
            return resolved
    raise ValidationError({"root": f"There is no {wanted}. {_name_roots()}"})


def list_folders() -> list[Path]:
    """The allowed roots that are there, with the folders in them down to a depth, for a person to choose from."""
    found: list[Path] = []
    for root in allowed_roots():
        for folder in _walk(root, LISTED_DEPTH):
            if len(found) == MAX_LISTED:
                return found
            found.append(folder)
    return list(dict.fromkeys(found))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """`folder` and what lies in it, each folder before its own. Hidden folders and links are left out."""
    try:
        with os.scandir(folder) as listing:
            children = sorted(
                child.name
                for child in listing
                if child.is_dir(follow_symlinks=False) and not child.name.startswith((".", "__pycache__"))
            )
    except OSError:
        return
    yield folder
    if depth:
        for name in children:
            if _is_storable(folder / name):
                yield from _walk(folder / name, depth - 1)


def _is_storable(path: Path) -> bool:
    """Whether the name is text: a session keeps it, and the worker finds the folder by it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _name_roots() -> str:
    roots = ", ".join(map(str, settings.REVIEW_ROOTS))
    return f"Reviews can be started at or below: {roots} (GOVERNANCE_REVIEW_ROOTS, set by whoever runs the server)."
