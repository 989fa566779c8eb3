"""The rows that the client returns: one frozen dataclass a function or view.

The names of the fields are the names of the columns, and the client asks for exactly these: a
column that a later schema adds or moves disturbs nobody.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform
from uuid import UUID

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from decimal import Decimal

_T = TypeVar("_T")

TERMINAL = frozenset({"completed", "failed", "cancelled"})


def new_job_id() -> UUID:
    """Make a time-ordered id (UUID version 7), so that a create can be repeated safely."""
    value = (time.time_ns() // 1_000_000) & ((1 << 48) - 1)
    value = (value << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (7 << 76)
    return UUID(int=(value & ~(0x3 << 62)) | (2 << 62))


def columns(row_type: Any, alias: str) -> str:
    """List the columns of a row type for a select."""
    return ", ".join(f"{alias}.{item.name}" for item in fields(row_type))


class Row:
    """What all rows have in common: equal where their columns are, shown with their names.

    Written once: what `dataclass` writes for each of them took every command 10 to 20 ms.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Row) and other.__class__ is self.__class__:
            return self._values() == other._values()
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        pairs = zip(self.__dataclass_fields__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def row(cls: type[_T]) -> type[_T]:
    """Make a frozen dataclass of a row's columns."""
    return dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)(cls)


@row
class Job(Row):
    """One row of persona.jobs."""

    id: UUID
    short_id: str
    job_type: str
    status: str
    status_reason: str | None
    agent: str
    business: str | None
    priority: int
    run_at: datetime
    payload: dict[str, Any]
    timeout: timedelta | None
    idle_timeout: timedelta | None
    max_attempts: int
    dedupe_key: str | None
    lock_key: str | None
    parent_job_id: UUID | None
    root_job_id: UUID | None
    depth: int
    delegated_by: str | None
    tags: list[str]
    source_file: str | None
    source_line: int | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    attempt: int
    interruptions: int
    hostname: str | None
    pid: int | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    exit_code: int | None
    error: str | None
    failure_kind: str | None
    result: Any
    progress: Decimal | None
    progress_text: str | None
    cost_usd: Decimal | None
    max_cost_usd: Decimal | None
    tokens: Any
    session_id: str | None
    model: str | None
    created_by: str | None

    @property
    def is_finished(self) -> bool:
        """Tell whether the job has ended, one way or another."""
        return self.status in TERMINAL


@row
class FullJob(Job):
    """A job with what only the dashboard knows: all that a JSON job object shows."""

    hung: bool
    waiting_for: str | None


@row
class DashboardJob(Row):
    """One row of persona.job_dashboard: a job as a person looks at it."""

    id: UUID
    short_id: str
    job_type: str
    status: str
    hung: bool
    agent: str
    hostname: str | None
    pid: int | None
    duration_seconds: Decimal | None
    progress: Decimal | None
    task_preview: str | None
    waiting_for: str | None
    priority: int
    attempt: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    run_at: datetime
    error: str | None
    exit_code: int | None
    status_reason: str | None
    runner_name: str | None
    cpu_percent: float | None
    memory_mb: float | None
    heartbeat_at: datetime | None
    lease_expires_at: datetime | None
    business: str | None
    tags: list[str]
    source_file: str | None
    cost_usd: Decimal | None
    failure_kind: str | None


@row
class Attempt(Row):
    """One row of persona.job_attempts: an execution that has ended."""

    job_id: UUID
    lease: int
    attempt: int
    is_counted: bool
    outcome: str
    runner_name: str | None
    hostname: str | None
    pid: int | None
    started_at: datetime
    ended_at: datetime
    exit_code: int | None
    error: str | None
    failure_kind: str | None
    cost_usd: Decimal | None


@row
class TreeNode(Row):
    """One row of persona.get_job_tree()."""

    depth: int
    job_id: UUID
    parent_job_id: UUID | None
    short_id: str
    job_type: str
    agent: str
    status: str
    duration_seconds: Decimal | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    task_preview: str | None


@row
class Event(Row):
    """One row of persona.list_events(); next_cursor goes on behind it."""

    next_cursor: str
    at: datetime
    event_type: str
    job_id: UUID | None
    source: str
    trace_id: str | None
    data: dict[str, Any] | None
    event_id: int | None


@row
class LogLine(Row):
    """One row of persona.get_logs(); (lease, seq) is the cursor."""

    lease: int
    seq: int
    at: datetime
    stream: str
    level: str
    message: str
    metadata: dict[str, Any] | None

    @property
    def goes_on(self) -> bool:
        """Tell whether this is a piece of a long line, and the next row continues it."""
        return bool(self.metadata and self.metadata.get("part"))


