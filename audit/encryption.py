"""How does a secret lie in a row? As an envelope, `{"$encrypted": "KEY-ID.TOKEN", "mark": "…"}`, in its JSON.

The mark is random, made when the secret is set, and kept when its key is rotated. Documents of the journal show it in
place of the secret: two documents tell that a secret was changed, without anything from which it could be guessed, and
hashes over them hold whatever key is in use. It stands inside the token too, so that it cannot be put on another one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.fernet import InvalidToken

from audit.keys import Key, WrongKeys, find_key, first_key

FIELD = "$encrypted"
SHOWN = {"set": True}
"""What stands for a secret wherever it is shown."""


class Unreadable(Exception):
    """A secret that cannot be decrypted. `pointer` is its place in the document that was read."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class MissingKey(Unreadable):
    """The key that the secret was encrypted with is not here."""


class Damaged(Unreadable):
    """The key is here, and the ciphertext is not what it wrote."""


def seal(value: Any) -> dict[str, str]:
    """A new envelope for `value`, any JSON. Raises `WrongKeys`."""
    return _encrypt(first_key(), value, secrets.token_hex(8))


def unseal(envelope: dict[str, str]) -> Any:
    """The value in an envelope. Raises `MissingKey` or `Damaged`."""
    key, token = _find(envelope)
    try:
        content = json.loads(key.fernet.decrypt(token))
    except (InvalidToken, ValueError) as error:
        raise Damaged("It is damaged: what is stored is not what was encrypted. Set it again.") from error
    if content["mark"] != envelope["mark"]:
        raise Damaged("It is damaged: its mark is that of another value. Set it again.")
    return content["value"]


def rewrap(envelope: dict[str, str]) -> dict[str, str]:
    """The same value under the key that encrypts now, with its mark; the envelope itself if it is that already."""
    value = unseal(envelope)
    key = first_key()
    return envelope if key_id(envelope) == key.id else _encrypt(key, value, envelope["mark"])


def key_id(envelope: dict[str, str]) -> str:
    """Which key an envelope needs."""
    return envelope[FIELD].partition(".")[0]


def is_envelope(value: Any) -> bool:
    """Whether `value` has the form of an envelope."""
    return (
        isinstance(value, dict)
        and set(value) == {FIELD, "mark"}
        and all(isinstance(item, str) for item in value.values())
    )


def is_shown(value: Any) -> bool:
    """Whether `value` is what stands for a secret, with its mark or without."""
    return isinstance(value, dict) and value.get("set") is True and set(value) <= {"set", "mark"}


def mark(document: Any) -> Any:
    """`document` with `{"set": true, "mark": "…"}` for its envelopes, as the journal keeps it."""
    return replace(document, lambda envelope, _: {**SHOWN, "mark": envelope["mark"]})


def hide(document: Any) -> Any:
    """`document` with `{"set": true}` for its envelopes, and for those that the journal keeps with a mark."""
    if is_envelope(document) or is_shown(document):
        return dict(SHOWN)
    if isinstance(document, dict):
        return {name: hide(item) for name, item in document.items()}
    return [hide(item) for item in document] if isinstance(document, list) else document


def reveal(document: Any) -> Any:
    """`document` with the values of its envelopes. Raises `Unreadable` with the place of the first that fails."""

    def open_at(envelope: dict[str, str], pointer: str) -> Any:
        try:
            return unseal(envelope)
        except Unreadable as error:
            error.pointer = pointer
            raise

    return replace(document, open_at)


def reveal_readable(document: Any) -> tuple[Any, dict[str, Unreadable]]:
    """`document` with the values of its envelopes; those that cannot be read are left out, and told by their place."""
    lost: dict[str, Unreadable] = {}

    def open_at(envelope: dict[str, str], pointer: str) -> Any:
        try:
            return unseal(envelope)
        except Unreadable as error:
            error.pointer = pointer
            lost[pointer] = error
            return _LOST

    return _drop(replace(document, open_at)), lost


def find_envelopes(document: Any, path: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Every envelope in `document` with its JSON pointer."""
    if is_envelope(document):
        yield path, document
    elif isinstance(document, dict):
        for name, item in document.items():
            yield from find_envelopes(item, f"{path}/{_escape(name)}")
    elif isinstance(document, list):
        for index, item in enumerate(document):
            yield from find_envelopes(item, f"{path}/{index}")


def replace(document: Any, change: Callable[[dict[str, str], str], Any], path: str = "") -> Any:
    """`document` with what `change` makes of each envelope and its JSON pointer."""
    if is_envelope(document):
        return change(document, path)
    if isinstance(document, dict):
        return {name: replace(item, change, f"{path}/{_escape(name)}") for name, item in document.items()}
    if isinstance(document, list):
        return [replace(item, change, f"{path}/{index}") for index, item in enumerate(document)]
    return document


_LOST = object()


def _drop(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: _drop(item) for name, item in document.items() if item is not _LOST}
    if isinstance(document, list):
        return [_drop(item) for item in document if item is not _LOST]
    return None if document is _LOST else document


def _escape(step: str) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")


def _encrypt(key: Key, value: Any, own_mark: str) -> dict[str, str]:
    content = json.dumps({"mark": own_mark, "value": value}, separators=(",", ":")).encode()
    return {FIELD: f"{key.id}.{key.fernet.encrypt(content).decode('ascii')}", "mark": own_mark}


def _find(envelope: dict[str, str]) -> tuple[Key, bytes]:
    name, _, token = envelope[FIELD].partition(".")
    try:
        key = find_key(name)
    except WrongKeys as error:
        raise MissingKey(f"It cannot be decrypted. {error}") from error
    if key is None:
        raise MissingKey(
            f"The key {name[:8]!r} that it was encrypted with is not among those of this server: bring it back, or set "
            "a new value."
        )
    return key, token.encode("ascii", "replace")
