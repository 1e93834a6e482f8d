"""Who is asking? Every request gets its origin, one batch for all it changes, and an id to find it by in the logs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from ipaddress import ip_address

from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject, empty

from audit.changes import Origin, originating
from audit.log import naming

MAX_USER_AGENT = 500  # characters
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")


def find_source(path: str) -> str:
    """The door that `path` leads to."""
    return "admin" if path.startswith("/admin") else "api"


def read_address(request: HttpRequest) -> str | None:
    """Address of the client as the server saw it. Behind a proxy the server itself is told which one to believe."""
    try:
        # Without the zone of a link-local address, which names an interface of this machine and cannot be stored.
        address = ip_address(request.META.get("REMOTE_ADDR", "").partition("%")[0])
    except ValueError:
        return None
    # A server that listens on IPv6 sees IPv4 clients so; databases spell such an address in ways of their own.
    return str(getattr(address, "ipv4_mapped", None) or address)


def read_text(header: str) -> str:
    """A header as the client meant it: servers hand UTF-8 bytes on as Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def find_known_user(request: HttpRequest) -> str:
    """Who it is, if that is known by now; empty otherwise. Asks no database: lines of the log ask this."""
    user = request.__dict__.get("user")
    if isinstance(user, LazyObject):
        user = None if user._wrapped is empty else user._wrapped
    return user.get_username() if getattr(user, "is_authenticated", False) else ""


def read_break_glass(request: HttpRequest) -> str | None:
    """Why a client of the API breaks the glass; None if it does not. The admin asks in its forms."""
    header = request.headers.get("X-Break-Glass")
    return read_text(header) if header is not None and find_source(request.path) == "api" else None


class OriginMiddleware:
    """Sets the origin of everything that a request changes, and answers with `X-Request-ID`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        sent = request.headers.get("X-Request-ID", "")
        request.id = sent if REQUEST_ID.match(sent) else uuid.uuid4().hex
        origin = Origin(
            source=find_source(request.path),
            request=request,
            reason=read_text(request.headers.get("X-Change-Reason", "")),
            ip_address=read_address(request),
            break_glass=read_break_glass(request),
            user_agent=request.headers.get("User-Agent", "").replace("\x00", "")[:MAX_USER_AGENT],
        )
        request.origin = origin
        with originating(origin), naming(request.id, lambda: find_known_user(request)):
            response = self.get_response(request)
        response["X-Request-ID"] = request.id
        return response
