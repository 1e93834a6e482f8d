"""How does an event reach another server? Signed, once, to an address that was checked, without following anything."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

TIMEOUT = 8.0  # seconds for all of one attempt but the resolver's; less than a lease, so that it is not tried twice
MAX_ANSWER = 64 * 1024  # bytes of an answer that are read, and thrown away
PORTS = {"https": 443, "http": 80}
METADATA = {ipaddress.ip_address("168.63.129.16")}  # of a cloud, though it looks public
NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """The URL leads where no event is sent."""


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt: `code` is the HTTP status, None if there was none; no error means delivered."""

    code: int | None
    seconds: float
    error: str = ""

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken it."""
        return not self.error


def sign(secret: str, body: bytes, at: int) -> str:
    """The signature header: `t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`."""
    digest = hmac.new(secret.encode(), str(at).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def read_url(url: str, *, http_allowed: bool) -> SplitResult:
    """The parts of `url`. Raises `Refused` with what is wrong with it."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Refused("A URL is plain ASCII without spaces; other characters are percent-encoded.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(f"This is no URL: {error}.") from error
    schemes = ("https", "http") if http_allowed else ("https",)
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise Refused(f"A URL begins with {' or '.join(f'{scheme}://' for scheme in schemes)} and names a host.")
    if parts.username is not None or parts.password is not None:
        raise Refused("No user and no password in a URL: it is shown. The signature says who sends.")
    if parts.fragment:
        raise Refused("A fragment (#) is not sent: leave it out.")
    return parts


def is_public(address: Address) -> bool:
    """Whether `address` is one of the Internet: not of this machine, its networks, or its cloud's metadata."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and address not in METADATA


def check_literal(host: str, *, private: bool) -> None:
    """Raise `Refused` if `host` is written as an address that is not public. Names are judged when they are used."""
    with suppress(ValueError):
        if not private and not is_public(ipaddress.ip_address(host)):
            raise Refused("This address is not a public one.")


def resolve(host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of `host`. Raises `Refused` if any of them is not public, `OSError` if there is none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not private and not all(is_public(ipaddress.ip_address(each.partition("%")[0])) for each in addresses):
        raise Refused("The host has an address that is not public.")
    return addresses


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool, http_allowed: bool) -> Outcome:
    """Send `body` once; whatever goes wrong is told in the outcome, without a word of what was answered."""
    began, code, error = time.monotonic(), None, ""
    try:
        parts = read_url(url, http_allowed=http_allowed)
        code = _send(parts, body, headers, private=private)
        if 300 <= code < 400:
            error = "It answered with a redirect, which is not followed."
        elif not 200 <= code < 300:
            error = f"It answered {code}."
    except Refused as refused:
        error = str(refused)
    except (OSError, http.client.HTTPException, ValueError) as failed:
        error = _explain(failed)
    return Outcome(code, time.monotonic() - began, error)


def _explain(failed: Exception) -> str:
    if isinstance(failed, ssl.SSLCertVerificationError):
        return f"Its certificate is not good: {failed.verify_message}."
    if isinstance(failed, socket.gaierror):
        return "Its name has no address."
    if isinstance(failed, TimeoutError):
        return f"It did not answer within {TIMEOUT:.0f} seconds."
    return f"The connection failed: {type(failed).__name__}."


def _send(parts: SplitResult, body: bytes, headers: Mapping[str, str], *, private: bool) -> int:
    host, port = str(parts.hostname), parts.port or PORTS[parts.scheme]
    addresses = resolve(host, port, private=private)
    ends = time.monotonic() + TIMEOUT
    # The address that was checked is the one that is connected to: the name is not resolved a second time.
    with _connect(addresses, port, ends) as plain:
        watch = _Deadline(plain, ends)
        try:
            secure = parts.scheme == "https"
            stream = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            connection = kind(host, port)
            connection.sock = stream
            with stream:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("POST", target, body, dict(headers))
                answer = connection.getresponse()
                with suppress(OSError, http.client.HTTPException):
                    answer.read(MAX_ANSWER)  # so that it is not cut off; what it says is of no interest
                return answer.status
        except (OSError, http.client.HTTPException) as error:
            if watch.passed:
                raise TimeoutError from error
            raise
        finally:
            watch.stop()


class _Deadline:
    """Breaks a connection off in the end, however slowly the other side goes on talking."""

    def __init__(self, stream: socket.socket, ends: float) -> None:
        self.passed = False
        self._descriptor = stream.dup()  # wrapping takes the socket's own away
        self._timer = threading.Timer(max(0.0, ends - time.monotonic()), self._break_off)
        self._timer.daemon = True
        self._timer.start()

    def _break_off(self) -> None:
        self.passed = True
        with suppress(OSError):
            self._descriptor.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """The connection is done with."""
        self._timer.cancel()
        self._descriptor.close()


def _connect(addresses: list[str], port: int, ends: float) -> socket.socket:
    last: OSError = OSError("no address")
    for address in addresses:
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            return socket.create_connection((address, port), timeout=left)
        except OSError as error:
            last = error
    raise last
