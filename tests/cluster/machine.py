"""A machine of its own with a real systemd as process 1: Debian in a container of systemd-nspawn.

The root is made once, with mmdebstrap, in .cache/machine; each boot works on a copy in memory that
is gone at the end, so every boot begins with a Debian on which nobody has done anything. Network
and processors are those of the host.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
from cluster.conftest import need
from pgtest import ROOT, eventually

CACHE = ROOT / ".cache" / "machine"
SUITE = "bookworm"
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "sudo",
    "ca-certificates",
    "iproute2",
    "procps",
)
# How packages are reached from here may need these.
SURROUNDINGS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# systemd wants control groups of the second version alone; the host may have mounted others.
# PID 1 of the container and what is above it get a group of their own in there.
START = """
set -e
mount --make-rprivate /
if ! [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  umount -R /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mkdir -p "/sys/fs/cgroup/$1"
echo 0 > "/sys/fs/cgroup/$1/cgroup.procs"
shift
exec systemd-nspawn --quiet --register=no --keep-unit --boot --volatile=overlay --console=pipe "$@"
"""


def root(suite=SUITE, packages=PACKAGES):
    """Return a folder with a Debian; make it if it is not there yet."""
    need("mmdebstrap", "systemd-nspawn", "nsenter")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = CACHE / suite
        if not made.exists():
            new = CACHE / f"{suite}.new"
            shutil.rmtree(new, ignore_errors=True)
            subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", suite, new],
                check=True, timeout=600,
            )  # fmt: skip
            (new / "etc" / "machine-id").write_text("")
            (new / "etc" / "hostname").write_text("machine\n")
            (new / "etc" / "hosts").write_text("127.0.0.1 localhost machine\n")
            new.rename(made)
    return made


class Machine:
    """A running one; *shown* are folders of ours that it sees, read only: {theirs: ours}."""

    def __init__(self, folder, shown=None):
        self.log = folder / "console"
        self._group = f"persona-machine-{os.getpid()}"
        binds = {Path(one): Path(one) for one in SURROUNDINGS if Path(one).exists()}
        binds |= shown or {}
        argv = [
            "unshare", "--mount", "sh", "-c", START, "sh", self._group, f"--directory={root()}",
            f"--machine={self._group}", "--resolv-conf=copy-host",
            *(f"--bind-ro={ours}:{theirs}" for theirs, ours in binds.items()),
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.pid = eventually(self._init, 60, what=self.console)
            states = ("running", "degraded")
            eventually(
                lambda: self.run("systemctl is-system-running", check=False).stdout.strip() in states,
                90, what=self.console,
            )  # fmt: skip
        except BaseException:
            self.close()
            raise

    def _init(self):
        for child in psutil.Process(self._process.pid).children(recursive=True):
            if child.name() == "systemd":
                return child.pid
        assert self._process.poll() is None, self.console()
        return None

    def console(self):
        return self.log.read_text(errors="replace")[-4000:]

    def run(self, script, *, user="root", check=True, timeout=120, env=None):
        """Run a script there, in a shell of root or as if *user* had logged in."""
        variables = " ".join(f"{k}={shlex.quote(v)}" for k, v in (env or {}).items())
        script = f"export {variables}\n{script}" if variables else script
        inside = ["/bin/bash", "-c", script]
        if user != "root":
            inside = ["/usr/sbin/runuser", "-l", user, "-c", script]
        argv = [
            "nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd",
            "env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", *inside,
        ]  # fmt: skip
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, (
            f"{script}\n{done.returncode}: {done.stdout}{done.stderr}"
        )
        return done

    def ask(self, script, **options):
        """Return what a script prints."""
        return self.run(script, **options).stdout.strip()

    def close(self):
        self._process.terminate()  # which is an orderly shutdown
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            group = Path(place) / self._group
            if group.exists():
                (group / "cgroup.kill").write_text("1")
                eventually(lambda group=group: _are_removed(group), what=group)


def _are_removed(group):
    """Remove control groups from the leaves on; busy they are until what was in them has gone."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
