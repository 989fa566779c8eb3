"""pgbouncer in between: noticed, its mode told apart, and what then waits by asking."""

from __future__ import annotations

import asyncio
import threading
import time

import psycopg
import pytest

from persona_pg import connections, poolers
from persona_pg.database import Database
from persona_pg.errors import DatabaseUnreachable, TryLater
from persona_pg.notes.news import News
from persona_pg.watch import Watch


@pytest.fixture
def can_listen(dsn):
    def ask(through):
        kwargs = connections.connection_kwargs(through)
        with psycopg.connect(through, **kwargs) as conn:
            return poolers.can_listen(conn, through, kwargs)

    return ask


def test_the_server_itself_is_no_pooler(can_listen, dsn):
    assert can_listen(dsn)


@pytest.mark.parametrize("size", [1, 2])
def test_the_mode_shows_whatever_the_size_of_the_pool(can_listen, pooler, dsn, size, monkeypatch):
    # In session mode our three connections do not fit into the small pools: that takes the time.
    monkeypatch.setattr(poolers, "_SECONDS", 0.2)
    assert not can_listen(pooler("transaction", size=size).dsn(dsn))
    assert can_listen(pooler("session", size=size).dsn(dsn))


def test_the_mode_shows_while_others_use_the_pool(can_listen, pooler, dsn):
    through = pooler("transaction").dsn(dsn)
    over = threading.Event()

    def use():
        with psycopg.connect(through, prepare_threshold=None, autocommit=True) as conn:
            while not over.is_set():
                conn.execute("select pg_sleep(random() * 0.002)")

    others = [threading.Thread(target=use) for _ in range(4)]
    for other in others:
        other.start()
    try:
        assert [can_listen(through) for _ in range(5)] == [False] * 5
    finally:
        over.set()
        for other in others:
            other.join()


def test_a_caller_with_an_event_loop_of_its_own_may_ask(can_listen, pooler, dsn):
    async def ask():
        return can_listen(pooler().dsn(dsn))

    assert asyncio.run(ask()) is False


def test_who_waits_behind_a_pooler_asks_now_and_then_and_says_no_listen(pooler, dsn, conn):
    through = pooler().dsn(dsn)
    with Database(through) as database, Watch(database) as watch:
        watch.wait(0.2)
        assert watch.is_deaf
        changes = watch.changes
        began = time.monotonic()
        watch.wait()
        assert watch.changes > changes
        assert time.monotonic() - began < 1
    servers = "select count(*) from pg_stat_activity where query ilike 'listen%' and datname = current_database()"
    assert conn.execute(servers).fetchone() == (0,)


def test_who_waits_behind_a_pooler_in_session_mode_is_told(pooler, dsn, conn):
    with Database(pooler("session").dsn(dsn)) as database, Watch(database) as watch:
        watch.wait(0.2)
        assert not watch.is_deaf


def test_a_call_through_a_pooler_whose_server_is_gone_ends_at_its_deadline(
    pooler, dsn, databases, database
):
    """The pooler keeps the call waiting for a server, and does nothing about a cancel request."""
    with Database(pooler("transaction", size=3).dsn(dsn), patience=1.0, deadline=1.0) as db:
        db.run(lambda conn: conn.execute("select 1"))
        databases.admin.execute(f"alter database {database} allow_connections false")
        databases.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database,)
        )
        began = time.monotonic()
        with pytest.raises((TryLater, DatabaseUnreachable)):
            db.run(lambda conn: conn.execute("select 1"))
        assert time.monotonic() - began < 30
        databases.admin.execute(f"alter database {database} allow_connections true")


def test_news_of_notes_behind_a_pooler_are_looked_for_only(pooler, dsn):
    slept = []
    news = News(pooler().dsn(dsn), "vault", slept.append)
    assert news.wait(1.0)
    assert not news.wait(7.0)
    assert slept == [7.0]
    news.close()
