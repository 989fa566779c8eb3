from __future__ import annotations

import json
import re
import signal
import time

import pytest

RUN = ("run", "--", "prog", "--flag", "a b", "$HOME")


def outcome(status, **report):
    """Make a part that claims one job and ends it."""

    def part(runner):
        runner.end(runner.claim(), status, **report)

    return part


def test_run_keeps_the_streams_apart_and_exits_like_the_command(cli, play, queue):
    def part(runner):
        job = runner.claim()
        runner.log(job, "to stdout")
        runner.log(job, "to stderr", stream="stderr")
        runner.log(job, "started pid 77", stream="system")
        runner.log(job, "long, ", metadata={"part": True})
        runner.log(job, "long line")
        runner.end(job, "failed", exit_code=3)

    play(part)
    done = cli(*RUN)

    assert (done.returncode, done.stdout) == (3, "to stdout\nlong, long line\n")
    lines = done.stderr.splitlines()
    assert lines[0] == "to stderr"
    assert re.fullmatch(r"persona: job [0-9a-f]{8} failed: exit code 3 \(after .*s\)", lines[1])
    [job] = queue.list_full_jobs()
    assert (job.agent, job.job_type, job.max_attempts) == ("command", "command", 1)
    assert job.payload == {"argv": ["prog", "--flag", "a b", "$HOME"]}


def test_run_shows_lines_while_the_job_runs(popen, runner):
    process = popen(*RUN)
    job = runner.claim()
    for word in ("one", "two"):
        runner.log(job, word)
        assert process.stdout.readline() == word + "\n"
    runner.end(job, exit_code=0)

    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    "end, code",
    [
        (("completed", {"exit_code": 0}), 0),
        (("failed", {"exit_code": 7}), 7),
        (("failed", {"exit_code": 143}), 143),
        (("failed", {"exit_code": None, "failure_kind": "not_found"}), 1),
        (("failed", {"exit_code": 0, "failure_kind": "bad_output"}), 1),
        (("timeout", {"exit_code": 143}), 124),
        (("idle_timeout", {"exit_code": 137}), 124),
        (("cancelled", {"exit_code": 143}), 130),
    ],
)
def test_run_and_wait_exit_with_the_code_that_stands_for_the_end(cli, play, queue, end, code):
    play(outcome(end[0], **end[1]))

    assert cli(*RUN).returncode == code
    [job] = queue.list_jobs()
    assert cli("wait", job.short_id).returncode == code


def test_run_goes_on_through_a_retry(cli, play):
    def part(runner):
        job = runner.claim()
        runner.log(job, "first try")
        runner.end(job, "orphaned")
        job = runner.claim()
        runner.log(job, "second try")
        runner.end(job, exit_code=0)

    play(part)
    done = cli(*RUN)
    assert (done.returncode, done.stdout) == (0, "first try\nsecond try\n")


def test_run_says_when_no_runner_is_there(popen, queue):
    process = popen(*RUN)

    line = process.stderr.readline()
    assert "is waiting: no live runner; start one with: persona-worker" in line
    [job] = queue.list_jobs()
    queue.cancel_job(job.id)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_run_says_when_no_runner_serves_the_agent(popen, connect, queue, sql_runner):
    sql_runner(connect(), agents=["assistant"])
    process = popen(*RUN)

    assert "persona-worker --agent command" in process.stderr.readline()
    queue.cancel_pending_jobs()
    process.communicate(timeout=10)


def test_ctrl_c_cancels_the_job_and_waits_for_its_end(popen, runner, queue):
    process = popen(*RUN)
    job = runner.claim()
    runner.log(job, "started")
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    runner.wait_for_cancel(job)
    assert process.poll() is None
    runner.log(job, "goodbye")
    runner.end(job, "cancelled", exit_code=143)

    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, "goodbye\n")
    assert "cancelling job" in err
    assert queue.get_job(job[0]).status == "cancelled"


def test_a_second_ctrl_c_kills_at_once_and_a_third_stops_waiting(popen, runner):
    process = popen(*RUN)
    job = runner.claim()
    runner.log(job, "started")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    runner.wait_for_cancel(job)
    process.send_signal(signal.SIGINT)
    runner.wait_for_cancel(job, force=True)
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=10) == 130


def test_ctrl_c_before_the_start_ends_at_once(popen, queue, eventually):
    process = popen(*RUN)
    eventually(queue.list_jobs)
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=10) == 130
    assert queue.list_jobs()[0].status == "cancelled"


def test_run_whose_output_nobody_reads_cancels_the_job(popen, runner):
    process = popen(*RUN)
    job = runner.claim()
    process.stdout.close()
    runner.log(job, "into the void")
    runner.wait_for_cancel(job)
    runner.end(job, "cancelled")

    assert process.wait(timeout=10) == 141
    assert process.stderr.read() == ""


def test_run_takes_the_options_of_create_and_a_folder(popen, queue, eventually, tmp_path):
    popen(
        "run", "--cwd", ".", "--timeout", "2s", "--tag", "t", "--max-attempts", "2", "ls", "-la",
        cwd=tmp_path,
    )  # fmt: skip
    [listed] = eventually(queue.list_jobs)
    job = queue.get_job(listed.id)

    assert job.payload == {"argv": ["ls", "-la"], "cwd": str(tmp_path)}
    assert (job.timeout.total_seconds(), job.tags, job.max_attempts) == (2, ["t"], 2)


def test_run_without_a_command_is_a_usage_error(cli):
    done = cli("run", "--")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_run_survives_the_loss_of_its_connection(popen, runner, databases, database):
    process = popen(*RUN)
    job = runner.claim()
    runner.log(job, "before")
    assert process.stdout.readline() == "before\n"
    for _ in range(3):
        databases.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = %s and application_name = 'persona'",
            (database,),
        )
        time.sleep(0.1)
    runner.log(job, "after")
    runner.end(job, exit_code=5, outcome="failed")

    out, _ = process.communicate(timeout=15)
    assert (process.returncode, out) == (5, "after\n")


# -- wait


def test_wait_for_several_exits_with_the_first_that_failed(cli, create, runner):
    jobs = [create(max_attempts=1) for _ in range(3)]
    for code in (0, 4, 5):
        runner.end(runner.claim(), "failed" if code else "completed", exit_code=code)
    done = cli("wait", *jobs)

    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 3


def test_wait_json_is_the_jobs(cli, create, runner):
    first, second = create(), create()
    runner.end(runner.claim())
    runner.end(runner.claim())

    found = json.loads(cli("wait", second, first, "--json").stdout)
    assert [job["id"] for job in found] == [second, first]
    lines = cli("wait", first, "--jsonl").stdout.splitlines()
    assert json.loads(lines[0])["status"] == "completed"


def test_wait_waits(popen, create, runner):
    process = popen("wait", create())
    job = runner.claim()
    time.sleep(0.3)
    assert process.poll() is None
    runner.end(job)

    assert process.wait(timeout=10) == 0


def test_wait_gives_up_with_exit_75(cli, create):
    done = cli("wait", create(), "--timeout", "200ms")
    assert done.returncode == 75
    assert "1 of 1 jobs have not ended yet" in done.stderr


def test_ctrl_c_stops_waiting_but_not_the_job(popen, create, queue, conn, eventually):
    job = create()
    process = popen("wait", job)
    listening = (
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and application_name = 'persona')"
    )
    eventually(lambda: conn.execute(listening).fetchone()[0], 20)
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=10) == 130
    assert queue.get_job(job).status == "pending"
