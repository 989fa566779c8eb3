"""What a person sees: `persona config`, and the one line that each misconfiguration prints."""

from __future__ import annotations

import json

import psycopg
import pytest

from persona_pg import settings

WRONG = {
    "PERSONA_DATABASE_URL": "not a connection string",
    "PERSONA_HOME": "relative",
    "PERSONA_ROOT": "relative",
    "PERSONA_VAULT_PATH": "relative",
    "PERSONA_BUSINESS": "a b",
    "JOB_HEARTBEAT_INTERVAL": "soon",
    "JOB_HUNG_TIMEOUT": "60",
    "JOB_TIMEOUT": "0",
    "JOB_IDLE_TIMEOUT": "-1",
    "JOB_MAX_ATTEMPTS": "0",
    "JOB_KILL_GRACE": "ages",
    "PERSONA_VAULT_NAME": "a/b",
    "JOB_PROCESS_CONTROL": "docker",
    "JOB_OUTPUT_LIMIT": "10XB",
    "JOB_LOG_RETENTION_DAYS": "0",
    "WORKER_CONCURRENCY": "many",
    "WORKER_POLL_INTERVAL": "1ms",
    "WORKER_DRAIN_TIMEOUT": "nan",
    "PERSONA_LOG_FORMAT": "xml",
    "CLAUDE_MODEL": "--x",
    "GEMINI_MODEL": "a b",
    "ALERT_WEBHOOK_URL": "ftp://x",
    "ALERT_SMTP_URL": "x",
    "ALERT_MAIL_TO": "x",
    "SUPABASE_URL": "x",
    "PERSONA_ENV_FILE": "/nonexistent/.env",
}


def assert_one_line(result, exit_code, *parts):
    assert result.returncode == exit_code, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr


def test_the_list_of_wrong_values_is_complete():
    assert {name for name, _, _ in settings.variables()} == WRONG.keys() - {"PERSONA_ENV_FILE"}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_value_is_one_line_and_78(cli, name):
    result = cli("status", env={name: WRONG[name]})

    value = "not shown" if name in {"PERSONA_DATABASE_URL", "ALERT_WEBHOOK_URL", "ALERT_SMTP_URL"} \
        else WRONG[name]  # fmt: skip
    assert_one_line(result, 78, f"{name}: ", value, "must be")


def test_supabase_without_its_connection_string_is_one_line_and_78(cli):
    environment = {"SUPABASE_URL": "https://x.supabase.co", "PERSONA_DATABASE_URL": ""}

    assert_one_line(cli("status", env=environment), 78, "PERSONA_DATABASE_URL", "Session pooler")


def test_a_database_out_of_reach_is_one_line_and_69(cli):
    url = {"PERSONA_DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/x"}

    for command in (["status"], ["db", "migrate"], ["db", "status"]):
        result = cli(*command, env=url)
        assert_one_line(result, 69)
        assert "hunter2" not in result.stderr


def test_a_database_that_does_not_exist_is_one_line_and_69(cli, dsn):
    url = psycopg.conninfo.make_conninfo(dsn, dbname="nonexistent")

    assert_one_line(cli("status", env={"PERSONA_DATABASE_URL": url}), 69, "nonexistent")


def test_a_database_without_the_schema_is_one_line_and_78(cli, empty_dsn):
    result = cli("status", env={"PERSONA_DATABASE_URL": empty_dsn})

    assert_one_line(result, 78, "persona db migrate")


def test_a_schema_that_is_too_new_is_one_line_and_78(cli, conn):
    conn.execute("insert into persona.schema_migrations (name) values ('0999_later.sql')")

    assert_one_line(cli("db", "migrate"), 78, "0999_later.sql", "upgrade persona-pg")
    assert cli("db", "status").returncode == 78


def test_db_migrate_then_status_on_a_database_of_ones_own(cli, empty_dsn):
    url = {"PERSONA_DATABASE_URL": empty_dsn}

    before = cli("db", "status", env=url)
    migrated = cli("db", "migrate", env=url)
    again = cli("db", "migrate", env=url)
    after = cli("db", "status", "--json", env=url)

    assert (before.returncode, "persona db migrate" in before.stderr) == (1, True)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert migrated.stdout.startswith("applied 0001_")
    assert again.stdout.startswith("the schema is up to date")
    assert after.returncode == 0
    assert json.loads(after.stdout)["current"] is True


def test_config_shows_value_and_source_and_masks_passwords(cli, tmp_path):
    file = tmp_path / "my.env"
    file.write_text("WORKER_CONCURRENCY=7\n")
    result = cli(
        "config",
        "--json",
        env={
            "PERSONA_ENV_FILE": str(file),
            "JOB_TIMEOUT": "90",
            "PERSONA_DATABASE_URL": "postgresql://me:hunter2@db/x?password=hunter2",
            "ALERT_WEBHOOK_URL": "https://hooks.example/T0/hunter2",
        },
    )

    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert "hunter2" not in result.stdout
    assert rows["PERSONA_DATABASE_URL"]["value"] == "postgresql://me:***@db/x?password=***"
    assert rows["WORKER_CONCURRENCY"] == {
        "name": "WORKER_CONCURRENCY",
        "value": "7",
        "source": str(file),
    }
    assert rows["JOB_TIMEOUT"] == {"name": "JOB_TIMEOUT", "value": "90s", "source": "environment"}
    assert rows["JOB_KILL_GRACE"]["source"] == "default"
    assert cli("config").stdout.startswith("name ")


def test_dump_sql_needs_no_database(cli):
    result = cli("db", "dump-sql", env={"PERSONA_DATABASE_URL": "host=/nowhere dbname=x"})

    assert result.returncode == 0
    assert "create schema" in result.stdout


def test_a_password_does_not_show_in_the_arguments_of_psql(cli, tmp_path):
    fake = tmp_path / "psql"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$*" "password=$PGPASSWORD"\n')
    fake.chmod(0o755)

    result = cli(
        "db",
        "shell",
        env={"PERSONA_DATABASE_URL": "postgresql://me:hunter2@db/x", "PATH": f"{tmp_path}:/bin"},
    )

    arguments, password = result.stdout.splitlines()
    assert "hunter2" not in arguments
    assert password == "password=hunter2"
