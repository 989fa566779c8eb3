"""The protocols as checked models: docs/models/README.md."""

from __future__ import annotations

import shutil
import subprocess

import pgtest
import pytest

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("spin") and shutil.which("cc")),
        reason="the model checker spin or a C compiler is not installed",
    ),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize("protocol", ["wake", "lease"])
def test_the_protocol_holds_and_its_wrong_variants_do_not(protocol):
    done = subprocess.run(
        [pgtest.ROOT / "docs/models/check", protocol], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = [line for line in done.stdout.splitlines() if line.startswith(protocol)]
    assert len(results) > 10
    assert all(line.endswith(", ok") for line in results)
