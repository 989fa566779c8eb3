"""The edge: every error becomes one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from persona_pg.errors import PersonaError, one_line, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE has ended


def run(command: click.Command, args: Sequence[str], name: str = "persona") -> int:
    """Run the command of that name; return the exit code of the process."""
    _speak_utf8()
    try:
        # Not command.main(): that one turns a broken pipe and an interrupt into exit 1.
        with command.make_context(name, list(args)) as ctx:
            command.invoke(ctx)
        code = 0
    except BrokenPipeError:
        return _quiet()
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        code = INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the last line of defence
        code = _explain(exc)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _quiet()
    except OSError as exc:
        # A full disk: half an answer is none.
        say(f"cannot write the answer: {exc.strerror}")
        return code or 1
    return code


def _explain(exc: Exception) -> int:
    """Say in one line what went wrong and what to do; return the exit code."""
    if isinstance(exc, click.exceptions.Exit):
        return exc.exit_code
    if os.environ.get("PERSONA_DEBUG") == "1":
        traceback.print_exception(exc)
    if isinstance(exc, PersonaError):
        say(with_hint(exc))
        return exc.exit_code
    if isinstance(exc, click.ClickException):
        words = one_line(exc.format_message()).rstrip(".")
        ctx = exc.ctx if isinstance(exc, click.UsageError) else None
        say(words if ctx is None else f"{words} (see {ctx.command_path} --help)")
        return exc.exit_code
    words = one_line(str(exc)) or "unexpected"
    say(f"{words} ({type(exc).__name__}; PERSONA_DEBUG=1 shows where)")
    return 1


def say(text: str) -> None:
    """Tell the person something; stderr is for talk, stdout for answers."""
    with contextlib.suppress(BrokenPipeError):
        print(f"persona: {text}", file=sys.stderr, flush=True)  # noqa: T201 - this is the place


def _quiet() -> int:
    """Leave no complaint behind when the reader of stdout is gone."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _speak_utf8() -> None:
    """Print what a stream's encoding lacks as an escape instead of failing in mid-listing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
