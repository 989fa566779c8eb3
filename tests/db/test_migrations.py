"""The Python door of the schema, on a small tree of its own."""

from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pgtest
import psycopg
import pytest

from persona_pg import migrations
from persona_pg.errors import (
    ConfigurationError,
    NotPermitted,
    PersonaError,
    SchemaTooNew,
    TryLater,
)

INSTALL = r"""-- A small schema.
\set ON_ERROR_STOP on
begin isolation level read committed;
select pg_catalog.pg_advisory_xact_lock(7378697629001);
set local lock_timeout = '5s';
\ir bootstrap.sql
\set migration 0001_first.sql
\ir _apply_migration.sql
\set migration 0002_second.sql
\ir _apply_migration.sql
\ir functions/client/answer.sql
commit;
"""
BOOTSTRAP = """create schema if not exists persona;
create table if not exists persona.schema_migrations (
  name text primary key, checksum text, applied_at timestamptz not null default now());
"""
MACRO = r"""select not exists (
  select from persona.schema_migrations as m where m.name = :'migration'
) as is_new \gset
\if :is_new
  \ir migrations/:migration
  insert into persona.schema_migrations (name) values (:'migration');
\endif
"""
ANSWER = """create or replace function persona.answer() returns text
language sql stable set search_path = pg_catalog, pg_temp
begin atomic select format('%s%%', lower('FORTY-TWO')); end;
"""


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "db"
    files = {
        "install.sql": INSTALL,
        "bootstrap.sql": BOOTSTRAP,
        "_apply_migration.sql": MACRO,
        "migrations/0001_first.sql": "create table persona.t (a text default '50%');\n"
        "insert into persona.t default values;\n",
        "migrations/0002_second.sql": "alter table persona.t add column b text;\n"
        "comment on column persona.t.b is 'a $migration_ in a comment';\n",
        "functions/client/answer.sql": ANSWER,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def rows(dsn, query):
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute(query).fetchall()


def psql(dsn, *arguments, text=None):
    return subprocess.run(
        [pgtest.client_program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_steps_are_those_of_install_sql_in_its_order(tree):
    names = [step.name for step in migrations.read_steps(tree)]

    assert names == ["", "bootstrap.sql", "0001_first.sql", "0002_second.sql",
                     "functions/client/answer.sql"]  # fmt: skip


def test_install_twice_changes_nothing_the_second_time(empty_dsn, tree):
    first = migrations.migrate(empty_dsn, directory=tree)
    second = migrations.migrate(empty_dsn, directory=tree)

    assert first.applied == ["0001_first.sql", "0002_second.sql"]
    assert (second.applied, second.version) == ([], 2)
    assert rows(empty_dsn, "select a, b from persona.t") == [("50%", None)]
    assert rows(empty_dsn, "select persona.answer()") == [("forty-two%",)]
    assert rows(empty_dsn, "select name, checksum from persona.schema_migrations order by 1") == [
        (name, hashlib.sha256((tree / "migrations" / name).read_bytes()).hexdigest())
        for name in ("0001_first.sql", "0002_second.sql")
    ]


def test_twenty_installs_at_once_are_one(empty_dsn, tree):
    with ThreadPoolExecutor(20) as pool:
        running = [pool.submit(migrations.migrate, empty_dsn, directory=tree) for _ in range(20)]
        applied = [one.result(30).applied for one in running]

    assert sorted(map(len, applied)) == [0] * 19 + [2]
    assert rows(empty_dsn, "select count(*) from persona.t") == [(1,)]


def test_a_file_that_fails_leaves_nothing_behind_and_is_named(empty_dsn, tree):
    (tree / "migrations/0002_second.sql").write_text("\n\nselect nonsense;\n")

    with pytest.raises(PersonaError, match=r"^0002_second.sql, line 3: column .nonsense."):
        migrations.migrate(empty_dsn, directory=tree)

    assert rows(empty_dsn, "select to_regnamespace('persona')") == [(None,)]


def test_an_edited_migration_is_refused_by_name(empty_dsn, tree):
    migrations.migrate(empty_dsn, directory=tree)
    with (tree / "migrations/0001_first.sql").open("a") as stream:
        stream.write("-- a little change\n")

    with pytest.raises(ConfigurationError, match=r"0001_first\.sql") as caught:
        migrations.migrate(empty_dsn, directory=tree)

    assert caught.value.exit_code == 78
    assert migrations.status(empty_dsn, directory=tree).changed == ["0001_first.sql"]


def test_a_schema_that_is_too_new_is_refused(empty_dsn, tree):
    migrations.migrate(empty_dsn, directory=tree)
    rows(empty_dsn, "insert into persona.schema_migrations (name) values ('0099_later.sql')"
         " returning 1")  # fmt: skip

    with pytest.raises(SchemaTooNew, match=r"0099_later\.sql") as caught:
        migrations.migrate(empty_dsn, directory=tree)

    assert caught.value.exit_code == 78
    assert migrations.status(empty_dsn, directory=tree).unknown == ["0099_later.sql"]


def test_psql_applies_the_same_and_python_adds_the_checksums(empty_dsn, tree):
    for _ in range(2):
        assert psql(empty_dsn, "-f", str(tree / "install.sql")).returncode == 0
    unset = "select count(*) from persona.schema_migrations where checksum is null"
    assert rows(empty_dsn, unset) == [(2,)]

    assert migrations.migrate(empty_dsn, directory=tree).applied == []

    assert rows(empty_dsn, unset) == [(0,)]
    assert rows(empty_dsn, "select count(*) from persona.t") == [(1,)]


def test_the_dumped_script_is_plain_sql_and_may_run_twice(empty_dsn, tree):
    script = migrations.dump_sql(tree)
    assert not [line for line in script.splitlines() if line.startswith("\\")]

    for _ in range(2):
        assert psql(empty_dsn, text=script).returncode == 0

    assert rows(empty_dsn, "select count(*) from persona.t") == [(1,)]
    assert migrations.status(empty_dsn, directory=tree).is_current


def test_a_hostile_search_path_changes_nothing(databases, empty_database, empty_dsn, tree):
    with psycopg.connect(databases.dsn(empty_database, superuser=True), autocommit=True) as conn:
        conn.execute("create schema evil")
        conn.execute("create function evil.lower(text) returns text return 'hijacked'")
        conn.execute("grant usage on schema evil to public")
        conn.execute(f"alter database {empty_database} set search_path = evil, pg_catalog, public")

    migrations.migrate(empty_dsn, directory=tree)

    assert rows(empty_dsn, "select persona.answer()") == [("forty-two%",)]


def test_a_role_without_the_right_is_told_so(databases, empty_database, tree):
    role = f"r_{empty_database}"
    databases.admin.execute(f"create role {role} login password 'persona'")
    try:
        with pytest.raises(NotPermitted) as caught:
            migrations.migrate(databases.dsn(empty_database, user=role), directory=tree)
        assert caught.value.exit_code == 5
    finally:
        databases.admin.execute(f"drop role {role}")


def test_a_lock_that_does_not_come_free_ends_in_try_later(empty_dsn, tree):
    migrations.migrate(empty_dsn, directory=tree)
    text = (tree / "install.sql").read_text().replace("'5s'", "'100ms'")
    (tree / "install.sql").write_text(
        text.replace(
            "\\ir functions",
            "\\set migration 0003_third.sql\n\\ir _apply_migration.sql\n\\ir functions",
        )
    )
    (tree / "migrations/0003_third.sql").write_text("alter table persona.t add column c text;\n")

    with psycopg.connect(empty_dsn) as reader:
        reader.execute("select from persona.t")
        with pytest.raises(TryLater, match="lock timeout") as caught:
            migrations.migrate(empty_dsn, directory=tree)

    assert caught.value.exit_code == 75


def test_status_finds_what_is_pending_drifted_and_orphaned(empty_dsn, tree):
    assert migrations.status(empty_dsn, directory=tree).pending == [
        "0001_first.sql",
        "0002_second.sql",
    ]
    migrations.migrate(empty_dsn, directory=tree)
    assert migrations.status(empty_dsn, directory=tree).is_current

    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute(ANSWER.replace("FORTY-TWO", "FORTY-ONE"))
        conn.execute("create function persona.stray() returns int return 1")
    found = migrations.status(empty_dsn, directory=tree)

    assert found.drifted == ["persona.answer()"]
    assert found.orphaned == ["persona.stray()"]
    assert rows(empty_dsn, "select persona.answer()") == [("forty-one%",)]


@pytest.mark.parametrize("line", ["\\if true", "\\gset", "\\copy t from x", "\\! rm -rf /", "\\ir"])
def test_a_psql_command_that_is_not_understood_is_refused(tree, line):
    with (tree / "install.sql").open("a") as stream:
        stream.write(line + "\n")

    with pytest.raises(ConfigurationError, match=r"install\.sql, line 13: not understood"):
        migrations.read_steps(tree)


def test_a_file_that_is_named_twice_is_refused(tree):
    with (tree / "install.sql").open("a") as stream:
        stream.write("\\ir functions/client/answer.sql\n")

    with pytest.raises(ConfigurationError, match=r"answer\.sql twice"):
        migrations.read_steps(tree)
