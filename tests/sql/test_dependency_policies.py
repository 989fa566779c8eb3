"""depends_policy of create_job and create_jobs."""

from __future__ import annotations

from sqltest import refused


def test_any_end_will_do_where_the_policy_is_given(queue, runner):
    run = queue.start(runner, max_attempts=1)
    strict = queue.create(depends_on=[run["id"]])
    loose = queue.create(depends_on=[run["id"]], depends_policy="finished")
    [bulk] = queue.call("create_jobs", jobs=[
        {"job_type": "t", "agent": "a", "depends_on": [str(run["id"])],
         "depends_policy": "finished", "limit_key": "k"}])  # fmt: skip

    queue.report(runner, run, "failed")

    assert queue.status(strict) == "failed"
    assert queue.status(loose) == "pending"
    made = queue.row("select * from persona.jobs where id = %s", bulk["create_jobs"])
    assert (made["status"], made["limit_key"]) == ("pending", "k")


def test_a_policy_that_does_not_exist_is_refused(queue):
    with refused("PJ422", "depends_policy"):
        queue.create(depends_policy="hoped")
