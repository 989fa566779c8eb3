# ruff: noqa: PLR0917 - fixtures are arguments
"""P9: while the database is away no job dies and nothing is lost; P2: unless it stays away."""

from __future__ import annotations

import itertools
import threading
import time
from types import SimpleNamespace

import psycopg
import pytest

# Of connections: cut in the midst of coming back, and after it. A busy machine needs a while for it.
LIVES = itertools.cycle((0.05, 0.15, 0.2, 0.5, 1.5))


@pytest.fixture
def server(private_server):
    return private_server()


class Steady:
    """A connection that survives the restarts of its server."""

    def __init__(self, dsn):
        self._dsn = dsn
        self._conn = None

    def execute(self, *arguments, **options):
        for _ in range(100):
            try:
                if self._conn is None or self._conn.closed:
                    self._conn = psycopg.connect(self._dsn, autocommit=True)
                return self._conn.cursor(**options).execute(*arguments)
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise AssertionError("the server does not come back")

    def cursor(self, **options):
        return SimpleNamespace(execute=lambda *a: self.execute(*a, **options))

    def close(self):
        if self._conn is not None:
            self._conn.close()


@pytest.fixture
def own_jobs(server, jobs_of):
    """The queue on a server of the test's own."""
    conn = Steady(server.dsn)
    yield jobs_of(conn)
    conn.close()


@pytest.fixture
def own_worker(server, worker):
    """Start a worker on that server; it ends before the server does."""
    started = []

    def start(*arguments):
        started.append(worker(*arguments, env={"PERSONA_DATABASE_URL": server.dsn}))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_restart_of_the_server_kills_no_job_and_loses_no_line(
    own_worker, server, own_jobs, ready, mode
):
    one = ready(own_worker())
    script = "for i in $(seq 1 400); do echo line $i; sleep 0.01; done"
    made = [own_jobs.sh(script, max_attempts=1) for _ in range(3)]
    for job in made:
        own_jobs.first_line(job)
    server.server.control("restart", "-m", mode, "-w")

    for job in made:
        row = own_jobs.end(job)
        assert (row.status, row.attempt, row.interruptions) == ("completed", 1, 0)
        assert own_jobs.lines(job) == [f"line {n}" for n in range(1, 401)]
        assert len(own_jobs.attempts(job)) == 1
    assert "connected to the database again" in one.output()


def test_a_result_that_was_ready_while_the_server_was_down_arrives(
    own_worker, server, own_jobs, ready
):
    ready(own_worker())
    job = own_jobs.sh("echo begun; sleep 1; echo end; exit 4", max_attempts=1)
    own_jobs.first_line(job)
    server.server.control("stop", "-m", "immediate", "-w")
    time.sleep(3)
    server.server.start()
    row = own_jobs.end(job)
    assert (row.status, row.exit_code) == ("failed", 4)
    assert own_jobs.lines(job) == ["begun", "end"]


def test_a_runner_that_starts_before_its_server_waits_for_it(
    own_worker, server, own_jobs, eventually
):
    server.server.control("stop", "-m", "fast", "-w")
    one = own_worker()
    eventually(lambda: "next try" in one.output())
    server.server.start()
    assert own_jobs.end(own_jobs.sh("exit 0")).status == "completed"


def test_backends_that_are_terminated_again_and_again_cost_nothing(
    worker, jobs, superuser_dsn, history, ready
):
    ready(worker("--concurrency", "4"))
    done = threading.Event()

    def terminate():
        sql = (
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'persona-worker%' and datname = current_database()"
        )
        with psycopg.connect(superuser_dsn, autocommit=True) as connection:
            for pause in LIVES:
                if done.wait(pause):
                    break
                connection.execute(sql)

    thread = threading.Thread(target=terminate)
    thread.start()
    try:
        made = [jobs.sh(history.script(0.3) + "seq 1 50") for _ in range(24)]
        for job in made:
            row = jobs.end(job, timeout=120)
            assert (row.status, row.interruptions) == ("completed", 0)
            assert jobs.lines(job) == [str(n) for n in range(1, 51)]
            assert history.count("end", job) == 1
        assert history.count("overlap") == 0
    finally:
        done.set()
        thread.join()


