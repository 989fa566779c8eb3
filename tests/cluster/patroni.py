"""Two PostgreSQL nodes under Patroni, with one etcd, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import psutil
from pgtest import eventually

HERE = Path(__file__).parent
ACCOUNT = "postgres"


class Node:
    """One PostgreSQL with its Patroni; kill() is what a power cut does."""

    def __init__(self, name, folder, program, values):
        self.name, self.folder = name, folder
        self.port, self.rest = values["port"], values["rest"]
        folder.mkdir()
        shutil.chown(folder, ACCOUNT, ACCOUNT)
        folder.chmod(0o700)
        (folder / "patroni.yml").write_text(
            (HERE / "patroni.yml").read_text().format(name=name, folder=folder, **values)
        )
        self._argv = [
            "setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups", "--",
            program, str(folder / "patroni.yml"),
        ]  # fmt: skip
        shutil.chown(folder / "patroni.yml", ACCOUNT)
        self.process = None

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._argv, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self):
        """End Patroni and all of the server in one moment."""
        pids = [self.process.pid]
        pid_file = self.folder / "data" / "postmaster.pid"
        postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
        pids += [postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(10)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def log(self):
        return (self.folder / "log").read_text()[-4000:]


class Cluster:
    """Both nodes, and who leads."""

    def __init__(self, programs, free_port, server_programs):
        self.folder = Path(tempfile.mkdtemp(prefix="patroni-", dir="/dev/shm"))
        self.folder.chmod(0o755)
        self._programs = programs
        self._etcd_port, self._etcd = free_port(), None
        self.nodes = [
            Node(name, self.folder / name, programs["patroni"], {
                "port": free_port(), "rest": free_port(), "etcd": self._etcd_port, "bin": server_programs,
            })
            for name in ("one", "two")
        ]  # fmt: skip
        self._peer_port = free_port()

    def start(self):
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        with (self.folder / "etcd.log").open("ab") as log:
            self._etcd = subprocess.Popen(
                [
                    self._programs["etcd"], "--data-dir", self.folder / "etcd",
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", f"default={peer}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        for node in self.nodes:
            node.start()
        self.settled()

    def members(self):
        for node in self.nodes:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{node.rest}/cluster", timeout=2
                ) as answer:
                    return {
                        m["name"]: (m["role"], m["state"]) for m in json.load(answer)["members"]
                    }
            except OSError:
                continue
        return {}

    def settled(self, timeout=180):
        """Wait until one leads and the other one is its synchronous standby."""

        def is_settled():
            roles = {
                role for role, state in self.members().values() if state in {"running", "streaming"}
            }
            return roles == {"leader", "sync_standby"}

        eventually(is_settled, timeout, interval=0.5, what=lambda: [n.log() for n in self.nodes])

    @property
    def leader(self):
        names = [name for name, (role, state) in self.members().items() if role == "leader"]
        return next(node for node in self.nodes if [node.name] == names)

    def switch_over(self):
        leader = self.leader
        (other,) = (node for node in self.nodes if node is not leader)
        body = json.dumps({"leader": leader.name, "candidate": other.name}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{leader.rest}/switchover", body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def dsn(self, name, user):
        ports = ",".join(str(node.port) for node in self.nodes)
        return f"host=127.0.0.1,127.0.0.1 port={ports} dbname={name} user={user} password={user}"

    def stop(self):
        for node in self.nodes:
            node.stop()
        if self._etcd:
            self._etcd.terminate()
            self._etcd.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)
