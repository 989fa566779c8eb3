"""What a login of each role tries beyond its rights, in SQL: docs/security.md lists the attacks."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from sqltest import Queue, refused

ROLES = ("viewer", "client", "runner", "admin")
HOSTILE = [
    "'; drop table persona.jobs; --",
    "$$; drop table persona.jobs; $$",
    "\\'; drop table persona.jobs; --",
    "%s %(x)s %I :'ref' {payload.x}",
    '"; select pg_sleep(100); "',
]


@dataclass
class World:
    owner: Queue
    session: object
    logins: dict[str, str]

    def __getattr__(self, role):
        return self.session(self.logins[role])


@pytest.fixture(scope="module")
def world(session, roles):
    owner = session()
    owner.agent(max_attempts=1)
    owner.agent("admins", admin_only=True)
    owner.call("register_job_type", name="theirs", default_agent="admins")
    logins = {role: roles.login(f"persona_{role}") for role in ROLES} | {"stranger": roles.login()}
    return World(owner, session, logins)


def functions_for(world, role, *without):
    """Functions that a role may call, and none of these others may."""
    conditions = "".join(
        f" and not has_function_privilege('persona_{other}', p.oid, 'execute')" for other in without
    )
    found = world.owner.rows(
        "select p.oid::regproc::text as name, p.pronargs as n from pg_proc as p"
        " where p.pronamespace = 'persona'::regnamespace"
        f" and has_function_privilege('persona_{role}', p.oid, 'execute'){conditions}"
    )
    return [(row["name"], row["n"]) for row in found]


def refusals(queue, functions):
    """Call each with nulls; return those that were not refused for want of the right."""
    allowed = []
    for name, number in functions:
        try:
            queue.rows(
                f"select persona.{name.removeprefix('persona.')}({', '.join(['null'] * number)})"
            )
        except psycopg.errors.InsufficientPrivilege as exc:
            if "permission denied for" in str(exc):
                continue
        except psycopg.Error:
            pass
        allowed.append(name)
    return allowed


def test_a_login_without_a_role_reads_and_calls_nothing(world):
    stranger = world.stranger
    relations = world.owner.rows(
        "select c.relname from pg_class as c where c.relnamespace = 'persona'::regnamespace"
        " and c.relkind in ('r', 'p', 'v')"
    )
    every = world.owner.rows(
        "select distinct on (p.proname) p.proname, p.pronargs from pg_proc as p"
        " where p.pronamespace = 'persona'::regnamespace and p.prorettype <> 'trigger'::regtype"
    )

    for row in relations:
        with refused("42501"):
            stranger.rows(f"select * from persona.{row['relname']}")
    assert len(every) > 100
    assert refusals(stranger, [(row["proname"], row["pronargs"]) for row in every]) == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_writes_a_table(world, role):
    login = getattr(world, role)
    tables = world.owner.rows(
        "select 'persona.' || c.relname as name, c.relkind from pg_class as c"
        " where c.relnamespace = 'persona'::regnamespace and c.relkind in ('r', 'p', 'S')"
    )

    for table in tables:
        statements = ["delete from {}", "truncate {}", "insert into {} default values"]
        for statement in ["select nextval('{}')"] if table["relkind"] == "S" else statements:
            with refused("42501"):
                login.run(statement.format(table["name"]))
    with refused("42501"):
        login.run("update persona.jobs set status = 'completed'")


def test_a_viewer_changes_nothing(world):
    assert refusals(world.viewer, functions_for(world, "client", "viewer")) == []
    assert refusals(world.viewer, functions_for(world, "runner", "viewer")) == []
    for command in ("create", "cancel", "retry", "cancel_pending"):
        answer = world.viewer.one("rpc", command=command, body={"type": "t", "id": "x"})["rpc"]
        assert answer["error"]["code"] == "denied", command


def test_a_client_administers_nothing(world):
    functions = functions_for(world, "admin", "client")

    assert {"register_agent", "set_setting", "assign_tenant", "restrict_runner"} <= {
        name.removeprefix("persona.") for name, _ in functions
    }
    assert refusals(world.client, functions) == []


def test_a_client_claims_and_reports_nothing(world):
    functions = functions_for(world, "runner", "client")

    assert {"claim_jobs", "complete_job", "register_runner"} <= {
        name.removeprefix("persona.") for name, _ in functions
    }
    assert refusals(world.client, functions) == []


def test_a_runner_creates_and_administers_nothing(world):
    own = {name for name, _ in functions_for(world, "runner")}
    others = functions_for(world, "admin", "runner")

    assert {name.removeprefix("persona.") for name in own}.isdisjoint(
        {"create_job", "register_agent", "set_setting", "cancel_job"}
    )
    assert refusals(world.runner, others) == []


def test_a_client_runs_nothing_that_is_for_admins(world):
    client = world.client
    for arguments in (
        {"job_type": "t", "agent": "admins"},
        {"job_type": "theirs"},
        {"job_type": "command", "payload": {"argv": ["true"]}},
        {"job_type": "shell", "payload": {"script": "true"}},
        {"job_type": "research", "agent": "shell", "payload": {"question": "x", "script": "true"}},
    ):
        with refused("PJ403", "only an admin"):
            client.call("create_job", **arguments)
    with refused("PJ403"):
        client.call("create_jobs", jobs=[{"job_type": "t", "agent": "command"}])
    body = {"type": "shell", "payload": {"script": "true"}}
    assert client.one("rpc", command="create", body=body)["rpc"]["error"]["code"] == "denied"
    spoken = client.one("bridge", command="create_job", args=[json.dumps(body)])["bridge"]
    assert "error" in json.dumps(spoken)
    mine = client.create()
    with refused("PJ403"):
        client.call(
            "update_job", ref=str(mine["id"]), expected_updated_at=mine["updated_at"],
            changes={"agent": "shell"},
        )  # fmt: skip
    assert client.value("select count(*) from persona.jobs where agent in ('shell', 'admins')") == 0


def test_an_admin_does_not_open_the_program_of_an_agent_to_clients_unawares(world):
    for argv in (
        ["{payload.program}", "x"],
        ["sh", "-c", "{prompt}"],
        ["/bin/bash", "-euc", "echo {payload.text}"],
    ):
        with refused("PJ422", "admin_only|shell would run"):
            world.admin.call("register_agent", name=f"x{uuid.uuid4().hex[:8]}", argv=argv)
    for launcher in (["ssh", "host"], ["env", "/usr/bin/ssh", "-p", "22", "host"]):
        with refused("PJ422", "a shell on the other side"):
            world.admin.call(
                "register_agent",
                name=f"x{uuid.uuid4().hex[:8]}",
                launcher=launcher,
                argv=["echo", "--", "{prompt}"],
            )
    assert world.admin.one(
        "register_agent", name="careful", argv=["sh", "-c", 'echo "$1"', "sh", "{payload.text}"],
        launcher=["/opt/persona-pg/bin/persona-ssh", "host"],
    )  # fmt: skip


def test_nothing_in_the_callers_schemas_is_taken_for_ours(world, roles, databases, session):
    """Functions, operators and tables of the caller stand first in its path, and are not used."""
    name = roles.login("persona_client")
    database = world.owner.value("select current_database()")
    databases.admin.execute(
        sql.SQL("grant create, temporary on database {} to {}").format(
            sql.Identifier(database), sql.Identifier(name)
        )
    )
    evil = session(name)
    evil.run("create schema evil")
    evil.run("create table evil.seen (who text)")
    evil.run("grant usage on schema evil to public")
    for declared, result in (
        ("now()", "timestamptz"),
        ("_caller()", "text"),
        ("_is_admin()", "boolean"),
        ("coalesce_text(text, text)", "text"),
        ("equals(text, text)", "boolean"),
        ("length(text)", "integer"),
    ):
        evil.run(
            f"create function evil.{declared} returns {result} language plpgsql as $$ begin"
            " insert into evil.seen values (current_user); return null; end $$"
        )
    evil.run("create operator evil.= (leftarg = text, rightarg = text, function = evil.equals)")
    for temporary in ("jobs", "agents", "job_queue", "settings", "tenants"):
        evil.run(f"create temp table {temporary} (name text, value jsonb, status text)")
    evil.run("set search_path = evil, pg_temp, persona, pg_catalog")

    made = evil.create(dedupe_key="d", tags=["x"])
    evil.call("get_job", ref=str(made["id"]))
    evil.call("list_jobs")
    evil.call("rpc", command="get", body={"id": str(made["id"])})
    evil.call("cancel_job", ref=str(made["id"]))
    with refused("PJ403", "only an admin"):
        evil.call("create_job", job_type="t", agent="admins")

    assert evil.rows("select * from evil.seen") == []
    assert evil.value("select count(*) from pg_temp.jobs") == 0
    assert world.owner.job(made)["created_by"] == name


@pytest.mark.parametrize("text", HOSTILE)
def test_no_value_becomes_sql(world, text):
    client = world.client
    made = client.create(
        payload={"prompt": text, text: text}, dedupe_key=text, lock_key=text, tags=[text],
        source_file=text, delegated_by=text,
    )  # fmt: skip
    stored = world.owner.job(made)
    assert (stored["payload"], stored["lock_key"]) == ({"prompt": text, text: text}, text)
    for command in ("get", "cancel", "logs", text):
        body = {"id": text, "reason": text, "status": text, "type": text}
        answer = client.one("rpc", command=command, body=body)["rpc"]
        assert answer["ok"] is False
    for command in ("get_job_status", "cancel_pending_jobs", "get_job_logs", text):
        client.one("bridge", command=command, args=[text, text])
    for ask in ({"search": text}, {"tag": text}, {"status": text}, {"sort": text}, {"after": text}):
        try:
            client.call("search_jobs", **ask)
        except psycopg.Error as exc:
            assert exc.sqlstate == "PJ422"  # noqa: PT017 - one of both
    assert world.owner.value("select count(*) from persona.jobs") > 0


def test_a_caller_cannot_say_who_it_is(world):
    client = world.client
    with refused("42501"):
        client.run("set role persona_admin")
    with refused("42501"):
        client.run("set session authorization " + world.logins["admin"])
    with refused("42501"):
        client.run("set role persona_definer")
    for setting in ("application_name", "persona.caller", "request.jwt.claims"):
        client.run(f"select set_config('{setting}', 'somebody', false)")

    assert client.create()["created_by"] == world.logins["client"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "alter table persona.jobs disable trigger all",
        "set session_replication_role = replica",
        "drop function persona.get_job(text)",
        "create function persona.mine() returns void language sql as 'select'",
        "create or replace function persona._is_admin() returns boolean language sql as 'select true'",
        "alter function persona.get_job(text) security invoker",
        "create table persona.mine (x int)",
        "create trigger mine before insert on persona.jobs for each row execute function persona._jobs_guard()",
        "alter table persona.jobs disable row level security",
        "drop policy tenant on persona.jobs",
        "create policy mine on persona.jobs using (true)",
        "grant persona_admin to current_user",
        "grant execute on all functions in schema persona to current_user",
        "alter role persona_definer login",
        "copy persona.jobs to program 'cat'",
        "do $$ begin lock table persona.jobs in access exclusive mode; end $$",
        "drop schema persona cascade",
    ],
)  # fmt: skip
def test_nobody_switches_the_rules_off(world, role, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        getattr(world, role).run(statement)


def test_a_lease_cannot_be_guessed(world):
    owner = world.owner
    mine = owner.create()
    runner = owner.runner("guessed")
    [run] = [run for run in owner.claim(runner, 100) if run["id"] == mine["id"]]
    stranger = world.runner
    other = stranger.runner("guesser")

    for lease in (0, 1, run["lease"] - 1, run["lease"] + 1, run["lease"]):
        item = {"job_id": str(run["id"]), "lease": lease, "outcome": "completed"}
        answer = stranger.one("complete_jobs", runner_id=other, items=[item])
        assert answer["status"] in {"stale", "lost"}, lease
    assert owner.status(mine) == "running"
    assert owner.report(runner, run)["status"] == "ok"


def test_no_address_and_no_password_is_in_a_table_that_viewers_read(world):
    texts = world.viewer.rows("select name, value::text from persona.settings")
    agents = world.viewer.rows("select name, env::text from persona.agents")

    assert not [t for t in (*texts, *agents) if "password" in repr(t) or "://" in repr(t)]
    with refused("PJ422", "url_from"):
        world.admin.call("set_alert_rule", name="leak", kind="job_failed",
                         delivery={"to": "webhook", "url": "https://hooks.example/secret"})  # fmt: skip
