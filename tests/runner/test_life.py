"""The life of a job under a real runner: started as promised, ended for a recorded reason."""

# ruff: noqa: PLR0917 - fixtures are arguments
from __future__ import annotations

import itertools
import json
import os
import sys
import time

import pytest


@pytest.mark.parametrize(
    ("script", "status", "code", "error"),
    [
        ("exit 0", "completed", 0, None),
        ("exit 3", "failed", 3, "exit code 3"),
        ("exit 255", "failed", 255, "exit code 255"),
        ("kill -SEGV $$", "failed", 139, "SIGSEGV"),
        ("kill -KILL $$", "failed", 137, "SIGKILL"),
    ],
)
def test_how_the_program_ended_is_how_the_job_ended(worker, jobs, script, status, code, error):
    worker()
    row = jobs.end(jobs.sh(script, max_attempts=1))
    assert (row.status, row.exit_code) == (status, code)
    assert error is None if row.error is None else error in row.error


def test_both_streams_arrive_in_order_with_level_and_stream(worker, jobs, conn):
    worker()
    job = jobs.sh("echo one; echo two; printf 'no newline'; echo bad >&2; echo worse >&2")
    jobs.end(job)
    rows = conn.execute(
        "select stream, level, message from persona.job_logs where job_id = %s order by seq", (job,)
    ).fetchall()
    assert [r for r in rows if r[0] == "stdout"] == [
        ("stdout", "info", "one"), ("stdout", "info", "two"), ("stdout", "info", "no newline"),
    ]  # fmt: skip
    assert [r for r in rows if r[0] == "stderr"] == [
        ("stderr", "warn", "bad"), ("stderr", "warn", "worse")
    ]  # fmt: skip


def test_every_line_is_there_when_the_job_has_ended(worker, jobs):
    worker()
    made = [jobs.sh("seq 1 3000") for _ in range(6)]
    for job in made:
        jobs.end(job)
        assert jobs.lines(job) == [str(n) for n in range(1, 3001)]


def test_stdin_is_a_regular_file_or_nothing(worker, jobs, conn):
    conn.execute(
        "select persona.register_agent('reader', %s, stdin_template => '{prompt}')",
        (["sh", "-c", "stat -Lc %F /dev/stdin; cat"],),
    )
    worker()
    prompt = "first $(x)\nlast without newline"
    asked = jobs.create("x", {"prompt": prompt}, agent="reader")
    silent = jobs.sh("stat -Lc %F /dev/stdin; cat; echo end")
    jobs.end(asked)
    assert jobs.lines(asked) == ["regular file", *prompt.split("\n")]
    jobs.end(silent)
    assert jobs.lines(silent) == ["character special file", "end"]


FOREIGN = {
    "PGHOST": "nowhere", "PGPASSWORD": "secret", "CREDENTIALS_DIRECTORY": "/c", "CLAUDECODE": "1",
    "NOTIFY_SOCKET": "@nobody", "CLAUDE_CODE_ENTRYPOINT": "cli", "ANTHROPIC_API_KEY": "k",
    "SOMETHING_ELSE": "x",
}  # fmt: skip


def test_the_environment_is_exactly_what_is_allowed(worker, jobs, tmp_path):
    worker(env=FOREIGN)
    job = jobs.command("env", "-0", cwd=tmp_path)
    row = jobs.end(job)
    text = "\n".join(jobs.lines(job))
    env = dict(item.split("=", 1) for item in text.split("\N{REPLACEMENT CHARACTER}") if item)
    assert {k: v for k, v in env.items() if k.startswith("PERSONA_")} == {
        "PERSONA_JOB_ID": job,
        "PERSONA_SHORT_ID": row.short_id,
        "PERSONA_JOB_TYPE": "command",
        "PERSONA_ATTEMPT": "1",
        "PERSONA_AGENT": "command",
        "PERSONA_WORKDIR": str(tmp_path),
        "PERSONA_SOCKET": env["PERSONA_SOCKET"],
    }
    assert {k for k in env if not k.startswith("PERSONA_")} == {"PATH", "HOME", "LANG", "NO_COLOR"}


def test_folder_session_group_and_descriptors(worker, jobs, tmp_path):
    worker()
    code = (
        "import os, json; print(json.dumps([os.getcwd(), os.getpid(), os.getsid(0), os.getpgid(0),"
        " sorted(int(n) for n in os.listdir('/proc/self/fd'))[:4], os.getppid()]))"
    )
    job = jobs.python(code, cwd=tmp_path)
    row = jobs.end(job)
    cwd, pid, session, group, descriptors, parent = json.loads(jobs.lines(job)[0])
    assert cwd == str(tmp_path)
    assert pid == session == group == row.pid
    assert descriptors[:3] == [0, 1, 2]
    assert parent != 1


