"""Secrets stay where they are: not in the database, in logs, in `ps`, or within reach of jobs."""

# ruff: noqa: PLR0917 - fixtures are arguments

from __future__ import annotations

import json
import os
import shutil
import sys

import psutil
import pytest
from psycopg.conninfo import make_conninfo

KEY = "zq-key-of-the-provider"
PASSWORD = "zq-password-of-the-database"
NOBODY = 65534


def everything_stored(conn):
    """Return the content of every table of the schema, as text."""
    tables = conn.execute(
        "select c.relname from pg_class as c where c.relnamespace = 'persona'::regnamespace"
        " and c.relkind in ('r', 'p')"
    ).fetchall()
    return "".join(
        str(conn.execute(f"select string_agg(t::text, '') from persona.{name} as t").fetchone()[0])
        for (name,) in tables
    )


def test_a_secret_reaches_the_program_and_nothing_else(
    worker, dsn, conn, databases, home, tmp_path, eventually
):
    """One runner with a password and an agent with a key; the job tells only its length."""
    role = f"s_{os.getpid()}"
    databases.admin.execute(
        f"create role {role} login password '{PASSWORD}' in role persona_runner"
    )
    folder = home / "secrets"
    folder.mkdir()
    (folder / "provider").write_text(f"{KEY}\n")
    (folder / "provider").chmod(0o600)
    script = 'echo "key ${#API_KEY}"; env | grep -c zq-password; cat /proc/$PPID/cmdline; sleep 60'
    conn.execute(
        "select persona.register_agent('keyed', argv => array['/bin/sh', '-c', %s],"
        """ env => '{"API_KEY": {"secret": "provider"}}')""",
        (script.replace("{", "{{").replace("}", "}}"),),
    )
    [job] = conn.execute("select (persona.create_job('t', agent => 'keyed')).id").fetchone()
    try:
        one = worker(
            "--verbose",
            env={"PERSONA_DATABASE_URL": make_conninfo(dsn, user=role, password=PASSWORD)},
        )
        said = eventually(
            lambda: (
                lines := [
                    m
                    for (m,) in conn.execute(
                        "select message from persona.job_logs where job_id = %s and stream = 'stdout'"
                        " order by seq", (job,)
                    )
                ]
            )[1:] and lines,
            60,
        )  # fmt: skip
        seen = " ".join(
            word
            for process in psutil.process_iter(["cmdline"])
            for word in process.info["cmdline"] or ()
        )
    finally:
        one.stop()
        databases.admin.execute(f"drop role {role}")

    assert said[:2] == [f"key {len(KEY)}", "0"]
    for secret in (KEY, PASSWORD):
        assert secret not in everything_stored(conn)
        assert secret not in one.output()
        assert secret not in seen
        left = [p for p in tmp_path.rglob("*") if p.is_file() and p.parent != folder]
        assert not [p for p in left if secret.encode() in p.read_bytes()]


def as_somebody():
    """Launch a runner as a user other than root, to whom the kernel opens root's folders only."""
    if os.getuid() != 0:
        return []
    caps = "+dac_override,+dac_read_search"
    return ["setpriv", f"--reuid={NOBODY}", "--inh-caps", caps, "--ambient-caps", caps]


LOOK = """
import os
def parent(pid):
    return next(l.split()[1] for l in open(f"/proc/{pid}/status") if l.startswith("PPid"))
runner = parent(os.getpid())
for pid in (runner, parent(runner)):
    for name in ("environ", "mem", "maps"):
        try:
            told = open(f"/proc/{pid}/{name}", "rb").read(4096)
        except OSError as exc:
            told = type(exc).__name__
        print(name, told)
    print("fds", os.access(f"/proc/{pid}/fd", os.R_OK))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("is_open", [False, True])
def test_a_job_cannot_read_the_password_out_of_its_runner(worker, conn, eventually, is_open):
    """Runner and guardian are closed to processes of their own user, which is not root."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    body = json.dumps({"argv": [python, "-I", "-c", LOOK]})
    [job] = conn.execute("select (persona.create_job('command', %s)).id", (body,)).fetchone()

    # A debugger may look; so this test sees what is to be seen.
    worker("--once", launcher=as_somebody(), env={"PERSONA_DEBUG": "1"} if is_open else {}).wait(60)

    lines = [
        line
        for (line,) in conn.execute(
            "select message from persona.job_logs where job_id = %s and stream = 'stdout'"
            " order by seq", (job,)
        )
    ]  # fmt: skip
    assert lines, conn.execute("select status, error from persona.jobs").fetchall()
    seen = [line for line in lines if line.startswith(("environ", "maps", "mem"))]
    assert len(seen) == 6
    assert any("PERSONA_DATABASE_URL" in line for line in seen) is is_open
    if not is_open:
        assert {line.split()[1] for line in seen} == {"PermissionError"}
