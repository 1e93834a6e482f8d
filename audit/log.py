"""Which request does a line of the log belong to, and how is it written? Knows no models: logging comes before them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

FIELDS = ("user", "revision", "method", "route", "path", "status", "duration_ms")
"""What a line may say beside its message; given by `extra`, or known of the request."""
HIDDEN = "[hidden]"
SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic|token)(\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)\b([a-z0-9+.-]+://[^\s:/@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),
    (
        re.compile(
            r"""(?ix)(["']?\b[\w-]*(?:password|passwd|secret|token|authorization|cookie|api[_-]?key)[\w-]*["']?\s*[=:]\s*)"""
            r"""(?!\s*(?:bearer|basic|token)\b)("[^"]*"|'[^']*'|[^\s,;&"')}]+)"""
        ),
        rf"\1{HIDDEN}",
    ),
)


@dataclass
class Request:
    """What is known of the running request."""

    id: str = "-"
    find_user: Callable[[], str] | None = None
    revision: int | None = None


_request: ContextVar[Request | None] = ContextVar("request", default=None)


@contextmanager
def naming(request_id: str, find_user: Callable[[], str] | None = None) -> Iterator[Request]:
    """Lines logged inside carry `request_id`. `find_user` gives the name that is known by then; it asks nobody."""
    request = Request(request_id, find_user)
    token = _request.set(request)
    try:
        yield request
    finally:
        _request.reset(token)


def note_revision(revision: int) -> None:
    """The running request has stored a change: its further lines say up to which revision."""
    request = _request.get()
    if request is not None:
        request.revision = revision


def hide_secrets(text: str) -> str:
    """`text` without what looks like a credential: tokens, passwords in addresses, values of such names."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


class RequestIdFilter(logging.Filter):
    """Gives every line the id that the client got as `X-Request-ID` (``-`` outside of a request), user and revision."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = _request.get()
        record.request_id = request.id if request is not None else "-"
        if request is not None:
            if request.revision is not None and not hasattr(record, "revision"):
                record.revision = request.revision
            if request.find_user is not None and not hasattr(record, "user"):
                record.user = request.find_user()
        return True


class LineFormatter(logging.Formatter):
    """One line for people, without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = getattr(record, "request_id", "-")
        return hide_secrets(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, without credentials; a traceback is one of its values."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": hide_secrets(record.getMessage()),
            "request_id": getattr(record, "request_id", "-"),
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None and value != "":
                entry[name] = value if isinstance(value, int | float) else hide_secrets(str(value))
        if record.exc_info:
            entry["exception"] = hide_secrets(self.formatException(record.exc_info))
        if record.stack_info:
            entry["stack"] = hide_secrets(record.stack_info)
        return json.dumps(entry, ensure_ascii=False)
