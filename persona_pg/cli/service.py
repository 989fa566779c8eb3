"""persona service: a runner that starts when the user logs in, or with the machine."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from persona_pg.cli import output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.documents import camel
from persona_pg.cli.edge import say
from persona_pg.cli.types import INTEGER
from persona_pg.errors import ConfigurationError

_MANAGERS = ("systemd", "launchd")


def _scope_option(command: Any) -> Any:
    return click.option(
        "--user/--system", "for_user", default=True,
        help="For this user (the default), or a unit of the machine with a sandbox.",
    )(command)  # fmt: skip


def _root_option(command: Any) -> Any:
    return click.option(
        "--root", type=click.Path(path_type=Path), default=Path("/"), metavar="DIR",
        help="With --system: the files of the machine image in this folder; nothing is started.",
    )(command)  # fmt: skip


def _instance_option(command: Any) -> Any:
    return click.option("--name", default="main", help="With --system: the name of its runner.")(
        command
    )


def _manager_option(command: Any) -> Any:
    return click.option(
        "--manager", type=click.Choice(_MANAGERS), help="Else that of this system."
    )(command)


@click.group("service")
def service_group() -> None:
    """Start a runner whenever you log in (with the embedded server), or with the machine."""


@service_group.command("install")
@_scope_option
@click.option("-a", "--agent", "agents", multiple=True, help="Serve only this agent (repeatable).")
@click.option("-c", "--concurrency", type=INTEGER, metavar="N", help="Jobs at once.")
@click.option("--name", help="Name of the runner; else that of the host (--system: main).")
@click.option("--run-as", default="persona", metavar="USER", help="With --system: not root.")
@click.option(
    "--pass", "passed", multiple=True, metavar="NAME",
    help="Record this variable too, such as the key of a provider (repeatable).",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Even where programs of agents are missing.")
@click.option("--print", "only_print", is_flag=True, help="Show the files; write nothing.")
@_root_option
@_manager_option
@pass_app
def install_command(
    app: App,
    *,
    for_user: bool,
    agents: tuple[str, ...],
    concurrency: int | None,
    name: str | None,
    run_as: str,
    passed: tuple[str, ...],
    force: bool,
    only_print: bool,
    root: Path,
    manager: str | None,
) -> None:
    """Write and start the service; doing it again brings it up to date.

    Your PATH and HOME are recorded, and what you have configured in the environment, in a file
    that only you can read. With --system it is the unit persona-runner@NAME, in a sandbox and under
    a user of its own; its variables are in /etc/persona/NAME.env.
    """
    from persona_pg.service import plan as plans

    arguments = [part for agent in agents for part in ("--agent", agent)]
    if concurrency is not None:
        arguments += ["--concurrency", str(concurrency)]
    found: Any
    if for_user:
        arguments += ["--name", name] if name is not None else []
        plan = plans.make(app.settings, os.environ, arguments=arguments, passed=passed)
        found = _manager(manager)
    else:
        from persona_pg.service import system

        plan = plans.make(app.settings, os.environ, arguments=arguments, passed=passed)
        plan = replace(plan, path=system.search_path(os.environ))
        found = system.System(name or "main", run_as, root)
        for path in system.hidden_programs(plan):
            say(f"{path} is in a home, which the unit hides: install Persona PG under /opt")
    if only_print:
        for file in found.files(plan):
            output.put(f"# {file.path} (mode {file.mode:o})")
            output.put(file.text)
        return
    if not force:
        _refuse_missing(app, plan.path, agents)
    is_inherited = for_user and found.has_variable("ANTHROPIC_API_KEY")
    if words := plans.warning(os.environ, passed, is_inherited=is_inherited):
        say(words)
    for line in found.install(plan):
        output.put(line)
    if for_user and _name(manager) == "systemd":
        say("it starts when you log in; `loginctl enable-linger` starts it with the machine")


@service_group.command("uninstall")
@_scope_option
@_instance_option
@_root_option
@_manager_option
@pass_app
def uninstall_command(
    app: App, *, for_user: bool, name: str, root: Path, manager: str | None
) -> None:
    """Stop and remove the service; jobs and data stay."""
    if for_user:
        done = _manager(manager).uninstall(app.settings.home)
    else:
        done = _system(name, root).uninstall()
    for line in done:
        output.put(line)
    if not done:
        say("there is no service of ours")


@service_group.command("status")
@_scope_option
@_instance_option
@_root_option
@_manager_option
@output.json_option
def status_command(
    *, for_user: bool, name: str, root: Path, manager: str | None, as_json: bool
) -> None:
    """Show whether the service is there and runs; exits with 1 where the runner does not."""
    states = _manager(manager).status() if for_user else _system(name, root).status()
    if as_json:
        output.put_json([{camel(k): v for k, v in asdict(one).items()} for one in states])
    else:
        when = "at login" if for_user else "at boot"
        output.put_table(
            states,
            [
                output.Column("service", lambda s: s.name),
                output.Column("file", lambda s: s.file if s.is_installed else "-", flexible=True),
                output.Column(when, lambda s: "yes" if s.is_enabled else "no"),
                output.Column("state", lambda s: s.state),
            ],
        )
    if not states[0].is_active:
        raise click.exceptions.Exit(1)


def _refuse_missing(app: App, path: str, served: tuple[str, ...]) -> None:
    from persona_pg.service import plan as plans

    names = [row.agent for row in app.queue.list_agents()]
    unknown = [agent for agent in served if agent not in names]
    if unknown:
        raise ConfigurationError(f"--agent: there is no agent {unknown[0]!r}; `persona agents`")
    missing = plans.missing_programs([app.queue.get_agent(n) for n in names], path, served)
    if not missing:
        return
    for program, users in missing.items():
        say(f"{program} is not on your PATH; it is needed by: {', '.join(users)}")
    every = sorted({user for users in missing.values() for user in users})
    raise ConfigurationError(
        "programs of enabled agents are missing: install them,"
        f" or persona agents disable {' '.join(every)}, or --force"
    )


def _name(given: str | None) -> str:
    return given or ("launchd" if sys.platform == "darwin" else "systemd")


def _system(name: str, root: Path) -> Any:
    from persona_pg.service.system import System

    return System(name, "persona", root)


def _manager(given: str | None) -> Any:
    from persona_pg.service import manager

    return manager.of(_name(given), os.environ)
