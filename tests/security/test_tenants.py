"""A client of one tenant sees, changes and guesses nothing of another.

What is tried is read from the catalogue: a function or a view that is new and open to clients must
be tried here, else a test fails.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from sqltest import Queue, parameter, refused

SECRET = "zq-secret-of-b"
JOB_STATES = ("pending", "running", "held", "blocked", "failed", "cancelled", "completed")
# What a tenant's job leaves in the tables: none of it may change by what another tenant does.
TRACES = {
    "jobs": "business = 'b'",
    "job_queue": "job_id = any(%(ids)s)",
    "job_leases": "job_id = any(%(ids)s)",
    "job_attempts": "job_id = any(%(ids)s)",
    "job_logs": "job_id = any(%(ids)s)",
    "job_dependencies": "job_id = any(%(ids)s)",
    "questions": "job_id = any(%(ids)s)",
    "events": "job_id = any(%(ids)s)",
    "alerts": "job_id = any(%(ids)s)",
    "note_markers": "vault = 'vault-b'",
    "daily_note_state": "vault = 'vault-b'",
}
NOTE = {
    "path": f"daily/{SECRET}.md",
    "note": "2026-01-01",
    "sha256": "0" * 64,
    "markers": [{"kind": "?", "text": SECRET, "line": 3, "heading": "b"}],
}


@dataclass
class World:
    """Tenant b with jobs in every state, and a client of tenant a who knows all their ids."""

    owner: Queue
    a: Queue
    b: Queue
    jobs: dict[str, dict]

    def traces(self):
        ids = {"ids": [job["id"] for job in self.jobs.values()]}
        with self.owner.conn.cursor(row_factory=dict_row) as cursor:
            return {
                table: sorted(
                    repr(row)
                    for row in cursor.execute(
                        f"select * from persona.{table} where {condition}",
                        ids if "%(" in condition else None,
                    ).fetchall()
                )
                for table, condition in TRACES.items()
            }

    def names(self):
        """Everything by which a job of b could be recognised."""
        found = {SECRET}
        for job in self.jobs.values():
            found |= {str(job["id"]), job["short_id"], str(job["lease"])}
        return found - {"0"}


@pytest.fixture(scope="module")
def world(session, roles):
    owner = session()
    owner.agent(description="common", max_attempts=1)
    name_a, name_b = roles.login("persona_client"), roles.login("persona_client")
    owner.one("assign_tenant", role_name=name_a, businesses=["a"])
    owner.one("assign_tenant", role_name=name_b, businesses=["b"])
    a, b = session(name_a), session(name_b)
    made = {}
    for state in JOB_STATES:
        more = {"depends_on": [made["pending"]["id"]]} if state == "blocked" else {}
        made[state] = b.create(
            payload={"prompt": SECRET},
            dedupe_key=f"key-{state}",
            lock_key=f"lock-{state}",
            limit_key=SECRET,
            tags=[SECRET],
            source_file=SECRET,
            priority={"pending": 0}.get(state, 5),
            **more,
        )
    runner = owner.runner()
    runs = {run["id"]: run for run in owner.claim(runner, 2)}
    for state in ("held", "cancelled"):
        if made[state]["id"] in runs:
            owner.report(runner, runs[made[state]["id"]], "given_back")
    world = World(owner, a, b, made)
    _bring_into_its_state(world, runner)
    b.call("publish_event", event_type="note", ref=str(made["pending"]["id"]), data={"x": SECRET})
    b.call("intake_notes", vault="vault-b", notes=[NOTE], host=SECRET, confirmed=True)
    owner.run("update persona.jobs set business = 'b' where business = 'b'")
    running = str(made["running"]["id"])
    owner.one("set_budget", name="job-of-b", limit_usd=1, scope="job", subject=running)
    for state, job in made.items():
        made[state] = owner.job(job)
        assert made[state]["status"] == state
    a.create(payload={"prompt": "mine"})
    return world


def _bring_into_its_state(world, runner):
    owner, b, jobs = world.owner, world.b, world.jobs
    for state in ("held", "cancelled"):
        b.act("hold_job" if state == "held" else "cancel_job", jobs[state], reason=SECRET)
    held = owner.rows("select job_id from persona.job_leases where runner_id = %s", runner)
    running = {row["job_id"] for row in held}
    for state in ("failed", "completed", "running"):
        if jobs[state]["id"] not in running:
            [_] = owner.claim(runner)
    for state in ("failed", "completed"):
        run = owner.row(
            "select job_id as id, lease from persona.job_leases where job_id = %s",
            jobs[state]["id"],
        )
        owner.report(runner, run, state, error=SECRET, result={"text": SECRET}, cost_usd=1)
    lease = owner.row("select lease from persona.job_leases where runner_id = %s", runner)["lease"]
    line = {
        "job_id": str(jobs["running"]["id"]),
        "lease": lease,
        "seq": 1,
        "stream": "stdout",
        "level": "info",
        "message": SECRET,
    }
    owner.call("append_logs", runner_id=runner, lines=[line])


# -- how each function is called ---------------------------------------------------------------

# By the name of the argument. TARGET is the job that is tried.
TARGET = object()
VALUES = {
    "ref": TARGET,
    "id": TARGET,
    "job_id": TARGET,
    "before": TARGET,
    "parent_job_id": TARGET,
    "answer": "x",
    "reason": "x",
    "changes": {"priority": 9},
    "event_type": "x",
    "vault": "vault-b",
    "answer_path": "x",
    "host": "other",
    "name": "a",
    "seconds": 0,
    "horizon": "1",
}
RPC = [
    ("create", {"type": "t", "agent": "a", "parentId": TARGET}),
    ("create_many", {"jobs": [{"type": "t", "agent": "a", "dependsOn": [TARGET]}]}),
    ("get", {"id": TARGET}),
    ("list", {}),
    ("logs", {"id": TARGET}),
    ("tree", {"id": TARGET}),
    ("explain", {"id": TARGET}),
    ("cancel", {"id": TARGET}),
    ("cancel_pending", {}),
    ("retry", {"id": TARGET}),
    ("hold", {"id": TARGET}),
    ("release", {"id": TARGET}),
    ("answer", {"id": TARGET, "text": "x"}),
    ("questions", {}),
    ("update", {"id": TARGET, "updatedAt": "2026-01-01T00:00:00Z", "changes": {"priority": 1}}),
    ("summary", {}),
    ("agents", {}),
    ("stats", {}),
    ("events", {"id": TARGET}),
    ("events", {}),
    ("events", {"after": "0"}),
    ("version", {}),
]
BRIDGE = [
    ("get_job_status", TARGET),
    ("get_pending_jobs",),
    ("get_running_jobs",),
    ("get_completed_jobs",),
    ("get_failed_jobs",),
    ("get_hung_jobs", "0"),
    ("get_job_logs", TARGET),
    ("get_local_logs", "b", "a", "2026-01-01", TARGET),
    ("log_job_event", TARGET, "info", "x"),
    ("log_batch", TARGET, '["x"]'),
    ("get_job_summary",),
    ("update_job_status", TARGET, '{"status": "cancelled"}'),
    ("update_job_status", TARGET, '{"status": "running"}'),
    ("heartbeat", TARGET),
    ("cancel_pending_jobs",),
    ("get_agent_daily_performance",),
    ("publish_event", "job.cancelled", TARGET),
    ("read_events",),
    ("delete_event", "1"),
    ("get_events", TARGET),
    ("get_events",),
]
# Functions with calls of their own.
CALLS = {
    "rpc": [{"command": command, "body": body} for command, body in RPC],
    "rpc_encoded": [{"command": command, "body": body} for command, body in RPC],
    "bridge": [{"command": command, "args": list(words)} for command, *words in BRIDGE],
    "bridge_encoded": [{"words": [command, *words]} for command, *words in BRIDGE],
    "create_job": [
        {"job_type": "t", "agent": "a", "parent_job_id": TARGET},
        {"job_type": "t", "agent": "a", "depends_on": [TARGET]},
        {"job_type": "t", "agent": "a", "business": "b"},
    ],
    "create_jobs": [{"jobs": [{"job_type": "t", "agent": "a", "parent_job_id": TARGET}]}],
    "intake_notes": [{"vault": "vault-b", "notes": [NOTE | {"markers": []}], "confirmed": True}],
    "update_job": [
        {"ref": TARGET, "expected_updated_at": "2026-01-01", "changes": {"priority": 9}},
        {"ref": TARGET, "expected_updated_at": "now", "changes": {"business": "a"}},
    ],
    "list_jobs": [{"status": state} for state in (*JOB_STATES, "hung", None)],
    "search_jobs": [
        {},
        {"search": TARGET},
        {"search": SECRET},
        {"business": "b", "sort": "duration"},
        {"tag": SECRET, "sort": "oldest", "after": TARGET},
        {"status": "hung"},
    ],
    "list_events": [{}, {"ref": TARGET}],
    "get_events": [{}, {"ref": TARGET}],
    "watch": [{"id": str(uuid.uuid4()), "job_ids": [TARGET], "logs": True}],
    "idle_horizon": [{"runner_id": str(uuid.uuid4())}],
    "note_links": [{"vault": "vault-b", "write_back": True}],
    "_task_preview": [{"p_payload": {}}],
    "_limit_room": [{"p_name": f"key:{SECRET}"}],
    "detect_hung_jobs": [{"seconds": 0}],
    "delete_event": [{"event_id": number} for number in range(1, 6)],
}


def _fill(value, target):
    if value is TARGET:
        return target
    if isinstance(value, list):
        return [_fill(one, target) for one in value]
    if isinstance(value, dict):
        return {key: _fill(one, target) for key, one in value.items()}
    return value


def _encoded(function, arguments):
    if function == "rpc_encoded":
        body = base64.b64encode(json.dumps(arguments["body"]).encode()).decode()
        return arguments | {"body": body}
    if function == "bridge_encoded":
        words = b"".join(word.encode() + b"\xff" for word in arguments["words"])
        return {
            "words": base64.b64encode(words).decode(),
            "number": len(arguments["words"]),
        }
    return arguments


def callable_by(queue):
    """Every function that the session may call, with its arguments: (name, default?)."""
    found = {}
    for row in queue.rows(
        "select p.proname, coalesce(p.proargnames[1:p.pronargs], '{}') as names,"
        " p.pronargs - p.pronargdefaults as needed from pg_proc as p"
        " where p.pronamespace = 'persona'::regnamespace"
        " and has_function_privilege(p.oid, 'execute') and p.prorettype <> 'trigger'::regtype"
    ):
        found.setdefault(row["proname"], []).append((row["names"], row["needed"]))
    return found


def calls_of(name, signatures):
    if name in CALLS:
        return CALLS[name]
    [(arguments, needed)] = signatures
    given = [a for i, a in enumerate(arguments) if i < needed or a in {"ref", "reason"}]
    missing = [a for a in given if a not in VALUES]
    assert not missing, f"say in CALLS how {name}({', '.join(arguments)}) is tried"
    return [{a: VALUES[a] for a in given}]


def answer_of(queue, function, arguments, target):
    """What the caller gets, as text: rows, or the error."""
    given = _encoded(function, _fill(arguments, target))
    named = sql.SQL(", ").join(sql.SQL("{} => %s").format(sql.Identifier(a)) for a in given)
    query = sql.SQL("select * from persona.{}({})").format(sql.Identifier(function), named)
    try:
        with queue.conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query, [parameter(v) for v in given.values()]).fetchall()
    except psycopg.Error as exc:
        diag = exc.diag
        return f"{diag.sqlstate} {diag.message_primary} {diag.message_detail} {diag.message_hint}"
    return repr(rows)


def _without(text, target):
    """The answer without what the caller has said itself, and without what differs each time."""
    for name in (target, target.replace("-", ""), target[-8:]):
        text = text.replace(name, "TARGET")
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{22}|'[0-9a-f]{8}'", "ID", text)
    return re.sub(r"datetime\([^)]*\)|\d{4}-\d\d-\d\dT[\d:.+]+|\d+", "0", text)


def test_every_function_open_to_clients_gives_another_tenant_nothing(world):
    functions = callable_by(world.a)
    assert {"get_job", "cancel_job", "rpc"} <= set(functions)
    before = world.traces()
    told = []
    for name, signatures in sorted(functions.items()):
        for arguments in calls_of(name, signatures):
            repeated = "TARGET" in repr(_fill(arguments, "TARGET"))
            for job in list(world.jobs.values()) if repeated else [world.jobs["pending"]]:
                answer = answer_of(world.a, name, arguments, str(job["id"]))
                said = {str(job["id"]), job["short_id"]} if repeated else set()
                told += [
                    f"{name}({arguments}): {answer}"
                    for known in world.names() - said
                    if known in answer
                ]
                if repeated:
                    unknown = str(uuid.uuid4())
                    blind = answer_of(world.a, name, arguments, unknown)
                    if _without(answer, str(job["id"])) != _without(blind, unknown):
                        told.append(f"{name}({arguments}): {answer} is not {blind}")
        assert world.traces() == before, f"{name} changed something of the other tenant"

    assert told == []


def test_every_table_and_view_open_to_clients_shows_another_tenant_nothing(world):
    relations = world.a.rows(
        "select c.relname from pg_class as c where c.relnamespace = 'persona'::regnamespace"
        " and c.relkind in ('r', 'p', 'v', 'm') and has_table_privilege(c.oid, 'select')"
    )
    assert len(relations) > 20
    shown = {}
    for row in relations:
        content = repr(world.a.rows(f"select * from persona.{row['relname']}"))
        shown[row["relname"]] = [name for name in world.names() if name in content]

    assert {name: found for name, found in shown.items() if found} == {}


def test_counts_are_of_the_own_jobs_only(world):
    world.a.call("cancel_pending_jobs")
    assert world.a.one("job_summary")["running"] == 0
    assert world.b.one("job_summary")["running"] == 1
    assert world.owner.one("job_summary")["running"] == 1
    assert (
        world.a.value("select count(*) from persona.jobs where business is distinct from 'a'") == 0
    )


def test_a_job_without_a_business_is_of_the_only_one(world):
    assert world.a.create()["business"] == "a"


def test_a_job_of_another_business_is_refused(world):
    with refused("PJ403", "may not have jobs of business b") as told:
        world.a.create(business="b")

    assert told.hint == "Name one of: a."
    with refused("PJ403"):
        world.a.call("create_jobs", jobs=[{"job_type": "t", "agent": "a", "business": "b"}])


def test_a_dedupe_key_of_another_tenant_is_free(world):
    mine = world.a.create(dedupe_key="key-running")

    assert mine["id"] != world.jobs["running"]["id"]
    assert mine["dedupe_key"] == "key-running"
    assert world.a.create(dedupe_key="key-running")["id"] == mine["id"]
    theirs = world.b.create(dedupe_key="key-running")
    assert theirs["id"] == world.jobs["running"]["id"]


def test_an_id_of_another_tenant_is_refused_without_showing_its_job(world):
    taken = world.jobs["running"]["id"]

    with refused("PJ422", "cannot be used") as told:
        world.a.create(id=taken)
    assert SECRET not in repr(told)
    assert world.b.create(id=taken)["id"] == taken


def test_a_lock_key_of_another_tenant_keeps_nobody_waiting(world):
    job = world.a.create(lock_key="lock-running", priority=100)

    assert job["lock_key"] == "a:lock-running"
    runner = world.owner.runner("locks")
    [run] = world.owner.claim(runner)
    assert run["id"] == job["id"]
    world.owner.report(runner, run)


@pytest.mark.parametrize("role", ["persona_client", "persona_viewer"])
def test_set_role_leads_out_of_no_tenant(world, role):
    world.a.run(f"set role {role}")
    try:
        assert world.a.one("my_tenants")["my_tenants"] == ["a"]
        assert world.a.value("select count(*) from persona.jobs where business = 'b'") == 0
    finally:
        world.a.run("reset role")


def test_no_setting_that_a_caller_can_set_changes_its_tenant(world):
    for setting in ("persona.tenant", "persona.business", "row_security"):
        world.a.run(
            f"select set_config('{setting}', '{'off' if 'row' in setting else 'b'}', false)"
        )
    try:
        # Without row security PostgreSQL refuses to read rather than to show everything.
        with refused("42501"):
            world.a.value("select count(*) from persona.jobs")
        assert world.a.one("my_tenants")["my_tenants"] == ["a"]
    finally:
        world.a.run("reset all")


def test_a_pool_that_sets_the_role_of_its_user_gets_what_is_the_users(
    world, roles, session, databases
):
    pool = roles.login()
    user = roles.login("persona_client")
    databases.admin.execute(f"grant {user} to {pool}")
    world.owner.one("assign_tenant", role_name=user, businesses=["b"])
    through = session(pool)

    through.run(f"set role {user}")

    assert through.one("get_job", ref=str(world.jobs["held"]["id"]))["business"] == "b"
    assert through.value("select count(*) from persona.jobs where business = 'a'") == 0


def test_a_role_may_have_several_businesses_and_then_names_one(world, roles, session):
    name = roles.login("persona_client")
    world.owner.call("assign_tenant", role_name=name, businesses=["a", "b"])
    both = session(name)

    with refused("PJ403", "(none)"):
        both.create()
    assert both.create(business="a")["business"] == "a"
    assert both.one("get_job", ref=str(world.jobs["held"]["id"]))["business"] == "b"


def test_what_a_tenant_ends_settles_what_waits_for_it_out_of_its_sight(world):
    mine = world.a.create()
    waits = world.owner.create(business="b", depends_on=[mine["id"]], depends_policy="finished")
    assert waits["status"] == "blocked"

    world.a.act("cancel_job", mine)

    assert world.owner.status(waits) == "pending"
    world.owner.act("cancel_job", waits)


def test_an_alert_job_about_a_tenants_job_is_not_the_tenants(world):
    world.owner.call("set_alert_rule", name="all", kind="job_failed")
    runner = world.owner.runner("alerts")
    mine = world.a.create(priority=200, max_attempts=1)
    [run] = world.owner.claim(runner)
    assert run["id"] == mine["id"]

    world.owner.report(runner, run, "failed", error="x")

    assert world.owner.value("select count(*) from persona.jobs where agent = 'alert'") >= 1
    assert world.a.value("select count(*) from persona.jobs where agent = 'alert'") == 0
    assert world.a.value("select count(*) from persona.alerts where job_id = %s", mine["id"]) == 1


def test_roles_that_work_for_all_are_not_assigned(world, roles):
    for group in ("persona_admin", "persona_runner"):
        with refused("PJ422", "only client or viewer"):
            world.owner.call("assign_tenant", role_name=roles.login(group), businesses=["a"])
    with refused("PJ422", "existing role"):
        world.owner.call("assign_tenant", role_name="nobody-here", businesses=["a"])
    with refused("PJ422", "without a colon"):
        world.owner.call("assign_tenant", role_name=roles.login(), businesses=["a:b"])


def test_where_tenants_are_required_an_unassigned_client_sees_nothing(world, roles, session):
    stranger = session(roles.login("persona_client"))
    assert stranger.value("select count(*) from persona.jobs") > 0
    world.owner.call("set_setting", name="tenants_required", value="true")
    try:
        assert stranger.value("select count(*) from persona.jobs") == 0
        with refused("PJ403"):
            stranger.create()
        assert world.owner.value("select count(*) from persona.jobs") > 0
        assert session(roles.login("persona_admin")).one("job_summary")["held"] > 0
    finally:
        world.owner.call("set_setting", name="tenants_required", value="false")


def test_an_assignment_that_is_taken_back_shows_all_again(world, roles, session):
    name = roles.login("persona_client")
    world.owner.call("assign_tenant", role_name=name, businesses=["c"])
    client = session(name)
    assert client.value("select count(*) from persona.jobs") == 0

    assert world.owner.call("assign_tenant", role_name=name, businesses=[]) == []

    assert client.value("select count(*) from persona.jobs") > 0


def test_without_a_tenant_there_is_no_row_level_security(conn):
    switched_on = conn.execute(
        "select c.relname from pg_class as c where c.relnamespace = 'persona'::regnamespace"
        " and c.relrowsecurity union all select t.tgname from pg_trigger as t"
        " where t.tgname = 'jobs_tenant' and t.tgenabled <> 'D'"
    ).fetchall()

    assert switched_on == []
