"""persona-migrate install-bridge: the shim in place of the first system's bridge.py."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys

import pytest

OLD = "#!/usr/bin/env python3\nprint('the old bridge')\n"


@pytest.fixture
def old_bridge(persona_root):
    folder = persona_root / "python" / "persona"
    folder.mkdir()
    bridge = folder / "bridge.py"
    bridge.write_text(OLD)
    return bridge


@pytest.fixture
def install(run_own, persona_root):
    return functools.partial(
        run_own, "persona-migrate", "install-bridge", "--persona-root", persona_root
    )


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_scripts_that_start_python_with_bridge_py_reach_the_queue(
    install, old_bridge, persona_root, small_env, queue
):
    assert install().returncode == 0

    spawn = (
        "const {spawnSync} = require('node:child_process');"
        "const [python, bridge, cwd, env] = process.argv.slice(1);"
        "const run = (...args) => spawnSync(python, [bridge, ...args],"
        " {cwd, env: JSON.parse(env), encoding: 'utf8'});"
        'const made = run(\'create_job\', \'{"type": "agent_action", "agent": "cro"}\');'
        "const seen = run('get_job_status', JSON.parse(made.stdout).shortId);"
        "const none = run('get_job_status', 'ffffffff');"
        "console.log(JSON.stringify([made, seen, none].map(r => [r.status, JSON.parse(r.stdout)])));"
    )
    done = subprocess.run(
        ["node", "-e", spawn, sys.executable, old_bridge, persona_root / "python",
         json.dumps({"PATH": "/usr/bin:/bin"} | small_env)],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip

    made, seen, none = json.loads(done.stdout)
    assert made[0] == 0
    assert seen == [0, seen[1] | {"id": made[1]["id"], "status": "pending"}]
    assert none == [1, {"error": "Job not found"}]
    assert queue.value("select count(*) from persona.jobs") == 1


def test_the_old_file_is_kept_and_comes_back(install, old_bridge):
    before = old_bridge.stat()

    assert "would do" in install("--dry-run").stdout
    assert old_bridge.read_text() == OLD

    assert "kept as bridge.py.orig" in install().stdout
    assert "the shim already" in install().stdout
    assert old_bridge.with_name("bridge.py.orig").read_text() == OLD
    assert os.access(old_bridge, os.X_OK)

    assert "would do" in install("--undo", "--dry-run").stdout
    assert "the old file again" in install("--undo").stdout
    assert "nothing to undo" in install("--undo").stdout
    assert old_bridge.read_text() == OLD
    assert old_bridge.stat().st_mode == before.st_mode
    assert [f.name for f in old_bridge.parent.iterdir()] == ["bridge.py"]


def test_a_kept_file_is_never_overwritten(install, old_bridge):
    install()
    old_bridge.write_text("# an update of the first system has put its own back\n")

    done = install()

    assert done.returncode == 78
    assert "one of the two would be lost" in done.stderr
    assert old_bridge.with_name("bridge.py.orig").read_text() == OLD
    assert old_bridge.read_text().startswith("# an update")


def test_where_there_was_no_bridge_none_is_left(install, persona_root):
    bridge = persona_root / "python" / "persona" / "bridge.py"

    assert install().returncode == 0
    assert bridge.exists()

    assert "there was none before" in install("--undo").stdout
    assert not bridge.exists()
