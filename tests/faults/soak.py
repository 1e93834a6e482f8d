"""Does it stay as it is? Readers, writers and sockets for minutes; memory at the beginning and the end, and the log.

    python -m tests.faults.soak --minutes 10 --sockets 200

On a PostgreSQL, a Redis and servers of its own. Exit code 0 if no change was lost, doubled or out of order on any
socket, every answer was good, the log has no error, and memory is flat.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, suppress
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from bench.client import Client
from bench.scene import Scene, ServerProcess, end_in_order
from bench.sockets import ROUTE
from tests.private_services import PrivatePostgresql, PrivateRedis

GROWTH = 1.10  # of memory, from when everything is warm to the end
WARM = 0.2  # share of the time until then
CONFIG = "/api/v1/config"
SETTLE = 10  # seconds for the last changes to arrive


class Traffic:
    """Threads that read and write until told to stop, and what went wrong for them."""

    def __init__(self, server: ServerProcess, facts: dict) -> None:
        self._server, self._facts = server, facts
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.reads = self.writes = 0
        self.errors: list[str] = []
        self.revisions: set[int] = set()

    def start(self, readers: int, writers: int, pause: float) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._read) for _ in range(readers)]
        threads += [threading.Thread(target=self._write, args=(number, pause)) for number in range(writers)]
        for thread in threads:
            thread.start()
        return threads

    def stop(self, threads: list[threading.Thread]) -> None:
        self._stop.set()
        for thread in threads:
            thread.join()

    def _read(self) -> None:
        paths = [f"{CONFIG}/configuration", f"{CONFIG}/analysis-rules?limit=100", f"{CONFIG}/audit-trail?limit=50"]
        client = Client(self._server.port, self._facts["token"])
        while not self._stop.wait(0.05):
            path = paths[self.reads % len(paths)]
            self._ask(client, "GET", path, None)
            self.reads += 1

    def _write(self, number: int, pause: float) -> None:
        client = Client(self._server.port, self._facts["token"])
        rules = self._facts["rules"][number::3]
        turn = 0
        while not self._stop.wait(pause):
            path = f"{CONFIG}/analysis-rules/{rules[turn % len(rules)]}"
            headers = self._ask(client, "PATCH", path, {"description": f"Soaked by {number} for the {turn}th time."})
            turn += 1
            with self._lock:
                self.writes += 1
                if "x-revision" in headers:
                    self.revisions.add(int(headers["x-revision"]))

    def _ask(self, client: Client, method: str, path: str, body: object) -> dict[str, str]:
        try:
            status, headers, content = client.send(client.request(method, path, body))
        except OSError as error:
            self.errors.append(f"{method} {path}: {error}")
            return {}
        if status >= 300:
            self.errors.append(f"{method} {path}: {status} {content[:100]!r}")
            return {}
        return headers


class Sockets:
    """Sockets in a thread of their own, and the revisions that each has got, in the order in which it got them."""

    def __init__(self, port: int, token: str, number: int) -> None:
        self._address, self._number = f"ws://127.0.0.1:{port}{ROUTE}", number
        self._headers = {"Authorization": f"Bearer {token}"}
        self.got: list[list[int]] = [[] for _ in range(number)]
        self.errors: list[str] = []
        self._ready = threading.Event()
        self._open = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> bool:
        """Whether all of them are open."""
        self._thread.start()
        return self._ready.wait(60) and not self.errors

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(30)

    def _run(self) -> None:
        async def listen_all() -> None:
            await asyncio.gather(*(self._listen(number) for number in range(self._number)))

        self._main = self._loop.create_task(listen_all())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)

    async def _listen(self, number: int) -> None:
        try:
            await asyncio.sleep(number * 0.01)
            async with connect(self._address, additional_headers=self._headers, compression=None) as socket:
                await socket.recv()
                self._open += 1
                if self._open == self._number:
                    self._ready.set()
                async for message in socket:
                    told = json.loads(message)
                    if told["type"] == "change":
                        self.got[number].append(told["revision"])
                    elif told["type"] != "ping":
                        self.errors.append(f"socket {number}: {told}")
        except (ConnectionClosed, InvalidHandshake, OSError) as error:
            self.errors.append(f"socket {number}: {type(error).__name__}: {error}")
            self._ready.set()


def judge_order(got: list[list[int]], revisions: set[int]) -> list[str]:
    """What is wrong with what the sockets got: lost, doubled or out of order."""
    problems = []
    for number, heard in enumerate(got):
        if len(heard) != len(set(heard)):
            problems.append(f"socket {number}: {len(heard) - len(set(heard))} changes came twice")
        if heard != sorted(heard):
            problems.append(f"socket {number}: changes came out of order")
        if lost := revisions - set(heard):
            problems.append(f"socket {number}: {len(lost)} changes were lost, the first is {min(lost)}")
    return problems


def find_errors(log: Path) -> list[str]:
    """The lines of the server's log that tell of an error."""
    return [line for line in log.read_text().splitlines() if '"level": "ERROR"' in line or "Traceback" in line]


def soak(options: Namespace) -> int:
    problems: list[str] = []
    with ExitStack() as stack:
        postgresql = stack.enter_context(PrivatePostgresql())
        cache = stack.enter_context(PrivateRedis())
        scene = stack.enter_context(Scene(postgresql.create("soak"), cache.url))
        facts = scene.fill(options.rules, 1_000, lambda done, wanted: None)
        log = scene.home / "server.log"
        scene.environment |= {"GOVERNANCE_LOG_FORMAT": "json", "GOVERNANCE_ACCESS_LOG": "0"}
        server = stack.enter_context(scene.server(workers=options.workers, log=log))
        traffic = Traffic(server, facts)
        sockets = Sockets(server.port, facts["token"], options.sockets)
        listening = sockets.start() if options.sockets else False
        if options.sockets and not listening:
            problems.append(f"the sockets could not be opened: {sockets.errors[:1]}")
        threads = traffic.start(options.readers, options.writers, 1 / options.rate)
        seconds, began = options.minutes * 60, time.monotonic()
        first = 0.0
        while (passed := time.monotonic() - began) < seconds:
            time.sleep(min(5, seconds - passed, max(0.1, seconds * WARM)))
            memory = server.read_memory()
            first = first or (memory if time.monotonic() - began >= seconds * WARM else 0)
            say(f"{passed:5.0f} s: {traffic.reads} reads, {traffic.writes} writes, largest process {memory} MB")
        traffic.stop(threads)
        time.sleep(SETTLE if listening else 0)
        last = server.read_memory()
        if listening:
            sockets.stop()
            problems += sockets.errors + judge_order(sockets.got, traffic.revisions)
        problems += traffic.errors + find_errors(log)
        if last > first * GROWTH:
            problems.append(f"memory grew from {first} to {last} MB")
        heard = sum(map(len, sockets.got))
        say(f"memory {first} MB when warm, {last} MB at the end; {traffic.reads} reads, {traffic.writes} writes")
        say(f"{options.sockets} sockets got {heard} changes of {len(traffic.revisions)} made")
    for problem in problems[:20]:
        say(f"problem: {problem}")
    say(f"{len(problems)} problems")
    return 1 if problems else 0


def say(text: str) -> None:
    print(text, flush=True)


def read_arguments(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sockets", type=int, default=200)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=5, help="changes a second of each writer; default: 5")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rules", type=int, default=1_000)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    end_in_order()
    sys.exit(soak(read_arguments(sys.argv[1:])))
