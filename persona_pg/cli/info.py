"""persona info."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persona_pg.model import Attempt, DashboardJob, FullJob, Question

_UNFINISHED = ("pending", "blocked", "held")


@click.command("info")
@click.argument("ref", metavar="ID")
@output.json_option
@pass_app
def info_command(app: App, ref: str, as_json: bool) -> None:
    """Show everything about a job: input, progress, attempts, cost, and its answer."""
    queue = app.queue
    job = queue.get_full_job(ref)
    attempts = queue.get_attempts(job.id)
    argv = queue.get_command_line(job.id)
    if as_json:
        history = [documents.of(attempt) for attempt in attempts]
        asked = [documents.of(question) for question in queue.get_questions(job.id)]
        output.put_json(
            documents.of_job(job) | {"argv": argv, "attempts": history, "questions": asked}
        )
        return
    dashboard = queue.get_dashboard(job.id)
    why = queue.explain_job(job.id) if job.status in _UNFINISHED else None
    for name, value in (*_facts(job, dashboard, why), ("command", shlex.join(argv or ()))):
        if value:
            text = output.clean(value)
            if name == "status":
                text = output.styled(text, "hung" if job.hung else job.status)
            output.put(f"{name:<12} {text}")
    _show_payload(job.payload)
    _show_questions(queue.get_questions(job.id))
    _show_attempts(attempts)
    _show_result(job.result)


def _facts(job: FullJob, dashboard: DashboardJob, why: str | None) -> Iterator[tuple[str, str]]:
    status = "hung" if job.hung else job.status
    reason = f" ({job.status_reason})" if job.status_reason else ""
    yield "job", f"{job.short_id}  {job.id}"
    yield "type", job.job_type + (f", tags {', '.join(job.tags)}" if job.tags else "")
    yield "status", status + reason
    yield "waiting", why or ""
    yield "error", "" if job.error is None else _with_kind(job)
    yield "exit code", "" if job.exit_code is None else str(job.exit_code)
    yield "agent", job.agent + (f", model {job.model}" if job.model else "")
    yield "business", job.business or ""
    yield "priority", str(job.priority) if job.priority else ""
    yield "attempt", _attempt(job)
    yield "created", _created(job)
    yield "run at", output.moment(job.run_at) if job.run_at > job.created_at else ""
    yield "started", output.moment(job.started_at)
    yield "ended", output.moment(job.completed_at)
    yield "took", output.duration(dashboard.duration_seconds)
    yield "progress", _progress(job)
    yield "runner", _place(job, dashboard)
    yield "heartbeat", _heartbeat(dashboard)
    yield "limits", _limits(job)
    most = "" if job.max_cost_usd is None else f" of at most {output.money(job.max_cost_usd)}"
    yield "cost", (output.money(job.cost_usd) or ("$0.00" if most else "")) + most
    yield "tokens", "" if job.tokens is None else json.dumps(job.tokens)
    yield "conversation", job.session_id or ""
    yield "cancel", _cancel(job)
    yield "dedupe key", job.dedupe_key or ""
    yield "lock key", job.lock_key or ""
    yield "parent", "" if job.parent_job_id is None else str(job.parent_job_id)
    yield "source", _source(job)


def _with_kind(job: FullJob) -> str:
    return f"{job.error} [{job.failure_kind}]" if job.failure_kind else str(job.error)


def _attempt(job: FullJob) -> str:
    more = f", {job.interruptions} interruptions" if job.interruptions else ""
    return f"{job.attempt} of {job.max_attempts}{more}"


def _created(job: FullJob) -> str:
    by = f" by {job.created_by}" if job.created_by else ""
    return f"{output.moment(job.created_at)} ({output.age(job.created_at)}){by}"


def _progress(job: FullJob) -> str:
    percent = "" if job.progress is None else f"{job.progress:.0f} %"
    return " ".join(part for part in (percent, job.progress_text) if part)


def _place(job: FullJob, dashboard: DashboardJob) -> str:
    if job.hostname is None and dashboard.runner_name is None:
        return ""
    where = f"{dashboard.runner_name or ''} on {job.hostname or '?'}".strip()
    usage = ""
    if dashboard.memory_mb is not None:
        usage = f", cpu {dashboard.cpu_percent or 0:.0f} %, memory {dashboard.memory_mb:.0f} MB"
    return where + (f", pid {job.pid}" if job.pid else "") + usage


def _heartbeat(dashboard: DashboardJob) -> str:
    if dashboard.heartbeat_at is None:
        return ""
    until = output.age(dashboard.lease_expires_at)
    return f"{output.age(dashboard.heartbeat_at)}, lease ends {until}"


def _limits(job: FullJob) -> str:
    total = f"{output.duration(job.timeout)} in total" if job.timeout else ""
    silence = f"{output.duration(job.idle_timeout)} of silence" if job.idle_timeout else ""
    return ", ".join(part for part in (total, silence) if part)


def _cancel(job: FullJob) -> str:
    if job.cancel_requested_at is None:
        return job.cancel_reason or ""
    return f"asked {output.age(job.cancel_requested_at)}: {job.cancel_reason or 'no reason given'}"


def _source(job: FullJob) -> str:
    line = f":{job.source_line}" if job.source_line else ""
    return f"{job.source_file}{line}" if job.source_file else ""


def _show_payload(payload: dict[str, Any]) -> None:
    if not payload:
        return
    output.put()
    output.put(output.dim("input"))
    for name, value in payload.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        _put_block(f"  {output.clean(name)}: ", text)


def _put_block(label: str, text: str) -> None:
    lines = text.splitlines() or [""]
    output.put(label + output.printable(lines[0]))
    for line in lines[1:]:
        output.put("    " + output.printable(line))


def _show_questions(questions: list[Question]) -> None:
    if not questions:
        return
    output.put()
    output.put(output.dim("questions"))
    for question in questions:
        _put_block("  asked: ", question.text)
        if question.answer is not None:
            when = output.moment(question.answered_at)
            _put_block(f"  {output.clean(question.answered_by or '')}, {when}: ", question.answer)


def _show_attempts(attempts: list[Attempt]) -> None:
    if not attempts:
        return
    output.put()
    output.put(output.dim("attempts"))
    output.put_table(attempts, _ATTEMPT_COLUMNS)


def _show_result(result: Any) -> None:
    if result is None:
        return
    output.put()
    output.put(output.dim("answer"))
    text = answer_text(result)
    for line in text.splitlines():
        output.put(output.printable(line))


def answer_text(result: Any) -> str:
    """Return what a person wants to read of a result."""
    if isinstance(result, str):
        return result
    if isinstance(result, dict):
        for key in ("text", "result", "answer"):
            if isinstance(result.get(key), str) and result[key].strip():
                return str(result[key])
    return json.dumps(result, ensure_ascii=False, indent=2)


_ATTEMPT_COLUMNS = [
    output.Column("nr", lambda a: str(a.attempt) + ("" if a.is_counted else "*"), right=True),
    output.Column("outcome", lambda a: a.outcome),
    output.Column("exit", lambda a: "" if a.exit_code is None else str(a.exit_code), right=True),
    output.Column("started", lambda a: output.moment(a.started_at), rank=1),
    output.Column("took", lambda a: output.duration(a.ended_at - a.started_at), right=True),
    output.Column("runner", lambda a: a.runner_name or "", rank=2),
    output.Column("cost", lambda a: output.money(a.cost_usd), right=True, rank=3),
    output.Column("error", lambda a: a.error or "", flexible=True),
]
