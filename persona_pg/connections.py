"""How connections are made, and which of their errors are worth another try.

Shared by the client's pool (database.py) and by the runner's session.
"""

from __future__ import annotations

import os
import random
import re
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict

from persona_pg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# 25006: the server is a standby now, so this is no longer the server to talk to.
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "25006"})
# The server has rolled the transaction back: trying again is always safe.
_ROLLED_BACK = frozenset({"40001", "40P01"})
# A refusal that waiting does not cure.  libpq reports a failed connection without an SQLSTATE,
# so only the words are left; a server that speaks another language is tried again until the
# caller's patience ends, which costs time but is not wrong.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|does not support SSL"
    r"|certificate|(?:database|role|user) .* does not exist|is not permitted to log in"
    r"|permission denied for database|unsupported startup parameter|unsupported frontend protocol"
)
_STARTING = re.compile(
    r"(?:starting up|shutting down|in recovery mode|not yet accepting connections)"
)
# What an upgrade does to calls that were planned before it: the function is another one, the row
# it returns has a column more, or it gained that column while the call waited for its lock.
_STALE = (
    ("26000", ""),  # a statement that was prepared here once, says a proxy's other session
    ("XX000", "cache lookup failed"),
    ("0A000", "cached plan"),
    ("42804", "function return row and query-specified return row do not match"),
    ("42804", "structure of query does not match function result type"),
)
_SUPABASE = re.compile(r"(?:^|\.)supabase\.(?:com|co|in|net)$")
_SUPABASE_TRANSACTION_PORT = "6543"
# A connection that is idle notices a dead peer after 10 + 3 x 5 s, one that sends after 20 s:
# a half-open socket costs less than 30 s.
_SOCKET_DEFAULTS = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


def connection_kwargs(
    dsn: str, *, application_name: str = "persona", connect_timeout: int = 5
) -> dict[str, Any]:
    """Return the arguments of connect() beside the DSN; what the DSN or PG* says itself wins."""
    given = parsed(dsn)
    wanted = dict(_SOCKET_DEFAULTS)
    if "PGCONNECT_TIMEOUT" not in os.environ:
        wanted["connect_timeout"] = str(connect_timeout)
    if "PGAPPNAME" not in os.environ:
        wanted["application_name"] = application_name
    if "," in str(given.get("host") or os.environ.get("PGHOST") or "") and (
        "PGTARGETSESSIONATTRS" not in os.environ
    ):
        # Of several servers the one that takes writes: after a failover, the new primary.
        wanted["target_session_attrs"] = "read-write"
    kwargs: dict[str, Any] = {k: v for k, v in wanted.items() if k not in given}
    # Whatever PGCLIENTENCODING says: texts and JSON are exchanged as UTF-8.
    kwargs["client_encoding"] = "UTF8"
    kwargs["autocommit"] = True
    # Prepared statements do not survive a pooler in transaction mode.
    kwargs["prepare_threshold"] = None
    return kwargs


def parsed(dsn: str) -> dict[str, Any]:
    """Read a DSN; a wrong one is a ConfigurationError that does not repeat it."""
    try:
        return dict(conninfo_to_dict(dsn))
    except psycopg.Error:
        # libpq's message quotes the DSN, and with it a password.
        raise ConfigurationError(
            "PERSONA_DATABASE_URL: the value (not shown) is no libpq connection string; it must"
            " look like postgresql://user@host:5432/database or 'host=... dbname=...'"
        ) from None


def masked(text: str, dsn: str) -> str:
    """Return *text* without the password of *dsn*, whole or in parts."""
    for match in re.finditer(r"(?:^|[?&\s])password\s*=\s*('[^']*'|[^\s&]+)|//[^/?#]*@", dsn):
        secret = match[1] or match[0].strip("/@").partition(":")[2]
        if len(secret) > 1:
            text = text.replace(secret.strip("'"), "***")
    return re.sub(r'(["\'])[^"\'\s]*@', r"\1***@", text)


