"""A pgbouncer for the tests: in front of any database of the test server, in the mode wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from pgtest import eventually
from psycopg.conninfo import make_conninfo

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

_CONFIGURATION = """\
[databases]
* = host={host} port={port}
[pgbouncer]
unix_socket_dir = {folder}
unix_socket_mode = 0777
listen_addr =
listen_port = 6432
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
# A database that is dropped at once would wait for nobody.
server_idle_timeout = 5
logfile = {folder}/log
"""


def start(where, mode, **options):
    """Start one, or skip the test where there is none."""
    if PROGRAM is None:
        pytest.skip("there is no pgbouncer on this machine")
    return Pooler(where, mode, **options)


class Pooler:
    """A running pgbouncer; dsn(...) is the way through it."""

    def __init__(self, where, mode="transaction", *, size=20):
        self.folder = Path(tempfile.mkdtemp(prefix="pooler-", dir="/tmp"))
        self._values = {
            "host": where["host"],
            "port": where.get("port") or "5432",
            "folder": self.folder,
            "size": size,
        }
        users = ("persona", "postgres", "nobody_at_all")
        (self.folder / "users").write_text("".join(f'"{user}" ""\n' for user in users))
        self._argv = [PROGRAM, "-q", self.folder / "pgbouncer.ini"]
        if os.geteuid() == 0:  # it refuses to be root, and must reach the server's socket
            account = Path(where["host"]).owner() if where["host"].startswith("/") else "nobody"
            shutil.chown(self.folder, account)
            self._argv[1:1] = ["-u", account]
        self.folder.chmod(0o755)
        self._start(mode)

    def _start(self, mode):
        text = _CONFIGURATION.format(**self._values, mode=mode)
        (self.folder / "pgbouncer.ini").write_text(text)
        self._process = subprocess.Popen(self._argv, stderr=subprocess.DEVNULL)
        eventually((self.folder / ".s.PGSQL.6432").exists, what=self.log)

    def restart(self, mode):
        """Break every connection, and go on in another mode."""
        self._stop()
        self._start(mode)

    def dsn(self, dsn):
        return make_conninfo(dsn, host=str(self.folder), port="6432")

    def log(self):
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    def _stop(self):
        self._process.terminate()  # which ends it at once: INT would wait for transactions
        self._process.wait(10)

    def close(self):
        self._stop()
        shutil.rmtree(self.folder)
