"""Which values of a document are secret, and what is shown in their place? Pure: by JSON pointers, `*` is any step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from audit.encryption import SHOWN, is_envelope, is_shown

EMPTY = (None, "")
"""Values that hold nothing: shown as they are."""


def mask(document: Any, pointers: Sequence[str]) -> Any:
    """`document` with `{"set": true}` at each of `pointers` that leads to something; what is shown already stays."""
    return replace(document, pointers, lambda value: value if value in EMPTY or is_shown(value) else dict(SHOWN))


def mask_everything(document: Any) -> Any:
    """`document` with `{"set": true}` for all its values: nobody can tell which of them are secret."""
    if is_shown(document) or is_envelope(document):
        return document if is_shown(document) else dict(SHOWN)
    if isinstance(document, dict):
        return {name: mask_everything(value) for name, value in document.items()}
    if isinstance(document, list):
        return [mask_everything(value) for value in document]
    return dict(SHOWN)


def list_texts(document: Any, pointers: Sequence[str]) -> list[str]:
    """The texts at `pointers`, and those inside of what is there; numbers as they are written."""
    found: list[str] = []

    def collect(value: Any) -> Any:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(str(value))
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(item)
        return value

    replace(document, pointers, collect)
    return found


def redact(text: str, secrets: Sequence[str]) -> str:
    """`text` without any of `secrets`."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def replace(document: Any, pointers: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """A copy of `document` in which everything that `pointers` lead to is changed."""
    for pointer in pointers:
        document = _replace(document, split(pointer), change)
    return document


def split(pointer: str) -> tuple[str, ...]:
    """The steps of a JSON pointer."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def _replace(value: Any, steps: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    if not steps:
        return change(value)
    if is_envelope(value) or is_shown(value):
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict):
        return {name: _replace(item, rest, change) if step in (name, "*") else item for name, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, rest, change) if step in (str(index), "*") else item for index, item in enumerate(value)]
    return value
