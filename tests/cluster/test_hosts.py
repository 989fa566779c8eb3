"""Runners on many hosts, each a network namespace with a name of its own; one is cut off.

bin/test --cluster tests/cluster/test_hosts.py -s    (root; Debian: apt-get install iproute2)
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import psutil
import psycopg
import pytest
from cluster.conftest import need
from pgtest import TemporaryServer, eventually
from psycopg.conninfo import make_conninfo
from sqltest import Queue

from persona_pg import migrations

HOSTS, RUNNERS, JOBS = 6, 2, 300
BRIDGE, ADDRESS = "persona0", "10.231.77.1"
SHORT = {"JOB_HUNG_TIMEOUT": "8s", "JOB_HEARTBEAT_INTERVAL": "1s", "JOB_KILL_GRACE": "500ms"}


def run(*argv):
    subprocess.run(argv, check=True, capture_output=True)


class Network:
    """A switch with the server's address, and hosts that are connected to it."""

    def __init__(self):
        need("ip", "unshare", "hostname")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        self.hosts = [f"ph{number}" for number in range(1, HOSTS + 1)]
        for number, host in enumerate(self.hosts, 10):
            run("ip", "netns", "add", host)
            run(
                "ip",
                "link",
                "add",
                f"v{host}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                host,
            )
            run("ip", "link", "set", f"v{host}", "master", BRIDGE, "up")
            inside = ("ip", "-n", host)
            run(*inside, "address", "add", f"10.231.77.{number}/24", "dev", "eth0")
            run(*inside, "link", "set", "eth0", "up")
            run(*inside, "link", "set", "lo", "up")

    def launcher(self, host):
        name = f'hostname {host}; exec "$@"'
        return ["ip", "netns", "exec", host, "unshare", "--uts", "sh", "-c", name, "sh"]

    def plug(self, host, *, is_in):
        run("ip", "link", "set", f"v{host}", "up" if is_in else "down")

    def close(self):
        for host in self.hosts:
            subprocess.run(["ip", "netns", "delete", host], check=False)
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False)


@pytest.fixture
def network():
    """Hosts, and a server that is reached over the network only."""
    made = Network()
    server = None
    try:
        server = TemporaryServer({"listen_addresses": ADDRESS})
        with psycopg.connect(
            host=server.host, user="postgres", dbname="postgres", autocommit=True
        ) as admin:
            admin.execute("create role persona login createrole password 'persona'")
            admin.execute("create database persona owner persona")
            (hba,) = admin.execute("show hba_file").fetchone()
            with Path(hba).open("a", encoding="ascii") as file:
                file.write(f"host all all {ADDRESS}/24 scram-sha-256\n")
            admin.execute("select pg_reload_conf()")
        made.dsn = make_conninfo(
            host=ADDRESS, port=5432, dbname="persona", user="persona", password="persona"
        )
        migrations.migrate(made.dsn)
        yield made
    finally:
        if server:
            server.close()
        made.close()


@pytest.mark.timeout(300)
def test_runners_on_six_hosts_share_the_work_and_one_that_is_cut_off_is_replaced(
    network, worker, cli, tmp_path, capsys
):
    history = tmp_path / "history"
    history.touch()
    workers = {
        f"{host}-{number}": worker(
            "--name", f"{host}-{number}", "-c", 2, launcher=network.launcher(host),
            env={"PERSONA_DATABASE_URL": network.dsn, "PERSONA_HOME": str(tmp_path / f"{host}-{number}")} | SHORT,
        )
        for host in network.hosts for number in range(RUNNERS)
    }  # fmt: skip
    for one in workers.values():
        eventually(lambda one=one: " is ready: " in one.output(), 120, what=one.output)

    with psycopg.connect(network.dsn, autocommit=True) as conn:
        queue = Queue(conn)

        def create(script):
            argv = ["sh", "-c", f"echo $PERSONA_JOB_ID $(hostname) >> {history}; {script}"]
            return queue.create("command", agent="command", payload={"argv": argv})

        listed = json.loads(
            cli("runners", "--json", env={"PERSONA_DATABASE_URL": network.dsn}).stdout
        )
        jobs = [create("sleep 0.05") for _ in range(JOBS)]
        eventually(lambda: all(queue.status(job) == "completed" for job in jobs[-1:]) and queue.value(
            "select count(*) from persona.jobs where status <> 'completed'") == 0, 120)  # fmt: skip
        runs = Counter(line.split()[0] for line in history.read_text().splitlines())
        by_host = Counter(line.split()[1] for line in history.read_text().splitlines())

        # The lock is held by whatever lives of an execution.
        twice = tmp_path / "twice"
        long = create(f"exec 9>> {tmp_path}/lock; flock -n 9 || touch {twice}; sleep 4321")
        eventually(lambda: queue.status(long) == "running", 30)
        where = "select hostname from persona.job_dashboard where id = %s"
        first = queue.value(where, long["id"])
        network.plug(first, is_in=False)
        eventually(
            lambda: (
                queue.job(long)["status"] == "running" and queue.value(where, long["id"]) != first
            ),
            90,
        )
        second = queue.value(where, long["id"])
        eventually(lambda: _sleepers() == 1, 30)
        network.plug(first, is_in=True)
        back = "select count(*) from persona.runners where hostname = %s and ended_at is null and last_seen_at > now() - interval '3 s'"
        eventually(lambda: queue.value(back, first) == RUNNERS, 90)
        queue.act("cancel_job", long)
        eventually(lambda: queue.status(long) == "cancelled", 30)
        outcomes = [a["outcome"] for a in queue.attempts(long)]

    with capsys.disabled():
        print(f"\n{len(listed)} runners on {len({r['hostname'] for r in listed})} hosts; {JOBS} jobs,"
              f" {runs.total()} executions, by host {dict(sorted(by_host.items()))}")  # fmt: skip
        print(
            f"a job's host {first} is cut off: it runs on {second}; twice at once: {twice.exists()}; its attempts: {outcomes}"
        )
    assert len(listed) == HOSTS * RUNNERS
    assert {r["hostname"] for r in listed} == set(network.hosts) == set(by_host)
    assert set(runs.values()) == {1}
    assert runs.total() == JOBS
    assert not twice.exists()


def _sleepers():
    return sum(p.info["cmdline"] == ["sleep", "4321"] for p in psutil.process_iter(["cmdline"]))
