"""What of the first system would go on running beside this one: found, printed, never touched."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the first system's own installer called things.
_PLISTS = "com.persona.*.plist"
_SCRIPTS = ("run-agent.sh", "check-agents.sh", "watch-events.sh", "persona/worker.py")
_MODULES = ("-m persona.worker", "persona/worker.py")


@dataclass(frozen=True)
class Leftover:
    """Something that still runs or starts the first system, and the command that ends it."""

    what: str
    command: str


def find(root: Path, vault: Path | None, home: Path) -> list[Leftover]:
    """Look at launchd, cron, systemd, the watcher and the plugin's settings."""
    return [
        *_launchd(home),
        *_cron(root),
        *_systemd(home),
        *_watchers(root),
        *_plugin(vault),
    ]


def _launchd(home: Path) -> Iterator[Leftover]:
    for plist in sorted((home / "Library" / "LaunchAgents").glob(_PLISTS)):
        path = shlex.quote(str(plist))
        yield Leftover(f"launchd: {plist.stem}", f"launchctl unload -w {path} && rm {path}")


def _cron(root: Path) -> Iterator[Leftover]:
    for line in _crontab().splitlines():
        is_ours = str(root) in line or any(script in line for script in _SCRIPTS)
        if is_ours and not line.lstrip().startswith("#"):
            quoted = shlex.quote(line)
            yield Leftover(f"cron: {line}", f"crontab -l | grep -vxF -- {quoted} | crontab -")


def _crontab() -> str:
    try:
        done = subprocess.run(
            ["crontab", "-l"], capture_output=True, check=False, timeout=10,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # Without a crontab it says so and fails.
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _systemd(home: Path) -> Iterator[Leftover]:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    for folder, option in (
        (config / "systemd" / "user", "--user "),
        (Path("/etc/systemd/system"), ""),
    ):
        for unit in sorted(folder.glob("persona*.service")):
            try:
                text = unit.read_text(errors="replace")
            except OSError:
                continue
            if any(module in text for module in _MODULES):
                sudo = "" if option else "sudo "
                yield Leftover(
                    f"systemd: {unit.name}", f"{sudo}systemctl {option}disable --now {unit.name}"
                )


def _watchers(root: Path) -> Iterator[Leftover]:
    for pid_file in sorted(root.glob("instances/*/state/watch-events.pid")):
        business = shlex.quote(pid_file.parent.parent.name)
        script = shlex.quote(str(root / "scripts" / "watch-events.sh"))
        yield Leftover(f"file watcher of {business}", f"{script} {business} --stop")


def _plugin(vault: Path | None) -> Iterator[Leftover]:
    if vault is None:
        return
    path = vault / ".obsidian" / "plugins" / "persona" / "data.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    # The plugin's default is on.
    if isinstance(settings, dict) and settings.get("queueConsumerEnabled", True):
        yield Leftover(
            "plugin: its own queue consumer is on",
            "switch 'queueConsumerEnabled' off in the plugin's settings once runners do the work",
        )
