"""How a runner is told to end, to go on differently, or not to begin."""

# ruff: noqa: PLR0917 - fixtures are arguments
from __future__ import annotations

import os
import signal
import time

import pytest


def test_sigterm_lets_the_running_jobs_finish_and_takes_no_more(worker, jobs, ready):
    one = worker("--concurrency", "1")
    job, next_one = jobs.sh("echo begun; sleep 1.5; echo end"), jobs.sh("echo never")
    jobs.first_line(job)
    one.process.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert jobs.row(job).status == "completed"
    assert jobs.lines(job) == ["begun", "end"]
    assert jobs.row(next_one).status == "pending"


def test_the_second_sigterm_gives_back_at_once_without_costing_an_attempt(worker, jobs, conn):
    one = worker()
    job = jobs.sh("echo begun; sleep 60")
    jobs.first_line(job)
    one.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert one.process.poll() is None
    one.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert one.wait() == 0
    assert time.monotonic() - began < 3
    row = jobs.row(job)
    assert (row.status, row.attempt, row.interruptions) == ("pending", 0, 0)
    assert [(a.outcome, a.is_counted) for a in jobs.attempts(job)] == [("given_back", False)]
    assert conn.execute("select ended_reason from persona.runners").fetchall() == [("stopped",)]


def test_ctrl_c_drains_too(worker, jobs):
    one = worker()
    job = jobs.sh("echo begun; sleep 1; echo end")
    jobs.first_line(job)
    os.kill(one.pid, signal.SIGINT)
    assert one.wait() == 0
    assert jobs.row(job).status == "completed"


def test_after_the_drain_timeout_what_still_runs_is_given_back(worker, jobs):
    one = worker(env={"WORKER_DRAIN_TIMEOUT": "1s"})
    job = jobs.sh("echo begun; sleep 60")
    jobs.first_line(job)
    began = time.monotonic()
    one.process.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert 0.9 < time.monotonic() - began < 5
    assert jobs.row(job).status == "pending"


def test_drain_by_command(worker, jobs, cli):
    one = worker("--name", "here")
    job = jobs.sh("echo begun; sleep 1; echo end")
    jobs.first_line(job)
    assert cli("runners", "drain", "here").returncode == 0
    assert one.wait() == 0
    assert jobs.row(job).status == "completed"


def test_a_drain_that_came_while_the_database_was_away_is_heard(
    worker, jobs, proxy, conn, ready, eventually
):
    one = ready(worker("--name", "here", env={"PERSONA_DATABASE_URL": proxy.dsn}))
    proxy.is_refusing = True
    proxy.cut()
    eventually(lambda: "next try" in one.output())
    conn.execute("select persona.drain_runner('here')")
    proxy.is_refusing = False
    assert one.wait() == 0


# -- SIGHUP


@pytest.fixture
def env_file(tmp_path):
    path = tmp_path / "worker.env"

    def write(**values):
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        return {"PERSONA_ENV_FILE": str(path)}

    return write


def reloaded(one, eventually, times=1):
    time.sleep(0.06)  # a signal that comes twice in 50 ms is taken for one
    one.process.send_signal(signal.SIGHUP)
    eventually(lambda: one.output().count("configuration reloaded") == times, what=one.output)


def test_sighup_changes_how_many_run_at_once(worker, jobs, conn, env_file, eventually):
    def running():
        sql = "select count(*) from persona.jobs where status = 'running'"
        return conn.execute(sql).fetchone()[0]

    one = worker(env=env_file(WORKER_CONCURRENCY=1))
    made = [jobs.sh("sleep 60") for _ in range(4)]
    eventually(lambda: running() == 1)
    env_file(WORKER_CONCURRENCY=3)
    reloaded(one, eventually)
    eventually(lambda: running() == 3)
    env_file(WORKER_CONCURRENCY=1)
    reloaded(one, eventually, 2)
    for job in made:
        jobs.cancel(job, force=True)
    for job in made:
        jobs.end(job)


def test_after_many_reloads_there_is_still_one_timer_of_each_kind(
    worker, jobs, conn, env_file, eventually, ready
):
    """Heartbeats of a running job are counted: their number is that of one timer."""
    conn.execute("create table public.beats (at timestamptz default clock_timestamp())")
    conn.execute(
        "create function public.beat() returns trigger language plpgsql security definer as"
        " 'begin insert into public.beats default values; return null; end'"
    )
    fast = {
        "JOB_HEARTBEAT_INTERVAL": "500ms",
        "JOB_KILL_GRACE": "1s",
        "WORKER_POLL_INTERVAL": "never",
    }
    one = ready(worker(env=env_file(**fast)))
    job = jobs.sh("echo begun; sleep 60")
    jobs.first_line(job)
    for times in range(1, 8):
        reloaded(one, eventually, times)
    conn.execute(
        "create trigger beat after update on persona.job_leases"
        " for each row execute function public.beat()"
    )
    time.sleep(3.2)
    count = conn.execute("select count(*) from public.beats").fetchone()[0]
    assert 5 <= count <= 9

    env_file(**fast | {"JOB_HEARTBEAT_INTERVAL": "60s"})
    reloaded(one, eventually, 8)
    time.sleep(0.3)
    conn.execute("truncate public.beats")
    time.sleep(2)
    assert conn.execute("select count(*) from public.beats").fetchone()[0] == 0
    jobs.cancel(job, force=True)
    jobs.end(job)


