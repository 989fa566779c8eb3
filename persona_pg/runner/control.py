"""How the kernel keeps a job's processes together, the best way that there is on this machine.

cgroup      a control group of its own for each execution, where our own group is delegated to us
            (`Delegate=yes` in the unit): nobody leaves it by setsid, double forks or a cleared
            environment, and one write kills everything in it
systemd     a transient scope for each execution, made by `systemd-run --scope`
subreaper   no help: group, descent, token and mark (tree.py), as in a plain container

The first two come on top of the third, which always looks as well. Only cheap modules of the
standard library are imported: the guardian lives on this module.
"""

# ruff: noqa: PTH102, PTH106, PTH110, PTH123, PTH208 - pathlib would cost the guardian memory
from __future__ import annotations

import contextlib
import os
import sys
import time

TYPE_CHECKING = False  # importing typing would cost the guardian a megabyte
if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("cgroup", "systemd", "subreaper")

_PREFIX = "persona-"
# Into the group before the program begins: whatever it starts is born there.
_ENTER = '{ echo 0 > "$0"; } 2> /dev/null || :; exec "$@"'
_PROBE_SECONDS = 3.0
_DYING_SECONDS = 1.0
# There where systemd is the system's manager: sd_booted(3).
_BOOTED = "/run/systemd/system"


