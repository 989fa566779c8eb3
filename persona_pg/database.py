"""One pooled connection to the database, with retries, deadlines and our own exceptions."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from persona_pg import connections, poolers
from persona_pg.errors import (
    DatabaseUnreachable,
    SchemaMissing,
    SchemaTooNew,
    TryLater,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PROTOCOL", "Connection", "Database"]

Connection = psycopg.Connection[Any]
T = TypeVar("T")

# Version of the SQL interface that this package speaks; the schema names the span it serves.
PROTOCOL = 2

# How often a waiting checkout looks whether the pool's connection attempt has failed.
_LOOK = 0.02
_IDLE_CHECK_AFTER = 30.0
# How long a cancelled statement may take to end before its connection is cut.
_LAST_MOMENT = 1.0

# The pool reports each failed attempt as a warning; run() reports what matters.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())


class Database:
    """A pool of one connection; run() is the only door.

    *patience* bounds the time spent on retries once the database has been seen, and
    *first_contact* before that: a wrong address should not take a minute to say so.
    """

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str = "persona",
        connect_timeout: int = 5,
        deadline: float = 30.0,
        patience: float = 60.0,
        first_contact: float = 2.0,
        on_retry: Callable[[Exception, float], None] | None = None,
        check_schema: bool = True,
    ) -> None:
        self._dsn = dsn
        self._connect_timeout = connect_timeout
        self._deadline = deadline
        self.patience = patience
        self._first_contact = first_contact
        self._on_retry = on_retry
        self._has_been_seen = False
        self._check_schema = check_schema
        self._checked: Connection | None = None
        self._last_used = time.monotonic()
        self._connect_error: psycopg.Error | None = None
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            dsn,
            connection_class=self._connection_class(),
            kwargs=connections.connection_kwargs(
                dsn, application_name=application_name, connect_timeout=connect_timeout
            ),
            min_size=1,
            max_size=1,
            open=False,
            check=self._check_alive,
            # run() decides when to try again, with its own backoff.
            reconnect_timeout=0,
            num_workers=1,
        )
        self._is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def dsn(self) -> str:
        """Where the database is, for a connection of one's own."""
        return self._dsn

    def close(self) -> None:
        """Close the connection; later calls fail."""
        self._pool.close(timeout=1.0)

    def connect_apart(self) -> Connection:
        """Open a connection beside the pool's, for one who listens; the caller closes it."""
        return psycopg.Connection.connect(
            self._dsn,
            **connections.connection_kwargs(self._dsn, connect_timeout=self._connect_timeout),
        )

    def can_listen(self, conn: Connection) -> bool:
        """Tell whether LISTEN is of use on a connection apart: not behind every pooler."""
        kwargs = connections.connection_kwargs(self._dsn, connect_timeout=self._connect_timeout)
        return poolers.can_listen(conn, self._dsn, kwargs)

    def run(
        self,
        work: Callable[[Connection], T],
        *,
        repeatable: bool = True,
        deadline: float | None = None,
    ) -> T:
        """Call *work* with the connection; call it again after an error that may pass.

        Retried are lost connections and transactions that the server rolled back for another's
        sake, with exponential backoff and full jitter, until the patience ends; everything else
        is raised at once.  A lost connection leaves open whether the last commit took place, so
        *work* must bear repetition: reads do, and so does creating a job whose id was made
        before the first try.  With ``repeatable=False`` an error of that kind is raised instead.
        No statement takes longer than *deadline* seconds (the database's, unless given).
        """
        started = time.monotonic()
        delays = connections.backoff_delays()
        fresh_tried = False
        while True:
            connected = False
            try:
                conn = self._checkout()
                connected = True
                with translated():
                    return self._on_connection(conn, work, deadline or self._deadline)
            except (psycopg.Error, DatabaseUnreachable, TryLater) as exc:
                cause = exc if isinstance(exc, psycopg.Error) else exc.__cause__
                if cause is not None and connections.is_stale_plan(cause) and not fresh_tried:
                    fresh_tried = True
                    continue
                if cause is None or not connections.is_transient(cause):
                    raise self._explained(exc) from cause
                if (
                    connected
                    and not repeatable
                    and cause.__class__ is not psycopg.errors.ReadOnlySqlTransaction
                    and not connections.was_rolled_back(cause)
                ):
                    raise DatabaseUnreachable(
                        "the connection broke during the call: the change may or may not have"
                        " been made",
                        hint="look at the job before you repeat it",
                    ) from cause
                delay = next(delays)
                if time.monotonic() + delay - started > self._patience_for(cause):
                    raise self._explained(exc) from cause
                if self._on_retry is not None:
                    self._on_retry(self._explained(exc), time.monotonic() - started)
                time.sleep(delay)

    def _patience_for(self, cause: BaseException) -> float:
        if self._has_been_seen or connections.is_starting(cause):
            return self.patience
        return self._first_contact

    def _explained(self, exc: Exception) -> Exception:
        """Name the server in an error about the connection, and keep passwords out of it."""
        if not isinstance(exc, (DatabaseUnreachable, psycopg.OperationalError)):
            return exc
        if isinstance(exc, psycopg.OperationalError) and exc.sqlstate is not None:
            return exc
        words = connections.masked(" ".join(str(exc).split()), self._dsn)
        words = words.removeprefix("the database does not answer: ")
        words = words.removeprefix("connection failed: ").partition(" Is the server running")[0]
        return DatabaseUnreachable(
            f"no connection to the database at {connections.host_of(self._dsn)}: {words}",
            hint="is the server running, and is PERSONA_DATABASE_URL right?"
            " `persona config` shows what is in use",
        )

    def _on_connection(
        self, conn: Connection, work: Callable[[Connection], T], deadline: float
    ) -> T:
        try:
            with _Watchdog(conn, deadline):
                if self._check_schema and conn is not self._checked:
                    _check_protocol(conn)
                    self._checked = conn
                return work(conn)
        except psycopg.Error as exc:
            # A standby stays one, and a stale plan stays stale: have a new connection next time.
            if connections.is_lost(exc) or connections.is_stale_plan(exc):
                conn.close()
            raise
        finally:
            self._last_used = time.monotonic()
            self._pool.putconn(conn)

    def _checkout(self) -> Connection:
        """Take the connection; raise the reason as soon as an attempt to connect has failed."""
        self._connect_error = None
        if not self._is_open:
            self._pool.open(wait=False)
            self._is_open = True
        # A host list is tried one by one, each with the whole connect timeout.
        hosts = 1 + str(connections.parsed(self._dsn).get("host") or "").count(",")
        give_up_at = time.monotonic() + hosts * self._connect_timeout + 1
        while True:
            try:
                conn = self._pool.getconn(timeout=_LOOK)
            except PoolTimeout:
                error = self._connect_error
                if error is not None:
                    raise error from None
                if time.monotonic() > give_up_at:
                    raise psycopg.errors.ConnectionTimeout("connection timeout expired") from None
            else:
                self._has_been_seen = True
                return conn

    def _check_alive(self, conn: Connection) -> None:
        """Cost nothing for a connection in use; ask the server only where there is doubt.

        An idle connection has nothing to read: whatever is there is a farewell.
        """
        readable, _, _ = select.select([conn.fileno()], [], [], 0)
        if readable or time.monotonic() - self._last_used > _IDLE_CHECK_AFTER:
            with _Watchdog(conn, self._connect_timeout):
                ConnectionPool.check_connection(conn)

    def _connection_class(self) -> type[Connection]:
        """Make a class whose failed connects are remembered; the pool only logs them."""
        database = self

        class RememberedConnection(psycopg.Connection[Any]):
            @classmethod
            def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
                try:
                    return super().connect(conninfo, **kwargs)
                except psycopg.Error as exc:
                    database._connect_error = exc
                    raise

        return RememberedConnection


