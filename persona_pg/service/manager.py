"""Talks to systemd or launchd through their own programs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona_pg.errors import PersonaError, one_line
from persona_pg.service import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from persona_pg.service.files import ServiceFile
    from persona_pg.service.plan import Plan


class ServiceManagerError(PersonaError):
    """The service manager did not do what it was asked."""


@dataclass(frozen=True)
class State:
    """One service, as the manager sees it."""

    name: str
    file: str
    is_installed: bool
    is_enabled: bool
    state: str

    @property
    def is_active(self) -> bool:
        """Tell whether it runs."""
        return self.state == "active"


class Systemd:
    """The systemd of the user."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        config = environ.get("XDG_CONFIG_HOME", "")
        base = Path(config) if config.startswith("/") else home / ".config"
        self.folder = base / "systemd" / "user"

    def files(self, plan: Plan) -> list[ServiceFile]:
        """Return what there is to write."""
        return files.systemd(plan, self.folder)

    def install(self, plan: Plan) -> list[str]:
        """Write the units and start them; returns what was done."""
        wanted = self.files(plan)
        changed = [one for one in wanted if not one.is_written()]
        for one in changed:
            one.write()
        units = [one.path.name for one in wanted if one.path.suffix == ".service"]
        done = [f"wrote {one.path}" for one in changed]
        if files.POSTGRES not in units:
            done += self._remove([self.folder / files.POSTGRES])
        was_active = self._ask("is-active", files.RUNNER) == "active"
        self._systemctl("daemon-reload")
        self._systemctl("enable", "--now", *units)
        if changed and was_active:
            # It lets its jobs finish first; nobody waits here for that.
            self._systemctl("try-restart", "--no-block", files.RUNNER)
        return [*done, f"enabled and started: {', '.join(units)}"]

    def uninstall(self, state: Path) -> list[str]:
        """Stop and remove the units; returns what was done."""
        units = [self.folder / name for name in (files.RUNNER, files.POSTGRES)]
        done = self._remove(units)
        if done:
            self._systemctl("daemon-reload")
        (state / "service.env").unlink(missing_ok=True)
        return done

    def _remove(self, units: Sequence[Path]) -> list[str]:
        done = []
        for unit in units:
            if is_ours(unit):
                self._systemctl("disable", "--now", unit.name)
                unit.unlink()
                done.append(f"stopped and removed {unit}")
        return done

    def status(self) -> list[State]:
        """Describe the units."""
        return [
            State(
                name,
                str(self.folder / name),
                (self.folder / name).exists(),
                self._ask("is-enabled", name) == "enabled",
                self._ask("is-active", name),
            )
            for name in (files.RUNNER, files.POSTGRES)
        ]

    def has_variable(self, name: str) -> bool:
        """Tell whether the manager gives its services this variable."""
        shown = run(["systemctl", "--user", "show-environment"]).stdout
        return any(line.startswith(f"{name}=") for line in shown.splitlines())

    def _systemctl(self, *arguments: str) -> None:
        done = run(["systemctl", "--user", *arguments])
        if done.returncode != 0:
            raise ServiceManagerError(
                systemctl_error(["--user", *arguments], done),
                hint="without a session of yours there is no user manager:"
                " loginctl enable-linger makes one",
            )

    def _ask(self, question: str, unit: str) -> str:
        return run(["systemctl", "--user", question, unit]).stdout.strip() or "unknown"


class Launchd:
    """The launchd of the user."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "Library" / "LaunchAgents"
        self._domain = f"gui/{os.getuid()}"

    def files(self, plan: Plan) -> list[ServiceFile]:
        """Return what there is to write."""
        return files.launchd(plan, self.folder)

    def install(self, plan: Plan) -> list[str]:
        """Write the property lists and load them; returns what was done."""
        (plan.state / "logs").mkdir(parents=True, exist_ok=True)
        done = []
        # The server first: the runner starts one of its own where it finds none.
        for one in reversed(self.files(plan)):
            label = one.path.stem
            is_loaded = run(["launchctl", "print", f"{self._domain}/{label}"]).returncode == 0
            if one.is_written() and is_loaded:
                continue
            one.write()
            if is_loaded:
                run(["launchctl", "bootout", f"{self._domain}/{label}"])
            loaded = run(["launchctl", "bootstrap", self._domain, str(one.path)])
            if loaded.returncode != 0:
                raise ServiceManagerError(
                    f"launchctl bootstrap {one.path}: {one_line(loaded.stderr)}"
                )
            done.append(f"wrote and loaded {one.path}")
        return done or ["everything was there already"]

    def uninstall(self, state: Path) -> list[str]:  # noqa: ARG002 - nothing of ours lies there
        """Unload and remove the property lists; returns what was done."""
        done = []
        for label in (files.RUNNER_LABEL, files.POSTGRES_LABEL):
            plist = self.folder / f"{label}.plist"
            if plist.exists():
                run(["launchctl", "bootout", f"{self._domain}/{label}"])
                plist.unlink()
                done.append(f"stopped and removed {plist}")
        return done

    def status(self) -> list[State]:
        """Describe the agents of launchd."""
        found = []
        for label in (files.RUNNER_LABEL, files.POSTGRES_LABEL):
            plist = self.folder / f"{label}.plist"
            is_loaded = run(["launchctl", "print", f"{self._domain}/{label}"]).returncode == 0
            state = "active" if is_loaded else "inactive"
            found.append(State(label, str(plist), plist.exists(), plist.exists(), state))
        return found

    def has_variable(self, name: str) -> bool:
        """Tell whether the manager gives its services this variable."""
        return run(["launchctl", "getenv", name]).stdout.strip() != ""


def of(name: str, environ: Mapping[str, str]) -> Systemd | Launchd:
    """Return the service manager of that name."""
    home = Path(environ.get("HOME") or "~").expanduser()
    return Launchd(home) if name == "launchd" else Systemd(environ, home)


def systemctl_error(arguments: Sequence[str], done: subprocess.CompletedProcess[str]) -> str:
    """Say in one line what systemctl would not do."""
    words = one_line(done.stderr) or f"exit code {done.returncode}"
    return f"systemctl {' '.join(arguments)}: {words}"


def is_ours(path: Path) -> bool:
    """Tell whether we have written this file."""
    try:
        return path.read_text().startswith(files.MARK)
    except OSError:
        return False


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of the service manager to its end."""
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=150
        )
    except FileNotFoundError:
        raise ServiceManagerError(
            f"there is no {argv[0]} on this machine",
            hint="`persona service install --print` shows the files, for another service manager",
        ) from None
    except subprocess.TimeoutExpired:
        raise ServiceManagerError(f"{' '.join(argv)} did not answer within 150 s") from None
