"""Run the suite on SQLite and on PostgreSQL, and say on what it ran.

    python -m tests.run [pytest arguments]

With TESTS_REQUIRE_REAL=1 a stand-in for PostgreSQL or Redis is a failure.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile

from tests.services import Service, find_postgresql, find_redis


def run(name: str, database: str | None, redis: Service | None, arguments: list[str]) -> tuple[int, str]:
    """Run pytest on one database; return its exit code and closing line."""
    print(f"\n=== {name} ===", flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
    if database is not None:
        environment["DATABASE_URL"] = database
    if redis is not None:
        environment["REDIS_URL"] = redis.url
    with tempfile.TemporaryDirectory(prefix="governance-test-") as home:
        environment["GOVERNANCE_HOME"] = home
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-n", "2", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        closing = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            if re.search(r"\d+ (passed|failed|error)", line):
                closing = line.strip().strip("=").strip()
        return process.wait(), closing


def main() -> int:
    arguments = sys.argv[1:]
    postgresql, redis = find_postgresql(), find_redis()
    outcomes = [("SQLite, the embedded default, no Redis", *run("SQLite", None, None, arguments))]
    if postgresql is not None:
        name = f"{postgresql.description}, {redis.description}"
        outcomes.append((name, *run("PostgreSQL and Redis", postgresql.url, redis, arguments)))
    print("\nWhat the tests ran on:")
    for name, code, closing in outcomes:
        print(f"  {'ok    ' if code == 0 else 'FAILED'} {name}: {closing}")
    unreal = [
        what for what, service in (("PostgreSQL", postgresql), ("Redis", redis)) if not (service and service.real)
    ]
    if unreal:
        print(f"  Not real here: {', '.join(unreal)}.")
    if unreal and os.environ.get("TESTS_REQUIRE_REAL") == "1":
        print("  TESTS_REQUIRE_REAL=1 wants the real ones.")
        return 1
    return max(code for _, code, _ in outcomes)


if __name__ == "__main__":
    sys.exit(main())
