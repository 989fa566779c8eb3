"""P7 with the net taken away: whatever makes a job claimable wakes the runner."""

# ruff: noqa: PLR0917 - fixtures are arguments
from __future__ import annotations

import random
import threading
import time

import pgtest
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

NO_NET = {"WORKER_POLL_INTERVAL": "never"}
# With a busy machine in mind; the net would need 5 s and more.
PROMPT = 2.0


def delays(conn, ids):
    sql = (
        "select extract(epoch from started_at - greatest(created_at, run_at)) from persona.jobs"
        " where id = any(%s::uuid[])"
    )
    return sorted(float(row[0]) for row in conn.execute(sql, (ids,)))


@pytest.fixture
def idle(worker, ready):
    """A runner without a net, asleep."""

    def start(*arguments, **env):
        one = ready(worker(*arguments, env=NO_NET | env))
        time.sleep(0.5)
        return one

    return start


def test_300_jobs_created_at_random_moments_all_start_promptly(idle, jobs, connect, jobs_of):
    idle("--concurrency", "8")
    made, failures = [], []

    def creator(seed):
        chance = random.Random(seed)
        conn = connect(f"creator {seed}", autocommit=chance.random() < 0.5)
        try:
            for _ in range(60):
                time.sleep(chance.choice((0, 0.001, 0.01, 0.03, 0.1)) * chance.random())
                made.append(jobs_of(conn).command("true"))
                if not conn.autocommit:
                    time.sleep(0.003 * chance.random())
                    conn.commit()
        except BaseException as exc:  # noqa: BLE001 - told in the test's own thread
            failures.append(exc)

    threads = [threading.Thread(target=creator, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for job in made:
        jobs.end(job)
    assert len(made) == 300
    assert delays(jobs.conn, made)[-1] < 10  # 8 at once on a busy machine


def test_single_jobs_into_the_idle_moment_start_promptly(idle, jobs):
    """Each is created in the moment when the runner is about to go to sleep after the last."""
    idle()
    chance = random.Random(7)
    made = []
    for _ in range(60):
        made.append(jobs.command("true"))
        jobs.end(made[-1], timeout=10)
        time.sleep(0.006 * chance.random())
    assert delays(jobs.conn, made)[-1] < PROMPT


def test_a_runner_that_is_notified_all_the_time_stays_awake_and_sleeps_again(
    idle, jobs, conn, proxy, eventually
):
    looks = []

    def watch(to_server, data):
        if to_server and b"stays_awake" in data:
            looks.append(data)
        return True

    proxy.filter = watch
    idle(PERSONA_DATABASE_URL=proxy.dsn)

    def is_awake():
        conn.execute("select pg_notify('persona_wake', 'command')")
        return looks

    marked = "select count(*) from persona.idle_runners"
    eventually(is_awake, 60, interval=0.0)
    starts(jobs.command("true"), jobs)
    eventually(lambda: conn.execute(marked).fetchone() == (1,), 30)


def test_a_long_transaction_of_a_stranger_delays_nothing(idle, jobs, connect):
    stranger = connect("stranger", autocommit=False)
    stranger.execute("create table public.x (); select pg_current_xact_id()")
    idle()
    made = []
    for pause in (0.2, 0.5, 1.5, 2.5, 0.1):
        time.sleep(pause)
        made.append(jobs.command("true"))
    for job in made:
        jobs.end(job)
    assert delays(jobs.conn, made)[-1] < PROMPT
    stranger.rollback()


def test_a_job_that_is_committed_long_after_its_creation_starts_then(idle, jobs, connect, jobs_of):
    creator = connect("slow creator", autocommit=False)
    idle()
    job = jobs_of(creator).command("true")
    time.sleep(3)
    began = time.monotonic()
    creator.commit()
    jobs.end(job, timeout=10)
    assert time.monotonic() - began < PROMPT


def test_delayed_jobs_start_at_their_time(idle, jobs, conn):
    idle()
    made = [
        jobs.create("command", {"argv": ["true"]}, run_at=at)
        for (at,) in conn.execute(
            "select (now() + make_interval(secs => s))::text from unnest('{1.2,2,2.01,3}'::real[]) s"
        )
    ]
    for job in made:
        jobs.end(job, timeout=10)
    found = delays(conn, made)
    assert found[0] >= 0
    assert found[-1] < PROMPT


def test_a_retry_with_backoff_starts_at_its_time(idle, jobs):
    jobs.set("retry_base_seconds", 2)
    idle()
    job = jobs.sh("[ $PERSONA_ATTEMPT = 2 ]", max_attempts=2)
    row = jobs.end(job, timeout=10)
    assert row.status == "completed"
    first, second = jobs.attempts(job)
    assert 1 <= (second.started_at - first.ended_at).total_seconds() < 2 + PROMPT


def test_a_freed_lock_key_starts_the_next(idle, jobs):
    idle("--concurrency", "5")
    made = [jobs.sh("sleep 0.4", lock_key="one at a time") for _ in range(4)]
    ends = [jobs.end(job) for job in made]
    spans = sorted((row.started_at, row.completed_at) for row in ends)
    for (_, end), (begin, _) in zip(spans, spans[1:], strict=False):  # noqa: RUF007
        assert 0 <= (begin - end).total_seconds() < PROMPT


def test_a_freed_place_of_a_limited_agent_starts_the_next(idle, jobs, conn):
    conn.execute("select persona.update_agent('command', '{\"max_concurrent\": 1}')")
    idle("--concurrency", "5")
    made = [jobs.sh("sleep 0.4") for _ in range(4)]
    spans = sorted((row.started_at, row.completed_at) for row in map(jobs.end, made))
    for (_, end), (begin, _) in zip(spans, spans[1:], strict=False):  # noqa: RUF007
        assert 0 <= (begin - end).total_seconds() < PROMPT


def waits(job, jobs):
    """The job has been there for a while and nobody took it."""
    time.sleep(0.6)
    assert jobs.row(job).status in {"pending", "blocked", "held"}


def starts(job, jobs):
    began = time.monotonic()
    row = jobs.end(job, timeout=10)
    assert row.status == "completed"
    assert time.monotonic() - began < PROMPT


def test_an_agent_that_is_enabled_starts_what_waited_for_it(idle, jobs, conn):
    conn.execute("select persona.set_agent_active('command', false)")
    idle()
    job = jobs.command("true")
    waits(job, jobs)
    conn.execute("select persona.set_agent_active('command', true)")
    starts(job, jobs)


def test_a_raised_limit_starts_what_waited_for_it(idle, jobs, conn):
    conn.execute("select persona.update_agent('command', '{\"max_concurrent\": 1}')")
    idle()
    first = jobs.sh("sleep 60")
    jobs.running(first)
    second = jobs.command("true")
    waits(second, jobs)
    conn.execute("select persona.update_agent('command', '{\"max_concurrent\": 2}')")
    starts(second, jobs)
    jobs.cancel(first, force=True)
    jobs.end(first)


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_a_needed_job_that_ends_settles_what_waited_for_it(idle, jobs, end):
    idle()
    first = jobs.sh(f"sleep 1; [ {end} = completed ]", max_attempts=1)
    second = jobs.command("true", depends_on=[first])
    waits(second, jobs)
    jobs.end(first)
    assert jobs.end(second, timeout=PROMPT).status == end


def test_a_retry_a_release_and_an_update_start_the_job(idle, jobs, conn):
    idle()
    failed = jobs.sh("[ -e /tmp/persona-no-such-file ] || exit 1", max_attempts=1)
    jobs.end(failed)
    conn.execute("select persona.retry_job(%s)", (failed,))
    assert jobs.until(failed, "failed", timeout=PROMPT).attempt >= 1

    held = jobs.command("true", run_at="2100-01-01")
    conn.execute("select persona.hold_job(%s)", (held,))
    conn.execute("select persona.release_job(%s)", (held,))
    waits(held, jobs)
    conn.execute(
        "select persona.update_job(%s, (persona.get_job(%s)).updated_at, '{\"run_at\": null}')",
        (held, held),
    )
    starts(held, jobs)


def test_what_a_dead_runner_left_starts_when_its_lease_ends(idle, jobs, conn):
    """The end of a lease is among what an idle runner sleeps for, and it does not spin then."""
    runner, job = _claimed_by_a_dead_runner(jobs, conn, lease="3 seconds")
    assert runner
    one = idle()
    row = jobs.end(job, timeout=15)
    assert (row.status, row.interruptions) == ("completed", 1)
    assert one.process.poll() is None


def test_an_expired_lease_that_stays_makes_no_runner_spin(idle, jobs, conn, connect, proxy, sent):
    """Somebody holds the row, so that it cannot be recovered."""
    _, job = _claimed_by_a_dead_runner(jobs, conn, lease="1 second")
    holder = connect("holder", autocommit=False)
    holder.execute("select from persona.jobs where id = %s for update", (job,))
    idle(PERSONA_DATABASE_URL=proxy.dsn)
    time.sleep(2)
    before = len(sent)
    time.sleep(4)
    assert len(sent) - before < 200  # each look may take a second of settling
    holder.rollback()
    assert jobs.end(job, timeout=15).status == "completed"


def _claimed_by_a_dead_runner(jobs, conn, lease):
    job = jobs.command("true")
    runner = conn.execute(
        "select r.id from persona.register_runner(name => 'dead', hostname => 'x', pid => 1,"
        " lease => %s) as r",
        (lease,),
    ).fetchone()[0]
    assert conn.execute("select persona.claim_job(%s)", (runner,)).fetchone()
    return runner, job


def test_a_runner_that_serves_other_agents_is_left_alone(idle, jobs, proxy, sent, eventually):
    idle("--agent", "shell", PERSONA_DATABASE_URL=proxy.dsn)
    # Longer than it waits between two looks before it sleeps.
    eventually(lambda: time.monotonic() - sent[-1] > 1.1, 30)
    before = len(sent)
    job = jobs.command("true")
    time.sleep(2)
    assert len(sent) - before <= 5
    assert jobs.row(job).status == "pending"
    starts(jobs.create("shell", {"script": "true"}), jobs)


def test_after_a_cut_connection_the_runner_hears_again(idle, jobs, superuser_dsn, eventually):
    import psycopg

    one = idle()
    with psycopg.connect(superuser_dsn, autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'persona-worker%' and datname = current_database()"
        )
    eventually(lambda: "connected to the database again" in one.output())
    time.sleep(1)
    starts(jobs.command("true"), jobs)


def test_what_was_created_while_the_connection_was_away_starts(idle, jobs, proxy, eventually):
    one = idle(PERSONA_DATABASE_URL=proxy.dsn)
    proxy.is_refusing = True
    proxy.cut()
    eventually(lambda: "next try" in one.output(), what=one.output)
    job = jobs.command("true")
    proxy.is_refusing = False
    assert jobs.end(job, timeout=15).status == "completed"


def test_a_connection_that_hears_nothing_any_more_is_replaced(
    conn, dsn, superuser_dsn, worker, ready, jobs
):
    """As behind a pooler that has reset the session: everything works but notifications."""
    with psycopg.connect(superuser_dsn, autocommit=True) as admin:
        admin.execute(
            "create table public.deaf (is_deaf boolean);"
            "create function public.pg_listening_channels() returns setof text language sql as"
            " 'select c from pg_catalog.pg_listening_channels() as c"
            "  where not exists (select from public.deaf)';"
            "grant select, delete, insert on public.deaf to public"
        )
    dsn = make_conninfo(dsn, options="-c search_path=public,pg_catalog")
    one = ready(worker(env={"PERSONA_DATABASE_URL": dsn, "WORKER_POLL_INTERVAL": "never"}))
    conn.execute("insert into public.deaf values (true)")

    # Something that comes due is a reason to look after everything.
    conn.execute(
        "select persona.create_job('command', '{\"argv\": [\"true\"]}', run_at => now() + '0.5 s')"
    )
    pgtest.eventually(lambda: "hears no notifications" in one.output(), 20, what=one.output)
    conn.execute("delete from public.deaf")

    pgtest.eventually(lambda: "connected to the database again" in one.output(), 20)
    jobs.end(jobs.sh("echo heard"), timeout=10)
