"""Fixtures of upgrades: the release before this one, from the repository's own history."""

from __future__ import annotations

import os
import subprocess
import sys

import pgtest
import pytest

# Until there is a tag: what was handed out last.
FIRST = "af7d949"


def _git(*arguments):
    return subprocess.run(["git", "-C", pgtest.ROOT, *arguments], capture_output=True, check=False)


class Release:
    """A checkout of an earlier release, run by this Python with the packages of this one."""

    def __init__(self, name, tree):
        self.name = name
        self.tree = tree
        self.environ = {"PYTHONPATH": str(tree)}

    def python(self, code, *arguments, **options):
        """Start its Python on a piece of code."""
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | self.environ,
            cwd=self.tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def migrate(self, dsn):
        code = "import sys; from persona_pg import migrations; migrations.migrate(sys.argv[1])"
        with self.python(code, dsn) as process:
            process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.fixture(scope="session")
def previous(tmp_path_factory):
    """Return the release before this one; skip where the history does not reach back to it."""
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^").stdout.decode().strip()
    name = tag or FIRST
    archive = _git("archive", "--format=tar", name)
    if archive.returncode != 0:
        pytest.skip(f"the history does not reach back to {name}: a shallow clone, or no checkout")
    tree = tmp_path_factory.mktemp("previous")
    # Not tarfile: its filter came with 3.11.4, and leaving it out is deprecated later.
    subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
    return Release(name, tree)


@pytest.fixture
def previous_dsn(empty_dsn, previous):
    """Connection string to a database with the schema of the previous release."""
    previous.migrate(empty_dsn)
    return empty_dsn
