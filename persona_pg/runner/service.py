"""The runner as a process: configuration, lock, logging, exit codes; the work is in loop.py."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

import psycopg

from persona_pg import connections, settings
from persona_pg.errors import ConfigurationError, PersonaError
from persona_pg.runner import lockfile, logs, tree
from persona_pg.runner.main import EXIT_CONFIGURATION, EXIT_TRY_LATER
from persona_pg.runner.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.runner.guardian_link import GuardianLink
    from persona_pg.settings import Settings

log = logging.getLogger("persona.runner")


def prepare(options: Options, answer: int) -> int:
    """Check the configuration, see that there is a database; write to *answer* what `run` takes."""
    from persona_pg import embedded

    def work() -> int:
        loaded = settings.load()
        _name(options)
        dsn = embedded.resolve_dsn(loaded)
        connections.refuse_transaction_pooler(dsn)
        prepared = json.dumps([dsn, options]).encode()
        with open(answer, "wb") as pipe:
            pipe.write(prepared)
        return 0

    return _said(work)


def run(link: GuardianLink, prepared: bytes) -> int:
    """Be the runner; returns the exit code."""
    dsn, (agents, *others) = json.loads(prepared)
    options = Options(tuple(agents), *others)

    def work() -> int:
        loaded = settings.load()
        name = _name(options)
        logs.set_up(loaded.log_format, name)
        lock = lockfile.acquire(loaded.home / "runners" / f"{name}.lock", instance=link.instance)
        if isinstance(lock, lockfile.HeldBy):
            sys.stderr.write(f"persona-worker: {lock.describe()}\n")
            return EXIT_TRY_LATER
        link.hold(lock.fd)
        killed = tree.kill_instances(lock.left_instances)
        lock.settle()
        if killed:
            log.warning("killed %d process(es) that the last runner left behind", len(killed))
        return _serve(link, options, dsn, loaded, name, predecessor=lock.dead_owner)

    return _said(work)


def _serve(
    link: GuardianLink,
    options: Options,
    dsn: str,
    loaded: Settings,
    name: str,
    *,
    predecessor: lockfile.Owner | None,
) -> int:
    from persona_pg.runner.loop import Runner

    async def serve() -> int:
        runner = Runner(link, loaded, dsn, name=name, options=options, predecessor=predecessor)
        return await runner.run()

    try:
        return asyncio.run(serve())
    except psycopg.Error as exc:
        # What is left here is what waiting does not cure: a wrong password, a missing database.
        words = connections.masked(" ".join(str(exc).split()), dsn)
        raise ConfigurationError(f"the database refuses the runner: {words}") from None


def _said(work: Callable[[], int]) -> int:
    """Do the work; what is foreseen to go wrong is one line and an exit code."""
    try:
        return work()
    except PersonaError as exc:
        hint = f"; {exc.hint}" if exc.hint else ""
        sys.stderr.write(f"persona-worker: {exc}{hint}\n")
        if os.environ.get("PERSONA_DEBUG") == "1":
            raise
        return exc.exit_code
    except OSError as exc:
        sys.stderr.write(f"persona-worker: {exc}\n")
        return EXIT_CONFIGURATION


def _name(options: Options) -> str:
    name = options.name or socket.gethostname()
    if "/" in name or not name.strip() or len(name) > 200 or not name.isprintable():
        raise ConfigurationError(
            f"--name {name[:200]!r}: 1 to 200 printable characters without '/' are needed"
        )
    return name
