from __future__ import annotations

import os
import socket
import time

import pytest

from persona_pg.runner.notify import Notifier, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name if request.param == "path" else "\0" + name)
        listener.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name if request.param == "path" else "@" + name})
        yield notifier, lambda: listener.recv(4096).decode().split("\n")
        notifier.close()


def test_every_notification_as_systemd_reads_it(systemd):
    notifier, heard = systemd
    assert notifier.enabled

    notifier.ready("idle")
    assert heard() == ["READY=1", "STATUS=idle"]
    notifier.status("2/3\nrunning")
    assert heard() == ["STATUS=2/3 running"]
    notifier.watchdog()
    assert heard() == ["WATCHDOG=1"]
    notifier.stopping("draining")
    assert heard() == ["STOPPING=1", "STATUS=draining"]
    notifier.extend_timeout(2.5)
    assert heard() == ["EXTEND_TIMEOUT_USEC=2500000"]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    reloading, at = heard()
    assert reloading == "RELOADING=1"
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= before + 1_000_000


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}])
def test_without_a_listener_nothing_happens(environ):
    notifier = Notifier(environ)
    notifier.ready()
    assert not notifier.enabled


def test_a_listener_that_is_gone_is_no_error(tmp_path):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier.ready()
    notifier.close()


def test_a_listener_that_does_not_read_cannot_block_us(systemd):
    notifier, _ = systemd
    for _ in range(10_000):
        notifier.status("x" * 1000)


@pytest.mark.parametrize(
    "environ, interval",
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1000000"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_or_our_guardians(environ, interval):
    assert watchdog_interval(environ) == interval
