"""The faults: each strikes once, while jobs run, and says what else must hold.

FAULTS maps a name to a Fault. `run` makes an episode of one: jobs, the fault, and the check. What is
random comes from the seed alone, so a run can be repeated.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pgtest
import psutil
from chaos.world import CONCURRENCY, GRACE, LEASE, Episode, Runner

from persona_pg.database import Database
from persona_pg.queue import Queue
from persona_pg.runner import procfs, spool

if TYPE_CHECKING:
    from collections.abc import Callable

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
ORDINARY_USER = 64321
# The bound of the acceptance: what a dead runner held runs again within the lease and this.
AFTER_LEASE = 5.0
AFTER_RESTART = 3.0
# The same where a server or a connection comes back first: plus the pauses between tries.
AFTER_RECONNECT = 6.0
HALF_OPEN_NOTICED = 30.0


@dataclass(frozen=True)
class Fault:
    """How to strike, and how it is set up."""

    strike: Callable[[Episode], None]
    title: str
    # Seconds that some of its jobs run: longer than the lease where that must run out.
    long: float = 2.0
    has_other: bool | None = None  # a second runner beside: yes, no, or at random
    via_proxy: bool = False
    recovers_in: float = AFTER_RESTART
    is_slow: bool = False
    interrupts: bool = True


FAULTS: dict[str, Fault] = {}


def fault(title, **options):
    def register(strike):
        FAULTS[strike.__name__] = Fault(strike, title, **options)
        return strike

    return register


def run(world, name, seed, *, patience=1.0):
    """Make one episode of the fault; returns it. *patience* widens the bounds of time."""
    chosen = FAULTS[name]
    rng = random.Random(f"{name} {seed}")
    episode = Episode(world, rng, name)
    has_other = chosen.has_other if chosen.has_other is not None else rng.random() < 0.5
    runner = "p" if chosen.via_proxy else "a"
    for other, one in world.runners.items():
        if other != runner:
            one.stop()  # what it would take is for the one that is hit
    a = world.runner(runner, via_proxy=chosen.via_proxy)
    for _ in range(3):
        episode.create("plain", round(rng.uniform(0.6, 1.0) * chosen.long, 2), 5)
    pgtest.eventually(lambda: world.running_on(a, episode.job_ids), 20, what="the jobs run")
    if has_other:
        world.runner("b")
    for _ in range(5):
        episode.create("plain", round(rng.uniform(0.05, 0.6), 2), rng.randint(0, 20))
    time.sleep(rng.uniform(0.0, 0.3))
    episode.a, episode.b = a, world.runners.get("b") if has_other else None
    chosen.strike(episode)
    episode.finish()
    if episode.skipped:
        return episode
    limit = chosen.recovers_in * patience
    if episode.recovered_in > limit:
        took = episode.recovered_in
        episode.late.append(f"recovered only after {took:.2f} s, allowed are {limit:g} s")
    if not chosen.interrupts:
        runs = world.history.executions(episode.job_ids)
        twice = [hit.start.job_id for hit in episode.affected if len(runs[hit.start.job_id]) > 1]
        episode.demand(not twice, f"interrupted without need: {', '.join(twice)}")
    return episode


# -- runner and guardian ---------------------------------------------------------------------------


@fault("SIGKILL of the runner, started again")
def runner_killed(e):
    mine = e.world.running_on(e.a, e.job_ids)
    e.strike()
    e.a.kill(e.a.pid)
    e.measure_gone(mine)
    e.a.process.wait(5)
    e.over()
    e.a.start()


@fault(
    "SIGKILL of the runner, not started again",
    long=LEASE * 1.5, has_other=True, recovers_in=LEASE + AFTER_LEASE, is_slow=True,
)  # fmt: skip
def runner_killed_for_good(e):
    mine = e.world.running_on(e.a, e.job_ids)
    e.strike()
    e.a.kill(e.a.pid)
    e.measure_gone(mine)
    e.a.process.wait(5)


@fault("SIGKILL of the guardian", interrupts=False)
def guardian_killed(e):
    runner = e.a.pid
    e.strike()
    e.a.kill(e.a.guardian)
    e.a.process.wait(5)
    pgtest.eventually(lambda: "starting another" in e.a.output(), 5, what="a new guardian")
    e.finish()
    # From here on the old runner is of no use to the next episode.
    e.demand(procfs.start_time(runner) is not None, "the runner died with its guardian")
    e.a.stop()


@fault("SIGKILL of runner and guardian in one moment, started again", has_other=False)
def both_killed(e):
    runner = e.a.pid
    e.strike()
    for pid in (e.a.guardian, runner):
        e.a.kill(pid)
    e.a.process.wait(5)
    hit = e.affected
    e.over()
    e.a.start()
    e.demand(not [h for h in hit if h.is_alive], "the next start left processes alive")


@fault(
    "SIGSTOP of the runner past its lease, then SIGCONT",
    long=LEASE * 2, has_other=True, recovers_in=LEASE + AFTER_LEASE, is_slow=True,
)  # fmt: skip
def runner_stopped(e):
    mine = e.world.running_on(e.a, e.job_ids)
    e.strike()
    e.a.kill(e.a.pid, signal.SIGSTOP)
    time.sleep(LEASE)
    e.demand(
        not [one for one in mine if one.is_alive], "jobs outlived the lease of a stopped runner"
    )
    time.sleep(e.rng.uniform(0.5, 1.5))
    e.a.kill(e.a.pid, signal.SIGCONT)


def _fall_asleep(e):
    """Stop the service as a whole, the runner first: what it starts is to sleep too."""
    e.strike()
    runner = psutil.Process(e.a.pid)
    pids = [e.a.pid, e.a.guardian]
    e.a.kill(e.a.pid, signal.SIGSTOP)
    # While it starts a program it does not stop before that runs.
    for _ in range(5000):
        if runner.status() == psutil.STATUS_STOPPED:
            break
        time.sleep(0.001)
    e.a.kill(e.a.guardian, signal.SIGSTOP)
    while new := [p.pid for p in runner.children(recursive=True) if p.pid not in pids]:
        for pid in new:
            e.a.kill(pid, signal.SIGSTOP)
        pids += new
    # Until even its guardian comes too late.
    time.sleep(LEASE + 1.0 + e.rng.uniform(0.2, 1.0))
    return pids


def _wake_up(e, pids):
    for pid in pids:
        e.a.kill(pid, signal.SIGCONT)
    e.over()


@fault(
    "The machine is asleep past the lease, alone",
    long=LEASE, has_other=False, interrupts=False, is_slow=True,
)  # fmt: skip
def asleep_alone(e):
    _wake_up(e, _fall_asleep(e))


@fault(
    # So long that few are at their ends when they wake up.
    "The machine is asleep past the lease, another one is not",
    long=LEASE * 4, has_other=True, recovers_in=LEASE + AFTER_LEASE, is_slow=True,
)  # fmt: skip
def asleep_beside_another(e):
    mine = e.world.running_on(e.a, e.job_ids)
    pids = _fall_asleep(e)
    taken = [
        one
        for one in mine
        if one.end is None and len(e.world.history.executions(e.job_ids)[one.start.job_id]) > 1
    ]
    _wake_up(e, pids)
    e.measure_gone(taken, limit=1.5)
    e.finish()
    runs = e.world.history.executions(e.job_ids)
    # Also those that were just being started when it fell asleep.
    lost = [
        row[0]
        for row in e.world.rows(
            "select t.job_id::text from persona.job_attempts as t"
            " where t.outcome = 'orphaned' and t.runner_name = %s and t.job_id::text = any(%s)",
            e.a.name, list(e.job_ids),
        )
    ]  # fmt: skip
    # They are alive while they sleep, and then for the instant until they are stopped.
    allowed = re.compile(
        rf"job ({'|'.join(lost)}): (an execution began while another|two executions overlap"
        rf"|an execution .pid ({'|'.join(map(str, pids))}). (ended after|belongs to 0))"
    )
    e.broken = [words for words in e.broken if not (lost and allowed.match(words))]
    for job_id in lost:
        last = [run.end or run.start for run in runs[job_id] if run.start.pid in pids]
        e.demand(
            not [event for event in last if event.boottime > e.over_at + 1.0],
            f"job {job_id}: what slept went on beside another execution",
        )
    e.demand(taken or not mine, "nobody took what the sleeper had")


@fault("SIGTERM twice", recovers_in=5.0)
def told_to_end_twice(e):
    e.strike()
    e.a.kill(e.a.guardian, signal.SIGTERM)
    time.sleep(e.rng.uniform(0.06, 0.4))
    e.a.kill(e.a.guardian, signal.SIGTERM)
    code = e.a.process.wait(10)
    e.demand(code == 0, f"exit code {code} after SIGTERM")
    e.over()
    e.a.start()


@fault("Reboot: everything dead at once, another boot id", has_other=False)
def rebooted(e):
    runner = e.a.pid
    e.strike()
    for pid in (e.a.guardian, runner, *(h.start.pid for h in e.affected)):
        e.a.kill(pid)
    e.a.process.wait(5)
    path = e.a.home / "runners" / f"{e.a.name}.lock"
    content = json.loads(path.read_bytes())
    content["boot_id"] = before = "00000000-0000-4000-8000-000000000000"
    path.write_bytes(json.dumps(content).encode().ljust(1023) + b"\n")
    # The boot before is what the server knows of, too.
    e.world.rows(
        "update persona.runners set boot_id = %s where name = %s returning id", before, e.a.name
    )
    e.over()
    e.a.start()


@fault("Two runners started with one name", interrupts=False)
def one_name_twice(e):
    e.strike()
    second = Runner(e.world, e.a.name, home=e.a.home, **e.a.how).start(wait=False)
    e.demand(second.process.wait(10) == 75, "the second on this machine did not end with 75")
    # And one that cannot see the first one's lock.
    third = Runner(e.world, e.a.name, home=e.world.folder / "elsewhere").start(wait=False)
    pgtest.eventually(lambda: not third.is_alive or "is ready" in third.output(), 30)
    if third.is_alive:
        [(silent,)] = e.world.rows(
            "select extract(epoch from max(r.ended_at - r.last_seen_at))::float8"
            " from persona.runners as r where r.name = %s and r.ended_reason = 'replaced'",
            e.a.name,
        )
        e.demand(silent > LEASE / 2, f"a runner that was seen {silent:.1f} s ago was replaced")
        third.stop()
        e.a.stop()
        e.a.start()
    else:
        e.demand(third.process.poll() == 75, "the second on another machine did not end with 75")
    e.over()


@fault(
    "A container restarted under the same name, the old one cut off",
    long=LEASE * 2, has_other=False, via_proxy=True, recovers_in=LEASE + AFTER_LEASE, is_slow=True,
)  # fmt: skip
def container_twin(e):
    identity = e.world.folder / "machine-id"
    identity.write_text("0123456789abcdef0123456789abcdef\n")
    script = 'mount --bind "$0" /etc/machine-id && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", script, str(identity))
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        e.skipped = "no right to make a mount namespace"
        return
    mine = e.world.running_on(e.a, e.job_ids)
    e.strike()
    e.world.proxy.go_half_open()
    twin = Runner(e.world, e.a.name, home=e.world.folder / "container")
    deadline = time.monotonic() + 15
    while True:  # as an orchestrator does, until the name is free
        twin.start(wait=False, prefix=prefix)
        pgtest.eventually(
            lambda: "is ready" in twin.output() or twin.process.poll() is not None, 15
        )
        if twin.is_alive or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    try:
        e.demand(twin.is_alive, f"the new container did not get in: {twin.output()}")
        e.finish()
        e.demand(not [one for one in mine if one.is_alive], "the old container's jobs live on")
        e.world.proxy.cut()
        e.world.proxy.heal()
        code = e.a.process.wait(30)
        e.demand(code == 75, f"the old container came back with exit code {code}")
    finally:
        e.world.proxy.cut()
        e.world.proxy.heal()
        twin.stop()
    e.a.start()


# -- the server ------------------------------------------------------------------------------------


def _restart(e, mode):
    e.strike()
    e.world.server.server.control("restart", "-m", mode, "-w")
    e.over()


@fault("PostgreSQL restarted (fast)", interrupts=False, recovers_in=AFTER_RECONNECT)
def postgres_fast(e):
    _restart(e, "fast")


@fault("PostgreSQL restarted (immediate)", interrupts=False, recovers_in=AFTER_RECONNECT)
def postgres_immediate(e):
    _restart(e, "immediate")


@fault("kill -9 of a backend (the server recovers)", interrupts=False, recovers_in=AFTER_RECONNECT)
def backend_killed(e):
    [(pid,)] = e.world.rows(
        "select min(a.pid) from pg_stat_activity as a where a.datname = current_database()"
        " and a.application_name like 'persona-worker%%' and a.pid <> %s", 0,
    )  # fmt: skip
    e.strike()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)
    e.world.rows("select 1")
    e.over()


@fault("pg_terminate_backend of all", interrupts=False)
def all_terminated(e):
    e.strike()
    with e.world.superuser() as conn:
        conn.execute(
            "select pg_terminate_backend(a.pid) from pg_stat_activity as a"
            " where a.datname = current_database() and a.pid <> pg_backend_pid()"
        )
    e.over()


# -- the network -----------------------------------------------------------------------------------


def _returns(runner):
    said = runner.output()
    return said.count("connected to the database again") + said.count("is ready")


@fault(
    "The connection goes half-open, for longer than the lease",
    long=LEASE * 1.5, via_proxy=True, is_slow=True, recovers_in=HALF_OPEN_NOTICED,
)  # fmt: skip
def half_open(e):
    mine = e.world.running_on(e.a, e.job_ids)
    e.strike()
    e.world.proxy.go_half_open()
    time.sleep(LEASE)
    e.demand(
        not [one for one in mine if one.is_alive], "jobs outlived the lease of a cut off runner"
    )
    e.world.proxy.heal()
    # It has to notice by itself: nothing on the old connection ever comes.
    # With its old registration, or with a new one where it had been given up meanwhile.
    before = _returns(e.a)
    pgtest.eventually(lambda: _returns(e.a) > before, 40, what="it comes back")
    took = procfs.boottime() - e.struck_at
    e.demand(took < HALF_OPEN_NOTICED, f"a half-open connection was noticed after {took:.1f} s")


@fault(
    "Connections refused for less than the lease",
    via_proxy=True, interrupts=False, recovers_in=AFTER_RECONNECT,
)  # fmt: skip
def refused_shortly(e):
    e.strike()
    e.world.proxy.refuse()
    time.sleep(e.rng.uniform(0.2, LEASE - GRACE - 1.4))
    e.world.proxy.heal()
    e.over()


@fault(
    "Connections refused for longer than the lease",
    long=LEASE,
    via_proxy=True,
    recovers_in=8.0,
    is_slow=True,
)
def refused_for_long(e):
    mine = e.world.running_on(e.a, e.job_ids)
    e.strike()
    e.world.proxy.refuse()
    time.sleep(LEASE)
    e.demand(
        not [one for one in mine if one.is_alive], "jobs outlived the lease of a cut off runner"
    )
    time.sleep(e.rng.uniform(0.5, 2.0))
    e.world.proxy.heal()
    e.over()


@fault(
    "A full disk under the spool, connections refused for longer than the lease",
    long=LEASE, via_proxy=True, recovers_in=8.0, is_slow=True,
)  # fmt: skip
def spool_disk_full(e):
    dsn = e.world.proxy_dsn
    path = spool.path_for(e.a.home, e.a.name, dsn).with_suffix(".new")
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/full")
    said = e.a.output().count("No space left")
    e.strike()
    e.world.proxy.refuse()
    pgtest.eventually(lambda: "No space left" in e.a.output(), 10, what="it notices")
    time.sleep(max(0.0, e.struck_at + LEASE + 1.0 - procfs.boottime()))
    e.world.proxy.heal()
    e.over()
    e.finish()
    path.unlink()
    e.demand(e.a.is_alive, "the runner died of a full disk")
    e.demand(e.a.output().count("No space left") <= said + 1, "it says so again and again")


@fault(
    "The connection is cut every 200 ms", via_proxy=True, long=4.0, recovers_in=8.0, is_slow=True
)
def cut_every_200_ms(e):
    e.strike()
    for _ in range(e.rng.randint(10, 20)):
        time.sleep(0.2)
        e.world.proxy.cut()
        if e.rng.random() < 0.3:
            e.create("plain", 0.1, 3)
    e.over()


def _lose_answer(e, pattern):
    e.strike()
    e.world.proxy.drop_answer_to(pattern)
    for _ in range(3):
        e.create("plain", 0.1, 3)
    e.demand(e.world.proxy.happened.wait(15), f"nobody called {pattern}")
    e.over()


@fault(
    "The answer to a report is lost after its commit",
    via_proxy=True,
    has_other=False,
    interrupts=False,
)
def report_answer_lost(e):
    _lose_answer(e, b"persona.complete_jobs(")


@fault(
    "The answer to a claim is lost after its commit",
    via_proxy=True,
    has_other=False,
    interrupts=False,
)
def claim_answer_lost(e):
    # Some of what the outage's first claim took may run again from the start: only those.
    _lose_answer(e, b"persona.claim_jobs(")


@fault("The answer to a create is lost after its commit", via_proxy=True, interrupts=False)
def create_answer_lost(e):
    e.strike()
    queue = Queue(Database(e.world.proxy_dsn))
    try:
        queue.job_summary()
        before = e.world.rows("select count(*) from persona.jobs")[0][0]
        e.world.proxy.drop_answer_to(b"persona.create_job(")
        e.create("plain", 0.1, 3, queue=queue)
        e.demand(e.world.proxy.happened.is_set(), "no answer was lost")
        after = e.world.rows("select count(*) from persona.jobs")[0][0]
        e.demand(after == before + 1, f"one create made {after - before} jobs")
    finally:
        queue.close()
    e.over()


@fault(
    "The answer to a claim comes after the lease has run out",
    via_proxy=True, has_other=True, is_slow=True, long=LEASE, recovers_in=LEASE + AFTER_LEASE,
)  # fmt: skip
def claim_answer_late(e):
    e.world.wait_ended(e.job_ids)
    e.b.stop()
    e.a.stop()
    e.a.start(arguments=("-v",))
    e.strike()
    e.world.proxy.hold_answer_to(b"persona.claim_jobs(", LEASE + 1.0)
    for _ in range(CONCURRENCY):
        e.create("plain", 2.5, 5)
    e.demand(e.world.proxy.happened.wait(10), "nobody claimed")
    e.b.start()
    e.over()
    # While the other one has them at work: the late answer arrives.
    time.sleep(max(0.0, e.struck_at + LEASE + 1.5 - procfs.boottime()))
    e.finish()
    spans = e.world.rows(
        "select right(a.job_id::text, 8), extract(epoch from a.started_at)::float8,"
        " extract(epoch from a.ended_at)::float8 from persona.job_attempts as a"
        " where a.job_id = any(%s::uuid[]) and a.runner_name = 'p'",
        e.job_ids,
    )
    for day, clock, short_id in re.findall(
        r"^(\S+) (\S+) INFO job (\w+) \(chaos\): started", e.a.output(), re.MULTILINE
    ):
        at = datetime.fromisoformat(f"{day} {clock.replace(',', '.')}").timestamp()
        e.demand(
            any(job == short_id and since - 0.01 <= at <= until for job, since, until in spans),
            f"job {short_id} was started under a lease that had run out",
        )


# -- the clock, pids, limits -----------------------------------------------------------------------


@fault("The runner's clock is a day off", has_other=True, is_slow=True)
def clock_a_day_off(e):
    if not FAKETIME.exists():
        e.skipped = "libfaketime is not installed"
        return
    e.a.stop()
    e.strike()
    offset = e.rng.choice(["+1d", "-1d"])
    env = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    e.a.start(env=env)
    for _ in range(6):
        e.create("plain", round(e.rng.uniform(0.1, LEASE * 1.3), 2), 5)
    e.over()
    e.finish()
    twice = [i for i, runs in e.world.history.executions(e.job_ids[-7:]).items() if len(runs) > 1]
    e.demand(not twice, f"{len(twice)} job(s) were taken from a runner with a wrong clock")
    e.a.stop()


def _become_pid(pid, argv):
    """Start a process that gets this pid; None where the kernel does not let us choose."""
    for _ in range(200):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        except OSError:
            return None
        process = subprocess.Popen(argv, start_new_session=True)
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    return None


@fault("Pid reuse: a stranger has the recorded pid", has_other=False)
def pid_reused(e):
    hit = e.world.running_on(e.a, e.job_ids)[0]
    # Its pid is known to the server by a heartbeat.
    pgtest.eventually(
        lambda: e.world.rows(
            "select 1 from persona.job_leases where job_id = %s and pid = %s",
            hit.start.job_id, hit.start.pid,
        ) or not hit.is_alive, 5,
    )  # fmt: skip
    runner = e.a.pid
    e.strike()
    for pid in (e.a.guardian, runner, hit.start.pid):
        e.a.kill(pid)
    e.a.process.wait(5)
    pgtest.eventually(lambda: procfs.start_time(hit.start.pid) is None, 5, what="the pid is free")
    stranger = _become_pid(hit.start.pid, ["sleep", "300"])
    if stranger is None:
        stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
        with e.world.superuser() as conn:
            conn.execute(
                "update persona.job_leases set pid = %s where job_id = %s",
                (stranger.pid, hit.start.job_id),
            )
    e.world.strangers.append(stranger)
    e.over()
    e.a.start()
    e.finish()
    e.demand(stranger.poll() is None, "a stranger was killed")
    stranger.kill()
    stranger.wait()


def _python_for_all():
    """Find a Python that an ordinary user can run, with the packages that the runner needs."""
    site = next(path for path in sys.path if path.endswith("site-packages"))
    path = os.pathsep.join((str(pgtest.ROOT), site))
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-c", "import persona_pg.runner.loop, dotenv"], check=False,
                capture_output=True, cwd="/", env={"PYTHONPATH": path},
                user=ORDINARY_USER, group=ORDINARY_USER, extra_groups=[],
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return python, path
    return None, path


def _limit_processes(pid, soft):
    # As that user: root may lack the right to change the limits of others.
    subprocess.run(
        ["prlimit", f"--pid={pid}", f"--nproc={soft}:"], check=True,
        user=ORDINARY_USER, group=ORDINARY_USER, extra_groups=[],
    )  # fmt: skip


@fault(
    "fork fails (RLIMIT_NPROC), as an ordinary user", has_other=True, recovers_in=12.0, is_slow=True
)
def fork_fails(e):
    if os.geteuid() != 0:
        e.skipped = "only root can start a runner as somebody else"
        return
    python, path = _python_for_all()
    if python is None:
        e.skipped = "no Python that an ordinary user can run"
        return
    limited = Runner(e.world, "limited", home=e.world.folder / "limited", via_proxy=True)
    limited.start(user=ORDINARY_USER, python=python, env={"PYTHONPATH": path})
    e.world.wait_ended(e.job_ids)
    e.world.register(python)
    try:
        e.a.stop()
        e.b.stop()
        e.strike()
        _limit_processes(limited.pid, 2)
        for _ in range(4):
            e.create("plain", 0.2, 3)
        pgtest.eventually(
            lambda: "cannot start programs" in limited.output(), 10,
            what="it says that it cannot fork",
        )  # fmt: skip
        time.sleep(e.rng.uniform(0.2, 1.0))
        _limit_processes(limited.pid, 4096)
        e.over()
        e.finish()
    finally:
        e.world.register(sys.executable)
        limited.stop()


@fault("Descriptors used up (RLIMIT_NOFILE)", has_other=False, recovers_in=12.0, is_slow=True)
def no_descriptors(e):
    e.a.stop()
    e.strike()
    few = e.rng.randint(48, 64)
    prefix = ("prlimit", f"--nofile={few}:1024")
    e.a.start(prefix=prefix, arguments=("-c", "30"))
    for _ in range(20):
        e.create("plain", 0.6, 3)
    pgtest.eventually(
        lambda: "cannot start programs" in e.a.output(), 10, what="it says that it has none left"
    )
    time.sleep(e.rng.uniform(0.2, 2.0))  # heartbeats, and ends of jobs
    e.demand(e.a.is_alive, "the runner died of it")
    resource.prlimit(e.a.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    e.over()
    e.finish()
    e.a.stop()


# -- jobs that misbehave ---------------------------------------------------------------------------


def _misbehave(e, kind, seconds, expected, **options):
    e.strike()
    made = [e.create(kind, seconds, 3, **options) for _ in range(2)]
    left = e.world.wait_ended(made, 20)
    e.over()
    e.demand(not left, f"{len(left)} job(s) did not end")
    found = set(e.world.states(made).values())
    e.demand(found == {expected}, f"ended as {found}")
    return made


def _timeout(seconds):
    return {"timeout": timedelta(seconds=seconds), "max_attempts": 1}


@fault("A job that stops itself", interrupts=False)
def job_stops_itself(e):
    made = _misbehave(e, "stopped", 0.1, "failed", **_timeout(1))
    kinds = {
        r[0]
        for r in e.world.rows(
            "select failure_kind from persona.jobs where id = any(%s::uuid[])", made
        )
    }
    e.demand(kinds == {"timeout"}, f"recorded as {kinds}")


@fault("A job that closes its stdout and goes on", interrupts=False)
def job_closes_stdout(e):
    _misbehave(e, "closed", 0.5, "completed")


@fault("A grandchild that keeps stdout open after the job's end", interrupts=False)
def grandchild_keeps_stdout(e):
    began = procfs.boottime()
    _misbehave(e, "holder", 0.1, "completed")
    took = procfs.boottime() - began
    e.demand(took < 8, f"the job was held up for {took:.1f} s")


@fault("A job that forks all it may", interrupts=False)
def fork_bomb(e):
    _misbehave(e, "bomb", 5.0, "failed", **_timeout(1))


@fault("A job that ignores SIGTERM, timed out", interrupts=False)
def job_ignores_sigterm(e):
    _misbehave(e, "stubborn", 30.0, "failed", **_timeout(1))


@fault("100 jobs cancelled at once", has_other=False, recovers_in=8.0, is_slow=True)
def cancel_100(e):
    wide = Runner(e.world, "wide")
    wide.start(arguments=("-c", "100"))
    try:
        made = [e.create("plain", 30.0, 3) for _ in range(100)]
        pgtest.eventually(lambda: len(e.world.history.alive(made)) >= 90, 30, what="they run")
        e.strike()
        began = procfs.boottime()
        with e.world.superuser() as conn:
            conn.execute("select persona.cancel_job(i::text) from unnest(%s::uuid[]) as i", (made,))
        left = e.world.wait_ended(made, 20)
        took = procfs.boottime() - began
        e.over()
        e.demand(not left, f"{len(left)} of 100 were not cancelled")
        e.demand(took < 10, f"100 cancels took {took:.1f} s")
        found = set(e.world.states(made).values())
        e.demand(found == {"cancelled"}, f"they ended as {found}")
    finally:
        wide.stop()