def test_a_network_that_refuses_for_seconds_is_waited_out(worker, jobs, proxy, ready, eventually):
    one = ready(worker(env={"PERSONA_DATABASE_URL": proxy.dsn}))
    job = jobs.sh("for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done", max_attempts=1)
    jobs.first_line(job)
    proxy.is_refusing = True
    proxy.cut()
    time.sleep(5)
    proxy.is_refusing = False
    row = jobs.end(job)
    assert (row.status, row.interruptions) == ("completed", 0)
    assert jobs.lines(job) == list("123456")
    assert one.output().count("connected to the database again") == 1


def test_a_network_that_cuts_again_and_again_is_lived_with(worker, jobs, proxy, ready, history):
    ready(worker(env={"PERSONA_DATABASE_URL": proxy.dsn}))
    done = threading.Event()

    def cut():
        for pause in LIVES:
            if done.wait(pause):
                break
            proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        made = [jobs.sh(history.script(0.1)) for _ in range(10)]
        for job in made:
            assert jobs.end(job, timeout=120).status == "completed"
            assert history.count("end", job) == 1
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("what", ["claim_jobs", "complete_jobs", "append_logs"])
def test_an_acknowledgement_that_is_lost_after_the_commit_changes_nothing(
    worker, jobs, proxy, ready, history, what
):
    ready(worker(env={"PERSONA_DATABASE_URL": proxy.dsn, "WORKER_POLL_INTERVAL": "never"}))
    seen = threading.Event()
    armed = threading.Event()

    def lose_the_answer(to_server, data):
        if not armed.is_set():
            return True
        if to_server:
            if what.encode() in data:
                seen.set()
            return True
        if seen.is_set():
            armed.clear()  # once
            time.sleep(0.3)  # it is committed by now
            return False
        return True

    proxy.filter = lose_the_answer
    time.sleep(1)  # the runner sleeps: what goes through now is this job's
    armed.set()
    job = jobs.sh(history.script(0.2) + "echo said", max_attempts=1)
    row = jobs.end(job)
    assert not armed.is_set()
    assert (row.status, row.attempt, row.interruptions) == ("completed", 1, 0)
    assert (history.count("begin", job), history.count("overlap")) == (1, 0)
    assert jobs.lines(job) == ["said"]
    outcomes = [a.outcome for a in jobs.attempts(job)]
    assert outcomes == (["given_back"] if what == "claim_jobs" else []) + ["completed"]


def test_a_job_whose_lease_cannot_be_renewed_is_killed_before_it_ends(
    worker, jobs, proxy, ready, short, alive, eventually, conn
):
    one = ready(worker(env=short | {"PERSONA_DATABASE_URL": proxy.dsn}))
    job = jobs.sh("echo $$; trap '' TERM; sleep 1000; sleep 1000", max_attempts=1)
    leader = int(jobs.first_line(job))
    proxy.is_refusing = True
    proxy.cut()
    eventually(lambda: not alive(leader), 10)
    left = conn.execute(
        "select extract(epoch from expires_at - now()) from persona.job_leases where job_id = %s",
        (job,),
    ).fetchone()
    assert left[0] > 0
    assert "no heartbeat got through" in one.output()

    other = ready(worker("--name", "other", env=short))
    jobs.until(job, "running", timeout=15)
    eventually(lambda: jobs.attempts(job), 15)
    second = eventually(lambda: len(jobs.lines(job)) == 2, 15)
    assert second
    proxy.is_refusing = False
    eventually(lambda: "connected to the database again" in one.output(), 20)
    time.sleep(0.5)
    row = jobs.row(job)
    assert (row.status, row.attempt, row.interruptions) == ("running", 1, 1)
    assert [(a.outcome, a.is_counted) for a in jobs.attempts(job)] == [("orphaned", False)]
    jobs.cancel(job, force=True)
    jobs.end(job)
    assert other.process.poll() is None


def test_a_result_that_comes_after_the_lease_went_to_another_is_put_aside(
    worker, jobs, proxy, ready, short, eventually, history
):
    one = ready(worker(env=short | {"PERSONA_DATABASE_URL": proxy.dsn}))
    job = jobs.sh(history.script(0.7) + "echo said; exit 3", max_attempts=1)
    eventually(lambda: history.count("begin"))
    proxy.is_refusing = True
    proxy.cut()
    eventually(lambda: history.count("end"))
    ready(worker("--name", "other", env=short))
    row = jobs.end(job)
    assert (row.status, row.attempt, row.interruptions) == ("failed", 1, 1)
    proxy.is_refusing = False
    eventually(lambda: "its result came too late" in one.output(), 20, what=one.output)
    first, second = jobs.attempts(job)
    assert (first.outcome, first.is_counted, second.outcome) == ("orphaned", False, "failed")
    assert (first.stale_result["exit_code"], first.refused_log_lines) == (3, 1)
    assert jobs.lines(job) == ["said"]
    assert jobs.row(job).updated_at == row.updated_at
    assert history.count("overlap") == 0


