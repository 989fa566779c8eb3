"""config/schedules.yaml: schedules and event triggers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persona_pg.first_system.reading import BrokenFile, clean, first, name, read_text, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

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


def save(writer: Writer, found: Schedules, report: FileReport) -> None:
    """Create the schedules that do not exist yet."""
    for what, reason in found.skipped:
        report.skip(what, reason)
    has_schedules = writer.has_function("create_schedule")
    for called, _, _ in found.schedules:
        if not has_schedules:
            report.skip(called, "this schema has no schedules: persona db migrate, then again")
