"""Inside a job: the tools of persona-job, through the official SDK's client and a real runner."""

from __future__ import annotations

import json
import sys

# What an agent program does: it starts the server with an environment that knows nothing of the
# job, and calls every tool.
AGENT = """
import asyncio, json, sys
from mcp import Client, StdioServerParameters

def told(result):
    text = result.content[0].text
    return {"error": text} if result.is_error else json.loads(text) if text[:1] in "{[" else text

async def main():
    async with Client(StdioServerParameters(command=sys.argv[1], args=["mcp"])) as client:
        async def call(name, **arguments):
            print(json.dumps([name, told(await client.call_tool(name, arguments))]), flush=True)
        print(json.dumps(["tools", sorted(t.name for t in (await client.list_tools()).tools)]))
        me = told(await client.call_tool("get", {}))
        if "answers" not in me["payload"]:
            await call("progress", percent=40, text="half way")
            await call("progress", percent=400)
            await call("log", level="warn", text="the second source is down")
            await call("delegate", agent="child", text="3", key="one", wait=True)
            await call("delegate", agent="child", text="4", key="one", tags=["t"])
            await call("delegate", agent="stranger", text="5")
            await call("delegate", agent="child")
            await call("wait")
            await call("children")
            await call("get", id="ffffffff")
        await call("ask", text="Red or blue?")
        await call("result", value={"colour": 1})

asyncio.run(main())
"""


def register(conn, name, argv, **options):
    named = "".join(f", {key} => %({key})s" for key in options)
    conn.execute(
        f"select persona.register_agent(%(name)s, argv => %(argv)s{named})",
        {"name": name, "argv": argv, **options},
    )


def test_every_tool_inside_a_job_and_no_way_to_the_database(
    conn, worker, cli, eventually, tmp_path
):
    program = tmp_path / "agent.py"
    program.write_text(AGENT)
    persona = f"{sys.executable.rpartition('/')[0]}/persona"
    register(conn, "child", ["/bin/sh", "-c", "echo done"], costs_money=False)
    register(
        conn, "parent", [sys.executable, "-I", str(program), persona], may_delegate_to=["child"]
    )
    worker("--concurrency", 2)
    job = cli("create", "-t", "t", "-a", "parent", "-p", "Go.").stdout.strip()

    def info():
        return json.loads(cli("info", job, "--json").stdout)

    held = eventually(lambda: (found := info())["status"] == "held" and found, 60)
    assert held["statusReason"] == "question: Red or blue?"
    said = [json.loads(line["message"]) for line in _printed(cli, job)]
    tools, *calls = said
    assert tools == [
        "tools",
        ["ask", "children", "delegate", "get", "log", "progress", "result", "wait"],
    ]
    told = iter(calls)
    assert next(told) == ["progress", "done"]
    assert next(told)[1]["error"] == "progress: percent: 400 is greater than the maximum of 100"
    assert next(told) == ["log", "done"]
    waited, again = next(told)[1], next(told)[1]
    assert waited["status"] == "completed"
    assert again["id"] == waited["id"]
    assert "stranger" in next(told)[1]["error"]
    assert next(told)[1] == {"error": "delegate needs a text or a payload"}
    assert [one["id"] for one in next(told)[1]["jobs"]] == [waited["id"]]
    assert [one["id"] for one in next(told)[1]["jobs"]] == [waited["id"]]
    assert "error" in next(told)[1]
    assert float(held["progress"]) == 40

    assert cli("answer", job, "Blue.").returncode == 0
    ended = eventually(lambda: (found := info())["status"] == "completed" and found, 60)
    assert ended["result"]["colour"] == 1
    assert ["ask", "Blue."] in [
        [name, value.get("answer")]
        for name, value in (json.loads(line["message"]) for line in _printed(cli, job))
        if isinstance(value, dict)
    ]


def _printed(cli, job):
    lines = map(json.loads, cli("logs", job, "--jsonl").stdout.splitlines())
    return [line for line in lines if line["stream"] == "stdout"]
