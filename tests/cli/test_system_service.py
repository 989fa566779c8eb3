"""persona service --system: the template unit, its sandbox, and what is written where."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from pgtest import ROOT

from persona_pg import settings
from persona_pg.service import plan, system

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)
KEY = "sk-made-up"


@pytest.fixture
def service(cli, tmp_path):
    """Install into the folder of an image, as the user of the test."""

    def run(command, *arguments, **env):
        where = ["--system", "--root", str(tmp_path / "image")]
        return cli("service", command, *where, *arguments, env=env)

    return run


@pytest.fixture
def image(tmp_path):
    return tmp_path / "image" / "etc"


@pytest.fixture
def unit(tmp_path):
    """The unit as a file of an instance, of a plan in which nothing is plain."""
    programs = tmp_path / "opt $x"
    programs.mkdir()
    worker = programs / "persona-worker"
    worker.write_text("#!/bin/sh\n")
    worker.chmod(0o755)
    loaded = settings.load(
        environ={"PERSONA_VAULT_PATH": str(programs), "PERSONA_DATABASE_URL": "host=h"}, dotenv=None
    )
    made = plan.make(loaded, {"PATH": "/usr/bin", "HOME": "/h"})
    path = tmp_path / "persona-runner@x.service"
    text = system.unit_text(plan.Plan(**{**vars(made), "worker": worker}), "persona")
    # A user that there is, and no special one: verify asks for both.
    path.write_text(text.replace("User=persona", "User=games"))
    return path


def analyzed(command, *arguments):
    done = subprocess.run(
        ["systemd-analyze", command, *map(str, arguments)],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@needs_systemd
def test_systemd_finds_nothing_to_say_about_the_unit(unit):
    assert analyzed("verify", "--man=no", unit) == (0, "", "")


@needs_systemd
def test_its_exposure_is_small_and_what_is_open_is_explained(unit):
    code, table, _ = analyzed("security", "--offline=true", "--threshold=40", unit)

    assert code == 0, table
    [exposure] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", table)
    assert float(exposure) <= 4.0
    is_open = {line.split()[1] for line in table.splitlines() if line.startswith("\u2717")}
    explained = (ROOT / "docs" / "security.md").read_text().split("## The sandbox")[1]
    assert f"its exposure {exposure}" in explained
    rows = {
        name
        for cell in re.findall(r"(?m)^\| (`[^|]+) \|", explained)
        for name in re.findall(r"`([^`]+)`", cell)
    }
    missing = [
        item for item in is_open
        if item.rstrip("=") not in rows and item.partition("=")[0] not in rows
        and item.split("=/")[0] not in rows
    ]  # fmt: skip
    assert missing == []


def test_what_agent_programs_would_die_of_is_not_in_the_unit(unit):
    text = unit.read_text()

    assert "MemoryDenyWriteExecute" not in text
    assert "RestrictNamespaces" not in text
    for line in ("Type=notify", "NotifyAccess=all", "WatchdogSec=60", "KillMode=mixed",
                 "Delegate=yes", "TimeoutStopSec=330", "LoadCredential=persona:/etc/persona/%i",
                 "EnvironmentFile=/etc/persona/%i.env", "StateDirectory=persona/%i"):  # fmt: skip
        assert f"\n{line}\n" in text


def test_a_vault_in_a_home_is_all_that_is_seen_of_homes(unit):
    homely = settings.load(
        environ={"PERSONA_VAULT_PATH": "/home/me/vault", "PERSONA_DATABASE_URL": "host=h"}, dotenv=None
    )  # fmt: skip
    text = system.unit_text(plan.make(homely, {"PATH": "/usr/bin", "HOME": "/h"}), "persona")

    assert "\nProtectHome=tmpfs\nBindPaths=/home/me/vault\n" in text or (
        "\nBindPaths=/home/me/vault\nProtectHome=tmpfs\n" in text
    )
    assert "\nProtectHome=yes\n" in unit.read_text()


def test_install_writes_the_unit_and_variables_that_only_root_reads(service, image, persona_env):
    options = ("--name", "edge", "--agent", "assistant", "--force", "--pass", "OPENAI_API_KEY")
    done = service("install", *options, OPENAI_API_KEY=KEY, WORKER_CONCURRENCY="5")

    assert done.returncode == 0, done.stderr
    written = (image / "persona" / "edge.env").read_text()
    assert "WORKER_ARGUMENTS=--agent assistant\n" in written
    assert f'OPENAI_API_KEY="{KEY}"' in written
    assert 'WORKER_CONCURRENCY="5"' in written
    assert f'PERSONA_DATABASE_URL="{persona_env["PERSONA_DATABASE_URL"]}"' in written
    assert "PERSONA_HOME" not in written
    assert stat.S_IMODE((image / "persona" / "edge.env").stat().st_mode) == 0o600
    assert stat.S_IMODE((image / "persona" / "edge").stat().st_mode) == 0o700
    unit = (image / "systemd" / "system" / system.TEMPLATE).read_text()
    assert KEY not in unit
    assert "postgresql" not in re.sub(r"After=.*", "", unit)
    again = service("install", *options, OPENAI_API_KEY=KEY, WORKER_CONCURRENCY="5")
    assert again.stdout == ""


def test_the_unit_goes_with_its_last_instance_and_secrets_stay(service, image):
    for name in ("one", "two"):
        assert service("install", "--name", name, "--force").returncode == 0
    (image / "persona" / "one" / "token").write_text("x")
    template = image / "systemd" / "system" / system.TEMPLATE

    first = service("uninstall", "--name", "one")

    assert "kept" in first.stdout
    assert (image / "persona" / "one" / "token").exists()
    assert template.exists()
    service("uninstall", "--name", "two")
    assert not template.exists()
    assert "no service of ours" in service("uninstall", "--name", "two").stderr


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--name", "a/b"], {}, "--name 'a/b'"),
        (["--root", "/", "--run-as", "no-such-user"], {}, "useradd --system" if os.geteuid() == 0 else "as root"),
        (["--root", "/", "--run-as", "root"], {}, "whole machine" if os.geteuid() == 0 else "root"),
        ([], {"PERSONA_DATABASE_URL": ""}, "set PERSONA_DATABASE_URL"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line(service, arguments, env, said):
    done = service("install", "--force", *arguments, **env)

    assert done.returncode == 78, done.stderr
    assert said in done.stderr
    refusal = [line for line in done.stderr.splitlines() if "which the unit hides" not in line]
    assert len(refusal) == 1
    assert not Path("/etc/systemd/system", system.TEMPLATE).exists()
