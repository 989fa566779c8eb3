"""The server over standard input and output: the only module that imports the package `mcp`."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import anyio
from jsonschema import Draft202012Validator
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    TextContent,
    ToolAnnotations,
)
from mcp.types import Tool as DescribedTool

from persona_pg import __version__
from persona_pg.errors import one_line
from persona_pg.mcp.tool import ToolError, written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from persona_pg.mcp.tool import Arguments, Tool

log = logging.getLogger(__name__)


def serve(tools: Sequence[Tool], instructions: str) -> None:
    """Serve until standard input ends."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    anyio.run(_serve, {tool.name: tool for tool in tools}, instructions)


async def _serve(tools: dict[str, Tool], instructions: str) -> None:
    async def list_tools(_context: Any, _params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[_described(tool) for tool in tools.values()])

    async def call_tool(_context: Any, params: CallToolRequestParams) -> CallToolResult:
        return await _called(tools, params.name, params.arguments or {})

    server: Server[Any] = Server(
        "persona",
        version=__version__,
        instructions=instructions,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    # Whatever else writes to standard output meanwhile goes to standard error.
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def _described(tool: Tool) -> DescribedTool:
    return DescribedTool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.schema,
        annotations=ToolAnnotations(
            read_only_hint=tool.reads_only,
            destructive_hint=tool.destroys,
            idempotent_hint=tool.can_be_repeated or tool.reads_only,
            open_world_hint=False,
        ),
    )


async def _called(tools: dict[str, Tool], name: str, given: Arguments) -> CallToolResult:
    tool = tools.get(name)
    if tool is None:
        return _result(f"there is no tool {name!r}; there are {', '.join(tools)}", is_error=True)
    try:
        _check(tool, given)
        answer = written(await tool.call(given), whole=given.get("whole") is True)
    except ToolError as exc:
        return _result(str(exc), is_error=True)
    except Exception as exc:
        log.exception("tool %s failed", name)
        return _result(one_line(f"{type(exc).__name__}: {exc}"), is_error=True)
    return _result(answer)


def _check(tool: Tool, given: Arguments) -> None:
    """Say which argument is wrong, rather than let the database say that something is."""
    for error in Draft202012Validator(tool.schema).iter_errors(given):
        where = ".".join(map(str, error.absolute_path))
        raise ToolError(f"{tool.name}: {where + ': ' if where else ''}{error.message}")


def _result(text: str, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)
