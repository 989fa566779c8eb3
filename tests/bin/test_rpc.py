"""bin/persona-rpc: one JSON document and an exit code, whatever it is given."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pgtest import ROOT, client_program
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SHELLS = [name for name in ("sh", "dash", "bash", "ksh", "zsh") if shutil.which(name)]
HOSTILE = "' \" \\ :'x' :y :\"z\" $(id) `id` $$ $1 %s \\gset ; -- \u00ff \u20ac \U0001f600"


def count(queue):
    return queue.value("select count(*) from persona.jobs")


# -- what comes in -----------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("way", ["argument", "stdin", "file"])
def test_text_arrives_as_it_is(call, queue, tmp_path, shell, way):
    body = json.dumps(
        {"type": "t", "agent": "a", "payload": {"question": HOSTILE}}, ensure_ascii=False
    )
    file = tmp_path / "a 'body'.json"
    file.write_text(body)
    given = {"argument": body, "stdin": "-", "file": f"@{file}"}[way]

    answer = call("persona-rpc", "create", given, body=body.encode(), shell=shell)

    assert (answer.code, answer.document["ok"]) == (0, True), answer
    assert answer.talk == ""
    assert queue.value("select payload ->> 'question' from persona.jobs") == HOSTILE


@pytest.mark.parametrize(
    ("arguments", "body", "code", "kind"),
    [
        (["create", "{"], b"", 2, "invalid"),
        (["create", "{'type': 't'}"], b"", 2, "invalid"),
        (["create", "-"], b"not json", 2, "invalid"),
        (["create", "-"], b"", 2, "invalid"),
        (["create", "-"], b'{"type": "t\x00"}', 2, "invalid"),
        (["create", "-"], b'{"type": "t\xff"}', 2, "invalid"),
        (["create", b'{"type": "\xc3"}'], b"", 2, "invalid"),
        (["create", '{"type": "t", "agent": "a", "payload": {"q": "\\u0000"}}'], b"", 2, "invalid"),
        (["create", '{"type": "t", "agent": "a", "payload": {"q": "\\ud800"}}'], b"", 2, "invalid"),
        (["create", '{"type": "t", "agent": "a", "payload": {"q": "\\udfff"}}'], b"", 2, "invalid"),
        (["create", "{}"], b"", 2, "invalid"),
        (["create"], b"", 2, "invalid"),
        (["create", '{"type": "t", "agent": "a", "priority": ":\'x\'"}'], b"", 2, "invalid"),
        (["create", "@/no/such/file"], b"", 2, "invalid"),
        (["create", "@/"], b"", 2, "invalid"),
        (["get", "{}"], b"", 2, "invalid"),
        (["get", '{"id": "ffff"}'], b"", 3, "not_found"),
        (["get", '{"id": "\'; drop schema persona cascade; --"}'], b"", 3, "not_found"),
        (["release", '{"id": "%s"}'], b"", 4, "illegal"),
        (["nothing_known"], b"", 2, "invalid"),
        (["'; select 1; --"], b"", 2, "invalid"),
        ([b"\xff"], b"", 2, "invalid"),
        ([], b"", 2, "invalid"),
        (["get", "{}", "more"], b"", 2, "invalid"),
    ],
)
def test_a_refused_call_has_its_document_and_exit_code_and_writes_nothing(  # noqa: PLR0917
    call, queue, arguments, body, code, kind
):
    job = queue.create()
    arguments = [
        a.replace("%s", str(job["id"])) if isinstance(a, str) and "%s" in a else a
        for a in arguments
    ]

    answer = call("persona-rpc", *arguments, body=body)

    assert answer.code == code, answer
    assert (answer.document["ok"], answer.document["v"]) == (False, 1)
    error = answer.document["error"]
    assert error["code"] == kind
    assert error.keys() >= {"code", "message", "retryable", "detail"}
    assert len(answer.talk.splitlines()) == 1
    assert "exit" not in json.dumps(answer.document).lower()
    assert count(queue) == 1


def patient(call, *arguments, **options):
    """Repeat a call that was out of its ten seconds, as on a machine with other things to do."""
    for _ in range(6):
        answer = call(*arguments, timeout=60, **options)
        if answer.code != 75:
            return answer
        assert answer.document["error"]["retryable"] is True
    return answer


@pytest.mark.parametrize("shell", SHELLS[:3])
def test_a_body_of_20_mb_through_stdin(call, queue, shell):
    body = {
        "type": "t",
        "agent": "a",
        "id": "00000000-0000-7000-8000-0000abcd0001",
        "payload": {"question": "x\u20ac" * 5_000_000},
    }
    raw = json.dumps(body, ensure_ascii=False).encode()
    assert len(raw) > 20_000_000

    answer = patient(call, "persona-rpc", "create", "-", body=raw, shell=shell)

    assert answer.code == 0, answer.talk
    assert queue.value("select length(payload ->> 'question') from persona.jobs") == 10_000_000


def test_a_body_that_is_too_long_is_refused_at_once(call, queue, tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(67_108_865)

    answer = call("persona-rpc", "create", f"@{large}")

    assert (answer.code, answer.document["error"]["code"]) == (2, "invalid")
    assert "longer than 67108864 bytes" in answer.document["error"]["message"]


def test_an_answer_of_20_mb(call, queue):
    made = queue.create(payload={"question": "y" * 20_000_000})

    answer = patient(call, "persona-rpc", "get", json.dumps({"id": str(made["id"])}))

    assert answer.code == 0
    assert len(answer.document["data"]["payload"]["question"]) == 20_000_000


def test_all_exit_codes_of_refusals(call, queue, superuser_dsn, small_env, databases):
    for n in (1, 2):
        queue.create(id=f"00000000-0000-7000-8000-0000abcd000{n}")
    assert call("persona-rpc", "get", '{"id": "abcd"}').code == 4
    stale = {"id": "abcd0001", "updatedAt": "2026-01-01T00:00:00Z", "changes": {"priority": 1}}
    assert call("persona-rpc", "update", json.dumps(stale)).code == 4
    viewer = small_env | {
        "PGOPTIONS": "-c role=persona_viewer",
        "PERSONA_DATABASE_URL": superuser_dsn,
    }
    assert call("persona-rpc", "summary", env=viewer).code == 0
    assert call("persona-rpc", "cancel_pending", env=viewer).code == 5
    empty = databases.create()
    try:
        answer = call(
            "persona-rpc", "summary", env=small_env | {"PERSONA_DATABASE_URL": databases.dsn(empty)}
        )
        assert answer.code == 78
        assert "persona db migrate" in answer.document["error"]["message"]
    finally:
        databases.drop(empty)


def test_help(small_env):
    for program in ("persona-rpc", "persona-bridge"):
        done = subprocess.run(
            [ROOT / "bin" / program, "--help"], env={}, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"Usage: {program} COMMAND")
        assert "#" not in done.stdout


# -- where things are --------------------------------------------------------------------------


def test_from_any_folder_through_symlinks_with_spaces_everywhere(small_env, tmp_path, dsn):
    checkout = tmp_path / "my check out"
    (checkout / "bin").mkdir(parents=True)
    for file in (ROOT / "bin").glob("*p*"):
        shutil.copy(file, checkout / "bin")
    (checkout / "pyproject.toml").touch()
    password = conninfo_to_dict(dsn).get("password") or "x"
    (checkout / ".env").write_text(
        "# where the queue is\r\nexport PERSONA_DATABASE_URL = "
        f'"{make_conninfo(dsn, password=password)}"  # comment\r\nJOB_TIMEOUT=$(false)\n'
    )
    first = tmp_path / "a link"
    first.symlink_to(checkout / "bin" / "persona-rpc")
    folder = tmp_path / "other place"
    folder.mkdir()
    (folder / "again").symlink_to("../a link")

    for program, cwd in (
        (first, "/"), (folder / "again", folder), ("./again", folder), ("bin/persona-rpc", checkout),
    ):  # fmt: skip
        done = subprocess.run(
            [program, "version"], env={}, cwd=cwd, capture_output=True, check=False
        )
        assert done.returncode == 0, done
        assert json.loads(done.stdout)["data"]["tool"] == "persona"


@pytest.mark.parametrize(
    "line",
    [
        "PERSONA_DATABASE_URL={}",
        "PERSONA_DATABASE_URL='{}' # quoted",
        '  export PERSONA_DATABASE_URL="{}"',
        "PERSONA_DATABASE_URL=\nPGHOST={host}\nPGPORT={port}\nPGDATABASE={dbname}\nPGUSER={user}\nPGPASSWORD={password}",
    ],
)
def test_the_env_file_is_read_as_the_python_side_reads_it(call, dsn, tmp_path, line):
    parts = {"password": "x"} | conninfo_to_dict(dsn)
    plain = " ".join(f"{k}={v}" for k, v in parts.items())
    file = tmp_path / "the .env"
    file.write_text(line.format(plain, **parts) + "\n")

    assert call("persona-rpc", "summary", env={"PERSONA_ENV_FILE": str(file)}).code == 0


def test_an_env_file_that_cannot_be_read_is_named(call, tmp_path):
    answer = call("persona-rpc", "summary", env={"PERSONA_ENV_FILE": str(tmp_path / "none")})

    assert answer.code == 78
    assert "PERSONA_ENV_FILE" in answer.document["error"]["message"]


def test_the_password_is_not_in_the_arguments_of_psql(call, tmp_path, small_env):
    """Other users of the machine see the arguments of every process."""
    seen = tmp_path / "seen"
    programs = tmp_path / "programs"
    programs.mkdir()
    fake = programs / "psql"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" "$PGPASSWORD" > "{seen}"\nexit 2\n')
    fake.chmod(0o755)
    for address, told in (
        (
            "postgresql://me:s%40cr%25t@h:5/d?sslmode=disable",
            "-d postgresql://me@h:5/d?sslmode=disable",
        ),
        ("host=h password=s@cr%t dbname=d", "-d host=h  dbname=d"),
        ("host=h password='s@cr%t' dbname=d", "-d host=h  dbname=d"),
        ("password=s@cr%t host=h:5", "-d  host=h:5"),
        ("postgres://me@h/d", "-d postgres://me@h/d"),
    ):
        env = small_env | {"PERSONA_DATABASE_URL": address, "PATH": f"{programs}:/usr/bin:/bin"}
        answer = call("persona-rpc", "summary", env=env)
        arguments, password = seen.read_text().splitlines()
        assert (answer.code, told in arguments) == (69, True), arguments
        assert password == ("" if address.endswith("me@h/d") else "s@cr%t")


# -- time --------------------------------------------------------------------------------------


@contextmanager
def silent_server():
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_every_call_ends_within_ten_seconds(call, small_env, queue, dsn):
    with silent_server() as port:
        env = small_env | {"PERSONA_DATABASE_URL": f"postgresql://u@127.0.0.1:{port}/d"}
        answer = call("persona-rpc", "summary", env=env)
        assert (answer.code, answer.document["error"]["code"]) == (69, "db_unreachable")
        assert answer.seconds < 5
        # A connection string may ask for more patience than we have.
        env = small_env | {
            "PERSONA_DATABASE_URL": f"postgresql://u@127.0.0.1:{port}/d?connect_timeout=60"
        }
        answer = call("persona-rpc", "summary", env=env)
        assert (answer.code, answer.document["error"]["code"]) == (75, "timeout")
        assert answer.document["error"]["retryable"] is True
        assert answer.seconds < 10.5

    job = queue.create()
    with psycopg.connect(dsn) as other:
        other.execute("select 1 from persona.jobs for update")
        answer = call("persona-rpc", "cancel", json.dumps({"id": str(job["id"])}))
    assert (answer.code, answer.document["error"]["code"]) == (75, "timeout")
    assert 7 < answer.seconds < 10.5
    assert queue.status(job) == "pending"


def test_a_call_starts_faster_than_python(call, small_env, cli):
    """Medians of twenty, side by side; printed with pytest -s."""
    psql = [client_program("psql"), "-X", "-d", small_env["PERSONA_DATABASE_URL"], "-c", "select 1"]

    def median(act):
        times = []
        for _ in range(20):
            started = time.monotonic()
            act()
            times.append(time.monotonic() - started)
        return statistics.median(times) * 1000

    plain = median(lambda: subprocess.run(psql, capture_output=True, check=True))
    ours = median(lambda: call("persona-rpc", "summary"))
    python = median(lambda: cli("status", "--json"))
    print(f"\npsql {plain:.0f} ms, persona-rpc {ours:.0f} ms, persona status {python:.0f} ms")

    assert ours < python
    # The shell, the encoding and the watchdog are a few processes more than psql alone.
    assert ours < plain * 6 + 100


class Proxy:
    """Forwards one connection at a time to the test server and counts the client's queries."""

    def __init__(self, target):
        self.target = target
        self.queries = 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(self.target)
            threading.Thread(target=self.copy, args=(upstream, client), daemon=True).start()
            threading.Thread(target=self.read, args=(client, upstream), daemon=True).start()

    def copy(self, source, sink):
        # Whichever direction ends first closes both sockets under the other one.
        with source, sink, contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def read(self, client, upstream):
        """Count the simple queries (Q) and the parses (P) among the client's messages."""
        with client, upstream, client.makefile("rb") as stream, contextlib.suppress(OSError):
            length = stream.read(4)
            upstream.sendall(length + stream.read(int.from_bytes(length) - 4))
            while kind := stream.read(1):
                length = stream.read(4)
                self.queries += kind in (b"Q", b"P")
                upstream.sendall(kind + length + stream.read(int.from_bytes(length) - 4))


