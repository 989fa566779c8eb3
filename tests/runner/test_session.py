"""The runner's connection, by itself."""

from __future__ import annotations

import asyncio
import os
import socket

import pgtest

from persona_pg.runner.session import Session, Step

ANSWERED = "select state from pg_stat_activity where application_name = 'under test'"


def test_a_notification_that_comes_right_behind_an_answer_is_heard_at_once(dsn, conn):
    heard = []

    def notify_once_it_has_answered():
        # Nothing is read meanwhile, so that both are read in one go.
        pgtest.eventually(lambda: conn.execute(ANSWERED).fetchone()[0] == "idle")
        conn.execute("select pg_notify('persona_wake', 'agent')")
        pgtest.eventually(lambda: has_arrived(session, b"agent"))

    async def exchange():
        await session.connect()
        try:
            asyncio.get_running_loop().call_soon(notify_once_it_has_answered)
            await session.exchange([Step(b"select 1")])
            return list(heard)
        finally:
            session.close()

    session = session_of(dsn, heard)
    assert asyncio.run(exchange()) == [("persona_wake", "agent")]


def test_what_is_sent_again_is_not_read_again(dsn):
    step = Step(b"select to_json($1::integer + 1)", ("1",))
    known = Step(b"select to_json(array(select statement from pg_prepared_statements))")

    async def twice(session):
        first = await session.exchange([step, step])
        return [*first, *await session.exchange([Step(step.sql, ("2",)), known])]

    assert talk(dsn, twice) == [2, 2, 3, [step.sql.decode()]]


def test_what_was_refused_is_read_anew(dsn, conn):
    step = Step(b"select to_json(under_test($1::integer))", ("1",))

    async def refused_and_answered(session):
        refused = await session.exchange([step, step])
        conn.execute("create function under_test(integer) returns integer return $1 + 1")
        try:
            return refused, await session.exchange([step, step])
        finally:
            conn.execute("drop function under_test")

    refused, answered = talk(dsn, refused_and_answered)
    assert [error.sqlstate for error in refused] == ["42883", "42883"]
    assert answered == [2, 2]


def test_a_function_that_an_upgrade_has_replaced_answers_on_the_same_connection(dsn, conn):
    step = Step(b"select to_json(f) from under_test($1::integer) as f", ("1",))

    async def before_and_after(session):
        conn.execute("create function under_test(integer) returns integer return $1")
        before = await session.exchange([step, step])
        conn.execute("drop function under_test")
        conn.execute(
            "create function under_test(integer, more text default 'new') returns text return more"
        )
        try:
            return before, await session.exchange([step, step])
        finally:
            conn.execute("drop function under_test")

    assert talk(dsn, before_and_after) == ([1, 1], ["new", "new"])


def test_a_connection_that_has_forgotten_what_it_learnt_is_another_ones(dsn):
    """A proxy has put another session behind it, which does not listen either."""
    step = Step(b"select to_json($1::integer)", ("1",))

    async def forgotten(session):
        await session.exchange([step])
        await session.exchange([Step(b"deallocate all")])
        [refused] = await session.exchange([step])
        return refused.sqlstate, session.is_connected

    assert talk(dsn, forgotten) == ("26000", False)


def talk(dsn, conversation):
    """Hold a conversation with a session that is connected; returns what it returns."""

    async def connected():
        await session.connect()
        try:
            return await conversation(session)
        finally:
            session.close()

    session = session_of(dsn, [])
    return asyncio.run(connected())


def session_of(dsn, heard):
    return Session(
        dsn,
        application_name="under test",
        on_notify=lambda channel, payload: heard.append((channel, payload)),
        on_lost=lambda: heard.append("lost"),
        deadline=20,
    )


def has_arrived(session, payload):
    """Look into the socket's buffer without taking anything out of it."""
    with socket.socket(fileno=os.dup(session._fd)) as peek:
        return payload in peek.recv(65536, socket.MSG_PEEK)
