"""persona doctor: a healthy queue, and what it says of broken ones."""

# ruff: noqa: PLR0917 - fixtures are arguments
from __future__ import annotations

import json

import psycopg
import pytest


@pytest.fixture
def doctor(cli):
    def run(**env):
        done = cli("doctor", "--json", env=env)
        return done.returncode, {f["check"]: f for f in json.loads(done.stdout)}

    return run


def test_a_healthy_queue_has_nothing_broken(doctor):
    code, found = doctor()

    assert code == 0
    assert not [f for f in found.values() if f["state"] == "fail"]
    assert found["listener"]["seen"].startswith("heard after")
    assert found["schema"]["seen"].endswith("functions as shipped")
    assert found["process control"]["seen"].startswith(("cgroup", "systemd", "subreaper"))


@pytest.mark.parametrize(
    ("damage", "check", "state", "words"),
    [
        ("drop function persona.create_jobs(jsonb)", "schema", "warn", "create_jobs"),
        ("delete from persona.schema_migrations where name > '0011'", "schema", "fail", "behind"),
        ("drop schema persona cascade", "schema", "fail", "none"),
        (
            "update persona.job_leases set expires_at = now() - interval '1 minute'",
            "stuck jobs", "warn", "1 running without",
        ),
        ("select 1", "programs", "warn", "researcher (claude)"),
        ("delete from persona.runners", "runners", "warn", "1 jobs wait"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_to_do(
    doctor, conn, superuser_dsn, damage, check, state, words
):
    conn.execute(
        "select persona.create_job('t', agent => 'shell') from generate_series(1, 2);"
        " select persona.claim_job(r.id) from persona.register_runner("
        " name => 'r', hostname => 'h', pid => 1) as r"
    )
    with psycopg.connect(superuser_dsn, autocommit=True) as admin:
        admin.execute(damage)

    code, found = doctor()

    assert (found[check]["state"], words in found[check]["seen"]) == (state, True), found[check]
    assert found[check]["advice"]
    assert code == (1 if state == "fail" else 0)


def test_a_database_out_of_reach_is_said_and_not_more(doctor):
    code, found = doctor(PERSONA_DATABASE_URL="postgresql://me:secret@127.0.0.1:1/x")

    assert code == 1
    assert (found["connection"]["state"], "secret" in json.dumps(found)) == ("fail", False)
    assert "schema" not in found
