"""The real schema, through each door: psql, Python, and the dumped script."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pgtest
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from persona_pg import migrations, resources
from persona_pg.errors import TryLater

INSTALL = resources.db_directory() / "install.sql"


def psql(dsn, *arguments, text=None, program=None):
    return subprocess.run(
        [program or pgtest.client_program("psql"), "-X", "-q", "-d", dsn, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def dump(dsn):
    """What pg_dump says about the schema; the lines with \\restrict are random.

    So is the mark that 15.20 puts on a column whose definition was altered.
    """
    text = subprocess.run(
        [pgtest.client_program("pg_dump"), "-s", "-n", "persona", "-d", dsn],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    return re.sub(r"(?m)^(\\(un)?restrict.*|--.*|.* SET \(pg_attver=\d+\);|)\n", "", text)


@pytest.fixture
def two_more(databases):
    names = [databases.create() for _ in range(2)]
    yield [databases.dsn(name) for name in names]
    for name in names:
        databases.drop(name)


def smoke(dsn):
    """A job goes through, as far as SQL alone can take it."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        job = conn.execute(
            "select j.id from persona.create_job('command', '{\"argv\": [\"true\"]}',"
            " agent => 'command') as j"
        ).fetchone()
        runner = conn.execute(
            "select r.id from persona.register_runner(name => 'r', hostname => 'h', pid => 1,"
            " boot_id => 'b', capacity => 1) as r"
        ).fetchone()
        claimed = conn.execute(
            "select c.id, c.lease from persona.claim_job(%s) as c", runner
        ).fetchone()
        assert claimed[0] == job[0]
        conn.execute("select persona.complete_job(%s, %s, %s, exit_code => 0)", (*runner, *claimed))
        status = conn.execute("select status from persona.get_job(%s)", (str(job[0]),)).fetchone()
        assert status == ("completed",)


def test_the_three_doors_make_the_same_schema(empty_dsn, two_more):
    by_psql, by_script = two_more

    migrations.migrate(empty_dsn)
    result = psql(by_psql, "-f", INSTALL)
    assert result.returncode == 0, result.stderr
    result = psql(by_script, "-v", "ON_ERROR_STOP=1", text=migrations.dump_sql())
    assert result.returncode == 0, result.stderr

    expected = dump(empty_dsn)
    assert "create_job" in expected
    assert dump(by_psql) == expected
    assert dump(by_script) == expected
    assert migrations.status(by_psql).is_current


@pytest.mark.parametrize("program", ["newest", "system"])
def test_psql_installs_twice_without_harm(empty_dsn, program):
    found = pgtest.client_program("psql") if program == "newest" else shutil.which("psql")
    if found is None:
        pytest.skip("no psql on PATH")

    first = psql(empty_dsn, "-f", INSTALL, program=found)
    after_first = dump(empty_dsn)
    second = psql(empty_dsn, "-f", INSTALL, program=found)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert dump(empty_dsn) == after_first
    smoke(empty_dsn)


def test_python_installs_twice_without_harm(empty_dsn):
    first = migrations.migrate(empty_dsn)
    after_first = dump(empty_dsn)

    assert first.applied
    assert migrations.migrate(empty_dsn).applied == []
    assert dump(empty_dsn) == after_first
    smoke(empty_dsn)


def test_an_install_over_a_running_queue_keeps_its_jobs(dsn, conn):
    conn.execute(
        "select persona.create_job('command', '{\"argv\": [\"true\"]}', agent => 'command')"
    )

    migrations.migrate(dsn)
    result = psql(dsn, "-f", INSTALL)

    assert result.returncode == 0, result.stderr
    assert conn.execute("select count(*) from persona.jobs").fetchone() == (1,)


def test_twenty_installs_at_once_through_both_doors_are_one(empty_dsn):
    def by_psql():
        return psql(empty_dsn, "-v", "ON_ERROR_STOP=1", "-f", INSTALL).returncode

    def by_python():
        try:
            migrations.migrate(empty_dsn)
        except TryLater as exc:
            return exc.exit_code
        return 0

    with ThreadPoolExecutor(20) as pool:
        running = [pool.submit(door) for door in (by_psql, by_python) * 10]
        codes = [one.result(100) for one in running]

    # One that waited longer than the lock timeout of 5 s says so and may be run again.
    assert codes.count(0) >= 1
    assert migrations.migrate(empty_dsn).applied == []
    smoke(empty_dsn)


