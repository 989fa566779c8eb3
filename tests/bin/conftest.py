"""Fixtures of the tests of the shell wrappers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from pgtest import ROOT
from sqltest import Queue

BIN = ROOT / "bin"


@dataclass
class Answer:
    """What one call of a wrapper gave."""

    code: int
    document: Any
    talk: str
    seconds: float


@pytest.fixture
def small_env(client_dsn):
    """An environment with nothing in it but where the database is."""
    return {"PERSONA_DATABASE_URL": client_dsn, "PERSONA_ENV_FILE": os.devnull}


@pytest.fixture
def call(small_env):
    """Run a wrapper; standard output must be one JSON document and a newline."""

    def run(program, *arguments, body=b"", env=None, shell=None, cwd="/", timeout=12):
        started = time.monotonic()
        done = subprocess.run(
            [*([shell] if shell else []), BIN / program, *arguments],
            input=body,
            capture_output=True,
            check=False,
            timeout=timeout,
            cwd=cwd,
            env=small_env if env is None else env,
        )
        seconds = time.monotonic() - started
        assert done.stdout.endswith(b"\n"), done
        assert done.stdout.count(b"\n") == 1, done
        return Answer(done.returncode, json.loads(done.stdout), done.stderr.decode(), seconds)

    return run


@pytest.fixture
def queue(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        found = Queue(conn)
        found.agent()
        yield found
        assert found.inconsistencies() == []


@pytest.fixture
def persona_root(tmp_path):
    """The folder that the plugin takes for the first system: it must only exist."""
    root = tmp_path / "persona root"
    (root / "python").mkdir(parents=True)
    return root


@pytest.fixture
def node(persona_root, small_env):
    """Run a script of the plugin's kind against a wrapper; return its output."""

    def run(script, env=None, timeout=90):
        plugin = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "/nowhere", "SUPABASE_URL": "any",
                  "SUPABASE_KEY": "any", "PERSONA_EXEC_ID": "run-7"}  # fmt: skip
        done = subprocess.run(
            ["node", ROOT / "tests" / "bin" / script, BIN / "persona-bridge", persona_root,
             json.dumps(plugin | small_env | (env or {}))],
            capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
