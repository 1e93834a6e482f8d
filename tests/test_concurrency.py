"""Many writers at once: revisions stay gapless and ordered, a follower misses nothing, nobody sees a deadlock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, connections

from audit.changes import Origin, change_set, originating
from audit.errors import Busy
from audit.journal import current_revision
from audit.models import ConfigurationAuditLog
from rules.models import AnalysisRule
from tests.factories import make_rule, make_user

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS, EDITS = 8, 100
on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="threads write at once on PostgreSQL only")
on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="two processes share the SQLite file")


@pytest.mark.slow
@on_postgresql
def test_eight_writers_leave_a_gapless_journal_that_a_follower_reads_whole():
    rules = [make_rule(name=f"rule-{number}") for number in range(WRITERS)]
    begin, errors, seen, done = current_revision(), [], [], threading.Event()

    def write(number: int) -> None:
        try:
            for edit in range(EDITS):
                # Opposite orders: without the lock taken first this is where rows would deadlock.
                first, second = (number, (number + 1) % WRITERS) if edit % 2 else ((number + 1) % WRITERS, number)
                with originating(Origin(source="system")), change_set():
                    for position in (first, second):
                        rule = AnalysisRule.objects.get(pk=rules[position].pk)
                        rule.description = f"{number} {edit}"
                        rule.save()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    def follow() -> None:
        last = begin
        while True:
            finished = done.wait(0.02)
            rows = ConfigurationAuditLog.objects.filter(revision__gt=last).order_by("revision")
            for revision in rows.values_list("revision", flat=True):
                seen.append(revision)
                last = revision
            if finished:
                break
        connections.close_all()

    follower = threading.Thread(target=follow)
    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    follower.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    follower.join()

    assert errors == []
    end = current_revision()
    assert end == begin + WRITERS * EDITS * 2
    assert seen == list(range(begin + 1, end + 1))
    previous = None
    for row in ConfigurationAuditLog.objects.filter(revision__gte=begin).order_by("revision"):
        assert previous is None or row.previous_hash == previous
        previous = row.row_hash


@on_postgresql
def test_a_writer_that_cannot_have_the_lock_is_told_to_try_again():
    make_rule()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with change_set():
            held.set()
            release.wait(10)
        connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        with pytest.raises(Busy, match="try again"):
            make_user()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{settings.LOCK_TIMEOUT}s'")
        release.set()
        holder.join()


SCRIPT = """
import django; django.setup()
from rules.models import AnalysisRule
import sys
for edit in range(100):
    rule = AnalysisRule.objects.get(name=sys.argv[1])
    rule.description = f"edit {edit}"
    rule.save()
"""


@pytest.mark.slow
@on_sqlite
def test_two_processes_write_the_embedded_database_without_an_error():
    for name in ("left", "right"):
        make_rule(name=name)
    begin = current_revision()
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "DJANGO_SETTINGS_MODULE": "governance_config.settings",
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "PYTHONWARNINGS": "ignore",
    }
    writers = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, name], env=environment, stderr=subprocess.PIPE, text=True)
        for name in ("left", "right")
    ]
    outcomes = [(process.communicate(timeout=120)[1], process.returncode) for process in writers]
    assert outcomes == [("", 0), ("", 0)]
    revisions = ConfigurationAuditLog.objects.filter(revision__gt=begin).order_by("revision")
    assert list(revisions.values_list("revision", flat=True)) == list(range(begin + 1, begin + 201))
