"""What `persona doctor` looks at: one function a check, each says what it saw and what to do.

A check never repairs anything.  One that cannot be made says so and does not keep the others from
theirs.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg

from persona_pg import connections, migrations
from persona_pg.errors import PersonaError, one_line
from persona_pg.runner import control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from persona_pg.database import Connection
    from persona_pg.settings import Settings

State = Literal["ok", "warn", "fail"]

_OLDEST_SERVER = 150000
_SKEW_SECONDS = 5.0
_SNAPSHOT_AGE = 1_000_000
_QUEUE_USAGE = 0.5
_ECHO_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has seen; *advice* is what to do about it."""

    check: str
    state: State
    seen: str
    advice: str = ""


def examine(settings: Settings, dsn: str) -> Iterator[Finding]:
    """Make all checks, one after the other."""
    yield from _tried("process control", lambda: _process_control(settings))
    yield from _tried("folder", lambda: _folder(settings))
    try:
        conn = psycopg.connect(dsn, **connections.connection_kwargs(dsn, application_name="doctor"))
    except psycopg.Error as exc:
        words = connections.masked(one_line(str(exc)), dsn)
        yield Finding("connection", "fail", words, "Start the server, or mend the address.")
        return
    with conn:
        yield from _tried("connection", lambda: _server(conn, dsn))
        schema = list(_tried("schema", lambda: _schema(dsn)))
        yield from schema
        if any(finding.state == "fail" for finding in schema):
            return  # the others ask functions that may not be there
        for name, check in _ON_THE_SCHEMA.items():
            yield from _tried(name, lambda check=check: check(conn))  # type: ignore[misc]


def _tried(name: str, check: Callable[[], Finding]) -> Iterator[Finding]:
    try:
        yield check()
    except (psycopg.Error, PersonaError, OSError) as exc:
        yield Finding(name, "warn", f"could not be looked at: {one_line(str(exc))}")


def _process_control(settings: Settings) -> Finding:
    chosen = control.choose(settings.process_control)
    if chosen.kind in (settings.process_control, "cgroup"):
        return Finding("process control", "ok", chosen.kind)
    return Finding(
        "process control",
        "ok" if settings.process_control == "auto" else "warn",
        f"{chosen.kind} ({chosen.why}), as seen from here; a runner says at its start what it uses",
        "Delegate=yes in the runner's unit gives each execution a control group.",
    )


def _folder(settings: Settings) -> Finding:
    home = settings.home
    there = home if home.exists() else home.parent
    if os.access(there, os.W_OK) or not there.exists():
        return Finding("folder", "ok", str(home))
    return Finding(
        "folder",
        "fail",
        f"{home} may not be written to",
        "A runner keeps its lock, its sockets and what an outage held up there: set PERSONA_HOME.",
    )


def _server(conn: Connection, dsn: str) -> Finding:
    version = conn.info.server_version
    where = connections.host_of(dsn)
    if version < _OLDEST_SERVER:
        return Finding(
            "connection", "fail", f"PostgreSQL {version // 10000} at {where}", "15 is the oldest."
        )
    row = conn.execute(
        "select current_setting('fsync'), current_setting('synchronous_commit')"
    ).fetchone()
    if row is not None and "off" in row:
        return Finding(
            "connection",
            "warn",
            f"{where}: fsync is {row[0]}, synchronous_commit is {row[1]}",
            "What was acknowledged can be lost, and a job with it started twice: switch them on.",
        )
    return Finding("connection", "ok", f"PostgreSQL {version / 10000:.4g} at {where}")


def _schema(dsn: str) -> Finding:
    found = migrations.status(dsn)
    if not found.applied:
        return Finding("schema", "fail", "there is none", "Run: persona db migrate")
    if found.unknown:
        return Finding(
            "schema", "fail", f"newer than this package: {found.unknown[-1]}", "Upgrade persona-pg."
        )
    if found.pending:
        return Finding(
            "schema", "fail", f"{len(found.pending)} migrations behind", "Run: persona db migrate"
        )
    odd = [*(found.changed or ()), *(found.drifted or ()), *(found.orphaned or ())]
    if odd:
        return Finding(
            "schema",
            "warn",
            f"not what this package installs: {', '.join(odd[:5])}",
            "persona db status says what; persona db migrate puts functions back.",
        )
    return Finding("schema", "ok", f"{found.version} migrations, functions as shipped")


