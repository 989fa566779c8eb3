"""The files of a service, as text: systemd units and launchd property lists."""

from __future__ import annotations

import plistlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona_pg import wholefile

if TYPE_CHECKING:
    from pathlib import Path

    from persona_pg.service.plan import Plan

MARK = "# Made by `persona service install`; it is written anew each time."
RUNNER = "persona-runner.service"
POSTGRES = "persona-postgres.service"
RUNNER_LABEL = "io.persona-pg.runner"
POSTGRES_LABEL = "io.persona-pg.postgres"
# A wrong configuration does not become right by starting again.
_CONFIGURATION = 78


@dataclass(frozen=True)
class ServiceFile:
    """A file to write."""

    path: Path
    text: str
    mode: int = 0o644

    def is_written(self) -> bool:
        """Tell whether it is there as it should be."""
        try:
            return self.path.read_text() == self.text
        except OSError:
            return False

    def write(self) -> None:
        """Write it, whole and never readable for more than its mode says."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        wholefile.write(self.path, self.text.encode(), self.mode)


def systemd(plan: Plan, folder: Path) -> list[ServiceFile]:
    """Return the units of the user, and the file with what nobody else may read."""
    files = [ServiceFile(folder / RUNNER, _runner_unit(plan))]
    if plan.is_embedded:
        files.append(ServiceFile(folder / POSTGRES, _postgres_unit(plan)))
    if plan.secrets:
        lines = [f"{name}={quoted_value(value)}\n" for name, value in plan.secrets.items()]
        files.append(ServiceFile(_environment_file(plan), f"{MARK}\n{''.join(lines)}", 0o600))
    return files


def _runner_unit(plan: Plan) -> str:
    # The server has a unit of its own: started by the runner it would be one of its processes.
    needs = f"Requires={POSTGRES}\nAfter={POSTGRES}\n" if plan.is_embedded else ""
    command = " ".join([quoted(str(plan.worker)), *map(_word, plan.arguments)])
    return f"""\
{MARK}
[Unit]
Description=Persona PG runner
{needs}
[Service]
Type=notify
# The guardian is the main process, the runner below it reports.
NotifyAccess=all
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
{_surroundings(plan)}
WatchdogSec=60
Restart=on-failure
RestartSec=5
RestartPreventExitStatus={_CONFIGURATION}
# The runner alone is asked to end: it lets its jobs finish, or gives them back.
KillMode=mixed
TimeoutStopSec={plan.stop_seconds}
# One job that takes too much memory is one failed job.
OOMPolicy=continue
Delegate=yes

[Install]
WantedBy=default.target
"""


def _postgres_unit(plan: Plan) -> str:
    persona = quoted(str(plan.persona))
    return f"""\
{MARK}
[Unit]
Description=Persona PG embedded PostgreSQL

[Service]
# Any command may have started the server before: then there is nothing left to do.
Type=oneshot
RemainAfterExit=yes
ExecStart={persona} db start
ExecStop={persona} db stop
{_surroundings(plan)}
TimeoutStartSec=120
TimeoutStopSec=120
KillMode=mixed
OOMPolicy=continue

[Install]
WantedBy=default.target
"""


def _surroundings(plan: Plan) -> str:
    lines = [f"Environment={quoted(f'PATH={plan.path}')}"]
    lines.append(f"Environment={quoted(f'HOME={plan.home}')}")
    if plan.secrets:
        lines.append(f"EnvironmentFile={_percent(str(_environment_file(plan)))}")
    return "\n".join(lines)


def _environment_file(plan: Plan) -> Path:
    return plan.state / "service.env"


def _word(text: str) -> str:
    """Write an argument, in which (not in the program's name) a dollar sign has to be doubled."""
    return quoted(text.replace("$", "$$"))


def quoted(text: str) -> str:
    """Write one word of a unit: quoted, and without the marks that systemd expands."""
    escaped = _percent(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[^\w/.:=@,+%$-]", escaped) else escaped


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def quoted_value(text: str) -> str:
    """Write a value in a file of variables."""
    return '"' + re.sub(r'(["\\`$])', r"\\\1", text) + '"'


def launchd(plan: Plan, folder: Path) -> list[ServiceFile]:
    """Return the property lists of the user; they hold keys, so nobody else may read them."""
    surroundings = {"PATH": plan.path, "HOME": str(plan.home), **plan.secrets}
    logs = plan.state / "logs"

    def agent(label: str, program: list[str], **more: Any) -> ServiceFile:
        log = str(logs / f"{label.rpartition('.')[2]}.log")
        body = {
            "Label": label,
            "ProgramArguments": program,
            "EnvironmentVariables": surroundings,
            "RunAtLoad": True,
            "StandardOutPath": log,
            "StandardErrorPath": log,
            **more,
        }
        text = plistlib.dumps(body, sort_keys=False).decode()
        return ServiceFile(folder / f"{label}.plist", text, 0o600)

    files = [
        agent(
            RUNNER_LABEL,
            [str(plan.worker), *plan.arguments],
            KeepAlive={"SuccessfulExit": False},
            ThrottleInterval=10,
            ExitTimeOut=plan.stop_seconds,
        )
    ]
    if plan.is_embedded:
        # The server goes on after the program that started it.
        files.append(
            agent(POSTGRES_LABEL, [str(plan.persona), "db", "start"], AbandonProcessGroup=True)
        )
    return files
