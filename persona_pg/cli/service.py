"""persona service: a runner that starts when the user logs in."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Any

import click

from persona_pg.cli import output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.documents import camel
from persona_pg.cli.edge import say
from persona_pg.cli.types import INTEGER
from persona_pg.errors import ConfigurationError

_MANAGERS = ("systemd", "launchd")


def _user_option(command: Any) -> Any:
    return click.option(
        "--user", "for_user", is_flag=True, default=True, help="For this user (the default)."
    )(command)


def _manager_option(command: Any) -> Any:
    return click.option(
        "--manager", type=click.Choice(_MANAGERS), help="Else that of this system."
    )(command)


@click.group("service")
def service_group() -> None:
    """Start a runner, and the embedded server, whenever you log in."""


@service_group.command("install")
@_user_option
@click.option("-a", "--agent", "agents", multiple=True, help="Serve only this agent (repeatable).")
@click.option("-c", "--concurrency", type=INTEGER, metavar="N", help="Jobs at once.")
@click.option("--name", help="Name of the runner; else that of the host.")
@click.option(
    "--pass", "passed", multiple=True, metavar="NAME",
    help="Record this variable too, such as the key of a provider (repeatable).",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Even where programs of agents are missing.")
@click.option("--print", "only_print", is_flag=True, help="Show the files; write nothing.")
@_manager_option
@pass_app
def install_command(
    app: App,
    *,
    for_user: bool,  # noqa: ARG001 - a unit for the whole system is another command's affair
    agents: tuple[str, ...],
    concurrency: int | None,
    name: str | None,
    passed: tuple[str, ...],
    force: bool,
    only_print: bool,
    manager: str | None,
) -> None:
    """Write and start the service; doing it again brings it up to date.

    Your PATH and HOME are recorded, and what you have configured in the environment, in a file
    that only you can read.
    """
    from persona_pg.service import plan as plans

    arguments = [part for agent in agents for part in ("--agent", agent)]
    if concurrency is not None:
        arguments += ["--concurrency", str(concurrency)]
    if name is not None:
        arguments += ["--name", name]
    plan = plans.make(app.settings, os.environ, arguments=arguments, passed=passed)
    found = _manager(manager)
    if only_print:
        for file in found.files(plan):
            output.put(f"# {file.path} (mode {file.mode:o})")
            output.put(file.text)
        return
    if not force:
        _refuse_missing(app, plan.path, agents)
    is_inherited = found.has_variable("ANTHROPIC_API_KEY")
    if words := plans.warning(os.environ, passed, is_inherited=is_inherited):
        say(words)
    for line in found.install(plan):
        output.put(line)
    if _name(manager) == "systemd":
        say("it starts when you log in; `loginctl enable-linger` starts it with the machine")


@service_group.command("uninstall")
@_user_option
@_manager_option
@pass_app
def uninstall_command(app: App, *, for_user: bool, manager: str | None) -> None:  # noqa: ARG001
    """Stop and remove the service; jobs and data stay."""
    done = _manager(manager).uninstall(app.settings.home)
    for line in done:
        output.put(line)
    if not done:
        say("there is no service of ours")


@service_group.command("status")
@_user_option
@_manager_option
@output.json_option
def status_command(*, for_user: bool, manager: str | None, as_json: bool) -> None:  # noqa: ARG001
    """Show whether the service is there and runs; exits with 1 where the runner does not."""
    states = _manager(manager).status()
    if as_json:
        output.put_json([{camel(k): v for k, v in asdict(one).items()} for one in states])
    else:
        output.put_table(
            states,
            [
                output.Column("service", lambda s: s.name),
                output.Column("file", lambda s: s.file if s.is_installed else "-", flexible=True),
                output.Column("at login", lambda s: "yes" if s.is_enabled else "no"),
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


def _manager(given: str | None) -> Any:
    from persona_pg.service import manager

    return manager.of(_name(given), os.environ)
