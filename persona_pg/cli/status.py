"""persona status, persona stats."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app

if TYPE_CHECKING:
    from persona_pg.model import DashboardJob, Runner, Summary

_RUNNING_SHOWN = 10


@click.command("status")
@output.json_option
@pass_app
def status_command(app: App, as_json: bool) -> None:
    """Show how many jobs there are, what runs now, today's cost and unseen alerts."""
    queue = app.queue
    summary = queue.job_summary()
    runners = [runner for runner in queue.runners() if runner.status != "gone"]
    if as_json:
        output.put_json(_document(summary, runners))
        return
    running = queue.list_jobs(status="running", max_rows=_RUNNING_SHOWN) if summary.running else []
    _show(summary, runners, running)


def _document(summary: Summary, runners: list[Runner]) -> dict[str, Any]:
    live = [runner for runner in runners if runner.is_live]
    return documents.of(summary) | {
        "runners": {
            "live": len(live),
            "capacity": sum(runner.capacity for runner in live),
            "lost": sum(runner.status == "lost" for runner in runners),
        }
    }


def _show(summary: Summary, runners: list[Runner], running: list[DashboardJob]) -> None:
    counts = asdict(summary)
    waiting = f" (oldest {output.duration(summary.oldest_pending_seconds)})"
    unfinished = [
        _count(counts, "pending") + (waiting if summary.pending else ""),
        *(_count(counts, name) for name in ("running", "hung", "held", "blocked")),
    ]
    output.put("queue     " + ", ".join(unfinished))
    ended = (_count(counts, name) for name in ("completed", "failed", "cancelled"))
    output.put("ended     " + ", ".join(ended))
    output.put("runners   " + _runners(runners, summary))
    output.put(f"cost      {output.money(summary.cost_today) or '$0.00'} today")
    alerts = summary.unseen_alerts
    output.put("alerts    " + (output.styled(f"{alerts} unseen", "hung") if alerts else "none"))
    for job in running:
        state = output.styled("hung" if job.hung else "running")
        what = output.cut(output.clean(job.task_preview or ""), _room())
        took = output.duration(job.duration_seconds)
        output.put(f"{state:<9} {job.short_id}  {job.agent}  {took}  {what}".rstrip())


def _count(counts: dict[str, Any], name: str) -> str:
    text = f"{counts[name]} {name}"
    return output.styled(text, name) if counts[name] else text


def _room() -> int:
    width = output.terminal_width()
    return 200 if width is None else max(10, width - 50)


def _runners(runners: list[Runner], summary: Summary) -> str:
    live = [runner for runner in runners if runner.is_live]
    draining = sum(runner.status == "draining" for runner in runners)
    lost = [runner.name for runner in runners if runner.status == "lost"]
    parts = [f"{len(live)} live"]
    if live:
        used = sum(runner.running for runner in live)
        parts.append(f"{used} of {sum(runner.capacity for runner in live)} places in use")
    elif summary.pending:
        parts.append("start one with: persona-worker")
    if draining:
        parts.append(f"{draining} draining")
    if lost:
        parts.append(output.styled(f"lost: {', '.join(lost)}", "lost"))
    return ", ".join(parts)


@click.command("stats")
@click.option("--by-day", "view", flag_value="cost_by_day", help="Cost by day instead.")
@click.option("--by-hour", "view", flag_value="throughput_by_hour", help="Jobs by hour instead.")
@output.listing_options
@pass_app
def stats_command(app: App, view: str | None, as_json: bool, as_jsonl: bool) -> None:
    """Show success rates and durations by job type; or cost by day, or jobs by hour."""
    if view is None:
        output.put_listing(
            app.queue.statistics(),
            _BY_TYPE,
            document=documents.of,
            as_json=as_json,
            as_jsonl=as_jsonl,
            empty="no jobs yet",
        )
        return
    rows = app.queue.view(view)
    names = list(rows[0]) if rows else []
    output.put_listing(
        rows,
        [_view_column(name) for name in names],
        document=lambda row: {documents.camel(key): value for key, value in row.items()},
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="nothing yet",
    )


def _view_column(name: str) -> output.Column:
    def text(row: dict[str, Any]) -> str:
        value = row[name]
        if name.endswith("_usd") or name == "cost":
            return output.money(value)
        return "" if value is None else str(output.plain(value))

    return output.Column(name.replace("_", " "), text, right=name not in {"day", "hour", "agent"})


def _rate(value: Any) -> str:
    return "" if value is None else f"{float(value) * 100:.0f} %"


_BY_TYPE = [
    output.Column("type", lambda r: r.job_type),
    output.Column("total", lambda r: str(r.total), right=True),
    output.Column("completed", lambda r: str(r.completed), right=True),
    output.Column("failed", lambda r: str(r.failed), right=True),
    output.Column("cancelled", lambda r: str(r.cancelled), right=True, rank=2),
    output.Column("success", lambda r: _rate(r.success_rate), right=True),
    output.Column("mean", lambda r: output.duration(r.mean_seconds), right=True, rank=1),
    output.Column("p50", lambda r: output.duration(r.p50_seconds), right=True),
    output.Column("p95", lambda r: output.duration(r.p95_seconds), right=True),
]