class _Watchdog:
    """Cancels the statement of a connection that is still busy at the deadline.

    A timeout at the server would need a startup option or a SET, and poolers refuse the one and
    leak the other.  A pooler whose server is gone lets a statement wait, and cancels nothing: what
    goes on after the cancel request loses its connection.
    """

    def __init__(self, conn: Connection, seconds: float) -> None:
        self._conn = conn
        self._seconds = seconds
        self._timer = self._after(seconds, self._bite)
        self._lock = threading.Lock()
        self._is_over = False
        self._has_bitten = False

    @staticmethod
    def _after(seconds: float, act: Callable[[], None]) -> threading.Timer:
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        return timer

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        with self._lock:
            self._is_over = True
            self._timer.cancel()
        if self._has_bitten and isinstance(exc, psycopg.Error):
            raise TryLater(
                f"the database did not finish the call within {self._seconds:g} s",
                hint="something may hold a lock: see pg_stat_activity",
            ) from None

    def _bite(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self._has_bitten = True
            self._timer = self._after(_LAST_MOMENT, self._cut)
            self._timer.start()
            with contextlib.suppress(psycopg.Error, OSError):
                self._conn.cancel_safe(timeout=_LAST_MOMENT)

    def _cut(self) -> None:
        with self._lock:
            if self._is_over:
                return
            # Whoever waits for an answer is told that there will be none.
            with (
                contextlib.suppress(psycopg.Error, OSError),
                socket.socket(fileno=os.dup(self._conn.fileno())) as same,
            ):
                same.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _missing_schema() -> Iterator[None]:
    try:
        yield
    except (
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedFunction,
        psycopg.errors.UndefinedTable,
    ) as exc:
        raise SchemaMissing(
            "the database has no persona schema, or an older one", hint="run: persona db migrate"
        ) from exc


def _check_protocol(conn: Connection) -> None:
    """Refuse a schema that does not serve this package, once a connection."""
    with _missing_schema():
        row = conn.execute(
            "select p.min_protocol, p.max_protocol from persona.protocol_versions() as p"
        ).fetchone()
    if row is None:
        return
    least, most = row
    if least > PROTOCOL:
        raise SchemaTooNew(
            f"the schema in the database is too new: it serves protocols {least} to {most},"
            f" this program speaks {PROTOCOL}",
            hint="upgrade: pip install --upgrade persona-pg",
        )
    if most < PROTOCOL:
        raise SchemaMissing(
            f"the schema in the database is too old: it serves protocols {least} to {most},"
            f" this program speaks {PROTOCOL}",
            hint="run: persona db migrate",
        )
