"""Poolers between us and the server: noticed, and told apart by how long they lend a server.

In session mode a connection keeps its server, as it would without a pooler.  In transaction mode
it gets another one for each transaction: what LISTEN, SET and advisory locks were said to is then
somebody else's.  That is fine for calls, and useless for whoever waits to be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRIES = 8
_SECONDS = 2.0
_PID = "select pg_catalog.pg_backend_pid()"


def can_listen(conn: psycopg.Connection[Any], dsn: str, kwargs: Mapping[str, Any]) -> bool:
    """Tell whether what is said to this connection's server stays said; ask before LISTEN."""
    row = conn.execute(_PID).fetchone()
    return _is_server(conn, row) or not lends_by_transaction(dsn, kwargs)


async def can_listen_async(
    conn: psycopg.AsyncConnection[Any], dsn: str, kwargs: Mapping[str, Any], *, deadline: float
) -> bool:
    """Do the same for a connection of asyncio; TimeoutError where it does not answer in time."""
    async with asyncio.timeout(deadline):
        row = await (await conn.execute(_PID)).fetchone()
    return _is_server(conn, row) or not await asyncio.to_thread(lends_by_transaction, dsn, kwargs)


def lends_by_transaction(dsn: str, kwargs: Mapping[str, Any]) -> bool:
    """Tell whether two connections are seen to share servers; not so within 2 s means no.

    While the second is in a transaction it has either the server that the first has just used, or
    the first gets another one now.  Others who use the pool at this moment can hide that, hence
    several tries.
    """
    give_up_at = time.monotonic() + _SECONDS
    try:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(contextlib.closing(psycopg.connect(dsn, **kwargs)))
            second = stack.enter_context(contextlib.closing(psycopg.connect(dsn, **kwargs)))
            for _ in range(_TRIES):
                used = _server_of(first, give_up_at)
                taken = _server_of(second, give_up_at, "begin;")
                if taken == used or _server_of(first, give_up_at) != used:
                    return True
                _server_of(second, give_up_at, "commit;")
    except (TimeoutError, psycopg.Error):
        return False  # in session mode there may be no third server for us
    return False


def _is_server(
    conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], row: tuple[Any, ...] | None
) -> bool:
    """Tell whether who answers is who greeted us: a pooler greets with a key of its own."""
    assert row is not None
    return bool(conn.pgconn.backend_pid == row[0])


def _server_of(conn: psycopg.Connection[Any], give_up_at: float, before: str = "") -> int:
    """Ask for the server's process; TimeoutError where the pooler has none for us in time."""
    pgconn = conn.pgconn
    pgconn.send_query((before + _PID).encode())
    pid = 0
    while True:
        while pgconn.is_busy():
            seconds = give_up_at - time.monotonic()
            if seconds <= 0 or not select.select([conn], [], [], seconds)[0]:
                raise TimeoutError
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            return pid
        if value := result.get_value(0, 0) if result.ntuples else None:
            pid = int(value)
