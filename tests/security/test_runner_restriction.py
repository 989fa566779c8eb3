"""A runner that logs in as a restricted role serves its agents only, and acts for nobody else."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from sqltest import Queue, parameter, refused


@pytest.fixture(scope="module")
def owner(session):
    found = session()
    found.agent()
    found.agent("other")
    return found


@pytest.fixture(scope="module")
def mine(owner, session, roles) -> Queue:
    """A session of a runner that may serve agent a only."""
    name = roles.login("persona_runner")
    owner.call("restrict_runner", role_name=name, agents=["a"])
    return session(name)


def test_it_may_not_register_for_other_agents(mine):
    with refused("PJ403", "may not serve other") as told:
        mine.runner("greedy", agents=["a", "other"])

    assert "It may serve a" in told.hint


def test_without_a_list_it_serves_all_that_it_may(owner, mine):
    runner = mine.runner("modest")
    owner.create(agent="other", priority=9)
    wanted = owner.create(agent="a")

    assert [run["id"] for run in mine.claim(runner, 10)] == [wanted["id"]]
    assert owner.value("select agents from persona.runners where id = %s", runner) == ["a"]


def test_set_role_widens_nothing(mine):
    mine.run("set role persona_runner")
    try:
        with refused("PJ403"):
            mine.runner("escaped", agents=["other"])
    finally:
        mine.run("reset role")


def test_it_may_not_take_the_name_of_another_roles_runner(owner, mine):
    owner.runner("theirs")

    with refused("PJ403", "of another role"):
        mine.runner("theirs", takeover=True)


def test_no_runner_function_acts_for_the_runner_of_another_role(owner, mine):
    """Read from the catalogue: every function that names a runner refuses a stranger."""
    runner = owner.runner("victim", agents=["other"])
    owner.create(agent="other", priority=99)
    [run] = owner.claim(runner)
    known = {
        "runner_id": runner,
        "job_id": run["id"],
        "lease": run["lease"],
        "job_type": "t",
        "command": "children",
        "items": [{"job_id": str(run["id"]), "lease": run["lease"], "outcome": "completed"}],
        "beats": [{"job_id": str(run["id"]), "lease": run["lease"]}],
        "lines": [{"job_id": str(run["id"]), "lease": run["lease"], "seq": 1, "message": "x"}],
        "held": [],
    }
    before = owner.job(run)
    tried = {}
    for row in owner.rows(
        "select p.proname, p.proargnames[1:p.pronargs] as names,"
        " p.pronargs - p.pronargdefaults as needed from pg_proc as p"
        " where p.pronamespace = 'persona'::regnamespace and 'runner_id' = any(p.proargnames[1:p.pronargs])"
        " and has_function_privilege('persona_runner', p.oid, 'execute')"
    ):
        given = {name: known[name] for name in row["names"][: row["needed"]]}
        tried[row["proname"]] = _answer(mine, row["proname"], given)

    # The horizon is about transactions, the same for everybody.
    assert "PJ" not in tried.pop("idle_horizon")
    assert "complete_jobs" in tried
    assert {name: said for name, said in tried.items() if "PJ403" not in said} == {}
    assert owner.job(run) == before
    assert owner.report(runner, run)["status"] == "ok"


def _answer(queue, function, given):
    named = sql.SQL(", ").join(sql.SQL("{} => %s").format(sql.Identifier(a)) for a in given)
    query = sql.SQL("select * from persona.{}({})").format(sql.Identifier(function), named)
    try:
        with queue.conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query, [parameter(v) for v in given.values()]).fetchall()
    except psycopg.Error as exc:
        return str(exc.sqlstate)
    return repr(rows).replace("'code': 'denied'", "PJ403")


def test_a_narrower_list_reaches_runners_that_are_there(owner, session, roles):
    name = roles.login("persona_runner")
    owner.call("restrict_runner", role_name=name, agents=["a", "other"])
    runner = session(name)
    both, left = runner.runner("both"), runner.runner("left", agents=["other"])

    owner.call("restrict_runner", role_name=name, agents=["a"])

    listed = (
        "select agents, drain_requested_at is not null as drains from persona.runners where id = %s"
    )
    assert owner.row(listed, both) == {"agents": ["a"], "drains": False}
    assert owner.row(listed, left) == {"agents": ["other"], "drains": True}


def test_an_unknown_agent_or_role_is_named(owner, roles):
    with refused("PJ422", "nonsense") as told:
        owner.call("restrict_runner", role_name=roles.login(), agents=["nonsense"])
    assert "a" in told.detail["allowed"]
    with refused("PJ422", "existing role"):
        owner.call("restrict_runner", role_name=f"r_{uuid.uuid4().hex}", agents=["a"])


def test_a_restriction_that_is_taken_away_is_gone(owner, session, roles):
    name = roles.login("persona_runner")
    owner.call("restrict_runner", role_name=name, agents=["a"])
    owner.call("restrict_runner", role_name=name, agents=[])

    assert session(name).runner("free", agents=["other"])
