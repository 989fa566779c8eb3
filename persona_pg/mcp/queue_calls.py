"""What the tools of the queue do: calls of the client, in threads, for it is a blocking one.

The database is opened by the first call that needs it, and again after it was lost: a server
without its database goes on and says so.
"""

from __future__ import annotations

import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from anyio import CapacityLimiter, to_thread

from persona_pg.errors import PersonaError, one_line, with_hint
from persona_pg.mcp.queue_tools import brief, payload_of
from persona_pg.mcp.tool import Arguments, ToolError
from persona_pg.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.queue import Queue

T = TypeVar("T")

# A model that waits for an answer is better off with an error soon.
_PATIENCE = 5.0
_MOST_WAITS = 20
_WAIT_SECONDS = 50
_JOBS, _LINES = 20, 50


class QueueCalls:
    """The queue behind the tools; *open_queue* opens it when it is first needed."""

    def __init__(self, open_queue: Callable[[], Queue]) -> None:
        self._open = open_queue
        self._queue: Queue | None = None
        # One connection: one call at a time.
        self._lock = threading.Lock()
        self._waits = CapacityLimiter(_MOST_WAITS)

    async def rpc(self, command: str, body: Arguments, *, changes: bool = False) -> Any:
        """Execute a command of the JSON door."""
        return await self._in_thread(partial(self._rpc, command, body, changes=changes))

    async def create(self, given: Arguments) -> Any:
        """Create a job."""
        return await self._in_thread(partial(self._create, given))

    async def list_jobs(self, given: Arguments) -> Any:
        """List jobs."""
        found = await self.rpc("list", {"limit": _JOBS, **given})
        return {"jobs": [brief(job) for job in found["jobs"]]}

    async def logs(self, given: Arguments) -> str:
        """Return log lines as text, and where to go on."""
        body = dict(given)
        lines = body.pop("lines", _LINES)
        goes_on = "afterLease" in body or "afterSeq" in body
        found = await self.rpc("logs", {**body, "limit" if goes_on else "tail": lines})
        cursor = found["cursor"]
        return "".join(_line(line) for line in found["lines"]) + (
            f"[{len(found['lines'])} lines; go on with"
            f" afterLease={cursor['lease']}, afterSeq={cursor['seq']}]"
        )

    async def wait(self, given: Arguments) -> Any:
        """Wait for jobs; whoever gives the call up ends the wait."""
        here, there = socket.socketpair()
        with here:
            return await to_thread.run_sync(
                partial(self._guarded, partial(self._wait, given, there)),
                abandon_on_cancel=True,
                limiter=self._waits,
            )

    # In a thread

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(partial(self._guarded, work), abandon_on_cancel=True)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except PersonaError as exc:
            raise ToolError(with_hint(exc)) from exc
        except psycopg.Error as exc:
            raise ToolError(one_line(exc.diag.message_primary or str(exc))) from exc

    def _with_queue(self, work: Callable[[Queue], T]) -> T:
        with self._lock:
            if self._queue is None:
                self._queue = self._open()
                self._queue.database.patience = _PATIENCE
            return work(self._queue)

    def _rpc(self, command: str, body: Arguments, *, changes: bool = False) -> Any:
        answer = self._with_queue(lambda queue: queue.rpc(command, body, repeatable=not changes))
        if answer["ok"]:
            return answer["data"]
        error = answer["error"]
        raise PersonaError(error["message"], detail=error["detail"], hint=error.get("hint"))

    def _create(self, given: Arguments) -> Any:
        def work(queue: Queue) -> Any:
            after = given.get("after")
            parent = given.get("parent")
            job = queue.create_job(
                given["type"],
                payload_of(given),
                agent=given.get("agent"),
                priority=given.get("priority"),
                delay=given.get("delay"),
                run_at=given.get("runAt"),
                timeout=given.get("timeout"),
                idle_timeout=given.get("idleTimeout"),
                max_attempts=given.get("maxAttempts"),
                depends_on=[queue.resolve_job(ref) for ref in after] if after else None,
                depends_policy="finished" if given.get("afterAny") else None,
                parent_job_id=None if parent is None else queue.resolve_job(parent),
                dedupe_key=given.get("dedupeKey"),
                lock_key=given.get("lockKey"),
                limit_key=given.get("limitKey"),
                tags=given.get("tags"),
                source_file=given.get("sourceFile"),
            )
            return job, queue.explain_job(job.id)

        job, line = self._with_queue(work)
        return {
            "id": str(job.id),
            "shortId": job.short_id,
            "status": job.status,
            "assignedTo": job.agent,
            "explanation": line,
        }

    def _wait(self, given: Arguments, gone: socket.socket) -> Any:
        deadline = time.monotonic() + given.get("timeoutSeconds", _WAIT_SECONDS)
        ids = self._with_queue(lambda queue: [queue.resolve_job(ref) for ref in given["ids"]])
        database = self._with_queue(lambda queue: queue.database)
        with gone, Watch(database, ids) as watch:
            while True:
                jobs = self._with_queue(lambda queue: queue.get_jobs(ids))
                left = deadline - time.monotonic()
                ended = all(job.is_finished for job in jobs)
                if ended or left <= 0 or _can_be_read(gone):
                    break
                watch.wait(left, [gone])
        found = [self._rpc("get", {"id": str(job_id)}) for job_id in ids]
        return {"ended": ended, "jobs": [brief(job) | {"result": job["result"]} for job in found]}


def _can_be_read(gone: socket.socket) -> bool:
    gone.setblocking(False)
    try:
        return not gone.recv(1)
    except BlockingIOError:
        return False


def _line(line: dict[str, Any]) -> str:
    level = "" if line["level"] == "info" else f" {line['level']}"
    return f"{line['at'][:19]} {line['stream']}{level}: {line['message']}\n"
