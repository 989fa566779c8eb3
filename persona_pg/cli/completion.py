"""Completion for bash, zsh and fish: click's mechanism, with names from the database.

Nothing is started for it, and where the database does not answer within a second there is
silence: a person is in the middle of typing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem, shell_complete

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "_PERSONA_COMPLETE"
_PATIENCE = 0.8
_JOBS = (
    "select j.short_id, j.status || ' ' || coalesce(j.task_preview, '')"
    " from persona.list_jobs(max_rows => 100) as j where j.short_id like %s || '%%'"
)
_AGENTS = (
    "select a.agent, a.description from persona.list_agents() as a"
    " where a.agent like %s || '%%' order by 1"
)
_TYPES = (
    "select t.name, t.description from persona.job_types as t"
    " where t.name like %s || '%%' order by 1"
)
_RUNNERS = (
    "select r.name, r.status from persona.runner_dashboard as r"
    " where r.status <> 'gone' and r.name like %s || '%%' order by 1"
)


def answer(cli: click.Command, instruction: str) -> int:
    """Answer the shell: what could stand there, or the script that asks."""
    return shell_complete(cli, {}, "persona", VARIABLE, instruction)


def attach(command: click.Command, group: str = "") -> click.Command:
    """Let a command's parameters be completed from the database."""
    for param in command.params:
        if query := _query_for(param, group):
            param._custom_shell_complete = _completer(query)  # noqa: SLF001 - set late, for speed
    if isinstance(command, click.Group):
        for sub in command.commands.values():
            attach(sub, command.name or "")
    return command


def _query_for(param: click.Parameter, group: str) -> str | None:
    metavar = (param.metavar or "").removesuffix("...")
    if metavar == "ID":
        return _JOBS
    if isinstance(param, click.Argument) and param.name in {"name", "names"}:
        return {"agents": _AGENTS, "runners": _RUNNERS}.get(group)
    if param.name in {"agent", "agents"} or metavar == "AGENT":
        return _AGENTS
    return _TYPES if param.name == "job_type" else None


def _completer(query: str) -> Callable[..., list[CompletionItem]]:
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        found: list[CompletionItem] = []

        def ask() -> None:
            with contextlib.suppress(Exception):
                found.extend(
                    CompletionItem(value, help=_short(words))
                    for value, words in _rows(query, incomplete)
                )

        # Name resolution and the like cannot be cut short: then this thread is left behind.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(_PATIENCE)
        return [] if asking.is_alive() else found

    return complete


def _rows(query: str, incomplete: str) -> list[tuple[Any, ...]]:
    import psycopg

    from persona_pg import connections, settings
    from persona_pg.embedded import resolve_dsn

    dsn = resolve_dsn(settings.load(), start_embedded=False)
    kwargs = connections.connection_kwargs(dsn, connect_timeout=2)
    with psycopg.connect(dsn, **kwargs) as conn:
        # A literal prefix: % and _ stand for themselves.
        prefix = incomplete.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return conn.execute(query, (prefix,)).fetchall()


def _short(words: str | None) -> str:
    return " ".join((words or "").split())[:60]


@click.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: eval "$(persona completion bash)" in ~/.bashrc
    zsh:  eval "$(persona completion zsh)" in ~/.zshrc
    fish: persona completion fish > ~/.config/fish/completions/persona.fish

    Completed are commands, options, statuses, job ids (the newest ones), agents, types and
    runners.
    """  # noqa: D301 - click's own mark, not a backslash
    cli = click.get_current_context().find_root().command
    raise click.exceptions.Exit(answer(cli, f"{shell}_source"))


def end(code: int) -> NoReturn:
    """End the process now, whatever thread still waits for an answer."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)
