"""What is asked of the server, and how long may it take? The user's ceilings and the lower targets, in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.client import Client, Operation

CONFIG = "/api/v1/config"
RULES = f"{CONFIG}/analysis-rules"
JOURNAL = f"{CONFIG}/audit-trail?limit=50"
TOGGLED = "metrics"  # no rule of the benchmark needs it

# Of figures that are no HTTP operations: (ceiling, target)
INSIDE = {
    "configuration, warm": (200, 1),
    "configuration, cold": (200, 200),
    "configuration, after one edit": (500, 20),
    "invalidation": (10, None),
}
MEMORY = 100  # MB added for each process
HIT_RATIO = (0.95, 0.99)
READS_FOR_A_WRITE = 100
SOCKETS = {10: {"p50": 10.0, "p99": 50.0, "ceiling": 100.0}, 1000: {"last": 250.0}}
EMBEDDED_P99 = 100.0  # with 10 sockets on SQLite
RATIO = {"read": 2.0, "write": 3.0}  # of the p50 to that of the bare view
GROWTH = 1.5  # of the p50, from few rows to many


def list_rule_operations(facts: Mapping[str, Any]) -> list[Operation]:
    """The configuration, rules, plugins and personas."""
    rules, secured = facts["rules"], facts["security_rules"]
    tags: dict[str, str] = {}

    def rule(number: int) -> int:
        return int(rules[number % len(rules)])

    def edit(client: Client, number: int) -> None:
        client.call("PATCH", f"{RULES}/{rule(number)}", {"description": f"Edited {number} {time.time()}."})

    def take_tag(client: Client, number: int) -> None:
        if not tags:
            tags["etag"] = client.send(client.request("GET", f"{CONFIG}/configuration"))[1]["etag"]

    return [
        Operation("configuration, full body", "GET", lambda number: f"{CONFIG}/configuration", ceiling=150),
        Operation(
            "configuration, 304",
            "GET",
            lambda number: f"{CONFIG}/configuration",
            before=take_tag,
            headers=lambda number: {"If-None-Match": tags["etag"]},
            expect=304,
            ceiling=150,
            growth="rules",
        ),
        Operation(
            "configuration after one edit",
            "GET",
            lambda number: f"{CONFIG}/configuration",
            kind="reload",
            before=edit,
            ceiling=500,
            requests=50,
        ),
        Operation(
            "list of 100 rules", "GET", lambda number: f"{RULES}?limit=100", ceiling=150, target=25, growth="rules"
        ),
        Operation("get one rule", "GET", lambda number: f"{RULES}/{rule(number)}", ceiling=150, growth="rules"),
        Operation(
            "rule update",
            "PUT",
            lambda number: f"{RULES}/{rule(number)}",
            lambda number: {"description": f"Updated {number} {time.time()}."},
            "write",
            ceiling=100,
            target=40,
            growth="rules",
        ),
        Operation(
            "plugin toggle",
            "POST",
            lambda number: f"{CONFIG}/plugins/{TOGGLED}/toggle",
            lambda number: {"enabled": bool(number % 2)},
            "write",
            ceiling=50,
            target=25,
            growth="rules",
        ),
        Operation(
            "persona assignment",
            "PUT",
            lambda number: f"{CONFIG}/personas/assign",
            lambda number: {
                "rule_id": secured[number % len(secured)],
                "persona_name": "security",
                "confidence_score": round((number // len(secured) % 90 + 1) / 100, 2),
            },
            "write",
            ceiling=30,
            target=25,
            growth="rules",
        ),
        Operation(
            "bulk of 100 rules",
            "POST",
            lambda number: f"{RULES}/bulk",
            lambda number: {
                "updates": [{"id": key, "description": f"Bulk {number} {time.time()}."} for key in rules[:100]]
            },
            "bulk",
            ceiling=2000,
            target=400,
            requests=30,
            growth="rules",
        ),
    ]


def list_journal_operations(facts: Mapping[str, Any]) -> list[Operation]:
    """The audit trail of 50, by every filter and by its cursor."""
    middle, revision = facts["middle"], facts["revision"]
    filters = {
        "": "",
        "filter_type": f"&filter_type={middle['change_type']}",
        "entity_type": f"&entity_type={middle['entity_type']}",
        "entity_id": f"&entity_type={middle['entity_type']}&entity_id={middle['entity_id']}",
        "changed_by": f"&changed_by={middle['changed_by']}",
        "batch": f"&batch={middle['batch']}",
        "since": "&since=2025-01-01T00:00:00Z",
        "until": "&until=2100-01-01T00:00:00Z",
        "cursor": f"&before={max(2, revision // 2)}",
        "cursor and filter": f"&filter_type={middle['change_type']}&before={max(2, revision // 2)}",
    }
    return [
        Operation(
            f"audit trail of 50{', ' if name else ''}{name}",
            "GET",
            lambda number, query=query: JOURNAL + query,  # type: ignore[misc]
            ceiling=300,
            target=30,
            growth="journal",
        )
        for name, query in filters.items()
    ]
