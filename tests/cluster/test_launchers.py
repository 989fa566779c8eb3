"""Jobs handed on by a launcher: what arrives on the other side, and that nothing is left there.

bin/test --cluster tests/cluster/test_launchers.py -s
(root; Debian: apt-get install openssh-server podman docker.io busybox-static)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from cluster.conftest import free_port, need
from pgtest import ROOT, eventually
from psycopg.types.json import Jsonb
from sqltest import Queue

pytestmark = pytest.mark.timeout(300)

# What only the programs of these tests do.
SLEEP = "86421"
TRAP = f"trap 'echo told; exit 3' TERM; echo begun; sleep {SLEEP} & wait"
DEAF = f"trap '' TERM; echo begun; sleep {SLEEP}; sleep {SLEEP}"
QUICK = {"JOB_KILL_GRACE": "8s", "JOB_HEARTBEAT_INTERVAL": "1s", "JOB_HUNG_TIMEOUT": "16s"}


def left():
    """The programs of these tests that are alive on the other side, wherever that is."""

    def is_one(line):
        return line == ["sleep", SLEEP] or (
            line[:2] == ["sh", "-c"] and line[2:3] in ([TRAP], [DEAF])
        )

    return [p for p in psutil.process_iter(["cmdline"]) if is_one(p.info["cmdline"] or [])]


class Ssh:
    """A real sshd on loopback, which lets us in with a key."""

    def __init__(self, folder):
        programs = need("sshd", "ssh", "ssh-keygen")
        self.port = free_port()
        self.key = folder / "key"
        for key in (self.key, folder / "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/key.pub\nStrictModes no\nPermitRootLogin prohibit-password\n"
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [programs["sshd"], "-D", "-e", "-f", folder / "config"], stderr=self._log
        )
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        self.options = ["-p", str(self.port), "-i", str(self.key)]
        for option in options:
            self.options += ["-o", option]
        self.ssh = ["ssh", "-o", "BatchMode=yes", *self.options, "127.0.0.1"]
        eventually(lambda: subprocess.run([*self.ssh, "true"], check=False).returncode == 0, 30)

    def cut(self):
        """Stop every packet: both sides of the connection stand still."""
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if line[:1] == ["ssh"] and str(self.port) in line:
                process.suspend()

    def close(self):
        self._process.terminate()
        self._process.wait(10)
        self._log.close()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    made = Ssh(tmp_path_factory.mktemp("sshd"))
    yield made
    made.close()


class Handed:
    """A queue with agents behind one launcher, and a runner that cannot see their side."""

    def __init__(self, queue, worker, folder, launcher):
        self.queue = queue
        self.folder = folder
        self._worker = worker
        for name, argv in (
            ("far", ["sh", "-c", "{prompt}"]),
            ("reader", ["sha256sum"]),
            ("args", ["printf", "[%s]", "--", "{payload.words...}"]),
        ):
            options = {"stdin_template": "{prompt}" if name == "reader" else ""}
            queue.one(
                "register_agent", name=name, argv=argv, launcher=launcher, admin_only=True, max_attempts=1,
                env=Jsonb({"COLOUR": "blue"}), **options,
            )  # fmt: skip
        self.start()

    def start(self):
        # In a pid namespace of its own: it could find what runs on this machine by its marks.
        self.worker = self._worker(
            env=QUICK, launcher=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        )

    def create(self, prompt, agent="far", **options):
        payload = prompt if isinstance(prompt, dict) else {"prompt": prompt}
        return self.queue.create("t", agent=agent, payload=payload, **options)

    def end(self, job, timeout=60):
        eventually(lambda: self.queue.job(job)["completed_at"], timeout, what=self.worker.output)
        row = self.queue.job(job)
        return row["status"], row["exit_code"]

    def log(self, job):
        query = "select string_agg(message, e'\\n' order by seq) from persona.job_logs where job_id = %s"
        return self.queue.value(query, job["id"]) or ""

    def begun(self, job):
        eventually(lambda: "begun" in self.log(job), 60, what=self.worker.output)
        assert left()
        return job

    def gone(self, timeout):
        """How long it takes until nothing is left."""
        began = time.monotonic()
        eventually(lambda: not left(), timeout, what=lambda: [p.cmdline() for p in left()])
        return round(time.monotonic() - began, 1)


# A privileged container without cgroups of the second version, such as these tests run in, needs the limits and
# --cgroups=disabled; elsewhere `podman run --rm -i IMAGE` is enough.
PODMAN = """
umount -R /sys/fs/cgroup 2> /dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec podman --cgroup-manager=cgroupfs "$@"
"""
RUN = (
    "run",
    "--rm",
    "-i",
    "--network=none",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=4096:4096",
    "--cgroups=disabled",
)


@pytest.fixture
def image(tmp_path):
    """An image that is nothing but busybox, as a tar file."""
    need("busybox")
    folder = tmp_path / "image"
    (folder / "bin").mkdir(parents=True)
    (folder / "tmp").mkdir()
    shutil.copy("/bin/busybox", folder / "bin" / "busybox")
    for name in ("sh", "sleep", "sha256sum", "printf"):
        (folder / "bin" / name).symlink_to("busybox")
    subprocess.run(["tar", "-C", folder, "-cf", tmp_path / "tar", "."], check=True)
    return tmp_path / "tar"


@pytest.fixture
def docker(tmp_path, image):
    """A launcher into containers of a daemon of our own, and how it is asked."""
    programs = need("docker", "dockerd")
    folder = Path(tempfile.mkdtemp(prefix="docker-", dir="/tmp"))
    address = f"unix://{folder}/sock"
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [programs["dockerd"], "--iptables=false", "--ip6tables=false", "--bridge=none", f"--data-root={folder}/data",
             f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", f"--host={address}"],
            stdout=log, stderr=log,
        )  # fmt: skip

    def ask(*arguments):
        done = subprocess.run(
            [programs["docker"], "-H", address, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split() if done.returncode == 0 else None

    try:
        eventually(lambda: ask("ps") is not None, 60, what=(folder / "log").read_text)
        assert ask("import", str(image), "persona-test")
        yield (
            [
                programs["docker"],
                "-H",
                address,
                "run",
                "--rm",
                "-i",
                "--network=none",
                "persona-test",
            ],
            ask,
        )
        for container in ask("ps", "-q"):
            ask("kill", container)
    finally:
        daemon.terminate()
        daemon.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def podman(tmp_path, image):
    """A launcher into containers of podman."""
    need("podman")
    name = f"localhost/persona-test-{os.getpid()}"
    subprocess.run(["podman", "import", "-q", image, name], check=True)
    program = tmp_path / "podman"
    program.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{PODMAN}' sh \"$@\"\n")
    program.chmod(0o755)
    yield [str(program), *RUN, name]
    for command in (["rm", "-f", "-a", "--filter", f"ancestor={name}"], ["rmi", "-f", name]):
        subprocess.run(["podman", *command], check=False, capture_output=True)


@pytest.fixture
def handed(conn, worker, tmp_path):
    made = []

    def make(launcher):
        made.append(Handed(Queue(conn), worker, tmp_path, launcher))
        return made[-1]

    yield make
    for process in left():
        process.kill()


def what_arrives(far):
    """Say what became of exit codes, input, arguments and variables."""
    words = ["a b", "", "it's", '"$HOME"', "; touch /tmp/x", "l1\nl2\n", "*", "\\", "ä€😀"]
    text = "line 1\n'quotes' $HOME\n" + "x" * 1_000_000
    codes = [far.end(far.create(f"exit {code}")) for code in (0, 7)]
    read = far.create(text, "reader")
    given = far.create({"words": words}, "args")
    env = far.create("echo job ${PERSONA_JOB_ID:-none}, colour ${COLOUR:-none}")
    for one in (read, given, env):
        far.end(one)
    assert codes == [("completed", 0), ("failed", 7)]
    return {
        "input": hashlib.sha256(text.encode()).hexdigest() in far.log(read),
        "arguments": "".join(f"[{w}]" for w in ["--", *words]) in far.log(given),
        "job's id": f"job {env['id']}" in far.log(env),
        "agent's variables": "colour blue" in far.log(env),
    }


def what_is_left(far):
    """Return seconds until nothing is left of a job after each way to end it."""
    found = {}
    told = far.begun(far.create(TRAP))
    far.queue.act("cancel_job", told)
    found["cancelled"] = far.gone(60)
    found["told"] = "told" in eventually(
        lambda: far.queue.job(told)["completed_at"] and far.log(told), 60
    )
    found["its exit code"] = far.queue.job(told)["exit_code"]
    deaf = far.begun(far.create(DEAF))
    far.queue.act("cancel_job", deaf)
    found["cancelled, deaf to SIGTERM"] = far.gone(60)
    far.begun(far.create(DEAF, timeout="3 s"))
    found["timed out, deaf"] = far.gone(60)
    far.begun(far.create(DEAF))
    far.worker.process.kill()
    found["runner killed, deaf"] = far.gone(60)
    return found


def test_persona_ssh_hands_everything_on_and_leaves_nothing_there(sshd, handed, capsys):
    far = handed([str(ROOT / "bin" / "persona-ssh"), *sshd.options, "127.0.0.1"])
    arrived, left_there = what_arrives(far), what_is_left(far)
    with capsys.disabled():
        print(f"\npersona-ssh: {arrived}\n{left_there}")
    assert arrived == {
        "input": True,
        "arguments": True,
        "job's id": True,
        "agent's variables": False,
    }
    assert left_there["told"]
    assert left_there["its exit code"] == 3


def test_persona_ssh_ends_its_program_where_the_network_is_cut(sshd, handed, capsys):
    far = handed([str(ROOT / "bin" / "persona-ssh"), *sshd.options, "127.0.0.1"])
    far.begun(far.create(DEAF))
    sshd.cut()
    took = far.gone(60)
    with capsys.disabled():
        print(f"\npersona-ssh, cut off: gone after {took} s")


def test_ssh_alone_takes_arguments_apart_and_hands_on_no_signal(sshd, handed):
    """What docs/scaling.md warns of, and why persona-ssh is there."""
    far = handed(sshd.ssh)
    given = far.create({"words": ["$HOME", "; echo more"]}, "args")
    far.end(given)
    assert far.log(given).endswith("[/root]more")
    far.queue.one(
        "register_agent", name="sleeper", argv=["sleep", SLEEP], launcher=sshd.ssh, admin_only=True
    )
    job = far.create("", "sleeper")
    eventually(left, 60, what=far.worker.output)
    far.queue.act("cancel_job", job)
    far.end(job)
    assert left()


def test_podman_hands_on_what_its_first_process_takes(podman, handed, capsys):
    far = handed(podman)
    arrived, left_there = what_arrives(far), what_is_left(far)
    with capsys.disabled():
        print(f"\npodman run: {arrived}\n{left_there}")
    assert arrived == {
        "input": True,
        "arguments": True,
        "job's id": False,
        "agent's variables": False,
    }
    assert left_there["told"]


def test_docker_hands_on_what_its_first_process_takes_and_keeps_what_is_deaf(
    docker, handed, capsys
):
    launcher, ask = docker
    far = handed(launcher)
    arrived = what_arrives(far)
    told = far.begun(far.create(TRAP))
    far.queue.act("cancel_job", told)
    ended = far.end(told)
    far.gone(30)
    deaf = far.begun(far.create(DEAF))
    far.queue.act("cancel_job", deaf)
    far.end(deaf)
    with capsys.disabled():
        print(
            f"\ndocker run: {arrived}; told: {ended} {'told' in far.log(told)}; deaf: left {len(ask('ps', '-q'))} containers"
        )
    assert arrived == {
        "input": True,
        "arguments": True,
        "job's id": False,
        "agent's variables": False,
    }
    assert "told" in far.log(told)
    assert left()
