"""What each page shows: it is loaded through the views and functions, and a template writes it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from persona_pg import schedules
from persona_pg.errors import InvalidInput, JobNotFound
from persona_pg.web import plots
from persona_pg.web.jobpage import load_job, load_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.web.sources import Source

Context = dict[str, Any]
Query = dict[str, str]

STATUSES = ("pending", "running", "hung", "held", "blocked", "completed", "failed", "cancelled")
SORTS = {
    "newest": "newest first",
    "oldest": "oldest first",
    "ended": "ended last",
    "duration": "longest",
    "cost": "most expensive",
    "priority": "highest priority",
}
SPANS = {
    "1h": ("last hour", timedelta(hours=1), 60),
    "24h": ("last 24 hours", timedelta(hours=24), 96),
    "7d": ("last 7 days", timedelta(days=7), 84),
}
_PAGE_ROWS = 50
_FILTERS = ("status", "agent", "type", "business", "tag", "q", "sort", "after")
_MOST_ALERTS = 200
_COST_DAYS = 30


@dataclass(frozen=True)
class Page:
    """A kind of page."""

    name: str
    path: re.Pattern[str]
    load: Callable[[Source, Query, tuple[str, ...]], Context]

    @property
    def template(self) -> str:
        """Name of its template."""
        return f"{self.name}.html"


def find(url: str) -> tuple[Page, Query, tuple[str, ...]] | None:
    """Find the page of a path with its query."""
    path, _, text = url.partition("?")
    for page in PAGES:
        if match := page.path.fullmatch(path):
            query = {k: v for k, v in parse_qsl(text) if v.strip()}
            return page, query, match.groups()
    return None


def _overview(source: Source, _query: Query, _parts: tuple[str, ...]) -> Context:
    snapshot = source.queue.monitor_snapshot(12)
    return {
        "snapshot": snapshot,
        "summary": snapshot["summary"],
        "failures": source.looks.failures(timedelta(hours=24)),
        "runners": [r for r in source.queue.runners() if r.status != "gone"],
        "gates": source.queue.gates(),
        "limits": source.queue.limits(),
        "budgets": _budgets(source),
        "throughput": plots.minutes(snapshot),
    }


def _budgets(source: Source) -> list[Context]:
    return [asdict(b) for b in source.queue.budgets()]


def _jobs(source: Source, query: Query, _parts: tuple[str, ...]) -> Context:
    wanted = {name: query[name] for name in _FILTERS if name in query}
    rows = source.looks.search_jobs(
        status=wanted.get("status"),
        agent=wanted.get("agent"),
        job_type=wanted.get("type"),
        business=wanted.get("business"),
        tag=wanted.get("tag"),
        search=wanted.get("q"),
        sort=wanted.get("sort"),
        after=wanted.get("after"),
        max_rows=_PAGE_ROWS + 1,
    )
    jobs = [row for row in rows if row["id"] is not None][:_PAGE_ROWS]
    first = {name: value for name, value in wanted.items() if name != "after"}
    more = None
    if len(rows) > _PAGE_ROWS:
        more = _url("/jobs", first | {"after": rows[_PAGE_ROWS - 1]["place"]})
    elif len(rows) > len(jobs):
        more = _url("/jobs", first | {"after": rows[-1]["place"]})
    return {
        "jobs": jobs,
        "wanted": wanted,
        "statuses": STATUSES,
        "sorts": SORTS,
        "agents": source.looks.agents(),
        "types": [t["name"] for t in source.looks.job_types()],
        "first": _url("/jobs", first) if "after" in wanted else None,
        "more": more,
        "is_cut": len(rows) > len(jobs) and len(jobs) < _PAGE_ROWS,
        "link": lambda **change: _url("/jobs", _changed(first, change)),
    }


def _changed(first: Query, change: dict[str, str | None]) -> Query:
    return {k: v for k, v in (first | change).items() if v}


def _url(path: str, query: Query) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _agents(source: Source, _query: Query, _parts: tuple[str, ...]) -> Context:
    return {
        "agents": source.queue.list_agents(),
        "limits": source.queue.limits(),
        "gates": source.queue.gates(),
    }


def _agent(source: Source, _query: Query, parts: tuple[str, ...]) -> Context:
    agent = source.queue.get_agent(parts[0])
    [load] = [a for a in source.queue.list_agents() if a.agent == agent.name]
    return {
        "agent": agent,
        "load": load,
        "recent": [r for r in source.looks.search_jobs(agent=agent.name, max_rows=20) if r["id"]],
    }


def _schedules(source: Source, _query: Query, _parts: tuple[str, ...]) -> Context:
    now = source.plans.now()
    rows = source.plans.schedules()
    for row in rows:
        row["coming"] = [] if row["is_paused"] or row["is_done"] else _coming(row, now)
        row["runs"] = source.plans.runs(row["name"], 10)
    return {"schedules": rows}


def _coming(row: Context, now: Any) -> list[Any]:
    spec = row["spec"]
    if spec.lower().startswith(("@every", "@at")):
        due, every = row["next_due_at"], row["every"]
        return [] if due is None else [due + n * every for n in range(3)] if every else [due]
    try:
        return list(islice(schedules.times(spec, row["time_zone"], now), 3))
    except schedules.BadSchedule:
        return []


def _spent(source: Source, days: int) -> list[Context]:
    return source.memo.get(("costs", days), lambda: source.looks.costs(days))


def _costs(source: Source, query: Query, _parts: tuple[str, ...]) -> Context:
    days = int(query["days"]) if query.get("days") in {"7", "30", "90"} else _COST_DAYS
    rows = _spent(source, days)
    return {
        "days": days,
        "total": sum(row["cost_usd"] for row in rows),
        "executions": sum(row["executions"] for row in rows),
        "by_day": plots.by_day(rows, days, source.plans.now()),
        "tables": {
            title: plots.summed(rows, key)
            for title, key in (
                ("Agent", "agent"),
                ("Job type", "job_type"),
                ("Model", "model"),
                ("Business", "business"),
            )
        },
        "budgets": _budgets(source),
    }


def _runners(source: Source, _query: Query, _parts: tuple[str, ...]) -> Context:
    return {
        "runners": source.queue.runners(),
        "running": [r for r in source.looks.search_jobs(status="running", max_rows=200) if r["id"]],
        "gantt": plots.gantt(
            source.looks.executions(timedelta(hours=1), 1500),
            source.plans.now(),
            timedelta(hours=1),
        ),
    }


def _alerts(source: Source, query: Query, _parts: tuple[str, ...]) -> Context:
    unseen = query.get("all") != "1"
    alerts = source.plans.alerts(_MOST_ALERTS, unseen=unseen)
    return {"alerts": alerts, "unseen": unseen, "rules": source.plans.rules()}


def _questions(source: Source, _query: Query, _parts: tuple[str, ...]) -> Context:
    return {"questions": source.queue.open_questions()}


def _plots(source: Source, query: Query, _parts: tuple[str, ...]) -> Context:
    chosen = query.get("span", "24h")
    if chosen not in SPANS:
        raise InvalidInput(f"span {chosen!r}: one of {', '.join(SPANS)}")
    title, span, buckets = SPANS[chosen]
    looks, kept = source.looks, source.memo.get
    through = kept(("throughput", chosen), lambda: looks.throughput(span, buckets))
    waits = kept(("waits", chosen), lambda: looks.waits(span, buckets))
    durations = kept(("durations", chosen), lambda: looks.durations(span))
    now = source.plans.now()
    return {
        "spans": {name: words for name, (words, _, _) in SPANS.items()},
        "chosen": chosen,
        "title": title,
        "throughput": plots.bars(through, ("completed", "failed", "otherwise")),
        "created": plots.bars(through, ("created",)),
        "depth": plots.area(through, "pending"),
        "waits": plots.lines(waits, ("p50_seconds", "max_seconds")),
        "durations": plots.ranges(durations[:16]),
        "costs": plots.by_day(_spent(source, _COST_DAYS), _COST_DAYS, now),
        "gantt": plots.gantt(
            source.looks.executions(timedelta(hours=1), 1500), now, timedelta(hours=1)
        ),
    }


def _new(source: Source, query: Query, _parts: tuple[str, ...]) -> Context:
    return {
        "agents": source.looks.agents(active=True),
        "types": source.looks.job_types(),
        "given": query,
    }


def _one_job(source: Source, query: Query, parts: tuple[str, ...]) -> Context:
    return load_job(source, query, parts[0])


def _job_log(source: Source, query: Query, parts: tuple[str, ...]) -> Context:
    return load_log(source, query, parts[0])


def jump(source: Source, text: str) -> str | None:
    """Return the page of a job whose id, or the beginning of it, somebody searched for."""
    try:
        return f"/jobs/{source.queue.resolve_job(text.lower())}"
    except (JobNotFound, InvalidInput):
        return None


def _page(name: str, path: str, load: Any) -> Page:
    return Page(name, re.compile(path), load)


_ID = "([0-9a-f-]{4,36})"
PAGES = (
    _page("overview", "/", _overview),
    _page("jobs", "/jobs", _jobs),
    _page("new", "/jobs/new", _new),
    _page("job", f"/jobs/{_ID}", _one_job),
    _page("log", f"/jobs/{_ID}/log", _job_log),
    _page("agents", "/agents", _agents),
    _page("agent", "/agents/([^/]{1,100})", _agent),
    _page("schedules", "/schedules", _schedules),
    _page("costs", "/costs", _costs),
    _page("runners", "/runners", _runners),
    _page("alerts", "/alerts", _alerts),
    _page("questions", "/questions", _questions),
    _page("plots", "/plots", _plots),
)
