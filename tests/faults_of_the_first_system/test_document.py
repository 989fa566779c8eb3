"""docs/first-system.md names mechanisms and tests: they have to be there."""

from __future__ import annotations

import re
from pathlib import Path

from pgtest import ROOT

DOCUMENT = (ROOT / "docs" / "first-system.md").read_text()


def test_every_fault_has_its_row_and_the_tests_that_the_rows_name_exist():
    faults = DOCUMENT.split("## Faults")[1].split("## The hardening")[0]
    sources = "".join(
        path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)
    )

    assert re.findall(r"(?m)^\| (\d+) \|", faults) == [str(n) for n in range(1, 18)]
    for path in set(re.findall(r"`(tests/[\w/.]+)`", DOCUMENT)):
        assert (ROOT / path).exists(), path
    for name in set(re.findall(r"`(test_\w+[a-z])`", DOCUMENT)):
        assert f"def {name}(" in sources, name
    for number in range(1, 18):
        assert f"def test_{number:02}_" in sources, number
