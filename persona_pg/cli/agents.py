"""persona agents."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from persona_pg.cli import documents, output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.groups import ListingGroup
from persona_pg.cli.types import (
    INTEGER,
    NOT_GIVEN,
    OPTIONAL_DURATION,
    OPTIONAL_SIZE,
    OPTIONAL_USD,
    OrNone,
    read_document,
)
from persona_pg.settings import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.model import Agent

_KEPT_BY_DATABASE = ("created_at", "updated_at")
_FORMATS = (
    "plain",
    "jsonl",
    "claude-json",
    "claude-stream-json",
    "gemini-json",
    "gemini-stream-json",
    "codex-jsonl",
)
_DURATIONS = ("timeout", "idle_timeout", "kill_grace")
_SIZES = ("memory_limit", "file_size_limit")
# Each may be 'none'.
_LIMITS = (
    *_DURATIONS,
    *_SIZES,
    "cpu_limit",
    "process_limit",
    "open_files_limit",
    "nice",
    "max_cost_usd",
)


@click.group("agents", cls=ListingGroup)
def agents_group() -> None:
    """List, register and change agents (without a subcommand: list)."""


@agents_group.command("list")
@output.listing_options
@pass_app
def list_command(app: App, *, as_json: bool, as_jsonl: bool) -> None:
    """List the agents with what they have to do."""
    output.put_listing(
        app.queue.list_agents(),
        _COLUMNS,
        document=documents.of,
        as_json=as_json,
        as_jsonl=as_jsonl,
        empty="no agents",
    )


@agents_group.command("show")
@click.argument("name")
@output.json_option
@pass_app
def show_command(app: App, name: str, *, as_json: bool) -> None:
    """Show how an agent is run."""
    agent = app.queue.get_agent(name)
    if as_json:
        output.put_json(documents.of_agent(agent))
        return
    for field, value in asdict(agent).items():
        if value not in (None, "", [], {}, False):
            shown = format_size(value) if field in _SIZES else _shown(value)
            output.put(f"{field.replace('_', ' '):<18} {shown}")


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return output.duration(value)
    if isinstance(value, list):
        import shlex

        return output.clean(shlex.join(value))
    if isinstance(value, dict):
        return output.clean(" ".join(f"{name}={_value(text)}" for name, text in value.items()))
    if value is True:
        return "yes"
    return output.moment(value) if hasattr(value, "tzinfo") else output.clean(str(value))


def _value(value: Any) -> str:
    return f"(secret {value.get('secret')})" if isinstance(value, dict) else str(value)


def _text(option: str, text: str) -> Callable[..., Any]:
    return click.option(option, help=text)


def _number(option: str, text: str) -> Callable[..., Any]:
    return click.option(option, type=int, help=text)


def _duration(option: str, text: str) -> Callable[..., Any]:
    return _limit(option, OPTIONAL_DURATION, "10m", text)


def _limit(option: str, kind: click.ParamType[Any], example: str, text: str) -> Callable[..., Any]:
    return click.option(option, type=kind, default=NOT_GIVEN, metavar=example, help=text)


def _flag(option: str, text: str) -> Callable[..., Any]:
    return click.option(option, default=None, help=text)


_RESUME = "Instead of the program where a conversation is resumed; {session_id} is its id."
_FROM_FILE = "Variable from a credential or file of secrets/ on the runner's machine; repeatable."
_FIELDS = (
    _text("--description", "What it is for, in a sentence."),
    _text("--role", "Its role, such as researcher."),
    _text("--provider", "Whose API it calls: anthropic, google, openai."),
    _text("--model", "Model for the placeholder {model}."),
    click.option("--stdin", "stdin_template", help="Text on standard input, usually {prompt}."),
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="No secrets: viewers see it."),
    click.option("--secret", "secrets", multiple=True, metavar="NAME=FILE", help=_FROM_FILE),
    _text("--workdir", "Folder to run in; {vault} and {root} stand for the configured ones."),
    click.option("--output-format", type=click.Choice(_FORMATS), help="How its output is read."),
    _duration("--timeout", "Total time of an attempt; none: the runner's."),
    _duration("--idle-timeout", "Longest silence; none: the runner's."),
    _duration("--kill-grace", "Time between SIGTERM and SIGKILL; none: the runner's."),
    _number("--output-limit", "Bytes of each stream that are kept."),
    _number("--max-attempts", "Attempts, unless the job says otherwise."),
    _number("--max-concurrent", "Most jobs at once, on all machines together."),
    _limit("--memory-limit", OPTIONAL_SIZE, "2GB", "Of all processes of a job; more: killed."),
    _limit("--cpu-limit", OrNone(click.FLOAT), "1.5", "Processors, rounded up to whole ones."),
    _limit("--process-limit", OrNone(INTEGER), "50", "Processes of a job; more: killed."),
    _limit("--open-files-limit", OrNone(INTEGER), "1024", "Descriptors of each process."),
    _limit("--file-size-limit", OPTIONAL_SIZE, "1GB", "Of each file that a job writes."),
    click.option(
        "--max-cost",
        "max_cost_usd",
        type=OPTIONAL_USD,
        default=NOT_GIVEN,
        metavar="0.50",
        help="USD that an execution can cost; the program keeps to it, {max_cost} in its argv.",
    ),
    _limit("--nice", OrNone(INTEGER), "10", "0 to 19: how far its jobs stand back for others."),
    _flag("--active/--inactive", "Whether its jobs run."),
    _flag("--external/--internal", "External: a program outside drives its jobs."),
    _flag("--admin-only/--for-all", "Whether only an admin may create jobs for it."),
    _flag("--costs-money/--free", "Costs money: one attempt by default."),
    _flag("--keeps-conversation/--forgets", "A retry resumes the conversation."),
    _flag("--requires-approval/--starts-freely", "Whether a person releases each job first."),
    click.option("--resume", "resume_argv", metavar="'CMD ARG...'", help=_RESUME),
    click.option("--may-delegate-to", multiple=True, metavar="AGENT", help="Repeatable."),
    click.option("--launcher", metavar="'CMD ARG...'", help="Put before the program, like srun."),
    click.option(
        "--json",
        "definition",
        metavar="JSON|@FILE|-",
        help="Fields as a JSON object, as `agents show --json` prints them.",
    ),
)
_FLAGS = {"active": "is_active", "external": "is_external"}


def _field_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FIELDS):
        command = option(command)
    return click.argument("argv", nargs=-1, metavar="[-- PROGRAM [ARG]...]")(command)


@agents_group.command("add", context_settings={"allow_interspersed_args": True})
@click.argument("name")
@_field_options
@pass_app
def add_command(app: App, /, name: str, argv: tuple[str, ...], **options: Any) -> None:
    """Register an agent: NAME [OPTIONS] -- PROGRAM [ARG]...

    Arguments may hold placeholders such as {prompt}, {model}, {vault} and {payload.KEY}; each
    stays one argument, whatever it is filled with.
    """
    if any(agent.agent == name for agent in app.queue.list_agents()):
        raise click.UsageError(f"there is an agent {name!r}; change it with: persona agents edit")
    fields = _given(argv, options)
    program = fields.pop("argv", None)
    if not program:
        raise click.UsageError(
            f"name the program after --: persona agents add {name} -- PROGRAM [ARG...]"
        )
    app.queue.register_agent(name, program, **fields)
    output.put(f"agent {name} registered")


@agents_group.command("edit")
@click.argument("name")
@_field_options
@pass_app
def edit_command(app: App, /, name: str, argv: tuple[str, ...], **options: Any) -> None:
    """Change the named fields of an agent; the others stay as they are."""
    changes = _given(argv, options)
    if not changes:
        raise click.UsageError("nothing to change: name a field or a program")
    app.queue.update_agent(name, changes)
    output.put(f"agent {name} changed: {', '.join(sorted(changes))}")


def _given(argv: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that were given, by the names of their columns."""
    definition = options.pop("definition")
    fields = {} if definition is None else _from_document(read_document(definition, "--json"))
    for name, value in options.items():
        if value in (None, (), NOT_GIVEN) and not (name in _LIMITS and value is None):
            continue
        fields[_FLAGS.get(name, name)] = value
    if isinstance(fields.get("env"), tuple):
        fields["env"] = _environment("--env", fields["env"])
    if named := fields.pop("secrets", None):
        pairs = _environment("--secret", named)
        fields["env"] = (fields.get("env") or {}) | {n: {"secret": f} for n, f in pairs.items()}
    for name in ("launcher", "resume_argv"):
        if isinstance(fields.get(name), str):
            import shlex

            fields[name] = shlex.split(fields[name])
    if isinstance(fields.get("may_delegate_to"), tuple):
        fields["may_delegate_to"] = list(fields["may_delegate_to"])
    if argv:
        fields["argv"] = list(argv)
    return fields


