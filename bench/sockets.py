"""When does a change reach those who listen? Many WebSockets in one process, and the times at which each got it.

Run as `python -m bench.sockets PORT NUMBER` with the token on standard input. Prints `ready`, or why not, then one JSON
object for each revision that all have got: the first and the last time (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake

ROUTE = "/ws/v1/config/changes"
PATIENCE = 60  # seconds for all to be connected
AT_ONCE = 50  # handshakes under way


class Listeners:
    """So many sockets on one route."""

    def __init__(self, port: int, number: int, token: str) -> None:
        self._address, self._number = f"ws://127.0.0.1:{port}{ROUTE}", number
        self._headers = {"Authorization": f"Bearer {token}"}
        self._door = asyncio.Semaphore(AT_ONCE)
        self._ready = 0
        self._all_ready = asyncio.Event()
        self._times: dict[int, list[float]] = {}

    async def run(self) -> None:
        """Until cancelled. Raises what the first handshake raised."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._number):
                group.create_task(self._listen())
            async with asyncio.timeout(PATIENCE):
                await self._all_ready.wait()
            print("ready", flush=True)

    async def _listen(self) -> None:
        async with self._door:
            # One window of compression for each socket would be most of what is measured on this side.
            socket = await connect(
                self._address, additional_headers=self._headers, compression=None, max_queue=None, open_timeout=PATIENCE
            )
            hello = json.loads(await socket.recv())
            if hello.get("type") != "hello":
                raise RuntimeError(f"the first message was {hello.get('type')}")
        self._ready += 1
        if self._ready == self._number:
            self._all_ready.set()
        async for message in socket:
            self._note(json.loads(message), time.monotonic())

    def _note(self, message: dict[str, Any], now: float) -> None:
        if message.get("type") != "change":
            return
        times = self._times.setdefault(message["revision"], [])
        times.append(now)
        if len(times) == self._number:
            told = {"revision": message["revision"], "first": times[0], "last": times[-1]}
            print(json.dumps(told), flush=True)
            del self._times[message["revision"]]


def find_reason(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, InvalidHandshake):
        return f"the server has no {ROUTE} ({error})"
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    try:
        asyncio.run(Listeners(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.readline().strip()).run())
    except Exception as error:
        print(find_reason(error), flush=True)
        sys.exit(1)