def test_fault_15_a_summary_is_one_query_and_a_heartbeat_starts_no_python(
    call, small_env, dsn, tmp_path, queue
):
    """A summary took six queries, a heartbeat took the start of an interpreter."""
    parts = conninfo_to_dict(dsn)
    if not str(parts["host"]).startswith("/"):
        pytest.skip("the test server is not behind a unix socket")
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("python", "python3", "persona"):
        (trap / name).write_text(f"#!/bin/sh\ntouch '{trap}/started'\n")
        (trap / name).chmod(0o755)
    proxy = Proxy(f"{parts['host']}/.s.PGSQL.{parts['port']}")
    url = make_conninfo(
        dsn, host="127.0.0.1", port=proxy.port, sslmode="disable", gssencmode="disable"
    )
    env = small_env | {"PERSONA_DATABASE_URL": url, "PATH": f"{trap}:/usr/bin:/bin"}

    for program, *arguments in (
        ["persona-bridge", "get_job_summary"],
        ["persona-rpc", "summary"],
        ["persona-bridge", "create_job", '{"type": "agent_action", "agent": "cro"}'],
    ):
        proxy.queries = 0
        answer = call(program, *arguments, env=env)
        assert answer.code == 0, answer
        assert proxy.queries == 1
    proxy.queries = 0
    call(
        "persona-bridge",
        "update_job_status",
        answer.document["id"],
        '{"status": "running"}',
        env=env,
    )
    assert call("persona-bridge", "heartbeat", answer.document["id"], env=env).document == {
        "success": True
    }
    assert proxy.queries == 2
    assert not (trap / "started").exists()
    proxy.server.close()


