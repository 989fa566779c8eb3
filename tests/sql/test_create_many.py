"""create_jobs: many jobs in one statement, all or none, in the order given."""

from __future__ import annotations

import uuid

import pytest
from sqltest import refused


def many(queue, jobs):
    return [row["create_jobs"] for row in queue.call("create_jobs", jobs=jobs)]


def plain(**more):
    return {"job_type": "t", "agent": "a"} | more


def count(queue):
    return queue.value("select count(*) from persona.jobs")


def test_ids_come_in_the_order_given_and_so_do_the_claims(queue, runner):
    ids = many(queue, [plain(payload={"n": n}) for n in range(20)])

    assert [queue.job({"id": i})["payload"]["n"] for i in ids] == list(range(20))
    assert [run["id"] for run in queue.claim(runner, 20)] == ids


def test_an_empty_list_creates_nothing(queue):
    queue.rows("select * from persona.create_jobs('[]')")

    assert count(queue) == 0


def test_all_keys_arrive(queue):
    mine = uuid.uuid4()
    [found] = many(queue, [plain(
        id=str(mine), payload={"x": 1}, priority=3, run_at="2100-01-01T00:00:00Z", timeout="5 s",
        idle_timeout="2 s", max_attempts=7, dedupe_key="d", lock_key="l", tags=["x"],
        source_file="f", source_line=2, delegated_by="me", business="acme")])  # fmt: skip

    job = queue.job({"id": found})
    assert (found, job["id"]) == (mine, mine)
    assert (job["priority"], job["max_attempts"], job["dedupe_key"]) == (3, 7, "d")
    assert (job["lock_key"], job["tags"], job["source_file"]) == ("l", ["x"], "f")
    assert (job["source_line"], job["delegated_by"], job["business"]) == (2, "me", "acme")
    assert (job["timeout"].seconds, job["idle_timeout"].seconds) == (5, 2)
    assert queue.value("select waits_on from persona.job_queue") == "time"


BAD = {
    "no array": ({"job_type": "t"}, "jobs"),
    "no object": ([1], "jobs"),
    "unknown key": ([plain(), plain(colour="red")], "jobs"),
    "wrong type of a value": ([plain(), plain(priority="high")], "jobs"),
    "number too large": ([plain(priority=2**40)], "jobs"),
    "wrong id": ([plain(id="x")], "jobs"),
    "wrong time": ([plain(), plain(run_at="soon")], "jobs"),
    "payload is no object": ([plain(), plain(payload=[1])], "payload"),
    "first payload is no object": ([plain(payload="x"), plain()], "payload"),
    "unknown agent": ([plain(), plain(agent="nobody")], "agent"),
    "timeout 0": ([plain(), plain(timeout="0 s")], "timeout"),
    "attempts": ([plain(), plain(max_attempts=0)], "max_attempts"),
    "empty dedupe key": ([plain(), plain(dedupe_key="")], "dedupe_key"),
    "long lock key": ([plain(), plain(lock_key="x" * 501)], "lock_key"),
    "command without argv": (
        [plain(agent="command", payload={"argv": ["id"]}), plain(agent="command")], "payload"),
    "command without argv, by its type": (
        [plain(agent="", job_type="command", payload={"argv": ["id"]}), {"job_type": "command"},
         {"job_type": "command", "agent": ""}], "payload"),
    "research without a question": (
        [{"job_type": "research", "payload": {"question": "?"}}, {"job_type": "research"}],
        "payload"),
    "unknown need": ([plain(), plain(depends_on=[str(uuid.UUID(int=1))])], "depends_on"),
    "unknown parent": ([plain(), plain(parent_job_id=str(uuid.UUID(int=1)))], "parent_job_id"),
    "wrong need": ([plain(), plain(depends_on="x")], "jobs"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_one_bad_job_and_none_is_created(queue, case):
    jobs, argument = BAD[case]

    with refused("PJ422") as told:
        queue.rows("select * from persona.create_jobs((%s::jsonb) -> 'jobs')", {"jobs": jobs})

    assert told.detail["argument"] == argument
    assert count(queue) == 0


def test_an_agent_for_admins_is_refused_in_the_middle_too(queue, databases, database):
    databases.admin.execute("do $$ begin create role plain_client; exception when"
                            " duplicate_object then null; end $$")  # fmt: skip
    databases.admin.execute("grant persona_client to plain_client")
    databases.admin.execute("grant plain_client to persona")
    queue.run("set role plain_client")
    with refused("PJ403", "only an admin"):
        many(queue, [plain(), plain(agent="command", payload={"argv": ["id"]})])
    queue.run("reset role")

    assert count(queue) == 0


def test_jobs_that_exist_are_returned_in_their_place(queue):
    old, keyed = queue.create(), queue.create(dedupe_key="k")

    ids = many(queue, [plain(), plain(id=str(old["id"])), plain(dedupe_key="k"), plain()])

    assert ids[1:3] == [old["id"], keyed["id"]]
    assert len(set(ids)) == 4
    assert count(queue) == 4


def test_the_same_key_or_id_twice_in_one_call_is_one_job(queue):
    mine = str(uuid.uuid4())

    ids = many(
        queue, [plain(dedupe_key="k"), plain(dedupe_key="k"), plain(id=mine), plain(id=mine)]
    )

    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert count(queue) == 2


def test_parents_and_needs_may_be_in_the_same_call(queue):
    one, two = str(uuid.uuid4()), str(uuid.uuid4())

    ids = many(queue, [
        plain(id=one), plain(id=two, parent_job_id=one), plain(depends_on=[one, two]), plain()])  # fmt: skip

    first, child, waiting, last = (queue.job({"id": i}) for i in ids)
    assert child["parent_job_id"] == first["id"]
    assert [first["status"], child["status"], waiting["status"], last["status"]] == [
        "pending", "pending", "blocked", "pending"]  # fmt: skip
    assert sorted(j["seq"] for j in (first, child, waiting, last)) == [
        j["seq"] for j in (first, child, waiting, last)]  # fmt: skip


def test_a_repeated_call_creates_nothing_more(queue):
    jobs = [plain(id=str(uuid.uuid4())) for _ in range(5)]

    assert many(queue, jobs) == many(queue, jobs)
    assert count(queue) == 5
