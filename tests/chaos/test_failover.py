"""A standby is promoted while the old primary is cut off: the runner follows by itself."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pgtest
import psycopg
import pytest
from chaos.proxy import Proxy
from chaos.world import LEASE, OWNER, Episode, new_world
from psycopg.conninfo import make_conninfo

from persona_pg.pgserver import Server
from persona_pg.queue import Queue
from persona_pg.runner import procfs

pytestmark = pytest.mark.timeout(120)


class Standby(pgtest.TemporaryServer):
    """A streaming copy of another server."""

    def __init__(self, primary):
        self.bin = primary.bin
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.folder.chmod(0o711)
        base = self.folder / "pg"
        base.mkdir(mode=0o700)
        subprocess.run(
            [
                self.bin / "pg_basebackup",
                "-h",
                primary.host,
                "-U",
                "postgres",
                "-R",
                "-c",
                "fast",
                "-X",
                "stream",
                "-D",
                base / "data",
            ],
            check=True,
            capture_output=True,
        )
        account = primary.server._account
        if account is not None:
            for path in (base, *base.rglob("*")):
                shutil.chown(path, account.uid, account.gid)
        self.server = Server(base, self.bin, options=pgtest.FAST, trust=True)
        self._reaper = self._start_reaper()
        self.server.start()


@pytest.fixture
def pair():
    """A world on a primary that commits only together with its standby, and the standby."""
    primary = pgtest.TemporaryServer()
    standby = None
    try:
        hba = primary.server.data / "pg_hba.conf"
        hba.write_text(hba.read_text() + "local replication all trust\n")
        primary.server.control("reload")
        with new_world(primary) as world:
            standby = Standby(primary)
            with world.superuser("postgres") as admin:
                admin.execute("alter system set synchronous_standby_names = '*'")
                admin.execute("select pg_reload_conf()")
                pgtest.eventually(
                    lambda: admin.execute(
                        "select 1 from pg_stat_replication where sync_state = 'sync'"
                    ).fetchone(),
                    what="the standby follows",
                )
            yield world, standby
    finally:
        if standby is not None:
            standby.close()
        primary.close()


def test_promotion_of_a_standby_while_the_old_primary_is_cut_off(pair):
    world, standby = pair
    second = Proxy(f"{standby.host}/.s.PGSQL.5432")
    dsn = make_conninfo(
        host="127.0.0.1,127.0.0.1",
        port=f"{world.proxy.port},{second.port}",
        user=OWNER,
        dbname=world.database,
        target_session_attrs="read-write",
        connect_timeout=2,
    )
    runner = world.runner("a", dsn=dsn)
    episode = Episode(world, None, "promotion")
    for _ in range(3):
        episode.create("plain", LEASE * 2.5, 30)
    pgtest.eventually(lambda: len(world.history.alive(episode.job_ids)) == 3, what="they run")
    for _ in range(3):
        episode.create("plain", 0.1, 3)
    episode.strike()

    world.proxy.refuse()
    standby.server.control("promote", "-w")
    # From here on the checker asks the new primary; nobody reaches the old one.
    old, world.server = world.server, standby
    world.queue.close()
    world.queue = Queue.connect(
        make_conninfo(host=standby.host, port=5432, user=OWNER, dbname=world.database)
    )
    with psycopg.connect(
        host=standby.host, port=5432, user="postgres", dbname=world.database, autocommit=True
    ) as admin:
        admin.execute("alter system set synchronous_standby_names = ''")
        admin.execute("select pg_reload_conf()")
    episode.over()
    try:
        pgtest.eventually(lambda: "connected to the database again" in runner.output(), 20)
        took = procfs.boottime() - episode.over_at
        episode.finish()
    finally:
        runner.stop()
        second.close()
        time.sleep(0.1)
        world.server = old
        # Nobody confirms its commits any more, and its database is to be dropped.
        with world.superuser("postgres") as admin:
            admin.execute("alter system set synchronous_standby_names = ''")
            admin.execute("select pg_reload_conf()")

    assert episode.broken == []
    runs = world.history.executions(episode.job_ids)
    assert [len(runs[hit.start.job_id]) for hit in episode.affected] == [1, 1, 1]
    assert took < 10
