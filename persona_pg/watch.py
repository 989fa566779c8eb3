"""Waiting for changes at the server instead of asking for them again and again."""

from __future__ import annotations

import contextlib
import select
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

import psycopg

from persona_pg import connections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from persona_pg.database import Connection, Database

_REGISTERED_FOR = 60
_RENEWED_EVERY = 20.0
_SHORTEST_POLL, _LONGEST_POLL = 0.03, 0.5
_FIRST_SETTLING, _LONGEST_SETTLING = 0.001, 1.0
_MOST_JOBS = 1000


class Watch:
    """Tells when jobs may have changed: these, or any.

    Read after each wait(), the first one included: LISTEN comes first, then the registration,
    then what others had under way then is waited for (it may not have seen us), then silence
    means that nothing has changed.  Where notifications do not reach us (a pooler in transaction
    mode, a standby, an older schema) wait() returns every now and then, as polling does.
    """

    def __init__(
        self, database: Database, job_ids: Sequence[UUID] | None = None, *, logs: bool = False
    ) -> None:
        self._database = database
        several = None if job_ids is None or len(job_ids) > _MOST_JOBS else list(job_ids)
        self._wanted = (uuid.uuid4(), several, logs)
        self._topics = frozenset(map(str, several or ()))
        self._heard = False
        self._conn: Connection | None = None
        self._server_pid = 0
        self.is_deaf = False
        # Grows when there is reason to read again, as opposed to a wait() that timed out.
        self.changes = 0
        # Whose log lines are wanted beside everything else, and which of these have new ones.
        self._followed: list[UUID] = []
        self._follow_id = uuid.uuid4()
        self._is_follow_new = False
        self._heard_logs: set[str] = set()
        self._horizon: tuple[str, list[str]] | None = None
        self._settling_since = 0.0
        self._settling_delay = _FIRST_SETTLING
        self._poll_delay = _SHORTEST_POLL
        self._delays = connections.backoff_delays()
        self._retry_at = 0.0
        self._renew_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watch."""
        if self._conn is not None:
            # Where this fails it ends by itself.
            with contextlib.suppress(psycopg.Error):
                self._conn.execute("select persona.unwatch(%s)", (self._wanted[0],))
                if self._followed:
                    self._conn.execute("select persona.unwatch(%s)", (self._follow_id,))
            self._conn.close()
            self._conn = None

    def hurry(self) -> None:
        """Something has just changed: where waiting means polling, look again soon."""
        self._poll_delay = _SHORTEST_POLL

    def follow(self, job_ids: Sequence[UUID]) -> None:
        """Hear of new log lines of these jobs as well, and of no others; see take_logs()."""
        self._followed = list(job_ids)[:_MOST_JOBS]
        self._is_follow_new = True

    def take_logs(self) -> set[str]:
        """Return the ids of followed jobs that may have new log lines."""
        heard, self._heard_logs = self._heard_logs, set()
        return heard

    def wait(self, timeout: float | None = None, wake: Sequence[Any] = ()) -> None:
        """Return when something may have changed, one of *wake* can be read, or time is over."""
        now = time.monotonic()
        conn = self._conn
        if conn is None and not self.is_deaf and now >= self._retry_at and self._connect():
            self.changes += 1
        elif conn is None:
            is_cut_short = timeout is not None and timeout < self._poll_delay
            self._sleep(timeout if is_cut_short else self._poll_delay, wake)
            self._poll_delay = min(self._poll_delay * 1.5, _LONGEST_POLL)
            self.changes += not is_cut_short
            self._heard_logs |= {str(job_id) for job_id in self._followed}
        else:
            patience = 0.0 if self._is_follow_new else max(0.0, self._renew_at - now)
            if self._horizon is not None:
                patience = self._settling_delay
            self._sleep(patience if timeout is None else min(patience, timeout), wake)
            try:
                self._look_after(conn)
            except (psycopg.Error, _AnotherServer) as exc:
                self._give_up(exc)

    def _sleep(self, seconds: float | None, wake: Sequence[Any]) -> None:
        readers = list(wake)
        if self._conn is not None:
            if self._heard or self._heard_logs:
                return
            readers.append(self._conn)
        select.select(readers, [], [], seconds)

    def _hear(self, channel: str, topic: str) -> None:
        """Heed what is for us: a listener hears everything that is said on its channels."""
        _, job_ids, logs = self._wanted
        if channel == "persona_logs" and self._followed:
            followed = {str(job_id) for job_id in self._followed}
            self._heard_logs |= followed if topic == "all" else followed & {topic}
        if channel == "persona_changes" and job_ids is None:
            self._heard = True
        elif channel == "persona_changes" or logs:
            self._heard = self._heard or topic == "all" or topic in self._topics

    def _look_after(self, conn: Connection) -> None:
        """Take in what the server has sent; settle, or register again, when it is time."""
        conn.pgconn.consume_input()
        while (told := conn.pgconn.notifies()) is not None:
            self._hear(told.relname.decode(), told.extra.decode())
        if self._heard:
            self._heard = False
            self.changes += 1
        if self._is_follow_new:
            self._register(conn)
            self._begin_settling(conn)
        elif self._horizon is not None:
            horizon, holders = self._horizon
            is_old = time.monotonic() - self._settling_since > _LONGEST_SETTLING
            row = connections.only_row(
                conn,
                "select persona.is_settled(%s, %s::text[]), pg_backend_pid()",
                (horizon, holders if is_old else None),
            )
            self._check_server(row[1])
            self._settling_delay = min(2 * self._settling_delay, _LONGEST_SETTLING)
            self.changes += 1
            self._heard_logs |= {str(job_id) for job_id in self._followed}
            if row[0]:
                self._horizon = None
        elif time.monotonic() >= self._renew_at:
            self._register(conn)
            self.changes += 1

    def _connect(self) -> bool:
        try:
            conn = self._conn = self._database.connect_apart()
            self._check_mode(conn)
            conn.add_notify_handler(lambda told: self._hear(told.channel, told.payload))
            conn.execute("listen persona_changes")
            conn.execute("listen persona_logs")
            self._server_pid = self._pid_of(conn)
            self._register(conn)
            self._begin_settling(conn)
        except (psycopg.Error, _AnotherServer) as exc:
            self._give_up(exc)
            return False
        self._delays = connections.backoff_delays()
        return True

    def _begin_settling(self, conn: Connection) -> None:
        row = connections.only_row(
            conn,
            "select h.horizon, h.holders, pg_backend_pid() from persona.idle_horizon(null) as h",
        )
        self._check_server(row[2])
        self._horizon = (row[0], row[1])
        self._settling_since = time.monotonic()
        self._settling_delay = _FIRST_SETTLING

    def _register(self, conn: Connection) -> None:
        ident, job_ids, logs = self._wanted
        conn.execute(
            "select persona.watch(%s, %s::uuid[], %s, %s)", (ident, job_ids, logs, _REGISTERED_FOR)
        )
        if self._followed:
            conn.execute(
                "select persona.watch(%s, %s::uuid[], true, %s)",
                (self._follow_id, self._followed, _REGISTERED_FOR),
            )
        elif self._is_follow_new:
            conn.execute("select persona.unwatch(%s)", (self._follow_id,))
        # What was said until now nobody told us: read each once.
        self._heard_logs |= {str(job_id) for job_id in self._followed}
        self._is_follow_new = False
        self._renew_at = time.monotonic() + _RENEWED_EVERY
        self._check_server(self._pid_of(conn))

    def _pid_of(self, conn: Connection) -> int:
        row = connections.only_row(conn, "select pg_backend_pid()")
        return int(row[0])

    def _check_mode(self, conn: Connection) -> None:
        if not self._database.can_listen(conn):
            raise _AnotherServer

    def _check_server(self, pid: int) -> None:
        if pid != self._server_pid:
            raise _AnotherServer

    def _give_up(self, exc: Exception) -> None:
        """Try again later where the connection was lost; poll where that would not help."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None
        lasts = not connections.is_transient(exc) or getattr(exc, "sqlstate", None) == "25006"
        self.is_deaf = self.is_deaf or lasts
        self._retry_at = time.monotonic() + next(self._delays)


class _AnotherServer(Exception):
    """A pooler lends servers for one transaction: our LISTEN was said to somebody else."""
