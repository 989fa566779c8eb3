"""Fixtures of what needs other services beside PostgreSQL: never in a plain run of the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from pgtest import eventually


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("cluster")


def need(*programs):
    """Return the paths of programs, or skip the test and say which is missing."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    found = {name: shutil.which(name, path=path) for name in programs}
    if missing := [name for name, where in found.items() if where is None]:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("starts services as other users: needs root")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Slurm:
    """Controller and node of a cluster on this machine alone."""

    def __init__(self):
        self.programs = need("munged", "slurmctld", "slurmd", "srun", "squeue", "sinfo")
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        template = (Path(__file__).parent / "slurm.conf").read_text()
        self.conf = self.folder / "slurm.conf"
        self.conf.write_text(
            template.format(
                folder=self.folder,
                host=socket.gethostname().partition(".")[0],
                port=free_port(),
                port_of_node=free_port(),
            )
        )
        self.env = os.environ | {"SLURM_CONF": str(self.conf)}
        self._running = []

    def start(self):
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        munge = [
            self.programs["munged"], "--foreground", "--force", f"--key-file={key}",
            f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munge.pid",
            f"--log-file={self.folder}/munge.log", f"--seed-file={self.folder}/munge.seed",
        ]  # fmt: skip
        key.chmod(0o400)
        self._start(*munge)
        eventually((self.folder / "munge.socket").exists, what="munged")
        self._start(self.programs["slurmctld"], "-D", "-i")
        self._start(self.programs["slurmd"], "-D")
        eventually(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), 60, what=self.logs)

    def _start(self, *argv):
        with (self.folder / "out").open("ab") as out:
            process = subprocess.Popen(argv, env=self.env, stdout=out, stderr=out)
        self._running.append(process)

    def ask(self, program, *arguments):
        done = subprocess.run(
            [self.programs[program], *arguments], env=self.env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def logs(self):
        return "".join(
            f"{log}:\n{log.read_text()}"
            for log in [self.folder / "out", *self.folder.glob("*.log")]
        )

    def stop(self):
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def slurm():
    cluster = Slurm()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
