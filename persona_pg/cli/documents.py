"""The JSON documents of rows: the keys that wrappers and other programs see."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona_pg.model import Agent, Event, FullJob, LogLine


def camel(name: str) -> str:
    """Write a column's name as a key."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def of(row: Any) -> dict[str, Any]:
    """Return the document of any row."""
    return {camel(name): value for name, value in asdict(row).items()}


def of_event(event: Event) -> dict[str, Any]:
    """Return the document of an event; --after its cursor goes on behind it."""
    return {
        "cursor": event.next_cursor,
        "at": event.at,
        "type": event.event_type,
        "jobId": event.job_id,
        "source": event.source,
        "traceId": event.trace_id,
        "data": event.data,
        "eventId": event.event_id,
    }


def of_job(job: FullJob) -> dict[str, Any]:
    """Return the document of a job."""
    return {
        "id": job.id,
        "shortId": job.short_id,
        "type": job.job_type,
        "status": job.status,
        "statusReason": job.status_reason,
        "hung": job.hung,
        "assignedTo": job.agent,
        "priority": job.priority,
        "createdAt": job.created_at,
        "startedAt": job.started_at,
        "completedAt": job.completed_at,
        "runAt": job.run_at,
        # Compared for equality by update_job: every digit counts.
        "updatedAt": job.updated_at.isoformat(timespec="microseconds"),
        "attempt": job.attempt,
        "maxAttempts": job.max_attempts,
        "exitCode": job.exit_code,
        "error": job.error,
        "failureKind": job.failure_kind,
        "result": job.result,
        "progress": job.progress,
        "progressText": job.progress_text,
        "pid": job.pid,
        "hostname": job.hostname,
        "parentId": job.parent_job_id,
        "costUsd": job.cost_usd,
        "maxCostUsd": job.max_cost_usd,
        "tokens": job.tokens,
        "sessionId": job.session_id,
        "model": job.model,
        "waitingFor": job.waiting_for,
        "payload": job.payload,
        "tags": job.tags,
        "business": job.business,
        "sourceFile": job.source_file,
        "sourceLine": job.source_line,
        "dedupeKey": job.dedupe_key,
        "lockKey": job.lock_key,
    }


def of_log_line(line: LogLine) -> dict[str, Any]:
    """Return the document of a log line."""
    return {
        "timestamp": line.at,
        "lease": line.lease,
        "seq": line.seq,
        "stream": line.stream,
        "level": line.level,
        "message": line.message,
        "metadata": line.metadata,
    }


def of_agent(agent: Agent) -> dict[str, Any]:
    """Return the document of an agent: `agents edit --json` reads it again."""
    return of(agent)
