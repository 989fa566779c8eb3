"""How a job's processes are kept together: a delegated control group, a scope, or neither."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from pathlib import Path

import pgtest
import psutil
import pytest

from persona_pg.runner import control

# Leaves session, group and parent behind, clears its environment and drops the token: nothing
# but a control group knows it any more.
UNKNOWN = "(setsid env -i prlimit --locks=unlimited sleep 1000 < /dev/null > /dev/null 2>&1 &)"


@pytest.fixture
def own_group():
    """A control group that is delegated to us, as a unit with Delegate=yes has one."""
    mount = control._cgroup2_mount()
    folder = Path(mount) / f"persona-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"no control group can be made here: {exc}")
    yield folder
    control.kill_group(str(folder))
    pgtest.eventually(lambda: not control.members(str(folder)))
    control.remove_group(str(folder))


@pytest.fixture
def grouped(own_group, worker, ready, tmp_path):
    """Start a worker inside that group."""
    enter = tmp_path / "enter"
    enter.write_text(f'#!/bin/sh\necho 0 > {own_group}/cgroup.procs && exec "$@"\n')
    enter.chmod(0o755)

    def start(*arguments, **options):
        return ready(worker(*arguments, launcher=[str(enter)], **options))

    return start


def groups(own_group):
    return [f.name for f in own_group.iterdir() if f.is_dir()]


def unknown(own_group):
    """The processes in our groups that have become nobody's."""
    found = set()
    for pid in control.members(str(own_group)):
        with contextlib.suppress(psutil.Error):
            if (
                psutil.Process(pid).cmdline() == ["sleep", "1000"]
                and not psutil.Process(pid).environ()
            ):
                found.add(pid)
    return found


def test_in_a_group_of_its_own_nothing_of_a_job_escapes(grouped, jobs, own_group, tmp_path):
    one = grouped()
    assert "process control: cgroup" in one.output()
    job = jobs.sh(f"{UNKNOWN}; echo begun; while [ ! -e go ]; do sleep 0.05; done", cwd=tmp_path)
    jobs.first_line(job)
    left = pgtest.eventually(lambda: unknown(own_group))
    (tmp_path / "go").touch()

    row = jobs.end(job)

    assert row.status == "completed"
    assert not any(psutil.pid_exists(pid) for pid in left)
    assert "left behind" in " ".join(jobs.lines(job, "system"))
    pgtest.eventually(lambda: groups(own_group) == [])


def test_the_program_is_started_as_ever(grouped, jobs, own_group, tmp_path):
    grouped()
    job = jobs.sh('cat /proc/self/cgroup; echo "$0" "$1"')
    assert jobs.end(job).status == "completed"
    assert f"{own_group.name}/persona-" in jobs.lines(job)[-2]
    missing = jobs.end(jobs.command("/no/such/program", max_attempts=1))
    assert (missing.status, "not found" in missing.error) == ("failed", True)
    lost = jobs.end(jobs.sh("true", cwd=tmp_path / "none", max_attempts=1))
    assert f"cannot run 'sh' in directory '{tmp_path / 'none'}'" in lost.error
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    strange = jobs.end(jobs.command(str(script), max_attempts=1))
    assert "the interpreter in its first line was not found" in strange.error


def test_what_a_runner_and_its_guardian_leave_when_both_are_killed_the_next_start_kills(
    grouped, jobs, own_group, runner_pid
):
    one = grouped("--name", "same")
    job = jobs.sh(f"{UNKNOWN}; echo begun; sleep 1000")
    jobs.first_line(job)
    left = pgtest.eventually(lambda: unknown(own_group))
    runner = runner_pid(one)
    for pid in (one.pid, runner):
        os.kill(pid, signal.SIGSTOP)
    for pid in (runner, one.pid):
        os.kill(pid, signal.SIGKILL)
    one.wait()
    jobs.cancel(job, force=True)

    grouped("--name", "same")

    pgtest.eventually(lambda: not any(psutil.pid_exists(pid) for pid in left))
    pgtest.eventually(lambda: groups(own_group) == [])


def test_a_scope_is_made_where_the_service_manager_makes_them(
    worker, ready, jobs, tmp_path, persona_env
):
    """With a stand-in for systemd-run that does what it does: it becomes the program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in (
        (
            "systemd-run",
            'echo "$*" >> "$0.log"; while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
        ),
        ("systemctl", 'echo "$*" >> "$0.log"'),
    ):
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{folder}:{persona_env['PATH']}"
    one = ready(
        worker(env={"PATH": path, "JOB_PROCESS_CONTROL": "systemd", "JOB_KILL_GRACE": "0s"})
    )
    assert "process control: systemd" in one.output()

    job = jobs.sh("echo $$; exec sleep 1000")
    pid = int(jobs.first_line(job))
    jobs.cancel(job, force=True)
    jobs.end(job)

    assert not psutil.pid_exists(pid)
    started = (folder / "systemd-run.log").read_text()
    assert "--scope -q --collect --unit=persona-job-" in started
    assert "kill -s KILL persona-job-" in (folder / "systemctl.log").read_text()


def test_who_has_no_group_of_its_own_is_told_why():
    chosen = control.choose("cgroup")
    if chosen.kind == "cgroup":
        pytest.skip("this process has a group of its own")
    assert chosen.kind == "subreaper"
    assert "no cgroup: " in chosen.why


def test_two_hundred_orphans_leave_no_zombie(worker, ready, jobs, runner_pid):
    one = ready(worker())
    job = jobs.sh("for i in $(seq 200); do (setsid sh -c ':' &); done; sleep 0.3; echo done")
    jobs.end(job)

    def zombies():
        found = []
        for pid in (one.pid, runner_pid(one)):
            with contextlib.suppress(psutil.Error):
                found += [c for c in psutil.Process(pid).children() if c.status() == "zombie"]
        return found

    pgtest.eventually(lambda: not zombies())
