"""The pool of one: what is tried again, what is not, and for how long."""

from __future__ import annotations

import random
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import psycopg
import pytest

from persona_pg import connections
from persona_pg.database import Database
from persona_pg.errors import (
    ConfigurationError,
    DatabaseUnreachable,
    InvalidInput,
    SchemaMissing,
    TryLater,
)
from persona_pg.queue import Queue


@pytest.fixture
def db(dsn):
    with Database(dsn, application_name="pool of one") as found:
        yield found


@pytest.fixture
def terminate(databases, database):
    def kill():
        databases.admin.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = %s and application_name = 'pool of one'",
            (database,),
        )

    return kill


def pid(conn):
    return conn.execute("select pg_backend_pid()").fetchone()[0]


def test_one_connection_serves_all_calls(db):
    assert len({db.run(pid) for _ in range(5)}) == 1


def test_an_idle_connection_that_was_cut_is_replaced_unseen(db, terminate):
    first = db.run(pid)
    terminate()

    # Not repeatable: the call must not have been sent over the dead connection at all.
    assert db.run(pid, repeatable=False) != first


def test_a_call_that_loses_its_connection_is_made_again(db, terminate):
    pids = []

    def work(conn):
        pids.append(pid(conn))
        if len(pids) < 4:
            terminate()
        return pid(conn)

    assert db.run(work) == pids[-1]
    assert len(set(pids)) == 4


def test_a_call_that_must_not_be_repeated_is_not(db, terminate):
    calls = []

    def work(conn):
        calls.append(1)
        pid(conn)
        terminate()
        return pid(conn)

    with pytest.raises(DatabaseUnreachable, match="may or may not have been made"):
        db.run(work, repeatable=False)
    assert len(calls) == 1


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "57P01", "08006", "25006"])
def test_what_may_pass_is_tried_again(db, sqlstate):
    calls = []

    def work(conn):
        calls.append(pid(conn))
        if len(calls) < 3:
            conn.execute(f"do $$ begin raise exception 'x' using errcode = '{sqlstate}'; end $$")
        return "done"

    assert db.run(work) == "done"
    assert len(calls) == 3
    # A standby, or a server that is going, is left; after a deadlock the connection is as good.
    assert len(set(calls)) == (1 if sqlstate.startswith("40") else 3)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "25006"])
def test_what_the_server_undid_may_be_repeated_in_any_case(db, sqlstate):
    calls = []

    def work(conn):
        calls.append(1)
        if len(calls) < 2:
            conn.execute(f"do $$ begin raise exception 'x' using errcode = '{sqlstate}'; end $$")
        return "done"

    assert db.run(work, repeatable=False) == "done"


@pytest.mark.parametrize(
    "statement, error",
    [
        ("select 1/0", psycopg.errors.DivisionByZero),
        ("selekt", psycopg.errors.SyntaxError),
        ("select persona.no_such_function()", SchemaMissing),
        ("select persona.create_job('')", InvalidInput),
    ],
)
def test_what_does_not_pass_is_raised_at_once(db, statement, error):
    calls = []

    def work(conn):
        calls.append(1)
        conn.execute(statement)

    with pytest.raises(error):
        db.run(work)
    assert len(calls) == 1


def test_retries_end_with_the_patience(dsn):
    with Database(dsn, patience=0.5) as db:
        db.run(pid)
        started = time.monotonic()

        def work(conn):
            conn.execute("do $$ begin raise exception 'x' using errcode = '40001'; end $$")

        with pytest.raises(TryLater):
            db.run(work)
        assert time.monotonic() - started < 3


def test_a_replaced_function_is_met_on_a_fresh_connection_once(db, conn):
    conn.execute("create function public.f() returns table (a int) language sql as 'select 1'")

    prepared = []

    def work(c):
        if c not in prepared:
            prepared.append(c)
            c.execute("prepare p as select * from public.f()")
        return c.execute("execute p").fetchall()

    assert db.run(work) == [(1,)]
    first = db.run(pid)
    conn.execute("drop function public.f()")
    conn.execute(
        "create function public.f() returns table (a int, b int) language sql as 'select 1, 2'"
    )

    assert db.run(work) == [(1, 2)]
    assert db.run(pid) != first

    calls = []

    def always(c):
        calls.append(1)
        c.execute(
            "do $$ begin raise exception 'cache lookup failed' using errcode = 'XX000'; end $$"
        )

    with pytest.raises(psycopg.errors.InternalError_):
        db.run(always)
    assert len(calls) == 2