def test_a_log_table_that_is_locked_for_longer_than_the_lease_kills_nothing(
    worker, jobs, connect, ready
):
    settings = {"JOB_HUNG_TIMEOUT": "15s", "JOB_HEARTBEAT_INTERVAL": "1s", "JOB_KILL_GRACE": "1s"}
    one = ready(worker(env=settings))
    job = jobs.sh("for i in $(seq 1 40); do echo $i; sleep 0.5; done", max_attempts=1)
    jobs.first_line(job)
    locker = connect("locker", autocommit=False)
    locker.execute("lock table persona.job_logs in access exclusive mode")
    time.sleep(17)
    locker.rollback()
    row = jobs.end(job, timeout=60)
    assert (row.status, row.interruptions) == ("completed", 0), one.output()
    assert jobs.lines(job) == [str(n) for n in range(1, 41)]


def test_a_database_that_refuses_to_write_for_a_while_loses_nothing(
    worker, jobs, conn, ready, eventually
):
    """A full disk, a revoked right: the lines and the result are not what is wrong."""
    one = ready(worker())
    job = jobs.sh("echo begun; sleep 1; echo end", max_attempts=1)
    jobs.first_line(job)
    conn.execute(
        "create function public.full_disk() returns trigger language plpgsql as"
        " $$ begin raise sqlstate '53100' using message = 'No space left on device'; end $$;"
        " create trigger full_disk before insert on persona.job_logs"
        " for each row execute function public.full_disk();"
        " create trigger full_disk before insert on persona.job_attempts"
        " for each row execute function public.full_disk()"
    )
    eventually(lambda: "refused results: No space left" in one.output(), 20)
    time.sleep(2.5)
    assert one.output().count("refused results") < 8  # asked again, but not without a pause
    conn.execute("drop function public.full_disk cascade")
    row = jobs.end(job)
    assert (row.status, row.interruptions) == ("completed", 0)
    assert jobs.lines(job) == ["begun", "end"]


def test_one_report_that_the_database_cannot_take_ends_as_a_failure_with_that_reason(
    worker, jobs, conn, ready
):
    ready(worker())
    conn.execute(
        "create function public.picky() returns trigger language plpgsql as"
        " $$ begin if new.exit_code = 77 then raise exception 'not this one'; end if;"
        " return new; end $$;"
        " create trigger picky before update on persona.jobs"
        " for each row execute function public.picky()"
    )
    bad, good = jobs.sh("exit 77", max_attempts=1), jobs.sh("exit 0")
    row = jobs.end(bad)
    assert (row.status, row.error) == ("failed", "Status update failed after retries")
    assert jobs.end(good).status == "completed"
    assert jobs.lines(bad, "system") == ["Status update failed after retries: not this one"]


def test_a_runner_that_was_given_up_registers_anew(worker, jobs, conn, ready, eventually):
    one = ready(worker("--name", "here", env={"WORKER_POLL_INTERVAL": "1s"}))
    conn.execute(
        "delete from persona.idle_runners;"
        " update persona.runners set ended_at = now(), ended_reason = 'lost'"
    )
    assert jobs.end(jobs.sh("exit 0")).status == "completed"
    assert one.output().count("runner here is ready") == 2
    assert one.process.poll() is None


def test_a_runner_that_was_replaced_ends(worker, jobs, conn, ready, alive):
    one = ready(worker("--name", "here", env={"WORKER_POLL_INTERVAL": "1s"}))
    job = jobs.sh("echo $$; sleep 60")
    leader = jobs.first_line(job)
    conn.execute(
        "update persona.runners set last_seen_at = now() - interval '1 hour';"
        " select persona.register_runner(name => 'here', hostname => 'elsewhere', pid => 1)"
    )
    assert one.wait() == 75
    assert not alive(leader)
