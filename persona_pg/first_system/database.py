"""The rows of the first system's database: jobs, job_logs and agents, a batch in memory at a time.

Its tables are read as they are found: a column that is missing is null, one that nobody here
knows is left alone.  Jobs come in the order of their creation, so that a parent comes before its
children, each batch from where the last one ended.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from persona_pg import connections
from persona_pg.errors import ConfigurationError, DatabaseUnreachable
from persona_pg.first_system.history import WAITING
from persona_pg.first_system.reading import clean, imported_id, moment, name
from persona_pg.first_system.report import Report
from persona_pg.first_system.writer import BATCH, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from persona_pg.database import Database
    from persona_pg.first_system.report import FileReport
    from persona_pg.first_system.writer import Writer

_JOB_COLUMNS = (
    "id", "short_id", "job_type", "payload", "status", "pid", "hostname", "created_at",
    "started_at", "completed_at", "exit_code", "error_message", "result",
    "parent_job_id", "delegated_by",
    "assigned_to", "source_file", "source_line", "tags",
)  # fmt: skip
_LOG_COLUMNS = ("id", "job_id", "timestamp", "level", "message", "metadata")
_AGENT_COLUMNS = ("id",)
_ENDED = {"completed", "failed", "cancelled"}


class OldDatabase:
    """A read-only look at the first system's database."""

    def __init__(self, dsn: str, schema: str) -> None:
        if "://" in dsn.removeprefix("postgres://").removeprefix("postgresql://"):
            raise ConfigurationError(
                "--from: that is the address of an HTTP service; it must be libpq's, such as"
                " postgresql://user:password@host:5432/postgres (Supabase: Connect, Session pooler)"
            )
        try:
            connections.parsed(dsn)
        except ConfigurationError as exc:
            raise ConfigurationError(str(exc).replace("PERSONA_DATABASE_URL", "--from")) from None
        self._dsn = dsn
        self._schema = schema
        self._columns: dict[str, frozenset[str]] = {}

    @contextmanager
    def opened(self) -> Iterator[psycopg.Connection[Any]]:
        """Connect; nothing can be written over this connection."""
        kwargs = connections.connection_kwargs(self._dsn, application_name="persona-migrate")
        try:
            conn = psycopg.connect(self._dsn, **kwargs)
        except psycopg.Error as exc:
            words = connections.masked(" ".join(str(exc).split()), self._dsn)
            raise DatabaseUnreachable(
                f"no connection to the old database at {connections.host_of(self._dsn)}: {words}",
                hint="Supabase shows the address under Connect, Session pooler",
            ) from None
        with conn:
            conn.read_only = True
            conn.autocommit = True
            conn.row_factory = dict_row
            # A time without a zone is UTC, as the first system wrote it.
            conn.execute("set time zone 'UTC'")
            self._look(conn)
            yield conn

    def has(self, table: str) -> bool:
        """Tell whether there is such a table."""
        return table in self._columns

    def _look(self, conn: psycopg.Connection[Any]) -> None:
        rows = conn.execute(
            "select c.table_name, c.column_name from information_schema.columns as c"
            " where c.table_schema = %s and c.table_name = any(%s)",
            (self._schema, ["jobs", "job_logs", "agents", "daily_note_state"]),
        )
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        self._columns = {table: frozenset(columns) for table, columns in found.items()}
        needed = {"id", "job_type", "status"}
        if not needed <= self._columns.get("jobs", frozenset()):
            raise ConfigurationError(
                f"--from: schema '{self._schema}' there has no table jobs with the columns"
                f" {', '.join(sorted(needed))}; another schema is named with --schema"
            )

    def columns(self, table: str, wanted: tuple[str, ...], alias: str) -> sql.Composed:
        """Name the wanted columns of a table, null for those that it lacks."""
        return sql.SQL(", ").join(
            sql.SQL("{}.{}").format(sql.Identifier(alias), sql.Identifier(column))
            if column in self._columns[table]
            else sql.SQL("null as {}").format(sql.Identifier(column))
            for column in wanted
        )

    def table(self, table: str) -> sql.Identifier:
        """Name a table."""
        return sql.Identifier(self._schema, table)

    def at(self, alias: str) -> sql.Composed:
        """Name the moment of a job's creation, as far as the table tells it."""
        known = [c for c in ("created_at", "started_at") if c in self._columns["jobs"]]
        parts = [
            sql.SQL("{}.{}::timestamptz").format(sql.Identifier(alias), sql.Identifier(c))
            for c in known
        ]
        return sql.SQL("coalesce({})").format(
            sql.SQL(", ").join([*parts, sql.SQL("timestamptz '2000-01-01 00:00+00'")])
        )

    def short(self, alias: str) -> sql.Composable:
        """Name a job's short id, where the table has it."""
        if "short_id" not in self._columns["jobs"]:
            return sql.SQL("null::text")
        return sql.SQL("{}.short_id").format(sql.Identifier(alias))

    @property
    def has_times(self) -> bool:
        """Tell whether jobs know when they were created."""
        return "created_at" in self._columns["jobs"]

    @property
    def has_parents(self) -> bool:
        """Tell whether jobs know their parents."""
        return "parent_job_id" in self._columns["jobs"]


