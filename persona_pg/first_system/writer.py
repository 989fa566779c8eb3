"""What an import writes: one file is one transaction, and a dry run takes it back at the end.

So a dry run reports what the real one would, and a file that the database refuses leaves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import dict_row

from persona_pg.errors import PersonaError, one_line
from persona_pg.first_system.history import WAITING
from persona_pg.queue import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from persona_pg.database import Connection, Database
    from persona_pg.first_system.report import FileReport

BATCH = 200
# A file is one transaction; so long it may take.
_DEADLINE = 600.0


class Writer:
    """Writes one file's worth over a connection that is in a transaction."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    def import_jobs(
        self, jobs: Sequence[dict[str, Any]], report: FileReport, *, requeue: bool
    ) -> set[str]:
        """Import jobs; with *requeue* those that waited go into the queue.  Returns the new ids."""
        new: set[str] = set()
        for start in range(0, len(jobs), BATCH):
            batch = jobs[start : start + BATCH]
            query = "select i.id::text, i.outcome from persona.import_jobs(%s) as i"
            answers = self.conn.execute(query, (storable(batch, "jobs"),)).fetchall()
            new |= {found for found, outcome in answers if outcome == "imported"}
        for job in jobs:
            if job["id"] not in new:
                report.unchanged += 1
                continue
            report.imported += 1
            if job["status"] != "held":
                continue
            if requeue and job.get("status_reason") == WAITING:
                self.conn.execute("select persona.release_job(%s)", (job["id"],))
                report.requeued += 1
            else:
                report.held += 1
        return new

    def import_logs(self, lines: Sequence[dict[str, Any]]) -> int:
        """Import messages; returns how many were new."""
        return int(self._value("select persona.import_logs(%s)", storable(list(lines), "lines")))

    def agent(self, name: str) -> dict[str, Any] | None:
        """Return an agent's columns."""
        return self._row("select a.* from persona.agents as a where a.name = %s", name)

    def save_agent(self, name: str, argv: list[str], changes: dict[str, Any]) -> None:
        """Register an agent or change one."""
        self.conn.execute(
            "select persona.register_agent(name => %s, argv => %s::text[])", (name, argv)
        )
        self.conn.execute(
            "select persona.update_agent(%s, changes => %s)", (name, storable(changes, "changes"))
        )

    def prompt_file(self, job_type: str) -> str | None:
        """Return the file whose text is the prompt of a job type."""
        found = self._row(
            "select t.prompt_file from persona.job_types as t where t.name = %s", job_type
        )
        return None if found is None else found["prompt_file"]

    def set_prompt_file(self, job_type: str, path: str) -> None:
        """Say where the prompts of a job type are."""
        self.conn.execute(
            "select persona.register_job_type(name => %s, prompt_file => %s)", (job_type, path)
        )

    def setting(self, name: str) -> Any:
        """Return a setting's value; None where this schema has no such setting."""
        found = self._row("select s.value from persona.settings as s where s.name = %s", name)
        return None if found is None else found["value"]

    def set_setting(self, name: str, value: Any) -> None:
        """Change a setting."""
        self.conn.execute("select persona.set_setting(%s, %s)", (name, storable(value, name)))

    def arguments(self, function: str) -> set[str]:
        """Return the names of a function's arguments; nothing where this schema lacks it."""
        query = (
            "select p.proargnames from pg_catalog.pg_proc as p where p.proname = %s"
            " and p.pronamespace = 'persona'::pg_catalog.regnamespace"
        )
        return set(self._value(query, function) or ())

    def has_schedule(self, name: str) -> bool:
        """Tell whether there is a schedule of that name."""
        query = "select exists (select from persona.schedules as s where s.name = %s)"
        return bool(self._value(query, name))

    def create_schedule(self, given: dict[str, Any]) -> None:
        """Create a schedule from named arguments."""
        named = sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(key), sql.Placeholder()) for key in given
        )
        values = [storable(v, k) if isinstance(v, dict) else v for k, v in given.items()]
        self.conn.execute(sql.SQL("select persona.create_schedule({})").format(named), values)

    def _row(self, query: str, *params: Any) -> dict[str, Any] | None:
        with self.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, params).fetchone()

    def _value(self, query: str, *params: Any) -> Any:
        row = self.conn.execute(query, params).fetchone()
        return None if row is None else row[0]


def write(
    database: Database,
    report: FileReport,
    work: Callable[[Writer, FileReport], Any],
    *,
    dry_run: bool,
) -> bool:
    """Do *work* in one transaction, counted in *report*; False where the database refused it."""

    def attempt(conn: Connection) -> FileReport:
        # Each attempt counts anew: one whose connection broke has left nothing.
        found = report.copy()
        with conn.transaction(force_rollback=dry_run):
            work(Writer(conn), found)
        return found

    try:
        report.become(database.run(attempt, deadline=_DEADLINE))
    except PersonaError as exc:
        # What the database says of the data; the rest is about us, and ends the run.
        if exc.sqlstate not in {"PJ422", "PJ423"}:
            raise
        report.error = one_line(str(exc))
    return report.error is None