def test_a_hostile_search_path_changes_nothing(databases, empty_database, empty_dsn, two_more):
    with psycopg.connect(databases.dsn(empty_database, superuser=True), autocommit=True) as conn:
        conn.execute("create schema evil")
        conn.execute("grant usage on schema evil to public")
        for statement in (
            "create table evil.jobs (id int)",
            "create table evil.settings (name text, value text)",
            "create function evil.now() returns timestamptz return '2000-01-01'::timestamptz",
            "create function evil.lower(text) returns text return 'hijacked'",
            "create function evil.coalesce_(text) returns text return 'hijacked'",
            "create function evil.jsonb_typeof(jsonb) returns text return 'hijacked'",
            "create function evil.evil_eq(text, text) returns boolean return false",
            "create operator evil.= (leftarg = text, rightarg = text, function = evil.evil_eq)",
        ):
            conn.execute(statement)
        conn.execute(f"alter database {empty_database} set search_path = evil, pg_catalog, public")

    result = psql(empty_dsn, "-f", INSTALL)
    assert result.returncode == 0, result.stderr
    migrations.migrate(empty_dsn)
    migrations.migrate(two_more[0])

    assert dump(empty_dsn) == dump(two_more[0])
    smoke(empty_dsn)


def test_a_repeatable_read_default_does_not_break_concurrent_installs(
    databases, empty_database, empty_dsn
):
    databases.admin.execute(
        f"alter database {empty_database} set default_transaction_isolation = 'repeatable read'"
    )

    with ThreadPoolExecutor(6) as pool:
        for one in [pool.submit(migrations.migrate, empty_dsn) for _ in range(6)]:
            one.result(60)

    assert migrations.status(empty_dsn).is_current


@pytest.mark.parametrize("can_create_roles", [True, False], ids=["createrole", "nocreaterole"])
def test_the_owner_of_a_database_needs_no_other_power(can_create_roles):
    # A server of its own: roles belong to all databases of a server.
    server = pgtest.TemporaryServer()
    try:
        with psycopg.connect(
            host=server.host, user="postgres", dbname="postgres", autocommit=True
        ) as admin:
            power = "createrole" if can_create_roles else "nocreaterole"
            admin.execute(f"create role plain login nosuperuser nocreatedb {power}")
            admin.execute("create database plain owner plain")
        dsn = make_conninfo(host=server.host, user="plain", dbname="plain")
        notices = []

        migrations.migrate(dsn, notice=notices.append)
        assert psql(dsn, "-f", INSTALL).returncode == 0

        smoke(dsn)
        assert migrations.status(dsn).is_current
        assert bool(notices) is not can_create_roles
    finally:
        server.close()


@pytest.mark.usefixtures("dsn")  # whose installation has made the roles of the cluster
def test_everything_may_belong_to_a_role_that_cannot_log_in(databases, empty_database, empty_dsn):
    role, user = f"o_{empty_database}", conninfo_to_dict(empty_dsn)["user"]
    databases.admin.execute(f"create role {role} nologin createrole")
    try:
        databases.admin.execute(
            f"grant {role} to {user}; grant persona_definer to {role};"
            f" alter database {empty_database} owner to {role}"
        )
        dsn = make_conninfo(empty_dsn, options=f"-c role={role}")
        for _ in range(2):
            migrations.migrate(dsn)
        with psycopg.connect(dsn) as conn:
            owners = conn.execute(
                "select r.rolname, bool_or(r.rolcanlogin) from pg_roles as r join ("
                " select p.proowner from pg_proc as p where p.pronamespace = 'persona'::regnamespace"
                " union all"
                " select c.relowner from pg_class as c where c.relnamespace = 'persona'::regnamespace"
                ") as o (oid) using (oid) group by r.rolname order by r.rolname"
            ).fetchall()
        assert owners == [(role, False), ("persona_definer", False)]
    finally:
        databases.drop(empty_database)
        databases.admin.execute(f"drop owned by {role}; drop role {role}")
