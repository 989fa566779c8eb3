"""What a running job may ask of its runner: the commands behind its socket.

Progress, log lines and the result are kept here and travel with heartbeats, lines and report;
everything else is asked of the database, which knows what the job may do (job_call).
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from persona_pg.model import new_job_id
from persona_pg.runner import procfs
from persona_pg.runner.jobrequests import JobRequests
from persona_pg.runner.jobsocket import JobSocket, failure
from persona_pg.runner.jobwaits import Waits
from persona_pg.runner.logs import about

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from persona_pg.runner.execution import Execution
    from persona_pg.runner.jobfolder import JobFolder
    from persona_pg.runner.process import Processes

log = logging.getLogger("persona.runner")

_LEVELS = {"debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error"}
_LONGEST_LINE = 1 << 16
_LONGEST_RESULT = 1 << 20
_LONGEST_PROGRESS = 200
# So many progress and log calls at once, and then so many a second: more have to wait.
_BURST = 200.0
_CALLS_PER_SECOND = 50.0
_LOOK_AGAIN_SECONDS = 0.2

Answer = dict[str, Any]


class _Client:
    """One execution at the desk."""

    def __init__(self, execution: Execution, socket: JobSocket, log_bytes: int) -> None:
        self.socket = socket
        self.execution = execution
        self.calls_left = _BURST
        self.counted_at = procfs.boottime()
        self.log_bytes_left = log_bytes


class JobDesk:
    """Serves the sockets of all running jobs."""

    def __init__(
        self,
        folder: JobFolder,
        processes: Processes,
        *,
        begun: Callable[[], int],
        concurrency: Callable[[], int],
        kick: Callable[[], None],
        on_lent: Callable[[], None],
        on_progress: Callable[[], None],
    ) -> None:
        self.requests = JobRequests(kick=kick)
        self.waits = Waits(self.requests, begun=begun, concurrency=concurrency, on_lent=on_lent)
        self._programs = str(folder.programs)
        self._folder = folder
        self._processes = processes
        self._on_progress = on_progress
        self._clients: dict[Execution, _Client] = {}
        self._sockets: list[JobSocket] = []  # that nobody uses now

    def open(
        self, execution: Execution, env: Mapping[str, str], log_bytes: int
    ) -> Mapping[str, str]:
        """Open the socket of an execution; returns the environment that leads to it."""
        try:
            socket = self._sockets.pop() if self._sockets else JobSocket(self._folder.new_path())
        except OSError as exc:
            # Most jobs never speak.
            log.warning(
                "job %s has no socket: %s", execution.job["short_id"], exc,
                extra=about(execution.job),
            )  # fmt: skip
            return env
        client = self._clients[execution] = _Client(execution, socket, log_bytes)
        socket.begin(
            functools.partial(self._is_member, execution), functools.partial(self._answer, client)
        )
        programs = f"{self._programs}{os.pathsep}{env.get('PATH', os.defpath)}"
        return {**env, "PERSONA_SOCKET": socket.path, "PATH": programs}

    def close(self, execution: Execution) -> None:
        """Close it: the next execution may have it."""
        self.waits.forget(execution)
        client = self._clients.pop(execution, None)
        if client is not None:
            client.socket.end()
            self._sockets.append(client.socket)

    def close_all(self) -> None:
        """Listen to nobody any more."""
        for socket in self._sockets:
            socket.close()

    def _is_member(self, execution: Execution, pid: int) -> bool:
        child = execution.child
        if child is None or pid <= 0:
            return False
        if child.token is not None and procfs.read_token(pid) == child.token:
            return True
        return any(process.pid == pid for process in self._processes.members(child))

    async def _answer(self, client: _Client, request: Answer) -> Answer:
        command, body = request["command"], request["body"]
        execution = client.execution
        if command in ("progress", "log", "result"):
            return await self._keep(client, command, body)
        if command == "wait":
            ids = body.get("ids") or []
            if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
                return failure("invalid", "ids is an array of texts")
            return await self._waited(execution, ids)
        if command == "delegate":
            return await self._delegate(execution, body, wait=request.get("wait") is True)
        if command not in ("children", "get", "ask"):
            return failure("invalid", f"there is no command {command[:100]!r}")
        answer = await self._call(execution, command, body)
        if command == "ask" and answer["ok"] and "asked" in answer["data"]:
            execution.stop("ask", detail=str(body.get("text")))
            await asyncio.Event().wait()  # until the end of its processes, and so of this socket
        return answer

    async def _call(self, execution: Execution, command: str, body: Answer) -> Answer:
        return await self.requests.call(execution.job_id, execution.lease, command, body)

    async def _delegate(self, execution: Execution, body: Answer, *, wait: bool) -> Answer:
        # The id is made here, so that a request that is sent twice makes one job.
        answer = await self._call(execution, "delegate", {**body, "id": str(new_job_id())})
        if not wait or not answer["ok"]:
            return answer
        waited = await self._waited(execution, [answer["data"]["id"]])
        return {"ok": True, "data": waited["data"]["jobs"][0]} if waited["ok"] else waited

    async def _waited(self, execution: Execution, ids: list[str]) -> Answer:
        answer = await self.waits.wait(execution, ids)
        if answer["ok"]:
            answer["data"].pop("done", None)
        return answer

    # What the runner itself keeps

    async def _keep(self, client: _Client, command: str, body: Answer) -> Answer:
        await self._turn(client)
        if command == "result":
            return self._result(client.execution, body)
        text = body.get("text")
        if text is not None and not isinstance(text, str):
            return failure("invalid", "text is a text")
        return (
            self._progress(client.execution, body.get("percent"), text)
            if command == "progress"
            else self._log(client, body.get("level"), text)
        )

    async def _turn(self, client: _Client) -> None:
        """Wait until it is this job's turn again: nobody is to drown the log."""
        while True:
            now = procfs.boottime()
            earned = (now - client.counted_at) * _CALLS_PER_SECOND
            client.calls_left = min(_BURST, client.calls_left + earned)
            client.counted_at = now
            if client.calls_left >= 1.0 and not client.execution.is_output_paused:
                client.calls_left -= 1.0
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    def _progress(self, execution: Execution, percent: Any, text: str | None) -> Answer:
        is_number = isinstance(percent, int | float) and not isinstance(percent, bool)
        if not is_number or not 0 <= percent <= 100:
            return failure("invalid", f"percent is {percent!r}: a number from 0 to 100 is needed")
        shown = None if text is None else " ".join(text.split())[:_LONGEST_PROGRESS]
        execution.progress = round(float(percent), 2), shown
        self._on_progress()
        return {"ok": True, "data": {}}

    def _log(self, client: _Client, level: Any, text: str | None) -> Answer:
        if not isinstance(level, str) or level not in _LEVELS:
            return failure("invalid", f"level is {level!r}: one of {', '.join(_LEVELS)} is needed")
        if not text:
            return failure("invalid", "a text is needed")
        size = len(text.encode("utf-8", "replace"))
        if size > client.log_bytes_left:
            return failure("denied", "this job has written as much to its log as it may")
        client.log_bytes_left -= size
        for at in range(0, len(text), _LONGEST_LINE):
            part = text[at : at + _LONGEST_LINE]
            is_part = at + _LONGEST_LINE < len(text)
            client.execution.write_log(_LEVELS[level], part, is_part=is_part)
        return {"ok": True, "data": {}}

    def _result(self, execution: Execution, body: Answer) -> Answer:
        if "value" not in body:
            return failure("invalid", "a value is needed")
        if len(json.dumps(body["value"])) > _LONGEST_RESULT:
            return failure("invalid", f"a result has {_LONGEST_RESULT} bytes at most")
        execution.given_result = body["value"]
        return {"ok": True, "data": {}}
