"""Checks of the database server, and of the schema in it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from persona_pg import connections, migrations, poolers
from persona_pg.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from persona_pg.database import Connection

_OLDEST_SERVER = 150000
_SKEW_SECONDS = 5.0
_ECHO_SECONDS = 3.0
# Transactions since a snapshot that vacuum has to wait for: by then the hot tables are mostly dead.
_SNAPSHOT_AGE = 1_000_000
_DEAD_ROWS = 500_000
_QUEUE_USAGE = 0.5
# Of another role's session only its pid is shown to who may not read all statistics.
_HOLDERS = """
select h.what, h.age, h.advice
from (
  select format('backend %s (%s, %s, transaction open since %s)', a.pid,
      coalesce(a.usename, a.backend_type), coalesce(nullif(a.application_name, ''), 'no name'),
      coalesce(to_char(a.xact_start, 'YYYY-MM-DD HH24:MI'), '?')),
    age(a.backend_xmin),
    format('End its transaction, or: select pg_terminate_backend(%s)', a.pid)
  from pg_stat_activity as a
  where a.backend_xmin is not null and a.pid <> pg_backend_pid()
  union all
  select format('prepared transaction %L', p.gid), age(p.transaction),
    format('rollback prepared %L', p.gid)
  from pg_prepared_xacts as p
  union all
  select format('replication slot %L', s.slot_name), age(coalesce(s.xmin, s.catalog_xmin)),
    format('Let its consumer catch up, or: select pg_drop_replication_slot(%L)', s.slot_name)
  from pg_replication_slots as s
  where coalesce(s.xmin, s.catalog_xmin) is not null
) as h (what, age, advice)
order by h.age desc limit 1"""
_CONNECTIONS = 0.9


def connection(conn: Connection, dsn: str) -> Finding:
    """Which server answers, and whether it keeps what it acknowledges."""
    version = conn.info.server_version
    where = connections.host_of(dsn)
    if version < _OLDEST_SERVER:
        return Finding(
            "connection", "fail", f"PostgreSQL {version // 10000} at {where}",
            "15 is the oldest that works: upgrade the server.",
        )  # fmt: skip
    row = connections.only_row(
        conn,
        "select current_setting('fsync'), current_setting('synchronous_commit'),"
        " current_setting('transaction_read_only'), pg_is_in_recovery()",
    )
    fsync, commit, is_read_only, is_standby = row
    if is_read_only == "on":
        why = "it is a standby" if is_standby else "default_transaction_read_only is on"
        return Finding(
            "connection", "fail", f"{where} takes no writes: {why}",
            "Name the primary, or all hosts, in the address; or switch the setting off.",
        )  # fmt: skip
    if "off" in (fsync, commit):
        return Finding(
            "connection", "warn", f"{where}: fsync is {fsync}, synchronous_commit is {commit}",
            "What was acknowledged can be lost, and a job with it started twice: switch them on.",
        )  # fmt: skip
    return Finding("connection", "ok", f"PostgreSQL {version / 10000:.4g} at {where}")


def listener(conn: Connection, dsn: str, kwargs: Mapping[str, Any]) -> Finding:
    """Whether LISTEN hears what NOTIFY says."""
    if not poolers.can_listen(conn, dsn, kwargs):
        return Finding(
            "listener", "fail", "a pooler lends connections for one transaction: LISTEN is lost",
            "Fine for clients. Runners need the server's own address, or pool_mode = session.",
        )  # fmt: skip
    channel = f"persona_doctor_{os.getpid()}"
    conn.execute(f"listen {channel}")
    began = time.monotonic()
    conn.execute("select pg_notify(%s, '')", (channel,))
    heard = any(True for _ in conn.notifies(timeout=_ECHO_SECONDS, stop_after=1))
    if heard:
        return Finding("listener", "ok", f"heard after {(time.monotonic() - began) * 1000:.0f} ms")
    return Finding(
        "listener", "fail", f"a notification was not heard within {_ECHO_SECONDS:g} s",
        "Something between us and the server keeps it back: connect runners past it.",
    )  # fmt: skip


def clock(conn: Connection) -> Finding:
    """How far this machine's clock is from the server's."""
    before = time.time()
    row = connections.only_row(conn, "select extract(epoch from clock_timestamp())")
    skew = float(row[0]) - (before + time.time()) / 2
    seen = f"the server's clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) > _SKEW_SECONDS:
        return Finding(
            "clock", "warn", seen, "Nothing here depends on it, but times look wrong: use NTP."
        )
    return Finding("clock", "ok", seen)


def oldest_snapshot(conn: Connection) -> Finding:
    """Who keeps vacuum from removing dead rows, in this database or another one."""
    row = conn.execute(_HOLDERS).fetchone()
    if row is None:
        return Finding("oldest snapshot", "ok", "nobody holds one")
    holder, age, advice = row
    seen = f"{age} transactions old: {holder}"
    if age > _SNAPSHOT_AGE:
        return Finding("oldest snapshot", "warn", seen, f"{advice}; vacuum waits for it.")
    return Finding("oldest snapshot", "ok", seen)


def dead_rows(conn: Connection) -> Finding:
    """Whether vacuum keeps up with the hot tables."""
    row = connections.only_row(
        conn,
        """
        select s.relname, s.n_dead_tup, sum(s.n_dead_tup) over (),
          coalesce(to_char(s.last_autovacuum, 'YYYY-MM-DD HH24:MI'), 'never')
        from pg_stat_all_tables as s where s.schemaname = 'persona'
        order by s.n_dead_tup desc limit 1""",
    )
    table, worst, every, last = row
    seen = f"{every} in all tables"
    if every > _DEAD_ROWS:
        return Finding(
            "dead rows", "warn", f"{seen}, {worst} of them in {table} (autovacuum: {last})",
            f"vacuum (analyze) persona.{table}; where it removes none, see oldest snapshot.",
        )  # fmt: skip
    return Finding("dead rows", "ok", seen)


def notification_queue(conn: Connection) -> Finding:
    """Whether a listener that does not read fills the queue of the whole cluster."""
    row = connections.only_row(conn, "select pg_notification_queue_usage()")
    seen = f"{float(row[0]):.0%} in use"
    if row[0] > _QUEUE_USAGE:
        return Finding(
            "notification queue", "fail", seen,
            "A session that listens sits in a long transaction: end it; full, it stops creates.",
        )  # fmt: skip
    return Finding("notification queue", "ok", seen)


def connections_in_use(conn: Connection) -> Finding:
    """Whether the next client gets a connection."""
    row = connections.only_row(
        conn,
        "select count(*), current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int from pg_stat_activity as a"
        " where a.backend_type = 'client backend'",
    )
    used, most = row
    seen = f"{used} of {most}"
    if used > most * _CONNECTIONS:
        return Finding(
            "connections", "warn", seen,
            "Close what idles, raise max_connections, or put a pooler before the clients.",
        )  # fmt: skip
    return Finding("connections", "ok", seen)


def schema(dsn: str) -> Finding:
    """Whether the schema is the one that this package installs, by the hashes of its functions."""
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
            "schema", "warn", f"not what this package installs: {', '.join(odd[:5])}",
            "persona db status says what; persona db migrate puts functions back.",
        )  # fmt: skip
    return Finding("schema", "ok", f"{found.version} migrations, functions as shipped")
