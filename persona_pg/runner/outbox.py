"""What the server has yet to acknowledge: log lines and reports of ended executions.

Nothing leaves before its acknowledgement, so an outage of the database loses nothing; the server
stores a line or a report that comes twice only once. Lines are kept as the JSON they are sent as.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Above the first, outputs are no longer read, so that jobs wait in their writes; below the second
# they are read again.
PAUSE_BYTES = 8 << 20
RESUME_BYTES = 4 << 20
# Upper bounds of one exchange, so that heartbeats never wait long behind it.
_BATCH_LINES = 5000
_BATCH_BYTES = 1 << 20
_BATCH_REPORTS = 500

UPDATE_FAILED = "Status update failed after retries"

# U+0000 cannot be stored in PostgreSQL's text, and a lone surrogate is no character.
_UNSTORABLE = {0: "�", **dict.fromkeys(range(55296, 57344), "�")}


def storable(value: Any) -> Any:
    """Return *value* with the characters replaced that PostgreSQL cannot store."""
    if isinstance(value, str):
        return value if value.isascii() and "\0" not in value else value.translate(_UNSTORABLE)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


@dataclass(slots=True)
class LogWriter:
    """Numbers the log lines of one execution and puts them into the outbox."""

    outbox: Outbox
    job_id: str
    lease: int
    seq: int = 0  # of the last line
    _head: str = field(init=False)

    def __post_init__(self) -> None:
        """Encode once what all lines share."""
        self._head = f'{{"job_id":"{self.job_id}","lease":{self.lease},"seq":'

    def write(
        self, stream: str, level: str, message: str, *, is_part: bool = False, details: Any = None
    ) -> None:
        """Add a line: stream is stdout, stderr or system."""
        self.seq += 1
        metadata = details if details is not None else ({"part": True} if is_part else None)
        tail = "" if metadata is None else f',"metadata":{json.dumps(storable(metadata))}'
        at = datetime.now(UTC).isoformat()
        self.outbox.add_line(
            self,
            f'{self._head}{self.seq},"at":"{at}","stream":"{stream}","level":"{level}",'
            f'"message":{json.dumps(storable(message))}{tail}}}',
        )


class Outbox:
    """Lines and reports in the order they came, until they are acknowledged."""

    def __init__(self, *, on_line: Callable[[], None]) -> None:
        self._on_line = on_line
        self._batch_lines = _BATCH_LINES
        self._lines: deque[tuple[LogWriter, str]] = deque()
        self._line_bytes = 0
        self._reports: dict[tuple[str, int], tuple[LogWriter, dict[str, Any]]] = {}
        self._sent_reports: list[tuple[str, int]] = []
        # How many lines and reports have left so far.
        self.acknowledged = 0

    @classmethod
    def restored(cls, lines: Iterable[str], reports: Iterable[dict[str, Any]]) -> Outbox:
        """Make one of what `waiting_lines` and `waiting_reports` said."""
        outbox = cls(on_line=lambda: None)
        writers: dict[tuple[str, int], LogWriter] = {}

        def writer_of(item: dict[str, Any]) -> LogWriter:
            key = str(item["job_id"]), int(item["lease"])
            return writers.setdefault(key, LogWriter(outbox, *key))

        for line in lines:
            item = json.loads(line)
            writer = writer_of(item)
            writer.seq = max(writer.seq, int(item["seq"]))
            outbox.add_line(writer, line)
        for report in reports:
            outbox.add_report(writer_of(report), report)
        return outbox

    def waiting_lines(self) -> Iterable[str]:
        """Return each line that waits, as JSON."""
        return (line for _, line in self._lines)

    def waiting_reports(self) -> Iterable[str]:
        """Return each report that waits, as JSON."""
        return (json.dumps(storable(report)) for _, report in self._reports.values())

    @property
    def report_count(self) -> int:
        """How many reports wait."""
        return len(self._reports)

    @property
    def has_full_batch(self) -> bool:
        """Tell whether as many log lines wait as go out at once."""
        return len(self._lines) >= self._batch_lines or self._line_bytes >= _BATCH_BYTES

    @property
    def has_reports(self) -> bool:
        """Tell whether reports wait, if only for their lines to go first."""
        return bool(self._reports)

    @property
    def line_bytes(self) -> int:
        """Size of the waiting log lines."""
        return self._line_bytes

    @property
    def unreported(self) -> Iterable[tuple[str, int]]:
        """Ended executions whose report is not acknowledged: (job id, lease)."""
        return self._reports.keys()

    @property
    def is_empty(self) -> bool:
        """Tell whether everything is acknowledged."""
        return not self._lines and not self._reports

    def add_line(self, writer: LogWriter, line: str) -> None:
        """Take one encoded line."""
        self._lines.append((writer, line))
        self._line_bytes += len(line)
        self._on_line()

    def add_report(self, writer: LogWriter, report: dict[str, Any]) -> None:
        """Take the report of an ended execution; it is sent once its lines have arrived."""
        self._reports[report["job_id"], report["lease"]] = writer, report

    def next_lines(self) -> tuple[int, str] | None:
        """Return how many lines are next, and those lines as a JSON array."""
        count = size = 0
        for _, line in self._lines:
            if count == self._batch_lines or (count and size + len(line) > _BATCH_BYTES):
                break
            count += 1
            size += len(line)
        if not count:
            return None
        return count, "[" + ",".join(self._lines[i][1] for i in range(count)) + "]"

    def lines_done(self, count: int) -> None:
        """Forget the first *count* lines: they are stored, or will never be."""
        self._batch_lines = _BATCH_LINES
        self.acknowledged += count
        for _ in range(count):
            _, line = self._lines.popleft()
            self._line_bytes -= len(line)

    def narrow_lines(self, count: int) -> bool:
        """Send half as many next time, as the last batch was refused; False: one line, dropped."""
        if count > 1:
            self._batch_lines = count // 2
            return True
        self.lines_done(1)
        return False

    def next_reports(self, lines_in_flight: int, *, only_one: bool = False) -> str | None:
        """Return as JSON the reports whose lines are all sent, those *in flight* included."""
        if not self._reports:
            return None
        waiting = {id(writer) for writer, _ in itertools.islice(self._lines, lines_in_flight, None)}
        ready = (report for writer, report in self._reports.values() if id(writer) not in waiting)
        batch = list(itertools.islice(ready, 1 if only_one else _BATCH_REPORTS))
        self._sent_reports = [(report["job_id"], report["lease"]) for report in batch]
        return json.dumps(storable(batch)) if batch else None

    def replace_report(self, refusal: str) -> None:
        """Make of the report that was sent last, alone, and refused, a plain failure."""
        (key,) = self._sent_reports
        writer, report = self._reports.pop(key)
        if report.get("error") == UPDATE_FAILED:
            return  # Refused twice: the lease runs out, and the job is recovered as orphaned.
        writer.write("system", "error", f"{UPDATE_FAILED}: {refusal}")
        self._reports[key] = (
            writer,
            {
                "job_id": report["job_id"],
                "lease": report["lease"],
                "outcome": "failed",
                "error": UPDATE_FAILED,
                "failure_kind": "unknown",
            },
        )

    def report_done(self, job_id: str, lease: int) -> None:
        """Forget a report: it is applied, or was refused for good."""
        if self._reports.pop((job_id, lease), None) is not None:
            self.acknowledged += 1
