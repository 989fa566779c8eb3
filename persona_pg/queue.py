"""The typed client: one method a SQL function, nothing else."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from persona_pg.database import Database
from persona_pg.errors import InvalidInput, UpdateConflictError
from persona_pg.model import (
    Agent,
    AgentWorkload,
    Attempt,
    Budget,
    BudgetLimit,
    DashboardJob,
    Event,
    FullJob,
    Gate,
    Job,
    Limit,
    LogLine,
    NoteAnswer,
    NoteLine,
    NoteLink,
    NoteQuestion,
    OpenQuestion,
    Question,
    Recovered,
    Runner,
    Summary,
    TreeNode,
    TypeStatistics,
    columns,
    new_job_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from persona_pg.database import Connection

Row = TypeVar("Row")
Ref = UUID | str

_UPDATE_TRIES = 3
_LOG_PAGE = 1000
# PostgreSQL's own limit; what a job may have is max_payload_bytes, by far less.
_MOST_JSON = 2**28 - 1
# A year of notes may come in at once.
_INTAKE_DEADLINE = 120.0

# The arguments of create_job with their SQL types; only those that are given are sent, so that
# the defaults stay in the database.
_CREATE_TYPES = {
    "job_type": "text",
    "payload": "jsonb",
    "agent": "text",
    "id": "uuid",
    "priority": "integer",
    "run_at": "timestamptz",
    "timeout": "interval",
    "idle_timeout": "interval",
    "max_attempts": "integer",
    "dedupe_key": "text",
    "lock_key": "text",
    "parent_job_id": "uuid",
    "depends_on": "uuid[]",
    "tags": "text[]",
    "source_file": "text",
    "source_line": "integer",
    "delegated_by": "text",
    "business": "text",
    "depends_policy": "text",
    "limit_key": "text",
    "max_cost_usd": "numeric",
}
_AGENT_TYPES = {
    "name": "text",
    "argv": "text[]",
    "description": "text",
    "role": "text",
    "provider": "text",
    "model": "text",
    "stdin_template": "text",
    "env": "jsonb",
    "workdir": "text",
    "output_format": "text",
    "timeout": "interval",
    "idle_timeout": "interval",
    "kill_grace": "interval",
    "output_limit": "bigint",
    "max_attempts": "integer",
    "max_concurrent": "integer",
    "is_active": "boolean",
    "is_external": "boolean",
    "admin_only": "boolean",
    "costs_money": "boolean",
    "keeps_conversation": "boolean",
    "may_delegate_to": "text[]",
    "launcher": "text[]",
    "resume_argv": "text[]",
    "requires_approval": "boolean",
    "memory_limit": "bigint",
    "cpu_limit": "double precision",
    "process_limit": "integer",
    "open_files_limit": "integer",
    "file_size_limit": "bigint",
    "nice": "integer",
    "max_cost_usd": "numeric",
}

_FULL_JOB = f"{columns(Job, 'r')}, d.hung, d.waiting_for"


class Queue:
    """The queue, as far as the database role of the connection may see and change it.

    A *ref* is an id, a short id, or any unambiguous prefix of one.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def connect(cls, dsn: str | None = None, **options: Any) -> Self:
        """Open the queue at *dsn*, else where the configuration says.

        *options* are those of Database.
        """
        if dsn is None:
            from persona_pg import settings
            from persona_pg.embedded import resolve_dsn

            dsn = resolve_dsn(settings.load())
        return cls(Database(dsn, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.database.close()

    # Creating

    def create_job(
        self,
        job_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        agent: str | None = None,
        id: UUID | None = None,  # noqa: A002 - the name of the SQL argument
        priority: int | None = None,
        run_at: datetime | str | None = None,
        delay: timedelta | str | None = None,
        timeout: timedelta | str | None = None,
        idle_timeout: timedelta | str | None = None,
        max_attempts: int | None = None,
        dedupe_key: str | None = None,
        lock_key: str | None = None,
        parent_job_id: UUID | None = None,
        depends_on: Sequence[UUID] | None = None,
        tags: Sequence[str] | None = None,
        source_file: str | None = None,
        source_line: int | None = None,
        delegated_by: str | None = None,
        business: str | None = None,
        depends_policy: str | None = None,
        limit_key: str | None = None,
        max_cost_usd: Decimal | None = None,
    ) -> Job:
        """Create a job; the same id, or a live job's dedupe_key, returns the existing one.

        *delay* counts from the server's now, *run_at* is a time of its own.  Times and intervals
        may also be texts, which the server reads.
        """
        given: dict[str, Any] = {
            "job_type": job_type,
            "payload": None if payload is None else storable(dict(payload), "payload"),
            "agent": agent,
            # Made before the first try: a repeat after a lost acknowledgement finds its own job.
            "id": id or new_job_id(),
            "priority": priority,
            "run_at": run_at,
            "timeout": timeout,
            "idle_timeout": idle_timeout,
            "max_attempts": max_attempts,
            "dedupe_key": dedupe_key,
            "lock_key": lock_key,
            "parent_job_id": parent_job_id,
            "depends_on": None if depends_on is None else list(depends_on),
            "tags": None if tags is None else list(tags),
            "source_file": source_file,
            "source_line": source_line,
            "delegated_by": delegated_by,
            "business": business,
            "depends_policy": depends_policy,
            "limit_key": limit_key,
            "max_cost_usd": max_cost_usd,
        }
        arguments, params = _named(given, _CREATE_TYPES)
        if delay is not None:
            if run_at is not None:
                raise InvalidInput("give run_at or delay, not both")
            arguments += ", run_at => now() + %(delay)s::interval"
            params["delay"] = delay
        return self._one(Job, f"persona.create_job({arguments})", params)

    def create_jobs(self, jobs: Sequence[Mapping[str, Any]]) -> list[UUID]:
        """Create many jobs in one statement; returns their ids in order.

        Each is an object with the keys of create_job(); one without an id is given one here.
        """
        documents = [{"id": str(new_job_id()), **job} for job in jobs]
        return self._scalars(
            "select t.id from persona.create_jobs(%s) as t(id)", (storable(documents, "jobs"),)
        )

    # Looking

    def resolve_job(self, ref: Ref) -> UUID:
        """Find the whole id."""
        [found] = self._scalars("select persona.resolve_job(%s)", (str(ref),))
        return UUID(str(found))

    def get_job(self, ref: Ref) -> Job:
        """Return a job."""
        return self._one(Job, "persona.get_job(%s)", (str(ref),))

    def get_jobs(self, refs: Sequence[Ref]) -> list[Job]:
        """Return several jobs in one call, in the order of the refs."""
        return self._rows(
            Job,
            "unnest(%s::text[]) with ordinality as u(ref, n), lateral persona.get_job(u.ref) as r"
            " order by u.n",
            ([str(ref) for ref in refs],),
            alias="r",
        )

    def get_full_job(self, ref: Ref) -> FullJob:
        """Return a job with what only the dashboard knows of it."""
        return self._one(
            FullJob,
            "persona.get_job(%s) as r join persona.job_dashboard as d on d.id = r.id",
            (str(ref),),
            select=_FULL_JOB,
        )

    def get_dashboard(self, ref: Ref) -> DashboardJob:
        """Return a job as the dashboard shows it, with its lease and what it waits for."""
        return self._one(
            DashboardJob,
            "persona.job_dashboard as r where r.id = persona.resolve_job(%s)",
            (str(ref),),
            alias="r",
        )

    def list_jobs(
        self,
        *,
        status: str | None = None,
        agent: str | None = None,
        job_type: str | None = None,
        max_rows: int = 50,
        before: UUID | None = None,
    ) -> list[DashboardJob]:
        """List jobs, newest first; status may also be 'hung'."""
        return self._rows(
            DashboardJob,
            "persona.list_jobs(status => %s, agent => %s, job_type => %s,"
            " max_rows => %s::integer, before => %s)",
            (status, agent, job_type, max_rows, before),
        )

    def list_full_jobs(
        self,
        *,
        status: str | None = None,
        agent: str | None = None,
        job_type: str | None = None,
        max_rows: int = 50,
        before: UUID | None = None,
    ) -> list[FullJob]:
        """List jobs as list_jobs() does, with everything that is known of each."""
        return self._rows(
            FullJob,
            "persona.list_jobs(status => %s, agent => %s, job_type => %s,"
            " max_rows => %s::integer, before => %s) with ordinality as d,"
            " lateral persona.get_job(d.id::text) as r order by d.ordinality",
            (status, agent, job_type, max_rows, before),
            select=_FULL_JOB,
        )

    def get_attempts(self, ref: Ref) -> list[Attempt]:
        """Return the executions of a job that have ended, oldest first."""
        return self._rows(
            Attempt,
            "persona.job_attempts as r where r.job_id = persona.resolve_job(%s) order by r.lease",
            (str(ref),),
            alias="r",
        )

    def get_command_line(self, ref: Ref) -> list[str] | None:
        """Return how the latest execution was started, as its runner told; None: it has not."""
        found: list[Any] = self._scalars(
            "select case when l.job_id is not null then l.argv else ("
            "  select a.argv from persona.job_attempts as a where a.job_id = j.id"
            "  order by a.lease desc limit 1) end"
            " from persona.get_job(%s) as j left join persona.job_leases as l on l.job_id = j.id",
            (str(ref),),
        )
        return found[0] if found else None

    def get_questions(self, ref: Ref) -> list[Question]:
        """Return what people were asked about a job, and who decided what, oldest first."""
        return self._rows(
            Question,
            "persona.questions as r where r.job_id = persona.resolve_job(%s) order by r.id",
            (str(ref),),
            alias="r",
        )

    def get_job_tree(self, ref: Ref) -> list[TreeNode]:
        """Return a job and everything delegated below it, parents before children."""
        return self._rows(TreeNode, "persona.get_job_tree(persona.resolve_job(%s))", (str(ref),))

    def explain_job(self, ref: Ref) -> str:
        """Say in one line why a job is not running, or what became of it."""
        [line] = self._scalars("select persona.explain_job(%s)", (str(ref),))
        return str(line)

    def get_logs(
        self, ref: Ref, *, after_lease: int = 0, after_seq: int = 0, max_lines: int = _LOG_PAGE
    ) -> list[LogLine]:
        """Return log lines after the cursor, oldest first."""
        return self._rows(
            LogLine,
            "persona.get_logs(%s, after_lease => %s::bigint, after_seq => %s::bigint,"
            " max_lines => %s::integer)",
            (str(ref), after_lease, after_seq, max_lines),
        )

    def iter_logs(self, ref: Ref) -> Iterator[LogLine]:
        """Yield all log lines, a page in memory at a time."""
        lease = seq = 0
        while page := self.get_logs(ref, after_lease=lease, after_seq=seq):
            yield from page
            lease, seq = page[-1].lease, page[-1].seq

    def tail_logs(self, ref: Ref, lines: int = 50) -> list[LogLine]:
        """Return the last log lines, oldest first."""
        return self._rows(LogLine, "persona.tail_logs(%s, lines => %s::integer)", (str(ref), lines))

    def job_summary(self) -> Summary:
        """Count the jobs."""
        return self._one(Summary, "persona.job_summary()")

    def monitor_snapshot(self, max_rows: int = 10) -> dict[str, Any]:
        """Return what a monitor shows, as one document."""
        [found] = self._scalars("select persona.monitor_snapshot(%s)", (max_rows,))
        assert isinstance(found, dict)
        return found

    def list_events(
        self,
        after: str | None = None,
        *,
        max_rows: int = 100,
        ref: Ref | None = None,
        of_type: str | None = None,
    ) -> list[Event]:
        """Return events behind a cursor, oldest first; none is ever skipped or repeated."""
        return self._rows(
            Event,
            "persona.list_events(%s, %s, %s, %s) as r",
            (after, max_rows, None if ref is None else str(ref), of_type),
            alias="r",
        )

    def event_cursor(self) -> str:
        """Return the cursor behind which is what happens from now on."""
        [cursor] = self._scalars("select persona.event_cursor()", ())
        return str(cursor)

    def snapshot_bounds(self) -> tuple[int, int]:
        """Return the oldest transaction that is under way, and the first that is still to come."""
        [bounds] = self._scalars(
            "select array[pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint]"
            " from pg_current_snapshot() as s",
            (),
        )
        oldest, next_one = bounds
        return oldest, next_one

    def rpc(
        self, command: str, body: Mapping[str, Any] | None = None, *, repeatable: bool = False
    ) -> dict[str, Any]:
        """Execute a command of the JSON door; returns its answer, an error's included."""
        params = (command, storable(dict(body or {}), "body"))

        def work(conn: Connection) -> dict[str, Any]:
            [answer] = conn.execute("select persona.rpc(%s, %s)", params).fetchone() or ({},)
            return dict(answer)

        return self.database.run(work, repeatable=repeatable)

    def statistics(self) -> list[TypeStatistics]:
        """Return counts and durations by job type."""
        return self._rows(TypeStatistics, "persona.job_statistics as r", alias="r")

    def view(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a small reporting view (cost_by_day, ...), the newest first."""
        from psycopg import sql
        from psycopg.rows import dict_row

        query = sql.SQL("select r.* from {} as r order by 1 desc").format(
            sql.Identifier("persona", name)
        )

        def work(conn: Connection) -> list[dict[str, Any]]:
            with conn.cursor(row_factory=dict_row, binary=True) as cur:
                return cur.execute(query).fetchall()

        return self.database.run(work)

    # Changing

    def update_job(
        self,
        ref: Ref,
        changes: Mapping[str, Any] | Callable[[Job], Mapping[str, Any]],
        *,
        expected_updated_at: datetime | None = None,
    ) -> Job:
        """Change a job that has not started, unless somebody else changed it first.

        With *changes* given, *expected_updated_at* says on which version they rest, and a
        conflict is raised at once.  With a function of the fresh row the change is worked out
        again, at most three times; then UpdateConflictError.
        """
        if not callable(changes):
            if expected_updated_at is None:
                raise InvalidInput("expected_updated_at is needed: which version was changed?")
            return self._update(ref, expected_updated_at, changes)
        if expected_updated_at is not None:
            raise InvalidInput("a change given as a function reads the version itself")
        for last in (False,) * (_UPDATE_TRIES - 1) + (True,):
            job = self.get_job(ref)
            try:
                return self._update(job.id, job.updated_at, changes(job))
            except UpdateConflictError:
                if last:
                    raise
        raise AssertionError  # the last try returns or raises

    def _update(self, ref: Ref, expected: datetime, changes: Mapping[str, Any]) -> Job:
        return self._one(
            Job,
            "persona.update_job(%s, expected_updated_at => %s, changes => %s)",
            (str(ref), expected, storable(dict(changes), "changes")),
            repeatable=False,
        )

    def cancel_job(
        self, ref: Ref, reason: str | None = None, *, force: bool = False, tree: bool = True
    ) -> Job:
        """Cancel a job, and with *tree* what it delegated; running ones are killed."""
        return self._one(
            Job,
            "persona.cancel_job(%s, reason => %s, force => %s, tree => %s)",
            (str(ref), reason, force, tree),
        )

    def cancel_pending_jobs(self, reason: str | None = None) -> int:
        """Cancel everything that has not started; returns how many."""
        [count] = self._scalars("select persona.cancel_pending_jobs(reason => %s)", (reason,))
        return int(count)

    def retry_job(self, ref: Ref) -> Job:
        """Put a failed or cancelled job back into the queue."""
        return self._one(Job, "persona.retry_job(%s)", (str(ref),), repeatable=False)

    def hold_job(self, ref: Ref, reason: str | None = None) -> Job:
        """Keep a job from running until it is released."""
        return self._one(
            Job, "persona.hold_job(%s, reason => %s)", (str(ref), reason), repeatable=False
        )

    def release_job(self, ref: Ref, *, max_cost_usd: Decimal | None = None) -> Job:
        """Let a held job run; with more money, also change what one that is not held may cost."""
        return self._one(
            Job,
            "persona.release_job(%s, max_cost_usd => %s::numeric)",
            (str(ref), max_cost_usd),
            repeatable=False,
        )

    def answer_job(self, ref: Ref, answer: str) -> Job:
        """Answer the question for which a job is held, so that it goes on."""
        return self._one(
            Job, "persona.answer_job(%s, answer => %s)", (str(ref), answer), repeatable=False
        )

    def open_questions(self) -> list[OpenQuestion]:
        """List what waits for a person: questions and approvals, oldest first."""
        return self._rows(OpenQuestion, "persona.open_questions as r order by r.id", (), alias="r")

    # Upkeep

    def detect_hung_jobs(self, timeout: timedelta = timedelta(minutes=5)) -> list[DashboardJob]:
        """List running jobs without a heartbeat for so long, by the server's clock."""
        return self._rows(
            DashboardJob, "persona.detect_hung_jobs(timeout => %s::interval)", (timeout,)
        )

    def recover_hung_jobs(self) -> list[Recovered]:
        """Take expired leases back: retry or fail their jobs."""
        return self._rows(Recovered, "persona.recover_hung_jobs()")

    def tick(self) -> dict[str, Any]:
        """Do the upkeep that is due; returns what was done."""
        [done] = self._scalars("select persona.tick()", ())
        return dict(done or {})

    def cleanup_old_jobs(
        self, days: int = 30, *, dry_run: bool = False, max_jobs: int | None = None
    ) -> int:
        """Delete finished jobs that ended so many days ago; returns how many."""
        [count] = self._scalars(
            "select persona.cleanup_old_jobs(days => %s::integer, dry_run => %s,"
            " max_jobs => %s::integer)",
            (days, dry_run, max_jobs),
        )
        return int(count)

    # Agents and runners

    def list_agents(self) -> list[AgentWorkload]:
        """List the agents with what they have to do."""
        return self._rows(AgentWorkload, "persona.list_agents()")

    def get_agent(self, name: str) -> Agent:
        """Return an agent."""
        return self._one(Agent, "persona.get_agent(%s)", (name,))

    def register_agent(self, name: str, argv: Sequence[str] | None = None, **fields: Any) -> Agent:
        """Register an agent, or change the given fields of the one of that name; for admins.

        *fields* are the columns of Agent.
        """
        _check_agent_fields(fields)
        if fields.get("env") is not None:
            fields["env"] = storable(fields["env"], "env")
        given = {"name": name, "argv": None if argv is None else list(argv), **fields}
        arguments, params = _named(given, _AGENT_TYPES)
        return self._one(Agent, f"persona.register_agent({arguments})", params)

    def update_agent(self, name: str, changes: Mapping[str, Any]) -> Agent:
        """Change columns of an agent; None clears one.  For admins."""
        _check_agent_fields(changes)
        return self._one(
            Agent,
            "persona.update_agent(%s, changes => %s)",
            (name, storable(dict(changes), "changes")),
        )

    def set_agent_active(self, name: str, active: bool) -> Agent:
        """Enable or disable an agent; a disabled one's jobs wait."""
        return self._one(Agent, "persona.set_agent_active(%s, active => %s)", (name, active))

    def limits(self) -> list[Limit]:
        """List the limits on what runs at once, those of agents aside."""
        return self._rows(Limit, "persona.limit_use as l order by l.name", alias="l")

    def set_limit(self, name: str, max_running: int) -> None:
        """Let so many jobs at most run at once (total, type:... or key:...); for admins."""
        self._scalars("select name from persona.set_limit(%s, %s)", (name, max_running))

    def remove_limit(self, name: str) -> None:
        """Take a limit away; for admins."""
        self._scalars("select name from persona.remove_limit(%s)", (name,))

    def budgets(self, name: str | None = None) -> list[Budget]:
        """List the budgets, or what there is of one, with what they have left."""
        return self._rows(
            Budget,
            "persona.list_budgets() as b where b.name = coalesce(%s, b.name)"
            " order by b.name, b.subject",
            (name,),
            alias="b",
        )

    def set_budget(
        self,
        name: str,
        limit_usd: Decimal | None = None,
        *,
        scope: str | None = None,
        subject: str | None = None,
        period: str | None = None,
        is_active: bool | None = None,
    ) -> BudgetLimit:
        """Let so many US dollars be spent; None leaves that part as it is.  For admins."""
        return self._one(
            BudgetLimit,
            "persona.set_budget(%s, limit_usd => %s::numeric, scope => %s,"
            " subject => %s, period => %s, is_active => %s::boolean)",
            (name, limit_usd, scope, subject, period, is_active),
        )

    def remove_budget(self, name: str) -> None:
        """Take a budget away; for admins."""
        self._scalars("select b.name from persona.remove_budget(%s) as b", (name,))

    def gates(self) -> list[Gate]:
        """List the gates of providers that have ever been closed."""
        return self._rows(Gate, "persona.gates as g order by g.provider, g.account", alias="g")

    def open_gate(self, provider: str, account: str = "") -> Gate:
        """Let the jobs of a provider start again; for admins."""
        return self._one(Gate, "persona.open_gate(%s, account => %s)", (provider, account))

    def close_gate(
        self,
        provider: str,
        account: str = "",
        *,
        reason: str | None = None,
        duration: timedelta | None = None,
    ) -> Gate:
        """Start no more jobs of a provider, for a time or until the gate is opened; for admins."""
        return self._one(
            Gate,
            "persona.close_gate(%s, account => %s, reason => %s,"
            " reopens_at => now() + %s::interval)",
            (provider, account, reason, duration),
        )

    def runners(self) -> list[Runner]:
        """List the runners."""
        return self._rows(Runner, "persona.runner_dashboard as r order by r.name", alias="r")

    def drain_runner(self, ref: Ref) -> str:
        """Ask a runner to finish what it has and to take nothing more; returns its name."""
        [name] = self._scalars("select r.name from persona.drain_runner(%s) as r", (str(ref),))
        return str(name)

    def drain_outdated_runners(self) -> list[str]:
        """Ask the same of all runners of an older protocol; returns their names."""
        return [str(name) for name in self._scalars("select persona.drain_outdated_runners()", ())]

    def schema_version(self) -> int:
        """Return the version of the schema."""
        [version] = self._scalars("select persona.schema_version()", ())
        return int(version)

    # Daily notes

    def intake_notes(
        self,
        vault: str,
        notes: Sequence[Mapping[str, Any]],
        *,
        host: str,
        business: str | None = None,
        confirmed: bool = False,
        dry_run: bool = False,
    ) -> list[NoteLine]:
        """Make jobs of the marked lines of notes, each once; returns what was done about each."""
        return self._rows(
            NoteLine,
            "persona.intake_notes(vault => %s, notes => %s, host => %s, business => %s,"
            " confirmed => %s, dry_run => %s)",
            (vault, storable(list(notes), "notes"), host, business, confirmed, dry_run),
            deadline=_INTAKE_DEADLINE,
        )

    def take_note_answers(self, vault: str, host: str) -> list[NoteAnswer]:
        """Take on the finished answers that this machine shall write into its vault."""
        return self._rows(NoteAnswer, "persona.take_note_answers(%s, host => %s)", (vault, host))

    def record_note_answer(self, vault: str, job_id: UUID, answer_path: str) -> bool:
        """Say that an answer is written; true for the first to say so."""
        [first] = self._scalars(
            "select persona.record_note_answer(%s, job_id => %s, answer_path => %s)",
            (vault, job_id, answer_path),
        )
        return bool(first)

    def note_links(self, vault: str, *, write_back: bool | None = None) -> list[NoteLink]:
        """List the lines to be linked to their answers; none where that is not wanted."""
        return self._rows(
            NoteLink, "persona.note_links(%s, write_back => %s::boolean)", (vault, write_back)
        )

    def record_note_link(self, vault: str, job_id: UUID) -> bool:
        """Say that a line is linked to its answer."""
        [first] = self._scalars(
            "select persona.record_note_link(%s, job_id => %s)", (vault, job_id)
        )
        return bool(first)

    def note_questions(self, vault: str, *, max_rows: int = 50) -> list[NoteQuestion]:
        """List what was asked in a vault, the latest note first."""
        return self._rows(
            NoteQuestion,
            "persona.note_questions as r where r.vault = %s"
            " order by r.note desc, r.line, r.first_seen_at limit %s::integer",
            (vault, max_rows),
            alias="r",
        )

    # How it is asked

    def _rows(
        self,
        row_type: type[Row],
        source: str,
        params: Sequence[Any] | Mapping[str, Any] = (),
        *,
        alias: str = "",
        select: str | None = None,
        repeatable: bool = True,
        deadline: float | None = None,
    ) -> list[Row]:
        """Select the columns of *row_type* from a function call, or from an aliased source."""
        if select is None:
            if not alias:
                source, alias = f"{source} as r", "r"
            select = columns(row_type, alias)
        query = f"select {select} from {source}"  # noqa: S608 - names only, no values

        def work(conn: Connection) -> list[Row]:
            # Binary: whatever DateStyle and IntervalStyle the database has been given.
            with conn.cursor(row_factory=class_row(row_type), binary=True) as cur:
                return cur.execute(query, params).fetchall()

        return self.database.run(work, repeatable=repeatable, deadline=deadline)

    def _one(
        self,
        row_type: type[Row],
        source: str,
        params: Sequence[Any] | Mapping[str, Any] = (),
        *,
        alias: str = "",
        select: str | None = None,
        repeatable: bool = True,
    ) -> Row:
        [row] = self._rows(
            row_type, source, params, alias=alias, select=select, repeatable=repeatable
        )
        return row

    def _scalars(self, query: str, params: Sequence[Any]) -> list[Any]:
        def work(conn: Connection) -> list[Any]:
            with conn.cursor(binary=True) as cur:
                return [row[0] for row in cur.execute(query, params)]

        return self.database.run(work)


def _check_agent_fields(fields: Mapping[str, Any]) -> None:
    if unknown := fields.keys() - _AGENT_TYPES.keys():
        raise InvalidInput(
            f"unknown field of an agent: {', '.join(sorted(unknown))};"
            f" there are {', '.join(_AGENT_TYPES)}"
        )


def storable(value: Any, argument: str) -> Jsonb:
    """Wrap a value as jsonb; refuse here what PostgreSQL cannot store, with a clear message."""
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    if "\\u0000" in text and _holds(value, "\0"):
        raise InvalidInput(f"{argument} holds a NUL character, which PostgreSQL cannot store")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        raise InvalidInput(
            f"{argument} is not valid Unicode near {text[max(0, exc.start - 10) : exc.start]!r}"
        ) from None
    if size > _MOST_JSON:
        raise InvalidInput(
            f"{argument} is {size} bytes long, and PostgreSQL holds at most {_MOST_JSON} as JSON",
            hint="give the path of a file, or a part of it",
        )
    return Jsonb(value, dumps=lambda _: text)


def _plain(value: Any) -> Any:
    """Write what JSON has no type for the way PostgreSQL reads it."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():f} s"
    if isinstance(value, UUID | Decimal):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _holds(value: Any, character: str) -> bool:
    if isinstance(value, str):
        return character in value
    if isinstance(value, dict):
        return any(_holds(k, character) or _holds(v, character) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return any(_holds(item, character) for item in value)
    return False


def _named(given: Mapping[str, Any], types: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Write the arguments that are given in named notation, with casts.

    With the casts a value that does not fit is reported as such, and not as a missing function.
    """
    params = {name: value for name, value in given.items() if value is not None}
    arguments = ", ".join(f"{name} => %({name})s::{types[name]}" for name in params)
    return arguments, params
