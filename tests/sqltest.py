"""A thin hand on the functions of the schema, for the tests in tests/sql.

Everything goes through named arguments, as callers do.  Time is moved by shifting what the rows
say, as the schema's owner: no test waits for a clock.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

Row = dict[str, Any]
FINISHED = ("completed", "failed", "cancelled")
READ = """
  select sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid))
  from pg_class as c
  where c.relnamespace = 'persona'::regnamespace and c.relkind in ('r', 'i', 'p')
"""


def parameter(value: Any) -> Any:
    """Pass objects, and lists of objects, as JSON, and fractions as SQL writes them."""
    if isinstance(value, float):
        return Decimal(str(value))
    is_json = isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)
    )
    return Jsonb(value) if is_json else value


@dataclass
class Refusal:
    """What an error said."""

    message: str = ""
    hint: str = ""
    detail: Row = field(default_factory=dict)


@contextmanager
def refused(sqlstate: str, match: str | None = None) -> Iterator[Refusal]:
    """The block must end in this SQLSTATE, with a message that matches."""
    told = Refusal()
    with pytest.raises(psycopg.Error, match=match) as caught:
        yield told
    assert caught.value.sqlstate == sqlstate, caught.value
    told.message = caught.value.diag.message_primary or ""
    told.hint = caught.value.diag.message_hint or ""
    if sqlstate.startswith("PJ"):
        told.detail = json.loads(caught.value.diag.message_detail or "{}")


class Queue:
    """Calls functions of the schema over one connection of the owner."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn

    def rows(self, query: str, *params: Any) -> list[Row]:
        with self.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, [parameter(p) for p in params] or None).fetchall()

    def row(self, query: str, *params: Any) -> Row:
        [one] = self.rows(query, *params)
        return one

    def value(self, query: str, *params: Any) -> Any:
        [one] = self.row(query, *params).values()
        return one

    def run(self, query: str, *params: Any) -> int:
        """Run a statement without rows; return how many it touched."""
        return self.conn.execute(query, [parameter(p) for p in params] or None).rowcount

    def call(self, function: str, **arguments: Any) -> list[Row]:
        """Return all rows of persona.function(name => value, ...)."""
        named = sql.SQL(", ").join(
            sql.SQL("{} => %s").format(sql.Identifier(name)) for name in arguments
        )
        query = sql.SQL("select * from persona.{}({})").format(sql.Identifier(function), named)
        with self.conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute(query, [parameter(a) for a in arguments.values()])
            return cursor.fetchall()

    def one(self, function: str, **arguments: Any) -> Row:
        [found] = self.call(function, **arguments)
        return found

    def reads(self, call: Callable[[], Any]) -> tuple[Any, int]:
        """Return the answer of a call, and how many rows and entries were read for it."""
        with self.conn.transaction():
            before = self.value(READ)
            answer = call()
            return answer, int(self.value(READ) - before)

    # -- clients -------------------------------------------------------------------------------

    def agent(self, name: str = "a", **options: Any) -> Row:
        return self.one("register_agent", name=name, **{"argv": ["true"]} | options)

    def create(self, job_type: str = "t", **options: Any) -> Row:
        return self.one("create_job", job_type=job_type, **{"agent": "a"} | options)

    def job(self, job: Row) -> Row:
        return self.row("select * from persona.jobs where id = %s", job["id"])

    def status(self, job: Row) -> str:
        return str(self.job(job)["status"])

    def explain(self, job: Row) -> str:
        return str(self.one("explain_job", ref=str(job["id"]))["explain_job"])

    def act(self, function: str, job: Row, **options: Any) -> Row:
        """cancel_job, hold_job, release_job, retry_job on a job."""
        return self.one(function, ref=str(job["id"]), **options)

    # -- runners -------------------------------------------------------------------------------

    def runner(self, name: str = "r", **options: Any) -> UUID:
        given = {"hostname": "host", "pid": 1, "capacity": 3} | options
        found: UUID = self.one("register_runner", name=name, **given)["id"]
        return found

    def claim(self, runner: UUID, max_jobs: int = 1) -> list[Row]:
        return self.call("claim_jobs", runner_id=runner, max_jobs=max_jobs)

    def start(self, runner: UUID, **options: Any) -> Row:
        """Create a job and claim it."""
        made = self.create(**options)
        [claimed] = self.claim(runner)
        assert claimed["id"] == made["id"]
        return claimed

    def report(self, runner: UUID, run: Row, outcome: str = "completed", **more: Any) -> Row:
        """Report how a claimed execution ended; return the answer for it."""
        item = {"job_id": str(run["id"]), "lease": run["lease"], "outcome": outcome} | more
        return self.one("complete_jobs", runner_id=runner, items=[item])

    def beat(self, runner: UUID, *runs: Row, **more: Any) -> list[str]:
        """Send one heartbeat for these executions; return the directives in their order."""
        beats = [{"job_id": str(r["id"]), "lease": r["lease"]} | more for r in runs]
        told = self.call("heartbeats", runner_id=runner, beats=beats)
        found = {(b["job_id"], b["lease"]): b["directive"] for b in told}
        return [found[r["id"], r["lease"]] for r in runs]

    def attempts(self, job: Row) -> list[Row]:
        return self.rows(
            "select * from persona.job_attempts where job_id = %s order by lease", job["id"]
        )

    def alerts(self) -> list[Row]:
        return self.rows("select * from persona.alerts order by id")

    def listen(self, channel: str = "persona_wake") -> None:
        self.run(f"listen {channel}")

    def heard(self) -> list[str]:
        """Payloads of the notifications that have arrived until now."""
        self.run("select 1")
        return [n.payload for n in self.conn.notifies(timeout=0)]

    # -- time ----------------------------------------------------------------------------------

    def expire(self, *runs: Row, by: timedelta = timedelta(seconds=1)) -> None:
        """Let leases have run out that long ago."""
        for run in runs:
            self.run(
                "update persona.job_leases set expires_at = now() - %s,"
                " heartbeat_at = now() - %s - lease_length where job_id = %s",
                by, by, run["id"],
            )  # fmt: skip

    def make_due(self, job: Row) -> None:
        """Let a delayed job be due."""
        self.run("update persona.jobs set run_at = now() - interval '1 s' where id = %s", job["id"])

    def old_id(self, by: timedelta) -> UUID:
        """Make an id as it was made that long ago."""
        found: UUID = self.value(
            "select overlay(persona._new_id()::text"
            " placing left(persona._id_floor(now() - %s)::text, 13) from 1)::uuid", by,
        )  # fmt: skip
        return found

    def age(self, job: Row, by: timedelta) -> None:
        """Let a finished job have ended that much longer ago."""
        self.run("alter table persona.jobs disable trigger jobs_guard")
        self.run(
            "update persona.jobs set completed_at = completed_at - %s where id = %s", by, job["id"]
        )
        self.run("alter table persona.jobs enable trigger jobs_guard")

    # -- what must always hold -----------------------------------------------------------------

    def inconsistencies(self) -> list[str]:
        """Everything in which the tables contradict each other."""
        found = self.rows(INCONSISTENCIES)
        return [f"{row['what']}: {row['id']}" for row in found]