class Control:
    """The way that was chosen, and why it is not a better one."""

    def __init__(self, kind: str, why: str = "", *, base: str = "", user: bool = False) -> None:
        self.kind = kind
        self.why = why
        self._base = base
        self._user = ("--user",) if user else ()
        self._tag = ""

    def own(self, home: str, name: str) -> None:
        """Be the runner of that name: what its predecessor has left in groups is killed.

        Only one runner of a name lives, and the groups bear its mark, so nobody else is hit.
        """
        import hashlib  # not for the guardian: it brings the whole of OpenSSL

        self._tag = hashlib.sha256(f"{home}\0{name}".encode()).hexdigest()[:8]
        if self.kind == "cgroup":
            left = []
            for entry in _entries(self._base):
                if entry.startswith(f"{_PREFIX}{self._tag}-"):
                    left.append(f"{self._base}/{entry}")
                    kill_group(left[-1])
            # They are busy until what was killed in them is gone.
            until = time.monotonic() + _DYING_SECONDS
            while left and time.monotonic() < until:
                for group in left:
                    remove_group(group)
                left = [group for group in left if os.path.exists(group)]
                time.sleep(0.01)

    def launcher(self, token: int) -> tuple[Sequence[str], str]:
        """Return what starts a program in a group of its own, and that group.

        Both are empty where there is none: the job runs as well, with less around it.
        """
        if self.kind == "cgroup":
            group = f"{self._base}/{_PREFIX}{self._tag}-{token:x}"
            try:
                os.mkdir(group, 0o755)
            except OSError:
                return (), ""
            return ("/bin/sh", "-c", _ENTER, f"{group}/cgroup.procs"), group
        if self.kind == "systemd":
            unit = f"--unit={_unit(token)}"
            import shutil

            run = shutil.which("systemd-run") or "systemd-run"
            return (run, *self._user, "--scope", "-q", "--collect", unit, "--"), ""
        return (), ""

    def kill(self, group: str, token: int) -> None:
        """Kill everything in the group of a job; the tree of its processes is killed besides."""
        if group:
            kill_group(group)
        elif self.kind == "systemd":
            import subprocess

            subprocess.Popen(  # nobody waits for it: the processes are looked after anyway
                ["systemctl", *self._user, "kill", "-s", "KILL", _unit(token)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


def choose(wanted: str = "auto", delegated: tuple[str, str] | None = None) -> Control:
    """Return the best way that works here, or the *wanted* one; its `why` says what was missing.

    *delegated* is what `delegated_group` has said, where it was asked before.
    """
    if wanted == "subreaper":
        return Control("subreaper", "JOB_PROCESS_CONTROL=subreaper")
    base, why_no_group = delegated or delegated_group()
    if base and wanted in ("auto", "cgroup"):
        return Control("cgroup", base=base)
    if wanted == "cgroup":
        return Control("subreaper", f"no cgroup: {why_no_group}")
    if wanted == "auto" and not os.path.exists(_BOOTED):
        user, why_no_scope = None, "systemd does not run here"
    else:
        user, why_no_scope = _scopes()
    if user is not None:
        return Control("systemd", f"no cgroup: {why_no_group}", user=user)
    return Control("subreaper", f"no cgroup: {why_no_group}; no scope: {why_no_scope}")


def delegated_group() -> tuple[str, str]:
    """Return our own control group if we may make others in it, and else why not."""
    if sys.platform != "linux":
        return "", "only Linux has them"
    mount = _cgroup2_mount()
    if not mount:
        return "", "no cgroup v2 file system is mounted"
    path = ""
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("0::"):
                path = line[3:].rstrip("\n").rstrip("/")
    base = mount + path
    # A root has no such file: its processes are everybody's.
    if not os.path.exists(f"{base}/cgroup.kill"):
        return "", f"{base} is no group of our own (Linux 5.14 and Delegate=yes are needed)"
    probe = f"{base}/{_PREFIX}probe-{os.getpid()}"
    try:
        os.mkdir(probe)
        can_write = os.access(f"{probe}/cgroup.procs", os.W_OK)
        os.rmdir(probe)
    except OSError as error:
        return "", f"{base}: {error.strerror} (Delegate=yes in the unit lets us)"
    if not (can_write and os.access(f"{base}/cgroup.procs", os.W_OK)):
        return "", f"{base} may not be written to (Delegate=yes in the unit lets us)"
    return base, ""


def members(group: str) -> list[int]:
    """Return the pids in a group and in those below it."""
    found: list[int] = []
    for folder in _with_those_below(group):
        with contextlib.suppress(OSError), open(f"{folder}/cgroup.procs", "rb") as pids:
            found += [int(pid) for pid in pids.read().split()]
    return found


def kill_group(group: str) -> None:
    """SIGKILL everything in a group and in those below it; nobody can fork away from that."""
    with contextlib.suppress(OSError), open(f"{group}/cgroup.kill", "wb") as kill:
        kill.write(b"1")


def remove_group(group: str) -> None:
    """Remove a group without processes, and those that the job has made in it."""
    for folder in reversed(_with_those_below(group)):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def groups_of(base: str, token: int) -> list[str]:
    """Find the group of a job by its token, whoever the runner is: for the guardian."""
    ending = f"-{token:x}"
    return [
        f"{base}/{entry}"
        for entry in _entries(base)
        if entry.startswith(_PREFIX) and entry.endswith(ending)
    ]


def _with_those_below(group: str) -> list[str]:
    return [folder for folder, _, _ in os.walk(group)]


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _unit(token: int) -> str:
    return f"persona-job-{token:x}.scope"


def _cgroup2_mount() -> str:
    """Find where cgroup v2 is mounted: alone, or beside the first version."""
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for line in mounts:
            left, _, right = line.partition(" - ")
            if right.startswith("cgroup2 "):
                # A path with blanks has them as octal escapes.
                return left.split()[4].encode().decode("unicode_escape")
    return ""


def _scopes() -> tuple[bool | None, str]:
    """Try to make a scope: (for the user's manager?, "") where it works, (None, why) else."""
    import shutil
    import subprocess

    if shutil.which("systemd-run") is None:
        return None, "there is no systemd-run"
    words = ""
    for user in (os.getuid() != 0, True):
        command = ["systemd-run", *(("--user",) if user else ()), "--scope", "-q", "--collect"]
        try:
            done = subprocess.run(
                [*command, "--", "true"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            words = str(error)
            continue
        if done.returncode == 0:
            return user, ""
        words = " ".join(done.stderr.decode(errors="replace").split())[:200]
    return None, words or "systemd-run failed"
