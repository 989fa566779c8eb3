"""The paths of macOS, as far as they can be walked here: best effort is still some effort."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

AS_ON_MACOS = """
import asyncio, os, resource, signal, subprocess, sys, time
import psutil
sys.platform = "darwin"
for module, names in ((os, "waitid pidfd_open memfd_create O_PATH P_PID WNOWAIT"),
                      (time, "CLOCK_BOOTTIME"), (resource, "prlimit"),
                      (signal, "pidfd_send_signal")):
    for name in names.split():
        delattr(module, name)
"""

JOBS = """
from proctest import Job, is_alive, sh
from persona_pg.runner import guardian, guardian_link, lockfile, notify, procfs
from persona_pg.runner.process import Processes

async def main():
    processes = Processes()
    assert not processes.is_subreaper
    job = Job(processes, sh("cat; echo err >&2; exit 3", stdin=b"prompt\\n"))
    status, lines = await job.end()
    assert (status.code, len(lines)) == (3, 2), (status, lines)

    script = "trap '' TERM; (sh -c 'echo stray $$; exec sleep 1000' &); echo leader $$; wait"
    job = Job(processes, sh(script + "; exec sleep 1000"))
    stray, leader = await job.pids("stray", "leader")
    assert processes.usage()[job.child].processes == 2
    processes.freeze_all()
    processes.thaw_all()
    status = await processes.stop(job.child, 0.2)
    assert status.signal_name == "SIGKILL", status
    assert not is_alive(stray)

    job = Job(processes, sh("(sh -c 'echo stray $$; exec sleep 1000' &); sleep 0.1"))
    (stray,) = await job.pids("stray")
    status, _ = await job.end()
    assert status.strays == (stray,), status
    assert not is_alive(stray)
    await processes.close()

asyncio.run(main())
"""

GUARDIAN = """
from types import SimpleNamespace
from persona_pg.runner import guarded, procfs

def child_main(link):
    assert sys.platform == "darwin"
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    link.register(7, procfs.boottime() + 1000)
    link.started(7, SimpleNamespace(pid=child.pid, start_time=procfs.start_time(child.pid)))
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

sys.exit(guarded.run(child_main))
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", AS_ON_MACOS + code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
        timeout=60,
        check=False,
    )


def test_jobs_are_started_read_and_ended():
    done = run(JOBS)
    assert done.returncode == 0, done.stderr


def test_the_guardian_kills_what_was_registered():
    done = run(GUARDIAN)
    assert done.returncode == 137, done.stderr
    pid = int(done.stdout)
    gone = not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    assert gone
