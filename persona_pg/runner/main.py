"""`persona-worker`: prepares the database, and becomes guardian and runner.

The process that a person starts stays behind as the guardian and so imports next to nothing; the
runner is its child. A third process, which is gone before either exists, reads the command line and
starts the embedded server: below them that would look like something that a job left behind.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing would cost the guardian a megabyte
if TYPE_CHECKING:
    from collections.abc import Sequence

    from persona_pg.runner.guardian_link import GuardianLink

EXIT_TRY_LATER = 75
EXIT_CONFIGURATION = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Run a runner until it is told to end; returns its exit code."""
    code, prepared = _prepare(sys.argv[1:] if argv is None else list(argv))
    if not prepared:
        return code

    from persona_pg.runner import guarded

    def runner(link: GuardianLink) -> int:
        from persona_pg.runner import service

        return service.run(link, prepared)

    return guarded.run(runner)


def _prepare(argv: Sequence[str]) -> tuple[int, bytes]:
    """Return the exit code, and what the runner is told; that is empty where there is to be none.

    In a process of its own, whose memory and modules are gone afterwards.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            code = _prepare_here(argv, write)
        except SystemExit as exc:  # argparse: help was asked for, or something is wrong
            code = exc.code if isinstance(exc.code, int) else 1
        except BaseException:  # noqa: BLE001 - nobody else would tell
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:  # noqa: PTH123 - pathlib knows no descriptors
        prepared = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (code, prepared) if code == 0 else (code if code > 0 else 128 - code, b"")


def _prepare_here(argv: Sequence[str], answer: int) -> int:
    from persona_pg.runner import commandline

    options = commandline.parse(argv)
    if os.environ.get("PERSONA_JOB_ID"):
        sys.stderr.write(
            "persona-worker: refused to start inside a job (PERSONA_JOB_ID is set): it would be"
            " killed with the job; start it from outside\n"
        )
        return EXIT_CONFIGURATION

    from persona_pg.runner import service

    return service.prepare(options, answer)


if __name__ == "__main__":
    sys.exit(main())
