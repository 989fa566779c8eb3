"""Schedules: one job a due time, catch-up, overlap, pause, and both changes of the clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqltest import refused

from persona_pg import schedules

JOB = {"job_type": "t", "agent": "a"}
HOUR = timedelta(hours=1)


def make(queue, spec="@every 1 hour", name="s", **options):
    return queue.one("create_schedule", name=name, spec=spec, **{"job": JOB} | options)


def schedule(queue, name="s"):
    return queue.row("select * from persona.schedules where name = %s", name)


def jobs(queue):
    return queue.rows("select * from persona.jobs order by seq")


def outcomes(queue):
    return [r["outcome"] for r in queue.rows("select * from persona.schedule_runs order by due_at")]


def stand_still(queue, by, name="s"):
    """As if no runner had been there for so long."""
    queue.run(
        "update persona.schedules set anchor_at = anchor_at - %s, next_due_at = next_due_at - %s"
        " where name = %s", by, by, name,
    )  # fmt: skip
    queue.run("update persona.schedule_runs set due_at = due_at - %s", by)


def plan(queue):
    """What a runner does after its tick."""
    tick = queue.value("select persona.tick()")
    return queue.call("plan_schedules", plans=schedules.plan(tick["to_plan"] or []) or [{}])


@pytest.mark.parametrize(
    ("catch_up", "made", "said"),
    [
        ("skip", 0, ["missed", "missed", "missed"]),
        ("one", 1, ["missed", "missed", "late"]),
        ("all", 3, ["late", "late", "late"]),
    ],
)
def test_three_due_times_without_a_runner(queue, catch_up, made, said):
    make(queue, catch_up=catch_up)
    stand_still(queue, 3 * HOUR + timedelta(minutes=10))

    queue.call("tick")
    queue.call("tick")

    assert outcomes(queue) == said
    assert len(jobs(queue)) == made
    assert schedule(queue)["next_due_at"] > datetime.now(UTC)
    if made:
        assert "late (schedule s)" in jobs(queue)[-1]["status_reason"]
        assert jobs(queue)[-1]["run_at"] <= datetime.now(UTC)


def test_a_due_time_a_moment_ago_is_on_time(queue):
    make(queue)
    stand_still(queue, HOUR)

    queue.call("tick")

    [job] = jobs(queue)
    assert job["payload"]["schedule"] == "s"
    assert job["tags"] == ["schedule:s"]
    assert job["status_reason"] is None
    assert outcomes(queue) == ["created"]


def test_catching_up_is_bounded_and_takes_the_latest(queue):
    queue.run("update persona.settings set value = '5' where name = 'schedule_max_catch_up'")
    make(queue, "@every 1 min", catch_up="all")
    stand_still(queue, timedelta(days=900, seconds=30))

    queue.call("tick")

    assert outcomes(queue) == ["missed"] + 4 * ["late"] + ["created"]


def test_many_runners_make_one_job_a_due_time_also_after_its_cleanup(queue, another, runner):
    make(queue, "* * * * *")
    plan(queue)
    queue.run(
        "update persona.schedules set anchor_at = date_trunc('minute', now()) - interval '1 s',"
        " next_due_at = date_trunc('minute', now())"
    )
    tick = queue.value("select persona.tick()")
    mine = schedules.plan(tick["to_plan"])
    other = another()
    theirs = schedules.plan(other.call("schedules_to_plan"))

    assert [p["status"] for p in queue.call("plan_schedules", plans=mine)] == ["planned"]
    assert [p["status"] for p in other.call("plan_schedules", plans=theirs)] == ["stale"]
    assert len(jobs(queue)) == 1
    [run] = queue.claim(runner)
    queue.report(runner, run)
    queue.call("cleanup_old_jobs", days=0)
    mine[0]["revision"] = schedule(queue)["updated_at"].isoformat()
    queue.call("plan_schedules", plans=mine)
    assert jobs(queue) == []


@pytest.mark.parametrize(
    ("overlap", "statuses", "last"),
    [
        ("allow", ["pending", "pending"], "created"),
        ("skip", ["pending"], "overlap"),
        ("replace", ["cancelled", "pending"], "created"),
    ],
)
def test_what_a_due_time_does_while_the_last_job_is_unfinished(queue, overlap, statuses, last):
    make(queue, overlap=overlap)
    for _ in range(2):
        stand_still(queue, HOUR)
        queue.call("tick")

    assert [j["status"] for j in jobs(queue)] == statuses
    assert outcomes(queue) == ["created", last]


def test_what_passed_during_a_pause_is_not_caught_up_with(queue):
    make(queue, catch_up="all")
    queue.call("pause_schedule", name="s")
    stand_still(queue, 3 * HOUR)
    queue.call("tick")
    assert jobs(queue) == []

    queue.call("resume_schedule", name="s")
    queue.call("tick")

    assert jobs(queue) == []
    assert schedule(queue)["next_due_at"] > datetime.now(UTC)


def test_one_shot(queue):
    at = datetime(2030, 1, 31, 9, tzinfo=ZoneInfo("Europe/Berlin"))
    made = make(queue, "@at 2030-01-31 09:00", time_zone="Europe/Berlin")
    assert made["next_due_at"] == at
    queue.run(
        "update persona.schedules set next_due_at = now(), anchor_at = now() - interval '1 s'"
    )

    queue.call("tick")
    queue.call("tick")

    assert len(jobs(queue)) == 1
    assert schedule(queue)["is_done"]


def test_a_cron_expression_from_psql_is_computed_by_the_next_runner(queue, runner):
    queue.listen()
    made = make(queue, "30 7 * * 1-5", time_zone="Europe/Berlin")
    assert made["next_due_at"] is None
    assert queue.heard() == ["@schedules"]
    assert queue.one("idle_state", runner_id=runner)["due_in_seconds"] == 0

    plan(queue)

    due = schedule(queue)["next_due_at"].astimezone(ZoneInfo("Europe/Berlin"))
    assert (due.hour, due.minute, due.weekday() < 5) == (7, 30, True)
    assert 0 < queue.one("idle_state", runner_id=runner)["due_in_seconds"] < 4 * 86400
    assert queue.value("select persona.tick()")["next_schedule_seconds"] > 0


def test_an_expression_that_nobody_can_read_pauses_itself_and_alerts(queue):
    make(queue, "99 * * * *")

    plan(queue)

    assert schedule(queue)["is_paused"]
    assert "no cron expression" in schedule(queue)["problem"]
    assert [a["kind"] for a in queue.alerts()] == ["schedule"]


def test_a_job_that_cannot_be_created_pauses_its_schedule(queue):
    make(queue)
    queue.run('update persona.schedules set job = \'{"job_type": "t", "agent": "gone"}\'')
    stand_still(queue, HOUR)

    queue.call("tick")

    assert outcomes(queue) == ["failed"]
    assert "gone" in schedule(queue)["problem"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"spec": "@every 0 s"},
        {"spec": "@every now"},
        {"spec": "@at noonish"},
        {"spec": "@reboot"},
        {"spec": "* * * *"},
        {"time_zone": "Mars/Olympus"},
        {"catch_up": "most"},
        {"overlap": "maybe"},
        {"job": {"job_type": "t", "agent": "nobody"}},
        {"job": {"job_type": "t", "agent": "a", "dedupe_key": "k"}},
        {"name": "a b"},
    ],
)
def test_what_cannot_work_is_refused(queue, wrong):
    with refused("PJ422"):
        make(queue, **wrong)
    assert queue.rows("select * from persona.schedules") == []


def due_times(queue, spec, zone, start, end):
    """Due times and jobs, with the rows of the schedule shifted so that the outage is that one."""
    start, end = (datetime.fromisoformat(t).replace(tzinfo=ZoneInfo(zone)) for t in (start, end))
    wanted = {"name": "s", "spec": spec, "time_zone": zone, "after": start, "until": end}
    [plan] = schedules.plan([wanted | {"most": 101, "revision": "-"}])
    make(queue, spec, time_zone=zone, catch_up="all")
    queue.run("update persona.schedules set anchor_at = %s", start)
    plan["revision"] = schedule(queue)["updated_at"].isoformat()
    queue.call("plan_schedules", plans=json.loads(json.dumps([plan])))
    rows = queue.rows(
        "select r.due_at, j.payload ->> 'due_at' as said from persona.schedule_runs as r"
        " join persona.jobs as j on j.id = r.job_id order by r.due_at"
    )
    assert [datetime.fromisoformat(r["said"]) for r in rows] == [r["due_at"] for r in rows]
    return [r["due_at"].astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z") for r in rows]


@pytest.mark.parametrize(
    ("zone", "spec", "outage", "expected"),
    [
        # 02:30 does not exist: right after the gap.
        ("Europe/Berlin", "30 2 * * *", ("2026-03-28", "2026-03-30T12:00"),
         ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
        ("America/New_York", "30 2 * * *", ("2026-03-07", "2026-03-09T12:00"),
         ["07 02:30 -0500", "08 03:00 -0400", "09 02:30 -0400"]),
        # It comes twice: the first time.
        ("Europe/Berlin", "30 2 * * *", ("2025-10-25", "2025-10-27T12:00"),
         ["25 02:30 +0200", "26 02:30 +0200", "27 02:30 +0100"]),
        ("America/New_York", "30 1 * * *", ("2025-11-01", "2025-11-03T12:00"),
         ["01 01:30 -0400", "02 01:30 -0400", "03 01:30 -0500"]),
        # Every hour stays every hour.
        ("Europe/Berlin", "30 * * * *", ("2026-03-29T01:00", "2026-03-29T04:00"),
         ["29 01:30 +0100", "29 03:30 +0200"]),
        ("Europe/Berlin", "30 * * * *", ("2025-10-26T01:00", "2025-10-26T04:00"),
         ["26 01:30 +0200", "26 02:30 +0200", "26 02:30 +0100", "26 03:30 +0100"]),
        ("America/New_York", "30 * * * *", ("2025-11-02T00:00", "2025-11-02T03:00"),
         ["02 00:30 -0400", "02 01:30 -0400", "02 01:30 -0500", "02 02:30 -0500"]),
    ],
)  # fmt: skip
def test_due_times_where_the_clocks_change(queue, zone, spec, outage, expected):
    assert due_times(queue, spec, zone, *outage) == expected


def test_without_a_schedule_nothing_is_due(queue, runner):
    assert queue.value("select persona.tick()")["next_schedule_seconds"] is None
    assert queue.one("idle_state", runner_id=runner)["due_in_seconds"] is None


def test_only_an_admin_may_make_a_schedule(queue):
    for role in ("persona_client", "persona_runner"):
        allowed = queue.value(
            "select has_function_privilege(%s, 'persona.update_schedule(text, jsonb)', 'execute')",
            role,
        )
        assert not allowed
