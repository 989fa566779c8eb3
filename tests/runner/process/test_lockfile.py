from __future__ import annotations

import fcntl
import json
import os
import threading

import pytest

from persona_pg.runner import identity, lockfile
from persona_pg.runner.lockfile import HeldBy, Lock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runners" / "main.lock"


def rewritten(path, **changes):
    """The file as another runner would have left it."""
    values = json.loads(path.read_bytes())
    path.write_bytes(json.dumps(values | changes).encode())


def test_the_second_of_a_name_is_refused_and_told_who_has_it(path):
    first = lockfile.acquire(path, instance=1)
    second = lockfile.acquire(path, instance=2)

    assert isinstance(first, Lock)
    assert isinstance(second, HeldBy)
    assert second.owner.pid == os.getpid()
    assert second.describe() == f"a runner named 'main' is already running here (pid {os.getpid()})"
    first.release()
    third = lockfile.acquire(path, instance=3)
    assert isinstance(third, Lock)
    third.release()


def test_nothing_is_proven_on_the_first_start(path):
    lock = lockfile.acquire(path, instance=1)
    assert (lock.previous, lock.may_take_over, lock.left_instances) == (None, False, [])
    lock.release()


def test_on_the_same_boot_a_free_lock_is_the_proof(path):
    lockfile.acquire(path, instance=1).release()
    lock = lockfile.acquire(path, instance=2)
    assert (lock.may_take_over, lock.left_instances) == (True, [1])
    lock.release()


def test_what_was_not_settled_is_handed_on(path):
    for instance in range(1, 30):
        lockfile.acquire(path, instance=instance).release()
    lock = lockfile.acquire(path, instance=99)
    assert lock.left_instances == list(range(29, 14, -1))
    lock.settle()
    lock.release()
    lock = lockfile.acquire(path, instance=100)
    assert lock.left_instances == [99]
    lock.release()


@pytest.mark.parametrize(
    "changes, may_take_over",
    [
        ({"boot_id": "another"}, True),
        ({"boot_id": ""}, False),
        ({"machine_id": "another", "boot_id": "another"}, False),
        ({"machine_id": "another"}, False),
        ({"pid_namespace": "pid:[1]"}, False),
        ({"pid_namespace": "pid:[1]", "boot_id": "another"}, True),
    ],
)
def test_what_is_proof_of_a_dead_predecessor(path, changes, may_take_over):
    lockfile.acquire(path, instance=1).release()
    rewritten(path, **changes)
    lock = lockfile.acquire(path, instance=2)
    assert lock.may_take_over is may_take_over
    assert lock.left_instances == [], "nobody there could be recognised with certainty"
    lock.release()


@pytest.mark.parametrize("content", [b"", b"garbage", b"{}", b"[1]", b'{"pid": "x"}', b"\xff\0"])
def test_a_damaged_file_proves_nothing(path, content):
    lockfile.acquire(path, instance=1).release()
    path.write_bytes(content)
    lock = lockfile.acquire(path, instance=2)
    assert (lock.previous, lock.may_take_over) == (None, False)
    lock.release()


def test_an_unknown_host_proves_nothing(path, monkeypatch):
    unknown = identity.Host("", identity.host().boot_id, identity.host().pid_namespace)
    monkeypatch.setattr(identity, "host", lambda: unknown)
    lockfile.acquire(path, instance=1).release()
    lock = lockfile.acquire(path, instance=2)
    assert (lock.may_take_over, lock.left_instances) == (False, [])
    lock.release()


def test_a_lock_on_a_file_that_is_replaced_meanwhile_is_none(path, monkeypatch):
    real, calls = fcntl.flock, []

    def flock(fd, how):
        if not calls:
            path.unlink()
            path.touch()
        calls.append(how)
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = lockfile.acquire(path, instance=1)
    assert len(calls) == 2
    assert os.path.samestat(os.fstat(lock.fd), path.stat())
    lock.release()


def test_of_many_at_once_one_gets_it(path):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(lockfile.acquire(path, instance=1)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    locks = [result for result in results if isinstance(result, Lock)]
    assert len(locks) == 1
    locks[0].release()
