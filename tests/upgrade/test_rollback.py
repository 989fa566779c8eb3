"""What can be taken back alone, from today to the release before, while data and jobs stay."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pgtest
import psycopg
import pytest
from pgtest import eventually
from sqltest import Queue

from persona_pg import migrations, rollback
from persona_pg.errors import ConfigurationError, PersonaError

CREATE = "persona.create_job('command', '{\"argv\": [\"true\"]}'"


def test_the_programs_go_back_alone(previous, worker, dsn, conn):
    """Its runner starts on today's schema, and does what today's clients have asked for."""
    queue = Queue(conn)
    job = queue.row(f"select id from {CREATE}, limit_key => 'k', max_cost_usd => 1)")

    one = worker(env=previous.environ)

    eventually(lambda: queue.status(job) == "completed", 60, what=one.output)


def test_one_function_goes_back_alone_whatever_its_arguments_were(previous, dsn, conn):
    newer = "select count(*) from persona.budget_use"

    names = rollback.take_back(dsn, previous.tree, ["create_job"])

    assert names == ["functions/client/create_job.sql"]
    status = migrations.status(dsn)
    assert any("create_job(" in name for name in [*status.drifted, *status.orphaned])
    assert conn.execute(f"select ({CREATE})).status").fetchone() == ("pending",)
    assert conn.execute(newer).fetchone() == (0,)
    owner = "select proowner::regrole::text from pg_proc where proname = 'create_job'"
    assert conn.execute(owner).fetchone() == ("persona_definer",)
    migrations.migrate(dsn)
    assert migrations.status(dsn).is_current


def test_one_view_goes_back_alone(previous, dsn, conn):
    body = "select pg_get_viewdef('persona.job_dashboard'::regclass)"
    (today,) = conn.execute(body).fetchone()
    program = Path(sys.executable).with_name("persona")

    done = subprocess.run(
        [program, "db", "rollback", previous.tree, "views/job_dashboard.sql"],
        env={"PERSONA_DATABASE_URL": dsn}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == f"as in {previous.tree}: views/job_dashboard.sql\n"
    assert "max cost" in today
    assert "max cost" not in conn.execute(body).fetchone()[0]
    migrations.migrate(dsn)
    assert conn.execute(body).fetchone() == (today,)


def test_a_view_of_another_shape_goes_back_unless_something_depends_on_it(dsn, conn, tmp_path):
    tree = tmp_path / "db"
    shutil.copytree(pgtest.ROOT / "db", tree)
    (tree / "views" / "queue_health.sql").write_text(
        "create or replace view persona.queue_health as select 1 as one;"
    )
    conn.execute("create view public.mine as select * from persona.queue_health")

    with pytest.raises(PersonaError, match="view public.mine depends on view persona.queue_health"):
        rollback.take_back(dsn, tree, ["queue_health"])

    conn.execute("drop view public.mine")
    rollback.take_back(dsn, tree, ["queue_health"])
    assert conn.execute("select * from persona.queue_health").fetchall() == [(1,)]


def test_what_would_break_every_call_is_refused(previous, dsn):
    with pytest.raises(
        PersonaError, match="returns claimed_job, which 0021_budgets.sql has changed"
    ):
        rollback.take_back(dsn, previous.tree, ["create_job", "claim_jobs"])
    assert migrations.status(dsn).is_current


def test_what_the_tree_does_not_have_is_named(previous, dsn, tmp_path):
    with pytest.raises(ConfigurationError, match="has no function or view budget_use"):
        rollback.take_back(dsn, previous.tree, ["budget_use"])
    with pytest.raises(ConfigurationError, match=r"no db/install\.sql"):
        rollback.take_back(dsn, tmp_path, ["create_job"])


def test_a_feature_is_switched_off_by_its_setting_alone(conn):
    """Priorities that do not starve came last: without ageing, claims are ordered as before."""
    queue = Queue(conn)
    queue.agent()
    runner = queue.runner()
    low, high = queue.create(priority=0), queue.create(priority=1)
    queue.run(
        "update persona.job_queue set run_at = now() - interval '1 day' where job_id = %s",
        low["id"],
    )
    queue.one("set_setting", name="priority_ageing_seconds", value=psycopg.types.json.Jsonb(0))

    assert [job["id"] for job in queue.claim(runner, 1)] == [high["id"]]
