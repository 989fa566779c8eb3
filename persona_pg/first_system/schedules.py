"""config/schedules.yaml: schedules and event triggers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_pg.first_system.reading import BrokenFile, clean, first, name, read_text, read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from persona_pg.first_system.leftovers import Leftover
    from persona_pg.first_system.report import FileReport
    from persona_pg.first_system.writer import Writer


@dataclass
class Schedules:
    """What one file asks for."""

    # name, cron expression, arguments of create_job
    schedules: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def read(path: Path, business: str) -> Schedules:
    """Read the file: {schedules: {agent: [{name, cron, action}]}, event_triggers: {...}}."""
    document = read_yaml(read_text(path))
    if not isinstance(document, dict):
        raise BrokenFile("it is no mapping")
    found = Schedules()
    by_agent = document.get("schedules") or {}
    if not isinstance(by_agent, dict):
        raise BrokenFile("'schedules' in it is no mapping of agents")
    for agent, items in by_agent.items():
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise BrokenFile(f"the schedules of {agent!r} are no list")
        for item in items:
            _schedule(found, business, str(agent), item)
    triggers = document.get("event_triggers") or {}
    for trigger in triggers if isinstance(triggers, dict) else ():
        found.skipped.append((str(trigger), _why_no_trigger(triggers[trigger])))
    return found


def _schedule(found: Schedules, business: str, agent: str, item: dict[str, Any]) -> None:
    action = first(item, "action", "name")
    cron = first(item, "cron", "schedule")
    what = f"{agent}/{action}"
    if action is None or cron is None:
        found.skipped.append((what, "it names no action or no time"))
        return
    if item.get("enabled") is False:
        found.skipped.append((what, "it was switched off"))
        return
    job = {
        "job_type": "agent_action",
        "agent": name(agent),
        "payload": {"action": str(action)},
        "business": business,
        "tags": ["first-system"],
    }
    found.schedules.append(
        (f"{name(business)}.{name(agent)}.{name(action)}", str(cron), clean(job))
    )


def _why_no_trigger(trigger: Any) -> str:
    path = str(trigger.get("path", "")) if isinstance(trigger, dict) else ""
    if "daily" in path.lower():
        return "daily notes are watched by: persona notes watch"
    return "there are no triggers on files: let a watcher of yours call persona create"


def save(
    writer: Writer, found: Schedules, report: FileReport, left: Sequence[Leftover], zone: str
) -> None:
    """Create the schedules that do not exist yet.

    One that the first system still starts is paused: nothing shall run twice.
    """
    for what, reason in found.skipped:
        report.skip(what, reason)
    accepted = writer.arguments("create_schedule")
    for called, cron, job in found.schedules:
        if not {"name", "spec", "job"} <= accepted:
            report.skip(called, "this schema has no schedules: persona db migrate, then again")
            continue
        if writer.has_schedule(called):
            report.unchanged += 1
            continue
        given: dict[str, Any] = {"name": called, "spec": cron, "job": job, "time_zone": zone}
        if _is_set_up(job, left):
            if "is_paused" not in accepted:
                report.skip(called, "the first system still starts it; remove that, then again")
                continue
            given["is_paused"] = True
            report.notes.append(f"{called} is paused, because the first system still starts it")
        writer.create_schedule({key: given[key] for key in given if key in accepted})
        report.imported += 1


def _is_set_up(job: dict[str, Any], left: Sequence[Leftover]) -> bool:
    """Tell whether launchd or cron still starts that agent with that action."""
    return any(
        job["agent"] in one.what and job["payload"]["action"] in one.what
        for one in left
        if one.what.startswith(("launchd:", "cron:"))
    )


def local_zone(environ: Mapping[str, str]) -> str:
    """Name the zone of this machine, in which launchd and cron read their times."""
    if re.fullmatch(r"[A-Za-z0-9_/+-]+", zone := environ.get("TZ", "")):
        return zone
    _, found, zone = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")
    return zone if found else "UTC"
