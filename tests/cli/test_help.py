"""What every --help says: whole sentences for every option, and no mark that is meant for click."""

from __future__ import annotations

import click
import pytest
from pgtest import ROOT

from persona_pg import cli
from persona_pg.cli import migrate


def every(command, name):
    context = click.Context(command, info_name=name, terminal_width=100)
    yield name, command, context
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            yield from every(command.get_command(context, sub), f"{name} {sub}")


COMMANDS = [*every(cli.cli, "persona"), *every(migrate.cli, "persona-migrate")]


def test_every_command_and_option_says_what_it_is_for():
    assert len(COMMANDS) > 80
    bare = []
    for name, command, context in COMMANDS:
        text = command.get_help(context)
        first = (command.help or "").strip().split("\n\n")[0].rstrip()
        if not first.endswith((".", ":")) or "\\b" in text or "\\" in text:
            bare.append(f"{name}: {first}")
        bare.extend(
            f"{name} {option.opts[-1]}: {option.help}"
            for option in command.get_params(context)
            if isinstance(option, click.Option) and not (option.help or "").endswith(".")
        )

    assert bare == []


def test_no_help_is_wider_than_a_terminal_or_repeats_itself():
    for name, command, context in COMMANDS:
        lines = command.get_help(context).splitlines()
        assert [line for line in lines if len(line) > 130] == [], name
        helps = [o.help for o in command.get_params(context) if isinstance(o, click.Option)]
        assert len(helps) == len(set(helps)), name


@pytest.mark.parametrize(
    "program", ["install", "persona-bridge", "persona-job", "persona-rpc", "quickstart", "test"]
)
@pytest.mark.no_database
def test_the_help_of_a_script_is_its_head_and_no_code(run_program, program):
    done = run_program(ROOT / "bin" / program, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"Usage: {'' if program.startswith('persona') else 'bin/'}{program}")
    assert not {"set -eu", "set -e"} & set(lines)
    assert not [line for line in lines if line.startswith(("#", "root="))]
