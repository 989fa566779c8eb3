"""persona doctor: a healthy queue, and what it says of broken ones."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import psycopg
import pytest

from persona_pg import settings
from persona_pg.doctor import examine, server, work

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
CHECKS = [
    "configuration", "process control", "folder", "connection", "listener", "clock",
    "oldest snapshot", "notification queue", "connections", "schema", "dead rows", "runners",
    "programs", "stuck jobs", "upkeep", "alerts", "secrets", "plugin",
]  # fmt: skip


@pytest.fixture
def doctor(cli):
    def run(**env):
        done = cli("doctor", "--json", env=env)
        return done.returncode, {f["check"]: f for f in json.loads(done.stdout)}

    return run


@pytest.fixture
def looked(dsn, home):
    """Look without the start of a command: returns the findings by their check."""

    def run(address=dsn, **environ):
        environ = {"PERSONA_HOME": str(home), "PATH": "/usr/bin"} | environ
        loaded = settings.load(environ=environ, dotenv=None)
        return {finding.check: finding for finding in examine(loaded, address)}

    return run


@pytest.fixture
def damage(superuser_dsn):
    with psycopg.connect(superuser_dsn, autocommit=True) as admin:
        yield admin.execute


@pytest.mark.usefixtures("told")  # a listener that hears nothing is broken, it says
def test_a_healthy_queue_has_nothing_broken(doctor, cli):
    code, found = doctor()

    assert code == 0
    assert list(found) == CHECKS
    assert not [f for f in found.values() if f["state"] == "fail"]
    assert found["listener"]["seen"].startswith("heard after")
    assert found["schema"]["seen"].endswith("functions as shipped")
    assert found["process control"]["seen"].startswith(("cgroup", "systemd", "subreaper"))
    assert "What was acknowledged can be lost" in cli("doctor").stdout  # a server of tests


@pytest.mark.usefixtures("told")  # a listener that hears nothing is broken, it says
def test_each_of_many_things_that_are_wrong_is_named_with_what_to_do(
    doctor, conn, damage, tmp_path, home
):
    """All at once: a finding of one check does not depend on those of another."""
    vault = tmp_path / "vault"
    plugin = vault / ".obsidian" / "plugins" / "persona"
    plugin.mkdir(parents=True)
    (plugin / "data.json").write_text('{"queueConsumerEnabled": true}')
    (home / "secrets").mkdir()
    (home / "secrets" / "open").write_text("x")
    (home / "secrets" / "open").chmod(0o644)
    for statement in (
        "drop function persona.create_jobs(jsonb)",
        "select persona.register_agent('gone', argv => '{no-such-program}')",
        """select persona.register_agent('keyed', argv => '{true}',
             env => '{"A": {"secret": "nowhere"}, "B": {"secret": "open"}}')""",
        "select persona.create_job('t', agent => 'shell') from generate_series(1, 2)",
        """select persona.claim_job(r.id) from persona.register_runner(
             name => 'old', hostname => 'h', pid => 1, version => '0.0.1') as r""",
        "select persona.set_setting('bridge_agent_action', '\"runner\"')",
        "select persona.tick()",
    ):
        conn.execute(statement)
    damage("update persona.job_leases set expires_at = now() - interval '1 minute'")
    damage("insert into persona.alerts (kind, message) values ('job_failed', 'x')")
    damage(
        "do $$ declare v_day date; begin for v_day in select d::date from generate_series("
        " (now() at time zone 'UTC')::date, (now() at time zone 'UTC')::date + 3, '1 day') as d loop"
        " execute format('alter table persona.job_logs_%s rename to job_logs_%s',"
        " to_char(v_day, 'YYYYMMDD'), to_char(v_day - 100, 'YYYYMMDD')); end loop; end $$"
    )

    code, found = doctor(
        PERSONA_VAULT_PATH=str(vault), JOB_PROCESS_CONTROL="cgroup", PATH="/usr/bin:/bin"
    )

    said = {check: f["seen"] for check, f in found.items() if f["state"] == "warn"}
    for check, words in {
        "process control": "subreaper (no cgroup",
        "connection": "fsync is off",
        "schema": "create_jobs",
        "programs": "gone (no-such-program)",
        "secrets": "secret nowhere is not there",
        "runners": "of another version than this package",
        "stuck jobs": "1 running without a heartbeat",
        "upkeep": "no log partition for today",
        "alerts": "1 job_failed",
        "plugin": "its queue consumer is on",
    }.items():
        assert words in said.pop(check), found[check]
        assert found[check]["advice"]
    assert said == {}
    assert "open to others; chmod 600" in found["secrets"]["seen"]
    assert code == 0  # warnings alone


def test_jobs_without_a_runner_and_jobs_that_wait_too_long(looked, conn, damage):
    conn.execute("select persona.create_job('t', agent => 'shell')")
    damage("update persona.job_queue set run_at = now() - interval '2 hours'")

    found = looked()

    assert found["runners"].seen == "none, and 1 jobs wait"
    assert "waits for more than an hour" in found["stuck jobs"].seen
    assert "no live runner serves agent shell" in found["stuck jobs"].seen


@pytest.mark.parametrize(
    ("statement", "words", "advice"),
    [
        ("delete from persona.schema_migrations where name > '0011'", "behind", "db migrate"),
        ("drop schema persona cascade", "there is none", "db migrate"),
        (
            "insert into persona.schema_migrations (name) values ('9999_later.sql')",
            "newer than this package: 9999_later.sql", "Upgrade persona-pg",
        ),
    ],
)  # fmt: skip
def test_a_schema_that_does_not_fit_ends_the_checks(looked, damage, statement, words, advice):
    damage(statement)

    found = looked()

    assert (found["schema"].state, words in found["schema"].seen) == ("fail", True), found["schema"]
    assert advice in found["schema"].advice
    assert list(found)[-1] == "schema"


def test_a_server_that_takes_no_writes(looked, damage, database):
    damage(f"alter database {database} set default_transaction_read_only = on")

    found = looked()

    assert found["connection"].state == "fail"
    assert "takes no writes: default_transaction_read_only" in found["connection"].seen


def test_a_pooler_in_transaction_mode_is_told_from_a_server(looked, dsn, pooler):
    found = looked(pooler("transaction").dsn(dsn))

    assert found["listener"].state == "fail"
    assert "pool_mode = session" in found["listener"].advice


def test_who_holds_the_oldest_snapshot_and_what_it_leads_to(connect, monkeypatch, damage):
    monkeypatch.setattr(server, "_SNAPSHOT_AGE", 10)
    monkeypatch.setattr(server, "_DEAD_ROWS", 10)
    holder = connect("a forgotten report", autocommit=False)
    holder.execute("set transaction isolation level repeatable read")
    holder.execute("select count(*) from persona.jobs")
    conn = connect()
    for _ in range(20):
        conn.execute("select pg_current_xact_id()")
    conn.execute("update persona.settings set value = value from generate_series(1, 3)")
    conn.execute("select pg_stat_force_next_flush()")

    found = server.oldest_snapshot(conn)
    rows = server.dead_rows(conn)

    assert (found.state, "transactions old: " in found.seen) == ("warn", True), found
    # Others on this server may hold an older one.
    every = conn.execute(server._HOLDERS.replace("limit 1", "")).fetchall()
    [(said, _, advice)] = [row for row in every if "a forgotten report" in row[0]]
    assert "transaction open since 2" in said
    assert f"pg_terminate_backend({holder.info.backend_pid})" in advice
    assert (rows.state, "of them in settings" in rows.seen) == ("warn", True), rows
    holder.rollback()


def test_a_listener_that_does_not_read_and_connections_that_run_out(connect, monkeypatch):
    monkeypatch.setattr(server, "_QUEUE_USAGE", 0)
    monkeypatch.setattr(server, "_CONNECTIONS", 0)
    deaf = connect(autocommit=False)
    deaf.execute("listen nothing")
    deaf.commit()
    deaf.execute("select 1")
    conn = connect()
    for n in range(10):
        conn.execute("select pg_notify('nothing', %s)", (f"{n}" * 7000,))

    found = server.notification_queue(conn)

    assert (found.state, "end it; full, it stops creates" in found.advice) == ("fail", True)
    assert server.connections_in_use(conn).state == "warn"


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime")
def test_a_clock_a_day_off(run_program):
    program = shutil.which("persona", path=str(Path(sys.executable).parent))
    env = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "-1d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    done = run_program(program, "doctor", "--json", env=env)

    found = {f["check"]: f for f in json.loads(done.stdout)}
    assert found["clock"]["state"] == "warn"
    assert found["clock"]["seen"].startswith("the server's clock is 86")
    assert "ahead" in found["clock"]["seen"]


def test_a_role_that_may_not_look_is_told_so(looked, databases, database, damage):
    damage(f"create role n_{database} login password 'persona'")
    try:
        found = looked(databases.dsn(database, user=f"n_{database}"))
    finally:
        damage(f"drop role n_{database}")

    assert found["connection"].state != "fail"
    assert found["schema"].state == "warn"
    assert "may not be looked at" in found["schema"].seen
    assert "persona_admin" in found["runners"].advice


@pytest.mark.parametrize(
    ("env", "check", "words"),
    [
        ({"PERSONA_DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"}, "connection", ""),
        ({"PERSONA_HOME": "/etc/passwd/home"}, "folder", "/etc/passwd is no folder"),
        ({"JOB_HUNG_TIMEOUT": "5s"}, "configuration", "JOB_HUNG_TIMEOUT: the value '5s'"),
    ],
)
def test_what_is_wrong_before_there_is_a_database(doctor, env, check, words):
    code, found = doctor(**env)

    assert code == 1
    assert (found[check]["state"], words in found[check]["seen"]) == ("fail", True), found[check]
    assert found[check]["advice"]
    assert "secret" not in json.dumps(found).replace('"secrets"', "")


def test_every_check_is_looked_at_here():
    assert {"runners", "programs", "stuck_jobs", "upkeep", "alerts", "secrets", "plugin"} == {
        name for name, value in vars(work).items()
        if callable(value) and value.__module__ == work.__name__ and not name.startswith("_")
    }  # fmt: skip
