"""create_job: what a new job looks like, what is refused, and what is already there (P1)."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.types.json import Jsonb
from sqltest import refused

FAR = datetime(2100, 1, 1, tzinfo=UTC)

REFUSED = {
    "empty type": ({"job_type": ""}, "job_type", "1 to 100 characters"),
    "long type": ({"job_type": "x" * 101}, "job_type", "1 to 100 characters"),
    "no payload": ({"payload": None}, "payload", "JSON object"),
    "array payload": ({"payload": [{}]}, "payload", "JSON object"),
    "unknown agent": ({"agent": "nobody"}, "agent", "a, "),
    "no agent": ({"agent": None}, "agent", "no default agent"),
    "timeout 0": ({"timeout": timedelta(0)}, "timeout", "more than 0"),
    "timeout < 0": ({"timeout": timedelta(seconds=-1)}, "timeout", "more than 0"),
    "idle timeout 0": ({"idle_timeout": timedelta(0)}, "idle_timeout", "more than 0"),
    "no attempt": ({"max_attempts": 0}, "max_attempts", "1 to 1000"),
    "too many attempts": ({"max_attempts": 1001}, "max_attempts", "1 to 1000"),
    "empty dedupe key": ({"dedupe_key": ""}, "dedupe_key", "1 to 500"),
    "long dedupe key": ({"dedupe_key": "x" * 501}, "dedupe_key", "1 to 500"),
    "empty lock key": ({"lock_key": ""}, "lock_key", "1 to 500"),
    "long lock key": ({"lock_key": "x" * 501}, "lock_key", "1 to 500"),
    "unknown parent": ({"parent_job_id": uuid.UUID(int=7)}, "parent_job_id", "existing job"),
    "unknown need": ({"depends_on": [uuid.UUID(int=7)]}, "depends_on", "existing jobs"),
    "null need": ({"depends_on": [None]}, "depends_on", "existing jobs"),
    "research without a question": ({"job_type": "research"}, "payload", "question or prompt"),
    "research with an empty one": (
        {"job_type": "research", "payload": {"question": " "}}, "payload", "question or prompt"),
    "command without argv": (
        {"agent": "command", "payload": {"script": "x"}}, "payload", "argv, an array"),
    "command with an empty argv": (
        {"agent": "command", "payload": {"argv": []}}, "payload", "argv, an array"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_argument_is_named_and_nothing_is_written(queue, case):
    arguments, argument, allowed = REFUSED[case]

    with refused("PJ422", f"^{argument} is ") as told:
        queue.create(**arguments)

    assert told.detail["argument"] == argument
    assert allowed in told.detail["allowed"]
    assert queue.value("select count(*) from persona.jobs") == 0
    assert queue.value("select count(*) from persona.job_queue") == 0


def test_a_bad_value_is_shown_but_cut(queue):
    with refused("PJ422") as told:
        queue.create(dedupe_key="x" * 5000)

    assert told.detail["value"] == "x" * 1000
    assert len(told.message) < 300


def test_a_payload_has_a_size_at_most_at_every_door(queue, runner):
    large, fits = {"prompt": "x" * 100_000}, {"prompt": "x" * 99_000}
    queue.one("set_setting", name="max_payload_bytes", value=Jsonb(99_500))
    queue.agent(may_delegate_to=["a"])
    run = queue.start(runner, payload=fits)
    job = queue.create()
    plain = {"job_type": "t", "agent": "a"}
    doors = {
        "create_job": plain | {"payload": large},
        "create_jobs": {"jobs": [plain, plain | {"payload": large}]},
        "update_job": {
            "ref": str(job["id"]), "expected_updated_at": job["updated_at"], "changes": {"payload": large},
        },
        "create_schedule": {"name": "s", "spec": "1h", "job": plain | {"payload": large}},
        "create_child_job": plain | {
            "runner_id": runner, "job_id": run["id"], "lease": run["lease"], "payload": large,
        },
    }  # fmt: skip
    for function, arguments in doors.items():
        with refused("PJ422", r"payload is 100\d{3} bytes long: at most 99500 are") as told:
            queue.call(function, **arguments)
        assert "max_payload_bytes" in told.hint
        assert told.detail["argument"] == "payload"
    body = {"type": "t", "agent": "a", "payload": large}
    for command, given in (("create", body), ("create_many", {"jobs": [body]})):
        answer = queue.one("rpc", command=command, body=given)["rpc"]
        assert answer["error"]["code"] == "invalid", answer
    for kind in ("t", "agent_action"):
        spoken = queue.one("bridge", command="create_job", args=[json.dumps(body | {"type": kind})])
        assert "payload is 100" in spoken["bridge"]["error"]
    assert queue.value("select count(*) from persona.jobs") == 2


def test_a_job_cannot_need_itself(queue):
    mine = uuid.uuid4()

    with refused("PJ422", "depends_on"):
        queue.create(id=mine, depends_on=[mine])


def test_defaults(queue):
    job = queue.create()

    assert (job["status"], job["priority"], job["payload"], job["tags"]) == ("pending", 0, {}, [])
    assert (job["attempt"], job["lease"], job["interruptions"]) == (0, 0, 0)
    assert job["run_at"] == job["created_at"] == job["updated_at"]
    assert job["root_job_id"] == job["id"]
    assert (job["parent_job_id"], job["depth"]) == (None, 0)
    assert job["short_id"] == str(job["id"])[-8:]
    assert job["created_by"] == "persona"
    assert job["id"].version == 7


def test_everything_given_is_kept(queue):
    given = {
        "id": uuid.uuid4(), "payload": {"n": 1}, "priority": 7, "run_at": FAR,
        "timeout": timedelta(seconds=5), "idle_timeout": timedelta(seconds=2), "max_attempts": 9,
        "dedupe_key": "d", "lock_key": "l", "tags": ["x", "y"], "source_file": "note.md",
        "source_line": 12, "delegated_by": "me", "business": "acme",
    }  # fmt: skip

    job = queue.create("anything", **given)

    assert {name: job[name] for name in given} == given
    assert job["job_type"] == "anything"


def test_ids_made_here_are_in_the_order_of_time(queue):
    ids = [queue.create()["id"].int >> 80 for _ in range(5)]

    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("options", "attempts"),
    [({}, 3), ({"costs_money": True}, 1), ({"costs_money": True, "max_attempts": 4}, 4)],
)
def test_how_often_it_is_tried_depends_on_the_agent(queue, options, attempts):
    queue.agent("other", **options)

    assert queue.create(agent="other")["max_attempts"] == attempts
    assert queue.create(agent="other", max_attempts=2)["max_attempts"] == 2


def test_a_type_may_have_a_default_agent(queue):
    assert queue.create("research", agent=None, payload={"question": "?"})["agent"] == "researcher"
    assert queue.create("research", agent="", payload={"question": "?"})["agent"] == "researcher"


def test_the_queue_may_have_a_default_agent(queue):
    queue.run("update persona.settings set value = '\"a\"' where name = 'default_agent'")

    assert queue.create("anything", agent=None)["agent"] == "a"


# -- the same again ------------------------------------------------------------------------------


def test_p1_a_repeated_create_with_the_same_id_makes_no_second_job(queue):
    mine = uuid.uuid4()
    first = queue.create(id=mine, priority=1)

    assert queue.create("other", id=mine, priority=2, payload={"x": 1}) == first
    assert queue.value("select count(*) from persona.jobs") == 1


def test_the_same_id_finds_a_finished_job_too(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run)

    assert queue.create(id=run["id"])["status"] == "completed"
    assert queue.value("select count(*) from persona.job_queue") == 0


@pytest.mark.parametrize("status", ["pending", "blocked", "running", "held"])
def test_p1_an_unfinished_job_of_the_same_dedupe_key_is_returned_unchanged(queue, runner, status):
    need = queue.create(run_at=FAR)
    first = queue.create(dedupe_key="k", depends_on=[need["id"]] if status == "blocked" else None)
    if status == "running":
        queue.claim(runner)
    elif status == "held":
        queue.act("hold_job", first)
    before = queue.job(first)

    assert queue.create(dedupe_key="k", priority=5, payload={"x": 1}) == before
    assert before["status"] == status
    assert queue.value("select count(*) from persona.jobs") == 2


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
def test_the_dedupe_key_is_free_again_when_the_job_has_ended(queue, runner, outcome):
    run = queue.start(runner, dedupe_key="k", max_attempts=1)
    queue.report(runner, run, outcome)
    assert queue.status(run) == outcome

    second = queue.create(dedupe_key="k")

    assert second["id"] != run["id"]
    assert queue.create(dedupe_key="k")["id"] == second["id"]


def test_the_id_goes_before_the_dedupe_key(queue):
    one, other = queue.create(dedupe_key="k"), queue.create()

    assert queue.create(id=other["id"], dedupe_key="k")["id"] == other["id"]
    assert queue.create(id=uuid.uuid4(), dedupe_key="k")["id"] == one["id"]


# -- delegation ----------------------------------------------------------------------------------


def test_a_child_knows_its_parent_its_root_and_its_depth(queue):
    top = queue.create(business="acme")
    child = queue.create(parent_job_id=top["id"], delegated_by="a")
    below = queue.create(parent_job_id=child["id"], business="own")

    assert (child["parent_job_id"], child["root_job_id"], child["depth"]) == (
        top["id"],
        top["id"],
        1,
    )
    assert (below["parent_job_id"], below["root_job_id"], below["depth"]) == (
        child["id"], top["id"], 2)  # fmt: skip
    assert (child["business"], below["business"]) == ("acme", "own")
    tree = queue.call("get_job_tree", id=top["id"])
    assert [(row["depth"], row["job_id"]) for row in tree] == [
        (0, top["id"]), (1, child["id"]), (2, below["id"])]  # fmt: skip


def test_delegation_has_a_bottom(queue):
    job = queue.create()
    for _ in range(5):
        job = queue.create(parent_job_id=job["id"])

    with refused("PJ422", "depth 5"):
        queue.create(parent_job_id=job["id"])


def test_a_running_job_delegates_under_its_lease(queue, runner):
    queue.agent(may_delegate_to=["b"])
    queue.agent("b")
    run = queue.start(runner, business="acme", source_file="n.md", priority=4)
    arguments = {"runner_id": runner, "job_id": run["id"], "lease": run["lease"], "job_type": "t"}

    child = queue.one("create_child_job", **arguments, agent="b", payload={"x": 1})

    assert (child["parent_job_id"], child["delegated_by"]) == (run["id"], "a")
    assert (child["business"], child["source_file"], child["priority"]) == ("acme", "n.md", 4)
    with refused("PJ403", "a may not delegate to agent a"):
        queue.one("create_child_job", **arguments, agent="a")
    with refused("PJ403", r"\(none\)"):
        queue.one("create_child_job", **arguments)
    with refused("PJ410"):
        queue.one("create_child_job", **arguments | {"lease": run["lease"] - 1}, agent="b")


def test_a_job_never_delegates_to_an_admins_agent(queue, runner):
    queue.agent(may_delegate_to=["shell"])
    run = queue.start(runner)

    with refused("PJ403", "may not delegate to agent shell"):
        queue.one(
            "create_child_job", runner_id=runner, job_id=run["id"], lease=run["lease"],
            job_type="t", agent="shell", payload={"script": "id"},
        )  # fmt: skip


# -- external agents and times -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "waits_on"),
    [({}, None), ({"run_at": FAR}, "time"), ({"agent": "ext", "run_at": FAR}, "external")],
)
def test_the_queue_says_what_a_new_job_waits_for(queue, options, waits_on):
    queue.agent("ext", is_external=True)
    job = queue.create(**options)

    found = queue.value("select waits_on from persona.job_queue where job_id = %s", job["id"])
    assert found == waits_on
