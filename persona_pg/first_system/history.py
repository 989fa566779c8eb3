"""executions.json, running-agents.json, queue.json and pending-notes.json as jobs to import.

Each function yields (name for people, job, reason to leave it out): a job or a reason.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from persona_pg.first_system.reading import (
    BrokenFile,
    clean,
    entries,
    first,
    imported_id,
    moment,
    name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    Found = Iterator[tuple[str, dict[str, Any] | None, str]]

WAITING = "waited in the first system"
_STATUS = {
    **dict.fromkeys(("completed", "complete", "success", "succeeded", "done"), "completed"),
    **dict.fromkeys(("failed", "failure", "error", "timeout", "timed_out"), "failed"),
    **dict.fromkeys(("cancelled", "canceled", "killed"), "cancelled"),
    **dict.fromkeys(("running", "in_progress", "started"), "running"),
}
# An execution of the plugin is also written down by the script that it starts, a moment later.
_SAME_START = timedelta(seconds=60)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def executions(document: Any, business: str) -> Found:
    """Read the executions that the first system has recorded."""
    for record in entries(document, "executions"):
        agent, action = first(record, "agent"), first(record, "action")
        started = moment(first(record, "started", "start_time", "startTime", "started_at"))
        known = first(record, "id") or f"{agent}/{action}/{started}"
        status = _STATUS.get(str(record.get("status", "")).lower())
        if agent is None:
            yield str(known), None, "it names no agent"
            continue
        if started is None:
            yield str(known), None, "its time of start is missing or unreadable"
            continue
        if status is None:
            yield str(known), None, f"its status {str(record.get('status'))[:40]!r} is not known"
            continue
        job = _job(f"{business}/execution/{known}", "agent_action", agent, business, started)
        job |= {
            "status": status,
            "started_at": started.isoformat(),
            "exit_code": _integer(record.get("exit_code")),
            "payload": {"action": action} if action is not None else {},
            "pid": _integer(record.get("pid")),
        }
        ended = moment(first(record, "ended", "end_time", "endTime", "ended_at"))
        if status == "running":
            _never_ended(job, moment(record.get("timeout")), started)
        else:
            job["completed_at"] = (ended or started).isoformat()
            word = str(record["status"]).lower()
            job["error"] = clean(str(first(record, "error", "reason") or word))
            if word.startswith("time"):
                job["failure_kind"] = "timeout"
        yield str(known), job, ""


def _never_ended(job: dict[str, Any], deadline: datetime | None, started: datetime) -> None:
    """Tell an execution that may be alive from one whose end nobody wrote down."""
    if (deadline or started + timedelta(days=1)) < datetime.now(UTC):
        job |= {
            "status": "failed",
            "completed_at": (deadline or started).isoformat(),
            "error": "the first system recorded no end",
            "failure_kind": "orphaned",
        }
    else:
        job |= {"status": "held", "status_reason": _was_running(job.get("pid"))}


def running_agents(document: Any, business: str, recorded: Any = None) -> Found:
    """Read what the plugin believes to be running.

    *recorded* is the document of executions.json: what stands there too is left out here.
    """
    agents = document.get("agents") if isinstance(document, dict) else None
    if not isinstance(agents, dict) or not all(isinstance(a, dict) for a in agents.values()):
        raise BrokenFile("there is no object 'agents' in it")
    twins = []
    if recorded is not None:
        twins = [(e.get("agent"), e.get("action"), moment(first(e, "started", "start_time")))
                 for e in entries(recorded, "executions")]  # fmt: skip
    for known, record in agents.items():
        agent, action = first(record, "agent"), first(record, "action")
        started = moment(first(record, "startTime", "started"))
        if agent is None or started is None:
            yield known, None, "its agent or its time of start is missing"
            continue
        if any((agent, action) == (a, b) and at is not None and abs(at - started) < _SAME_START
               for a, b, at in twins):  # fmt: skip
            yield known, None, "the same execution is in executions.json"
            continue
        job = _job(f"{business}/running/{known}", "agent_action", agent, business, started)
        pid = _integer(record.get("pid"))
        job |= {
            "status": "held",
            "status_reason": _was_running(pid),
            "started_at": started.isoformat(),
            "payload": {"action": action} if action is not None else {},
            "pid": pid,
        }
        if record.get("jobId"):
            job["tags"].append(f"job:{record['jobId']}")
        yield known, job, ""


def queue(document: Any, business: str) -> Found:
    """Read the task queue: primary and secondary wait, the dead letters have failed."""
    if not isinstance(document, dict) or not any(
        isinstance(document.get(part), list) for part in ("primary", "secondary", "dlq")
    ):
        raise BrokenFile("there is no list 'primary', 'secondary' or 'dlq' in it")
    for part in ("primary", "secondary", "dlq"):
        for record in entries({part: document.get(part) or []}, part):
            text = first(record, "content", "task", "text")
            queued = moment(first(record, "queuedAt", "queued_at"))
            known = str(first(record, "id") or f"{part}/{queued}/{text}")
            if text is None or queued is None:
                yield known, None, "its text or its time is missing"
                continue
            where = str(first(record, "instance") or business)
            job = _job(f"{business}/queue/{known}", "delegate", "assistant", where, queued)
            job |= {
                "payload": {"task": clean(str(text))},
                "source_file": clean(first(record, "sourcePath")),
                "source_line": _integer(record.get("line")),
                "status": "held",
                "status_reason": WAITING,
            }
            if part == "dlq":
                tried = moment(first(record, "lastAttemptAt")) or queued
                job |= {
                    "status": "failed",
                    "started_at": tried.isoformat(),
                    "completed_at": tried.isoformat(),
                    "error": clean(str(first(record, "lastError") or "gave up after two attempts")),
                }
            yield known, job, ""


def pending_notes(document: Any, business: str, modified: datetime) -> Found:
    """Read updates that waited for a daily note: a list of them, or {path of the note: updates}."""
    if isinstance(document, dict) and "pending" not in document:
        records = [{"note_path": path, "content": found} for path, found in document.items()]
    else:
        records = entries(document, "pending")
    for record in records:
        note = first(record, "note_path", "date")
        content = first(record, "content", "updates")
        queued = moment(first(record, "queued_at", "queuedAt"))
        if content is None:
            yield str(note), None, "it holds no text"
            continue
        text = content if isinstance(content, str) else _listed(content)
        author = first(record, "agent") or "assistant"
        known = f"{note}/{author}/{first(record, 'action')}/{record.get('queued_at')}/{text}"
        dated = re.search(r"\d{4}-\d\d-\d\d", str(note))
        # The id must not move with the file's time of change.
        at = queued or moment(dated[0] if dated else None) or _LONG_AGO
        job = _job(f"{business}/pending/{known}", "note_update", author, business, at)
        job |= {
            "created_at": (queued or modified).isoformat(),
            "status": "held",
            "status_reason": WAITING,
            "source_file": clean(record.get("note_path")),
            "payload": {
                "prompt": clean(
                    f"This update was written for the daily note {note}, which did not exist"
                    f" then. Say what of it still matters today.\n\n{text}"
                ),
                "note": clean(str(note)),
            },
        }
        yield f"{note} ({author})", job, ""


def _job(known: str, job_type: str, agent: Any, business: str, at: datetime) -> dict[str, Any]:
    return {
        "id": str(imported_id(at, known)),
        "job_type": job_type,
        "agent": name(agent) or "unknown",
        "business": clean(business),
        "created_at": at.isoformat(),
        "tags": ["first-system"],
    }


def _was_running(pid: Any) -> str:
    process = f" as process {pid}" if pid else ""
    return f"was running in the first system{process}: see that it has ended before a release"


def _integer(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and abs(value) < 1 << 31 else None


def _listed(content: Any) -> str:
    items = content if isinstance(content, list) else [content]
    return "\n".join(i if isinstance(i, str) else json.dumps(i, ensure_ascii=False) for i in items)
