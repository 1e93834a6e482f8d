"""How does a change fail? The errors of the kernel; every door turns them into its own words."""

from __future__ import annotations

from collections.abc import Mapping

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError


class UngovernedWrite(Exception):
    """A write that went round the change set (`queryset.update`, `bulk_create`, `loaddata`, …). Nothing was written."""


class StateConflict(ValidationError):
    """What was asked contradicts the present state of other objects (HTTP 409), naming them."""


class CheckRefusal(StateConflict):
    """What a check says against one object of a change set: `about` is its kind and its key, as the journal has them.

    `needs_override` says that an approved override would let the change pass.
    """

    def __init__(self, message: str, *, about: tuple[str, str], needs_override: bool = False) -> None:
        super().__init__(message, code="governance")
        self.about, self.needs_override = about, needs_override


class FieldError(ValidationError):
    """An error inside a structured field: `pointer` is the path below the field, such as ``match/0``."""

    def __init__(self, message: str, *, pointer: str, code: str = "invalid") -> None:
        super().__init__(message, code=code)
        self.pointer = pointer


class Busy(Exception):
    """The change set's lock could not be had in time (HTTP 503 with `Retry-After`). Nothing was written."""

    retry_after = 2  # seconds


class NotPermitted(Exception):
    """The acting user may not do this (HTTP 403)."""


class StaleVersion(Exception):
    """The object was changed since it was read (HTTP 412). Carries the present version of the object."""

    def __init__(self, entity: str, seen: int, current: int) -> None:
        super().__init__(
            f"{entity} was changed since you read it: you saw version {seen}, it is now {current}. "
            "Load it again and repeat your change."
        )
        self.seen = seen
        self.current = current


class InvalidEntries(Exception):
    """Entries of a set-based write that are not valid: index of the entry → its `ValidationError`."""

    def __init__(self, errors: Mapping[int, ValidationError]) -> None:
        super().__init__(f"{len(errors)} entries are not valid; nothing was written")
        self.errors = dict(errors)


def list_errors(error: ValidationError) -> list[tuple[str, str]]:
    """The pointer below the object and the sentence of everything in `error`."""
    if not hasattr(error, "error_dict"):
        return [("", message) for message in error.messages]
    found = []
    for name, errors in error.error_dict.items():
        base = "" if name == NON_FIELD_ERRORS else f"/{name}"
        for item in errors:
            below = f"/{item.pointer}" if isinstance(item, FieldError) and item.pointer else ""
            found += [(base + below, message) for message in item.messages]
    return found