# -- the embedded server -----------------------------------------------------------------------


@pytest.mark.no_database
def test_the_embedded_server_is_found_and_started_and_started_again(call, tmp_path):
    home = tmp_path / "a home with spaces"
    # It is asked by the psql that came with it, whatever else there is.
    (tmp_path / "psql").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "psql").chmod(0o755)
    env = {
        "PERSONA_HOME": str(home),
        "PERSONA_ENV_FILE": "/dev/null",
        "PATH": str(tmp_path),
    }
    stop = [Path(sys.executable).parent / "persona", "db", "stop"]
    try:
        # The first start makes the cluster, which may take longer than a call may.
        deadline = time.monotonic() + 60
        while (answer := call("persona-rpc", "version", env=env)).code != 0:
            assert answer.document["error"]["retryable"], answer
            assert time.monotonic() < deadline
        assert call("persona-bridge", "get_job_summary", env=env).code == 0

        # As after a crash: the files of the server are there, the server is not.
        files = home / "postgres" / "data" / "postmaster.pid"
        pid = int(files.read_text().split()[0])
        subprocess.run(["kill", "-9", str(pid)], check=True)
        body = b'{"type": "t", "agent": "researcher", "payload": {"question": "still there?"}}'
        deadline = time.monotonic() + 60
        while (answer := call("persona-rpc", "create", "-", body=body, env=env)).code != 0:
            assert answer.document["error"]["retryable"], answer
            assert time.monotonic() < deadline
        assert int(files.read_text().split()[0]) != pid

        # As after a shutdown.
        subprocess.run(stop, env=env, check=True, capture_output=True)
        deadline = time.monotonic() + 60
        while (answer := call("persona-bridge", "get_job_summary", env=env)).code != 0:
            assert "connection" in answer.document["error"]
            assert time.monotonic() < deadline
        assert answer.document["pending"] == 1
    finally:
        subprocess.run(stop, env=env, check=False, capture_output=True)


