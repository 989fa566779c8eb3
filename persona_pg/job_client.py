"""`persona-job`: what a job may ask of its runner, over the unix socket PERSONA_SOCKET.

One file on the standard library alone, run by its path. A job starts it often, so what is said most
often, progress and log lines, imports next to nothing: `json` and `socket` take longer to load than
Python itself.
"""

from __future__ import annotations

import _socket  # without the wrapper around it, which loads a good deal
import os
import sys

USAGE = """\
Usage: persona-job COMMAND [ARGUMENT]...   (inside a job; a TEXT or JSON of - is standard input)

  delegate [-a AGENT] [-t TYPE] [OPTION]... TEXT   create a job below this one and print it
      --wait                wait until it has ended; exits with its exit code
      --key KEY             one job a key, also when this job runs again
      --on-failure WHAT     ignore (default), fail: this job fails too,
                            cancel-siblings: what was delegated beside it is cancelled
      --payload JSON        further input    --priority N     --timeout 10m
      --max-attempts N      --lock-key KEY   --tag TAG (repeatable)
  wait [ID]...              wait until delegated jobs have ended (default: all) and print them
  children                  print what this job delegated
  get [ID]                  print this job, or one below it
  progress PERCENT [TEXT]   show how far it is
  log LEVEL TEXT            write to the job's log: debug, info, warn, error
  result JSON               set the job's result
  ask TEXT                  ask a person: the job is stopped, and held until it is answered. It then
                            resumes its conversation with the answer; a program without one starts
                            again, and this command prints the answer

A job that waits lends its slot to others; its silence does not count, its total time does.
Data is printed as JSON. Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict or illegal
now, 5 not permitted, 69 database out of reach, 75 try later, 78 not inside a job. With --wait the
job's own, 124 after a timeout, 130 when it was cancelled.
"""
LONGEST = 4 << 20
# The answer to what only tells something.
TAKEN = b'{"ok": true, "data": {}}\n'
ESCAPES = {**{i: f"\\u{i:04x}" for i in range(32)}, ord('"'): '\\"', ord("\\"): "\\\\"}
EXIT_CODES = {
    "invalid": 2,
    "not_found": 3,
    "ambiguous": 4,
    "conflict": 4,
    "illegal": 4,
    "denied": 5,
    "db_unreachable": 69,
    "timeout": 75,
    "busy": 75,
}
OPTIONS = {
    "-a": "agent",
    "--agent": "agent",
    "-t": "type",
    "--type": "type",
    "--key": "key",
    "--on-failure": "onFailure",
    "--payload": "payload",
    "--priority": "priority",
    "--timeout": "timeout",
    "--max-attempts": "maxAttempts",
    "--lock-key": "lockKey",
    "--tag": "tags",
}


class Failure(Exception):
    """One line for people, and the exit code."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: list[str]) -> int:
    """Do one command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help") or "--help" in arguments[1:2]:
        sys.stdout.write(USAGE)
        return 0 if arguments else 2
    command, *rest = arguments
    if command not in COMMANDS:
        raise Failure(f"there is no command {command!r}; persona-job --help lists them")
    return COMMANDS[command](rest)


def delegate(arguments: list[str]) -> int:
    """Create a job below this one."""
    body: dict[str, object] = {}
    texts: list[str] = []
    wait = False
    rest = iter(arguments)
    for argument in rest:
        name, has_value, value = argument.partition("=")
        if argument == "--":
            texts += rest
        elif argument == "--wait":
            wait = True
        elif name in OPTIONS and (has_value or argument == name):
            given = value if has_value else next(rest, None)
            if given is None:
                raise Failure(f"{name} needs a value")
            take(body, OPTIONS[name], given)
        elif argument.startswith("-") and argument != "-":
            raise Failure(f"there is no option {name}; persona-job --help lists them")
        else:
            texts.append(argument)
    if len(texts) > 1:
        raise Failure("one TEXT is needed: put it in quotes")
    if texts:
        body["text"] = text_of(texts[0])
    elif "payload" not in body:
        raise Failure("a TEXT or --payload is needed")
    job = call("delegate", body, wait=wait)
    return ended([job], job) if wait else put(job)


def take(body: dict[str, object], key: str, value: str) -> None:
    """Put the value of an option into the request."""
    if key == "payload":
        body[key] = json_of(value)
        if not isinstance(body[key], dict):
            raise Failure("--payload: a JSON object is needed")
    elif key == "tags":
        tags = body.setdefault(key, [])
        assert isinstance(tags, list)
        tags.append(text_of(value))
    elif key in ("priority", "maxAttempts"):
        try:
            body[key] = int(value)
        except ValueError:
            raise Failure(f"{value!r}: a number is needed") from None
    else:
        body[key] = text_of(value)


def wait_for(arguments: list[str]) -> int:
    """Wait until delegated jobs have ended."""
    found = call("wait", {"ids": [text_of(one) for one in arguments]})
    jobs = found["jobs"]
    assert isinstance(jobs, list)
    return ended(jobs, found)


def children(arguments: list[str]) -> int:
    """Print what this job delegated."""
    if arguments:
        raise Failure("children takes no arguments")
    return put(call("children", {}))


