"""Calls of the command line without the start of a program.

Starting Python and importing psycopg and click takes most of the time of a command: a call of
`persona` costs 200 ms of a core as a new program, and a tenth of that as a fork of a process that
has imported everything.  It is a process of its own all the same, with the arguments, environment,
folder and streams that it was given.  The start of the real program is tested where it stands on a
terminal (`terminal`) or in the background (`popen`), in tests/docs and tests/bin.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from persona_pg import cli

# Of a program: its module and function.
PROGRAMS = {
    "persona": ("persona_pg.cli", "main"),
    "persona-migrate": ("persona_pg.cli.migrate", "main"),
}
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    sorted({f"persona_pg.cli.{module}" for module, _, _ in cli._COMMANDS.values()})
)


def run(program, *arguments, env, cwd=None, input=None, timeout=60, text=True):  # noqa: A002
    """Do what subprocess.run does, with one of PROGRAMS."""
    argv = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    with tempfile.TemporaryDirectory(prefix="call-") as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        given = b"" if input is None else input.encode() if isinstance(input, str) else input
        streams[0].write_bytes(given)
        call = (program, argv, env, str(cwd or Path.cwd()), [str(path) for path in streams])
        process = _server.Process(target=_become, args=call)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(argv, timeout)
        said = [path.read_bytes() for path in streams[1:]]
    if text:
        said = [part.decode().replace("\r\n", "\n") for part in said]
    return subprocess.CompletedProcess(argv, process.exitcode, *said)


def _become(program, argv, env, cwd, streams):
    """Turn this forked process into the program."""
    for number, (path, flags) in enumerate(
        zip(streams, (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT), strict=True)
    ):
        stream = os.open(path, flags, 0o600)
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    # As Python makes them where the locale is C.UTF-8.
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = argv
    module, function = PROGRAMS[program]
    getattr(importlib.import_module(module), function)()
