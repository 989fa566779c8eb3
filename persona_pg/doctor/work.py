"""Checks of the queue: who does the work, with what, and what has got stuck."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from persona_pg import __version__, connections
from persona_pg.doctor.finding import Finding
from persona_pg.model import Agent, columns
from persona_pg.runner import secrets as named
from persona_pg.service.plan import missing_programs

if TYPE_CHECKING:
    from persona_pg.database import Connection
    from persona_pg.settings import Settings

_SHOWN = 5


def runners(conn: Connection) -> Finding:
    """Whether anybody takes what waits."""
    row = connections.only_row(
        conn,
        "select count(*), string_agg(r.name || ' (' || r.status || ')', ', ' order by r.name),"
        " string_agg(r.name || ' (' || coalesce(r.version, 'unknown') || ')', ', ' order by r.name)"
        " filter (where r.version is distinct from %s)"
        " from persona.runner_dashboard as r where r.status not in ('gone', 'lost')",
        (__version__,),
    )
    waiting = connections.only_row(conn, "select count(*) from persona.job_queue")
    count, names, others = row
    if not count and waiting[0]:
        return Finding(
            "runners", "warn", f"none, and {waiting[0]} jobs wait", "Start one: persona-worker"
        )
    if others:
        return Finding(
            "runners", "warn", f"of another version than this package ({__version__}): {others}",
            "Bring them up to date, and start them again: persona runners drain NAME",
        )  # fmt: skip
    return Finding("runners", "ok", names or "none, and no job waits")


def programs(conn: Connection) -> Finding:
    """Whether this machine has the programs of the agents."""
    with conn.cursor(row_factory=class_row(Agent), binary=True) as cursor:
        agents = cursor.execute(
            f"select {columns(Agent, 'a')} from persona.agents as a"  # noqa: S608 - names only
        ).fetchall()
    missing = missing_programs(agents, os.environ.get("PATH", os.defpath), ())
    if missing:
        pairs = sorted((agent, program) for program, users in missing.items() for agent in users)
        seen = ", ".join(f"{agent} ({program})" for agent, program in pairs)
        return Finding(
            "programs", "warn", f"not on this PATH: {seen}",
            "Install them, or disable the agents, where a runner of this user serves them.",
        )  # fmt: skip
    return Finding("programs", "ok", "those of all active agents are on this PATH")


def secrets(conn: Connection, settings: Settings) -> Finding:
    """Whether this machine has the secrets that agents name."""
    rows = conn.execute(
        "select a.name, e.value from persona.agents as a cross join lateral jsonb_each(a.env) as e"
        " where a.is_active and not a.is_external and jsonb_typeof(e.value) = 'object'"
        " order by a.name"
    ).fetchall()
    missing = []
    for agent, value in rows:
        try:
            if named.is_named(value):
                named.read(value, os.environ, settings.home)
        except named.SecretError as exc:
            missing.append(f"{agent}: {exc}")
    if missing:
        return Finding(
            "secrets", "warn", "; ".join(missing[:_SHOWN]),
            "Put each into a file of that name, mode 600, where a runner of this user needs it.",
        )  # fmt: skip
    return Finding("secrets", "ok", f"{len(rows)} named by agents, all here" if rows else "none")


def stuck_jobs(conn: Connection) -> Finding:
    """Jobs whose runner is silent, or that have waited for a long time although they could run."""
    row = connections.only_row(
        conn,
        "select count(*), string_agg(j.short_id, ', ') from persona.job_leases as l"
        " join persona.jobs as j on j.id = l.job_id where l.expires_at < now()",
    )
    if row[0]:
        return Finding(
            "stuck jobs", "warn", f"{row[0]} running without a heartbeat: {row[1]}",
            "A live runner takes them back within a minute; persona hung lists them.",
        )  # fmt: skip
    waits = conn.execute(
        "select j.short_id, persona.explain_job(j.id::text) from persona.job_queue as q"
        " join persona.jobs as j on j.id = q.job_id"
        " where q.run_at < now() - interval '1 hour' and coalesce(q.waits_on, '') <> 'external'"
        " order by q.run_at limit 1"
    ).fetchone()
    if waits is not None:
        return Finding(
            "stuck jobs", "warn", f"{waits[0]} waits for more than an hour: {waits[1]}",
            "persona explain ID says it for each; docs/troubleshooting.md says what to do.",
        )  # fmt: skip
    return Finding("stuck jobs", "ok", "none")


def upkeep(conn: Connection) -> Finding:
    """Whether anybody makes the partitions of the coming days, which is part of all upkeep."""
    row = connections.only_row(
        conn,
        "select max(c.relname), 'job_logs_' || to_char(now() at time zone 'UTC', 'YYYYMMDD')"
        " from pg_inherits as i join pg_class as c on c.oid = i.inhrelid"
        " where i.inhparent = 'persona.job_logs'::regclass and c.relname ~ '^job_logs_[0-9]+$'",
    )
    last, today = row
    if last is None:
        return Finding("upkeep", "ok", "nothing yet: no runner has been here")
    if last < today:
        return Finding(
            "upkeep", "warn", f"there is no log partition for today, the last one is {last}",
            "Each runner makes them: start one. Where one runs, end the long reader of job_logs.",
        )  # fmt: skip
    return Finding("upkeep", "ok", "today's log partition is there")


def alerts(conn: Connection) -> Finding:
    """Count what somebody should have looked at."""
    rows = conn.execute(
        "select a.kind, count(*) from persona.alerts as a where a.seen_at is null"
        " group by a.kind order by a.kind"
    ).fetchall()
    if rows:
        return Finding(
            "alerts", "warn", ", ".join(f"{count} {kind}" for kind, count in rows),
            "persona alerts lists them, persona alerts seen marks them.",
        )  # fmt: skip
    return Finding("alerts", "ok", "none that nobody has seen")


def plugin(conn: Connection, settings: Settings) -> Finding:
    """Whether the plugin's own consumer starts what runners start as well."""
    if settings.vault_path is None:
        return Finding("plugin", "ok", "no vault is configured")
    path = settings.vault_path / ".obsidian" / "plugins" / "persona" / "data.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Finding("plugin", "ok", "not installed in the vault")
    row = conn.execute(
        "select s.value #>> '{}' = 'runner' from persona.settings as s"
        " where s.name = 'bridge_agent_action'"
    ).fetchone()
    is_consuming = isinstance(known, dict) and known.get("queueConsumerEnabled", True)
    if is_consuming and row is not None and row[0]:
        return Finding(
            "plugin", "warn", "its queue consumer is on, and runners start its jobs too",
            f"Switch queueConsumerEnabled off in {path}, or the setting bridge_agent_action.",
        )  # fmt: skip
    return Finding("plugin", "ok", "its consumer and the runners do not share work")
