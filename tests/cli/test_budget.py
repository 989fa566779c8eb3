"""persona budget, and --max-cost: what is said, and what runs after it."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

SPENDER = """
if [ "$1" = --resume ]; then
  echo '{"type": "result", "subtype": "success", "is_error": false, "result": "'"$*"'",
    "total_cost_usd": 0.45, "session_id": "'"$2"'"}' | tr -d '\\n'
else
  echo '{"type": "result", "subtype": "error_max_budget_usd", "is_error": true,
    "total_cost_usd": 0.3, "session_id": "talk-1"}' | tr -d '\\n'
  exit 1
fi
"""


@pytest.fixture
def spender(queue):
    queue.register_agent(
        "spender", ["true"], costs_money=True, max_cost_usd=Decimal("0.3"), max_attempts=1
    )


def test_a_budget_is_set_listed_shown_and_removed(cli, spender, create, runner):
    assert "no budget; set one with: persona budget set all 100" in cli("budget").stderr
    said = cli("budget", "set", "all", "$0.50", "--per", "day").stdout
    assert said == "budget all is $0.50 for everything per day\n"
    jobs = [create(agent="spender") for _ in range(2)]
    run = runner.claim()
    [shown] = json.loads(cli("budget", "--json").stdout)
    assert (shown["name"], shown["reservedUsd"], shown["leftUsd"]) == ("all", 0.3, 0.2)

    runner.end(run, cost_usd=0.3)
    assert runner.conn.execute("select persona.claim_jobs(%s)", (runner.id,)).fetchall() == []
    table = cli("budget", "show", "all").stdout
    assert "holds 1 job(s) until" in table
    assert f"held {jobs[1][-8:]}  spender" in table
    assert "over budget all: $0.30 of $0.50 used today" in cli("explain", jobs[1]).stdout

    refused = cli("release", jobs[1])
    assert refused.returncode == 5
    assert "an admin may raise it: persona budget set all USD" in refused.stderr
    assert cli("budget", "set", "all", "2").stdout == "budget all is $2.00 for everything per day\n"
    assert runner.claim()[0].hex == jobs[1].replace("-", "")
    assert cli("budget", "set", "all", "--off").stdout.endswith(" per day, switched off\n")
    assert cli("budget", "remove", "all").stdout == "budget all is removed\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "x", "much"), "'much' is no amount of US dollars such as 5 or 0.30"),
        (("set", "--", "x", "-1"), 'limit_usd is "-1"'),
        (("set", "x", "1", "--scope", "agent", "--of", "nobody"), 'subject is "nobody"'),
        (("show", "x"), "no budget is named 'x'; there are: none"),
        (("remove", "x"), "no budget is set"),
    ],
)
def test_a_wrong_budget_is_refused_with_what_is_wrong(cli, arguments, said):
    done = cli("budget", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_released_with_more_money_a_job_goes_on_in_its_conversation(
    cli, worker, queue, eventually, tmp_path
):
    program = tmp_path / "spender"
    program.write_text(f"#!/bin/sh{SPENDER}")
    program.chmod(0o755)
    added = cli(
        "agents", "add", "spender", "--costs-money", "--keeps-conversation", "--max-cost", "0.3",
        "--output-format", "claude-json",
        "--resume", f"{program} --resume {{session_id}} 'at most {{max_cost}}'",
        "--", str(program),
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    job = cli("create", "-t", "t", "-a", "spender", "--max-cost", "0.3").stdout.strip()
    worker()
    eventually(lambda: queue.get_job(job).status == "held", 20)
    assert f"persona release {job[-8:]} --max-cost USD" in cli("explain", job).stdout
    assert "cost         $0.30 of at most $0.30\n" in cli("info", job).stdout
    refused = cli("release", job)
    assert refused.returncode == 5
    assert "over budget max cost of job" in refused.stderr

    assert cli("release", job, "--max-cost", "0.5").returncode == 0
    eventually(lambda: queue.get_job(job).status == "completed", 20)
    done = queue.get_job(job)
    assert done.result["text"] == "--resume talk-1 at most 0.2000"
    assert done.cost_usd == Decimal("0.45"), "the program counts the conversation as a whole"