@row
class Agent(Row):
    """One row of persona.agents."""

    name: str
    description: str
    role: str | None
    provider: str | None
    model: str | None
    argv: list[str]
    stdin_template: str | None
    env: dict[str, str]
    workdir: str | None
    output_format: str
    timeout: timedelta | None
    idle_timeout: timedelta | None
    kill_grace: timedelta | None
    output_limit: int | None
    max_attempts: int | None
    max_concurrent: int | None
    memory_limit: int | None
    cpu_limit: float | None
    process_limit: int | None
    open_files_limit: int | None
    file_size_limit: int | None
    nice: int | None
    max_cost_usd: Decimal | None
    is_active: bool
    is_external: bool
    admin_only: bool
    costs_money: bool
    keeps_conversation: bool
    may_delegate_to: list[str]
    launcher: list[str]
    resume_argv: list[str] | None
    requires_approval: bool
    created_at: datetime
    updated_at: datetime


@row
class Question(Row):
    """One row of persona.questions: what a person was asked about a job, and decided."""

    kind: str
    text: str
    asked_at: datetime
    answer: str | None
    answered_at: datetime | None
    answered_by: str | None


@row
class OpenQuestion(Row):
    """One row of persona.open_questions."""

    job_id: UUID
    short_id: str
    kind: str
    text: str
    asked_at: datetime
    agent: str
    job_type: str
    task_preview: str | None


@row
class AgentWorkload(Row):
    """One row of persona.agent_workload."""

    agent: str
    is_active: bool
    is_external: bool
    pending: int
    running: int
    max_concurrent: int | None
    completed_24h: int
    failed_24h: int
    program: str
    description: str


@row
class Runner(Row):
    """One row of persona.runner_dashboard."""

    id: UUID
    name: str
    hostname: str
    pid: int
    status: str
    capacity: int
    running: int
    agents: list[str] | None
    version: str | None
    last_seen_at: datetime
    registered_at: datetime

    @property
    def is_live(self) -> bool:
        """Tell whether it takes new jobs."""
        return self.status in {"idle", "busy"}

    def serves(self, agent: str) -> bool:
        """Tell whether it would run jobs of this agent."""
        return not self.agents or agent in self.agents


@row
class Limit(Row):
    """One row of persona.limit_use."""

    name: str
    max_running: int
    running: int
    parked: int
    updated_at: datetime


@row
class BudgetLimit(Row):
    """One row of persona.budgets: so much money may be spent."""

    name: str
    scope: str
    subject: str | None
    period: str
    limit_usd: Decimal
    is_active: bool


@row
class Budget(Row):
    """One row of persona.list_budgets(): a limit on money, and how far it is used up."""

    name: str
    scope: str
    subject: str | None
    period: str
    limit_usd: Decimal
    used_usd: Decimal | None
    reserved_usd: Decimal | None
    left_usd: Decimal | None
    percent_used: Decimal | None
    held: int
    parked: int
    opens_at: datetime | None
    is_active: bool
    updated_at: datetime


@row
class Gate(Row):
    """One row of persona.gates: a provider that refuses work, or did."""

    provider: str
    account: str
    state: str
    reason: str | None
    closed_at: datetime | None
    reopens_at: datetime | None
    probe_job_id: UUID | None
    updated_at: datetime


@row
class Summary(Row):
    """The row of persona.job_summary()."""

    pending: int
    running: int
    completed: int
    failed: int
    cancelled: int
    blocked: int
    held: int
    hung: int
    oldest_pending_seconds: Decimal | None
    cost_today: Decimal | None
    unseen_alerts: int


@row
class TypeStatistics(Row):
    """One row of persona.job_statistics."""

    job_type: str
    total: int
    completed: int
    failed: int
    cancelled: int
    success_rate: Decimal | None
    mean_seconds: Decimal | None
    p50_seconds: Decimal | None
    p95_seconds: Decimal | None


@row
class Recovered(Row):
    """One row of persona.recover_hung_jobs()."""

    id: UUID
    short_id: str
    status: str
    reason: str | None


@row
class NoteLine(Row):
    """One row of persona.intake_notes(): a marked line and what a scan did about it."""

    path: str
    line: int
    kind: str
    question: str
    action: str
    job_id: UUID | None
    short_id: str | None
    job_type: str | None
    agent: str | None
    for_business: str | None
    reason: str | None


@row
class NoteAnswer(Row):
    """One row of persona.take_note_answers(): an answer to be written into a vault."""

    job_id: UUID
    short_id: str
    job_type: str
    agent: str
    business: str | None
    kind: str
    question: str | None
    path: str
    line: int
    folder: str
    file_name: str
    completed_at: datetime
    result: dict[str, Any] | None


@row
class NoteLink(Row):
    """One row of persona.note_links(): a marked line that shall be linked to its answer."""

    job_id: UUID
    kind: str
    path: str
    line: int
    marker: str
    answer_path: str


@row
class NoteQuestion(Row):
    """One row of persona.note_questions: a marked line and what became of it."""

    vault: str
    note: str
    path: str
    line: int
    kind: str
    job_id: UUID | None
    short_id: str | None
    status: str
    job_type: str | None
    agent: str | None
    business: str | None
    task_preview: str | None
    is_answered: bool
    is_gone: bool
    answer_path: str | None
    answered_at: datetime | None
    linked_at: datetime | None
    first_seen_at: datetime
