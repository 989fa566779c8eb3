"""`persona-worker`: reads its options, prepares the database, and becomes guardian and runner.

The process that a person starts stays behind as the guardian and so imports next to nothing; the
runner is its child. The embedded server is started by a third process before either exists: below
them it would look like something that a job left behind.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from persona_pg.runner.guardian_link import GuardianLink

EXIT_TRY_LATER = 75
EXIT_CONFIGURATION = 78


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of persona-worker."""

    agents: tuple[str, ...]
    concurrency: int | None
    name: str | None
    drain: bool
    once: bool
    verbose: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run a runner until it is told to end; returns its exit code."""
    options = _parse(sys.argv[1:] if argv is None else list(argv))
    if os.environ.get("PERSONA_JOB_ID"):
        sys.stderr.write(
            "persona-worker: refused to start inside a job (PERSONA_JOB_ID is set): it would be"
            " killed with the job; start it from outside\n"
        )
        return EXIT_CONFIGURATION
    dsn = _database(options)
    if isinstance(dsn, int):
        return dsn

    from persona_pg.runner import guardian

    def runner(link: GuardianLink) -> int:
        from persona_pg.runner import service

        return service.run(link, options, dsn)

    return guardian.run(runner)


def _parse(argv: list[str]) -> Options:
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


def _database(options: Options) -> str | int:
    """Return the address of the database, or the exit code of what was wrong.

    In a process of its own, whose memory and modules are gone afterwards.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            from persona_pg.runner import service

            code = service.prepare(options, write)
        except BaseException:  # noqa: BLE001 - nobody else would tell
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        dsn = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return dsn if code == 0 else code if code > 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
