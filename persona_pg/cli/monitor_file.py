"""The status file: one JSON document that a status bar may read at any moment."""

from __future__ import annotations

import fcntl
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from persona_pg import wholefile
from persona_pg.errors import ConfigurationError, TryLater

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path

_READABLE = 0o644


class StatusFile:
    """Keeps a file up to date: each version is written beside it and takes its name.

    A reader sees a whole version, always; a second writer of the same file is refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: TextIOWrapper | None = None
        self._revision = 0

    def __enter__(self) -> Self:
        lock = self._path.with_name(f".{self._path.name}.lock")
        try:
            self._lock = lock.open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TryLater(
                f"another persona-monitor keeps {self._path} up to date",
                hint="give this one another --status-file",
            ) from None
        except OSError as exc:
            raise ConfigurationError(
                f"--status-file: cannot write to {self._path.parent}: {exc.strerror}"
            ) from exc
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def write(self, snapshot: dict[str, Any]) -> None:
        """Put a new version in the place of the last one."""
        self._revision += 1
        document = _of_the_first_system(snapshot) | snapshot | {"revision": self._revision}
        text = f"{json.dumps(document, ensure_ascii=False)}\n"
        wholefile.write(self._path, text.encode(), _READABLE)


def _of_the_first_system(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Write the keys of the first system's progress.json, of the job that started last.

    The questions are those of the last hour: what has ended in it, and what is not done yet.
    """
    summary = snapshot["summary"]
    ended = sum(snapshot["completedByMinute"]) + sum(snapshot["failedByMinute"])
    running, last = snapshot["running"], snapshot["recentEnds"]
    job = running[0] if running else last[0] if last else None
    if job is None:
        status, activity = "idle", None
    elif running:
        status, activity = "running", job["progressText"] or job["task"]
    else:
        status, activity = job["outcome"], job["error"] or job["task"]
    return {
        "agent": job and job["agent"],
        "action": job and job["type"],
        "status": status,
        "started": job and job["startedAt"],
        "ended": job.get("endedAt") if job else None,
        "questions_total": ended + summary["pending"] + summary["running"],
        "questions_completed": ended,
        "current_activity": activity,
        "last_updated": datetime.now().astimezone().isoformat(timespec="milliseconds"),
    }
