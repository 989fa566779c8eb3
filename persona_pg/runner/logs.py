"""The runner's own log: lines for people, JSON lines, or entries of the journal with their fields.

What a line is about (a job, its agent) is given as `extra=about(job)` and becomes fields; the
message says it too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JOURNAL = "/run/systemd/journal/socket"
_IDENTIFIER = "persona-worker"
_TEXT = "%(asctime)s %(levelname)s %(message)s"
# Of a claimed job: our names, which are those of the job's environment too.
_FIELDS = {
    "job_id": "id", "short_id": "short_id", "job_type": "job_type", "agent": "agent",
    "attempt": "attempt", "business": "business",
}  # fmt: skip
# See syslog(3).
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
_CRITICAL = 2


def about(job: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return what a line about this job has as fields."""
    fields = {name: job[key] for name, key in _FIELDS.items() if job.get(key) is not None}
    return {"about": fields | more}


def set_up(
    kind: str, runner: str, *, environ: Mapping[str, str] = os.environ, stream: TextIO = sys.stderr
) -> None:
    """Send the log where it belongs: *kind* is auto, text, json or journald."""
    is_journal = kind == "journald" or (kind == "auto" and _is_journal(environ, stream))
    handler: logging.Handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines(runner) if kind == "json" else logging.Formatter(_TEXT))
    if is_journal:
        handler = Journal(runner, instead=handler)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Lines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, runner: str) -> None:
        super().__init__()
        self._runner = runner

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "runner": self._runner,
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Journal(logging.Handler):
    """Writes to journald in its own protocol; *instead* where that cannot be reached."""

    def __init__(self, runner: str, *, instead: logging.Handler, path: str = JOURNAL) -> None:
        super().__init__()
        self._runner = runner
        self._instead = instead
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one entry."""
        try:
            self._socket.sendto(b"".join(self._entry(record)), self._path)
        except OSError:
            self._instead.handle(record)

    def _entry(self, record: logging.LogRecord) -> Iterator[bytes]:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        yield _field("MESSAGE", message)
        yield _field("PRIORITY", str(_PRIORITIES.get(record.levelno, _CRITICAL)))
        yield _field("SYSLOG_IDENTIFIER", _IDENTIFIER)
        yield _field("PERSONA_RUNNER", self._runner)
        for name, value in getattr(record, "about", {}).items():
            yield _field(f"PERSONA_{name.upper()}", str(value))

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
        super().close()


def _field(name: str, value: str) -> bytes:
    """Write a field: a line, or with its length where a line would not do."""
    data = value.encode("utf-8", "replace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def _is_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Tell whether what we write to the stream ends in the journal: systemd says its file."""
    with contextlib.suppress(OSError, ValueError):
        status = os.fstat(stream.fileno())
        return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False