def test_a_slower_heartbeat_never_outlives_the_leases_that_were_granted(
    worker, jobs, conn, env_file, eventually, ready, short
):
    one = ready(worker(env=env_file(**short)))
    job = jobs.sh("echo begun; sleep 7; echo end")
    jobs.first_line(job)
    env_file(JOB_HUNG_TIMEOUT="1h", JOB_HEARTBEAT_INTERVAL="10m")
    reloaded(one, eventually)
    assert jobs.end(job).status == "completed"
    assert len(jobs.attempts(job)) == 1


def test_a_wrong_configuration_is_not_taken_over(worker, jobs, env_file, eventually, ready):
    one = ready(worker(env=env_file(WORKER_CONCURRENCY=2)))
    env_file(WORKER_CONCURRENCY="many")
    one.process.send_signal(signal.SIGHUP)
    eventually(lambda: "was not reloaded" in one.output())
    assert "WORKER_CONCURRENCY: the value 'many' is not allowed" in one.output()
    assert jobs.end(jobs.sh("exit 0")).status == "completed"


# -- options


def test_drain_ends_when_nothing_claimable_is_left(worker, jobs):
    made = [jobs.sh("exit 0") for _ in range(20)]
    later = jobs.sh("exit 0", run_at="2100-01-01")
    assert worker("--drain", "--concurrency", "4").wait() == 0
    assert {jobs.row(job).status for job in made} == {"completed"}
    assert jobs.row(later).status == "pending"


def test_drain_with_nothing_to_do_ends_soon(worker):
    began = time.monotonic()
    assert worker("--drain").wait() == 0
    assert time.monotonic() - began < 10


def test_once_runs_one_job_at_most(worker, jobs):
    made = [jobs.sh("exit 0") for _ in range(3)]
    assert worker("--once").wait() == 0
    assert sorted(jobs.row(job).status for job in made) == ["completed", "pending", "pending"]
    for _ in range(3):
        assert worker("--once").wait() == 0
    assert {jobs.row(job).status for job in made} == {"completed"}


def test_a_runner_serves_only_the_agents_it_was_given(worker, jobs):
    served = jobs.create("shell", {"script": "exit 0"})
    not_served = jobs.sh("exit 0")
    assert worker("--drain", "--agent", "shell", "-a", "researcher").wait() == 0
    assert jobs.row(served).status == "completed"
    assert jobs.row(not_served).status == "pending"


def test_an_unknown_agent_is_refused_by_name(worker):
    one = worker("--agent", "nobody")
    assert one.wait() == 2
    assert 'agents is "nobody"' in one.output()
    assert "Traceback" not in one.output()


def test_a_second_runner_of_the_name_does_not_start(worker, ready):
    one = ready(worker("--name", "here"))
    two = worker("--name", "here")
    assert two.wait() == 75
    assert two.output().startswith(
        "persona-worker: a runner named 'here' is already running here (pid "
    )
    assert one.process.poll() is None


def test_a_runner_of_the_name_on_another_machine_is_respected(worker, conn, ready):
    conn.execute(
        "select persona.register_runner(name => 'here', hostname => 'elsewhere', pid => 1,"
        " machine_id => 'other')"
    )
    two = worker("--name", "here")
    assert two.wait() == 75
    assert "a runner named here is alive on elsewhere (pid 1" in two.output()


def test_inside_a_job_a_runner_refuses_to_start(worker, jobs, persona_env, tmp_path):
    one = worker(env={"PERSONA_JOB_ID": "x"})
    assert one.wait() == 78
    assert "refused to start inside a job" in one.output()
    assert len(one.output().splitlines()) == 1


def test_a_runner_survives_its_terminal(worker, jobs, runner_pid, ready):
    """The runner is in a group of its own: what is sent to the guardian's group arrives once."""
    one = ready(worker())
    job = jobs.sh("echo begun; sleep 1.5; echo end")
    jobs.first_line(job)
    os.killpg(one.pid, signal.SIGTERM)
    assert one.wait() == 0
    assert jobs.lines(job) == ["begun", "end"]


def test_help_and_wrong_usage(run_program):
    assert run_program("persona-worker", "--help").returncode == 0
    wrong = run_program("persona-worker", "--concurrency", "0")
    assert wrong.returncode == 2
    assert "a number from 1 to 1000 is needed" in wrong.stderr
