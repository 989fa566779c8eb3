"""docs/security.md lists attacks: each has its number and the test that tries it."""

from __future__ import annotations

import re

from pgtest import ROOT

DOCUMENT = (ROOT / "docs" / "security.md").read_text()
ATTACKS = DOCUMENT.split("## Attack list")[1].split("\n## ")[0]
ROW = re.compile(r"(?m)^\| (\d+) \|.*\| `(tests/[\w/.]+)` `(test_\w+)` \|$")


def test_every_attack_has_one_test_that_is_there():
    rows = ROW.findall(ATTACKS)

    assert [number for number, _, _ in rows] == [str(n + 1) for n in range(len(rows))]
    assert len(rows) == len(re.findall(r"(?m)^\| \d+ \|", ATTACKS)) > 40
    for number, path, name in rows:
        source = (ROOT / path).read_text()
        assert f"def {name}(" in source, (number, name)
    named = [(path, name) for _, path, name in rows]
    assert len(set(named)) == len(named)


def test_every_test_of_attacks_is_in_the_list():
    source = (ROOT / "tests" / "security" / "test_attacks.py").read_text()

    assert set(re.findall(r"(?m)^def (test_\w+)", source)) <= {
        name for _, _, name in ROW.findall(ATTACKS)
    }


def test_every_role_has_its_row_of_what_it_can_do_at_worst():
    worst = DOCUMENT.split("at worst\n")[1].split("\n## ")[0]

    for role in re.findall(r"persona_\w+", (ROOT / "db" / "roles.sql").read_text()):
        if role != "persona_definer":
            assert f"| `{role}` |" in worst, role
