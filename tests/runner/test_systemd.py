"""What a real runner tells the service manager, on a real datagram socket."""

from __future__ import annotations

import signal
import socket
import time

import pytest


class Manager:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(0.05)
        self.messages = []

    def read(self):
        """Return everything received so far, as (time, {name: value})."""
        while True:
            try:
                text = self.socket.recv(4096).decode()
            except TimeoutError:
                return self.messages
            pairs = dict(line.split("=", 1) for line in text.splitlines())
            self.messages.append((time.monotonic(), pairs))

    def values(self, name):
        return [pairs[name] for _, pairs in self.read() if name in pairs]


@pytest.fixture
def manager(tmp_path):
    path = tmp_path / "notify"
    made = Manager(path)
    made.env = {"NOTIFY_SOCKET": str(path)}
    yield made
    made.socket.close()


def test_readiness_status_and_the_end(worker, jobs, manager, eventually):
    one = worker("--concurrency", "2", env=manager.env | {"WORKER_DRAIN_TIMEOUT": "100s"})
    eventually(lambda: manager.values("READY") == ["1"], 20)
    assert "persona-worker" not in "".join(manager.values("STATUS"))
    job = jobs.sh("echo begun; sleep 1")
    jobs.first_line(job)
    eventually(lambda: manager.values("STATUS")[-1] == "1/2 running")
    one.process.send_signal(signal.SIGTERM)
    eventually(lambda: "1" in manager.values("STOPPING"))
    assert "draining, 1 running" in manager.values("STATUS")
    assert [int(v) for v in manager.values("EXTEND_TIMEOUT_USEC")] == [160_000_000]
    assert one.wait() == 0


def test_not_ready_before_the_database_is_there(worker, proxy, manager, eventually):
    proxy.is_refusing = True
    one = worker(env=manager.env | {"PERSONA_DATABASE_URL": proxy.dsn})
    eventually(lambda: "next try" in one.output(), 20)
    one.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert manager.values("READY") == []
    proxy.is_refusing = False
    eventually(lambda: manager.values("READY") == ["1"], 20)


def test_a_reload_is_told_with_its_time_and_its_end(worker, manager, eventually):
    one = worker(env=manager.env)
    eventually(lambda: manager.values("READY"), 20)
    one.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(manager.values("READY")) == 2)
    assert manager.values("RELOADING") == ["1"]
    assert int(manager.values("MONOTONIC_USEC")[0]) <= time.monotonic() * 1e6


def test_the_watchdog_is_fed_by_an_idle_and_by_a_busy_runner(worker, jobs, manager, eventually):
    worker(env=manager.env | {"WATCHDOG_USEC": "1000000"})
    eventually(lambda: manager.values("READY"), 20)
    jobs.sh("for i in $(seq 1 300); do echo $i; sleep 0.01; done")
    time.sleep(4)
    times = [at for at, pairs in manager.read() if "WATCHDOG" in pairs]
    assert 6 <= len(times) <= 14


def test_the_watchdog_is_fed_while_the_database_does_not_answer(
    worker, jobs, proxy, manager, eventually
):
    worker(env=manager.env | {"WATCHDOG_USEC": "1000000", "PERSONA_DATABASE_URL": proxy.dsn})
    eventually(lambda: manager.values("READY"), 20)
    time.sleep(0.5)
    proxy.is_silent = True
    jobs.sh("exit 0")
    before = len(manager.values("WATCHDOG"))
    time.sleep(4)
    assert 6 <= len(manager.values("WATCHDOG")) - before <= 14
    proxy.is_silent = False


def test_a_runner_that_is_stopped_feeds_no_watchdog(worker, manager, eventually, runner_pid):
    import os

    one = worker(env=manager.env | {"WATCHDOG_USEC": "500000"})
    eventually(lambda: manager.values("WATCHDOG"), 20)
    pid = runner_pid(one)
    os.kill(pid, signal.SIGSTOP)
    manager.read()
    before = len(manager.messages)
    time.sleep(1.5)
    assert len(manager.read()) == before
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: len(manager.read()) > before)