@pytest.mark.no_database
def test_the_embedded_server_does_not_start_inside_a_job(call, tmp_path):
    env = {
        "PERSONA_HOME": str(tmp_path / "h"),
        "PERSONA_ENV_FILE": "/dev/null",
        "PERSONA_JOB_ID": "x",
    }

    answer = call("persona-rpc", "version", env=env)

    assert answer.code == 69
    assert "PERSONA_JOB_ID" in answer.document["error"]["message"]


# -- other machines ----------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS[:3])
def test_without_the_programs_timeout_and_base64(call, queue, tmp_path, small_env, shell):
    """As on a macOS without coreutils: our own watchdog, and hex in the place of base64."""
    bare = tmp_path / "bin"
    shutil.copytree(ROOT / "bin", bare)
    common = bare / "_psql.sh"
    text = common.read_text()
    for program in ("timeout", "base64"):
        assert f"command -v {program}" in text
        text = text.replace(f"command -v {program}", f"command -v no-{program}")
    common.write_text(text)
    body = json.dumps({"type": "t", "agent": "a", "payload": {"question": HOSTILE}})

    started = time.monotonic()
    answer = call(bare / "persona-rpc", "create", "-", body=body.encode(), shell=shell)
    assert (answer.code, answer.talk) == (0, "")
    assert time.monotonic() - started < 5
    assert queue.value("select payload ->> 'question' from persona.jobs") == HOSTILE
    made = call(
        bare / "persona-bridge",
        "create_job",
        '{"type": "agent_action", "agent": "\u00e4"}',
        shell=shell,
    )
    assert made.document["assignedTo"] == "\u00e4"
    with silent_server() as port:
        url = f"postgresql://u@127.0.0.1:{port}/d?connect_timeout=60"
        answer = call(
            bare / "persona-rpc",
            "summary",
            env=small_env | {"PERSONA_DATABASE_URL": url},
            shell=shell,
        )
    assert (answer.code, answer.document["error"]["code"]) == (75, "timeout")
    assert answer.seconds < 10.5
