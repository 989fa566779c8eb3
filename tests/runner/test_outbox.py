"""What waits for the database's acknowledgement: order, bounds, and one that it refuses."""

from __future__ import annotations

import json

import pytest

from persona_pg.runner import outbox as module
from persona_pg.runner.outbox import UPDATE_FAILED, LogWriter, Outbox, storable


@pytest.fixture
def outbox():
    return Outbox(on_line=lambda: None)


def report(writer, **details):
    return {"job_id": writer.job_id, "lease": writer.lease, "outcome": "completed", **details}


def sent(text):
    return [item["job_id"] for item in json.loads(text)]


def test_lines_go_out_in_their_order_and_numbered_for_each_execution(outbox):
    a, b = LogWriter(outbox, "a", 1), LogWriter(outbox, "b", 7)
    a.write("stdout", "info", "one")
    b.write("stderr", "warn", "two", is_part=True)
    a.write("system", "error", "three", details={"stream": "stdout"})
    count, text = outbox.next_lines()

    lines = json.loads(text)
    assert count == 3
    assert [(i["job_id"], i["lease"], i["seq"], i["message"]) for i in lines] == [
        ("a", 1, 1, "one"), ("b", 7, 1, "two"), ("a", 1, 2, "three"),
    ]  # fmt: skip
    assert [i.get("metadata") for i in lines] == [None, {"part": True}, {"stream": "stdout"}]


def test_nothing_leaves_before_its_acknowledgement(outbox):
    writer = LogWriter(outbox, "a", 1)
    writer.write("stdout", "info", "one")
    assert outbox.next_lines() == outbox.next_lines()
    assert not outbox.is_empty
    outbox.lines_done(1)
    assert outbox.is_empty
    assert outbox.line_bytes == 0

    outbox.add_report(writer, report(writer))
    assert outbox.next_reports(0) == outbox.next_reports(0)
    outbox.report_done("a", 1)
    assert outbox.is_empty


def test_a_report_waits_for_its_own_lines_only(outbox, monkeypatch):
    monkeypatch.setattr(module, "_BATCH_LINES", 2)
    outbox = Outbox(on_line=lambda: None)
    long, short = LogWriter(outbox, "long", 1), LogWriter(outbox, "short", 1)
    short.write("stdout", "info", "only one")
    for n in range(4):
        long.write("stdout", "info", str(n))
    outbox.add_report(long, report(long))
    outbox.add_report(short, report(short))

    count, _ = outbox.next_lines()
    assert sent(outbox.next_reports(count)) == ["short"]
    outbox.lines_done(count)
    outbox.report_done("short", 1)
    count, _ = outbox.next_lines()
    assert outbox.next_reports(count) is None
    outbox.lines_done(count)
    count, _ = outbox.next_lines()
    assert sent(outbox.next_reports(count)) == ["long"]


def test_one_exchange_is_bounded_in_lines_and_bytes(outbox):
    writer = LogWriter(outbox, "a", 1)
    for _ in range(6000):
        writer.write("stdout", "info", "x")
    count, _ = outbox.next_lines()
    assert count == 5000
    outbox.lines_done(count)
    outbox.lines_done(1000)

    for _ in range(100):
        writer.write("stdout", "info", "x" * 16384)
    count, text = outbox.next_lines()
    assert 50 < count < 70
    assert len(text) < 1.1 * (1 << 20)


def test_one_line_beyond_the_bound_still_goes_out(outbox):
    LogWriter(outbox, "a", 1).write("stdout", "info", "x" * (2 << 20))
    assert outbox.next_lines()[0] == 1


def test_a_full_batch_does_not_wait_for_company(outbox):
    writer = LogWriter(outbox, "a", 1)
    for _ in range(4999):
        writer.write("stdout", "info", "x")
    assert not outbox.has_full_batch
    writer.write("stdout", "info", "x")
    assert outbox.has_full_batch


def test_the_one_line_that_is_refused_is_found_and_the_others_are_kept(outbox):
    writer = LogWriter(outbox, "a", 1)
    for n in range(1000):
        writer.write("stdout", "info", "poison" if n == 617 else str(n))
    stored, exchanges, dropped = [], 0, 0
    while (batch := outbox.next_lines()) is not None:
        count, text = batch
        exchanges += 1
        if "poison" in text:
            dropped += not outbox.narrow_lines(count)
        else:
            stored += [line["message"] for line in json.loads(text)]
            outbox.lines_done(count)

    assert dropped == 1
    assert stored == [str(n) for n in range(1000) if n != 617]
    assert exchanges < 60


def test_the_one_report_that_is_refused_ends_as_a_plain_failure_and_holds_up_nobody(outbox):
    writers = {name: LogWriter(outbox, name, 1) for name in ("good", "poison", "other")}
    for writer in writers.values():
        outbox.add_report(writer, report(writer, result={"text": writer.job_id}))
    done, singles, exchanges = {}, False, 0
    while not outbox.is_empty:
        exchanges += 1
        assert exchanges < 20
        lines = outbox.next_lines()
        text = outbox.next_reports(lines[0] if lines else 0, only_one=singles)
        if lines:
            outbox.lines_done(lines[0])
        if text is None:
            continue
        if '"text": "poison"' in text:
            if singles:
                outbox.replace_report("no such thing")
            singles = True
        else:
            singles = False
            for item in json.loads(text):
                done[item["job_id"]] = item
                outbox.report_done(item["job_id"], item["lease"])

    assert (done["good"]["outcome"], done["other"]["outcome"]) == ("completed", "completed")
    assert (done["poison"]["outcome"], done["poison"]["error"]) == ("failed", UPDATE_FAILED)


def test_the_refused_one_is_replaced_not_one_that_has_not_been_sent(outbox, monkeypatch):
    monkeypatch.setattr(module, "_BATCH_LINES", 1)
    outbox = Outbox(on_line=lambda: None)
    waits, poison = LogWriter(outbox, "waits", 1), LogWriter(outbox, "poison", 1)
    for _ in range(3):
        waits.write("stdout", "info", "x")
    outbox.add_report(waits, report(waits))
    outbox.add_report(poison, report(poison))
    assert sent(outbox.next_reports(1, only_one=True)) == ["poison"]
    outbox.replace_report("no such thing")

    outbox.lines_done(4)
    items = {item["job_id"]: item for item in json.loads(outbox.next_reports(0))}
    assert items["waits"]["outcome"] == "completed"
    assert items["poison"]["error"] == UPDATE_FAILED


def test_a_report_refused_even_as_a_plain_failure_is_given_up(outbox):
    writer = LogWriter(outbox, "a", 1)
    outbox.add_report(writer, report(writer))
    for _ in range(2):
        outbox.next_reports(1, only_one=True)
        outbox.replace_report("never")
    assert not outbox.has_reports


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("🎉é", "🎉é"),
        ({"k\0": ["\udfff", 1, None]}, {"k\ufffd": ["\ufffd", 1, None]}),
        (("a\0",), ["a\ufffd"]),
    ],
)
def test_what_postgresql_cannot_store_is_replaced(value, stored):
    assert storable(value) == stored


def test_an_unreported_execution_is_still_held(outbox):
    writer = LogWriter(outbox, "a", 3)
    outbox.add_report(writer, report(writer))
    assert list(outbox.unreported) == [("a", 3)]
