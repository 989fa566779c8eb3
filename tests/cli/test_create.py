from __future__ import annotations

import json
import re
import uuid

import pytest

QUESTION = 'it\'s "quoted" $(touch /tmp/x); rm -rf / --flag\n\tüñ 🎉 \\n %s {prompt}'


def test_create_prints_just_the_id_into_a_pipe(cli, queue):
    done = cli("create", "-t", "research", "-q", QUESTION)

    assert (done.returncode, done.stderr) == (0, "")
    job = queue.get_job(uuid.UUID(done.stdout.strip()))
    assert (job.payload, job.agent, job.status) == ({"question": QUESTION}, "researcher", "pending")


def test_create_on_a_terminal_says_what_is_next(terminal):
    code, shown = terminal("create", "-t", "research", "-q", "why?")

    assert code == 0
    assert re.search(r"^[0-9a-f-]{36}$", shown, re.MULTILINE)
    assert "agent researcher is pending" in shown
    assert "no live runner; start one with: persona-worker" in shown


def test_create_takes_every_option(cli, queue):
    first = cli("create", "-t", "research", "-q", "first").stdout.strip()
    done = cli(
        "create", "-t", "special", "-a", "assistant", "-p", "do it", "-f", "/vault/a note.md",
        "--source-line", "7", "--priority", "-3", "--delay", "5m", "--timeout", "10m",
        "--idle-timeout", "90s", "--max-attempts", "4", "--dedupe-key", "k 1", "--lock-key", "l",
        "--after", first[-8:], "--parent", first, "--tag", "one", "--tag", "two,three",
        "--business", "acme",
    )  # fmt: skip

    job = queue.get_job(done.stdout.strip())
    assert (done.returncode, done.stderr) == (0, "")
    assert job.payload == {"prompt": "do it"}
    assert (job.agent, job.job_type, job.priority) == ("assistant", "special", -3)
    assert (job.source_file, job.source_line) == ("/vault/a note.md", 7)
    assert 299 < (job.run_at - job.created_at).total_seconds() < 301
    assert (job.timeout.total_seconds(), job.idle_timeout.total_seconds()) == (600, 90)
    assert (job.max_attempts, job.dedupe_key, job.lock_key) == (4, "k 1", "l")
    assert (str(job.parent_job_id), job.depth, job.status) == (first, 1, "blocked")
    assert (job.tags, job.business) == (["one", "two,three"], "acme")


def test_the_business_and_the_attempts_come_from_the_configuration(cli, queue):
    env = {"PERSONA_BUSINESS": "acme", "JOB_MAX_ATTEMPTS": "7"}
    job = queue.get_job(cli("create", "-t", "research", "-q", "?", env=env).stdout.strip())

    assert (job.business, job.max_attempts) == ("acme", 7)


@pytest.mark.parametrize(
    "text, expected",
    [("2031-02-03T04:05:06+02:00", "2031-02-03T02:05:06+00:00"), ("2031-02-03", None)],
)
def test_run_at_takes_times_with_and_without_a_zone(cli, queue, text, expected):
    env = {"TZ": "America/New_York"}
    done = cli("create", "-t", "research", "-q", "?", "--run-at", text, env=env)

    at = queue.get_job(done.stdout.strip()).run_at
    assert at.isoformat() == (expected or "2031-02-03T05:00:00+00:00")


def test_a_time_of_day_is_the_next_one(cli, queue):
    job = queue.get_job(
        cli("create", "-t", "research", "-q", "?", "--run-at", "00:00").stdout.strip()
    )
    assert 0 < (job.run_at - job.created_at).total_seconds() <= 86400


def test_the_payload_may_come_from_a_file_or_from_stdin(cli, queue, tmp_path):
    payload = {"prompt": "x" * 1_000_000 + QUESTION, "n": [1, {"deep": None}]}
    file = tmp_path / "a file.json"
    file.write_text(json.dumps(payload))

    for arguments, text in (
        (["--payload", f"@{file}"], None),
        (["--payload", "-"], json.dumps(payload)),
    ):
        done = cli("create", "-t", "x", "-a", "assistant", *arguments, input=text)
        assert queue.get_job(done.stdout.strip()).payload == payload


