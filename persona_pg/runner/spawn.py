"""Starting a job's program: its own session, bounded inheritance, and a token it cannot lose."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from persona_pg.runner import children, identity, procfs
from persona_pg.runner.programs import NO_INTERPRETER, SpawnError, SpawnErrorKind, find_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# Everything a child may have inherited as ignored or blocked goes back to its default.
_ALL_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})

# What the machine lacks for the moment; the program itself may be fine.
_SHORTAGES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start.  The environment is taken as it stands: nothing is inherited."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | Path | None = None
    stdin: bytes | None = None
    token: int | None = None
    launcher: Sequence[str] = ()  # put before argv: an absolute path and its arguments
    processors: frozenset[int] | None = None
    stray_grace: float = 2.0
    mark: str | None = None  # the job's id in its environment, if not PERSONA_JOB_ID there


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended, and what of it had to be ended after it."""

    code: int
    signal: int | None = None
    strays: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()

    @property
    def signal_name(self) -> str | None:
        """Such as SIGKILL; None when the program ended by itself."""
        if self.signal is None:
            return None
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"SIG{self.signal}"


@dataclass(eq=False, slots=True)
class Child:
    """A started program: leader of its own session and process group, and not yet reaped."""

    pid: int
    token: int | None
    mark: str | None
    pidfd: int
    stdout_fd: int
    stderr_fd: int
    stray_grace: float
    has_exited: bool = False
    exit: Exit | None = None
    _start_time: int | None = field(default=None, init=False)

    @property
    def start_time(self) -> int:
        """When it started; not read before somebody asks, while it cannot be another one's pid."""
        if self._start_time is None:
            self._start_time = 0 if self.exit else procfs.start_time(self.pid) or 0
        return self._start_time

    @property
    def pgid(self) -> int:
        """The leader's pid is its group's and its session's id."""
        return self.pid

    def identity(self) -> identity.ProcessIdentity:
        """Return what to store, for a later runner to recognise this process by."""
        return identity.ProcessIdentity(identity.host(), self.pid, self.start_time, self.token)

    def exited(self) -> bool:
        """Look whether the leader has ended; it is not reaped, so its ids stay ours."""
        if not self.has_exited:
            self.has_exited = children.has_exited(self.pid)
        return self.has_exited


def spawn(spec: ChildSpec, token: int | None) -> Child:
    """Start the program, or raise SpawnError before anything has run."""
    if not spec.argv or not spec.argv[0]:
        raise SpawnError("invalid", "the command line is empty", "")
    program = spec.argv[0]
    opened: list[int] = []
    with _translated(program):
        try:
            pid, inherited = _start(spec, program, token, opened)
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
    # From here on nothing may fail and leave the child unknown to its caller.
    stdin, out_read, out_write, err_read, err_write = opened
    for fd in (stdin, out_write, err_write):
        os.close(fd)
    os.set_blocking(out_read, False)
    os.set_blocking(err_read, False)
    return Child(
        pid=pid,
        token=inherited,
        mark=spec.mark or spec.env.get("PERSONA_JOB_ID"),
        pidfd=os.pidfd_open(pid) if sys.platform == "linux" else -1,
        stdout_fd=out_read,
        stderr_fd=err_read,
        stray_grace=spec.stray_grace,
    )


def _start(
    spec: ChildSpec, program: str, token: int | None, opened: list[int]
) -> tuple[int, int | None]:
    """Return the pid and the token it has; its descriptors and our ends of them are *opened*."""
    with _directory(spec.cwd, program):
        # Looked up from inside the directory: a relative path means the same to the child.
        # Looked up also where a launcher would: what is missing is to be said here.
        path = find_program(program, spec.env)
        if spec.launcher:
            path = spec.launcher[0]
        opened.append(_stdin(spec.stdin))
        opened += os.pipe()
        opened += os.pipe()
        stdin, _, out_write, _, err_write = opened
        with _processors(spec.processors), _token_limit(token) as inherited:
            pid = os.posix_spawn(
                path,
                [*spec.launcher, *spec.argv],
                spec.env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, out_write, 1),
                    (os.POSIX_SPAWN_DUP2, err_write, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_ALL_SIGNALS,
            )
    return pid, inherited


def _stdin(content: bytes | None) -> int:
    """Open what the child reads: a file that ends, never a pipe that somebody must close."""
    if content is None:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if sys.platform == "linux":
        fd = os.memfd_create("stdin")
    else:
        import tempfile

        fd, name = tempfile.mkstemp()
        os.unlink(name)  # noqa: PTH108 pathlib knows no descriptors
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def _directory(cwd: str | Path | None, program: str) -> Iterator[None]:
    """Be in the child's directory while it is started: posix_spawn itself cannot change it."""
    if cwd is None:
        yield
        return
    here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.chdir(cwd)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SpawnError(
                "bad_cwd", f"cannot run '{program}' in directory '{cwd}': {reason}", program
            ) from error
        try:
            yield
        finally:
            os.fchdir(here)
    finally:
        os.close(here)


@contextlib.contextmanager
def _token_limit(token: int | None) -> Iterator[int | None]:
    """Carry the token while the child is started.  One thread spawns, so nobody else gets it.

    The hard limit stays.  One that is too low for a token (nobody is known to set it) leaves
    the job without: its group, its descent and its mark remain.
    """
    if token is None or sys.platform != "linux":
        yield None
        return
    soft, hard = resource.getrlimit(procfs.RLIMIT_LOCKS)
    if hard not in (resource.RLIM_INFINITY, -1) and hard < token:
        yield None
        return
    resource.setrlimit(procfs.RLIMIT_LOCKS, (token, hard))
    try:
        yield token
    finally:
        resource.setrlimit(procfs.RLIMIT_LOCKS, (soft, hard))


@contextlib.contextmanager
def _processors(chosen: frozenset[int] | None) -> Iterator[None]:
    """Be on these processors while the child is started: it inherits them."""
    if chosen is None or sys.platform != "linux":
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


@contextlib.contextmanager
def _translated(program: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _SHORTAGES:
            kind: SpawnErrorKind = "resources"
        elif error.errno == errno.E2BIG:
            kind, reason = "too_big", "the command line or the environment is too long"
        elif error.errno == errno.ENOENT:
            # The program itself was found: its first line names something that is not there.
            kind, reason = "not_executable", NO_INTERPRETER
        elif error.errno in (errno.ENOEXEC, errno.EACCES, errno.ELOOP, errno.ETXTBSY):
            kind = "not_executable"
        else:
            kind = "failed"
        raise SpawnError(kind, f"program '{program}' cannot be run: {reason}", program) from error
    except ValueError as error:  # a NUL in an argument or in the environment
        raise SpawnError(
            "invalid", f"program '{program}' cannot be run: {error}", program
        ) from error
