"""A standby is promoted while the old primary is cut off: the runner follows by itself."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pgtest
import psycopg
import pytest
from chaos.proxy import Proxy
from chaos.world import LEASE, OWNER, Episode, Runner, new_world
from psycopg.conninfo import make_conninfo

from persona_pg.pgserver import Server
from persona_pg.queue import Queue
from persona_pg.runner import procfs

pytestmark = pytest.mark.timeout(120)


class Standby(pgtest.TemporaryServer):
    """A streaming copy of another server."""

    def __init__(self, primary):
        self.bin = primary.bin
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=pgtest.place_for_servers()))
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
def pair(request):
    """A world on a primary, and its standby, without which it commits nothing; or does, if told."""
    names = "" if getattr(request, "param", "") == "asynchronous" else "*"
    primary = pgtest.TemporaryServer()
    standby = None
    try:
        hba = primary.server.data / "pg_hba.conf"
        hba.write_text(hba.read_text() + "local replication all trust\n")
        primary.server.control("reload")
        with new_world(primary) as world:
            standby = Standby(primary)
            with world.superuser("postgres") as admin:
                admin.execute(f"alter system set synchronous_standby_names = '{names}'")
                admin.execute("select pg_reload_conf()")
                wanted = "sync" if names else "async"
                pgtest.eventually(
                    lambda: admin.execute(
                        "select 1 from pg_stat_replication where sync_state = %s", (wanted,)
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


@pytest.mark.parametrize("pair", ["asynchronous"], indirect=True)
def test_p2_a_claim_whose_commit_a_failover_lost_starts_nothing_beside_its_execution(pair):
    world, standby = pair
    old = world.server
    lost = world.runner("lost", via_proxy=True)  # it never hears of the new primary
    job = world.create("plain", LEASE + 1, 5, run_at=datetime.now(UTC) + timedelta(seconds=2))
    new = make_conninfo(host=standby.host, port=5432, user=OWNER, dbname=world.database)
    follower = make_conninfo(new, user="postgres")
    with psycopg.connect(follower, autocommit=True) as admin:
        query = "select 1 from persona.jobs where id = %s"
        pgtest.eventually(lambda: admin.execute(query, (job,)).fetchone(), what="it is copied")
        admin.execute("alter system set primary_conninfo = ''")
        admin.execute("select pg_reload_conf()")
        pgtest.eventually(
            lambda: not admin.execute("select 1 from pg_stat_wal_receiver").fetchone(),
            what="it is cut off",
        )
    heir = Runner(world, "heir", dsn=new).start(wait=False)  # it waits for a server that writes
    try:
        pgtest.eventually(lambda: "next try" in heir.output(), 20, what=heir.output)
        pgtest.eventually(lambda: world.history.alive([job]), what="it runs")
        world.proxy.refuse()
        standby.server.control("promote", "-w")
        world.server = standby
        assert world.states([job])[job] in ("pending", "running")  # the new one knows no claim
        assert world.wait_ended([job], 30) == []
        assert world.states([job])[job] == "completed"
    finally:
        heir.stop()
        for pid in (lost.pid, lost.guardian):  # it has a result that nobody will take
            lost.kill(pid)
        world.server = old
    assert world.history.overlaps([job]) == []
    first, second = world.history.executions([job])[job]
    assert first.end is None
    assert second.end is not None
