"""`persona bench`: measures the queue on the user's own server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from persona_pg.cli.edge import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from persona_pg.bench.model import Report


@click.command("bench")
@click.argument("measurements", nargs=-1, metavar="[NAME]...")
@click.option(
    "--quick", "size", flag_value="quick", help="A minute: does it work? No figures to trust."
)
@click.option(
    "--full", "size", flag_value="full", help="Hours: 10 million pending and finished jobs."
)
@click.option(
    "--repeat",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="So many runs; the table has the one in the middle of each row.",
)
@click.option(
    "--compare",
    metavar="NAME,...",
    help="Peers to measure in the same run: procrastinate, pgqueuer, graphile.",
)
@click.option("--peer-python", metavar="PATH", help="The Python that has the peers' packages.")
@click.option(
    "--node-modules",
    metavar="DIR",
    type=click.Path(exists=True, path_type=Path),
    help="The node_modules folder with graphile-worker and pg.",
)
@click.option("--keep", is_flag=True, help="Do not drop the scratch databases.")
@click.option(
    "--into",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, writable=True, path_type=Path),
    help="Put table and plots into this Markdown file too, in the place of the last ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--list", "only_list", is_flag=True, help="Name the measurements and end.")
def bench_command(
    measurements: tuple[str, ...], *, size: str | None, repeat: int, compare: str | None,
    peer_python: str | None, node_modules: Path | None, keep: bool, into: Path | None,
    as_json: bool, only_list: bool,
) -> None:  # fmt: skip
    """Measure the queue, each figure beside its limit on this machine.

    It works in databases of its own (persona_bench_...) on the configured server and drops them
    afterwards; the role needs CREATEDB. Without NAME everything is measured, which takes about a
    quarter of an hour. What counts is the ratio to the reference, which is measured in the same
    run; a machine that is busy with something else makes even ratios wander.
    """
    from persona_pg import settings
    from persona_pg.bench import plan, suite
    from persona_pg.bench.compare import PEERS
    from persona_pg.bench.compare import measure as measure_peers
    from persona_pg.bench.lab import Lab
    from persona_pg.bench.model import Report, median_of
    from persona_pg.bench.report import into_document
    from persona_pg.embedded import resolve_dsn

    if only_list:
        for name, (key, function) in suite.MEASUREMENTS.items():
            click.echo(f"{key:<4} {name:<11} {(function.__doc__ or '').partition(chr(10))[0][4:]}")
        return
    peers = [name for name in (compare or "").split(",") if name]
    _check_known("measurement", measurements, suite.MEASUREMENTS)
    _check_known("peer", peers, PEERS)
    if into is not None:
        try:
            into_document(Report(), into.read_text())
        except ValueError as exc:
            raise click.UsageError(f"{into} cannot take the results: {exc}") from None
    chosen = {"quick": plan.QUICK, "full": plan.FULL, None: plan.NORMAL}[size]
    names = measurements or tuple(suite.MEASUREMENTS)
    reports = []
    with Lab(resolve_dsn(settings.load()), keep=keep) as lab:
        for number in range(repeat):
            if repeat > 1:
                say(f"run {number + 1} of {repeat}")
            report = suite.measure(lab, chosen, names, say=say)
            if peers:
                say(f"peers: {', '.join(peers)}")
                python = {} if peer_python is None else {"python": peer_python}
                measure_peers(report, lab, chosen, peers, node_modules=node_modules, **python)
            reports.append(report)
    report = median_of(reports)
    _print(report, as_json=as_json)
    if into is not None:
        into.write_text(into_document(report, into.read_text()))
    if any(report.skipped for report in reports):
        raise SystemExit(1)


def _check_known(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            listed = ", ".join(known)
            raise click.UsageError(f"there is no {what} {name!r}; there are: {listed}")


def _print(report: Report, *, as_json: bool) -> None:
    from tabulate import tabulate

    from persona_pg.bench import report as rendering

    if as_json:
        click.echo(json.dumps(rendering.document(report), indent=2))
        return
    click.echo(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    if report.machine.get("fsync") != "on" or report.machine.get("synchronous_commit") == "off":
        say("this server does not wait for its disk: the figures are not those of a durable queue")
    heads = rendering.HEADS
    click.echo(
        tabulate(rendering.table(report), headers=heads, tablefmt="plain", disable_numparse=True)
    )
    for series in report.series:
        click.echo()
        for line in rendering.plot(series):
            click.echo(line)
    for name, why in report.skipped.items():
        say(f"not measured: {name}: {why}")
