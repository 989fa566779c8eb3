"""A stand-in for the providers of Claude Code, Codex and Gemini CLI, on loopback.

The scenario is the first part of the path, so that one server serves all of them at once: give a
program `http://127.0.0.1:PORT/good` as its provider's address, or `/limited`, `/hang` and so on.
What was asked is kept in `requests`. By hand: `python tests/agents/standin.py [PORT]`.
"""

from __future__ import annotations

import json
import select
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

ANSWER = "The answer is 42."
STRAY_SECONDS = 424_242
PERSONS_ANSWER = "Blue, of course"
ASK_COMMAND = "persona-job ask 'Red or blue?'"
# Leaves one process in its own session behind, deaf to SIGTERM, and another in the background.
STRAY_COMMAND = (
    "(trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep {seconds}' >/dev/null 2>&1 &);"
    " sleep {seconds} >/dev/null 2>&1 & echo started"
)

# Scenario -> status, type and headers of the error it answers.
ERRORS: dict[str, tuple[int, str, dict[str, str]]] = {
    "unauthorized": (401, "authentication_error", {}),
    "forbidden": (403, "permission_error", {}),
    "limited": (429, "rate_limit_error", {"retry-after": "1"}),
    "limited-until": (
        429,
        "rate_limit_error",
        {
            "retry-after": "3600",
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-representative-claim": "five_hour",
            "anthropic-ratelimit-unified-reset": "4102444800",
        },
    ),
    "broken": (500, "api_error", {}),
    "overloaded": (529, "overloaded_error", {}),
}
# As the other two word a limit that lasts: with a body of their own, which they read.
LASTING_LIMITS: dict[str, dict[str, Any]] = {
    "codex": {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": "plus",
        "resets_at": 4102444800,
        "resets_in_seconds": 3600,
    },
    "gemini": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
            }
        ],
    },
}
SCENARIOS = ("good", "hang", "stall", "tool", "ask", "loop", *ERRORS)


@dataclass(frozen=True)
class Request:
    scenario: str
    path: str
    body: dict[str, Any]

    @property
    def has_tool_result(self) -> bool:
        text = json.dumps(self.body)
        return any(mark in text for mark in ('"tool_result"', '"functionResponse"', "_call_output"))

    @property
    def program(self) -> str:
        """Whose API was asked."""
        if self.path.startswith("v1/messages"):
            return "claude"
        return "codex" if self.path.startswith("v1/responses") else "gemini"

    @property
    def offers_tools(self) -> bool:
        return bool(self.body.get("tools"))


class Standin:
    """The server, as a context manager."""

    def __init__(self, port: int = 0) -> None:
        self.answer = ANSWER
        self.tool_command = STRAY_COMMAND.format(seconds=STRAY_SECONDS)
        self.requests: list[Request] = []
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"standin": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def url(self, scenario: str) -> str:
        assert scenario in SCENARIOS
        return f"http://127.0.0.1:{self._server.server_port}/{scenario}"

    def command_of(self, request: Request) -> str:
        return ASK_COMMAND if request.scenario == "ask" else self.tool_command

    def asked(self, scenario: str, program: str | None = None) -> list[Request]:
        return [
            request
            for request in self.requests
            if request.scenario == scenario and program in (None, request.program)
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    standin: Standin
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do_HEAD(self) -> None:
        self._answer_json(200, None)

    def do_GET(self) -> None:
        self._answer_json(404, {"error": {"type": "not_found_error", "message": self.path}})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        scenario, _, path = self.path.lstrip("/").partition("/")
        body = json.loads(raw) if raw.startswith(b"{") else {}
        request = Request(scenario, path, body)
        self.standin.requests.append(request)
        if path.startswith("v1/messages/count_tokens"):
            self._answer_json(200, {"input_tokens": 12})
        elif scenario in ERRORS:
            self._refuse(request, *ERRORS[scenario])
        elif scenario in ("hang", "stall"):
            self._hang()
        elif path.startswith("v1/messages"):
            self._stream(claude_events(self.standin, request), named=True)
        elif path.startswith("v1/responses"):
            self._stream(codex_events(self.standin, request), named=True)
        elif ":streamGenerateContent" in path:
            self._stream(gemini_events(self.standin, request), named=False)
        elif ":generateContent" in path:
            self._answer_json(200, gemini_events(self.standin, request)[0])
        elif ":countTokens" in path:
            self._answer_json(200, {"totalTokens": 9})
        else:
            self.do_GET()

    def _refuse(self, request: Request, status: int, kind: str, headers: dict[str, str]) -> None:
        message = f"stand-in {kind}"
        error = {"type": kind, "message": message, "code": status, "status": kind.upper()}
        if request.scenario == "limited-until":
            error = LASTING_LIMITS.get(request.program, error)
        self._answer_json(status, {"type": "error", "error": error}, headers)

    def _hang(self) -> None:
        """Answer nothing until the client hangs up."""
        while not self.standin.closing.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.05)
            if readable and not self.connection.recv(65536):
                break
        self.close_connection = True

    def _answer_json(
        self, status: int, body: dict[str, Any] | None, headers: dict[str, str] | None = None
    ) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: list[dict[str, Any]], *, named: bool) -> None:
        lines = []
        for event in events:
            if named:
                lines.append(f"event: {event['type']}\n")
            lines.append(f"data: {json.dumps(event)}\n\n")
        data = "".join(lines).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _wants_tool(request: Request) -> bool:
    if request.scenario == "loop":
        return request.offers_tools
    if request.scenario == "ask":  # until a person has answered
        return request.offers_tools and PERSONS_ANSWER not in json.dumps(request.body)
    return request.scenario == "tool" and request.offers_tools and not request.has_tool_result


def claude_events(standin: Standin, request: Request) -> list[dict[str, Any]]:
    number = len(standin.requests)
    message = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": request.body.get("model", "stand-in"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 12, "output_tokens": 1},
    }
    if _wants_tool(request):
        start = {"type": "tool_use", "id": f"toolu_{number}", "name": "Bash", "input": {}}
        call = json.dumps({"command": standin.command_of(request), "description": "Start it"})
        delta = {"type": "input_json_delta", "partial_json": call}
        stop_reason = "tool_use"
    else:
        start = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": standin.answer}
        stop_reason = "end_turn"
    stop = {"stop_reason": stop_reason, "stop_sequence": None}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]


def codex_events(standin: Standin, request: Request) -> list[dict[str, Any]]:
    number = len(standin.requests)
    if _wants_tool(request):
        arguments = json.dumps({"cmd": standin.command_of(request)})
        item: dict[str, Any] = {
            "type": "function_call",
            "name": "exec_command",
            "call_id": f"call_{number}",
            "arguments": arguments,
        }
    else:
        content = [{"type": "output_text", "text": standin.answer}]
        item = {"type": "message", "role": "assistant", "id": f"m_{number}", "content": content}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    return [
        {"type": "response.created", "response": {"id": f"r_{number}"}},
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": {"id": f"r_{number}", "usage": usage}},
    ]


def gemini_events(standin: Standin, request: Request) -> list[dict[str, Any]]:
    if _wants_tool(request):
        call = {"name": "run_shell_command", "args": {"command": standin.command_of(request)}}
        part: dict[str, Any] = {"functionCall": call}
    else:
        part = {"text": standin.answer}
    candidate = {
        "content": {"role": "model", "parts": [part]},
        "finishReason": "STOP",
        "index": 0,
    }
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 6, "totalTokenCount": 15}
    return [{"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-x"}]


def main() -> None:
    with Standin(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as standin:
        print(standin.url("good"), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
