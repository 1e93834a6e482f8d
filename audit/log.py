"""Which request does a line of the log belong to? Knows no models: logging is set up before they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_request_id: ContextVar[str] = ContextVar("request_id", default="-")


@contextmanager
def naming(request_id: str) -> Iterator[None]:
    """Lines logged inside carry `request_id`."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


class RequestIdFilter(logging.Filter):
    """Gives every line the id that the client got as `X-Request-ID`; ``-`` outside of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = _request_id.get()
        return True
