"""The runner functions of the schema as pipeline steps; each answers with one JSON value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from persona_pg import __version__
from persona_pg.runner.session import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from persona_pg.runner.identity import Host
    from persona_pg.runner.lockfile import Owner

# What the runner needs of the schema; a migration that adds something it cannot do without raises
# the setting max_protocol, and this number with it.
PROTOCOL = 2


def register(
    name: str,
    *,
    hostname: str,
    pid: int,
    pid_started: str,
    host: Host,
    capacity: int,
    agents: Sequence[str],
    lease_seconds: float,
    predecessor: Owner | None,
) -> Step:
    """register_runner: {id, lease_seconds, leftover, may_recover}."""
    return Step(
        b"select row_to_json(r) from persona.register_runner("
        b"name => $1, hostname => $2, pid => $3::integer, boot_id => $4, machine_id => $5,"
        b" pid_namespace => $6, capacity => $7::integer, agents => $8::text[],"
        b" protocol => $9::integer, version => $10, takeover => $11::boolean, pid_started => $12,"
        b" predecessor_pid => $14::integer, predecessor_boot_id => $15,"
        b" lease => make_interval(secs => $13::double precision)) as r",
        (
            name, hostname, str(pid), host.boot_id or None, host.machine_id or None,
            host.pid_namespace or None, str(capacity), _array(agents) if agents else None,
            str(PROTOCOL), __version__, str(predecessor is not None).lower(), pid_started,
            str(lease_seconds), None if predecessor is None else str(predecessor.pid),
            None if predecessor is None else predecessor.host.boot_id or None,
        ),
    )  # fmt: skip


def recover_predecessor(runner_id: str) -> Step:
    """recover_predecessor: [{id, short_id, status, reason}] or null."""
    return Step(b"select json_agg(r) from persona.recover_predecessor($1) as r", (runner_id,))


def directive(runner_id: str) -> Step:
    """runner_directive: "run" or "drain"."""
    return Step(b"select to_json(persona.runner_directive($1))", (runner_id,))


def open_connection(runner_id: str) -> Step:
    """open_connection: the number of this connection."""
    return Step(b"select to_json(persona.open_connection($1))", (runner_id,))


def reconcile(runner_id: str, connection: int, held: Iterable[tuple[str, int]]) -> Step:
    """Reconcile: what was given back, or null."""
    items = [{"job_id": job_id, "lease": lease} for job_id, lease in held]
    return Step(
        b"select json_agg(r) from persona.reconcile($1, $2, $3::integer) as r",
        (runner_id, json.dumps(items), str(connection)),
    )


def heartbeats(runner_id: str, beats: list[dict[str, Any]]) -> Step:
    """Heartbeats: [{job_id, lease, directive, reason, force}] or null."""
    return Step(
        b"select json_agg(h) from persona.heartbeats($1, $2) as h", (runner_id, json.dumps(beats))
    )


def append_logs(runner_id: str, lines: str) -> Step:
    """append_logs: how many were accepted."""
    return Step(b"select to_json(persona.append_logs($1, $2))", (runner_id, lines))


def complete(runner_id: str, reports: str) -> Step:
    """complete_jobs: [{job_id, lease, status, result_status}]."""
    return Step(b"select json_agg(c) from persona.complete_jobs($1, $2) as c", (runner_id, reports))


def claim(runner_id: str, connection: int, count: int, *, stays_awake: bool = False) -> Step:
    """claim_jobs: the claimed jobs, or null."""
    # The argument is new: where the function was taken back, claims go on without it.
    awake = b", stays_awake => true" if stays_awake else b""
    return Step(
        b"select json_agg(c) from persona.claim_jobs($1, $2::integer, $3::integer"
        + awake
        + b") as c",
        (runner_id, str(count), str(connection)),
    )


def job_call(runner_id: str, job_id: str, lease: int, command: str, body: str) -> Step:
    """job_call: {ok, data} or {ok, error}."""
    return Step(
        b"select persona.job_call($1, $2, $3::bigint, $4, $5)",
        (runner_id, job_id, str(lease), command, body),
    )


def listening() -> Step:
    """pg_listening_channels: the channels that this session hears."""
    return Step(b"select to_json(array(select pg_listening_channels()))")


def idle_horizon(runner_id: str) -> Step:
    """idle_horizon: {horizon, holders}."""
    return Step(b"select row_to_json(h) from persona.idle_horizon($1) as h", (runner_id,))


def is_settled(horizon: str, holders: Sequence[str] | None) -> Step:
    """is_settled: true or false."""
    return Step(
        b"select to_json(persona.is_settled($1, $2::text[]))",
        (horizon, None if holders is None else _array(holders)),
    )


def idle_state(runner_id: str) -> Step:
    """idle_state: {claimable, due_in_seconds}."""
    return Step(b"select row_to_json(s) from persona.idle_state($1) as s", (runner_id,))


def tick(log_retention_days: int | None) -> Step:
    """Tick: what was done."""
    days = None if log_retention_days is None else str(log_retention_days)
    return Step(b"select persona.tick($1::integer)", (days,))


def plan_schedules(plans: list[dict[str, Any]]) -> Step:
    """plan_schedules: [{name, status, next_due_at}]."""
    return Step(b"select json_agg(p) from persona.plan_schedules($1) as p", (json.dumps(plans),))


def deregister(runner_id: str) -> Step:
    """deregister_runner."""
    return Step(b"select to_json(persona.deregister_runner($1)::text)", (runner_id,))


def _array(items: Iterable[str]) -> str:
    quoted = ('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
    return "{" + ",".join(quoted) + "}"
