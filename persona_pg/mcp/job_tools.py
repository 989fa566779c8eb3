"""The tools of an agent inside a job: those of persona-job, through the socket of its runner."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from persona_pg.errors import PersonaError, with_hint
from persona_pg.mcp.tool import Arguments, Tool, ToolError, document, flag, number, text, texts

INSTRUCTIONS = (
    "You are running as a job of Persona PG, a queue of agent jobs. With these tools you delegate"
    " work to other agents, say how far you are, and ask a person. You see your own job and what"
    " you delegated, nothing else. An ID may be a job's shortId."
)
# An answer carries the results of many jobs at the most.
_LONGEST_ANSWER = 64 << 20


class JobTools:
    """Speaks for the job behind *socket*; None where the runner could open none."""

    def __init__(self, socket: str | None) -> None:
        self._socket = socket

    def tools(self) -> list[Tool]:
        """List the tools."""
        return [*self._delegating(), *self._reporting()]

    def _delegating(self) -> list[Tool]:
        return [
            Tool(
                name="delegate",
                description="Create a job below yours for another agent to do, and return it. With"
                " wait=true the call returns when that job has ended, with its result or error;"
                " else go on with your work and call `wait` later. What is delegated goes on if"
                " you end, and is cancelled if you are.",
                arguments={
                    "text": text("The task: everything the agent needs to know, in words."),
                    "agent": text("Who does it. Which agents you may name is set by an admin."),
                    "type": text("Kind of job; 'delegate' if not given."),
                    "payload": document("Further input, by name, for agents that expect some."),
                    "wait": flag("Return when the job has ended; false if not given."),
                    "key": text(
                        "A name of your choice: the same key again returns the same job, also"
                        " after you were restarted."
                    ),
                    "onFailure": text(
                        "If it fails for good: nothing (ignore), you fail too (fail), or what you"
                        " delegated beside it is cancelled (cancel-siblings).",
                        enum=["ignore", "fail", "cancel-siblings"],
                    ),
                    "priority": number("Higher goes first; yours if not given."),
                    "timeout": text("Total time of an attempt, like '10 minutes'."),
                    "maxAttempts": number("How often it may be tried.", minimum=1),
                    "lockKey": text("Jobs with one key run one after the other."),
                    "tags": texts("Marks, to find it again."),
                },
                call=self._delegate,
            ),
            Tool(
                name="wait",
                description="Wait until jobs that you delegated have ended, and return them with"
                " their results. Meanwhile your slot is lent to others.",
                arguments={"ids": texts("Which; all that you delegated if not given.")},
                call=lambda given: self._ask_runner("wait", given),
                can_be_repeated=True,
            ),
            Tool(
                name="children",
                description="List the jobs that you delegated, with their status and results.",
                arguments={},
                call=lambda given: self._ask_runner("children", given),
                reads_only=True,
            ),
            Tool(
                name="get",
                description="Show your own job, or one below it.",
                arguments={"id": text("Which job; your own if not given.")},
                call=lambda given: self._ask_runner("get", given),
                reads_only=True,
            ),
        ]

    def _reporting(self) -> list[Tool]:
        return [
            Tool(
                name="progress",
                description="Say how far you are; people see it while you work.",
                arguments={
                    "percent": {
                        "type": "number",
                        "minimum": 0,
                        "maximum": 100,
                        "description": "From 0 to 100.",
                    },
                    "text": text("What you are doing, in a few words."),
                },
                needed=("percent",),
                call=lambda given: self._ask_runner("progress", given),
                can_be_repeated=True,
            ),
            Tool(
                name="log",
                description="Write a line to your job's log, for people who look at it later.",
                arguments={
                    "level": text("How serious.", enum=["debug", "info", "warn", "error"]),
                    "text": text("What happened."),
                },
                needed=("level", "text"),
                call=lambda given: self._ask_runner("log", given),
            ),
            Tool(
                name="result",
                description="Set the result of your job, as a value that programs can read. The"
                " last one counts.",
                arguments={"value": {"description": "Any JSON value."}},
                needed=("value",),
                call=lambda given: self._ask_runner("result", given),
                can_be_repeated=True,
            ),
            Tool(
                name="ask",
                description="Ask a person. YOUR JOB IS STOPPED by this call and held until somebody"
                " has answered; you are then started again with the answer. So save first what must"
                " not get lost, and ask only what you cannot find out or decide.",
                arguments={"text": text("The question, with what is needed to answer it.")},
                needed=("text",),
                call=lambda given: self._ask_runner("ask", given),
            ),
        ]

    async def _delegate(self, given: Arguments) -> Any:
        body = dict(given)
        wait = body.pop("wait", False)
        if not body.get("text") and not body.get("payload"):
            raise ToolError("delegate needs a text or a payload")
        return await self._ask_runner("delegate", body, wait=wait)

    async def _ask_runner(self, command: str, body: Arguments, **more: Any) -> Any:
        """Send one request; a call that is cancelled hangs up, and so ends the request."""
        if self._socket is None:
            raise ToolError("this job has no socket: its runner could not open one")
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket, limit=_LONGEST_ANSWER)
        except OSError as exc:
            raise ToolError(
                f"the runner does not answer at {self._socket}: {exc.strerror}"
            ) from exc
        try:
            request = {"command": command, "body": body, **more}
            line = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            writer.write(line)
            received = await reader.readline()
        except (OSError, ValueError):
            received = b""
        finally:
            writer.close()
        if not received.endswith(b"\n"):
            raise ToolError("no answer: this job is being stopped")
        answer = json.loads(received)
        if answer["ok"]:
            return answer["data"] or "done"
        error = answer["error"]
        raise ToolError(with_hint(PersonaError(error["message"], hint=error.get("hint"))))