INCONSISTENCIES = """
  select 'pending without entry in the queue' as what, j.id from persona.jobs as j
  where j.status = 'pending' and not exists (
    select from persona.job_queue as q where q.seq = j.seq and q.job_id = j.id
    and q.priority >= j.priority  -- it may have risen
    and (q.agent, q.run_at, q.lock_key) is not distinct from (j.agent, j.run_at, j.lock_key))
  union all
  select 'in the queue and not pending', q.job_id from persona.job_queue as q
  where not exists (select from persona.jobs as j where j.id = q.job_id and j.status = 'pending')
  union all
  select 'running without its lease', j.id from persona.jobs as j
  where j.status = 'running' and not exists (
    select from persona.job_leases as l where l.job_id = j.id and l.lease = j.lease)
  union all
  select 'lease of a job that is not running', l.job_id from persona.job_leases as l
  where not exists (select from persona.jobs as j where j.id = l.job_id and j.status = 'running')
  union all
  select 'finished without its time, or the other way round', j.id from persona.jobs as j
  where (j.status in ('completed', 'failed', 'cancelled')) <> (j.completed_at is not null)
  union all
  select 'more counted attempts than allowed', j.id from persona.jobs as j
  where j.attempt > j.max_attempts or j.attempt < 0
  union all
  select 'parked under a key that nobody holds and nobody claims', q.job_id
  from persona.job_queue as q
  where q.waits_on = 'lock'
    and not exists (select from persona.job_leases as l where l.lock_key = q.lock_key)
    and not exists (
      select from persona.job_queue as o
      where o.lock_key = q.lock_key and o.agent = q.agent and o.waits_on is distinct from 'lock')
  union all
  select 'columns for the indexes', j.id from persona.jobs as j
  where j.short_id <> right(j.id::text, 8)
    or j.dedupe_live is distinct from case
      when j.status in ('blocked', 'pending', 'running', 'held') then j.dedupe_key end
    or j.attention is distinct from case
      when j.status in ('blocked', 'held', 'failed', 'cancelled') then j.status end
  union all
  select 'over the limit of its agent', l.job_id from persona.job_leases as l
  join persona.agents as a on a.name = l.agent
  where (select count(*) from persona.job_leases as o where o.agent = a.name and not o.is_waiting) > a.max_concurrent
  union all
  select 'over a limit: ' || l.name, null from persona.limits as l
  where persona._limit_room(l.name, false) < 0
  union all
  select 'reserved without its lease, or the other way round', c.job_id
  from (
    select l.job_id, l.lease, sum(case l.kind when 'reserved' then l.amount_usd else -l.amount_usd end) as open
    from persona.cost_ledger as l where l.kind <> 'booked' group by l.job_id, l.lease) as c
  left join persona.job_leases as l using (job_id, lease)
  where c.open <> coalesce(l.reserved_usd, 0)
  union all
  select 'sums that differ from the ledger', null from persona.cost_ledger as c where c.kind = 'booked'
  having sum(c.amount_usd) <> (
    select sum(t.booked_usd) from (
      select booked_usd from persona.cost_totals union all select booked_usd from persona.cost_fresh) as t)
  union all
  select 'days that differ from the ledger', null from persona.cost_ledger as c where c.kind = 'booked'
  having array[sum(c.amount_usd), count(*)] is distinct from (
    select array[sum(d.cost_usd), coalesce(sum(d.executions), 0)] from persona.get_costs(366) as d)
  union all
  select 'jobs that are not counted, or counted twice', null from persona.job_summary() as s
  where s.pending + s.running + s.completed + s.failed + s.cancelled + s.blocked + s.held
    <> (select count(*) from persona.jobs)
  union all
  select 'a conversation in two jobs', min(l.job_id::text)::uuid from persona.job_leases as l
  where l.session_id is not null group by l.session_id having count(*) > 1
  union all
  select 'execution that ended and has its lease', l.job_id from persona.job_leases as l
  join persona.job_attempts as a using (job_id, lease)
  union all
  select 'blocked though nothing is open', j.id from persona.jobs as j
  where j.status = 'blocked' and not exists (
    select from persona.job_dependencies as d
    join persona.jobs as n on n.id = d.needs_job_id
    where d.job_id = j.id and n.status not in ('completed', 'failed', 'cancelled'))
"""
