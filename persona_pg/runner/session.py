"""The runner's one connection: pipelines with a sync point after each step, and notifications.

It speaks libpq through psycopg's `pq` wrapper, because psycopg's own pipeline waits for the
results at each sync point, and here heartbeats, log lines, completions and the claim go out in one
round trip, each in a transaction of its own: one that fails takes none of the others with it.
The connection is held for good (LISTEN belongs to it); when it breaks, `connect` makes another.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from persona_pg import connections, poolers
from persona_pg.errors import ConfigurationError, PersonaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("persona.runner")

CHANNELS = ("persona_wake", "persona_cancel", "persona_control")


# A statement that waits for somebody's lock is given up by the server before we give up on the
# connection: what we no longer wait for must not take place later. For the same reason the server
# looks now and then whether we are still there.
_STATEMENT_SHARE = 0.75
_CHECK_CLIENT = b"set client_connection_check_interval = '5s'"

_SHARED = (
    "PERSONA_DATABASE_URL: at {} there is a pooler that lends connections for one transaction,"
    " through which a runner cannot be told of new jobs; it must be the server itself, or a pool in"
    " session mode (pgbouncer: pool_mode = session); clients may stay where they are"
)

# What was sent is at fault: data exceptions, constraints, limits, and errors that are raised by
# functions. Anything else (no space left, no permission, a lock) may be over in a while.
_INPUT_ERRORS = ("22", "23", "54", "P0", "PJ")


class ConnectionLost(Exception):
    """The connection broke: whether the steps under way took place is unknown.

    But for those that had been answered before: their answers are here.
    """

    def __init__(self, message: str, answers: Sequence[Answer] = ()) -> None:
        super().__init__(message)
        self.answers = list(answers)


@dataclass(frozen=True, slots=True)
class Step:
    """One statement in a transaction of its own.

    It returns one column of one row, JSON or null.
    """

    sql: bytes
    params: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class StepError:
    """What the server answered instead of a result."""

    sqlstate: str
    message: str
    detail: str
    hint: str

    def exception(self) -> PersonaError | psycopg.Error:
        """Return the exception that stands for it."""
        cls = PersonaError.by_sqlstate.get(self.sqlstate)
        if cls is None:
            return psycopg.errors.lookup(self.sqlstate)(self.message)
        try:
            detail = json.loads(self.detail) if self.detail else {}
        except ValueError:
            detail = {"detail": self.detail}
        return cls(self.message, detail=detail, hint=self.hint or None)

    @property
    def is_transient(self) -> bool:
        """Tell whether the same step may succeed a little later."""
        return connections.is_transient(self._bare())

    @property
    def blames_input(self) -> bool:
        """Tell whether the same input would be refused again."""
        return self.sqlstate.startswith(_INPUT_ERRORS)

    @property
    def needs_new_connection(self) -> bool:
        """Tell whether only a fresh connection can help."""
        bare = self._bare()
        return connections.is_lost(bare) or connections.is_stale_plan(bare)

    def complain(self, what: str) -> None:
        """Log that *what* was refused."""
        level = logging.ERROR if self.blames_input else logging.WARNING
        log.log(level, "the database refused %s: %s (%s)", what, self.message, self.sqlstate)

    def _bare(self) -> Exception:
        try:
            return psycopg.errors.lookup(self.sqlstate)(self.message)
        except KeyError:
            return psycopg.DatabaseError(self.message)


Answer = Any | StepError


class Session:
    """A connection in pipeline mode with a permanent reader on its socket."""

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str,
        on_notify: Callable[[str, str], None],
        on_lost: Callable[[], None],
        deadline: float,
    ) -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._on_notify = on_notify
        self._on_lost = on_lost
        self._deadline = deadline
        self._conn: psycopg.AsyncConnection[Any] | None = None
        self._fd = -1
        # What this connection knows by name: the text of a statement, and the name.
        self._prepared: dict[bytes, bytes] = {}
        self._names = itertools.count(1)
        self._readable: asyncio.Future[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Tell whether there is a connection that is not known to be broken."""
        return self._conn is not None

    async def connect(self) -> None:
        """Connect and LISTEN; psycopg.OperationalError or ConfigurationError where that fails."""
        self.close()
        kwargs = connections.connection_kwargs(self._dsn, application_name=self._application_name)
        async with asyncio.timeout(self._deadline):
            conn = await psycopg.AsyncConnection.connect(self._dsn, **kwargs)
        if not await poolers.can_listen_async(conn, self._dsn, kwargs, deadline=self._deadline):
            await conn.close()
            raise ConfigurationError(_SHARED.format(connections.host_of(self._dsn)))
        self._conn = conn
        self._fd = conn.fileno()
        self._prepared = {}
        conn.pgconn.nonblocking = 1
        conn.pgconn.enter_pipeline_mode()
        asyncio.get_running_loop().add_reader(self._fd, self._on_readable)
        timeout = f"set statement_timeout = {round(self._deadline * _STATEMENT_SHARE * 1000)}"
        listens = [Step(f"listen {c}".encode()) for c in CHANNELS]
        # The last one may be refused: not every platform of a server can do it.
        *answers, _ = await self.exchange([Step(timeout.encode()), *listens, Step(_CHECK_CLIENT)])
        for answer in answers:
            if isinstance(answer, StepError):
                self.close()
                raise answer.exception()

    def close(self) -> None:
        """Close the connection, if there is one."""
        conn, self._conn = self._conn, None
        if conn is None:
            return
        asyncio.get_running_loop().remove_reader(self._fd)
        asyncio.get_running_loop().remove_writer(self._fd)
        # Not conn.close(): in pipeline mode nothing is to be waited for.
        conn.pgconn.finish()
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    async def exchange(self, steps: Sequence[Step]) -> list[Answer]:
        """Send all steps at once; return for each the JSON value, or the error.

        ConnectionLost where the connection breaks or the deadline passes.
        """
        if self._conn is None:
            raise ConnectionLost("not connected")
        answers: list[Answer] = []
        try:
            async with asyncio.timeout(self._deadline):
                await self._exchange(self._conn.pgconn, steps, answers)
        except TimeoutError:
            self._lose()
            raise ConnectionLost(f"no answer within {self._deadline:g} s", answers) from None
        except psycopg.Error as exc:
            self._lose()
            raise ConnectionLost(" ".join(str(exc).split()), answers) from exc
        return answers

    async def _exchange(
        self, pgconn: pq.abc.PGconn, steps: Sequence[Step], answers: list[Answer]
    ) -> None:
        asked: dict[bytes, bytes] = {}
        for step in steps:
            self._send(pgconn, step, asked)
        await self._flush(pgconn)
        answer: Answer = None
        while len(answers) < len(steps):
            while pgconn.is_busy():
                await self._wait_readable()
            result = pgconn.get_result()
            if result is None:
                continue  # the end of one statement's results
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                sql = steps[len(answers)].sql
                name = asked.pop(sql, None)
                # Of what was refused it is not known whether the text was.
                if name is not None and not isinstance(answer, StepError):
                    self._prepared[sql] = name
                answers.append(answer)
                answer = None
            elif result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.FATAL_ERROR):
                answer = _answer(result)
        # What came behind the last answer, in the same packet, was not looked at until the answers
        # were taken; nothing more may come for a long time.
        self._take_notifications(pgconn)
        for done in answers:
            if isinstance(done, StepError) and done.needs_new_connection:
                self._lose()
                break

    def _send(self, pgconn: pq.abc.PGconn, step: Step, asked: dict[bytes, bytes]) -> None:
        """Send one step by the name under which the server knows it, or have it learnt.

        To read and plan a statement anew takes the server a tenth to a fifth of a claim; what
        has no parameters is said once, or read fast.
        """
        params = [None if p is None else p.encode() for p in step.params]
        if (name := self._prepared.get(step.sql)) is not None:
            pgconn.send_query_prepared(name, params)
        elif not params or step.sql in asked:
            pgconn.send_query_params(step.sql, params)
        else:
            name = asked[step.sql] = b"%s(%d)" % (_function(step.sql), next(self._names))
            pgconn.send_prepare(name, step.sql)
            pgconn.send_query_prepared(name, params)
        pgconn.pipeline_sync()

    async def _flush(self, pgconn: pq.abc.PGconn) -> None:
        loop = asyncio.get_running_loop()
        while pgconn.flush():
            # The server may be waiting for us to read before it reads on: the reader runs too.
            writable: asyncio.Future[None] = loop.create_future()
            loop.add_writer(self._fd, _resolve, writable)
            try:
                await writable
            finally:
                loop.remove_writer(self._fd)
            self._check_open()

    async def _wait_readable(self) -> None:
        self._check_open()
        self._readable = asyncio.get_running_loop().create_future()
        try:
            await self._readable
        finally:
            self._readable = None
        self._check_open()

    def _check_open(self) -> None:
        if self._conn is None:
            raise psycopg.OperationalError("the connection was closed")

    def _on_readable(self) -> None:
        if self._conn is None:
            return
        pgconn = self._conn.pgconn
        try:
            pgconn.consume_input()
        except psycopg.Error:
            self._lose()
            return
        self._take_notifications(pgconn)
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def _take_notifications(self, pgconn: pq.abc.PGconn) -> None:
        while (notify := pgconn.notifies()) is not None:
            self._on_notify(notify.relname.decode(), notify.extra.decode())

    def _lose(self) -> None:
        if self._conn is not None:
            self.close()
            self._on_lost()


def _function(sql: bytes) -> bytes:
    """Return the function that is called: who looks at the traffic sees it at each call."""
    found = re.search(rb"persona\.\w+", sql)
    return found[0] if found else b"statement"


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _answer(result: pq.abc.PGresult) -> Answer:
    if result.status == pq.ExecStatus.FATAL_ERROR:
        return _error(result)
    value = result.get_value(0, 0) if result.ntuples else None
    return None if value is None else json.loads(value)


def _error(result: pq.abc.PGresult) -> StepError:
    def field(code: pq.DiagnosticField) -> str:
        value = result.error_field(code)
        return value.decode("utf-8", "replace") if value else ""

    return StepError(
        sqlstate=field(pq.DiagnosticField.SQLSTATE),
        message=field(pq.DiagnosticField.MESSAGE_PRIMARY),
        detail=field(pq.DiagnosticField.MESSAGE_DETAIL),
        hint=field(pq.DiagnosticField.MESSAGE_HINT),
    )
