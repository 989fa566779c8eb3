"""The service of a whole system: a template unit of systemd, one runner for each instance."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from importlib.resources import files as resource
from pathlib import Path
from typing import TYPE_CHECKING

from persona_pg.errors import ConfigurationError
from persona_pg.service import files
from persona_pg.service import plan as plans
from persona_pg.service.files import MARK, ServiceFile
from persona_pg.service.manager import ServiceManagerError, State, is_ours, run, systemctl_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from persona_pg.service.plan import Plan

TEMPLATE = "persona-runner@.service"
# What a runner gets where nobody has said otherwise: not the PATH of who installs it.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HOMES = ("/home", "/root", "/run/user")
# These are the unit's affair.
_SET_BY_UNIT = frozenset({"PERSONA_HOME", "PERSONA_ENV_FILE", "HOME", "PATH"})


@dataclass(frozen=True)
class System:
    """The systemd of the machine; *root* is another folder than / where an image is made."""

    instance: str
    user: str
    root: Path = Path("/")

    def __post_init__(self) -> None:
        """Refuse what cannot be an instance."""
        if _INSTANCE.fullmatch(self.instance) is None:
            raise ConfigurationError(
                f"--name {self.instance[:100]!r}: letters, digits, '_', '.' and '-' are allowed in"
                " the name of a system's runner"
            )

    @property
    def unit(self) -> str:
        """Name of the unit of this instance."""
        return f"persona-runner@{self.instance}.service"

    @property
    def _units(self) -> Path:
        return self.root / "etc/systemd/system"

    @property
    def _variables(self) -> Path:
        return self.root / f"etc/persona/{self.instance}.env"

    def files(self, plan: Plan) -> list[ServiceFile]:
        """Return what there is to write."""
        lines = [f"WORKER_ARGUMENTS={' '.join(plan.arguments)}\n"]
        lines += [
            f"{name}={files.quoted_value(value)}\n"
            for name, value in plan.secrets.items()
            if name not in _SET_BY_UNIT
        ]
        return [
            ServiceFile(self._units / TEMPLATE, unit_text(plan, self.user)),
            ServiceFile(self._variables, f"{MARK}\n{''.join(lines)}", 0o600),
        ]

    def install(self, plan: Plan) -> list[str]:
        """Write the files, and start the runner unless an image is made; returns what was done."""
        if plan.is_embedded:
            raise ConfigurationError(
                "a system's runner needs a database of its own: set PERSONA_DATABASE_URL"
                " (the embedded server belongs to a user: persona service install --user)"
            )
        if self.root == Path("/"):
            self._check()
        # For secrets of agents by name; systemd wants it to be there.
        folder = self._variables.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        changed = [one for one in self.files(plan) if not one.is_written()]
        for one in changed:
            one.write()
        done = [f"wrote {one.path}" for one in changed]
        if self.root != Path("/"):
            return done
        was_active = self.status()[0].is_active
        self._systemctl("daemon-reload")
        self._systemctl("enable", "--now", self.unit)
        if changed and was_active:
            # It lets its jobs finish first; nobody waits here for that.
            self._systemctl("try-restart", "--no-block", self.unit)
        return [*done, f"enabled and started: {self.unit}"]

    def uninstall(self) -> list[str]:
        """Stop and remove the instance; its secrets and its home stay."""
        if not is_ours(self._variables):
            return []
        if self.root == Path("/"):
            self._systemctl("disable", "--now", self.unit)
        self._variables.unlink()
        done = [f"stopped and removed {self.unit}"]
        template = self._units / TEMPLATE
        if is_ours(template) and not any(map(is_ours, self._variables.parent.glob("*.env"))):
            template.unlink()
            done.append(f"removed {template}")
        if self.root == Path("/"):
            self._systemctl("daemon-reload")
        secrets = self._variables.with_suffix("")
        return [*done, f"kept {secrets} with its secrets, and /var/lib/persona/{self.instance}"]

    def status(self) -> list[State]:
        """Describe the instance."""
        return [
            State(
                self.unit,
                str(self._units / TEMPLATE),
                self._variables.exists(),
                run(["systemctl", "is-enabled", self.unit]).stdout.strip() == "enabled",
                run(["systemctl", "is-active", self.unit]).stdout.strip() or "unknown",
            )
        ]

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise ConfigurationError(
                "--system writes to /etc: run it as root, or --print shows the files"
            )
        try:
            account = pwd.getpwnam(self.user)
        except KeyError:
            raise ConfigurationError(
                f"--run-as: there is no user {self.user!r}; make one: useradd --system"
                f" --home-dir /var/lib/persona --shell /usr/sbin/nologin {self.user}"
            ) from None
        if account.pw_uid == 0:
            raise ConfigurationError(
                "--run-as root: every job would have the whole machine; name another user"
            )

    @staticmethod
    def _systemctl(*arguments: str) -> None:
        done = run(["systemctl", *arguments])
        if done.returncode != 0:
            raise ServiceManagerError(systemctl_error(arguments, done))


def unit_text(plan: Plan, user: str) -> str:
    """Fill in the template unit."""
    folders = [Path(path) for path in plan.writable]
    at_home = [path for path in folders if str(path).startswith(_HOMES)]
    writable = [path for path in folders if path not in at_home]
    lines = [f"ReadWritePaths={files.quoted('-' + str(path))}" for path in writable]
    # The homes of people are out of sight, but for what the runner works on.
    lines += [f"BindPaths={files.quoted(str(path))}" for path in at_home]
    text = (resource("persona_pg.service") / TEMPLATE).read_text()
    values = {
        "MARK": MARK,
        "WORKER": files.quoted(str(plan.worker)),
        "USER": user,
        "PATH": files.quoted(f"PATH={plan.path}"),
        "STOP": str(plan.stop_seconds),
        "WRITABLE": "\n".join(lines) or "# ReadWritePaths= names the folders that jobs may change.",
        "HOMES": "tmpfs" if at_home else "yes",
    }
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)


def hidden_programs(plan: Plan) -> list[str]:
    """Return the programs that the unit's sandbox hides, because they are in somebody's home."""
    found = [str(plan.worker), os.path.realpath(plan.worker.parent / "python3")]
    return [path for path in found if path.startswith(_HOMES)]


def search_path(environ: Mapping[str, str]) -> str:
    """Return the PATH for a system's runner: that of who installs it, without homes."""
    folders = plans.search_path(environ).split(os.pathsep)
    return os.pathsep.join(
        dict.fromkeys([f for f in folders if not f.startswith(_HOMES)] + PATH.split(os.pathsep))
    )