def _clock(conn: Connection) -> Finding:
    before = time.time()
    row = conn.execute("select extract(epoch from clock_timestamp())").fetchone()
    assert row is not None
    skew = float(row[0]) - (before + time.time()) / 2
    seen = f"the server's clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) > _SKEW_SECONDS:
        return Finding(
            "clock", "warn", seen, "Nothing here depends on it, but times look wrong: use NTP."
        )
    return Finding("clock", "ok", seen)


def _listener(conn: Connection) -> Finding:
    channel = f"persona_doctor_{os.getpid()}"
    conn.execute(f"listen {channel}")
    began = time.monotonic()
    conn.execute("select pg_notify(%s, '')", (channel,))
    heard = any(True for _ in conn.notifies(timeout=_ECHO_SECONDS, stop_after=1))
    if heard:
        return Finding("listener", "ok", f"heard after {(time.monotonic() - began) * 1000:.0f} ms")
    return Finding(
        "listener",
        "fail",
        f"a notification was not heard within {_ECHO_SECONDS:g} s",
        "A pooler in transaction mode loses LISTEN: connect runners past it.",
    )


def _horizon(conn: Connection) -> Finding:
    row = conn.execute(
        "select h.dead_tuples, h.oldest_snapshot_pid, h.oldest_snapshot_age,"
        " h.oldest_prepared_age, h.oldest_slot_age from persona.queue_health as h"
    ).fetchone()
    assert row is not None
    dead, pid, *ages = row
    oldest = max((age for age in ages if age is not None), default=0)
    seen = f"{dead} dead rows in the hot tables, the oldest snapshot is {oldest} transactions old"
    if oldest > _SNAPSHOT_AGE:
        return Finding(
            "oldest snapshot",
            "warn",
            f"{seen} (backend {pid})",
            "End that transaction, prepared transaction or replication slot: vacuum waits for it.",
        )
    return Finding("oldest snapshot", "ok", seen)


def _notification_queue(conn: Connection) -> Finding:
    row = conn.execute("select pg_notification_queue_usage()").fetchone()
    assert row is not None
    seen = f"{float(row[0]):.0%} in use"
    if row[0] > _QUEUE_USAGE:
        return Finding(
            "notification queue",
            "fail",
            seen,
            "A session that listens sits in a long transaction: end it; full, it stops creates.",
        )
    return Finding("notification queue", "ok", seen)


def _runners(conn: Connection) -> Finding:
    row = conn.execute(
        "select count(*), string_agg(r.name || ' (' || r.status || ')', ', ' order by r.name)"
        " from persona.runner_dashboard as r where r.status not in ('gone', 'lost')"
    ).fetchone()
    assert row is not None
    waiting = conn.execute("select count(*) from persona.job_queue").fetchone()
    assert waiting is not None
    if not row[0] and waiting[0]:
        return Finding(
            "runners", "warn", f"none, and {waiting[0]} jobs wait", "Start one: persona-worker"
        )
    return Finding("runners", "ok", row[1] or "none, and no job waits")


def _programs(conn: Connection) -> Finding:
    rows = conn.execute(
        "select a.name, a.argv[1] from persona.agents as a"
        " where a.is_active and not a.is_external and a.argv[1] !~ '[{/]' order by a.name"
    ).fetchall()
    missing = [f"{agent} ({program})" for agent, program in rows if shutil.which(program) is None]
    if missing:
        return Finding(
            "programs",
            "warn",
            f"not on this PATH: {', '.join(missing)}",
            "Install them, or disable the agents, where a runner of this user serves them.",
        )
    return Finding("programs", "ok", "those of all active agents are on this PATH")


def _stuck(conn: Connection) -> Finding:
    row = conn.execute(
        "select count(*) from persona.job_leases as l where l.expires_at < now()"
    ).fetchone()
    assert row is not None
    if row[0]:
        return Finding(
            "stuck jobs",
            "warn",
            f"{row[0]} running without a heartbeat",
            "A live runner takes them back within a minute; persona hung lists them.",
        )
    return Finding("stuck jobs", "ok", "none")


_ON_THE_SCHEMA: dict[str, Callable[[Connection], Finding]] = {
    "clock": _clock,
    "listener": _listener,
    "oldest snapshot": _horizon,
    "notification queue": _notification_queue,
    "runners": _runners,
    "programs": _programs,
    "stuck jobs": _stuck,
}
