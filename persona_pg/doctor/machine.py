"""Checks of the machine on which the doctor is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from persona_pg.doctor.finding import Finding
from persona_pg.runner import control

if TYPE_CHECKING:
    from persona_pg.settings import Settings


def process_control(settings: Settings) -> Finding:
    """Look at what keeps a job's processes together here."""
    chosen = control.choose(settings.process_control)
    if chosen.kind in (settings.process_control, "cgroup"):
        return Finding("process control", "ok", chosen.kind)
    return Finding(
        "process control",
        "ok" if settings.process_control == "auto" else "warn",
        f"{chosen.kind} ({chosen.why}), as seen from here; a runner says at its start what it uses",
        "Delegate=yes in the runner's unit gives each execution a control group.",
    )


def folder(settings: Settings) -> Finding:
    """Whether a runner can keep what it has to keep."""
    home = settings.home
    there = home
    while not os.path.lexists(there):
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK):
        return Finding("folder", "ok", str(home))
    return Finding(
        "folder",
        "fail",
        f"{home} may not be written to" if there.is_dir() else f"{there} is no folder",
        "A runner keeps its lock, its sockets and what an outage held up there: set PERSONA_HOME.",
    )
