"""Stands in for `claude` on PATH: stores what it was given, and answers like the real one.

Each call leaves `calls/N/stdin`, `calls/N/argv.json` and `calls/N/about.json` (environment, working
directory, what standard input is) beside this file.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path


def main() -> None:
    calls = Path(__file__).resolve().parent / "calls"
    calls.mkdir(exist_ok=True)
    folder = _next_folder(calls)
    given = sys.stdin.buffer.read()
    (folder / "stdin").write_bytes(given)
    (folder / "argv.json").write_text(json.dumps(sys.argv[1:]))
    about = {
        "env": dict(os.environ),
        "cwd": str(Path.cwd()),
        "stdin_is_file": stat.S_ISREG(os.fstat(0).st_mode),
        "leads_its_session": os.getsid(0) == os.getpid() == os.getpgid(0),
    }
    (folder / "about.json").write_text(json.dumps(about))
    result = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "num_turns": 1,
        "result": f"{len(given)} bytes, sha256 {hashlib.sha256(given).hexdigest()}",
        "session_id": "11111111-2222-3333-4444-555555555555",
        "total_cost_usd": 0.01,
        "usage": {"input_tokens": len(given), "output_tokens": 1},
        "permission_denials": [],
    }
    print(json.dumps(result))


def _next_folder(calls: Path) -> Path:
    """Make the folder of this call; several may be begun at once."""
    for number in itertools.count(len(list(calls.iterdir()))):
        folder = calls / str(number)
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


if __name__ == "__main__":
    main()
