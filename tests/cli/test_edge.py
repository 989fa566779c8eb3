"""What goes wrong around the commands: one line each, and the documented exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from persona_pg.cli import _COMMANDS

PASSWORD = "s3cr3t-p4ss"


def one_line(done, code):
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("persona: ")
    assert PASSWORD not in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("command", [[], *([name] for name in _COMMANDS)])
@pytest.mark.no_database
def test_every_command_has_help(cli, command):
    done = cli(*command, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {' '.join(['persona', *command])} ")
    if command:
        # What the list of commands says is what the command says of itself, or shorter.
        assert len(done.stdout.split("\n\n")[1].strip()) > 10


@pytest.mark.parametrize("group", ["agents", "runners", "notes", "db"])
@pytest.mark.no_database
def test_every_subcommand_has_help(cli, group):
    listed = cli(group, "--help").stdout.partition("Commands:\n")[2]
    names = [
        line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "
    ]

    assert names
    for name in names:
        assert cli(group, name, "--help").returncode == 0


@pytest.mark.no_database
def test_help_needs_neither_database_nor_driver(persona_env):
    code = (
        "import sys; sys.argv = ['persona', '--help']\n"
        "import persona_pg.cli.edge as edge, persona_pg.cli as c\n"
        "edge.run(c.cli, ['--help'])\n"
        "print({'psycopg', 'tabulate', 'psutil', 'asyncio'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        ["python", "-c", code], env=persona_env, capture_output=True, text=True, check=True
    )
    assert done.stderr == "set()\n"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["statuss"], "did you mean 'status'?"),
        (["jobs", "-s", "done"], "'done' is not one of"),
        (["jobs", "-n", "0"], "not in the range"),
        (["jobs", "--frobnicate"], "No such option"),
        (["info"], "Missing argument 'ID'"),
        (["logs", "-f", "--json", "0000aaaa"], "--jsonl"),
    ],
)
def test_wrong_usage_is_exit_2(cli, arguments, said):
    assert said in one_line(cli(*arguments), 2)


@pytest.mark.no_database
def test_version(cli):
    from persona_pg import __version__

    assert cli("--version").stdout == f"persona {__version__}\n"


# -- the database


@pytest.mark.no_database
@pytest.mark.parametrize(
    "dsn, said",
    [
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1/db", "127.0.0.1:1/db: connection"),
        (f"host=127.0.0.1 port=1 password={PASSWORD} dbname=db", "127.0.0.1:1/db"),
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1,127.0.0.1:2/db", "no connection"),
        (f"postgresql://me:x@{PASSWORD}@127.0.0.1:1/db", "no connection"),
        (f"postgresql://127.0.0.1:1/db?password={PASSWORD}", "no connection"),
        ("host=/nowhere", "/nowhere"),
    ],
)
def test_a_database_out_of_reach_is_exit_69(cli, dsn, said):
    assert said in one_line(cli("status", env={"PERSONA_DATABASE_URL": dsn}), 69)


@pytest.mark.no_database
@pytest.mark.parametrize(
    "dsn",
    [
        f"postgre://me:{PASSWORD}@h/db",
        f"host=h passwort={PASSWORD}",
        f"host=h password='{PASSWORD}",
    ],
)
def test_a_dsn_that_is_none_is_exit_78(cli, dsn):
    line = one_line(cli("status", env={"PERSONA_DATABASE_URL": dsn}), 78)
    assert "PERSONA_DATABASE_URL" in line


def test_a_database_that_does_not_exist_is_said_at_once(cli, databases):
    line = one_line(cli("status", env={"PERSONA_DATABASE_URL": databases.dsn("nowhere")}), 69)
    assert 'database "nowhere" does not exist' in line


def test_a_database_without_the_schema_is_exit_78(cli, empty_dsn):
    for command in (["status"], ["create", "-t", "research", "-q", "?"]):
        line = one_line(cli(*command, env={"PERSONA_DATABASE_URL": empty_dsn}), 78)
        assert "run: persona db migrate" in line


def test_a_schema_that_is_too_new_is_exit_78(cli, conn):
    conn.execute(
        "update persona.settings set value = '99' where name in ('min_protocol', 'max_protocol')"
    )
    line = one_line(cli("status"), 78)
    assert "too new" in line
    assert "upgrade" in line


def test_a_role_without_rights_is_exit_5(cli, conn, databases, database):
    conn.execute("create role nobody_at_all login password 'persona'")
    try:
        env = {"PERSONA_DATABASE_URL": databases.dsn(database, user="nobody_at_all")}
        one_line(cli("status", env=env), 5)
    finally:
        conn.execute("drop role nobody_at_all")


def test_a_wrong_setting_is_exit_78(cli):
    assert "JOB_TIMEOUT" in one_line(cli("status", env={"JOB_TIMEOUT": "soon"}), 78)


def test_a_traceback_only_for_those_who_ask(cli):
    done = cli("info", "0000aaaa", env={"PERSONA_DEBUG": "1"})
    assert done.returncode == 3
    assert "Traceback" in done.stderr


def test_a_database_that_hangs_does_not_hang_us(cli, conn, create):
    job = create()
    conn.execute("begin")
    conn.execute("select from persona.jobs where id = %s for update", (job,))
    code = "import persona_pg.database as d; d.Database.__init__.__kwdefaults__['deadline'] = 0.5"
    script = f"{code}\nfrom persona_pg.cli import main\nimport sys; sys.argv = ['persona', 'kill', {job!r}]\nmain()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PERSONA_DATABASE_URL": conn.info.dsn},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    finally:
        conn.execute("rollback")
    assert done.returncode == 75
    assert "did not finish the call within 0.5 s" in done.stderr


# -- the streams


def test_a_broken_pipe_is_quiet(persona, persona_env, create):
    for _ in range(3):
        create("x" * 60_000)
    for command in ("jobs --json", "jobs --jsonl", "--help"):
        done = subprocess.run(
            ["sh", "-c", f"{{ {persona} {command}; echo $? >&2; }} | true"],
            env=persona_env,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr in {"141\n", "0\n"}


def test_a_full_disk_is_said(persona, persona_env, create):
    create()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [persona, "jobs"],
            env=persona_env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "No space left" in done.stderr


def test_a_terminal_without_unicode_gets_escapes(cli, create):
    create("naïve 🎉")
    done = cli("jobs", env={"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "na\\xefve \\U0001f389" in done.stdout


def test_mcp_on_a_terminal_says_who_starts_it(terminal):
    code, shown = terminal("mcp")

    assert code == 2
    assert "an agent program starts this" in shown
