"""persona jobs, persona tree, persona explain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from persona_pg.model import DashboardJob, FullJob, TreeNode
    from persona_pg.queue import Queue

_PAGE = 200

STATUSES = (
    "blocked",
    "pending",
    "running",
    "held",
    "completed",
    "failed",
    "cancelled",
    "hung",
)


def _status(job: DashboardJob) -> str:
    return "hung" if job.hung else job.status


def _note(job: DashboardJob) -> str:
    """Say the one thing beside the task that matters now."""
    if job.status == "failed":
        return job.error or ""
    return job.waiting_for or ""


JOB_COLUMNS = [
    output.Column("id", lambda j: j.short_id),
    output.Column("type", lambda j: j.job_type, rank=2),
    output.Column("status", _status, style=_status),
    output.Column("agent", lambda j: j.agent, rank=1),
    output.Column("try", lambda j: f"{j.attempt}/{j.max_attempts}", rank=4),
    output.Column("took", lambda j: output.duration(j.duration_seconds), right=True),
    output.Column("created", lambda j: output.age(j.created_at), right=True, rank=3),
    output.Column("note", _note, flexible=True, rank=5),
    output.Column("task", lambda j: j.task_preview or "", flexible=True),
]


@click.command("jobs")
@click.option("-s", "--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("-a", "--agent", help="Only this agent's.")
@click.option("-t", "--type", "job_type", help="Only of this type.")
@click.option(
    "-n",
    "max_rows",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="How many at most.",
)
@click.option("--before", metavar="ID", help="Only those created before this job (the next page).")
@output.listing_options
@pass_app
def jobs_command(
    app: App,
    *,
    status: str | None,
    agent: str | None,
    job_type: str | None,
    max_rows: int,
    before: str | None,
    as_json: bool,
    as_jsonl: bool,
) -> None:
    """List jobs, newest first."""
    queue = app.queue
    before_id = None if before is None else queue.resolve_job(before)
    chosen = {"status": status, "agent": agent, "job_type": job_type}
    if as_json:
        full = _pages(queue, chosen, max_rows, before_id)
        output.put_json([documents.of_job(job) for job in full])
    elif as_jsonl:
        output.put_jsonl(map(documents.of_job, _pages(queue, chosen, max_rows, before_id)))
    else:
        rows = queue.list_jobs(**chosen, max_rows=max_rows, before=before_id)
        output.put_listing(rows, JOB_COLUMNS, document=documents.of, empty="no jobs")


def _pages(
    queue: Queue, chosen: dict[str, str | None], count: int, before: UUID | None
) -> Iterator[FullJob]:
    """Yield jobs with a page in memory at a time: their answers may be long."""
    while count > 0:
        page = queue.list_full_jobs(**chosen, max_rows=min(count, _PAGE), before=before)
        yield from page
        count -= _PAGE
        if len(page) < _PAGE:
            return
        before = page[-1].id


@click.command("tree")
@click.argument("ref", metavar="ID")
@output.json_option
@pass_app
def tree_command(app: App, ref: str, as_json: bool) -> None:
    """Draw a job and what it delegated, with status, duration and agent."""
    nodes = app.queue.get_job_tree(ref)
    if as_json:
        output.put_json([documents.of(node) for node in nodes])
        return
    for line in _drawn(nodes):
        output.put(line)


def _drawn(nodes: list[TreeNode]) -> list[str]:
    """Draw the branches; the rows come parents before children."""
    below: dict[object, list[TreeNode]] = {}
    for node in nodes[1:]:
        below.setdefault(node.parent_job_id, []).append(node)
    lines: list[str] = []
    # A stack, not recursion: how deep a tree may go is a setting of the database.
    stack = [(nodes[0], "", "")]
    while stack:
        node, branch, indent = stack.pop()
        lines.append(branch + _label(node, len(branch)))
        children = below.get(node.job_id, [])
        for i, child in reversed(list(enumerate(children))):
            last = i == len(children) - 1
            stack.append(
                (child, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "))
            )
    return lines


def _label(node: TreeNode, indent: int) -> str:
    took = output.duration(node.duration_seconds)
    start = f"{node.short_id}  {node.status}  "
    rest = "  ".join(part for part in (took, node.agent, node.job_type) if part)
    width = output.terminal_width()
    task = output.clean(node.task_preview or "")
    if width is not None:
        task = output.cut(task, max(8, width - indent - len(start) - len(rest) - 2))
    label = f"{node.short_id}  {output.styled(node.status)}  {output.clean(rest)}"
    return f"{label}  {task}" if task else label


@click.command("explain")
@click.argument("ref", metavar="ID")
@output.json_option
@pass_app
def explain_command(app: App, ref: str, as_json: bool) -> None:
    """Say in one line why a job is not running, or what became of it."""
    line = app.queue.explain_job(ref)
    if as_json:
        output.put_json({"id": app.queue.resolve_job(ref), "explanation": line})
    else:
        output.put(output.clean(line))
