"""A migration that takes something away waits until no runner needs it any more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pgtest
import pytest
from sqltest import Queue, refused

from persona_pg import migrations

if TYPE_CHECKING:
    from pathlib import Path

NAME = "0999_contract_3_a_column.sql"
TEXT = """-- 0999, contract: runners of protocol 3 do not read runners.agents.
update persona.settings set value = '3' where name = 'max_protocol';
comment on column persona.runners.agents is 'Nobody needs it.';
"""


@pytest.fixture
def tree(tmp_path):
    """Today's schema, and one migration more."""
    root = tmp_path / "db"
    shutil.copytree(pgtest.ROOT / "db", root)
    (root / "migrations" / NAME).write_text(TEXT)
    script = root / "install.sql"
    step = f"\\set migration {NAME}\n\\ir _apply_migration.sql\n\n-- Views come first"
    text = script.read_text().replace("\n-- Views come first", step)
    assert NAME in text
    script.write_text(text)
    return root


def through_python(dsn: str, tree: Path) -> str:
    told: list[str] = []
    migrations.migrate(dsn, directory=tree, notice=told.append)
    return "\n".join(told)


def through_psql(dsn: str, tree: Path, text: str | None = None) -> str:
    source = ["-f", str(tree / "install.sql")] if text is None else ["-f", "-"]
    done = subprocess.run(
        [pgtest.client_program("psql"), "-X", "-q", "-o", "/dev/null", "-d", dsn, *source],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stderr


def as_one_text(dsn: str, tree: Path) -> str:
    return through_psql(dsn, tree, migrations.dump_sql(tree))


@pytest.mark.parametrize("install", [through_python, through_psql, as_one_text])
def test_it_waits_for_the_last_older_runner_and_then_keeps_them_out(dsn, conn, tree, install):
    queue = Queue(conn)
    old = queue.runner(name="old", protocol=2)
    queue.agent()
    job = queue.create()

    told = install(dsn, tree)

    assert "old (protocol 2)" in told
    assert "drain --outdated" in told
    assert not is_applied(queue)
    [claimed] = queue.claim(old)
    assert claimed["id"] == job["id"]

    queue.call("deregister_runner", runner_id=old)
    install(dsn, tree)

    assert is_applied(queue)
    with refused("PJ426", "serves 3 to 3"):
        queue.runner(name="old", protocol=2)
    queue.runner(name="new", protocol=3)


def test_what_is_left_for_later_is_pending_and_comes_with_the_next_install(dsn, conn, tree):
    queue = Queue(conn)
    old = queue.runner(name="old", protocol=2)

    outcome = migrations.migrate(dsn, directory=tree)

    assert (outcome.applied, outcome.postponed) == ([], [NAME])
    assert migrations.status(dsn, directory=tree).pending == [NAME]
    queue.call("deregister_runner", runner_id=old)
    assert migrations.migrate(dsn, directory=tree).applied == [NAME]


def test_an_older_runner_that_was_not_seen_for_a_lease_does_not_hold_it_up_and_ends_when_it_is_back(
    worker, dsn, conn, tree
):
    process = worker("--name", "asleep")
    pgtest.eventually(lambda: " is ready: " in process.output(), 60, what=process.output)
    pid = Queue(conn).value("select pid from persona.runners")
    os.kill(pid, signal.SIGSTOP)
    shift = "update persona.runners set last_seen_at = now() - lease - interval '1 second'"

    def is_left_behind():  # a heartbeat may still have been on its way
        conn.execute(shift)
        migrations.migrate(dsn, directory=tree)
        return is_applied(Queue(conn))

    pgtest.eventually(is_left_behind, 30)

    os.kill(pid, signal.SIGCONT)
    assert process.wait(60) == 78
    assert "speaks protocol 2, this schema serves 3 to 3" in process.output()


def test_runners_of_an_older_protocol_are_asked_to_end_and_no_others(conn):
    queue = Queue(conn)
    for name, protocol in (("old", 1), ("older", 1), ("new", 2), ("gone", 1)):
        queue.runner(name=name, protocol=protocol)
    queue.run(
        "update persona.runners set last_seen_at = now() - interval '1 day' where name = 'gone'"
    )

    assert [r["name"] for r in queue.rows("select name from persona.drain_outdated_runners() as name")] == [
        "old", "older",
    ]  # fmt: skip

    assert queue.rows("select name from persona.runners where drain_requested_at is not null order by 1") == [
        {"name": "old"}, {"name": "older"},
    ]  # fmt: skip


def is_applied(queue: Queue) -> bool:
    query = "select exists (select from persona.schema_migrations where name = %s)"
    return bool(queue.value(query, NAME))
