"""Fixtures: `persona mcp` behind the official SDK's client, one server a module."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from anyio.from_thread import start_blocking_portal
from mcp import Client, StdioServerParameters
from sqltest import Queue

PERSONA = shutil.which("persona", path=str(Path(sys.executable).parent))


class Tools:
    """The client of the SDK, called from a thread of its own."""

    def __init__(self, portal, client):
        self._portal = portal
        self._client = client

    def list(self):
        return {tool.name: tool for tool in self._portal.call(self._client.list_tools).tools}

    def begin(self, name, **arguments):
        """Start a call; returns its future."""
        return self._portal.start_task_soon(self._client.call_tool, name, arguments)

    def answer(self, name, **arguments):
        """Call a tool that must succeed; returns the text."""
        result = self.begin(name, **arguments).result(60)
        assert not result.is_error, result.content[0].text
        return result.content[0].text

    def data(self, name, **arguments):
        return json.loads(self.answer(name, **arguments))

    def refusal(self, name, **arguments):
        """Call a tool that must fail; returns what it said."""
        result = self.begin(name, **arguments).result(60)
        assert result.is_error, result.content[0].text
        return result.content[0].text


@contextmanager
def connected(*arguments, **env):
    """Start a server and a client."""
    env = {"PERSONA_ENV_FILE": os.devnull, "PATH": os.environ["PATH"]} | env
    server = StdioServerParameters(command=PERSONA, args=["mcp", *arguments], env=env)
    with start_blocking_portal() as portal, ExitStack() as stack:
        client = Client(server, read_timeout_seconds=60)
        yield Tools(portal, stack.enter_context(portal.wrap_async_context_manager(client)))


@pytest.fixture
def start_server(tmp_path):
    """Start a server of the test's own."""
    with ExitStack() as stack:
        yield lambda *arguments, **env: stack.enter_context(
            connected(*arguments, **({"HOME": str(tmp_path)} | env))
        )


@pytest.fixture(scope="module")
def module_dsn(databases, postgresql_noproc):
    """A database for the whole module."""
    name = databases.create(postgresql_noproc.template_dbname)
    yield databases.dsn(name)
    databases.drop(name)


@pytest.fixture(scope="module")
def queue(module_dsn):
    """The same database by SQL, with an agent called a."""
    with psycopg.connect(module_dsn, autocommit=True) as conn:
        found = Queue(conn)
        found.agent(description="Does what the tests want.")
        yield found


@pytest.fixture(scope="module")
def socket_folder(module_dsn, tmp_path_factory):
    """A way to the server that can be taken away: its socket by another name."""
    given = psycopg.conninfo.conninfo_to_dict(module_dsn)
    folder = tmp_path_factory.mktemp("way")
    link = folder / ".s.PGSQL.5432"
    link.symlink_to(Path(given["host"]) / ".s.PGSQL.5432")
    return folder


@pytest.fixture(scope="module")
def tools(module_dsn, socket_folder, queue):
    """The tools outside of jobs."""
    dsn = psycopg.conninfo.make_conninfo(module_dsn, host=str(socket_folder))
    with connected(PERSONA_DATABASE_URL=dsn, HOME=str(socket_folder)) as found:
        yield found