def _from_document(document: dict[str, Any]) -> dict[str, Any]:
    fields = {re.sub(r"([A-Z])", r"_\1", key).lower(): value for key, value in document.items()}
    for column in ("name", *_KEPT_BY_DATABASE):
        fields.pop(column, None)
    for column in _DURATIONS:
        if fields.get(column) is not None:
            fields[column] = OPTIONAL_DURATION.convert(str(fields[column]), None, None)
    for column in _SIZES:
        if fields.get(column) is not None:
            fields[column] = OPTIONAL_SIZE.convert(str(fields[column]), None, None)
    return fields


def _environment(option: str, pairs: tuple[str, ...]) -> dict[str, str]:
    wrong = [pair for pair in pairs if not re.match(r"[A-Za-z_]\w*=", pair)]
    if wrong:
        raise click.UsageError(f"{option}: {wrong[0]!r} is not NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


@agents_group.command("enable")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_app
def enable_command(app: App, names: tuple[str, ...]) -> None:
    """Let the jobs of agents run."""
    _switch(app, names, active=True)


@agents_group.command("disable")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_app
def disable_command(app: App, names: tuple[str, ...]) -> None:
    """Let the jobs of agents wait; what runs goes on."""
    _switch(app, names, active=False)


def _switch(app: App, names: tuple[str, ...], *, active: bool) -> None:
    for name in names:
        agent: Agent = app.queue.set_agent_active(name, active)
        output.put(f"agent {agent.name} is {'enabled' if agent.is_active else 'disabled'}")


def _state(agent: Any) -> str:
    if not agent.is_active:
        return "disabled"
    return "external" if agent.is_external else "enabled"


_COLUMNS = [
    output.Column("agent", lambda a: a.agent),
    output.Column("state", _state),
    output.Column("program", lambda a: a.program or "", rank=2),
    output.Column("pending", lambda a: str(a.pending), right=True),
    output.Column("running", lambda a: str(a.running), right=True),
    output.Column("limit", lambda a: str(a.max_concurrent or ""), right=True, rank=4),
    output.Column("done 24h", lambda a: str(a.completed_24h), right=True, rank=3),
    output.Column("failed 24h", lambda a: str(a.failed_24h), right=True, rank=3),
    output.Column("description", lambda a: a.description or "", flexible=True, rank=1),
]