def test_a_create_that_waits_for_an_upgrade_which_adds_a_column_goes_through(
    dsn, connect, wait_until_blocked
):
    upgrade = connect()
    with Queue(Database(dsn, application_name="waits")) as queue, ThreadPoolExecutor() as pool:
        queue.create_job("command", {"argv": ["true"]})
        with upgrade.transaction():
            upgrade.execute("alter table persona.jobs add column one_more text")
            creating = pool.submit(queue.create_job, "command", {"argv": ["true"]})
            wait_until_blocked("waits")
        assert creating.result(30).status == "pending"
    assert upgrade.execute("select count(*) from persona.jobs").fetchone() == (2,)


def test_a_statement_ends_at_the_deadline(db):
    started = time.monotonic()
    with pytest.raises(TryLater, match=r"within 0\.3 s"):
        db.run(lambda conn: conn.execute("select pg_sleep(20)"), deadline=0.3)
    assert time.monotonic() - started < 5
    # And the connection is good for the next one.
    assert db.run(pid)


def test_a_restart_of_the_server_goes_unnoticed(private_server):
    server = private_server()
    with Database(server.dsn) as db:
        before = db.run(pid)
        restart = threading.Thread(
            target=server.server.control, args=("restart", "-m", "immediate", "-w")
        )
        restart.start()
        pids = set()
        while restart.is_alive():
            pids.add(db.run(pid))
        restart.join()
        assert db.run(pid) != before


def test_a_repeated_create_makes_one_job(dsn, terminate):
    """The acknowledgement is lost after the commit: the second try finds the first one's job."""
    with Queue(Database(dsn, application_name="pool of one")) as queue:
        database, lost = queue.database, []
        run = database.run

        def losing(work, **options):
            def once(conn):
                answer = work(conn)
                if not lost:
                    lost.append(answer)
                    terminate()
                    conn.execute("select 1")
                return answer

            return run(once, **options)

        database.run = losing
        job = queue.create_job("research", {"question": "?"})
        del database.run

        assert lost[0][0].id == job.id
        assert len(queue.list_jobs()) == 1


def test_nobody_there_is_said_soon_and_without_the_password():
    with Database("postgresql://me:s3cr3t@127.0.0.1:1/db", first_contact=0.3) as db:
        started = time.monotonic()
        with pytest.raises(DatabaseUnreachable) as caught:
            db.run(pid)
    assert time.monotonic() - started < 3
    assert "127.0.0.1:1/db" in str(caught.value)
    assert "s3cr3t" not in repr(caught.value) + str(caught.value.__cause__)


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with Database(f"host=127.0.0.1 port={port}", connect_timeout=2, first_contact=0.1) as db:
            started = time.monotonic()
            with pytest.raises(DatabaseUnreachable, match="timeout"):
                db.run(pid)
            assert time.monotonic() - started < 8


def test_a_wrong_dsn_is_not_repeated_in_the_message():
    with pytest.raises(ConfigurationError) as caught:
        Database("postgre://me:s3cr3t@h/db")
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_the_dsn_says_wins():
    kwargs = connections.connection_kwargs("host=h keepalives_idle=99 application_name=mine")
    assert not {"keepalives_idle", "application_name", "host"} & kwargs.keys()
    assert kwargs["tcp_user_timeout"] == "20000"
    assert kwargs["prepare_threshold"] is None
    assert kwargs["autocommit"] is True


def test_delays_double_up_to_the_cap_with_full_jitter():
    def delays(seed):
        return list(
            islice(connections.backoff_delays(first=1, cap=8, rng=random.Random(seed)), 200)
        )

    for n, bound in enumerate([1, 2, 4, 8, 8, 8]):
        seen = [delays(seed)[n] for seed in range(300)]
        assert max(seen) <= bound
        assert max(seen) > bound * 0.9
        assert min(seen) < bound * 0.1


def test_the_ids_of_the_client_are_in_the_order_of_time():
    from persona_pg.model import new_job_id

    first = new_job_id()
    time.sleep(0.002)
    second = new_job_id()
    assert first < second
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
