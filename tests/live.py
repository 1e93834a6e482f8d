"""How does a client of the stream act in a test? The application runs in a thread; sockets are asked from the test."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.db import connections

from audit.relay import ensure_relay, stop_relay
from governance_config.asgi import application

# The application asks for a pool for the server's process; commands that other tests start want none.
os.environ.pop("GOVERNANCE_POOL", None)
SECONDS = 20
PATH = "/ws/v1/config/changes"


class Server:
    """The ASGI application on an event loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._sockets: list[Socket | EventStream] = []

    def do(self, coroutine: Any) -> Any:
        """The result of a coroutine that runs on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(SECONDS)

    def start(self) -> None:
        self._thread.start()
        self.relay = self.do(ensure_relay())

    def stop(self) -> None:
        for socket in self._sockets:
            socket.leave()
        self.do(stop_relay())
        self.do(self._close_threads())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SECONDS)
        self.loop.close()

    async def _close_threads(self) -> None:
        await self.loop.shutdown_default_executor()

    def connect(self, token: str | None = None, **headers: str) -> Socket:
        """A socket whose handshake was answered."""
        given = {"host": "testserver", **headers}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        return self.open(given)

    def open(self, headers: dict[str, str], path: str = PATH) -> Socket:
        """A socket at any address."""
        socket = Socket(self, headers, path)
        self._sockets.append(socket)
        return socket

    def hello(self, token: str | None = None, **headers: str) -> Socket:
        """A socket that was greeted, and says at once that it is content to go on from there."""
        socket = self.connect(token, **headers)
        greeting = socket.receive()
        assert greeting["type"] == "hello", greeting
        socket.epoch, socket.revision = greeting["epoch"], greeting["revision"]
        return socket

    def listen(self, token: str | None = None, query: str = "", **headers: str) -> EventStream:
        """A stream of server-sent events, of which status and headers were answered."""
        given = {"host": "testserver", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        stream = EventStream(self, query, given)
        self._sockets.append(stream)
        return stream


class Socket:
    """One WebSocket."""

    def __init__(self, server: Server, headers: dict[str, str], path: str) -> None:
        self._server, self._heard = server, queue.SimpleQueue()
        scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "subprotocols": [],
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self.epoch, self.revision = "", 0
        self._communicator = server.do(self._open(scope))
        first = self.hear()
        self.refused = first["type"] == "websocket.close"
        assert self.refused or first["type"] == "websocket.accept", first

    async def _open(self, scope: dict[str, Any]) -> ApplicationCommunicator:
        self._gate = asyncio.Event()
        self._gate.set()

        async def gated(scope: dict[str, Any], receive: Any, send: Any) -> None:
            async def send_when_open(event: dict[str, Any]) -> None:
                await self._gate.wait()
                await send(event)

            await application(scope, receive, send_when_open)

        communicator = ApplicationCommunicator(gated, scope)
        await communicator.send_input({"type": "websocket.connect"})
        self._listening = asyncio.create_task(self._listen(communicator))
        return communicator

    async def _listen(self, communicator: ApplicationCommunicator) -> None:
        while True:
            self._heard.put(await communicator.output_queue.get())

    async def hold(self) -> None:
        """Take nothing more until `release`, as a client whose line is full."""
        self._gate.clear()

    async def release(self) -> None:
        """Take what comes again."""
        self._gate.set()

    def hear(self) -> dict[str, Any]:
        """The next event of the server."""
        return self._heard.get(timeout=SECONDS)

    def receive(self) -> dict[str, Any]:
        """The next message."""
        event = self.hear()
        assert event["type"] == "websocket.send", event
        return json.loads(event["text"])

    def receive_many(self, count: int) -> list[dict[str, Any]]:
        return [self.receive() for _ in range(count)]

    def expect_close(self) -> int:
        """The code with which the server closes; messages before it are skipped."""
        while (event := self.hear())["type"] != "websocket.close":
            pass
        return event["code"]

    def say(self, **message: Any) -> None:
        self.say_text(json.dumps(message))

    def say_text(self, text: str) -> None:
        self._server.do(self._communicator.send_input({"type": "websocket.receive", "text": text}))

    def resume(self, since: int, epoch: str | None = None, **more: Any) -> None:
        self.say(type="resume", epoch=self.epoch if epoch is None else epoch, since=since, **more)

    @property
    def silent(self) -> bool:
        """Whether nothing is waiting to be read."""
        return self._heard.empty()

    def leave(self) -> None:
        self._server.do(self._leave())

    async def _leave(self) -> None:
        await self._communicator.send_input({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait([self._communicator.future], timeout=SECONDS)
        self._listening.cancel()


class EventStream:
    """An HTTP request for server-sent events, as the application answers it."""

    def __init__(self, server: Server, query: str, headers: dict[str, str]) -> None:
        self._server, self._heard, self._text = server, queue.SimpleQueue(), ""
        path = "/api/v1/config/changes"
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self._communicator = server.do(self._open(scope))
        start = self._heard.get(timeout=SECONDS)
        self.status = start["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}

    async def _open(self, scope: dict[str, Any]) -> ApplicationCommunicator:
        communicator = ApplicationCommunicator(application, scope)
        await communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
        self._listening = asyncio.create_task(self._listen(communicator))
        return communicator

    async def _listen(self, communicator: ApplicationCommunicator) -> None:
        while True:
            self._heard.put(await communicator.output_queue.get())

    def block(self) -> str:
        """The next block, without the empty line that ends it."""
        while "\n\n" not in self._text:
            self._text += self._heard.get(timeout=SECONDS)["body"].decode()
        block, _, self._text = self._text.partition("\n\n")
        return block

    def event(self) -> tuple[str, str, dict[str, Any]]:
        """Id, kind and message of the next event."""
        fields = dict(line.split(": ", 1) for line in self.block().split("\n"))
        return fields.get("id", ""), fields["event"], json.loads(fields["data"])

    def leave(self) -> None:
        self._server.do(self._leave())

    async def _leave(self) -> None:
        await self._communicator.send_input({"type": "http.disconnect"})
        await asyncio.wait([self._communicator.future], timeout=SECONDS)
        self._listening.cancel()


@contextmanager
def serving() -> Iterator[Server]:
    """A running server; everything it started has ended afterwards."""
    server = Server()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        connections.close_all()
