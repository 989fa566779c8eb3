"""How a guardian and its runner come to be: one process forks, the parent stays behind.

Nothing heavy may be imported here; the runner loads what it needs after the fork.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from persona_pg.runner import children, control, procfs
from persona_pg.runner.guardian import Guardian

TYPE_CHECKING = False  # importing typing would cost the guardian a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.runner.guardian_link import GuardianLink

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
# A terminal, `timeout` and others signal a group as well as a process: that is one request.
_SAME_SIGNAL_SECONDS = 0.05
_CLEANING_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.02


def run(child_main: Callable[[GuardianLink], int]) -> int:
    """Fork: *child_main* is the runner, this process stays behind as its guardian.

    Returns in both: the runner's exit code; of a killed runner 128 and the signal's number.
    """
    instance = procfs.new_instance()
    procfs.become_subreaper()
    if os.environ.get("PERSONA_DEBUG") != "1":  # a debugger could not look either
        procfs.become_unreadable()
    delegated = control.delegated_group()
    ours, theirs = socket.socketpair()
    blocked = {*FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # none is lost between fork and handler
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    runner = os.fork()
    if runner == 0:
        ours.close()
        # What a terminal sends to a group reaches the runner once: through its guardian.
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        from persona_pg.runner.guardian_link import GuardianLink

        return child_main(GuardianLink(theirs, instance, delegated))
    theirs.close()
    for number in blocked:
        signal.signal(number, _noted)
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
    return _guard(Guardian(ours, runner, instance, groups=delegated[0]))


def _noted(number: int, frame: object) -> None:
    """Do nothing: the number is read from the pipe."""


def _guard(guardian: Guardian) -> int:
    runner = guardian.runner
    last: dict[int, float] = dict.fromkeys(FORWARDED, -_SAME_SIGNAL_SECONDS)

    def forward(number: int) -> None:
        now = time.monotonic()
        if number in last and now - last[number] >= _SAME_SIGNAL_SECONDS:
            last[number] = now
            os.kill(runner, number)  # our child, and not reaped

    guardian.serve(lambda: children.has_exited(runner), forward)
    # Told to end once more while we do: the exit code is still the runner's.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    code = os.waitstatus_to_exitcode(os.waitpid(runner, 0)[1])
    _finish(guardian)
    return code if code >= 0 else 128 - code


def _finish(guardian: Guardian) -> None:
    give_up = procfs.boottime() + _CLEANING_SECONDS
    survivors: list[int] = []
    while procfs.boottime() < give_up:
        try:
            survivors = guardian.clean_up()
            break
        except OSError:
            time.sleep(_LOOK_AGAIN_SECONDS)
    if survivors:
        sys.stderr.write(f"persona-worker: could not kill {survivors}\n")


def helper(runner: int, instance: int, groups: str) -> None:
    """Stand in for a guardian that died: a child of the runner, its socket as standard input.

    It keeps the deadlines.  What the runner leaves behind when it dies is found by token only.
    """
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    guardian = Guardian(socket.socket(fileno=0), runner, instance, groups=groups)
    guardian.serve(lambda: os.getppid() != runner, lambda _: None)
    _finish(guardian)
