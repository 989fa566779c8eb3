"""Tables, durations and cut texts, without a database."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from persona_pg.cli import output


@pytest.mark.parametrize(
    "seconds, text",
    [
        (None, ""),
        (0.04, "0.0s"),
        (0.44, "0.4s"),
        (9.96, "10.0s"),
        (59.4, "59s"),
        (60, "1m"),
        (185, "3m 05s"),
        (3600, "1h"),
        (7800, "2h 10m"),
        (Decimal("356400.5"), "4d 03h"),
        (timedelta(seconds=90), "1m 30s"),
        (-5, "0.0s"),
    ],
)
def test_durations(seconds, text):
    assert output.duration(seconds) == text


def test_ages_look_both_ways():
    now = datetime.now(UTC)
    assert output.age(now - timedelta(minutes=5)) == "5m ago"
    assert output.age(now + timedelta(minutes=5, seconds=0.5)) == "in 5m"
    assert output.age(None) == ""


def test_small_amounts_keep_their_digits():
    assert [output.money(Decimal(a)) for a in ("0", "0.25", "0.00123", "12.346")] == [
        "$0.00",
        "$0.25",
        "$0.0012",
        "$12.35",
    ]


@pytest.mark.parametrize(
    "text, width, cut",
    [
        ("short", 8, "short"),
        ("much too long", 8, "much to…"),
        ("日本語の質問", 8, "日本語…"),
        ("🎉🎉🎉🎉🎉", 8, "🎉🎉🎉…"),
    ],
)
def test_texts_are_cut_by_columns_not_by_characters(text, width, cut):
    assert output.cut(text, width) == cut
    assert output.width_of(cut) <= width


def test_controls_and_reordering_marks_are_taken_out():
    assert output.clean("a\x1b[31m\u202eb\nc\x9bd") == "a b c d"


def table(monkeypatch, columns, rows, width):
    monkeypatch.setenv("COLUMNS", str(width))
    shown = io.StringIO()
    monkeypatch.setattr(output.sys, "stdout", shown)
    output.put_table(rows, columns)
    return shown.getvalue().splitlines()


COLUMNS = [
    output.Column("id", lambda r: r[0]),
    output.Column("rare", lambda r: r[1], rank=2),
    output.Column("less", lambda r: r[2], rank=1),
    output.Column("text", lambda r: r[3], flexible=True),
]
ROW = ("12345678", "aaaaaaaaaa", "bbbbbbbbbb", "c" * 50)


def test_a_table_first_cuts_its_flexible_columns_then_leaves_others_out(monkeypatch):
    heads = {}
    for width in (100, 60, 40, 30, 20):
        lines = table(monkeypatch, COLUMNS, [ROW], width)
        heads[width] = lines[0].split()
        assert max(map(len, lines)) <= width

    assert heads[100] == heads[60] == ["id", "rare", "less", "text"]
    assert heads[30] == ["id", "less", "text"]
    assert heads[20] == ["id", "text"]


def test_into_a_pipe_nothing_is_cut(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = io.StringIO()
    monkeypatch.setattr(output.sys, "stdout", shown)
    output.put_table([ROW], COLUMNS)
    assert "c" * 50 in shown.getvalue()
