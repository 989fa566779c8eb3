"""What a wrong configuration prints: one line that says what to do, and the exit code."""

from __future__ import annotations

import os

import pytest
from psycopg.conninfo import make_conninfo


@pytest.fixture
def refused(run_program):
    """Start a worker that must end by itself: (exit code, the one line)."""

    def run(*arguments, timeout=60, **env):
        done = run_program("persona-worker", *arguments, env=env, timeout=timeout)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        return done.returncode, lines[0]

    return run


WRONG = {
    "JOB_HEARTBEAT_INTERVAL": "soon",
    "JOB_HUNG_TIMEOUT": "-5",
    "JOB_TIMEOUT": "0",
    "JOB_IDLE_TIMEOUT": "1ms",
    "JOB_MAX_ATTEMPTS": "0",
    "JOB_KILL_GRACE": "1h",
    "JOB_OUTPUT_LIMIT": "10 apples",
    "JOB_LOG_RETENTION_DAYS": "1.5",
    "WORKER_CONCURRENCY": "1001",
    "WORKER_POLL_INTERVAL": "sometimes",
    "WORKER_DRAIN_TIMEOUT": "8d",
    "CLAUDE_MODEL": "two words",
    "PERSONA_HOME": "relative",
    "PERSONA_VAULT_PATH": "relative",
    "PERSONA_BUSINESS": "a/b",
    "ALERT_MAIL_TO": "nobody",
}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_wrong_value_is_refused_by_name_value_and_what_is_allowed(refused, name, value):
    code, line = refused(**{name: value})
    assert code == 78
    assert line.startswith(
        f"persona-worker: {name}: the value {value!r} is not allowed; it must be"
    )


def test_a_lease_too_short_for_its_heartbeats_is_refused(refused):
    code, line = refused(JOB_HUNG_TIMEOUT="60s", JOB_HEARTBEAT_INTERVAL="30s")
    assert code == 78
    assert "JOB_HUNG_TIMEOUT: the value '60s' is not allowed; it must be at least" in line


@pytest.mark.parametrize("name", ["a/b", " ", "a\nb", "x" * 201, b"\xff"])
def test_a_name_that_cannot_be_one_is_refused(refused, name):
    name = name if isinstance(name, str) else os.fsdecode(name)
    code, line = refused("--name", name)
    assert (code, line.startswith("persona-worker: --name ")) == (78, True)


def test_supabase_without_an_address_is_refused_with_the_way_out(refused):
    code, line = refused(PERSONA_DATABASE_URL="", SUPABASE_URL="https://x.supabase.co")
    assert code == 78
    assert "PERSONA_DATABASE_URL" in line


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://u:geheim@host:port/db", "PERSONA_DATABASE_URL: the value (not shown)"),
        ("host= nonsense here", "PERSONA_DATABASE_URL: the value (not shown)"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(refused, dsn, said):
    code, line = refused(PERSONA_DATABASE_URL=dsn)
    assert code == 78
    assert said in line
    assert "geheim" not in line


def test_a_database_that_does_not_exist(refused, dsn):
    code, line = refused(PERSONA_DATABASE_URL=make_conninfo(dsn, dbname="no_such_database"))
    assert code == 78
    assert 'database "no_such_database" does not exist' in line


def test_a_role_that_does_not_exist(refused, dsn):
    code, line = refused(PERSONA_DATABASE_URL=make_conninfo(dsn, user="nobody_here"))
    assert code == 78
    assert "nobody_here" in line


def test_a_database_without_the_schema(refused, empty_dsn):
    code, line = refused(PERSONA_DATABASE_URL=empty_dsn)
    assert code == 78
    assert "run: persona db migrate" in line


def test_a_schema_that_does_not_serve_this_runner_any_more(refused, conn):
    conn.execute(
        "update persona.settings set value = '7' where name in ('min_protocol', 'max_protocol')"
    )
    code, line = refused()
    assert code == 78
    assert "speaks protocol 2, this schema serves 7 to 7; Upgrade the runner" in line


def test_a_schema_that_is_too_old_for_this_runner(refused, conn):
    conn.execute(
        "update persona.settings set value = '0' where name in ('min_protocol', 'max_protocol')"
    )
    code, line = refused()
    assert code == 78
    assert "Upgrade the schema: persona db migrate" in line


def test_a_role_without_the_right_to_run_jobs(refused, databases, database, dsn):
    role = f"plain_{database[:20]}"
    databases.admin.execute(f"create role {role} login password 'x'")
    try:
        code, line = refused(PERSONA_DATABASE_URL=make_conninfo(dsn, user=role, password="x"))
        assert code == 5
        assert "permission denied" in line
    finally:
        databases.admin.execute(f"drop role {role}")


def test_a_newer_schema_that_still_serves_this_runner_is_fine(worker, jobs, conn):
    """P15: runners are older than the schema for as long as an upgrade takes."""
    conn.execute("update persona.settings set value = '9' where name = 'max_protocol'")
    worker()
    assert jobs.end(jobs.sh("exit 0")).status == "completed"


def test_a_server_that_is_out_of_reach_is_waited_for(worker, eventually):
    dsn = "postgresql://u:geheim@127.0.0.1:1/db"
    one = worker(env={"PERSONA_DATABASE_URL": dsn})
    eventually(lambda: one.output().count("next try") > 2, 20)
    assert "geheim" not in one.output()


def test_a_home_that_cannot_be_written(run_program, tmp_path):
    (tmp_path / "file").write_text("")
    done = run_program("persona-worker", env={"PERSONA_HOME": str(tmp_path / "file" / "home")})
    assert done.returncode == 78
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.no_database
@pytest.mark.parametrize(
    "env",
    [
        {
            "PERSONA_DATABASE_URL": "postgresql://postgres.abc:secret"
            "@aws-0-eu-central-1.pooler.supabase.com:6543/postgres"
        },
        {"PGHOST": "db.abc.supabase.co", "PGPORT": "6543"},
    ],
)
def test_supabases_transaction_pooler_is_refused_with_the_way_to_the_right_one(refused, env):
    code, line = refused(**env)

    assert code == 78
    assert "transaction pooler" in line
    assert "Session pooler" in line
    assert "secret" not in line
