"""P2, P5: a runner that is killed or stopped leaves nothing that runs on."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from proctest import STUBBORN, is_alive

from persona_pg.runner import procfs, tree
from persona_pg.runner.guardian import Guardian
from persona_pg.runner.records import RECORD, REGISTER, RENEW

WORKER = [sys.executable, str(Path(__file__).with_name("worker.py"))]
ONE_LINE = STUBBORN.strip().replace("\n", "\\n")


class Worker:
    def __init__(self, **options):
        self.process = subprocess.Popen(
            WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **options
        )
        self.unread = b""
        self.said = {}
        self.instance = int(self.hear("runner"))
        self.guardian = self.process.pid
        (self.runner,) = [p.pid for p in procfs.snapshot().values() if p.ppid == self.process.pid]

    def tell(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())

    def hear(self, name, seconds=20):
        """Wait for a line that begins with this word; return the rest of it."""
        give_up = time.monotonic() + seconds
        while not self.said.get(name):
            left = give_up - time.monotonic()
            assert left > 0, f"{name} was never said, but {self.said}"
            if select.select([self.process.stdout], [], [], min(left, 1))[0]:
                read = os.read(self.process.stdout.fileno(), 65536)
                assert read, f"the worker ended without {name}: {self.said}"
                *lines, self.unread = (self.unread + read).split(b"\n")
                for line in lines:
                    word, _, rest = line.decode().partition(" ")
                    self.said.setdefault(word, []).append(rest)
        return self.said[name].pop(0)

    def spawn(self, seconds=1000, script=ONE_LINE):
        self.tell("spawn", seconds, script)
        return int(self.hear("leader")), int(self.hear("stray"))

    def end(self):
        self.process.stdin.close()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.stdout.close()
            left = tree.kill_instances([self.instance])
            assert left == [], "left behind"


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    for pid in (worker.runner, worker.guardian):
        started = procfs.start_time(pid)
        if started is not None and worker.process.returncode is None:
            procfs.signal_process(pid, started, signal.SIGCONT)
    worker.end()


def wait_until_dead(*pids, seconds=10.0):
    began = time.monotonic()
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() - began < seconds, f"alive: {[p for p in pids if is_alive(p)]}"
        time.sleep(0.001)
    return time.monotonic() - began


@pytest.mark.parametrize("jobs", [1, 8])
def test_a_killed_runner_leaves_nothing(worker, jobs):
    pids = [pid for _ in range(jobs) for pid in worker.spawn()]

    os.kill(worker.runner, signal.SIGKILL)

    seconds = wait_until_dead(*pids)
    print(f"{jobs} jobs gone after {1000 * seconds:.0f} ms")
    assert seconds < 1
    assert worker.process.wait(10) == 128 + signal.SIGKILL
    assert not any(procfs.read_process(pid) for pid in pids), "zombies are reaped too"


def test_what_was_not_announced_in_time_is_killed_too(worker):
    worker.tell("unannounced", STUBBORN.strip().replace("\n", "; ").replace("&)", "&) "))
    pids = int(worker.hear("leader")), int(worker.hear("stray"))

    os.kill(worker.runner, signal.SIGKILL)

    wait_until_dead(*pids, seconds=1)


def test_a_stopped_runners_jobs_die_at_their_deadline_and_it_learns_of_it(worker):
    pids = worker.spawn(seconds=0.7)
    token = worker.hear("token")
    long = worker.spawn(seconds=1000)
    os.kill(worker.runner, signal.SIGSTOP)
    time.sleep(0.2)
    assert all(map(is_alive, pids))

    seconds = wait_until_dead(*pids)

    assert seconds < 1
    assert all(map(is_alive, long)), "the other one has time"
    os.kill(worker.runner, signal.SIGCONT)
    assert worker.hear("killed") == token


def test_a_runner_stopped_while_it_starts_a_job_is_not_taken_for_one(worker):
    pids = worker.spawn(seconds=0.5)
    token = int(worker.hear("token"))
    os.kill(worker.runner, signal.SIGSTOP)
    # As in the instant of a spawn: the runner itself carries the token of the job.
    resource.prlimit(worker.runner, procfs.RLIMIT_LOCKS, (token, resource.RLIM_INFINITY))

    wait_until_dead(*pids)

    assert is_alive(worker.runner)
    resource.prlimit(worker.runner, procfs.RLIMIT_LOCKS, (resource.RLIM_INFINITY,) * 2)
    os.kill(worker.runner, signal.SIGCONT)
    assert worker.hear("killed") == str(token)


def test_a_renewed_job_lives_on(worker):
    pids = worker.spawn(seconds=0.4)
    worker.tell("renew", 1000)
    worker.hear("renewed")
    time.sleep(0.6)
    assert all(map(is_alive, pids))
    worker.tell("renew", 0)
    wait_until_dead(*pids, seconds=2)


def test_a_released_job_is_forgotten(worker):
    worker.spawn(seconds=0.5)
    worker.tell("stop")
    worker.hear("stopped")
    time.sleep(0.7)
    assert "killed" not in worker.said


def test_the_exit_code_is_the_runners(worker):
    worker.tell("exit", 7)
    assert worker.process.wait(10) == 7


def test_a_runner_that_ends_with_jobs_running_leaves_none(worker):
    pids = worker.spawn()
    worker.tell("exit", 3)
    assert worker.process.wait(10) == 3
    assert not any(map(is_alive, pids))


def test_signals_are_passed_on_once(worker):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
        os.kill(worker.guardian, number)
        os.kill(worker.guardian, number)
        assert worker.hear("signal") == number.name
    time.sleep(0.06)
    os.kill(worker.guardian, signal.SIGTERM)
    assert worker.hear("signal") == "SIGTERM", "later, the same signal counts again"
    assert not worker.said["signal"]


def test_a_signal_to_the_group_reaches_the_runner_once():
    worker = Worker(start_new_session=True)  # as a shell starts it: leader of its own group
    assert os.getpgid(worker.runner) != os.getpgid(worker.guardian)
    os.killpg(worker.guardian, signal.SIGINT)
    assert worker.hear("signal") == "SIGINT"
    worker.tell("stop")
    worker.hear("stopped")
    assert not worker.said["signal"]
    worker.end()


@pytest.mark.parametrize("then", ["deadline", "runner killed"])
def test_a_killed_guardian_is_replaced_and_its_jobs_handed_over(worker, then):
    pids = worker.spawn(seconds=2.5 if then == "deadline" else 1000)
    os.kill(worker.guardian, signal.SIGKILL)
    helper = int(worker.hear("restarted"))
    assert is_alive(helper)
    assert all(map(is_alive, pids))

    if then == "deadline":
        os.kill(worker.runner, signal.SIGSTOP)
        seconds = wait_until_dead(*pids)
        assert seconds < 4
    os.kill(worker.runner, signal.SIGKILL)
    wait_until_dead(*pids, worker.runner, helper, seconds=2)


def test_a_killed_stand_in_is_replaced_too(worker):
    pids = worker.spawn()
    os.kill(worker.guardian, signal.SIGKILL)
    os.kill(int(worker.hear("restarted")), signal.SIGKILL)
    helper = int(worker.hear("restarted"))
    os.kill(worker.runner, signal.SIGKILL)
    wait_until_dead(*pids, helper, seconds=2)


def test_both_killed_at_once_the_next_start_cleans_up(worker, tmp_path):
    path = tmp_path / "runners" / "r1.lock"
    worker.tell("lock", path)
    assert worker.hear("locked") == "False"
    pids = worker.spawn()
    # At once, however we are scheduled: a runner that sees its guardian go starts another one.
    os.kill(worker.runner, signal.SIGSTOP)
    for pid in (worker.guardian, worker.runner):
        os.kill(pid, signal.SIGKILL)
    wait_until_dead(worker.guardian, worker.runner)
    assert all(map(is_alive, pids)), "nobody was left to kill them"

    successor = Worker()
    successor.tell("lock", path)
    may_take_over, *left = successor.hear("locked").split()

    assert may_take_over == "True"
    assert list(map(int, left)) == [worker.instance]
    assert set(tree.kill_instances([int(left[0])])) == set(pids)
    assert not any(map(is_alive, pids))
    successor.end()


def test_the_lock_is_held_until_the_guardian_is_gone_too(worker, tmp_path):
    path = tmp_path / "r1.lock"
    worker.tell("lock", path)
    worker.hear("locked")
    time.sleep(0.2)  # what waits in a socket holds the lock as well: let it be taken in
    os.kill(worker.guardian, signal.SIGSTOP)
    os.kill(worker.runner, signal.SIGKILL)
    wait_until_dead(worker.runner)
    successor = Worker()

    successor.tell("lock", path)
    assert successor.hear("held") == str(worker.runner)

    os.kill(worker.guardian, signal.SIGCONT)
    worker.process.wait(10)
    successor.tell("lock", path)
    assert successor.hear("locked").split()[0] == "True"
    successor.end()


def test_the_stand_in_holds_the_lock_as_well(worker, tmp_path):
    path = tmp_path / "r1.lock"
    worker.tell("lock", path)
    worker.hear("locked")
    os.kill(worker.guardian, signal.SIGKILL)
    helper = int(worker.hear("restarted"))
    time.sleep(0.5)
    os.kill(helper, signal.SIGSTOP)
    os.kill(worker.runner, signal.SIGKILL)
    wait_until_dead(worker.runner, worker.guardian)
    successor = Worker()
    successor.tell("lock", path)
    assert successor.hear("held")
    os.kill(helper, signal.SIGCONT)
    wait_until_dead(helper)
    successor.end()


def test_a_stranger_and_another_runners_job_survive_all_that(worker):
    other = Worker()
    strangers = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
    try:
        pids = other.spawn()
        mine = worker.spawn()
        os.kill(worker.runner, signal.SIGKILL)
        wait_until_dead(*mine)
        worker.process.wait(10)
        assert all(map(is_alive, pids))
        assert [stranger.poll() for stranger in strangers] == [None, None]
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait()
        other.end()


def test_the_guardian_is_small(worker):
    worker.spawn()
    status = Path(f"/proc/{worker.guardian}/status").read_text(encoding="ascii")
    rss = int(status.split("VmRSS:")[1].split()[0])
    rollup = Path(f"/proc/{worker.guardian}/smaps_rollup").read_text(encoding="ascii")
    private = sum(
        int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")
    )
    print(f"guardian: {rss} KB, of which private {private} KB")
    assert rss < 20_000
    code = (
        "import sys; from persona_pg.runner import guarded\n"
        "heavy = {'asyncio', 'psycopg', 'click', 'subprocess', 'psutil', 'json', 'dataclasses',"
        " 'inspect', 'pathlib', 'logging', 'threading'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    assert run.stdout == b"[]\n", "nothing heavy is loaded"


@pytest.fixture
def sleeper():
    token = procfs.new_token(12345)
    process = subprocess.Popen(["sleep", "1000"])
    resource.prlimit(process.pid, procfs.RLIMIT_LOCKS, (token, resource.RLIM_INFINITY))
    yield process, token
    process.kill()
    process.wait()


def test_after_a_sleep_a_late_job_is_stopped_and_goes_on_when_renewed(sleeper):
    """The machine cannot be put to sleep here: the clocks are told instead."""
    import socket

    process, token = sleeper
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guardian = Guardian(theirs, 1, 12345)
        now, ticked = procfs.boottime(), time.monotonic()
        started = procfs.start_time(process.pid)
        ours.send(RECORD.pack(REGISTER, process.pid, started, token, now + 300))
        guardian.look_at_clocks(now, ticked)
        guardian.read_records()

        after = now + 8 * 3600  # boottime went on, the monotonic clock did not
        guardian.look_at_clocks(after, ticked + 1)
        guardian.expire(after)
        assert state_of(process) == "T"

        # An answer that was under way when the machine fell asleep.
        ours.send(RECORD.pack(RENEW, 0, 0, token, now - 1))
        guardian.read_records()
        assert state_of(process) == "T"

        ours.send(RECORD.pack(RENEW, 0, 0, token, after + 300))
        guardian.read_records()
        assert state_of(process) == "S"
        guardian.expire(after + 1)
        assert state_of(process) == "S"
        guardian.expire(after + 301)
        assert process.wait(5) == -signal.SIGKILL


def test_after_a_sleep_a_job_that_nobody_renews_is_killed(sleeper):
    import socket

    process, token = sleeper
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guardian = Guardian(theirs, 1, 12345)
        now, ticked = procfs.boottime(), time.monotonic()
        ours.send(RECORD.pack(REGISTER, 0, 0, token, now + 300))  # the token alone will do
        guardian.read_records()
        guardian.look_at_clocks(now + 400, ticked + 1)
        guardian.expire(now + 400)
        assert state_of(process) == "T"
        guardian.expire(now + 521)
        assert process.wait(5) == -signal.SIGKILL


def state_of(process):
    """Signals take a moment to show."""
    for _ in range(1000):
        state = procfs.read_process(process.pid).state
        if state in "TS":
            time.sleep(0.002)
            return procfs.read_process(process.pid).state
        time.sleep(0.001)
    return state
