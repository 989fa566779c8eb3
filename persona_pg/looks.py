"""What dashboards draw: one method a SQL function or view, rows as dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from persona_pg.database import Connection, Database

Row = dict[str, Any]

_JOB = (
    "id, short_id, job_type, status, hung, agent, hostname, duration_seconds, progress,"
    " progress_text, task_preview, waiting_for, priority, attempt, max_attempts, created_at,"
    " started_at, completed_at, run_at, error, status_reason, runner_name, cpu_percent,"
    " memory_mb, heartbeat_at, lease_expires_at, business, tags, cost_usd, failure_kind,"
    " parent_job_id"
)
_PAGE = ", ".join(f"(s.job).{name.strip()}" for name in _JOB.split(","))


class Looks:
    """Reads of views and functions that no command but a dashboard needs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def search_jobs(self, **wanted: Any) -> list[Row]:
        """Return a page of jobs, each with its place."""
        given = {name: value for name, value in wanted.items() if value is not None}
        arguments = ", ".join(f"{name} => %({name})s{_TYPES.get(name, '::text')}" for name in given)
        return self._rows(
            f"select s.place, {_PAGE} from persona.search_jobs({arguments}) as s",  # noqa: S608
            given,
        )

    def throughput(self, span: timedelta, buckets: int) -> list[Row]:
        """Return what was created and what ended, bucket by bucket."""
        return self._rows("select t.* from persona.get_throughput(%s, %s) as t", (span, buckets))

    def waits(self, span: timedelta, buckets: int) -> list[Row]:
        """Return how long executions had waited, by the bucket of their start."""
        return self._rows("select w.* from persona.get_waits(%s, %s) as w", (span, buckets))

    def durations(self, span: timedelta) -> list[Row]:
        """Return percentiles of durations by job type."""
        return self._rows("select d.* from persona.get_durations(%s) as d", (span,))

    def executions(self, span: timedelta, max_rows: int) -> list[Row]:
        """Return what ran within the span, the latest first."""
        return self._rows("select e.* from persona.get_executions(%s, %s) as e", (span, max_rows))

    def failures(self, span: timedelta) -> list[Row]:
        """Return failures by kind, the most frequent first."""
        return self._rows("select f.* from persona.get_failures(%s) as f", (span,))

    def costs(self, days: int) -> list[Row]:
        """Return what was spent by day, agent, job type, business and model."""
        return self._rows("select c.* from persona.get_costs(%s) as c", (days,))

    def job_events(self, job_id: Any) -> list[Row]:
        """Return what happened to a job, oldest first."""
        return self._rows(
            "select e.at, e.event_type, e.source, e.data from persona.job_events as e"
            " where e.job_id = %s order by e.at, e.rank, e.number limit 500",
            (job_id,),
        )

    def waiting_for_people(self) -> Row:
        """Count what a person should look at."""
        [row] = self._rows(
            "select (select count(*) from persona.alerts as a where a.seen_at is null) as alerts,"
            " (select count(*) from persona.open_questions) as questions"
        )
        return row

    def agents(self, *, active: bool = False) -> list[Row]:
        """Return names and descriptions of all agents, or of those whose jobs may start."""
        return self._rows(
            "select a.name as agent, a.description from persona.agents as a"
            " where a.is_active or not %s order by 1",
            (active,),
        )

    def job_types(self) -> list[Row]:
        """Return the kinds of work that are known."""
        return self._rows(
            "select t.name, t.description, t.default_agent from persona.job_types as t order by 1"
        )

    def permitted(self, names: Sequence[str]) -> set[str]:
        """Tell which of these functions the role of the connection may execute."""
        rows = self._rows(
            "select p.proname::text as name from pg_proc as p"
            " where p.pronamespace = 'persona'::regnamespace and p.proname = any(%s::name[])"
            " and has_function_privilege(p.oid, 'execute')",
            (list(names),),
        )
        return {row["name"] for row in rows}

    def _rows(self, query: str, params: Any = ()) -> list[Row]:
        def work(conn: Connection) -> list[Row]:
            with conn.cursor(row_factory=dict_row, binary=True) as cursor:
                return cursor.execute(query, params).fetchall()

        return self.database.run(work)


_TYPES = {"max_rows": "::integer", "max_scanned": "::integer"}
