"""Every button: one SQL function each, which decides whether it may be.

The answer is JSON for the page's script, and a small page of its own where there is none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from persona_pg.errors import InvalidInput
from persona_pg.model import new_job_id
from persona_pg.settings import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from persona_pg.web.sources import Source

Form = dict[str, str]


@dataclass(frozen=True)
class Done:
    """What was done, and where to look now."""

    words: str
    goto: str | None = None


@dataclass(frozen=True)
class Action:
    """A button: the function that it calls, which says who may press it."""

    function: str
    work: Callable[[Source, Form], Done]


def _needed(form: Form, name: str) -> str:
    if not (value := form.get(name, "").strip()):
        raise InvalidInput(f"{name} is missing")
    return value


def _given(form: Form, name: str) -> str | None:
    return form.get(name, "").strip() or None


def _number(form: Form, name: str) -> int | None:
    text = _given(form, name)
    try:
        return None if text is None else int(text)
    except ValueError:
        raise InvalidInput(f"{name} is {text!r}: a whole number is needed") from None


def _duration(form: Form, name: str) -> timedelta | None:
    text = _given(form, name)
    try:
        return None if text is None else parse_duration(text)
    except ValueError:
        raise InvalidInput(
            f"{name} is {text!r}: a duration such as 30s, 5m, 2h or 1d is needed"
        ) from None


def _create(source: Source, form: Form) -> Done:
    payload: Any = {}
    if text := _given(form, "payload"):
        try:
            payload = json.loads(text)
        except ValueError as exc:
            raise InvalidInput(f"payload is no JSON: {exc}") from None
        if not isinstance(payload, dict):
            raise InvalidInput("payload must be a JSON object")
    if prompt := _given(form, "prompt"):
        payload["prompt"] = prompt
    ident = _given(form, "id")
    try:
        job_id = UUID(ident) if ident else new_job_id()
    except ValueError:
        raise InvalidInput(f"id is {ident!r}: a UUID is needed") from None
    job = source.queue.create_job(
        _needed(form, "job_type"),
        payload,
        # Made with the form: one that is sent twice makes one job.
        id=job_id,
        agent=_given(form, "agent"),
        priority=_number(form, "priority"),
        delay=_duration(form, "delay"),
        timeout=_duration(form, "timeout"),
        max_attempts=_number(form, "max_attempts"),
        lock_key=_given(form, "lock_key"),
        business=_given(form, "business"),
        tags=(form.get("tags", "").replace(",", " ").split()) or None,
        depends_on=[
            source.queue.resolve_job(ref) for ref in form.get("after", "").replace(",", " ").split()
        ]
        or None,
    )
    return Done(f"created job {job.short_id}", f"/jobs/{job.id}")


def _cancel(source: Source, form: Form) -> Done:
    job = source.queue.cancel_job(
        _needed(form, "ref"), _given(form, "reason"), force=form.get("force") == "1"
    )
    if job.status == "cancelled":
        return Done(f"job {job.short_id} is cancelled")
    return Done(f"job {job.short_id} is being stopped by its runner")


def _retry(source: Source, form: Form) -> Done:
    job = source.queue.retry_job(_needed(form, "ref"))
    return Done(f"job {job.short_id} is {job.status} again")


def _hold(source: Source, form: Form) -> Done:
    job = source.queue.hold_job(_needed(form, "ref"), _given(form, "reason"))
    return Done(
        f"job {job.short_id} is held"
        if job.status == "held"
        else f"job {job.short_id} will be held"
    )


def _release(source: Source, form: Form) -> Done:
    job = source.queue.release_job(_needed(form, "ref"))
    return Done(f"job {job.short_id} is {job.status}")


def _answer(source: Source, form: Form) -> Done:
    job = source.queue.answer_job(_needed(form, "ref"), _needed(form, "answer"))
    return Done(f"answered; job {job.short_id} goes on")


def _approve(source: Source, form: Form) -> Done:
    job = source.queue.release_job(_needed(form, "ref"))
    return Done(f"approved; job {job.short_id} is {job.status}")


def _seen(source: Source, form: Form) -> Done:
    return Done(f"{source.plans.acknowledge(_number(form, 'up_to'))} alerts marked as seen")


def _open_gate(source: Source, form: Form) -> Done:
    gate = source.queue.open_gate(_needed(form, "provider"), form.get("account", ""))
    return Done(f"the gate of {gate.provider} is {gate.state}")


def _schedule(function: str, words: str) -> Callable[[Source, Form], Done]:
    def work(source: Source, form: Form) -> Done:
        found = source.plans.change_schedule(function, _needed(form, "name"))
        return Done(f"schedule {found['name']} {words}")

    return work


def _drain(source: Source, form: Form) -> Done:
    name = source.queue.drain_runner(_needed(form, "ref"))
    return Done(f"runner {name} takes no more jobs and ends when its running ones have")


def _activate(source: Source, form: Form) -> Done:
    agent = source.queue.set_agent_active(_needed(form, "name"), form.get("active") == "1")
    return Done(f"agent {agent.name} is {'enabled' if agent.is_active else 'disabled'}")


ACTIONS = {
    "create": Action("create_job", _create),
    "cancel": Action("cancel_job", _cancel),
    "retry": Action("retry_job", _retry),
    "hold": Action("hold_job", _hold),
    "release": Action("release_job", _release),
    "answer": Action("answer_job", _answer),
    "approve": Action("release_job", _approve),
    "seen": Action("acknowledge_alerts", _seen),
    "open-gate": Action("open_gate", _open_gate),
    "pause": Action("pause_schedule", _schedule("pause_schedule", "is paused")),
    "resume": Action("resume_schedule", _schedule("resume_schedule", "goes on")),
    "drain": Action("drain_runner", _drain),
    "agent": Action("set_agent_active", _activate),
}
