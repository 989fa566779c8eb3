"""Log lines: stored once, by the holder, in partitions that come and go."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import UUID

import pytest
from sqltest import refused

PARTITIONS = (
    "select c.relname::text as name from pg_inherits join pg_class as c on c.oid = inhrelid"
    " where inhparent = 'persona.job_logs'::regclass order by 1"
)


def lines(run, *seqs, **more):
    return [
        {"job_id": str(run["id"]), "lease": run["lease"], "seq": n, "message": f"line {n}"} | more
        for n in seqs
    ]


def append(queue, runner, *given):
    flat = [line for part in given for line in part]
    return queue.one("append_logs", runner_id=runner, lines=flat)["append_logs"]


def messages(queue, job, **more):
    return [row["message"] for row in queue.call("get_logs", ref=str(job["id"]), **more)]


def test_lines_come_back_in_order(queue, runner):
    run = queue.start(runner)

    assert append(queue, runner, lines(run, 2, 1), lines(run, 3, stream="stderr", level="warning",
                  metadata={"part": True}, at="2026-01-01T00:00:00Z")) == 3  # fmt: skip

    found = queue.call("get_logs", ref=run["short_id"])
    assert [row["message"] for row in found] == ["line 1", "line 2", "line 3"]
    assert (found[0]["stream"], found[0]["level"], found[0]["metadata"]) == ("system", "info", None)
    assert (found[2]["stream"], found[2]["level"]) == ("stderr", "warn")
    assert (found[2]["metadata"], found[2]["at"].year) == ({"part": True}, 2026)


def test_a_line_sent_twice_is_stored_once(queue, runner):
    run = queue.start(runner)
    append(queue, runner, lines(run, 1, 2))

    assert append(queue, runner, lines(run, 2, 3), lines(run, 3)) == 3
    assert messages(queue, run) == ["line 1", "line 2", "line 3"]


def test_lines_of_a_lost_lease_are_counted_and_not_stored(queue, runner):
    run, good = queue.start(runner), queue.start(runner)
    append(queue, runner, lines(run, 1))
    queue.expire(run)
    queue.call("recover_hung_jobs")
    [again] = [r for r in queue.claim(queue.runner("second")) if r["id"] == run["id"]]

    assert append(queue, runner, lines(run, 2, 3), lines(good, 1)) == 1
    assert append(queue, runner, lines(again, 1)) == 0

    assert messages(queue, run) == ["line 1"]
    assert messages(queue, good) == ["line 1"]
    assert queue.attempts(run)[0]["refused_log_lines"] == 2


@pytest.mark.parametrize("is_again", [False, True], ids=["new", "some come again"])
def test_lines_of_several_executions_may_be_mixed(queue, runner, is_again):
    one, other, lost = queue.start(runner), queue.start(runner), queue.start(runner)
    queue.expire(lost)
    queue.call("recover_hung_jobs")
    if is_again:
        append(queue, runner, lines(one, 2), lines(other, 1))

    mixed = [lines(one, 1), lines(other, 1), lines(lost, 1), lines(one, 2), lines(other, 2)]
    shouted = [line | {"job_id": line["job_id"].upper()} for line in lines(one, 3)]
    assert append(queue, runner, *mixed, shouted, lines(one, 4)) == 6

    assert messages(queue, one) == ["line 1", "line 2", "line 3", "line 4"]
    assert messages(queue, other) == ["line 1", "line 2"]
    assert queue.attempts(lost)[0]["refused_log_lines"] == 1


def test_the_tail_of_an_output_may_come_after_the_report(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run)

    assert append(queue, runner, lines(run, 1)) == 1
    assert append(queue, queue.runner("second"), lines(run, 2)) == 0


def test_but_not_long_after(queue, runner):
    run = queue.start(runner)
    queue.report(runner, run)
    queue.run("update persona.job_attempts set ended_at = now() - interval '2 hours'")

    assert append(queue, runner, lines(run, 1)) == 0


def test_odd_lines_spoil_nothing(queue, runner):
    run = queue.start(runner)
    [line] = lines(run, 1, stream="stdin", level="fatal", message=None)

    assert append(queue, runner, [line, {}, {"message": "x"}, {"seq": 1}]) == 1

    [row] = queue.call("get_logs", ref=str(run["id"]))
    assert (row["stream"], row["level"], row["message"]) == ("system", "info", "")


def test_reading_goes_on_after_a_cursor_over_several_attempts(queue, runner):
    first = queue.start(runner)
    append(queue, runner, lines(first, 1, 2))
    queue.report(runner, first, "given_back")
    [second] = queue.claim(runner)
    append(queue, runner, lines(second, 1, 2, message="again"))

    page = queue.call("get_logs", ref=str(first["id"]), max_lines=3)
    rest = messages(queue, first, after_lease=page[-1]["lease"], after_seq=page[-1]["seq"])
    assert [row["message"] for row in page] == ["line 1", "line 2", "again"]
    assert rest == ["again"]
    assert messages(queue, first, after_lease=second["lease"], after_seq=2) == []
    tail = queue.call("tail_logs", ref=str(first["id"]), lines=3)
    assert [row["message"] for row in tail] == ["line 2", "again", "again"]


def test_a_job_without_lines(queue):
    assert messages(queue, queue.create()) == []


# -- partitions ----------------------------------------------------------------------------------------


def partitions(queue):
    return [row["name"] for row in queue.rows(PARTITIONS)]


def tick(queue):
    return queue.value("select persona.tick()")["log_partitions"]


def test_tick_makes_the_partitions_of_the_coming_days_once(queue, runner):
    before = partitions(queue)
    tick(queue)
    assert len(set(partitions(queue)) | set(before)) >= 5
    assert tick(queue) == {"made": 0, "dropped": 0}

    run = queue.start(runner)
    append(queue, runner, lines(run, 1))
    where = queue.value("select tableoid::regclass::text from persona.job_logs")
    assert where.endswith(queue.value("select to_char(now() at time zone 'UTC', 'YYYYMMDD')"))


def old_partition(queue, days):
    day = queue.value("select (now() at time zone 'UTC')::date - %s::int", days)
    name = f"job_logs_{day:%Y%m%d}"
    queue.run(f"create table persona.{name} partition of persona.job_logs"
              f" for values from ('{day}') to ('{day + timedelta(days=1)}')")  # fmt: skip
    return name


def test_retention_drops_whole_days(queue):
    gone, kept = old_partition(queue, 31), old_partition(queue, 30)

    assert tick(queue)["dropped"] == 1

    assert gone not in partitions(queue)
    assert kept in partitions(queue)


def test_a_reader_holds_up_the_upkeep_for_a_moment_only_and_no_append(queue, runner, another):
    """A lock on the log table that waits behind a reader makes every append wait behind it."""
    run = queue.start(runner)
    tick(queue)
    gone = old_partition(queue, 40)
    newest = partitions(queue)[-2]
    queue.run(f"drop table persona.{newest}")
    reader = another("reader")
    with reader.conn.transaction():
        reader.rows("select count(*) from persona.job_logs")
        began = time.monotonic()
        assert tick(queue) == {"made": 0, "dropped": 0}
        assert time.monotonic() - began < 2
        assert append(queue, runner, lines(run, 1)) == 1
        assert gone in partitions(queue)
    assert tick(queue) == {"made": 1, "dropped": 1}
    assert newest in partitions(queue)
    assert gone not in partitions(queue)


def test_lines_of_a_day_without_partition_are_not_lost(queue, runner):
    run = queue.start(runner)
    for name in partitions(queue):
        if name != "job_logs_default":
            queue.run(f"drop table persona.{name}")

    assert append(queue, runner, lines(run, 1)) == 1
    assert messages(queue, run) == ["line 1"]
    tick(queue)
    assert append(queue, runner, lines(run, 2)) == 1
    assert messages(queue, run) == ["line 1", "line 2"]


# -- cleanup -------------------------------------------------------------------------------------------


def cleanup(queue, **arguments):
    return queue.one("cleanup_old_jobs", **arguments)["cleanup_old_jobs"]


def ended(queue, runner, days, **options):
    run = queue.start(runner, **{"id": queue.old_id(timedelta(days=days))} | options)
    append(queue, runner, lines(run, 1))
    queue.report(runner, run)
    queue.age(run, timedelta(days=days))
    return queue.job(run)


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
def test_old_finished_jobs_go_with_their_history(queue, runner, outcome):
    old = timedelta(days=31)
    run = queue.start(runner, max_attempts=1, id=queue.old_id(old))
    append(queue, runner, lines(run, 1))
    queue.report(runner, run, outcome)
    queue.age(run, old)
    young = ended(queue, runner, 29)
    waiting = queue.create()

    assert cleanup(queue, dry_run=True) == 1
    assert queue.status(run) == outcome
    assert cleanup(queue) == 1

    assert cleanup(queue) == 0
    left = {row["id"] for row in queue.rows("select id from persona.jobs")}
    assert left == {young["id"], waiting["id"]}
    for table in ("job_attempts", "job_logs"):
        assert queue.value(f"select count(*) from persona.{table}") == 1
    assert queue.alerts() == []


def test_unfinished_jobs_stay_however_old(queue, runner):
    queue.start(runner)
    queue.create()
    queue.act("hold_job", queue.create())
    queue.run("update persona.jobs set created_at = now() - interval '1 year'")

    assert cleanup(queue, days=0) == 0


def test_so_many_at_once(queue, runner):
    for _ in range(5):
        ended(queue, runner, 40)

    assert [cleanup(queue, max_jobs=n) for n in (2, 0, 2, 2)] == [2, 0, 2, 1]


def test_what_has_unfinished_jobs_anywhere_below_it_stays(queue, runner):
    top = ended(queue, runner, 40)
    child = ended(queue, runner, 40, parent_job_id=top["id"])
    grandchild = queue.create(parent_job_id=child["id"])

    assert cleanup(queue, dry_run=True) == cleanup(queue) == 0
    queue.act("cancel_job", grandchild)
    assert cleanup(queue) == 2
    assert queue.job(grandchild)["parent_job_id"] is None


def test_a_job_that_somebody_has_locked_is_left_for_the_next_time(queue, runner, another):
    job = ended(queue, runner, 40)
    other = another()
    with other.conn.transaction():
        other.rows("select from persona.jobs where id = %s for key share", job["id"])
        assert cleanup(queue) == 0
    assert cleanup(queue) == 1


def test_a_job_whose_id_its_caller_made_up_goes_too(queue, runner):
    ended(queue, runner, 40, id=UUID("c0ffee00-0000-4000-8000-000000000001"))

    assert cleanup(queue, dry_run=True) == cleanup(queue) == 1


@pytest.mark.parametrize("days", [-1, None])
def test_so_many_days_are_refused(queue, days):
    with refused("PJ422", "days"):
        cleanup(queue, days=days)
