"""Scenarios with real processes, each in a process of its own that must leave nothing behind.

The scenario's process becomes a subreaper and changes signal handlers: pytest itself must not.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import pickle
import signal
import sys
import textwrap
import traceback
from pathlib import Path

from persona_pg.runner import procfs, tree
from persona_pg.runner.output import OutputPump
from persona_pg.runner.process import ChildSpec, Processes

ROOT = Path(__file__).parents[1]
ENV = {"PATH": os.environ["PATH"], "PERSONA_JOB_ID": "0197b1c2-0000-7000-8000-00000000abcd"}

# Leaves the session, the group, the environment and its parent, and will not be asked to end.
STUBBORN = """
trap '' TERM
(setsid env -i /bin/sh -c 'trap "" TERM; echo stray $$; exec sleep 1000' &)
echo leader $$
exec sleep 1000
"""


class Job:
    """A started program, whose lines can be awaited."""

    def __init__(self, processes, spec, **pump):
        self.processes = processes
        self.lines = asyncio.Queue()
        self.notices = []
        self.child = processes.spawn(spec)
        self.pump = OutputPump(
            self.child,
            limit_bytes=pump.pop("limit_bytes", 1_000_000),
            on_line=lambda *line: self.lines.put_nowait(line),
            on_notice=lambda *notice: self.notices.append(notice),
            **pump,
        )

    async def line(self):
        async with asyncio.timeout(20):
            return (await self.lines.get())[1]

    async def pids(self, *names):
        """Wait for lines such as `stray 123`; return the numbers in the order of the names."""
        found = {}
        while not found.keys() >= set(names):
            name, _, pid = (await self.line()).partition(" ")
            found[name] = int(pid)
        return [found[name] for name in names]

    async def end(self, grace=1.0):
        """Wait for the regular end; return the Exit and all lines."""
        status = await self.processes.wait_gone(self.child)
        await self.pump.finish(grace)
        return status, self.all_lines()

    def all_lines(self):
        return [self.lines.get_nowait() for _ in range(self.lines.qsize())]


def sh(script, **spec):
    return ChildSpec(["sh", "-c", script], spec.pop("env", ENV), **spec)


def python(code, **spec):
    argv = [sys.executable, "-I", "-S", "-c", textwrap.dedent(code)]
    return ChildSpec(argv, spec.pop("env", ENV), **spec)


def is_alive(pid):
    process = procfs.read_process(pid)
    return process is not None and process.is_alive


async def until(condition, seconds=10.0):
    """Wait for what nobody announces: bounded, and as short as possible."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def become(uid):
    """Be an ordinary user from now on, whose own /proc files are its own again."""
    import ctypes

    set_dumpable = 4
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    ctypes.CDLL(None).prctl(set_dumpable, 1, 0, 0, 0)


def isolated(scenario, *, seconds=60, uid=None, **processes_options):
    """Run `async scenario(processes)` in a forked process; return what it returns."""
    receive, send = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(receive)
        faulthandler.dump_traceback_later(seconds + 5, exit=True)  # a loop that asyncio cannot end
        try:
            if uid is not None:
                become(uid)
            answer = (True, asyncio.run(_with_processes(scenario, seconds, processes_options)))
        except BaseException:  # noqa: BLE001 it is told to the test
            answer = (False, traceback.format_exc())
        with os.fdopen(send, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(send)
    try:
        with os.fdopen(receive, "rb") as pipe:
            content = pipe.read()
    finally:
        status = os.waitpid(pid, 0)[1]
    assert content, f"the scenario's process died: {status}"
    is_good, value = pickle.loads(content)
    if not is_good:
        raise AssertionError(f"in the scenario's process:\n{value}")
    return value


async def _with_processes(scenario, seconds, options):
    processes = Processes(**options)
    try:
        async with asyncio.timeout(seconds):
            result = await scenario(processes)
    finally:
        await processes.close()
        left = left_behind()
        for process in left:
            os.kill(process.pid, signal.SIGKILL)
    assert not left, f"left behind: {left}"
    return result


def left_behind():
    """Return the living descendants of this process."""
    snapshot = tree.Snapshot()
    found, waiting = [], snapshot.children_of(os.getpid())
    while waiting:
        process = waiting.pop()
        waiting += snapshot.children_of(process.pid)
        if process.is_alive:
            found.append(process)
    return found
