"""What `persona doctor` looks at: one function a check, each says what it saw and what to do.

A check never repairs anything.  One that cannot be made says so and does not keep the others from
theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from persona_pg import connections
from persona_pg.doctor import machine, server, work
from persona_pg.doctor.finding import Finding
from persona_pg.errors import NotPermitted, PersonaError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from persona_pg.database import Connection
    from persona_pg.settings import Settings

__all__ = ["Finding", "examine"]

_ON_THE_SERVER: dict[str, Callable[[Connection], Finding]] = {
    "clock": server.clock,
    "oldest snapshot": server.oldest_snapshot,
    "notification queue": server.notification_queue,
    "connections": server.connections_in_use,
}
_ON_THE_SCHEMA: dict[str, Callable[[Connection], Finding]] = {
    "dead rows": server.dead_rows,
    "runners": work.runners,
    "programs": work.programs,
    "stuck jobs": work.stuck_jobs,
    "upkeep": work.upkeep,
    "alerts": work.alerts,
}


def examine(settings: Settings, dsn: str) -> Iterator[Finding]:
    """Make all checks, one after the other."""
    yield from _tried("process control", lambda: machine.process_control(settings))
    yield from _tried("folder", lambda: machine.folder(settings))
    kwargs = connections.connection_kwargs(dsn, application_name="doctor")
    try:
        conn = psycopg.connect(dsn, **kwargs)
    except psycopg.Error as exc:
        words = connections.masked(one_line(str(exc)), dsn)
        yield Finding("connection", "fail", words, "Start the server, or mend the address.")
        return
    with conn:
        yield from _tried("connection", lambda: server.connection(conn, dsn))
        yield from _tried("listener", lambda: server.listener(conn, dsn, kwargs))
        for name, check in _ON_THE_SERVER.items():
            yield from _tried(name, lambda check=check: check(conn))  # type: ignore[misc]
        schema = list(_tried("schema", lambda: server.schema(dsn)))
        yield from schema
        if any(finding.state == "fail" for finding in schema):
            return  # the others ask functions that may not be there
        for name, check in _ON_THE_SCHEMA.items():
            yield from _tried(name, lambda check=check: check(conn))  # type: ignore[misc]
        yield from _tried("secrets", lambda: work.secrets(conn, settings))
        yield from _tried("plugin", lambda: work.plugin(conn, settings))


def _tried(name: str, check: Callable[[], Finding]) -> Iterator[Finding]:
    try:
        yield check()
    except (psycopg.errors.InsufficientPrivilege, NotPermitted) as exc:
        yield Finding(
            name, "warn", f"may not be looked at: {one_line(str(exc))}",
            "Ask as a role that may: persona_admin, or the owner of the schema.",
        )  # fmt: skip
    except (psycopg.Error, PersonaError, OSError) as exc:
        yield Finding(
            name, "warn", f"could not be looked at: {one_line(str(exc))}", "Ask again later."
        )
