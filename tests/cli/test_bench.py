"""persona bench: every measurement runs, on a server of the user's, and leaves nothing behind."""

from __future__ import annotations

import json

import pytest

from persona_pg.bench import report as rendering
from persona_pg.bench.compare import set_against
from persona_pg.bench.model import Report, Row, Series, median_of
from persona_pg.bench.suite import MEASUREMENTS

# The others start runners or wait for seconds; `bin/test --soak` has them.
QUICK = ("claim", "heartbeats")


@pytest.fixture
def bench(cli, superuser_dsn, databases):
    def run(*arguments):
        before = names(databases)
        env = {"PERSONA_DATABASE_URL": superuser_dsn}
        done = cli("bench", "--quick", *arguments, env=env, timeout=300)
        assert names(databases) == before
        return done

    return run


def names(databases):
    rows = databases.admin.execute("select datname from pg_database where datname like '%bench%'")
    return {name for (name,) in rows.fetchall()}


def test_each_figure_stands_beside_its_limit_and_its_bar(bench):
    done = bench("--json", *QUICK)

    document = json.loads(done.stdout)
    assert document["skipped"] == {}
    assert done.returncode == 0
    keys = {row["key"] for row in document["rows"]}
    assert keys == {MEASUREMENTS[name][0] for name in QUICK}
    claims = next(row for row in document["rows"] if row["key"] == "S4")
    assert claims["ratio"] == pytest.approx(claims["value"] / claims["reference"])
    assert document["machine"]["fsync"] in ("on", "off")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_all_of_it_runs(bench):
    document = json.loads(bench("--json").stdout)

    assert document["skipped"] == {}
    assert {key for key, _ in MEASUREMENTS.values()} <= {row["key"] for row in document["rows"]}


def test_a_measurement_that_does_not_exist_is_named(cli):
    done = cli("bench", "speed")

    assert done.returncode == 2
    assert "there is no measurement 'speed'; there are: enqueue" in done.stderr


def test_the_run_in_the_middle_is_reported_as_a_whole():
    runs = [
        Report({}, [Row("S1", "x", value, "/s", reference, "bare", 0.6)])
        for value, reference in ((10, 40), (90, 100), (50, 100))
    ]

    (row,) = median_of(runs).rows

    assert (row.value, row.reference, row.ratio, row.is_met) == (50, 100, 0.5, False)


def test_a_figure_that_stands_beside_two_references_stays_two_rows():
    def run(value, peer):
        return Report(rows=[
            Row("S9", "true", value, "jobs/s", 100, "bare", 0.65),
            Row("S9", "true", value, "jobs/s", 50, peer, 1.0),
        ])  # fmt: skip

    rows = median_of([run(60, "one"), run(80, "another"), run(70, "one")]).rows

    assert [(row.value, row.reference) for row in rows] == [(70, 100), (70, 50)]


def test_a_plot_of_several_runs_has_the_median_of_each_point_and_what_one_run_missed():
    def run(*heights, **more):
        points = list(enumerate(heights))
        return Report(series=[Series("S7", "depth", "pending", "jobs/s", points)], **more)

    merged = median_of([run(10, 50, skipped={"S2": "no"}), run(30, 10), run(20, 30)])

    assert [series.points for series in merged.series] == [[(0, 20), (1, 30)]]
    assert merged.skipped == {"S2": "no"}


def test_a_peer_sets_the_bar_for_how_soon_a_job_starts():
    ours = [
        Row("S6", f"create to process started, {p}", value, "ms", bar=bar, better="less")
        for p, value, bar in (("p50", 4.0, 3), ("p99", 9.0, 6))
    ]
    report = Report(rows=list(ours))

    set_against(report, {("graphile", "latency"): {"p50": 4.0, "p99": 8.0}})

    assert report.rows[:2] == ours
    assert [(r.ratio, r.bar, r.is_met) for r in report.rows[2:]] == [
        (1.0, 1.25, True), (1.125, 1.09, False)
    ]  # fmt: skip


def test_less_is_better_where_it_is_said():
    assert Row("S6", "x", 2.0, "ms", bar=3, better="less").is_met
    assert Row("S6", "x", 4.0, "ms", bar=3, better="less").is_met is False
    assert Row("S6", "x", 4.0, "ms").is_met is None


def test_a_plot_draws_the_highest_point_longest():
    lines = list(
        rendering.plot(Series("S7", "over depth", "pending", "jobs/s", [(10, 50), (1000, 100)]))
    )

    assert lines[0] == "over depth (jobs/s)"
    assert lines[1].count("#") * 2 == lines[2].count("#")
    assert lines[2].startswith("  1,000 ")


def test_a_report_takes_the_place_of_the_last_one_in_a_document():
    report = Report(
        {"cpus": "2"}, [Row("S1", "a | b", 50, "jobs/s", 100, "bare", 0.6)],
        [Series("S1", "over clients", "clients", "jobs/s", [(1, 5), (8, 10)])], {"S2": "no pgbench"},
    )  # fmt: skip
    document = (
        "# Figures\n\n<!-- results of persona bench -->\nold\n<!-- end of the results -->\nend\n"
    )

    once = rendering.into_document(report, document)

    assert "| S1 | a \\| b | 50.0 jobs/s | 100 bare | 0.50 | >= 0.6 | not met |  |" in once
    assert once.startswith("# Figures\n")
    assert once.endswith("<!-- end of the results -->\nend\n")
    assert "old" not in once
    assert "Not measured: S2: no pgbench" in once
    assert rendering.into_document(report, once) == once
    with pytest.raises(ValueError, match="it has no lines <!-- results"):
        rendering.into_document(report, "# Another\n")
