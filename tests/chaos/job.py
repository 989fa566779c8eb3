"""The job of the fault tests: tells a file what it does, in lines that survive a crash.

Started as `python -I -S job.py FOLDER KIND SECONDS LINES`. The exclusive lock on the job's file
belongs to every process that inherits it, so a second execution of the job that starts while
anything of the first is alive says so itself ("overlap"), whatever the clocks say.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
import time

RLIMIT_LOCKS = 10  # the runner's mark
BOMB = 40

folder, kind, seconds, lines = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
job_id = os.environ["PERSONA_JOB_ID"]
token = resource.getrlimit(RLIMIT_LOCKS)[0]
history = os.open(f"{folder}/history", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
with open("/proc/self/stat", "rb") as stat:  # noqa: PTH123 - pathlib takes long to import
    start_time = stat.read().rpartition(b")")[2].split()[19].decode()


def record(event):
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    line = f"{event} {job_id} {token} {os.getpid()} {start_time} {boottime:.6f} {time.time():.6f}\n"
    os.write(history, line.encode())
    os.fsync(history)


lock = os.open(f"{folder}/lock-{job_id}", os.O_RDWR | os.O_CREAT, 0o666)
os.set_inheritable(lock, True)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    record("overlap")
record("start")
if kind == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if kind in ("holder", "stray"):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # A new environment too: only the token is left of where it came from.
        os.execve("/bin/sleep", ["sleep", "600"], {})
elif kind == "bomb":
    for _ in range(BOMB):
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
            os._exit(0)

begun = time.monotonic()
for number in range(1, lines + 1):
    sys.stdout.write(f"line {number} of {lines}\n")
    sys.stdout.flush()
    time.sleep(max(0.0, begun + seconds * number / max(1, lines) - time.monotonic()))
if kind == "closed":
    os.close(1)
    os.close(2)
elif kind == "stopped":
    os.kill(os.getpid(), signal.SIGSTOP)
if kind in ("bomb", "closed") or not lines:
    time.sleep(seconds)
record("end")
os._exit(0)
