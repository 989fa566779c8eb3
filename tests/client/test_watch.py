"""Watching for changes: nothing is lost, nothing is asked for in vain, and polling is the way out."""

from __future__ import annotations

import time

import psycopg
import pytest
from sqltest import Queue as SqlQueue

from persona_pg.database import Database
from persona_pg.watch import Watch


@pytest.fixture
def client(dsn):
    with Database(dsn) as found:
        yield found


@pytest.fixture
def sql(conn):
    found = SqlQueue(conn)
    found.agent()
    return found


def settle(watch):
    """Wait until silence means that nothing changes."""
    while watch._conn is None or watch._horizon is not None:
        watch.wait(5)


def test_a_change_between_listen_and_the_first_read_is_not_lost(client, sql, connect):
    """Made certain: the writer looks for watchers before one is there, and commits afterwards."""
    writer = SqlQueue(connect("writer"))
    writer.run("begin")
    writer.create()

    def count():
        return client.run(lambda c: c.execute("select count(*) from persona.jobs").fetchone())[0]

    with Watch(client) as watch:
        watch.wait()
        assert watch._conn is not None
        assert count() == 0
        watch.wait(0.01)
        assert watch._horizon is not None
        writer.run("commit")
        while count() == 0:
            before = watch.changes
            watch.wait(5)
            assert watch.changes > before
        settle(watch)


def test_silence_means_no_change_and_no_query(client, sql):
    with Watch(client) as watch:
        settle(watch)
        before = watch.changes
        watch.wait(0.05)
        assert watch.changes == before
        sql.create()
        watch.wait(5)
        assert watch.changes == before + 1


def test_another_job_does_not_wake_who_waits_for_one(client, sql):
    mine, other = sql.create(), sql.create()
    with Watch(client, [mine["id"]]) as watch, Watch(client) as everything:
        settle(watch)
        settle(everything)
        before = watch.changes
        sql.run("select persona.cancel_job(%s)", str(other["id"]))
        watch.wait(0.05)
        assert watch.changes == before
        sql.run("select persona.cancel_job(%s)", str(mine["id"]))
        watch.wait(5)
        assert watch.changes == before + 1
    assert sql.value("select count(*) from persona.watchers") == 0


def test_a_lost_connection_comes_back_and_counts_as_a_change(client, sql):
    with Watch(client) as watch:
        settle(watch)
        before = watch.changes
        sql.run(
            "select pg_terminate_backend(%s), pg_sleep(0)", watch._conn.info.backend_pid
        )  # fmt: skip
        while watch._conn is None or watch.changes == before:
            watch.wait(1)
        settle(watch)
        assert not watch.is_deaf


def test_behind_a_pooler_that_lends_servers_it_polls(dsn, sql):
    """Such a pooler shows in the server's process id; this one says another at each question."""
    sql.run("create schema pooled")
    sql.run(
        "create function pooled.pg_backend_pid() returns integer language sql volatile"
        " return (random() * 1e9)::integer"
    )
    pooled = psycopg.conninfo.make_conninfo(dsn, options="-c search_path=pooled,pg_catalog")
    with Database(pooled) as client, Watch(client) as watch:
        began = time.monotonic()
        watch.wait(5)
        assert watch.is_deaf
        before = watch.changes
        watch.wait(5)
        assert watch.changes == before + 1
        assert time.monotonic() - began < 4


def test_a_schema_without_watchers_is_polled(client, sql):
    sql.run("drop function persona.watch(uuid, uuid[], boolean, integer)")
    with Watch(client) as watch:
        watch.wait(5)
        assert watch.is_deaf
