from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path

import pytest
from proctest import ENV, Job, isolated, python, sh, until

from persona_pg.runner import children, procfs
from persona_pg.runner.process import ChildSpec, SpawnError

ABOUT_ME = """
    import json, os, signal, stat, sys
    print(json.dumps({
        "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
        "sid": os.getsid(0), "pgid": os.getpgid(0), "pid": os.getpid(),
        "ignored": [int(s) for s in signal.valid_signals()
                    if s not in (9, 13, 19, 25) and signal.getsignal(s) == signal.SIG_IGN],
        "blocked": [int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "is_file": stat.S_ISREG(os.fstat(0).st_mode),
        "stdin": sys.stdin.buffer.read().decode(),
        "cwd": os.getcwd(), "env": dict(os.environ),
    }))
"""


async def about(processes, **spec):
    job = Job(processes, python(ABOUT_ME, **spec))
    status, lines = await job.end()
    assert status.code == 0, lines
    return json.loads("".join(text for _, text, _ in lines))


def test_a_child_inherits_three_descriptors_and_nothing_else(tmp_path):
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def scenario(processes):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            env = {**ENV, "ONLY": "this"}
            me = await about(
                processes,
                stdin=b"prompt \xf0\x9f\x90\xa7",
                cwd=tmp_path,
                env=env,
            )
            assert me["fds"] in ([0, 1, 2], [0, 1, 2, 3]), "3 is the listing's own"
            assert me["pid"] == me["sid"] == me["pgid"]
            assert me["ignored"] == []
            assert me["blocked"] == []
            assert me["is_file"]
            assert me["stdin"] == "prompt \N{PENGUIN}"
            assert me["cwd"] == str(tmp_path)
            assert {k: v for k, v in me["env"].items() if k != "LC_CTYPE"} == env
            assert os.getcwd() != str(tmp_path), "the runner itself stays where it is"  # noqa: PTH109

        isolated(scenario)
    finally:
        signal.signal(signal.SIGHUP, previous)
        os.close(leak)


def test_without_a_prompt_stdin_is_at_its_end():
    async def scenario(processes):
        assert (await about(processes))["stdin"] == ""

    isolated(scenario)


def test_a_prompt_of_many_megabytes_arrives_whole():
    async def scenario(processes):
        job = Job(processes, sh("wc -c; cat /dev/stdin | wc -c", stdin=b"x" * 20_000_000))
        assert await job.line() == "20000000"
        await job.end()

    isolated(scenario)


def test_the_token_survives_a_cleared_environment_and_the_runner_keeps_its_own_limit():
    async def scenario(processes):
        before = resource.getrlimit(procfs.RLIMIT_LOCKS)
        job = Job(processes, sh("exec env -i setsid /bin/sh -c 'echo pid $$; exec sleep 1000'"))
        (pid,) = await job.pids("pid")

        assert procfs.read_token(pid) == procfs._read_token_from_limits(pid) == job.child.token
        assert procfs.instance_of(job.child.token) == processes.instance
        assert resource.getrlimit(procfs.RLIMIT_LOCKS) == before
        assert not procfs.has_mark(pid, ENV["PERSONA_JOB_ID"])
        await processes.stop(job.child, 0)

    isolated(scenario)


def test_a_finite_hard_limit_leaves_a_job_without_token_but_running():
    async def scenario(processes):
        resource.setrlimit(procfs.RLIMIT_LOCKS, (1000, 1000))
        job = Job(processes, sh("(setsid sh -c 'echo stray $$; exec sleep 1000' &); sleep 0.1"))
        (stray,) = await job.pids("stray")
        assert job.child.token is None
        assert procfs.read_token(stray) == 1000
        status, _ = await job.end()
        assert status.strays == (stray,), "found by the mark"

    isolated(scenario)


