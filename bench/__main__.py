"""Measure every ceiling, on both databases, in scratch installations; write `docs/benchmarks.md` and `.json`.

    python -m bench            all sizes: 100, 1,000 and 10,000 rules, then 1,000,000 journal rows
    python -m bench --quick    100 and 1,000 rules, few requests: does everything work?

Nothing of an installation is touched: homes, databases, PostgreSQL and Redis are its own, and gone afterwards.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.client import PLAIN, Client, Figures, Measurement, Operation
from bench.operations import (
    CONFIG,
    READS_FOR_A_WRITE,
    RULES,
    SOCKETS,
    list_journal_operations,
    list_rule_operations,
)
from bench.report import judge, write
from bench.scene import ROOT, Scene, ServerProcess, end_in_order, read_line
from tests.private_services import PrivatePostgresql, PrivateRedis, find_postgresql_binaries

console = Console(stderr=True, highlight=False)
FEW = 1_000  # journal rows to begin with
CACHE = 'governance_cache_requests_total{cache="configuration",result="%s"}'
PATIENCE = 10  # seconds for a change to reach all sockets


def read_arguments(arguments: list[str]) -> Namespace:
    """The command line, its defaults filled in."""
    parser = ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 and 1,000 rules, few requests: does everything work?")
    parser.add_argument("--rules", type=int, nargs="+", metavar="N", help="default: 100 1000 10000; quick: 100 1000")
    parser.add_argument("--journal", type=int, metavar="N", help="rows at last; default: 1000000; quick: 5000")
    parser.add_argument("--requests", type=int, metavar="N", help="at the last size; default: 300; quick: 20")
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--sockets", type=int, nargs="*", metavar="N", help="default: 10 1000; quick: 10")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of the page; default: docs")
    options = parser.parse_args(arguments)
    options.rules = options.rules or ([100, 1_000] if options.quick else [100, 1_000, 10_000])
    options.journal = options.journal or (5_000 if options.quick else 1_000_000)
    options.requests = options.requests or (20 if options.quick else 300)
    if options.sockets is None:
        options.sockets = [10] if options.quick else list(SOCKETS)
    if min(*options.rules, options.journal, options.requests) < 1 or sorted(options.rules) != options.rules:
        parser.error("numbers are 1 or more, and sizes grow")
    return options


def main(arguments: list[str]) -> int:
    """Measure, write, and say what is missed. 0 if every ceiling is kept, 1 if not."""
    options = read_arguments(arguments)
    began = time.monotonic()
    databases: dict[str, Any] = {}
    services: dict[str, str] = {}
    for vendor in options.databases:
        steps = list(measure_database(vendor, options, services))
        if steps:
            databases[vendor] = steps
    if not databases:
        console.print("Nothing could be measured.")
        return 2
    results: dict[str, Any] = {
        "command": "make bench" if not arguments else f"python -m bench {' '.join(arguments)}",
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - began),
        "quick": options.quick,
        "machine": describe_machine(services),
        "databases": databases,
    }
    results["verdicts"] = judge(results)
    page, numbers = write(results, options.output)
    missed = [each for each in results["verdicts"] if not each["kept"]]
    for each in missed:
        console.print(
            f"missed: {each['database']}: {each['what']} {each['figure']:g}, {each['kind']} {each['limit']:g}"
        )
    kept = len(results["verdicts"]) - len(missed)
    console.print(f"{kept} of {len(results['verdicts'])} promises kept. Written: {page}, {numbers}.")
    return 1 if any(each["kind"] == "ceiling" for each in missed) else 0


def describe_machine(services: dict[str, str]) -> str:
    """What the figures were taken on."""
    cores, load = os.cpu_count(), os.getloadavg()[0]
    used = ", ".join([f"Python {platform.python_version()}", *services.values()])
    return f"{cores} cores of {platform.machine()}, load {load:.1f} at the end, {used}"


def measure_database(vendor: str, options: Namespace, services: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The figures of each size on one database, the smallest first."""
    with ExitStack() as stack:
        url = redis_url = ""
        if vendor == "postgresql":
            if find_postgresql_binaries() is None:
                console.print("PostgreSQL is skipped: it is not installed here (Debian: apt-get install postgresql).")
                return
            # What its package sets, fsync included; only the memory is what a server of its size would have.
            postgresql = stack.enter_context(PrivatePostgresql(shared_buffers="256MB"))
            url = postgresql.create("bench")
            services[vendor] = "PostgreSQL"
            if shutil.which("redis-server"):
                redis_url = stack.enter_context(PrivateRedis()).url
                services["redis"] = "Redis"
            else:
                console.print("Redis is left out: it is not installed here (Debian: apt-get install redis-server).")
        scene = stack.enter_context(Scene(url, redis_url))
        for number, rules in enumerate(options.rules):
            last = number == len(options.rules) - 1
            requests = options.requests if last else max(10, options.requests // 3)
            yield measure_step(scene, rules, options.journal if last else FEW, requests, options)


def measure_step(scene: Scene, rules: int, journal: int, requests: int, options: Namespace) -> dict[str, Any]:
    """The figures of one size."""
    name = f"{scene.vendor}, {rules:,} rules"
    with show(f"{name}: data", rules) as progress:
        facts = scene.fill(rules, journal, progress.set)
    console.print(f"{name}, {facts['revision']:,} journal rows, {requests} requests", style="bold")
    step: dict[str, Any] = {"rules": facts["rule_count"], "journal": facts["revision"]}
    with show(f"{name}: in one process", 1) as progress:
        step["inside"] = scene.look_inside(requests)
        progress.advance(1)
    with scene.server() as server:
        client = Client(server.port, facts["token"])
        step["http"] = measure_http(client, facts, requests, name)
        step["hit_ratio"] = measure_hit_ratio(client, server, facts, options)
        step["propagation"] = {
            str(number): measure_propagation(scene, server, facts["token"], number, requests)
            for number in options.sockets
        }
        step["server_mb"] = server.read_memory()
        client.close()
    return step


def measure_http(client: Client, facts: dict[str, Any], requests: int, name: str) -> dict[str, Any]:
    """The figures of all operations by their names."""
    operations: list[Operation] = [PLAIN, *list_rule_operations(facts), *list_journal_operations(facts)]
    total = sum(min(requests, operation.requests or requests) for operation in operations)
    found = {}
    with show(f"{name}: over HTTP", total) as progress:
        measurement = Measurement(client, requests, progress.advance)
        for operation in operations:
            found[operation.name] = {
                **measurement.run(operation),
                "kind": operation.kind,
                "ceiling": operation.ceiling,
                "target": operation.target,
                "growth": operation.growth,
            }
    return found


def measure_hit_ratio(
    client: Client, server: ServerProcess, facts: dict[str, Any], options: Namespace
) -> dict[str, Any]:
    """How many of the readings need no building from nothing, with 100 readings to each change."""
    writes = 2 if options.quick else 10
    path = f"{CONFIG}/configuration"
    client.call("GET", path)
    before = server.read_figures()
    tag = ""
    for number in range(writes):
        client.call("PATCH", f"{RULES}/{facts['rules'][0]}", {"description": f"Mixed {number} {time.time()}."})
        for _ in range(READS_FOR_A_WRITE):
            status, headers, _ = client.send(client.request("GET", path, headers={"If-None-Match": tag}))
            if status not in (200, 304):
                raise RuntimeError(f"{path}: {status}")
            tag = headers["etag"]
    after = server.read_figures()
    told = {
        result: int(after.get(CACHE % result, 0) - before.get(CACHE % result, 0))
        for result in ("hit", "delta", "shared", "miss")
    }
    readings = sum(told.values())
    if not readings:
        raise RuntimeError("no reading of the configuration was counted: governance_cache_requests_total is not kept")
    return {
        "reads": writes * READS_FOR_A_WRITE,
        "writes": writes,
        "told": ", ".join(f"{number} {result}" for result, number in told.items()),
        # What is rebuilt only where it changed is not built anew.
        "ratio": round((told["hit"] + told["delta"]) / readings, 4),
        **told,
    }


def measure_propagation(scene: Scene, server: ServerProcess, token: str, number: int, requests: int) -> dict[str, Any]:
    """From a commit in one process to the last of the sockets of another, past the server that is a third."""
    count = min(requests, 300 if number <= 100 else 50)
    with (
        scene.child("bench.sockets", str(server.port), str(number)) as sockets,
        scene.child("bench.inside", "writer", "0") as writer,
    ):
        assert sockets.stdin is not None and writer.stdin is not None
        sockets.stdin.write(token + "\n")
        said = read_line(sockets, 90).strip()
        if said != "ready":
            reason = said or "the sockets said nothing"
            console.print(f"{scene.vendor}: {number} sockets are skipped: {reason}")
            return {"skipped": reason}
        figures, lost = Figures(), 0
        with show(f"{scene.vendor}: {number} sockets", count) as progress:
            for _ in range(count):
                writer.stdin.write("\n")
                committed = json.loads(read_line(writer, PATIENCE))
                heard = find_revision(sockets, committed["revision"])
                if heard is None:
                    lost += 1
                else:
                    figures.samples.append(max(0.0, heard["last"] - committed["committed"]) * 1000)
                progress.advance(1)
    if not figures.samples:
        return {"skipped": f"none of {count} changes reached all sockets within {PATIENCE} s"}
    return {**figures.document(), "lost": lost}


def find_revision(sockets: Any, revision: int) -> dict[str, Any] | None:
    """What the sockets say of a revision; None if they say nothing of it in time."""
    while line := read_line(sockets, PATIENCE):
        heard: dict[str, Any] = json.loads(line)
        if heard["revision"] == revision:
            return heard
    return None


class Bar:
    """One line of progress."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, number: int) -> None:
        """So many more are done."""
        self._progress.advance(self._task, number)

    def set(self, done: int, total: int) -> None:
        """So many of so many are done."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def show(what: str, total: int) -> Iterator[Bar]:
    """A progress bar on standard error; where that is no terminal, one line at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, progress.add_task(what, total=total))


if __name__ == "__main__":
    end_in_order()
    sys.exit(main(sys.argv[1:]))
