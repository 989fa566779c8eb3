"""Whether we are inside a job, and in which."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

_NAMES = ("PERSONA_JOB_ID", "PERSONA_SOCKET")


def job_environment() -> dict[str, str] | None:
    """Return what the runner told the job we are in; None outside of jobs.

    Some agent programs (Codex, for one) start their MCP servers with a cleaned environment.  Then
    the nearest process above us that knows says it: an agent must not get the tools for the whole
    queue just because its program forgot to pass two variables on.
    """
    if _NAMES[0] in os.environ:
        return _of(dict(os.environ))
    with suppress(psutil.Error):
        for process in psutil.Process().parents():
            with suppress(psutil.Error):  # another user's: its job would be no business of ours
                environment = process.environ()
                if _NAMES[0] in environment:
                    return _of(environment)
    return None


def _of(environment: dict[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _NAMES if name in environment}