@pytest.mark.parametrize(
    "argv, options, kind, message",
    [
        (["no-such-program"], {}, "not_found", "program 'no-such-program' not found on PATH"),
        (["./nothing"], {}, "not_found", "program './nothing' not found"),
        (["plain.txt"], {"path": "{tmp}"}, "not_executable", "plain.txt' is not executable"),
        (["no-interpreter"], {"path": "{tmp}"}, "not_executable", "first line"),
        (["garbage"], {"path": "{tmp}"}, "not_executable", "Exec format error"),
        (["true"], {"cwd": "{tmp}/missing"}, "bad_cwd", "No such file"),
        (["true"], {"cwd": "{tmp}/plain.txt"}, "bad_cwd", "Not a directory"),
        (["true", "x" * 200_000], {}, "too_big", "too long"),
        (["true", "a\0b"], {}, "invalid", "null byte"),
        ([], {}, "invalid", "empty"),
    ],
)
def test_what_cannot_be_started_is_refused_by_name(tmp_path, argv, options, kind, message):
    (tmp_path / "plain.txt").write_text("text")
    for name, content in (("no-interpreter", "#!/no/such/thing\n"), ("garbage", "\1\2\3")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)

    async def scenario(processes):
        await Job(processes, sh("true")).end()
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        cwd = options.get("cwd", "").format(tmp=tmp_path) or None
        path = options.get("path", ENV["PATH"]).format(tmp=tmp_path)

        with pytest.raises(SpawnError) as error:
            processes.spawn(ChildSpec(argv, {"PATH": path}, cwd))

        assert (error.value.kind, error.value.is_transient) == (kind, False)
        assert message in str(error.value)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        assert children.OwnChildren().read() == []

    isolated(scenario)


def test_a_program_is_looked_up_on_the_childs_path_and_from_its_directory(tmp_path):
    script = tmp_path / "bin" / "greet"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\necho "hello from $0"\n')
    script.chmod(0o755)

    async def scenario(processes):
        for argv, path in ((["greet"], "/nowhere:bin"), (["bin/greet"], "/bin")):
            job = Job(processes, ChildSpec(argv, {"PATH": path}, tmp_path))
            assert "hello from" in await job.line()
            await job.end()

    isolated(scenario)


def test_a_machine_without_descriptors_is_a_passing_fault():
    async def scenario(processes):
        await Job(processes, sh("true")).end()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, hard))
        with pytest.raises(SpawnError) as error:
            processes.spawn(sh("true"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (error.value.kind, error.value.is_transient) == ("resources", True)

        assert (await Job(processes, sh("exit 6")).end())[0].code == 6

    isolated(scenario)


@pytest.mark.parametrize(
    "script, code, name",
    [("exit 0", 0, None), ("exit 255", 255, None), ("kill -SEGV $$", 139, "SIGSEGV")],
)
def test_how_a_program_ended_is_told_exactly(script, code, name):
    async def scenario(processes):
        status, _ = await Job(processes, sh(script)).end()
        assert (status.code, status.signal_name) == (code, name)

    isolated(scenario)


def test_a_leader_is_not_reaped_while_anything_of_its_job_lives():
    async def scenario(processes):
        script = "trap '' TERM; (sh -c 'echo stray $$; exec sleep 1000' &); sleep 0.1; exit 2"
        job = Job(processes, sh(script, stray_grace=0.2))
        (stray,) = await job.pids("stray")
        await processes.wait_exit(job.child)
        assert procfs.read_process(job.child.pid).state == "Z"
        await processes.wait_gone(job.child)
        assert procfs.read_process(job.child.pid) is None
        assert procfs.read_process(stray) is None

    isolated(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no other clock")
def test_the_clock_counts_sleep():
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    assert abs(procfs.boottime() - uptime) < 0.1


def test_the_own_children_are_the_same_by_both_ways():
    async def scenario(processes):
        jobs = [Job(processes, sh("exec sleep 1000")) for _ in range(700)]
        pids = sorted(job.child.pid for job in jobs)
        assert sorted(children.OwnChildren().read()) == pids, "more than one page of them"
        assert sorted(children.OwnChildren(walk=True).read()) == pids
        for job in jobs:
            processes.begin_stop(job.child, 0)
        await until(lambda: not processes.children)

    isolated(scenario)