class DatabaseImport:
    """One run over the first system's database."""

    def __init__(
        self,
        database: Database,
        old: OldDatabase,
        *,
        business: str | None,
        dry_run: bool = False,
        requeue: bool = False,
        on_progress: Callable[[str, int], None] | None = None,
    ) -> None:
        self._database = database
        self._old = old
        self._business = business
        self._dry_run = dry_run
        self._requeue = requeue
        self._tell = on_progress or (lambda _what, _count: None)
        self.report = Report()

    def run(self) -> None:
        """Take over agents, jobs and messages."""
        with self._old.opened() as conn:
            if self._old.has("agents"):
                self._agents(conn)
            self._jobs(conn)
            if self._old.has("job_logs"):
                self._logs(conn)
            if self._old.has("daily_note_state"):
                self.report.add("table daily_note_state").skip(
                    "all rows",
                    "they hold the whole text of notes; the first `persona notes scan` lists what"
                    " is open in them and creates it only with --yes",
                )

    # -- jobs --------------------------------------------------------------------------------------

    def _jobs(self, conn: psycopg.Connection[Any]) -> None:
        report = self.report.add("table jobs")
        done = 0
        for rows in self._job_pages(conn):
            jobs = []
            for row in rows:
                job, reason = _job(row, self._business)
                if job is None:
                    report.skip(str(row["id"]), reason)
                else:
                    jobs.append(job)
            if not self._write(report, partial(_save_jobs, jobs=jobs, requeue=self._requeue)):
                return
            done += len(rows)
            self._tell("jobs", done)

    def _job_pages(self, conn: psycopg.Connection[Any]) -> Iterator[list[dict[str, Any]]]:
        """Yield the jobs batch by batch, each from where the last one ended."""
        at = self._old.at("j")
        # Those with a time first, in the order of its index; the others are few.
        passes: list[tuple[sql.Composable, sql.Composable]]
        passes = [(sql.SQL("j.created_at is not null"), sql.SQL("j.created_at"))]
        passes.append((sql.SQL("j.created_at is null"), at))
        if not self._old.has_times:
            passes = [(sql.SQL("true"), at)]
        for condition, key in passes:
            after: tuple[Any, Any] | None = None
            while rows := self._job_rows(conn, condition, key, after):
                yield rows
                after = (rows[-1]["at"], rows[-1]["id"])

    def _job_rows(
        self,
        conn: psycopg.Connection[Any],
        condition: sql.Composable,
        key: sql.Composable,
        after: tuple[Any, Any] | None,
    ) -> list[dict[str, Any]]:
        old = self._old
        parent = sql.SQL("left join {} as p on p.id = j.parent_job_id").format(old.table("jobs"))
        since = sql.SQL("{key} >= %(at)s and ({key}, j.id) > (%(at)s, %(id)s)").format(key=key)
        query = sql.SQL(
            "select {columns}, {at} as at, {parent_at} as parent_at, {parent_short} as parent_short"
            " from {jobs} as j {join} where {condition} and {since} order by {key}, j.id"
            " limit {limit}"
        ).format(
            columns=old.columns("jobs", _JOB_COLUMNS, "j"),
            at=old.at("j"),
            parent_at=old.at("p") if old.has_parents else sql.SQL("null"),
            parent_short=old.short("p") if old.has_parents else sql.SQL("null"),
            jobs=old.table("jobs"),
            join=parent if old.has_parents else sql.SQL(""),
            condition=condition,
            since=sql.SQL("true") if after is None else since,
            key=key,
            limit=BATCH,
        )
        given = None if after is None else {"at": after[0], "id": after[1]}
        return conn.execute(query, given).fetchall()

    # -- messages ----------------------------------------------------------------------------------

    def _logs(self, conn: psycopg.Connection[Any]) -> None:
        report = self.report.add("table job_logs")
        after = None
        done = 0
        while rows := self._log_rows(conn, after):
            lines = []
            for row in rows:
                at = moment(row["timestamp"])
                if at is None:
                    report.skip(str(row["id"]), "it names no time")
                    continue
                known = _known(row["at"], row["job_id"], row["short_id"])
                line = {"job_id": known, "seq": row["id"], "at": at, "level": row["level"]}
                lines.append(line | clean({k: row[k] for k in ("message", "metadata")}))
            if not self._write(report, partial(_save_lines, lines=lines)):
                return
            after = rows[-1]["id"]
            done += len(rows)
            self._tell("messages", done)
        if report.unchanged:
            report.notes.append(
                f"{report.unchanged} left out: there already, without their job, or older than"
                " the setting log_retention_days"
            )
            report.unchanged = 0

    def _log_rows(self, conn: psycopg.Connection[Any], after: Any) -> list[dict[str, Any]]:
        old = self._old
        query = sql.SQL(
            "select {columns}, {at} as at, {short} as short_id from {logs} as l"
            " join {jobs} as j on j.id = l.job_id where {since} order by l.id limit {limit}"
        ).format(
            columns=old.columns("job_logs", _LOG_COLUMNS, "l"),
            at=old.at("j"),
            short=old.short("j"),
            logs=old.table("job_logs"),
            jobs=old.table("jobs"),
            since=sql.SQL("true") if after is None else sql.SQL("l.id > %s"),
            limit=BATCH,
        )
        return conn.execute(query, None if after is None else (after,)).fetchall()

    # -- agents ------------------------------------------------------------------------------------

    def _agents(self, conn: psycopg.Connection[Any]) -> None:
        query = sql.SQL("select {} from {} as a order by a.id").format(
            self._old.columns("agents", _AGENT_COLUMNS, "a"), self._old.table("agents")
        )
        names = [name(row["id"]) for row in conn.execute(query)]
        self._write(self.report.add("table agents"), partial(_look_at_agents, names=names))

    def _write(self, report: FileReport, work: Callable[[Writer, FileReport], None]) -> bool:
        return write(self._database, report, work, dry_run=self._dry_run)


