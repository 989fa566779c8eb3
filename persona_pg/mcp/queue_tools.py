"""The tools of a program outside of jobs: the queue, as far as its database role may go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persona_pg.mcp.tool import Arguments, Tool, ToolError, document, flag, number, text, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.mcp.queue_calls import QueueCalls

INSTRUCTIONS = (
    "Persona PG is a durable queue of jobs that AI agents and commands run. A job is made with"
    " create_job and runs when a runner takes it; wait_for_jobs returns when it has ended. Where a"
    " job does not start, explain_job says why. `held` jobs wait for a person: list_questions shows"
    " what for, answer_question answers. An ID may be a job's shortId, or any unambiguous beginning"
    " of its id."
)
_STATUSES = ["blocked", "pending", "running", "held", "completed", "failed", "cancelled", "hung"]
_ID = text("The job: its id, its shortId, or an unambiguous beginning of either.")


def queue_tools(calls: QueueCalls, *, read_only: bool = False) -> list[Tool]:
    """List the tools; with *read_only* those that change nothing."""
    found = [*_creating(calls), *_looking(calls), *_controlling(calls)]
    return [tool for tool in found if tool.reads_only or not read_only]


def _creating(calls: QueueCalls) -> list[Tool]:
    return [
        Tool(
            name="create_job",
            description="Put a job into the queue and return it, with a line on when it will run."
            " list_agents says who there is. Give the task as prompt, as question (for research),"
            " or as payload where the agent expects other input (agent 'command':"
            ' {"argv": ["program", "argument"]}).',
            arguments={
                "type": text("Kind of work, like research, agent_action or command."),
                "agent": text("Who does it; the type's default agent if not given."),
                "prompt": text("The task, in words."),
                "question": text("The question, in words."),
                "payload": document("The whole input as an object, instead of prompt or question."),
                "priority": number("Higher goes first; 0 if not given."),
                "delay": text("Not before so long from now, like '5 minutes'."),
                "runAt": text("Not before this time, ISO 8601 with zone."),
                "timeout": text("Total time of an attempt, like '10 minutes'."),
                "idleTimeout": text("Longest silence of an attempt, like '2 minutes'."),
                "maxAttempts": number("How often it may be tried.", minimum=1),
                "after": texts("Jobs that must have completed first."),
                "afterAny": flag("With after: also start when those did not succeed."),
                "parent": text("The job that this one belongs to."),
                "dedupeKey": text("If an unfinished job has this key, that job is returned."),
                "lockKey": text("Jobs with one key run one after the other."),
                "limitKey": text("Counts against the limit of that name."),
                "tags": texts("Marks, to find it again."),
                "sourceFile": text("The file that the work comes from."),
            },
            needed=("type",),
            call=calls.create,
        ),
        Tool(
            name="wait_for_jobs",
            description="Wait until jobs have ended, or until the time is over, and return them"
            " with their results. ended=false says that time was over first: call it again.",
            arguments={
                "ids": texts("Which jobs.", minItems=1, maxItems=100),
                "timeoutSeconds": number(
                    "How long to wait at most; 50 if not given. Keep it below the time that your"
                    " program allows a tool.",
                    minimum=0,
                    maximum=3600,
                ),
            },
            needed=("ids",),
            call=calls.wait,
            reads_only=True,
        ),
    ]


def _looking(calls: QueueCalls) -> list[Tool]:
    def tool(name: str, description: str, command: str, **more: Any) -> Tool:
        more = {"arguments": {"id": _ID}, "needed": ("id",)} | more
        return Tool(
            name=name,
            description=description,
            call=lambda given: calls.rpc(command, given),
            reads_only=True,
            **more,
        )

    nothing: dict[str, Any] = {"arguments": {}, "needed": ()}
    return [
        Tool(
            name="list_jobs",
            description="List jobs, the newest first, without their results.",
            arguments={
                "status": text("Only these; hung: running without a heartbeat.", enum=_STATUSES),
                "agent": text("Only those of this agent."),
                "type": text("Only those of this kind."),
                "limit": number("How many at most; 20 if not given.", minimum=1, maximum=200),
                "before": text("Go on behind this job, the last of the page before."),
            },
            call=calls.list_jobs,
            reads_only=True,
        ),
        Tool(
            name="get_job",
            description="Show everything about one job: status, result, error, cost, input.",
            arguments={"id": _ID, "whole": flag("Do not cut long texts; false if not given.")},
            needed=("id",),
            call=lambda given: calls.rpc("get", {"id": given["id"]}),
            reads_only=True,
        ),
        Tool(
            name="get_job_logs",
            description="Show what a job printed: its last lines, or those behind a cursor, which"
            " the answer before has in its last line.",
            arguments={
                "id": _ID,
                "lines": number("How many at most; 50 if not given.", minimum=1, maximum=1000),
                "afterLease": number("With afterSeq: the cursor.", minimum=0),
                "afterSeq": number("With afterLease: the cursor.", minimum=0),
            },
            needed=("id",),
            call=calls.logs,
            reads_only=True,
        ),
        tool("get_job_tree", "Show a job and all that was delegated below it.", "tree"),
        tool(
            "explain_job",
            "Say in one line why a job is not running, or how it ended, and what to do.",
            "explain",
        ),
        tool(
            "list_questions",
            "List what waits for a person: questions of jobs, and jobs that need approval before"
            " they start (release_job approves, cancel_job does not).",
            "questions",
            **nothing,
        ),
        tool(
            "list_agents",
            "List the agents that can be named in create_job, with what they are for and what they"
            " have to do.",
            "agents",
            **nothing,
        ),
        tool(
            "get_summary",
            "Count the jobs by status, with today's cost and the age of the oldest pending job.",
            "summary",
            **nothing,
        ),
    ]


def _controlling(calls: QueueCalls) -> list[Tool]:
    reason = text("Why; people see it.")

    def tool(name: str, description: str, command: str, **more: Any) -> Tool:
        more = {"arguments": {"id": _ID}, "needed": ("id",)} | more
        return Tool(name=name, description=description, call=_changing(calls, command), **more)

    return [
        tool(
            "answer_question",
            "Answer the question for which a job is held, so that it goes on with the answer. Only"
            " with what the person you work for has told you.",
            "answer",
            arguments={"id": _ID, "text": text("The answer.")},
            needed=("id", "text"),
        ),
        tool(
            "cancel_job",
            "Cancel a job that has not ended, and what it delegated; running ones are killed.",
            "cancel",
            arguments={
                "id": _ID,
                "reason": reason,
                "force": flag("Kill at once, without time to end in good order."),
                "tree": flag("Also cancel what it delegated; true if not given."),
            },
            destroys=True,
            can_be_repeated=True,
        ),
        tool("retry_job", "Put a failed or cancelled job back into the queue.", "retry"),
        tool(
            "hold_job",
            "Keep a job that has not started from running until it is released.",
            "hold",
            arguments={"id": _ID, "reason": reason},
        ),
        tool(
            "release_job",
            "Let a held job run; for a job that needs approval this is the approval.",
            "release",
        ),
    ]


def _changing(calls: QueueCalls, command: str) -> Callable[[Arguments], Any]:
    async def change(given: Arguments) -> Any:
        return brief(await calls.rpc(command, given, changes=True))

    return change


_BRIEF = (
    "id", "shortId", "type", "status", "statusReason", "hung", "assignedTo", "taskPreview",
    "createdAt", "startedAt", "completedAt", "runAt", "attempt", "maxAttempts", "progress",
    "progressText", "failureKind", "error", "waitingFor", "costUsd", "parentId", "tags",
)  # fmt: skip


def brief(job: dict[str, Any]) -> dict[str, Any]:
    """Return what a model needs of a job in a list."""
    return {key: job[key] for key in _BRIEF if job.get(key) not in (None, False, [])}


def payload_of(given: Arguments) -> dict[str, Any]:
    """Return the input of a new job."""
    ways = [name for name in ("prompt", "question", "payload") if given.get(name) is not None]
    if len(ways) > 1:
        raise ToolError(f"give one of prompt, question and payload, not {' and '.join(ways)}")
    if not ways:
        return {}
    value = given[ways[0]]
    return dict(value) if ways[0] == "payload" else {ways[0]: value}
