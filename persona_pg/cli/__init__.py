"""The command `persona`.

Command modules are imported when their command is called: `persona status` starts in a tenth of
the time it would take to import them all.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from persona_pg import __version__
from persona_pg.cli import edge

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["cli", "main"]

# name: (module, attribute, what `persona --help` says)
_COMMANDS = {
    "status": ("status", "status_command", "Show how many jobs there are, and what runs now."),
    "jobs": ("jobs", "jobs_command", "List jobs, newest first."),
    "info": ("info", "info_command", "Show everything about a job, its answer included."),
    "logs": ("logs", "logs_command", "Print what a job printed; -f goes on until it ends."),
    "tree": ("jobs", "tree_command", "Draw a job and what it delegated."),
    "explain": ("jobs", "explain_command", "Say in one line why a job is not running."),
    "create": ("create", "create_command", "Create a job."),
    "run": ("run", "run_command", "Run a command as a job and follow it to its end."),
    "wait": ("run", "wait_command", "Wait until jobs have ended."),
    "kill": ("control", "kill_command", "Cancel jobs; running ones are killed."),
    "retry": ("control", "retry_command", "Put failed or cancelled jobs back into the queue."),
    "hold": ("control", "hold_command", "Keep jobs from running until they are released."),
    "release": ("control", "release_command", "Let held jobs run."),
    "answer": ("answer", "answer_command", "Answer what a job asked; without an ID: list."),
    "hung": ("upkeep", "hung_command", "List running jobs that have lost their heartbeat."),
    "cleanup": ("upkeep", "cleanup_command", "Delete old finished jobs."),
    "agents": ("agents", "agents_group", "List, register and change agents."),
    "runners": ("runners", "runners_group", "List runners, or ask one to finish."),
    "schedule": ("schedule", "schedule_group", "Create jobs at given times."),
    "alerts": ("alerts", "alerts_group", "Look at alerts, and say who is told."),
    "limits": ("limits", "limits_group", "List, set and remove limits on what runs at once."),
    "budget": ("budget", "budget_group", "List, set and remove budgets."),
    "gate": ("gate", "gate_group", "List, open and close the gates of providers."),
    "notes": ("notes", "notes_group", "Turn marked lines of daily notes into jobs, and back."),
    "monitor": (
        "monitor",
        "monitor_command",
        "Watch the queue live, or print events as they come.",
    ),
    "mcp": ("mcp", "mcp_command", "Serve the queue to agent programs as tools (MCP)."),
    "dashboard": ("dashboard", "dashboard_command", "Serve a web page to watch the queue and act."),
    "metrics": ("metrics", "metrics_command", "Print or serve figures for Prometheus."),
    "stats": ("status", "stats_command", "Show success rates and durations by job type."),
    "doctor": (
        "doctor",
        "doctor_command",
        "Look whether everything is in order.",
    ),
    "bench": ("bench", "bench_command", "Measure the queue, each figure beside its limit here."),
    "service": (
        "service",
        "service_group",
        "Start a runner whenever you log in, or with the machine.",
    ),
    "db": ("db", "db_group", "Install and look after the schema and the embedded server."),
    "completion": ("completion", "completion_command", "Print the completion script of a shell."),
    "config": ("db", "config_command", "Show the configuration in use."),
}


_COMPLETE = "_PERSONA_COMPLETE"


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the order of the manual."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        found: Any = getattr(importlib.import_module(f"persona_pg.cli.{module}"), attribute)
        assert isinstance(found, click.Command)
        if _COMPLETE in os.environ:
            from persona_pg.cli.completion import attach

            return attach(found)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the commands without importing any."""
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=text)
            for name, (_, _, text) in _COMMANDS.items()
            if name.startswith(incomplete)
        ] + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest name for an unknown one."""
        is_call = not ctx.resilient_parsing
        if is_call and args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f" did you mean {near[0]!r}?" if near else " `persona --help` lists them"
            raise click.UsageError(f"there is no command {args[0]!r};{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 it failed, 2 usage, 3 not found, 4 conflict or illegal now,"
    " 5 not permitted, 69 database out of reach, 75 try later, 78 configuration.",
)
@click.version_option(__version__, "-V", "--version", message="persona %(version)s")
def cli() -> None:
    """Run AI agents and commands through a durable queue in PostgreSQL.

    An ID may be shortened to its last eight characters or to any unambiguous beginning of those
    or of the whole.  The database is PERSONA_DATABASE_URL, else what the PG* variables say, else
    the embedded server.
    """


def main() -> NoReturn:
    """Run `persona` with the arguments of the process."""
    # The imports make no garbage, and looking for it among all their objects, now and once more
    # at the end, took a fifth of the time of `persona status` (240 ms became 187).
    gc.disable()
    if instruction := os.environ.get(_COMPLETE):
        from persona_pg.cli import completion

        completion.end(completion.answer(cli, instruction))
    code = edge.run(cli, sys.argv[1:])
    # Everything is closed and flushed: the process may end without taking itself apart.
    os._exit(code)
