"""The commands with a real persona-worker behind them."""

from __future__ import annotations

import json
import re
import signal
import time


def test_run_shows_both_streams_and_exits_with_the_commands_code(cli, worker):
    worker()
    done = cli("run", "--", "sh", "-c", "echo out; echo err >&2; exit 3")

    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "err" in done.stderr.splitlines()


def test_run_ends_at_its_timeout_with_124(cli, worker, queue):
    worker()
    started = time.monotonic()
    done = cli("run", "--timeout", "2s", "--", "sleep", "60")

    assert done.returncode == 124
    assert time.monotonic() - started < 8
    assert queue.list_jobs()[0].failure_kind == "timeout"


def test_run_starts_in_the_folder_that_was_named(cli, worker, tmp_path):
    worker()
    assert cli("run", "--cwd", str(tmp_path), "--", "pwd").stdout == f"{tmp_path}\n"


def test_run_of_a_program_that_is_not_there_is_exit_1_at_once(cli, worker):
    worker()
    done = cli("run", "--", "no-such-program")

    assert done.returncode == 1
    assert "no-such-program" in done.stderr


def test_what_a_command_is_given_arrives_as_it_is(cli, worker):
    words = ["", "a b", "$HOME", "`id`", "'\"\\", "--flag", "{prompt}", "üñ🎉", "two\nlines", "*"]
    worker()
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = cli("run", "--", "python3", "-c", code, *words)
    assert json.loads(done.stdout) == words


def test_ctrl_c_kills_the_command(popen, worker, queue):
    worker()
    process = popen("run", "--", "sh", "-c", "echo started; sleep 60")
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=20) == 130
    assert queue.list_jobs()[0].status == "cancelled"


def test_kill_from_elsewhere_ends_run_with_130(popen, worker, cli, queue):
    worker()
    process = popen("run", "--", "sh", "-c", "echo started; sleep 60")
    process.stdout.readline()
    done = cli("kill", queue.list_jobs()[0].short_id, "--wait")

    assert (done.returncode, process.wait(timeout=20)) == (0, 130)


def test_logs_f_shows_a_long_output_complete_and_in_order(cli, worker, create_command):
    worker()
    job = create_command("sh", "-c", "seq 1 20000")
    done = cli("logs", "-f", job)

    assert done.returncode == 0
    assert done.stdout.split() == [str(n) for n in range(1, 20001)]


def test_create_wait_info_and_status_of_a_real_job(cli, worker):
    worker()
    payload = json.dumps({"argv": ["echo", "the answer"]})
    done = cli("create", "-t", "command", "--payload", payload, "--wait")

    assert done.returncode == 0
    shown = cli("info", done.stdout.strip()).stdout
    assert "status       completed" in shown
    assert "command      echo 'the answer'" in shown
    assert re.search(r"1 +completed +0", shown)
    assert "1 completed" in cli("status").stdout


def test_a_held_job_waits_for_its_release(cli, worker, create_command, popen, queue):
    job = create_command("echo", "now")
    queue.hold_job(job, "ask first")
    worker()
    process = popen("wait", job)
    assert "held: ask first" in process.stderr.readline()
    cli("release", job)

    assert process.wait(timeout=20) == 0
