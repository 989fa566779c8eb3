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

    session = Session(
        dsn,
        application_name="under test",
        on_notify=lambda channel, payload: heard.append((channel, payload)),
        on_lost=lambda: heard.append("lost"),
        deadline=20,
    )
    assert asyncio.run(exchange()) == [("persona_wake", "agent")]


def has_arrived(session, payload):
    """Look into the socket's buffer without taking anything out of it."""
    with socket.socket(fileno=os.dup(session._fd)) as peek:
        return payload in peek.recv(65536, socket.MSG_PEEK)
