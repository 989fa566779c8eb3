"""P5, P6: nothing of a job is left, and nobody else is touched."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time

import pytest
from proctest import ENV, STUBBORN, Job, is_alive, isolated, python, sh, until

from persona_pg.runner import children, identity, procfs, tree


@pytest.mark.parametrize("walk", [False, True], ids=["children", "walk"])
def test_a_stubborn_stray_with_an_empty_environment_dies_with_its_job(walk):
    async def scenario(processes):
        job = Job(processes, sh(STUBBORN))
        stray, leader = await job.pids("stray", "leader")
        assert procfs.read_process(stray).session != leader

        status = await processes.stop(job.child, 0.2)

        assert not is_alive(stray)
        assert status.signal_name == "SIGKILL"
        assert status.code == 137

    isolated(scenario, walk=walk)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_can_do_the_same():
    async def scenario(processes):
        assert os.getresuid() == (65534,) * 3
        job = Job(processes, sh(STUBBORN))
        stray, _ = await job.pids("stray", "leader")
        assert procfs.read_token(stray) == job.child.token
        await processes.stop(job.child, 0.1)
        assert not is_alive(stray)

        late = Job(
            processes, sh("(setsid env -i sh -c 'echo stray $$; exec sleep 1000' &); sleep .1")
        )
        (stray,) = await late.pids("stray")
        status, _ = await late.end()
        assert status.strays == (stray,)

    isolated(scenario, uid=65534)


def test_sigterm_is_enough_for_the_willing_and_grace_is_not_waited_out():
    async def scenario(processes):
        job = Job(processes, sh("trap 'echo asked; exit 7' TERM; echo up; sleep 1000 & wait"))
        await job.line()
        began = time.monotonic()

        status = await processes.stop(job.child, 30)

        assert time.monotonic() - began < 5
        assert (status.code, status.signal) == (7, None)
        await job.pump.finish()
        assert job.all_lines() == [("stdout", "asked", False)]

    isolated(scenario)


def test_who_outlives_the_leader_of_a_stopped_job_is_asked_once_more():
    async def scenario(processes):
        # As if the first SIGTERM had met it between its fork and its exec.
        deaf = "trap 'trap - TERM' TERM; echo up; while :; do sleep 1000 & wait; done"
        job = Job(processes, sh(f"trap 'exit 7' TERM; sh -c \"{deaf}\" & wait"))
        await job.line()
        began = time.monotonic()

        status = await processes.stop(job.child, 30)

        assert status.code == 7
        assert time.monotonic() - began < 5

    isolated(scenario)


@pytest.mark.parametrize("walk", [False, True], ids=["children", "walk"])
def test_strays_of_a_leader_that_ended_are_ended_and_named(walk):
    async def scenario(processes):
        script = "(setsid env -i sh -c 'echo stray $$; exec sleep 1000' &); sleep 0.05; exit 3"
        job = Job(processes, sh(script))
        (stray,) = await job.pids("stray")

        status, _ = await job.end()

        assert not is_alive(stray)
        assert (status.code, status.strays) == (3, (stray,))

    isolated(scenario, walk=walk)


def test_a_stray_that_ignores_sigterm_is_killed_after_its_grace():
    async def scenario(processes):
        script = "(setsid sh -c 'trap \"\" TERM; echo stray $$; exec sleep 1000' &); sleep 0.1"
        job = Job(processes, sh(script, stray_grace=0.2))
        (stray,) = await job.pids("stray")

        status, _ = await job.end()

        assert not is_alive(stray)
        assert status.strays == (stray,)

    isolated(scenario)


def test_a_stray_that_lost_token_and_environment_is_known_from_an_earlier_look():
    async def scenario(processes):
        # It takes the limit off, so that only who saw it below the leader can tell whose it is.
        code = """
            import os, resource, signal
            if os.fork() == 0:
                print("middle", os.getpid(), flush=True)
                if os.fork() == 0:
                    os.setsid()
                    resource.setrlimit(10, (resource.RLIM_INFINITY,) * 2)
                    print("stray", os.getpid(), flush=True)
                    os.execve("/bin/sleep", ["sleep", "1000"], {})
            signal.pause()
        """
        job = Job(processes, python(code))
        middle, stray = await job.pids("middle", "stray")
        assert processes.usage()[job.child].processes == 3
        os.kill(middle, signal.SIGKILL)
        await until(lambda: procfs.read_process(stray).ppid == os.getpid())

        await processes.stop(job.child, 0)

        assert not is_alive(stray)

    isolated(scenario)


def test_an_orphan_without_token_or_mark_belongs_to_nobody_and_lives():
    async def scenario(processes):
        code = """
            import os, resource
            if os.fork() == 0:
                os.setsid()
                resource.setrlimit(10, (resource.RLIM_INFINITY,) * 2)
                print("stray", os.getpid(), flush=True)
                os.execve("/bin/sleep", ["sleep", "1000"], {})
            os.wait3(os.WNOHANG)
            import time; time.sleep(0.1)
        """
        job = Job(processes, python(code))
        (stray,) = await job.pids("stray")
        await job.end(grace=0.1)
        try:
            assert is_alive(stray)
            assert processes.unclaimed() == [stray]
        finally:
            os.kill(stray, signal.SIGKILL)
        await until(lambda: not is_alive(stray))
        await Job(processes, sh("true")).end()
        assert procfs.read_process(stray) is None, "reaped once it has ended"

    isolated(scenario)


def test_an_orphan_with_the_mark_only_is_claimed_by_it():
    async def scenario(processes):
        code = """
            import os, resource
            if os.fork() == 0:
                os.setsid()
                resource.setrlimit(10, (resource.RLIM_INFINITY,) * 2)
                print("stray", os.getpid(), flush=True)
                os.execv("/bin/sleep", ["sleep", "1000"])
            import time; time.sleep(0.1)
        """
        job = Job(processes, python(code))
        (stray,) = await job.pids("stray")

        status, _ = await job.end()

        assert not is_alive(stray)
        assert status.strays == (stray,)

    isolated(scenario)


def test_a_stranger_with_the_same_mark_lives():
    stranger = subprocess.Popen(["sleep", "1000"], env=ENV)
    try:

        async def scenario(processes):
            job = Job(processes, sh(STUBBORN))
            await job.pids("stray", "leader")
            await processes.stop(job.child, 0)

        isolated(scenario)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_adopted_process_with_another_runners_token_lives_despite_the_mark():
    async def scenario(processes):
        other = procfs.new_token(processes.instance ^ 1)
        code = f"""
            import os, resource
            if os.fork() == 0:
                os.setsid()
                resource.setrlimit(10, ({other}, resource.RLIM_INFINITY))
                print("stray", os.getpid(), flush=True)
                os.execv("/bin/sleep", ["sleep", "1000"])
            import time; time.sleep(0.1)
        """
        job = Job(processes, python(code))
        (stray,) = await job.pids("stray")
        await job.end(grace=0.1)
        try:
            assert is_alive(stray)
        finally:
            os.kill(stray, signal.SIGKILL)
        await until(lambda: not is_alive(stray))

    isolated(scenario)


def test_a_reused_pid_is_never_signalled():
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        started = procfs.start_time(stranger.pid)
        assert not procfs.signal_process(stranger.pid, started - 1, signal.SIGKILL)
        assert not procfs.signal_process(stranger.pid, started, signal.SIGKILL, token=5)
        old = tree.Tree(stranger.pid, started - 1, procfs.new_token(1))
        old.known[stranger.pid] = started - 1
        assert tree.kill([old]) == ([], [])
        for one in (
            identity.ProcessIdentity(identity.host(), stranger.pid, started - 1),
            identity.ProcessIdentity(identity.host(), stranger.pid, None),
            identity.ProcessIdentity(identity.Host("", "", ""), stranger.pid, started),
            identity.ProcessIdentity(identity.host(), stranger.pid, started, token=5),
        ):
            assert not one.is_alive()
        assert stranger.poll() is None

        known = identity.ProcessIdentity(identity.host(), stranger.pid, started)
        assert identity.ProcessIdentity.from_dict(known.as_dict()).is_alive()
        assert procfs.signal_process(stranger.pid, started, signal.SIGKILL)
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("how", ["in its group", "in sessions", "without token"])
def test_a_fork_bomb_dies(how):
    async def scenario(processes):
        leave = "pass" if how == "in its group" else "os.setsid()"
        # Only its parents show whose it is: who is missed while they die is never found again.
        drop = "setrlimit(10, (-1, -1))" if how == "without token" else "getrlimit(10)"
        # A hundred lines of processes: each begins the next one in a moment, and stays. A file's
        # size counts them, and is the bound. They do not double: whoever has to share its
        # processors with others would be outrun by that, however well it kills.
        code = f"""
            import os, resource, signal, sys, time
            resource.{drop}
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            count = os.open(os.environ["COUNT"], os.O_WRONLY | os.O_APPEND)
            is_in_line = any(os.fork() == 0 for _ in range(100))
            while is_in_line and os.fstat(count).st_size < 3000:
                {leave}
                os.write(count, b".")
                time.sleep(0.25)
                is_in_line = os.fork() == 0
            time.sleep(1000)
        """
        fd = os.memfd_create("count")
        env = {"PATH": ENV["PATH"], "COUNT": f"/proc/{os.getpid()}/fd/{fd}"}
        job = Job(processes, python(code, env=env))
        await until(lambda: os.fstat(fd).st_size > 150, 30)

        status = await processes.stop(job.child, 0)

        made = os.fstat(fd).st_size
        assert status.survivors == ()
        assert made < 3000, "it was outrun, not waited out"
        await asyncio.sleep(0.6)
        assert os.fstat(fd).st_size == made

    isolated(scenario)


@pytest.mark.skipif(not procfs.LINUX, reason="reads /proc")
def test_who_is_in_the_middle_of_a_fork_is_frozen_with_its_child():
    """SIGSTOP to a process, not to a group, does not break off a fork, nor does it reach the child."""

    async def begun(processes):
        # To copy the tables of so many pages takes a fork longer than a look around.
        code = """
            import mmap, os, time
            if os.fork():
                time.sleep(1000)
            os.setsid()
            much = mmap.mmap(-1, 1 << 29, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            much.madvise(mmap.MADV_NOHUGEPAGE)
            for page in range(0, len(much), mmap.PAGESIZE): much[page] = 1
            print("forking", os.getpid(), flush=True)
            os.fork()
            time.sleep(1000)
        """
        job = Job(processes, python(code))
        (parent,) = await job.pids("forking")

        processes.freeze(job.child)

        await until(lambda: procfs.read_process(parent).state == "T")
        states = [p.state for p in procfs.snapshot().values() if p.ppid == parent]
        await processes.stop(job.child, 0)
        return states

    async def scenario(processes):
        # None where it was stopped before its fork had begun.
        while not (states := await begun(processes)):
            pass
        assert states == ["T"]

    isolated(scenario)


@pytest.mark.skipif(not procfs.LINUX, reason="a thread ends by itself there")
def test_a_stray_whose_first_thread_has_ended_is_no_zombie():
    async def scenario(processes):
        code = """
            import ctypes, os, platform, threading, time
            if os.fork() == 0:
                os.setsid()
                threading.Thread(target=time.sleep, args=(1000,)).start()
                print("stray", os.getpid(), flush=True)
                exit = {"x86_64": 60}.get(platform.machine(), 93)
                ctypes.CDLL(None).syscall(exit, 0)
            time.sleep(1000)
        """
        job = Job(processes, python(code))
        (stray,) = await job.pids("stray")
        await until(lambda: procfs.read_process(stray).state == "Z")
        assert stray in [process.pid for process in processes.members(job.child)]

        status = await processes.stop(job.child, 0)

        assert status.survivors == ()
        assert not is_alive(stray)

    isolated(scenario)


def test_a_job_that_stops_itself_can_still_be_ended_politely():
    async def scenario(processes):
        job = Job(processes, sh("trap 'exit 9' TERM; echo up; kill -STOP $$; sleep 1000"))
        await job.line()
        await until(lambda: procfs.read_process(job.child.pid).state == "T")

        assert (await processes.stop(job.child, 20)).code == 9

    isolated(scenario)


def test_a_hundred_jobs_ended_at_once_are_gone_soon():
    async def scenario(processes):
        jobs = [Job(processes, sh(STUBBORN)) for _ in range(50)]
        strays = [(await job.pids("stray", "leader"))[0] for job in jobs]
        began = time.monotonic()

        await asyncio.gather(*[processes.stop(job.child, 0.1) for job in jobs])

        assert not any(is_alive(stray) for stray in strays)
        assert time.monotonic() - began < 5
        print(f"{time.monotonic() - began:.2f} s")

    isolated(scenario)


def test_a_frozen_tree_stands_still_and_goes_on():
    async def scenario(processes):
        job = Job(
            processes, sh("(setsid sh -c 'echo stray $$; exec sleep 1000' &); exec sleep 1000")
        )
        (stray,) = await job.pids("stray")
        processes.freeze_all()
        await until(lambda: procfs.read_process(stray).state == "T")
        await until(lambda: procfs.read_process(job.child.pid).state == "T")

        processes.thaw_all()

        await until(lambda: procfs.read_process(stray).state == "S")
        await until(lambda: procfs.read_process(job.child.pid).state == "S")
        await processes.stop(job.child, 0)

    isolated(scenario)


def test_adopted_zombies_are_reaped_and_other_peoples_statuses_left_alone():
    async def scenario(processes):
        other = subprocess.Popen(["sh", "-c", "exit 5"])  # noqa: ASYNC220 waited for by somebody else, later
        script = "for i in 1 2 3 4 5; do (setsid sh -c 'exit 0' &); done; echo up; exec sleep 1000"
        job = Job(processes, sh(script))
        await job.line()
        own = children.OwnChildren()
        await until(lambda: children.has_exited(other.pid))

        def reaped():
            processes.usage()
            return set(own.read()) == {job.child.pid, other.pid}

        await until(reaped)
        assert other.wait() == 5
        await processes.stop(job.child, 0)

    isolated(scenario)


def test_many_short_jobs_leave_no_descriptor_and_no_zombie():
    async def scenario(processes):
        await Job(processes, sh("true")).end()
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        for _ in range(10):
            ends = await asyncio.gather(*[Job(processes, sh("exit 4")).end() for _ in range(10)])
            assert {status.code for status, _ in ends} == {4}

        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        assert children.OwnChildren().read() == []
        assert processes.children == []

    isolated(scenario)


def test_what_cannot_be_seen_is_not_taken_for_gone(monkeypatch):
    async def scenario(processes):
        script = "(setsid sh -c 'echo stray $$; exec sleep 1000' &); sleep 0.1"
        job = Job(processes, sh(script, stray_grace=0.2))
        (stray,) = await job.pids("stray")
        real, failures = procfs.snapshot, []

        def failing(*settled):
            if len(failures) < 3:
                failures.append(1)
                raise OSError(24, "Too many open files")
            return real(*settled)

        monkeypatch.setattr(procfs, "snapshot", failing)
        status, _ = await job.end()

        assert len(failures) == 3
        assert not is_alive(stray)
        assert status.strays == (stray,)

    isolated(scenario)


def test_a_waiter_that_gives_up_changes_nothing():
    async def scenario(processes):
        job = Job(processes, sh("exec sleep 1000"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await processes.wait_gone(job.child)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await processes.wait_exit(job.child)
        job.processes.begin_stop(job.child, 100)
        await processes.wait_exit(job.child)
        first, second = await asyncio.gather(
            processes.wait_gone(job.child), processes.stop(job.child, 0)
        )
        assert first is second
        assert first.signal_name == "SIGTERM"
        assert await processes.wait_gone(job.child) is first

    isolated(scenario)
