"""persona schedule, gate and limits with real runners: what they say is what happens."""

from __future__ import annotations

import json


def test_two_runners_make_one_job_of_each_due_time(cli, worker, conn, eventually):
    def count():
        return conn.execute(
            "select count(*), count(distinct r.due_at), count(j.id) from persona.schedule_runs as r"
            " left join persona.jobs as j on j.id = r.job_id and j.status = 'completed'"
            # On a busy machine due times are missed.
            " where r.schedule = 'often' and r.outcome <> 'missed'"
        ).fetchone()

    def unfinished():
        sql = "select from persona.jobs where status <> 'completed'"
        return conn.execute(f"select exists ({sql})").fetchone()[0]

    worker("--name", "one")
    worker("--name", "two")
    payload = ("--payload", '{"argv": ["true"]}')
    for name, spec in (("often", "@every 1 s"), ("once", "@at 2020-01-31 09:00")):
        made = cli("schedule", "add", name, spec, "-t", "command", "--catch-up", "one", *payload)
        assert made.returncode == 0, made.stderr
    eventually(lambda: count()[2] >= 3, 30)

    assert cli("schedule", "pause", "often").stdout == "schedule often: paused, next never\n"
    eventually(lambda: not unfinished(), 20)
    runs, due_times, jobs = count()
    assert runs == due_times == jobs
    shown = json.loads(cli("schedule", "show", "often", "--json", "-n", "100").stdout)["runs"]
    assert len({run["due_at"] for run in shown}) == len(shown)
    assert [run["status"] for run in shown].count("completed") == runs
    states = {one["name"]: one for one in json.loads(cli("schedule", "--json").stdout)}
    assert states["once"]["is_done"]
    created = "select count(*) from persona.jobs"
    assert conn.execute(created).fetchone()[0] == runs + 1


def test_a_closed_gate_keeps_a_real_runner_from_starting(cli, worker, queue, eventually):
    queue.register_agent("g", ["true"], provider="p")
    worker()
    assert cli("gate", "close", "p", "--reason", "the bill").stdout == (
        "gate p is closed until it is opened\n"
    )
    job = cli("create", "-t", "t", "-a", "g").stdout.strip()
    free = queue.create_job("command", {"argv": ["true"]})
    eventually(lambda: queue.get_job(free.id).is_finished, 20)

    assert "persona gate open p" in cli("explain", job).stdout
    assert "the bill" in cli("gate").stdout
    assert queue.get_job(job).status == "pending"
    assert cli("gate", "open", "p").stdout == "gate p is open\n"
    eventually(lambda: queue.get_job(job).status == "completed", 20)

    assert "closed until 2" in cli("gate", "close", "p", "--for", "1s").stdout
    tried = queue.create_job("t", agent="g")
    eventually(lambda: queue.get_job(tried.id).status == "completed", 20)
    [gate] = json.loads(cli("gate", "--json").stdout)
    assert gate["state"] == "open"


def test_a_limit_holds_in_a_runner_with_room_for_more(cli, worker, queue, tmp_path):
    said = tmp_path / "said"
    assert cli("limits", "set", "key:k", "1").stdout == "limit key:k is 1\n"
    script = f"echo begin >> {said}; sleep 0.3; echo end >> {said}"
    payload = {"argv": ["sh", "-c", script]}
    jobs = [str(queue.create_job("command", payload, limit_key="k").id) for _ in range(3)]
    worker("--concurrency", 3)

    assert cli("wait", *jobs, "--timeout", "30s").returncode == 0
    assert said.read_text().split() == ["begin", "end"] * 3
    [limit] = json.loads(cli("limits", "--json").stdout)
    assert (limit["maxRunning"], limit["running"]) == (1, 0)
    assert cli("limits", "remove", "key:k").stdout == "limit key:k is removed\n"
