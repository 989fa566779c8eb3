"""Where the daily notes of a vault are."""

from __future__ import annotations

import json
import unicodedata
from datetime import date

import pytest

from persona_pg.errors import ConfigurationError
from persona_pg.notes.moment import format_date
from persona_pg.notes.vault import Vault, days_to_scan

DAY = date(2026, 3, 2)  # a Monday


@pytest.mark.parametrize(
    "pattern, written",
    [
        ("YYYY-MM-DD", "2026-03-02"),
        ("YYYY/MMMM/YYYY-MMM-DD", "2026/March/2026-Mar-02"),
        ("YY.M.D", "26.3.2"),
        ("dddd, MMMM Do YYYY", "Monday, March 2nd 2026"),
        ("ddd dd d E", "Mon Mo 1 1"),
        ("[Daily] YYYY-[W]WW", "Daily 2026-W10"),
        ("GGGG-[W]WW-E gggg ww", "2026-W10-1 2026 10"),
        ("DDDD DDD DDDo Q Qo", "061 61 61st 1 1st"),
        (r"\Day YYYYMMDD", "Day 20260302"),
        ("[]DD", "02"),
    ],
)
def test_a_date_is_written_as_moment_writes_it(pattern, written):
    assert format_date(DAY, pattern.replace("ay ", "[ay] ")) == written


@pytest.mark.parametrize(
    "day, written",
    [
        (date(2027, 1, 1), "2026-W53 2027-01 1st"),
        (date(2026, 12, 31), "2026-W53 2027-01 31st"),
        (date(2024, 12, 29), "2024-W52 2025-01 29th"),
        (date(2026, 3, 11), "2026-W11 2026-11 11th"),
    ],
)
def test_weeks_at_the_turn_of_a_year_and_ordinals(day, written):
    assert format_date(day, "GGGG-[W]WW gggg-ww Do") == written


@pytest.fixture
def vault(tmp_path):
    """Make a vault with a settings file of the core plugin and of Periodic Notes."""

    def make(core=None, periodic=None):
        root = tmp_path / "My Vault"
        for name, found in (
            ("daily-notes.json", core),
            ("plugins/periodic-notes/data.json", periodic),
        ):
            path = root / ".obsidian" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if found is not None:
                path.write_text(found if isinstance(found, str) else json.dumps(found))
        return Vault.open(root)

    return make


@pytest.mark.parametrize(
    "core, periodic, path",
    [
        (None, None, "2026-03-02.md"),
        ({}, None, "2026-03-02.md"),
        ({"folder": "Daily"}, None, "Daily/2026-03-02.md"),
        ({"folder": "/Daily/Notes/", "format": "YYYY/MM/DD"}, None, "Daily/Notes/2026/03/02.md"),
        ({"folder": "/"}, None, "2026-03-02.md"),
        (None, {"daily": {"enabled": True, "folder": "P", "format": "DD"}}, "P/02.md"),
        (None, {"daily": {"enabled": False, "folder": "P"}}, "2026-03-02.md"),
        ({"folder": "D"}, {"daily": {"enabled": True, "folder": "P"}}, "D/2026-03-02.md"),
        ('\ufeff{"folder": "D"}', None, "D/2026-03-02.md"),
        ({"folder": None, "format": ""}, None, "2026-03-02.md"),
    ],
)
def test_the_path_of_a_daily_note(vault, core, periodic, path):
    found = vault(core, periodic)

    assert found.name == "My Vault"
    assert found.daily_note(DAY) == path


@pytest.mark.parametrize(
    "core, said",
    [
        ("{", "daily-notes.json is no valid JSON"),
        ({"folder": ["x"]}, "must be texts"),
        ({"folder": "../other"}, "not inside the vault"),
        ({"format": "YYYY-MM-DD HH:mm"}, "'H' stands for no part of a date"),
        ({"format": "Daily YYYY"}, "plain text goes into [brackets]"),
    ],
)
def test_settings_that_cannot_be_right_are_named(vault, core, said):
    with pytest.raises(ConfigurationError) as caught:
        vault(core)

    assert said in str(caught.value)


def test_a_folder_that_a_mac_has_named_is_found(vault):
    found = vault({"folder": "Tägliches"})
    folder = found.root / unicodedata.normalize("NFD", "Tägliches")
    folder.mkdir()
    (folder / "2026-03-02.md").write_text("x")

    assert found.path(found.daily_note(DAY)).read_text() == "x"


def test_a_vault_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="no folder"):
        Vault.open(tmp_path / "nowhere")


def test_today_and_yesterday_are_scanned_and_more_only_when_asked():
    assert days_to_scan(None, DAY) == [DAY, date(2026, 3, 1)]
    assert days_to_scan(date(2026, 2, 27), DAY)[-1] == date(2026, 2, 27)
    assert len(days_to_scan(date(2026, 2, 27), DAY)) == 4
    assert days_to_scan(date(2027, 1, 1), DAY) == [DAY]
