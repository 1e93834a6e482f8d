"""How long does an answer take? One connection kept open over loopback, one request at a time."""

from __future__ import annotations

import gc
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from time import perf_counter
from typing import Any


class Refused(Exception):
    """The server answered something else than was expected."""


class Client:
    """HTTP/1.1 on one socket; without a library, which would cost as much as the answer."""

    def __init__(self, port: int, token: str = "") -> None:
        self._address, self._host = ("127.0.0.1", port), f"127.0.0.1:{port}"
        self._token = token
        self._socket: socket.socket | None = None
        self._buffer = b""

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        """The bytes of a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", "Accept: application/json"]
        if self._token:
            lines.append(f"Authorization: Bearer {self._token}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        content = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return "\r\n".join([*lines, "", ""]).encode() + content

    def send(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer. A connection that the server had closed is opened once more."""
        fresh = self._socket is None
        try:
            return self._exchange(raw)
        except (ConnectionError, OSError):
            self.close()
            if fresh:
                raise
            return self._exchange(raw)

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The JSON of a good answer."""
        status, _, content = self.send(self.request(method, path, body, headers))
        if not 200 <= status < 300:
            raise Refused(f"{method} {path}: {status} {content[:300].decode(errors='replace')}")
        return json.loads(content) if content else None

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def _exchange(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, 60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(raw)
        head = self._read_until(b"\r\n\r\n").split(b"\r\n")
        status = int(head[0].split(b" ", 2)[1])
        pairs = [line.decode("latin-1").split(":", 1) for line in head[1:] if b":" in line]
        headers = {name.lower(): value.strip() for name, value in pairs}
        if status in (204, 304):
            return status, headers, b""
        if headers.get("transfer-encoding", "") == "chunked":
            return status, headers, self._read_chunks()
        return status, headers, self._read(int(headers.get("content-length", 0)))

    def _read_until(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            self._more()
        found, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
        return found

    def _read(self, length: int) -> bytes:
        parts, have = [self._buffer], len(self._buffer)
        while have < length:
            data = self._receive()
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._buffer = whole[length:]
        return whole[:length]

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self._read_until(b"\r\n").split(b";")[0], 16):
            parts.append(self._read(size))
            self._read_until(b"\r\n")
        self._read_until(b"\r\n")
        return b"".join(parts)

    def _more(self) -> None:
        self._buffer += self._receive()

    def _receive(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionResetError("closed by the server")
        return data


@dataclass(frozen=True)
class Operation:
    """One thing that is asked of the server, and how long it may take (milliseconds)."""

    name: str
    method: str
    path: Callable[[int], str]
    body: Callable[[int], Any] | None = None
    kind: str = "read"  # read, write; other ones are not compared with the bare view
    ceiling: float | None = None
    target: float | None = None
    requests: int | None = None
    before: Callable[[Client, int], None] | None = None
    headers: Callable[[int], dict[str, str]] | None = None
    expect: int | None = None
    growth: str = ""  # rules, journal: what its time must not grow with


@dataclass
class Figures:
    """Times of one operation in milliseconds."""

    samples: list[float] = field(default_factory=list)

    def document(self) -> dict[str, float | int]:
        """What is kept of them."""
        ordered = sorted(self.samples)
        return {
            "n": len(ordered),
            "min": round(ordered[0], 3),
            "p50": round(percentile(ordered, 50), 3),
            "p95": round(percentile(ordered, 95), 3),
            "p99": round(percentile(ordered, 99), 3),
            "mean": round(fmean(ordered), 3),
        }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` percent of the sorted values lie, interpolated."""
    place = (len(ordered) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Measurement:
    """Times operations in blocks between blocks of the bare view, so that a ratio is of one and the same minute."""

    BLOCKS = 10
    WARM_UP = 5

    def __init__(self, client: Client, requests: int, tick: Callable[[int], None] = lambda number: None) -> None:
        self._client, self._requests, self._tick = client, requests, tick
        self._numbers: dict[str, int] = {}

    def run(self, operation: Operation) -> dict[str, Any]:
        """Figures of `operation`, its statements, and its ratio to the bare view."""
        total = min(self._requests, operation.requests or self._requests)
        blocks = min(self.BLOCKS, total)
        own, bare = Figures(), Figures()
        self._time(operation, min(self.WARM_UP, total), Figures())
        gc.disable()
        try:
            for block in range(blocks):
                count = total * (block + 1) // blocks - total * block // blocks
                self._time(BARE, max(3, min(10, count)), bare)
                self._time(operation, count, own)
                self._tick(count)
        finally:
            gc.enable()
        figures: dict[str, Any] = own.document()
        figures["statements"] = self._count_statements(operation)
        figures["bare_p50"] = bare.document()["p50"]
        figures["ratio"] = round(float(figures["p50"]) / float(figures["bare_p50"]), 2)
        return figures

    def _time(self, operation: Operation, count: int, figures: Figures) -> None:
        for _ in range(count):
            raw = self._prepare(operation, {})
            began = perf_counter()
            status, _, content = self._client.send(raw)
            figures.samples.append((perf_counter() - began) * 1000)
            check(operation, status, content)

    def _count_statements(self, operation: Operation) -> int:
        status, headers, content = self._client.send(self._prepare(operation, {"X-Bench-Statements": "1"}))
        check(operation, status, content)
        return int(headers.get("x-bench-statements", -1))

    def _prepare(self, operation: Operation, headers: dict[str, str]) -> bytes:
        number = self._numbers[operation.name] = self._numbers.get(operation.name, -1) + 1
        if operation.before is not None:
            operation.before(self._client, number)
        body = operation.body(number) if operation.body is not None else None
        more = operation.headers(number) if operation.headers is not None else {}
        return self._client.request(operation.method, operation.path(number), body, {**more, **headers})


def check(operation: Operation, status: int, content: bytes) -> None:
    """Raise `Refused` if the answer is not the expected one."""
    good = status == operation.expect if operation.expect else 200 <= status < 300
    if not good:
        raise Refused(f"{operation.name}: {status} {content[:300].decode(errors='replace')}")


BARE = Operation("bare authenticated view", "GET", lambda number: "/bench/bare", kind="baseline")
PLAIN = Operation("plain view of Django", "GET", lambda number: "/bench/plain", kind="baseline")
