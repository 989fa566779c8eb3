"""The command line of persona-worker: read by a process that is gone before the runner begins."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from persona_pg.runner.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(argv: Sequence[str]) -> Options:
    """Return what is asked for; SystemExit where that is help, or where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="persona-worker",
        description="Claims jobs and runs them. SIGTERM: take no more jobs, let the running ones"
        " finish, then end; a second SIGTERM gives them back at once. SIGHUP: read the"
        " configuration again.",
        epilog="The configuration comes from the environment and .env; `persona config` shows it.",
    )
    parser.add_argument(
        "-a", "--agent", action="append", default=[], metavar="AGENT",
        help="serve only this agent; may be given more than once (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "-c", "--concurrency", type=_positive, metavar="N",
        help="jobs at once (default: WORKER_CONCURRENCY, else 3)",
    )  # fmt: skip
    parser.add_argument(
        "--name", help="stable name of this runner on this machine (default: the host name)"
    )
    parser.add_argument("--drain", action="store_true", help="end when nothing claimable is left")
    parser.add_argument("--once", action="store_true", help="run at most one job, then end")
    parser.add_argument("-v", "--verbose", action="store_true", help="log each job's start and end")
    given = parser.parse_args(argv)
    return Options(
        agents=tuple(given.agent),
        concurrency=1 if given.once else given.concurrency,
        name=given.name,
        drain=given.drain or given.once,
        once=given.once,
        verbose=given.verbose,
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1 to 1000 is needed")
    return int(text)