def _save_jobs(
    writer: Writer, report: FileReport, *, jobs: list[dict[str, Any]], requeue: bool
) -> None:
    writer.import_jobs(jobs, report, requeue=requeue)


def _save_lines(writer: Writer, report: FileReport, *, lines: list[dict[str, Any]]) -> None:
    new = writer.import_logs(lines)
    report.imported += new
    report.unchanged += len(lines) - new


def _look_at_agents(writer: Writer, report: FileReport, *, names: list[str]) -> None:
    for called in names:
        if writer.agent(called) is not None:
            report.unchanged += 1
        else:
            report.skip(
                called,
                "its row does not say how it is run; import its file (persona-migrate agents)"
                " or: persona agents add NAME -- PROGRAM",
            )


def _job(row: dict[str, Any], business: str | None) -> tuple[dict[str, Any] | None, str]:
    """Turn a row into a job to import, or say why not."""
    status = str(row["status"])
    if not row["job_type"]:
        return None, "it has no type"
    if status not in _ENDED and status not in {"pending", "running", "hung"}:
        return None, f"its status {status[:40]!r} is not known"
    payload = row["payload"] if isinstance(row["payload"], dict) else {"value": row["payload"]}
    parent = None
    if row["parent_job_id"] is not None and row["parent_at"] is not None:
        parent = _known(row["parent_at"], row["parent_job_id"], row["parent_short"])
    job = {
        "id": _known(row["at"], row["id"], row["short_id"]),
        "job_type": str(row["job_type"])[:100],
        "status": status if status in _ENDED else "held",
        "agent": name(row["assigned_to"] or "") or "unknown",
        "business": business,
        "payload": payload,
        "created_at": row["at"].isoformat(),
        "started_at": _iso(row["started_at"]),
        "completed_at": _iso(row["completed_at"]),
        "exit_code": row["exit_code"],
        "error": row["error_message"],
        "result": row["result"],
        "parent_job_id": parent,
        "delegated_by": row["delegated_by"],
        "tags": [*(row["tags"] or []), "first-system", f"was:{row['id']}"],
        "source_file": row["source_file"],
        "source_line": row["source_line"],
        "hostname": row["hostname"],
        "pid": row["pid"],
    }
    if status == "pending":
        job["status_reason"] = WAITING
    elif status not in _ENDED:
        where = f" on {row['hostname']}" if row["hostname"] else ""
        job["status_reason"] = (
            f"was {status} in the first system{where}: see that it has ended before a release"
        )
    return clean(job), ""


def _known(at: datetime, old_id: Any, short_id: Any) -> str:
    return str(imported_id(at, f"database/job/{old_id}", short_id))


def _iso(value: Any) -> str | None:
    found = moment(value) if value is not None else None
    return None if found is None else found.isoformat()
