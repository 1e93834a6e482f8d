"""What do the figures say? Each is held against its ceiling and its target, and all stand in one page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.operations import EMBEDDED_P99, GROWTH, HIT_RATIO, INSIDE, MEMORY, RATIO, SOCKETS

VENDORS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
Verdict = dict[str, Any]


def judge(results: Mapping[str, Any]) -> list[Verdict]:
    """Every promise, with the figure and whether it is kept. Targets are those of the full size on PostgreSQL."""
    verdicts: list[Verdict] = []
    for vendor, steps in results["databases"].items():
        last = steps[-1]
        verdicts += _judge_inside(vendor, last)
        verdicts += _judge_http(vendor, last)
        verdicts += _judge_growth(vendor, steps)
        verdicts += _judge_propagation(vendor, last)
    return verdicts


def verdict(vendor: str, what: str, kind: str, figure: float, limit: float, *, least: bool = False) -> Verdict:
    """One promise: `figure` must not be above `limit`, with `least` it must be."""
    kept = figure > limit if least else figure <= limit
    return {"database": vendor, "what": what, "kind": kind, "figure": figure, "limit": limit, "kept": kept}


def _judge_inside(vendor: str, step: Mapping[str, Any]) -> Iterator[Verdict]:
    for name, (ceiling, target) in INSIDE.items():
        figure = step["inside"][name]["p99"]
        yield verdict(vendor, f"{name}: p99", "ceiling", figure, ceiling)
        if target is not None:
            yield verdict(vendor, f"{name}: p99", "target", figure, target)
    yield verdict(
        vendor, "memory added by the configuration (MB)", "ceiling", step["inside"]["memory_added_mb"], MEMORY
    )
    for kind, limit in zip(("ceiling", "target"), HIT_RATIO, strict=True):
        yield verdict(vendor, "cache hit ratio", kind, step["hit_ratio"]["ratio"], limit, least=True)


def _judge_http(vendor: str, step: Mapping[str, Any]) -> Iterator[Verdict]:
    for name, found in step["http"].items():
        for kind in ("ceiling", "target"):
            if found.get(kind) is not None:
                yield verdict(vendor, f"{name}: p99", kind, found["p99"], found[kind])
        if found["kind"] in RATIO:
            yield verdict(vendor, f"{name}: p50 to bare view", "ratio", found["ratio"], RATIO[found["kind"]])


def _judge_growth(vendor: str, steps: Sequence[Mapping[str, Any]]) -> Iterator[Verdict]:
    first, last = steps[0], steps[-1]
    for name, found in last["http"].items():
        if found["growth"] and name in first["http"] and len(steps) > 1:
            # Of ratios to the bare view of the same minute: the machine may be slower at one of the two times.
            grown = round(found["ratio"] / first["http"][name]["ratio"], 2)
            yield verdict(vendor, f"{name}: growth with {found['growth']}", "growth", grown, GROWTH)


def _judge_propagation(vendor: str, step: Mapping[str, Any]) -> Iterator[Verdict]:
    for number, found in step["propagation"].items():
        if "skipped" in found:
            continue
        if vendor == "sqlite":
            limits = {"p99": EMBEDDED_P99, "ceiling": EMBEDDED_P99} if int(number) == 10 else {}
        else:
            limits = SOCKETS.get(int(number), {})
        for name, limit in limits.items():
            figure = found["p99"] if name in ("ceiling", "last") else found[name]
            kind = "ceiling" if name == "ceiling" else "target"
            told = "p99" if name in ("ceiling", "last") else name
            yield verdict(vendor, f"commit to the last of {number} sockets: {told}", kind, figure, limit)


def write(results: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """The page and the numbers behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers, page = folder / "benchmarks.json", folder / "benchmarks.md"
    numbers.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page.write_text("\n".join(_write_page(results)) + "\n", encoding="utf-8")
    return page, numbers


def _write_page(results: Mapping[str, Any]) -> Iterator[str]:
    verdicts = results["verdicts"]
    kept = sum(each["kept"] for each in verdicts)
    yield from (
        "# Benchmarks",
        "",
        f"Written by `{results['command']}` on {results['date']}: {results['machine']}. "
        f"{results['seconds']} s in all. The numbers behind this page: [benchmarks.json](benchmarks.json).",
        "",
        "A real server process (`manage.py serve`) over loopback HTTP with a token, one request at a time on one "
        "connection; milliseconds. *Ratio*: the p50 to that of a view that only authenticates, timed in turns with it. "
        "*Statements*: of the database, for one request. Rules are created by the product's own bulk write; "
        "the journal is filled by COPY with rows whose hash chain is true.",
        "",
        f"**{kept} of {len(verdicts)} promises are kept.**",
        "",
    )
    if results["quick"]:
        yield from ("This was a quick run: few requests and small sizes, which proves no promise.", "")
    yield from _write_verdicts(verdicts)
    for vendor, steps in results["databases"].items():
        for step in steps:
            yield from _write_step(vendor, step)


def _write_verdicts(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield from ("## Promises", "", "| database | what | | figure | limit | |", "|---|---|---|---:|---:|---|")
    for each in sorted(verdicts, key=lambda each: each["kept"]):
        sign = "kept" if each["kept"] else "**missed**"
        yield (
            f"| {VENDORS[each['database']]} | {each['what']} | {each['kind']} | {each['figure']:g} | "
            f"{each['limit']:g} | {sign} |"
        )
    yield ""


def _write_step(vendor: str, step: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        f"## {VENDORS[vendor]}: {step['rules']:,} rules, {step['journal']:,} journal rows",
        "",
        "| over HTTP | n | p50 | p95 | p99 | ratio | statements |",
        "|---|---:|---:|---:|---:|---:|---:|",
    )
    for name, found in step["http"].items():
        yield (
            f"| {name} | {found['n']} | {found['p50']:.2f} | {found['p95']:.2f} | {found['p99']:.2f} | "
            f"{found['ratio']:.2f} | {found['statements']} |"
        )
    yield from ("", "| in one process | n | p50 | p95 | p99 |", "|---|---:|---:|---:|---:|")
    inside = step["inside"]
    for name, found in inside.items():
        if isinstance(found, dict):
            yield f"| {name} | {found['n']} | {found['p50']:.3f} | {found['p95']:.3f} | {found['p99']:.3f} |"
    yield from ("", "| commit to the last socket | n | p50 | p95 | p99 |", "|---|---:|---:|---:|---:|")
    for number, found in step["propagation"].items():
        if "skipped" in found:
            yield f"| {number} sockets | skipped: {found['skipped']} | | | |"
        else:
            yield f"| {number} sockets | {found['n']} | {found['p50']:.1f} | {found['p95']:.1f} | {found['p99']:.1f} |"
    ratio = step["hit_ratio"]
    yield from (
        "",
        f"Memory: the configuration adds {inside['memory_added_mb']:g} MB to a process "
        f"(its body has {inside['configuration_bytes'] / 1e6:.1f} MB); the server has {step['server_mb']:g} MB "
        f"after all this. Cache: {ratio['reads']} reads and {ratio['writes']} writes hit it at {ratio['ratio']:.2%} "
        f"({ratio['told']}).",
        "",
    )
