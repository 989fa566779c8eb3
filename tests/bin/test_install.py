"""bin/install, and the template of .env."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pgtest import ROOT

from persona_pg import settings

INSTALL = ROOT / "bin" / "install"
TEMPLATE = ROOT / ".env.template"
# Not settings of ours: the key beside SUPABASE_URL is only ever read by the first system.
OTHERS = {"SUPABASE_KEY"}


def run(*arguments, home, **env):
    return subprocess.run(
        [INSTALL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        cwd="/",
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"} | env,
    )


def test_it_installs_from_an_empty_environment_over_what_an_upgrade_of_the_system_left(tmp_path):
    prefix = tmp_path / "a prefix"
    # Its Python has gone, and its links lead nowhere.
    (prefix / "lib" / "persona-pg").mkdir(parents=True)
    (prefix / "lib" / "persona-pg" / "pyvenv.cfg").write_text("home = /gone\n")
    (prefix / "bin").mkdir()
    (prefix / "bin" / "persona").symlink_to("/gone/persona")
    # Where pip keeps what it has fetched before.
    env = {n: v for n, v in os.environ.items() if n.startswith("PIP_")}
    env["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())

    done = run("--prefix", prefix, "--without-embedded", home=tmp_path, **env)

    assert done.returncode == 0, done.stderr
    assert "installed: persona" in done.stderr
    assert "persona service install --user" in done.stdout
    assert f"rm -r {prefix}/lib/persona-pg" in done.stdout
    links = {link.name: link.resolve() for link in (prefix / "bin").iterdir()}
    assert {"persona", "persona-worker", "persona-migrate", "persona-rpc"} <= links.keys()
    assert all(path.is_relative_to(prefix / "lib") for path in links.values())
    asked = subprocess.run(
        [prefix / "bin" / "persona-rpc", "version"], capture_output=True, text=True, check=False,
        env={"PERSONA_DATABASE_URL": "host=/nowhere", "PERSONA_ENV_FILE": os.devnull},
    )  # fmt: skip
    assert '"code":"db_unreachable"' in asked.stdout


@pytest.mark.parametrize(
    ("arguments", "prepare", "why"),
    [
        (["--purge"], None, "there is no option '--purge'"),
        (["--prefix"], None, "--prefix needs a folder"),
        pytest.param(
            ["--pipx"],
            None,
            "there is no pipx",
            marks=pytest.mark.skipif(shutil.which("pipx") is not None, reason="pipx is installed"),
        ),
        (["--prefix", "{}"], "lib/persona-pg/mine", "is not of this program"),
    ],
)
def test_it_refuses_with_one_line(tmp_path, arguments, prepare, why):
    if prepare:
        Path(tmp_path / prepare).mkdir(parents=True)

    done = run(*[a.format(tmp_path) for a in arguments], home=tmp_path)

    assert done.returncode == 78
    assert why in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def template_lines():
    text = TEMPLATE.read_text()
    return dict(re.findall(r"(?m)^#([A-Z][A-Z_]+)=(.*)$", text))


def test_the_template_names_every_setting_and_no_other():
    known = {variable for variable, _, _ in settings.variables()}

    assert template_lines().keys() == known | OTHERS


def test_what_the_template_shows_is_the_default():
    defaults = settings.load(environ={}, dotenv=None)
    examples = {"PERSONA_DATABASE_URL", "PERSONA_ROOT", "PERSONA_VAULT_PATH"}
    fields = {variable: field for variable, field, _ in settings.variables()}

    for variable, text in template_lines().items():
        if text and variable not in examples:
            read = settings.load(environ={variable: text}, dotenv=None)
            assert getattr(read, fields[variable]) == getattr(defaults, fields[variable]), variable
    # And each has its default there, or has none that could be written down.
    empty = {v for v, text in template_lines().items() if not text} - OTHERS
    assert all(getattr(defaults, fields[v]) is None for v in empty - {"PERSONA_HOME"})


def test_the_template_is_read_as_it_stands_and_when_uncommented(tmp_path):
    text = TEMPLATE.read_text()
    plain = tmp_path / "plain"
    plain.write_text(text)
    assert settings.load(environ={}, dotenv=plain).sources == {}

    full = tmp_path / "full"
    full.write_text(re.sub(r"(?m)^#(?=[A-Z_]+=.)", "", text))
    assert settings.load(environ={}, dotenv=full).worker_concurrency == 3
