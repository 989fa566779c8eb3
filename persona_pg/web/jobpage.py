"""One job: everything that is known of it, its log, the tree that it belongs to."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from persona_pg.errors import PersonaError
from persona_pg.web import ansi, plots
from persona_pg.web.logtail import as_html

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from persona_pg.model import Agent, FullJob, LogLine
    from persona_pg.web.sources import Source

_TAIL = 500
_LOG_PAGE = 1000
# A search reads so many lines at most before it answers; it goes on from there.
_MOST_SEARCHED = 50_000
_MOST_TREE = 500
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z_]+)(?:\.([A-Za-z0-9_.-]+?))?(\.\.\.)?\}")
_LONG_ARGUMENT = 400


def load_job(source: Source, _query: dict[str, str], ref: str) -> dict[str, Any]:
    """Load the page of one job."""
    queue = source.queue
    job = queue.get_full_job(ref)
    live = queue.get_dashboard(job.id)
    log = queue.tail_logs(job.id, _TAIL)
    root = job.root_job_id or job.id
    try:
        tree = queue.get_job_tree(root)[:_MOST_TREE]
    except PersonaError:
        tree = []
    if not any(node.job_id == job.id for node in tree):
        tree = queue.get_job_tree(job.id)[:_MOST_TREE]
    started, agent = queue.get_command_line(job.id), None
    if started is None:
        with contextlib.suppress(PersonaError):  # it has been removed
            agent = queue.get_agent(job.agent)
    return {
        "job": job,
        "live": live,
        "why": queue.explain_job(job.id),
        "attempts": queue.get_attempts(job.id),
        "questions": queue.get_questions(job.id),
        "events": source.looks.job_events(job.id),
        "started": started,
        "argv": None if agent is None else _command_line(job, agent),
        "agent_changed": agent is not None
        and job.started_at is not None
        and agent.updated_at > job.started_at,
        "log": as_html(log),
        "log_at": f"{log[-1].lease}.{log[-1].seq}" if log else "0.0",
        "log_is_cut": len(log) == _TAIL,
        "tree": plots.tree(tree, job.id) if len(tree) > 1 else None,
    }


def load_log(source: Source, query: dict[str, str], ref: str) -> dict[str, Any]:
    """Load a page of a job's log from a place on, or of the lines with a text in them."""
    job = source.queue.get_job(ref)
    after = re.fullmatch(r"(\d{1,18})\.(\d{1,18})", query.get("after", ""))
    lease, seq = (int(after[1]), int(after[2])) if after else (0, 0)
    wanted = query.get("q")
    if wanted:
        lines, more = _searched(source, job.id, (lease, seq), wanted.lower())
    else:
        lines = source.queue.get_logs(job.id, after_lease=lease, after_seq=seq, max_lines=_LOG_PAGE)
        more = (lines[-1].lease, lines[-1].seq) if len(lines) == _LOG_PAGE else None
    return {
        "job": job,
        "q": wanted,
        "log": as_html(lines),
        "count": len(lines),
        "is_first": after is None,
        "more": None if more is None else f"{more[0]}.{more[1]}",
    }


def _searched(
    source: Source, job_id: UUID, place: tuple[int, int], wanted: str
) -> tuple[list[LogLine], tuple[int, int] | None]:
    found: list[LogLine] = []
    for _ in range(_MOST_SEARCHED // _LOG_PAGE):
        lines = source.queue.get_logs(
            job_id, after_lease=place[0], after_seq=place[1], max_lines=_LOG_PAGE
        )
        for line in lines:
            place = (line.lease, line.seq)
            if wanted in ansi.to_text(line.message).lower():
                found.append(line)
                if len(found) == _LOG_PAGE:
                    return found, place
        if len(lines) < _LOG_PAGE:
            return found, None
    return found, place


def text_pages(lines: list[LogLine]) -> Iterator[str]:
    """Write log lines for a file: what was printed, without what a terminal would obey."""
    for line in lines:
        end = "" if line.goes_on else "\n"
        yield f"{line.at.isoformat(timespec='milliseconds')} {line.stream:<6} "
        yield ansi.to_text(line.message) + end


def _command_line(job: FullJob, agent: Agent) -> list[str]:
    """Fill the agent's template as a runner does; what only a runner knows stays in braces."""
    resumes = agent.resume_argv and job.session_id and job.attempt > 1
    template = agent.resume_argv if resumes and agent.resume_argv else agent.argv
    argv = list(agent.launcher)
    for element in template:
        spread = _PLACEHOLDER.fullmatch(element)
        value = None
        if spread is not None and spread[3] and spread[1] == "payload":
            value = _look_up(job.payload, spread[2])
        if isinstance(value, list):
            argv += [_text(item) for item in value]
        else:
            argv.append(_PLACEHOLDER.sub(lambda match: _filled(match, job), element))
    return [a if len(a) <= _LONG_ARGUMENT else a[:_LONG_ARGUMENT] + "…" for a in argv]


def _filled(match: re.Match[str], job: FullJob) -> str:
    known = {
        "agent": job.agent,
        "job_id": job.id,
        "short_id": job.short_id,
        "job_type": job.job_type,
        "attempt": job.attempt,
        "session_id": job.session_id,
        "business": job.business,
        "model": job.model,
    }
    if match[1] is None:
        return match[0][0]
    if match[1] == "payload" and match[2]:
        return _text(_look_up(job.payload, match[2]))
    value = known.get(match[1])
    return match[0] if value is None else str(value)


def _look_up(payload: Any, path: str | None) -> Any:
    for key in (path or "").split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload


def _text(value: Any) -> str:
    return "" if value is None else str(value)
