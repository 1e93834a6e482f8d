"""The benchmark: it works in scratch installations, its data is true, and its page says what was measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from audit.journal import current_revision
from audit.verification import verify
from bench.client import Client, Figures, percentile
from bench.operations import list_journal_operations, list_rule_operations
from bench.report import judge, verdict, write
from bench.scene import Scene
from tests.factories import make_rule
from tests.private_services import PrivatePostgresql, PrivateRedis, find_postgresql_binaries


def test_percentiles_lie_between_the_samples():
    assert percentile([1, 2, 3, 4], 50) == 2.5
    assert percentile([5], 99) == 5
    figures = Figures([float(number) for number in range(101)]).document()
    assert (figures["min"], figures["p50"], figures["p95"], figures["p99"], figures["n"]) == (0, 50, 95, 99, 101)


def test_a_figure_at_its_limit_is_kept_and_one_beyond_is_not():
    assert verdict("sqlite", "x", "ceiling", 30, 30)["kept"]
    assert not verdict("sqlite", "x", "ceiling", 30.1, 30)["kept"]
    assert verdict("sqlite", "x", "ceiling", 0.96, 0.95, least=True)["kept"]
    assert not verdict("sqlite", "x", "ceiling", 0.95, 0.95, least=True)["kept"]


FACTS = {
    "rules": [1, 2],
    "security_rules": [1],
    "revision": 100,
    "middle": {
        "entity_type": "analysis_rule",
        "entity_id": "1",
        "changed_by": "a",
        "batch": "b",
        "change_type": "rule_updated",
    },
}


def test_every_ceiling_of_a_route_is_measured():
    ceilings = {each.name: each.ceiling for each in [*list_rule_operations(FACTS), *list_journal_operations(FACTS)]}
    assert ceilings["rule update"] == 100 and ceilings["plugin toggle"] == 50
    assert ceilings["persona assignment"] == 30 and ceilings["bulk of 100 rules"] == 2000
    assert ceilings["list of 100 rules"] == 150 and ceilings["audit trail of 50"] == 300
    assert ceilings["configuration after one edit"] == 500
    assert all(ceilings.values())


def test_every_write_of_a_measurement_changes_something():
    """An update that changes nothing writes nothing, and would be measured as a fast write."""
    for operation in list_rule_operations(FACTS):
        if operation.body is not None:
            bodies = [(operation.path(number), json.dumps(operation.body(number))) for number in range(0, 60, 2)]
            one_path = operation.path(0)
            of_one = [body for path, body in bodies if path == one_path]
            if operation.name != "plugin toggle":
                assert len(set(of_one)) == len(of_one) > 1, operation.name
            else:
                assert operation.body(0) != operation.body(1)


@pytest.mark.django_db(transaction=True)
def test_invented_journal_rows_have_a_true_hash_chain():
    # The module sets Django up for a process of its own; here it is set up already.
    from bench import data  # noqa: PLC0415

    make_rule()
    data.fill_journal(500)
    assert current_revision() == 500
    report = verify()
    assert report.breaks == []
    assert report.rows == 500


def run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GOVERNANCE_HOME": str(home)}
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment, check=False, capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
def test_a_small_run_measures_everything_and_touches_no_installation(tmp_path):
    vendor = connection.vendor
    if vendor == "postgresql" and find_postgresql_binaries() is None:
        pytest.skip("PostgreSQL is not installed here")
    home, output = tmp_path / "home", tmp_path / "out"
    sizes = ("--rules", "20", "110", "--journal", "1300", "--requests", "4", "--sockets", "2")
    done = run("--quick", "--databases", vendor, *sizes, "--output", str(output), home=home)
    assert done.returncode in (0, 1), done.stderr
    assert not home.exists()
    results = json.loads((output / "benchmarks.json").read_text())
    first, last = results["databases"][vendor]
    assert (first["rules"], last["rules"]) == (20, 110)
    assert first["journal"] == 1000 and last["journal"] >= 1300
    measured = set(last["http"])
    assert {each.name for each in [*list_rule_operations(FACTS), *list_journal_operations(FACTS)]} <= measured
    assert all(found["p50"] > 0 and found["statements"] >= 0 for found in last["http"].values())
    assert last["http"]["rule update"]["statements"] > last["http"]["get one rule"]["statements"] > 0
    assert last["hit_ratio"]["hit"] > 190
    assert last["inside"]["configuration, warm"]["n"] == 4
    page = (output / "benchmarks.md").read_text()
    assert f"110 rules, {last['journal']:,} journal rows" in page and "quick run" in page
    kept = re.search(r"\*\*(\d+) of (\d+) promises are kept", page)
    assert kept is not None and int(kept[2]) == len(results["verdicts"])
    assert results["verdicts"] == judge(results)
    assert write(results, tmp_path / "again")[0].read_text() == page


def test_numbers_that_make_no_sense_are_refused_in_one_line(tmp_path):
    for arguments in (("--rules", "100", "10"), ("--journal", "-1"), ("--databases", "oracle")):
        done = run(*arguments, home=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_workers_on_postgresql_and_redis_serve_one_configuration_and_tell_figures_together(tmp_path):
    if find_postgresql_binaries() is None or shutil.which("redis-server") is None:
        pytest.skip("needs PostgreSQL and Redis installed here")
    if connection.vendor != "postgresql":
        pytest.skip("the servers are its own: once is enough")
    with (
        PrivatePostgresql(fsync="off") as postgresql,
        PrivateRedis() as cache,
        Scene(postgresql.create("scene"), cache.url) as scene,
    ):
        facts = scene.fill(5, 5, lambda done, wanted: None)
        with scene.server(workers=2) as server:
            edit_and_read(server, facts)
            # Whichever worker is asked tells what both have counted.
            seen = 'governance_http_request_seconds_count{method="PATCH",route="analysis-rule-detail",status="2xx"}'
            assert {server.read_figures()[seen] for _ in range(6)} == {10}


def edit_and_read(server, facts):
    """Ten edits, each seen at once by whichever worker answers the next connection."""
    for number in range(10):
        writer, reader = Client(server.port, facts["token"]), Client(server.port, facts["token"])
        writer.call("PATCH", f"/api/v1/config/analysis-rules/{facts['rules'][0]}", {"title": f"Title {number}"})
        configuration = reader.call("GET", "/api/v1/config/configuration")
        assert f"Title {number}" in {rule["title"] for rule in configuration["rules"]}
        reader.close()
        writer.close()
