"""How fast is it without HTTP? Figures of one process, printed as JSON.

Run as `python -m bench.inside WHAT REQUESTS`: `configuration` in a fresh process, or `writer`, which changes a rule for
each line it reads and prints when the change was committed (CLOCK_MONOTONIC, which all processes share).
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from time import perf_counter
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.cache import cache  # noqa: E402

from audit.changes import change_set  # noqa: E402
from audit.journal import current_revision  # noqa: E402
from bench.client import Figures  # noqa: E402
from overrides import effective  # noqa: E402
from overrides.effective import load_configuration  # noqa: E402
from rules.models import AnalysisRule  # noqa: E402

COLD = 10  # readings with nothing kept
EDITS = 50


def read_memory() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def measure(times: int, act: Callable[[int], Any], before: Callable[[int], Any] | None = None) -> dict[str, Any]:
    """Figures of `act`, in milliseconds; `before` runs untimed before each."""
    figures = Figures()
    for number in range(times):
        if before is not None:
            before(number)
        began = perf_counter()
        act(number)
        figures.samples.append((perf_counter() - began) * 1000)
    return figures.document()


def forget() -> None:
    """Nothing is kept, neither by the process nor by the shared cache."""
    effective._kept = None
    cache.clear()


def edit(number: int) -> None:
    """Change a rule, so that what is kept no longer answers."""
    rules = AnalysisRule.objects.order_by("pk")
    rule = rules[number % min(100, rules.count())]
    with change_set(reason="benchmark"):
        rule.description = f"Changed {time.time()}."
        rule.save()


def measure_configuration(requests: int) -> dict[str, Any]:
    """The configuration in force, and what it is compared with."""
    key = AnalysisRule.objects.order_by("pk").values_list("pk", flat=True)[0]
    current_revision()
    gc.collect()
    memory = read_memory()
    results: dict[str, Any] = {}
    load_configuration()
    _ = load_configuration().body
    gc.collect()
    results["memory_added_mb"] = round(read_memory() - memory, 1)
    results["configuration_bytes"] = len(load_configuration().body)
    results["indexed query"] = measure(
        requests, lambda number: AnalysisRule.objects.filter(pk=key).values_list("pk", flat=True).get()
    )
    results["configuration, warm"] = measure(requests, lambda number: load_configuration())
    results["configuration, cold"] = measure(COLD, lambda number: load_configuration(), lambda number: forget())
    results["configuration, after one edit"] = measure(EDITS, lambda number: load_configuration(), edit)
    # The reader asks for the revision before each answer: nothing has to be told that it is out of date.
    results["invalidation"] = measure(EDITS, lambda number: current_revision(), edit)
    if settings.REDIS_URL:
        import redis  # noqa: PLC0415, not everywhere there is one

        client = redis.Redis.from_url(settings.REDIS_URL)
        results["bare Redis publish"] = measure(requests, lambda number: client.publish("bench", str(number)))
    return results


def write() -> None:
    """Change a rule for each line read; print when that was committed, and its revision."""
    keys = list(AnalysisRule.objects.order_by("pk").values_list("pk", flat=True)[:100])
    for number, _ in enumerate(sys.stdin):
        with change_set(reason="benchmark") as changes:
            rule = AnalysisRule.objects.get(pk=keys[number % len(keys)])
            rule.description = f"Told {time.time()}."
            rule.save()
        print(json.dumps({"committed": time.monotonic(), "revision": changes.revision}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "writer":
        write()
    else:
        print(json.dumps(measure_configuration(int(sys.argv[2]))), flush=True)
