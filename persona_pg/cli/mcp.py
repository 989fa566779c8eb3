"""persona mcp."""

from __future__ import annotations

import gc
import sys

import click

from persona_pg.errors import ConfigurationError


@click.command("mcp")
@click.option("--read-only", is_flag=True, help="Offer only the tools that change nothing.")
def mcp_command(*, read_only: bool) -> None:
    """Serve the queue to agent programs as tools, over standard input and output (MCP).

    Agent programs start it themselves: see docs/mcp.md. What it may do is what the database role of
    PERSONA_DATABASE_URL may do. Inside a job it offers what persona-job does instead, for that job,
    and does not touch the database.
    """
    try:
        from persona_pg.mcp.server import serve
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in {"mcp", "anyio", "jsonschema"}:
            raise
        raise ConfigurationError(
            "`persona mcp` needs the extra [mcp]", hint="run: pip install 'persona-pg[mcp]'"
        ) from None
    from persona_pg.mcp.inside import job_environment

    if sys.stdin.isatty():
        raise click.UsageError("an agent program starts this and speaks to it: see docs/mcp.md")
    # main() has switched it off for the imports; an agent's session may take days.
    gc.freeze()
    gc.enable()
    inside = job_environment()
    if inside is not None:
        from persona_pg.mcp import job_tools

        job = job_tools.JobTools(inside.get("PERSONA_SOCKET"))
        serve(job.tools(), job_tools.INSTRUCTIONS)
        return
    from persona_pg.mcp import queue_tools
    from persona_pg.mcp.queue_calls import QueueCalls
    from persona_pg.queue import Queue

    calls = QueueCalls(Queue.connect)
    serve(queue_tools.queue_tools(calls, read_only=read_only), queue_tools.INSTRUCTIONS)