def test_the_runner_tells_what_the_job_uses_and_how_it_was_started(
    worker, jobs, conn, eventually, short
):  # fmt: skip
    worker(env=short)
    code = "x = bytearray(60 << 20)\nwhile True: pass"
    job = jobs.python(code)
    found = eventually(
        lambda: conn.execute(
            "select memory_mb, cpu_percent, pid from persona.job_leases"
            " where job_id = %s and memory_mb > 50 and cpu_percent > 5",
            (job,),
        ).fetchone(),
        20,
    )
    assert found[0] < 200
    assert os.path.exists(f"/proc/{found[2]}")  # noqa: PTH110
    started = [sys.executable, "-I", "-c", code]
    lease = "select argv from persona.job_leases where job_id = %s"
    assert conn.execute(lease, (job,)).fetchone()[0] == started
    jobs.cancel(job, force=True)
    jobs.end(job)
    assert jobs.attempts(job)[0].argv == started


def test_a_job_that_ends_at_once_says_how_it_was_started_and_one_without_program_does_not(
    worker, jobs
):
    worker()
    short = jobs.command("sh", "-c", "exit 0", "--", "--api-key", "sk-12345", "x" * 5000)
    missing = jobs.command("no-such-program", max_attempts=1)
    jobs.end(short)
    jobs.end(missing)
    [attempt] = jobs.attempts(short)
    assert attempt.argv == [
        "sh", "-c", "exit 0", "--", "--api-key", "***", f"{'x' * 300}… (5000 characters)"
    ]  # fmt: skip
    [failed] = jobs.attempts(missing)
    assert failed.argv is None


# -- timeouts


def test_the_total_timeout_ends_the_job_with_its_own_reason(worker, jobs):
    worker()
    began = time.monotonic()
    job = jobs.sh("echo begun; exec sleep 60", timeout="1 s", max_attempts=1)
    row = jobs.end(job)
    assert time.monotonic() - began < 8
    assert (row.status, row.failure_kind, row.exit_code) == ("failed", "timeout", 143)
    assert row.error == "timeout after 1 s"
    assert [a.outcome for a in jobs.attempts(job)] == ["timeout"]
    assert jobs.lines(job, "system") == ["timeout after 1 s; SIGTERM, and SIGKILL after 10 s"]


def test_who_ignores_the_timeout_is_killed_after_the_grace(worker, jobs):
    worker(env={"JOB_KILL_GRACE": "500ms"})
    row = jobs.end(jobs.sh("trap '' TERM; sleep 60; sleep 60", timeout="1 s", max_attempts=1))
    assert (row.failure_kind, row.exit_code) == ("timeout", 137)


def test_a_program_that_makes_a_success_of_its_timeout_has_timed_out_all_the_same(worker, jobs):
    worker()
    job = jobs.sh("trap 'echo done; exit 0' TERM; sleep 60 & wait", timeout="1 s", max_attempts=1)
    row = jobs.end(job)
    assert (row.status, row.failure_kind, row.exit_code) == ("failed", "timeout", 0)


def test_silence_is_a_reason_of_its_own_and_talking_is_not_silence(worker, jobs):
    worker()
    silent = jobs.sh("echo begun; sleep 60", idle_timeout="1 s", max_attempts=1)
    talks = jobs.sh("for i in 1 2 3 4 5; do echo $i >&2; sleep 0.5; done", idle_timeout="1500 ms")
    row = jobs.end(silent)
    assert (row.status, row.failure_kind, row.error) == (
        "failed", "idle_timeout", "no output for 1 s"
    )  # fmt: skip
    assert jobs.end(talks).status == "completed"


def test_the_configured_timeout_counts_where_the_job_names_none(worker, jobs):
    worker(env={"JOB_TIMEOUT": "1s"})
    assert jobs.end(jobs.sh("sleep 60", max_attempts=1)).failure_kind == "timeout"


# -- stopped by somebody


def test_a_cancel_reaches_the_process_and_its_reason_the_record(worker, jobs):
    worker()
    job = jobs.sh("echo begun; trap 'echo ending; exit 5' TERM; sleep 60 & wait")
    jobs.first_line(job)
    began = time.monotonic()
    jobs.cancel(job, "not needed any more")
    row = jobs.end(job)
    assert time.monotonic() - began < 5
    assert (row.status, row.error, row.exit_code) == ("cancelled", "not needed any more", 5)
    assert jobs.lines(job) == ["begun", "ending"]


def test_a_cancel_is_told_once_however_many_heartbeats_pass(worker, jobs, short):
    worker(env=short | {"JOB_KILL_GRACE": "2s", "JOB_HUNG_TIMEOUT": "10s"})
    job = jobs.sh("trap '' TERM; echo begun; sleep 60; sleep 60")
    jobs.first_line(job)
    jobs.cancel(job, "enough")
    jobs.end(job)
    assert jobs.lines(job, "system") == ["cancelled: enough; SIGTERM, and SIGKILL after 2 s"]


