"""How is a secret setting shown and sent back? As `{"set": true}`: that it is there, never what it is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

MARK = {"set": True}
_ABSENT = object()


def mask(document: Any, pointers: Sequence[str]) -> Any:
    """`document` with the mark at each of `pointers` that leads to something; `*` is any name or index."""
    for pointer in pointers:
        document = _replace(document, _split(pointer), (), lambda value, path: value if value in (None, "") else MARK)
    return document


def mask_everything(document: Any) -> Any:
    """`document` with marks for all its values: nobody can tell which of them are secret."""
    if isinstance(document, dict):
        return {name: mask_everything(value) for name, value in document.items()}
    if isinstance(document, list):
        return [mask_everything(value) for value in document]
    return MARK


def unmask(document: Any, pointers: Sequence[str], stored: Any) -> tuple[Any, list[str]]:
    """`document` with what `stored` has in place of the marks, and the pointers of marks that stand for nothing."""
    missing: list[str] = []

    def restore(value: Any, path: tuple[str, ...]) -> Any:
        if value != MARK:
            return value
        kept = _find(stored, path)
        if kept is _ABSENT:
            missing.append("/".join(step.replace("~", "~0").replace("/", "~1") for step in path))
            return value
        return kept

    for pointer in pointers:
        document = _replace(document, _split(pointer), (), restore)
    return document, missing


def list_texts(document: Any, pointers: Sequence[str]) -> list[str]:
    """The texts at `pointers`, and those inside of what is there."""
    found: list[str] = []

    def collect(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, str):
            found.append(value)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(item, path)
        return value

    for pointer in pointers:
        _replace(document, _split(pointer), (), collect)
    return found


def _split(pointer: str) -> tuple[str, ...]:
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def _replace(value: Any, steps: tuple[str, ...], path: tuple[str, ...], change: Callable[[Any, Any], Any]) -> Any:
    """A copy of `value` in which everything that `steps` lead to is changed."""
    if not steps:
        return change(value, path)
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict):
        return {
            name: _replace(item, rest, (*path, name), change) if step in (name, "*") else item
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [
            _replace(item, rest, (*path, str(index)), change) if step in (str(index), "*") else item
            for index, item in enumerate(value)
        ]
    return value


def _find(document: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return _ABSENT
    return document
