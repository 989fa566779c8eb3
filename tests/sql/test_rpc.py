"""persona.rpc: one door for programs that speak JSON."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from sqltest import Queue

COMMANDS = [
    "create",
    "create_many",
    "get",
    "list",
    "logs",
    "tree",
    "explain",
    "cancel",
    "cancel_pending",
    "retry",
    "hold",
    "release",
    "answer",
    "questions",
    "update",
    "summary",
    "agents",
    "stats",
    "events",
    "version",
]
JOB_KEYS = {
    "id",
    "shortId",
    "type",
    "status",
    "statusReason",
    "hung",
    "assignedTo",
    "priority",
    "createdAt",
    "startedAt",
    "completedAt",
    "runAt",
    "updatedAt",
    "attempt",
    "maxAttempts",
    "exitCode",
    "error",
    "result",
    "progress",
    "pid",
    "hostname",
    "parentId",
    "costUsd",
    "tokens",
    "sessionId",
    "waitingFor",
}


@pytest.fixture
def rpc(queue):
    """Call a command; the answer must be an envelope, and its data is returned."""

    def call(command, body=None, *, queue=queue):
        answer = queue.value("select persona.rpc(%s, %s)", command, {} if body is None else body)
        assert answer["v"] == 1
        assert answer.keys() == ({"ok", "v", "data"} if answer["ok"] else {"ok", "v", "error"})
        return answer["data"] if answer["ok"] else answer["error"]

    return call


@pytest.fixture
def encoded(queue):
    """Call a command with the bytes of a body, as the wrapper does."""

    def call(command, body: bytes, encoding="base64"):
        text = base64.encodebytes(body).decode() if encoding == "base64" else body.hex()
        return queue.value("select persona.rpc_encoded(%s, %s, %s)", command, text, encoding)

    return call


def count(queue):
    return queue.value("select count(*) from persona.jobs")


# -- every command -----------------------------------------------------------------------------


def test_create_takes_camel_case_and_answers_with_the_whole_job(rpc, queue):
    wanted = str(uuid4())
    job = rpc(
        "create",
        {
            "type": "t", "assignedTo": "a", "id": wanted, "payload": {"question": "q?"},
            "priority": 5, "maxAttempts": 2, "timeout": 90, "idleTimeout": "2m", "tags": ["x"],
            "dedupeKey": "k", "lockKey": "l", "sourceFile": "n.md", "sourceLine": 3,
            "runAt": "2100-01-01T00:00:00Z", "business": "b",
        },
    )  # fmt: skip

    assert job.keys() >= JOB_KEYS
    assert (job["id"], job["shortId"], job["type"]) == (wanted, wanted[-8:], "t")
    assert (job["status"], job["assignedTo"], job["priority"]) == ("pending", "a", 5)
    assert (job["maxAttempts"], job["hung"], job["error"]) == (2, False, None)
    assert job["runAt"].startswith("2100-01-01T00:00:00")
    assert job["waitingFor"].startswith("until 2100")
    row = queue.job({"id": wanted})
    assert (row["timeout"].seconds, row["idle_timeout"].seconds) == (90, 120)
    assert (row["lock_key"], row["dedupe_key"], row["source_line"]) == ("l", "k", 3)
    assert rpc("create", {"type": "t", "agent": "a", "id": wanted})["id"] == wanted


def test_create_many_get_list_and_tree(rpc, queue):
    ids = rpc("create_many", [{"type": "t", "agent": "a", "priority": n} for n in range(3)])["ids"]
    child = rpc("create", {"type": "t", "agent": "a", "parentId": ids[0]})

    assert [queue.job({"id": i})["priority"] for i in ids] == [0, 1, 2]
    assert rpc("get", {"id": ids[1][-8:]})["payload"] == {}
    assert child["parentId"] == ids[0]
    tree = rpc("tree", {"id": ids[0]})["jobs"]
    assert [(t["depth"], t["id"]) for t in tree] == [(0, ids[0]), (1, child["id"])]
    listed = rpc("list", {"status": "pending", "limit": 2})["jobs"]
    assert [j["id"] for j in listed] == [child["id"], ids[2]]
    page = rpc("list", {"status": "pending", "before": ids[2]})["jobs"]
    assert [j["id"] for j in page] == [ids[1], ids[0]]
    assert rpc("create_many", {"jobs": []}) == {"ids": []}


def test_a_job_from_start_to_end_as_json(rpc, queue, runner):
    run = queue.start(runner)
    queue.call(
        "append_logs",
        runner_id=runner,
        lines=[
            {"job_id": str(run["id"]), "lease": run["lease"], "seq": n, "message": f"line {n}"}
            for n in (1, 2, 3)
        ],
    )
    queue.beat(runner, run, pid=77, progress=40, progress_text="half")
    running = rpc("get", {"id": str(run["id"])})
    assert (running["status"], running["pid"], running["progress"]) == ("running", 77, 40)

    queue.report(
        runner, run, exit_code=0, result={"text": "done"}, cost_usd=0.25, tokens={"input": 5},
        session_id="s",
    )  # fmt: skip

    job = rpc("get", {"id": str(run["id"])})
    assert (job["status"], job["exitCode"], job["error"]) == ("completed", 0, None)
    assert (job["result"], job["costUsd"], job["tokens"]) == ({"text": "done"}, 0.25, {"input": 5})
    assert (job["sessionId"], job["pid"], job["hostname"]) == ("s", 77, "host")
    assert all("T" in job[key] for key in ("createdAt", "startedAt", "completedAt", "updatedAt"))
    logs = rpc("logs", {"id": job["id"], "limit": 2})
    assert [line["message"] for line in logs["lines"]] == ["line 1", "line 2"]
    rest = rpc(
        "logs",
        {"id": job["id"], "afterLease": logs["cursor"]["lease"], "afterSeq": logs["cursor"]["seq"]},
    )
    assert [line["message"] for line in rest["lines"]] == ["line 3"]
    assert rpc("logs", {"id": job["id"], "tail": 1})["lines"][0]["message"] == "line 3"
    events = rpc("events", {"id": job["id"]})["events"]
    assert [e["type"] for e in events] == ["job.completed", "job.started", "job.created"]
    assert rpc("explain", {"id": job["id"]})["text"].startswith("completed")
    [kind] = rpc("stats")["types"]
    assert (kind["type"], kind["completed"], kind["successRate"]) == ("t", 1, 1)


def test_hold_release_cancel_retry_and_cancel_pending(rpc):
    job = rpc("create", {"type": "t", "agent": "a"})
    at = {"id": job["shortId"]}

    assert rpc("hold", at | {"reason": "look first"})["statusReason"] == "look first"
    assert rpc("release", at)["status"] == "pending"
    assert rpc("cancel", at | {"reason": "no"})["status"] == "cancelled"
    assert rpc("retry", at)["status"] == "pending"
    assert rpc("cancel_pending", {"reason": "all"}) == {"cancelled": 1}


def test_summary_agents_and_version(rpc, queue):
    rpc("create", {"type": "t", "agent": "a"})

    summary = rpc("summary")
    assert (summary["pending"], summary["running"], summary["hung"]) == (1, 0, 0)
    assert {"oldestPendingSeconds", "costToday", "unseenAlerts", "blocked", "held"} <= set(summary)
    agents = {agent["name"]: agent for agent in rpc("agents")["agents"]}
    assert (agents["a"]["pending"], agents["a"]["isActive"]) == (1, True)
    version = rpc("version")
    assert (version["tool"], version["contract"]) == ("persona", 1)
    assert version["schema"] == queue.value("select persona.schema_version()")
    assert version["capabilities"] == COMMANDS


def test_fault_8_the_optimistic_lock_compares_what_every_job_has(rpc, queue):
    """updatedAt is in every answer, with all its digits, and two edits never overwrite each other."""
    read = rpc("create", {"type": "t", "agent": "a"})
    edit = {"id": read["id"], "updatedAt": read["updatedAt"]}

    first = rpc("update", edit | {"changes": {"priority": 7, "sourceFile": "n.md"}})
    second = rpc("update", edit | {"changes": {"priority": 8}})

    assert (first["priority"], first["sourceFile"]) == (7, "n.md")
    assert first["updatedAt"] > read["updatedAt"]
    assert (second["code"], second["retryable"]) == ("conflict", False)
    assert queue.job({"id": read["id"]})["priority"] == 7


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "body", "code"),
    [
        ("get", {"id": "ffffffff"}, "not_found"),
        ("get", {"id": "'; drop table persona.jobs; --"}, "not_found"),
        ("get", {}, "invalid"),
        ("get", {"id": "0", "what": 1}, "invalid"),
        ("nonsense", {}, "invalid"),
        ("summary", {"x": 1}, "invalid"),
        ("create", {}, "invalid"),
        ("create", {"type": "t", "agent": "a", "priority": "high"}, "invalid"),
        ("create", {"type": "t", "agent": "a", "id": "no uuid"}, "invalid"),
        ("create", {"type": "t", "agent": "a", "payload": [1]}, "invalid"),
        ("create", {"type": "t", "agent": "nobody"}, "invalid"),
        ("create", {"type": "t", "agent": "a", "sourceLine": 10**12}, "invalid"),
        ("create", {"type": "t", "agent": "a", "colour": "red"}, "invalid"),
        ("create_many", {"jobs": "x"}, "invalid"),
        ("create_many", [{"type": "t", "agent": "a"}, {"type": "t", "agent": "nobody"}], "invalid"),
        ("list", {"status": "odd"}, "invalid"),
        ("list", {"limit": 0}, "invalid"),
        ("update", {"id": "0", "updatedAt": "never", "changes": {}}, "invalid"),
        ("update", {"id": "0", "updatedAt": "2026-01-01T00:00:00Z", "changes": {}}, "not_found"),
    ],
)
def test_an_error_has_its_code_and_writes_nothing(rpc, queue, command, body, code):
    before = count(queue)

    error = rpc(command, body)

    assert error["code"] == code, error
    assert error["message"]
    assert error["retryable"] is False
    assert isinstance(error["detail"], dict)
    assert count(queue) == before


def test_an_ambiguous_id_lists_the_candidates_and_an_illegal_move_says_from_and_to(
    rpc, runner, queue
):
    first = "00000000-0000-7000-8000-0000abcd0001"
    second = "00000000-0000-7000-8000-0000abcd0002"
    for one in (first, second):
        rpc("create", {"type": "t", "agent": "a", "id": one})
    run = queue.claim(runner)[0]
    queue.report(runner, run)

    error = rpc("get", {"id": "abcd"})
    assert error["code"] == "ambiguous"
    assert set(error["detail"]["candidates"]) == {first, second}
    error = rpc("retry", {"id": str(run["id"])})
    assert (error["code"], error["detail"]["from"]) == ("illegal", "completed")


def test_each_command_needs_the_right_to_the_function_behind_it(rpc, superuser_dsn):
    other = Queue(psycopg.connect(superuser_dsn, autocommit=True))
    other.run("set role persona_viewer")
    assert rpc("summary", queue=other)["pending"] == 0
    assert rpc("create", {"type": "t", "agent": "a"}, queue=other)["code"] == "denied"
    assert rpc("cancel_pending", queue=other)["code"] == "denied"

    other.run("set role persona_client")
    assert rpc("create", {"type": "t", "agent": "a"}, queue=other)["status"] == "pending"
    made = {"type": "shell", "payload": {"script": "id"}}
    assert rpc("create", made, queue=other)["code"] == "denied"

    other.run("set role persona_runner")
    assert rpc("create", {"type": "t", "agent": "a"}, queue=other)["code"] == "denied"
    other.conn.close()


def test_a_call_that_was_planned_before_an_upgrade_is_retryable(
    rpc, queue, another, wait_until_blocked
):
    upgrade, caller = another(), another("caller")
    rpc("create", {"type": "t", "agent": "a"}, queue=caller)
    with ThreadPoolExecutor() as pool:
        with upgrade.conn.transaction():
            upgrade.run("alter table persona.jobs add column one_more text")
            call = pool.submit(
                caller.value, 'select persona.rpc(\'create\', \'{"type": "t", "agent": "a"}\')'
            )
            wait_until_blocked("caller")
        answer = call.result(30)

    assert answer["ok"] or answer["error"]["retryable"]


def test_a_passing_trouble_is_retryable(rpc, queue, another):
    job = rpc("create", {"type": "t", "agent": "a"})
    other = another()
    other.run("begin")
    other.run("select 1 from persona.jobs where id = %s for update", job["id"])
    queue.run("set lock_timeout = '50ms'")

    error = rpc("cancel", {"id": job["id"]})

    assert (error["code"], error["retryable"]) == ("conflict", True)
    other.run("rollback")


# -- bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["base64", "hex"])
def test_any_text_comes_through_as_it_is(encoded, rpc, encoding):
    text = "quote ' double \" back \\ :'x' :\"y\" $$ $1 \\gset \n\t%s \u00e4\u20ac\U0001f600 ; --"
    body = json.dumps(
        {"type": "t", "agent": "a", "payload": {"question": text}}, ensure_ascii=False
    )

    answer = encoded("create", body.encode(), encoding)

    assert answer["ok"], answer
    assert rpc("get", {"id": answer["data"]["id"]})["payload"] == {"question": text}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"type": "t", "type2": NaN}', "not valid JSON"),
        (b'{"type": "t\xff"}', "UTF-8"),
        (b'{"type": "t\x00"}', "NUL"),
        (b'{"payload": {"q": "\\u0000"}}', "not valid JSON"),
        (b'{"payload": {"q": "\\ud800"}}', "not valid JSON"),
        (b'{"payload": {"q": "\\udc00\\ud800"}}', "not valid JSON"),
        (b'"text"', "JSON object"),
        (b"null", "JSON object"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_hostile_body_is_refused_and_writes_nothing(encoded, queue, body, told):
    answer = encoded("create", body)

    assert answer["error"]["code"] == "invalid"
    assert told in answer["error"]["message"]
    assert count(queue) == 0


def test_no_body_is_an_empty_object(encoded):
    assert encoded("summary", b"")["ok"]
    assert encoded("summary", b" \n")["ok"]


def test_a_body_of_20_mb(encoded, queue):
    body = json.dumps({"type": "t", "agent": "a", "payload": {"question": "x" * 20_000_000}})

    answer = encoded("create", body.encode())

    assert answer["ok"]
    assert queue.value("select length(payload ->> 'question') from persona.jobs") == 20_000_000


def test_the_answer_never_carries_an_exit_code_of_the_wrapper(queue):
    answer = queue.value("select persona.rpc('nonsense')")

    assert answer.keys() == {"ok", "v", "error"}
    assert answer["error"].keys() <= {"code", "message", "retryable", "detail", "hint"}


def test_public_may_not_call_it(queue, databases, database):
    databases.admin.execute("drop role if exists persona_stranger")
    databases.admin.execute("create role persona_stranger login")
    try:
        with psycopg.connect(databases.dsn(database, user="persona_stranger")) as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("select persona.rpc('summary')")
    finally:
        databases.admin.execute("drop role persona_stranger")