def test_force_leaves_no_grace_even_after_a_polite_cancel(worker, jobs, eventually):
    worker()
    job = jobs.sh("trap '' TERM; echo begun; sleep 60; sleep 60")
    jobs.first_line(job)
    jobs.cancel(job)
    eventually(lambda: jobs.lines(job, "system"))
    assert jobs.row(job).status == "running"
    began = time.monotonic()
    jobs.cancel(job, force=True)
    row = jobs.end(job)
    assert time.monotonic() - began < 3
    assert (row.status, row.exit_code) == ("cancelled", 137)


def test_a_running_job_that_is_held_waits_and_has_lost_no_attempt(worker, jobs, conn):
    worker()
    job = jobs.sh("echo begun; sleep 60")
    jobs.first_line(job)
    conn.execute("select persona.hold_job(%s, 'ask first')", (job,))
    row = jobs.until(job, "held")
    assert (row.status_reason, row.attempt) == ("ask first", 0)
    conn.execute("select persona.release_job(%s)", (job,))
    assert jobs.running(job).attempt == 1
    jobs.cancel(job, force=True)
    jobs.end(job)


def test_cancelled_in_the_moment_of_its_start_a_job_ends_cancelled(worker, jobs, ready):
    ready(worker(env={"WORKER_CONCURRENCY": "20"}))
    made = []
    for n in range(20):
        made.append(jobs.sh("sleep 60"))
        time.sleep(0.001 * (n % 7))
        jobs.cancel(made[-1], force=True)
    assert {jobs.end(job).status for job in made} == {"cancelled"}


# -- what cannot be started


def test_a_missing_program_fails_at_once_and_is_not_tried_again(worker, jobs):
    worker("--name", "here")
    job = jobs.command("no-such-program", "x", max_attempts=3)
    row = jobs.end(job)
    assert row.error == "agent command: program 'no-such-program' not found on PATH of runner here"
    assert (row.status, row.failure_kind, row.attempt) == ("failed", "not_found", 1)
    assert jobs.lines(job, "system") == [row.error]


def test_a_folder_that_is_not_there_is_told(worker, jobs):
    worker()
    row = jobs.end(jobs.command("true", cwd="/no/such/folder", max_attempts=1))
    assert row.error == (
        "agent command: cannot run 'true' in directory '/no/such/folder': No such file or directory"
    )


def test_what_is_no_program_is_told(worker, jobs, tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    worker()
    plain = jobs.command(tmp_path / "text", max_attempts=1)
    script = jobs.command(tmp_path / "script", max_attempts=1)
    assert "is not executable" in jobs.end(plain).error
    assert "interpreter" in jobs.end(script).error


def test_a_payload_that_makes_no_command_line_fails_at_once(worker, jobs, conn):
    conn.execute("select persona.register_agent('say', '{echo,\"{payload.words...}\"}')")
    worker()
    row = jobs.end(jobs.create("x", {"prompt": "?"}, agent="say", max_attempts=3))
    assert row.error == "agent say: payload.words must be an array of texts, it is ''"
    assert (row.status, row.attempt) == ("failed", 1)


def test_an_argument_beyond_the_systems_limit_fails_alone(worker, jobs):
    worker()
    long, good = jobs.command("echo", "x" * 3_000_000, max_attempts=1), jobs.command("echo", "ok")
    assert "too long" in jobs.end(long).error
    assert jobs.end(good).status == "completed"


# -- trying again


def test_a_failing_job_is_tried_again_until_its_attempts_are_used_up(worker, jobs, conn):
    jobs.set("retry_base_seconds", 0.2)
    worker()
    job = jobs.sh("echo attempt $PERSONA_ATTEMPT; exit 9", max_attempts=3)
    row = jobs.end(job)
    assert (row.status, row.attempt, row.exit_code) == ("failed", 3, 9)
    assert jobs.lines(job) == ["attempt 1", "attempt 2", "attempt 3"]
    attempts = jobs.attempts(job)
    assert [(a.attempt, a.outcome, a.is_counted) for a in attempts] == [
        (1, "failed", True), (2, "failed", True), (3, "failed", True)
    ]  # fmt: skip
    pauses = [b.started_at - a.ended_at for a, b in itertools.pairwise(attempts)]
    assert pauses[0].total_seconds() >= 0.1
    assert pauses[1].total_seconds() >= 0.2
    alerts = conn.execute("select kind from persona.alerts where job_id = %s", (job,)).fetchall()
    assert alerts == [("job_failed",)]


def test_success_at_the_second_attempt_is_success(worker, jobs, conn, tmp_path):
    jobs.set("retry_base_seconds", 0.2)
    worker()
    job = jobs.sh(f"[ $PERSONA_ATTEMPT = 2 ] || exit 1; touch {tmp_path}/there")
    row = jobs.end(job)
    assert (row.status, row.attempt, row.error) == ("completed", 2, None)
    assert not conn.execute("select from persona.alerts where job_id = %s", (job,)).fetchall()
