"""Servers of one's own: they start, forget or keep what they should, and leave nothing behind."""

from __future__ import annotations

import shutil

import psycopg
import pytest
import redis

from tests.private_services import PrivatePostgresql, PrivateRedis, find_postgresql_binaries

pytestmark = pytest.mark.slow


@pytest.mark.skipif(find_postgresql_binaries() is None, reason="PostgreSQL is not installed here")
def test_a_postgresql_of_ones_own_keeps_what_it_committed_when_it_is_killed():
    with PrivatePostgresql() as server:
        url = server.create("scratch")
        with psycopg.connect(url) as session:
            session.execute("CREATE TABLE kept (n int)")
            session.execute("INSERT INTO kept VALUES (7)")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2)
        server.start()
        with psycopg.connect(url) as session:
            assert session.execute("SELECT n FROM kept").fetchone() == (7,)
    assert not server.folder.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed here")
def test_a_redis_of_ones_own_stops_and_starts_empty():
    with PrivateRedis() as server:
        client = redis.Redis.from_url(server.url)
        client.set("name", "value")
        server.stop()
        with pytest.raises(redis.ConnectionError):
            client.get("name")
        server.start()
        assert client.get("name") is None
    assert not server.folder.exists()