def get(arguments: list[str]) -> int:
    """Print a job."""
    if len(arguments) > 1:
        raise Failure("get takes one ID at most")
    return put(call("get", {"id": text_of(arguments[0])} if arguments else {}))


def progress(arguments: list[str]) -> int:
    """Tell how far the job is."""
    if len(arguments) not in (1, 2):
        raise Failure("progress needs PERCENT and perhaps one TEXT")
    try:
        percent = float(arguments[0].removesuffix("%"))
    except ValueError:
        percent = float("nan")
    if not abs(percent) < float("inf"):
        raise Failure(f"{arguments[0]!r}: a number from 0 to 100 is needed")
    text = text_of(arguments[1]) if len(arguments) == 2 else None
    call("progress", {"percent": percent, "text": text})
    return 0


def log(arguments: list[str]) -> int:
    """Write to the job's log."""
    if len(arguments) != 2:
        raise Failure("log needs a LEVEL and one TEXT")
    call("log", {"level": arguments[0], "text": text_of(arguments[1])})
    return 0


def result(arguments: list[str]) -> int:
    """Set the job's result."""
    if len(arguments) != 1:
        raise Failure("result needs one JSON value")
    call("result", {"value": json_of(arguments[0])})
    return 0


def ask(arguments: list[str]) -> int:
    """Ask a person."""
    if len(arguments) != 1:
        raise Failure("ask needs one TEXT: put it in quotes")
    answer = call("ask", {"text": text_of(arguments[0])})
    sys.stdout.write(f"{answer['answer']}\n")
    return 0


def text_of(argument: str) -> str:
    """Return an argument, or standard input, as text; broken UTF-8 is replaced."""
    data = sys.stdin.buffer.read(LONGEST + 1) if argument == "-" else os.fsencode(argument)
    if len(data) > LONGEST:
        raise Failure(f"the text is longer than {LONGEST} bytes")
    return data.decode("utf-8", "replace")


def json_of(argument: str) -> object:
    """Return the value of a JSON argument, or of standard input."""
    import json

    try:
        return json.loads(text_of(argument))
    except (ValueError, RecursionError) as exc:
        raise Failure(f"this is not JSON: {exc}") from None


def put(value: object) -> int:
    """Print data."""
    import json

    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    return 0


def ended(jobs: list[dict[str, object]], shown: object) -> int:
    """Print ended jobs; the exit code is that of the first one that did not succeed."""
    put(shown)
    for job in jobs:
        if job["status"] == "cancelled":
            return 130
        if job["status"] == "failed":
            if job["failureKind"] in ("timeout", "idle_timeout"):
                return 124
            code = job["exitCode"]
            return code if isinstance(code, int) and 0 < code < 256 else 1
    return 0


def encoded(value: object) -> str:
    """Return a value as JSON."""
    if isinstance(value, str):
        return f'"{value.translate(ESCAPES)}"'
    if isinstance(value, dict):
        return f"{{{','.join(f'{encoded(key)}:{encoded(one)}' for key, one in value.items())}}}"
    if value is None:
        return "null"
    if isinstance(value, float):
        return repr(value)
    import json

    return json.dumps(value, ensure_ascii=False)


def call(command: str, body: dict[str, object], **more: object) -> dict[str, object]:
    """Send one request and return the data of its answer."""
    path = os.environ.get("PERSONA_SOCKET")
    if not path:
        raise Failure("PERSONA_SOCKET is not set: this works inside a job only", 78)
    line = encoded({"command": command, "body": body, **more}).encode("utf-8", "replace") + b"\n"
    if len(line) > LONGEST:
        raise Failure(f"the request is longer than {LONGEST} bytes")
    received = said(path, line)
    if not received.endswith(b"\n"):
        raise Failure("no answer: this job is being stopped", 75)
    if received == TAKEN:
        return {}
    import json

    answer = json.loads(received)
    if not answer["ok"]:
        error = answer["error"]
        hint = f"; {error['hint']}" if error.get("hint") else ""
        raise Failure(f"{error['message']}{hint}", EXIT_CODES.get(error["code"], 1))
    found: dict[str, object] = answer["data"]
    return found


def said(path: str, line: bytes) -> bytes:
    """Send one line and return the one that comes back, or less where none comes."""
    connection = _socket.socket(_socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError as exc:
        raise Failure(f"the runner does not answer at {path}: {exc.strerror}", 69) from None
    received = b""
    try:
        try:
            connection.sendall(line)
        except OSError:
            line = b""  # it may have said why before it closed
        while not received.endswith(b"\n") and (data := connection.recv(1 << 20)):
            received += data
    except OSError:
        received = b""
    finally:
        connection.close()
    return received


COMMANDS = {
    "delegate": delegate,
    "wait": wait_for,
    "children": children,
    "get": get,
    "progress": progress,
    "log": log,
    "result": result,
    "ask": ask,
}


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    try:
        sys.exit(main(sys.argv[1:]))
    except Failure as failure:
        sys.stderr.write(f"persona-job: {failure}\n")
        sys.exit(failure.code)
    except BrokenPipeError:
        os._exit(1)
    except KeyboardInterrupt:
        os._exit(130)