def test_a_question_may_come_from_stdin(cli, queue):
    done = cli("create", "-t", "research", "-q", "-", input=QUESTION)
    assert queue.get_job(done.stdout.strip()).payload == {"question": QUESTION}


def test_create_json_is_the_job(cli):
    done = cli("create", "-t", "research", "-q", "?", "--json")

    job = json.loads(done.stdout)
    assert (job["type"], job["status"], job["assignedTo"]) == ("research", "pending", "researcher")
    assert {
        "id", "shortId", "type", "status", "statusReason", "hung", "assignedTo", "priority",
        "createdAt", "startedAt", "completedAt", "runAt", "updatedAt", "attempt", "maxAttempts",
        "exitCode", "error", "result", "progress", "pid", "hostname", "parentId", "costUsd",
        "tokens", "sessionId", "waitingFor",
    } <= job.keys()  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}\+00:00", job["updatedAt"])


def test_the_same_dedupe_key_gives_the_same_job(cli):
    make = ("create", "-t", "research", "-q", "?", "--dedupe-key", "once")
    assert cli(*make).stdout == cli(*make).stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["-t", "nothing-known"], "name one of: alert, assistant, "),
        (["-t", "research"], "needs text in question or prompt"),
        (["-t", "research", "-q", "a", "-p", "b"], "give one of -q, -p and --payload"),
        (["-q", "a"], "Missing option '-t'"),
        (["-t", "research", "-q", "a", "-a", "nobody"], '"nobody"'),
        (["-t", "research", "-q", "a", "--delay", "soon"], "'soon' is no duration"),
        (["-t", "research", "-q", "a", "--run-at", "soon"], "'soon' is no time"),
        (["-t", "research", "-q", "a", "--delay", "1", "--run-at", "2031-01-01"], "not both"),
        (["-t", "research", "-q", "a", "--priority", "99999999999"], "not in the range"),
        (["-t", "research", "-q", "a", "--max-attempts", "0"], "max_attempts"),
        (["-t", "research", "-q", "a", "--timeout", "0"], "timeout"),
        (["-t", "x", "-a", "assistant", "--payload", "{oops"], "--payload is not valid JSON"),
        (["-t", "x", "-a", "assistant", "--payload", "[1]"], "must be a JSON object"),
        (["-t", "x", "-a", "assistant", "--payload", "@/nowhere"], "cannot read /nowhere"),
        (["-t", "x", "-a", "assistant", "--payload", '{"a": "\\u0000"}'], "NUL character"),
        (["-t", "x", "-a", "assistant", "--payload", '{"a": "\\ud800"}'], "not valid Unicode"),
        (["-t", "x", "-a", "assistant", "-p", b"caf\xe9"], "not valid Unicode"),
    ],
)
def test_a_wrong_create_is_one_line_and_exit_2(cli, conn, arguments, said):
    done = cli(
        "create",
        *[a if isinstance(a, str) else a.decode(errors="surrogateescape") for a in arguments],
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert conn.execute("select count(*) from persona.jobs").fetchone() == (0,)


def test_an_unknown_job_to_wait_for_is_exit_3(cli):
    done = cli("create", "-t", "research", "-q", "?", "--after", "0000aaaa")
    assert (done.returncode, done.stdout) == (3, "")


def test_create_wait_ends_with_the_jobs_exit_code(cli, play):
    def part(runner):
        runner.end(runner.claim(), "failed", exit_code=9, failure_kind="auth", error="no key")

    play(part)
    done = cli("create", "-t", "research", "-q", "?", "--wait")

    assert done.returncode == 9
    assert re.fullmatch(r"[0-9a-f-]{36}\n", done.stdout)
    assert "failed: no key" in done.stderr
