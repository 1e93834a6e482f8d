"""What does an error look like to a client? RFC 9457 problems, made of every exception that a request may end in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.core.exceptions import (
    NON_FIELD_ERRORS,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404
from django.utils.encoding import escape_uri_path
from rest_framework import exceptions
from rest_framework.settings import api_settings

from audit.changes import is_lock_timeout
from audit.errors import Busy, FieldError, InvalidEntries, NotPermitted, StaleVersion, StateConflict
from audit.sources import InvalidDocument, escape

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 200  # entries in one answer; nobody corrects more at once


@dataclass(frozen=True)
class Kind:
    """One kind of problem; its type is ``/problems/<slug>``."""

    status: int
    title: str
    advice: str


KINDS = {
    "invalid": Kind(400, "The request is not valid", "`errors` names each place by a JSON pointer."),
    "malformed": Kind(400, "The request cannot be read", "The body must be one JSON document; see `detail`."),
    "unauthenticated": Kind(
        401, "Authentication is required", "Send `Authorization: Bearer TOKEN`; POST /api/v1/auth/token gives one."
    ),
    "forbidden": Kind(403, "You may not do this", "Ask an administrator for the right that `detail` names."),
    "not-found": Kind(404, "There is no such thing", "It does not exist, or it is not yours to know of."),
    "method-not-allowed": Kind(405, "The method is not allowed here", "The header `Allow` lists those that are."),
    "conflict": Kind(409, "The present state forbids this", "`detail` names what stands against it."),
    "gone": Kind(410, "That is too long ago", "Load the whole again and go on from there."),
    "stale": Kind(
        412, "The object was changed since you read it", "Read it again, repeat your change, send the present `ETag`."
    ),
    "too-large": Kind(413, "The body is too large", "Send less at once; `detail` names the limit."),
    "unsupported-media-type": Kind(415, "The media type is not supported", "Send `Content-Type: application/json`."),
    "throttled": Kind(429, "Too many requests", "Wait for the seconds in `Retry-After`."),
    "internal": Kind(500, "The server made a mistake", "Report the request id; nothing of the request was stored."),
    "busy": Kind(503, "The server is busy", "Nothing was written. Try again after the seconds in `Retry-After`."),
    "unavailable": Kind(503, "The server is not ready", "Try again after the seconds in `Retry-After`."),
}


@dataclass(frozen=True)
class Entry:
    """One mistake: `pointer` is a JSON pointer (RFC 6901) into the body, or names a query parameter."""

    pointer: str
    detail: str
    code: str = "invalid"
    line: int | None = None  # of a document that was sent as text

    def document(self) -> dict[str, Any]:
        """As it stands in `errors`."""
        pointer = "#" + quote(self.pointer, safe="/~!$&'()*+,;=:@")
        line = {"line": self.line} if self.line is not None else {}
        return {"pointer": pointer, "detail": self.detail, "code": self.code, **line}


class Problem(exceptions.APIException):
    """An answer that is a problem of one of the `KINDS`."""

    def __init__(
        self, slug: str, detail: str = "", *, errors: Sequence[Entry] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        self.slug, self.errors, self.headers = slug, list(errors), dict(headers or {})
        self.status_code = KINDS[slug].status
        super().__init__(detail or KINDS[slug].title)

    def document(self, instance: str) -> dict[str, Any]:
        """The body of the answer."""
        body = {
            "type": f"/problems/{self.slug}",
            "title": KINDS[self.slug].title,
            "status": self.status_code,
            "detail": str(self.detail),
            "instance": escape_uri_path(instance),
        }
        if self.errors:
            body["errors"] = [entry.document() for entry in self.errors[:MAX_ERRORS]]
        return body


def invalid(*entries: Entry) -> Problem:
    """A 400 that names each mistake."""
    if len(entries) == 1:
        return Problem("invalid", entries[0].detail, errors=entries)
    return Problem("invalid", f"{len(entries)} mistakes were found.", errors=entries)


def list_entries(error: ValidationError, base: str = "") -> list[Entry]:
    """Every mistake in a `ValidationError` of a model, below `base`."""
    if not hasattr(error, "error_dict"):
        return [_entry(item, base) for item in error.error_list]
    found = []
    for name, items in error.error_dict.items():
        place = base if name == NON_FIELD_ERRORS else f"{base}/{escape(name)}"
        found += [_entry(item, place) for item in items]
    return found


def _entry(error: ValidationError, place: str) -> Entry:
    below = f"/{error.pointer}" if isinstance(error, FieldError) and error.pointer else ""
    return Entry(place + below, " ".join(error.messages), error.code or "invalid")


def find_conflict(error: ValidationError) -> str | None:
    """What `error` says if all of it is a conflict with the state of other objects, else None."""
    if hasattr(error, "error_dict"):
        items = [item for errors in error.error_dict.values() for item in errors]
    else:
        items = error.error_list
    if isinstance(error, StateConflict) or all(isinstance(item, StateConflict) for item in items):
        return " ".join(error.messages)
    return None


def flatten(detail: Any, base: str = "") -> Iterator[Entry]:
    """Every mistake in the details of a REST framework `ValidationError`."""
    if isinstance(detail, Mapping):
        for name, item in detail.items():
            below = name in (api_settings.NON_FIELD_ERRORS_KEY, NON_FIELD_ERRORS)
            yield from flatten(item, base if below else f"{base}/{escape(name)}")
    elif isinstance(detail, list):
        nested = any(isinstance(item, Mapping | list) for item in detail)
        for index, item in enumerate(detail):
            yield from flatten(item, f"{base}/{index}" if nested else base)
    elif detail:
        yield Entry(base, str(detail), getattr(detail, "code", "invalid") or "invalid")


def explain(error: BaseException) -> Problem | None:
    """The problem that `error` is to a client, or None if it is a mistake of the server."""
    for kind, translate in _TRANSLATIONS:
        if isinstance(error, kind):
            return translate(error)
    return None


def _explain_validation(error: ValidationError) -> Problem:
    conflict = find_conflict(error)
    return Problem("conflict", conflict) if conflict is not None else invalid(*list_entries(error))


def _explain_entries(error: InvalidEntries) -> Problem:
    return invalid(
        *(entry for index, item in sorted(error.errors.items()) for entry in list_entries(item, f"/{index}"))
    )


def _explain_document(error: InvalidDocument) -> Problem:
    """What is wrong with an imported document, each mistake at its place and line."""
    entries = [
        Entry(
            f"/document{problem.pointer}",
            f"{problem.name}: {problem.detail}" if problem.name else problem.detail,
            problem.code,
            problem.line,
        )
        for problem in error.problems
    ]
    slug = "conflict" if error.is_conflict else "invalid"
    if all(problem.code == "forbidden" for problem in error.problems):
        slug = "forbidden"
    many = f"{len(entries)} mistakes were found; nothing was written."
    return Problem(slug, entries[0].detail if len(entries) == 1 else many, errors=entries)


def _explain_operational(error: OperationalError | InterfaceError) -> Problem:
    if isinstance(error, OperationalError) and is_lock_timeout(error):
        return _busy("Another change is being stored. Nothing was written; try again in a moment.")
    return Problem("unavailable", "The database does not answer.", headers={"Retry-After": "5"})


def _busy(detail: str) -> Problem:
    return Problem("busy", detail, headers={"Retry-After": str(Busy.retry_after)})


def _explain_framework(error: exceptions.APIException) -> Problem:
    if isinstance(error, exceptions.ValidationError):
        return invalid(*flatten(error.detail))
    slug = next((slug for slug, kind in KINDS.items() if kind.status == error.status_code), "internal")
    if isinstance(error, exceptions.ParseError):
        slug = "malformed"
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait))
    return Problem(slug, str(error.detail), headers=headers)


_TRANSLATIONS: tuple[tuple[Any, Any], ...] = (
    (Problem, lambda error: error),
    (exceptions.APIException, _explain_framework),
    (InvalidDocument, _explain_document),
    (ValidationError, _explain_validation),
    (InvalidEntries, _explain_entries),
    (StaleVersion, lambda error: Problem("stale", str(error), headers={"ETag": f'"{error.current}"'})),
    (NotPermitted, lambda error: Problem("forbidden", str(error))),
    (PermissionDenied, lambda error: Problem("forbidden", str(error))),
    (Http404, lambda error: Problem("not-found")),
    (Busy, lambda error: _busy(str(error))),
    (IntegrityError, lambda error: Problem("conflict", "The database refused this: it contradicts another row.")),
    (OperationalError | InterfaceError, _explain_operational),
    (DataError, lambda error: Problem("invalid", "A value lies outside of what can be stored.")),
    (RequestDataTooBig, lambda error: Problem("too-large")),
    (SuspiciousOperation, lambda error: Problem("malformed", "The request is not valid.")),
    (RecursionError, lambda error: Problem("malformed", "The document is nested too deeply.")),
)
