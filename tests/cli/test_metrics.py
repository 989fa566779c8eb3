"""persona metrics: as text, as a file, over HTTP; and the dashboard that draws it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from pgtest import ROOT
from prometheus_client.parser import text_string_to_metric_families

PERSONA = Path(sys.executable).with_name("persona")
UNREACHABLE = {"PERSONA_DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"}


def samples(text):
    """Read what Prometheus would read: {name: [(labels, value)]}."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def busy(conn, runner):
    """A queue in which every kind of sample has something to say; returns what it reads."""
    conn.execute(
        "select persona.register_agent('paid', argv => '{true}', provider => 'p', costs_money => true);"
        "select persona.create_job('t', agent => 'paid') from generate_series(1, 4);"
        "select persona.set_budget(name => 'all', limit_usd => 5, period => 'day', scope => 'total');"
        "select persona.close_gate('q');"
        "insert into persona.alerts (kind, message) values ('job_failed', 'x')"
    )
    first, second = runner.claim(), runner.claim()
    conn.execute(
        "select persona.complete_job(%s, %s, %s, exit_code => 0, outcome => 'completed', cost_usd => 1)",
        (runner.id, *first),
    )
    beat = json.dumps(
        [{"job_id": str(second[0]), "lease": second[1], "cpu_percent": 50, "memory_mb": 10}]
    )
    conn.execute("select persona.heartbeats(%s, %s)", (runner.id, beat))
    conn.execute(
        "select persona.hold_job(j.id::text) from persona.jobs as j where status = 'pending' limit 1"
    )
    return second


def test_the_text_is_what_prometheus_reads(cli, busy):
    done = cli("metrics")

    assert done.returncode == 0, done.stderr
    found = samples(done.stdout)
    assert found["persona_up"] == [({}, 1)]
    assert ({"agent": "paid", "state": "ready"}, 1) in found["persona_queue_jobs"]
    assert found["persona_claims_total"] == [({"agent": "paid"}, 2)]
    assert found["persona_job_memory_bytes"] == [({"runner": "played"}, 10 * 2**20)]
    assert found["persona_cost_usd_total"] == [({"agent": "paid", "business": ""}, 1)]
    buckets = {labels["le"]: value for labels, value in found["persona_execution_seconds_bucket"]}
    assert (buckets["14400"], buckets["+Inf"]) == (1, 1)


def test_the_file_is_whole_and_says_when_the_queue_is_out_of_reach(cli, busy, tmp_path):
    path = tmp_path / "persona.prom"
    assert cli("metrics", "--textfile", path).returncode == 0
    assert samples(path.read_text())["persona_up"] == [({}, 1)]

    broken = cli("metrics", "--textfile", path, env=UNREACHABLE)

    assert broken.returncode == 69
    assert "secret" not in broken.stderr
    assert samples(path.read_text()) == {"persona_up": [({}, 0)]}
    assert [one.name for one in tmp_path.iterdir() if "prom" in one.name] == ["persona.prom"]


def test_prometheus_is_answered_over_http_and_told_of_an_outage(
    persona_env, busy, databases, database
):
    server = subprocess.Popen(
        [PERSONA, "metrics", "--serve", "--port", "0"],
        env=persona_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = server.stdout.readline().strip()
        first = urllib.request.urlopen(address, timeout=20).read().decode()
        databases.admin.execute(f"alter database {database} allow_connections false")
        databases.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database,)
        )
        second = urllib.request.urlopen(address, timeout=20).read().decode()
    finally:
        databases.admin.execute(f"alter database {database} allow_connections true")
        server.terminate()
        server.communicate(timeout=20)

    assert samples(first)["persona_up"] == [({}, 1)]
    assert samples(second) == {"persona_up": [({}, 0)]}


def test_every_metric_is_drawn_and_what_is_drawn_is_a_metric(cli, busy):
    board = json.loads((ROOT / "docs" / "grafana.json").read_text())
    drawn = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"persona_\w+", target["expr"])
    }

    assert drawn == set(samples(cli("metrics").stdout))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert all(x + w <= 24 for x, _, w, _ in places)


def test_wrong_ways_to_ask(cli, tmp_path):
    assert cli("metrics", "--serve", "--textfile", "x").returncode == 2
    refused = cli("metrics", "--textfile", tmp_path / "nowhere" / "x")
    assert (refused.returncode, "No such file" in refused.stderr) == (78, True)
    assert cli("metrics", "--serve", "--listen", "192.0.2.1").returncode == 78


def test_without_the_extra_one_line_names_it(cli, tmp_path):
    (tmp_path / "prometheus_client.py").write_text(
        "raise ModuleNotFoundError('no', name='prometheus_client')\n"
    )

    done = cli("metrics", env={"PYTHONPATH": str(tmp_path)})

    assert (done.returncode, "persona-pg[metrics]" in done.stderr) == (78, True), done.stderr
