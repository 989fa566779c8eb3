"""What a service has to know of the user who installs it, and what stands against it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from persona_pg.embedded import is_configured
from persona_pg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from persona_pg.model import Agent
    from persona_pg.settings import Settings

# Time for the last reports after the drain and the grace.
_LAST_WORDS = 20
# Where libpq finds a server; without PERSONA_DATABASE_URL these say it all.
_LIBPQ = "PG"
_NEVER = frozenset({"PERSONA_JOB_ID", "PERSONA_DEBUG"})


@dataclass(frozen=True)
class Plan:
    """Everything that the files of a service are made from."""

    worker: Path
    persona: Path
    arguments: tuple[str, ...]
    path: str
    home: Path
    state: Path
    stop_seconds: int
    is_embedded: bool
    # Goes into a file that only the user can read: addresses with passwords, keys.
    secrets: Mapping[str, str] = field(default_factory=dict)
    # Folders that jobs work on.
    writable: tuple[str, ...] = ()


def make(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    arguments: Sequence[str] = (),
    passed: Sequence[str] = (),
) -> Plan:
    """Record the user's surroundings as they are now."""
    absent = [name for name in passed if not environ.get(name)]
    if absent:
        raise ConfigurationError(f"--pass: {absent[0]} is not set in this environment")
    grace = settings.drain_timeout + settings.kill_grace
    return Plan(
        worker=_program("persona-worker"),
        persona=_program("persona"),
        arguments=tuple(arguments),
        path=search_path(environ),
        home=Path(environ.get("HOME") or "~").expanduser(),
        state=settings.home,
        stop_seconds=int(grace.total_seconds()) + _LAST_WORDS,
        is_embedded=not is_configured(settings),
        secrets=_recorded(settings, environ, passed),
        writable=tuple(str(f) for f in (settings.vault_path, settings.root) if f is not None),
    )


def search_path(environ: Mapping[str, str]) -> str:
    """Return PATH without what depends on the folder somebody stands in, and without repeats."""
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(dict.fromkeys(f for f in folders if f.startswith("/")))


def missing_programs(
    agents: Sequence[Agent], path: str, served: Sequence[str]
) -> dict[str, list[str]]:
    """Return the programs that are not on *path*, with the enabled agents that need them."""
    missing: dict[str, list[str]] = {}
    for agent in agents:
        if not agent.is_active or agent.is_external or (served and agent.name not in served):
            continue
        for program in {*agent.argv[:1], *agent.launcher[:1]}:
            # What a placeholder stands for is known once there is a job.
            if "{" not in program and shutil.which(program, path=path) is None:
                missing.setdefault(program, []).append(agent.name)
    return missing


def warning(environ: Mapping[str, str], passed: Sequence[str], *, is_inherited: bool) -> str | None:
    """Say about the key that turns a subscription into bills what the user may not expect.

    *is_inherited*: the service manager itself has it, and gives it to every service.
    """
    key = "ANTHROPIC_API_KEY"
    if key in passed or is_inherited:
        why = "" if key in passed else " (the service manager has it in its environment)"
        return (
            f"{key} goes with the service{why}: claude prefers it to the login of a subscription,"
            " so what its agents do is billed to that key"
        )
    if environ.get(key):
        return (
            f"{key} is set here but does not go with the service, so claude's login is used;"
            f" --pass {key} takes it along, and then that key is billed"
        )
    return None


def _program(name: str) -> Path:
    beside = Path(sys.executable).parent / name
    found = beside if beside.exists() else shutil.which(name)
    if found is None:
        raise ConfigurationError(f"{name} is neither beside {sys.executable} nor on PATH")
    return Path(found).absolute()


def _recorded(
    settings: Settings, environ: Mapping[str, str], passed: Sequence[str]
) -> dict[str, str]:
    """Return what was configured in the environment: the service starts without it."""
    names = {name for name, source in settings.sources.items() if source == "environment"}
    names |= {name for name in environ if name.startswith(_LIBPQ) and name.isupper()}
    names |= {"PERSONA_ENV_FILE", *passed}
    return {name: environ[name] for name in sorted(names - _NEVER) if environ.get(name, "").strip()}
