"""Fixtures of the tests of the schema; the helper itself is tests/sqltest.py."""

from __future__ import annotations

import pytest
from sqltest import Queue


@pytest.fixture
def queue(conn):
    """Functions of the schema over one connection, with an agent called a.

    Whatever the test did through them, the tables must agree with each other at its end.
    """
    found = Queue(conn)
    found.agent(max_attempts=3)
    yield found
    if not conn.closed:
        assert found.inconsistencies() == []


@pytest.fixture
def runner(queue):
    """Id of a runner for all agents."""
    return queue.runner()


@pytest.fixture
def another(connect):
    """Make further sessions, whose name shows in pg_stat_activity."""

    def make(name="other", **options):
        return Queue(connect(name, **options))

    return make