def host_of(dsn: str) -> str:
    """Name the server of a DSN for people: host, port and database, nothing secret."""
    given = parsed(dsn)
    host = str(given.get("host") or os.environ.get("PGHOST") or "the local socket")
    # An unescaped @ in a password makes the rest of it part of the host.
    host = host.rpartition("@")[2]
    port = given.get("port") or os.environ.get("PGPORT") or "5432"
    name = given.get("dbname") or os.environ.get("PGDATABASE")
    return f"{host}:{port}" + (f"/{name}" if name else "")


def refuse_transaction_pooler(dsn: str) -> None:
    """Refuse an address that is known to lead to a pooler in transaction mode.

    There a connection belongs to its client only until the transaction ends: what LISTEN asked
    for is heard by somebody else.  Supabase's pooler has that mode on a port of its own.
    """
    given = parsed(dsn)
    hosts = str(given.get("host") or os.environ.get("PGHOST") or "").split(",")
    ports = str(given.get("port") or os.environ.get("PGPORT") or "5432").split(",")
    for number, host in enumerate(hosts):
        port = ports[min(number, len(ports) - 1)]
        if port == _SUPABASE_TRANSACTION_PORT and _SUPABASE.search(host.lower()):
            raise ConfigurationError(
                f"PERSONA_DATABASE_URL: port {port} of {host.rpartition('@')[2]} is Supabase's"
                " transaction pooler, through which a runner cannot be told of new jobs; it must"
                " be the session pooler: the same address with port 5432 (dashboard, Connect,"
                " Session pooler)",
                detail={"variable": "PERSONA_DATABASE_URL"},
            )


def only_row(
    conn: psycopg.Connection[Any], query: LiteralString, params: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """Return the row of a query that always has one."""
    row: tuple[Any, ...] | None = conn.execute(query, params or None).fetchone()
    assert row is not None
    return row


def is_transient(exc: BaseException) -> bool:
    """Tell whether the same call may succeed a little later on a fresh connection."""
    return was_rolled_back(exc) or is_lost(exc)


def was_rolled_back(exc: BaseException) -> bool:
    """Tell whether the server itself undid the transaction for another one's sake."""
    return isinstance(exc, psycopg.Error) and exc.sqlstate in _ROLLED_BACK


def is_lost(exc: BaseException) -> bool:
    """Tell whether the connection is gone, or of no use any more.

    What was sent over it last may or may not have been committed.
    """
    if not isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError, psycopg.Error)):
        return False
    state = exc.sqlstate
    if state is not None:
        return state in _LOST or state.startswith("08")
    if isinstance(exc, psycopg.errors.PipelineAborted):
        return False  # the error that aborted it is the one that counts
    known = isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))
    return known and not is_refusal(exc)


def is_refusal(exc: BaseException) -> bool:
    """Tell whether a failed connection was refused for a reason that waiting does not cure."""
    state = getattr(exc, "sqlstate", None)
    return state is None and _REFUSED.search(str(exc)) is not None


def is_starting(exc: BaseException) -> bool:
    """Tell whether the server is there, but starting, stopping or recovering."""
    return getattr(exc, "sqlstate", None) == "57P03" or _STARTING.search(str(exc)) is not None


def is_stale_plan(exc: BaseException) -> bool:
    """Tell whether what this connection has learnt does not hold any more: a fresh one will do.

    The schema was upgraded under the call, or a proxy has put another session behind it.
    """
    if not isinstance(exc, psycopg.Error):
        return False
    return any(exc.sqlstate == state and words in str(exc) for state, words in _STALE)


def backoff_delays(
    *, first: float = 0.05, cap: float = 5.0, rng: random.Random | None = None
) -> Iterator[float]:
    """Yield seconds to wait before each next try: doubling up to *cap*, with full jitter.

    Full jitter (anything between nothing and the bound), so that the many clients of a server
    that comes back do not come back in step.
    """
    rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
    bound = first
    while True:
        yield rng.uniform(0, bound)
        bound = min(cap, bound * 2)
