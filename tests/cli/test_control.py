from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest


def test_kill_cancels_a_waiting_job_at_once(cli, create, queue):
    job = create()
    done = cli("kill", job[-8:], "--reason", "not needed")

    assert (done.returncode, done.stdout) == (0, f"job {job[-8:]} is cancelled\n")
    assert queue.get_job(job).cancel_reason == "not needed"
    assert cli("kill", job).returncode == 0


def test_kill_tells_the_runner_of_a_running_job(cli, create, runner):
    create()
    job = runner.claim()
    done = cli("kill", job[0])
    assert (done.returncode, done.stdout) == (
        0,
        f"job {str(job[0])[-8:]} is being killed on testhost\n",
    )
    assert runner.directive(job) == ("cancel", False)

    cli("kill", job[0], "--force")
    assert runner.directive(job) == ("cancel", True)


def test_kill_wait_returns_when_the_job_is_gone(cli, create, play):
    job = create()

    def part(runner):
        claimed = runner.claim()
        started.append(1)
        runner.wait_for_cancel(claimed)
        runner.end(claimed, "cancelled", exit_code=143)

    started = []
    play(part)
    while not started:
        pass
    done = cli("kill", job, "--wait")
    assert done.returncode == 0
    assert "cancelled" in done.stderr


def test_kill_of_several_goes_on_after_one_that_fails(cli, create, runner, queue):
    ended = create()
    runner.end(runner.claim())
    waiting = create()
    done = cli("kill", ended, "0000aaaa", waiting)

    assert done.returncode == 4
    assert f"job {ended[-8:]} has ended" in done.stderr
    assert queue.get_job(waiting).status == "cancelled"


def test_kill_json_is_the_jobs(cli, create):
    [document] = json.loads(cli("kill", create(), "--json").stdout)
    assert document["status"] == "cancelled"


def test_kill_pending_takes_everything_that_has_not_started(cli, create, terminal, queue):
    running = create()
    create()
    create()
    assert terminal("kill", "--pending", answer="n\n")[0] == 1
    assert queue.job_summary().pending == 3
    code, shown = terminal("kill", "--pending", answer="y\n")
    assert (code, "Cancel 3 jobs" in shown, "3 jobs cancelled" in shown) == (0, True, True)
    assert queue.get_job(running).status == "cancelled"
    assert json.loads(cli("kill", "--pending", "--json").stdout) == {"cancelled": 0}


def test_kill_needs_to_know_what(cli):
    assert cli("kill").returncode == 2
    assert cli("kill", "--pending", "0000aaaa").returncode == 2


def test_retry_puts_a_failed_job_back(cli, create, runner, queue):
    job = create(max_attempts=1)
    runner.end(runner.claim(), "failed", exit_code=1)
    done = cli("retry", job)

    assert (done.returncode, done.stdout) == (0, f"job {job[-8:]} is pending\n")
    assert queue.get_job(job).attempt == 0


def test_hold_and_release(cli, create, queue):
    job = create()
    assert cli("hold", job, "--reason", "ask first").stdout.endswith("is held: ask first\n")
    assert queue.get_job(job).status == "held"
    assert cli("release", job).stdout == f"job {job[-8:]} is pending\n"


@pytest.mark.parametrize("command", ["retry", "release"])
def test_what_is_illegal_now_is_exit_4(cli, create, command):
    done = cli(command, create())
    assert (done.returncode, done.stdout) == (4, "")
    assert "is pending" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["info"],
        ["logs"],
        ["tree"],
        ["explain"],
        ["wait"],
        ["kill"],
        ["retry"],
        ["hold"],
        ["release"],
    ],
)
def test_an_unknown_job_is_exit_3(cli, arguments):
    done = cli(*arguments, "0000aaaa")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "0000aaaa" in done.stderr


def test_an_ambiguous_id_is_exit_4_and_lists_the_candidates(cli, create):
    for last in (1, 2):
        create(id=uuid.UUID(f"01a20000-0000-7000-8000-0000abcd000{last}"))
    done = cli("info", "abcd000")

    assert done.returncode == 4
    assert "abcd0001" in done.stderr
    assert "abcd0002" in done.stderr


# -- hung, cleanup


@pytest.fixture
def hung_job(create, runner, conn):
    job = create()
    runner.claim()
    conn.execute(
        "update persona.job_leases set heartbeat_at = now() - interval '10 min',"
        " expires_at = now() - interval '5 min'"
    )
    return job


def test_hung_lists_by_heartbeat(cli, create, runner, hung_job):
    create()
    runner.claim()  # this one is alive

    for arguments in ([], ["--timeout", "9m"]):
        lines = cli("hung", *arguments).stdout.splitlines()
        assert [line.split()[0] for line in lines[1:]] == [hung_job[-8:]]
    assert cli("hung", "--timeout", "11m").stdout == ""
    assert [job["id"] for job in json.loads(cli("hung", "--json").stdout)] == [hung_job]


def test_hung_kill_asks_only_on_a_terminal(cli, terminal, hung_job, queue):
    code, shown = terminal("hung", "--kill", answer="n\n")
    assert (code, "Cancel this job?" in shown) == (1, True)
    assert queue.get_job(hung_job).status == "running"

    assert cli("hung", "--kill").returncode == 0
    assert queue.get_job(hung_job).status == "cancelled"


def test_hung_kill_on_a_terminal_takes_a_yes(terminal, hung_job, queue):
    assert terminal("hung", "--kill", answer="y\n")[0] == 0
    assert queue.get_job(hung_job).status == "cancelled"


def test_cleanup_deletes_old_finished_jobs_only(cli, create, runner, superuser_dsn, queue):
    import psycopg

    old = create(id=uuid.UUID("01900000-0000-7000-8000-0000000000aa"))
    runner.end(runner.claim())
    fresh, waiting = create(), create(delay=timedelta(hours=1))
    runner.end(runner.claim())
    with psycopg.connect(superuser_dsn) as conn:
        conn.execute("alter table persona.jobs disable trigger user")
        conn.execute(
            "update persona.jobs set completed_at = now() - interval '40 days' where id = %s",
            (old,),
        )
        conn.execute("alter table persona.jobs enable trigger user")

    assert cli("cleanup", "-d", "41").stdout.startswith("0 finished jobs")
    assert (
        "1 finished jobs older than 30 days would be deleted" in cli("cleanup", "--dry-run").stdout
    )
    assert json.loads(cli("cleanup", "--dry-run", "--json").stdout)["found"] == 1
    assert cli("cleanup").stdout == "1 finished jobs older than 30 days deleted\n"
    assert {str(job.id) for job in queue.list_jobs()} == {fresh, waiting}
