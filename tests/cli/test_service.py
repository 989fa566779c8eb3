"""persona service: the units of the user, with a stand-in for systemctl that writes down its calls."""

from __future__ import annotations

import json
import plistlib
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from persona_pg import settings
from persona_pg.service import files, plan

SYSTEMCTL = """\
#!/bin/sh
case "$*" in
  *show-environment) cat "$0.environment" 2> /dev/null; exit 0 ;;
  *is-enabled*) echo enabled; exit 0 ;;
  *is-active*) cat "$0.state" 2> /dev/null || echo inactive; exit 0 ;;
esac
echo "$*" >> "$0.calls"
if [ -e "$0.broken" ]; then echo 'Failed to connect to bus' >&2; exit 1; fi
"""
AGENTS = ("claude", "gemini")


@pytest.fixture
def programs(tmp_path):
    """A folder of the user's on PATH: the agent programs, and the stand-in."""
    folder = tmp_path / "my programs"
    folder.mkdir()
    for name in AGENTS:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    (folder / "systemctl").write_text(SYSTEMCTL)
    (folder / "systemctl").chmod(0o755)
    return folder


@pytest.fixture
def service(cli, programs, persona_env):
    def run(*arguments, **env):
        path = f"{programs}:{persona_env['PATH']}:./relative"
        return cli("service", *arguments, env={"PATH": path} | env)

    return run


@pytest.fixture
def calls(programs):
    def read():
        file = programs / "systemctl.calls"
        return file.read_text().splitlines() if file.exists() else []

    return read


@pytest.fixture
def units(tmp_path):
    return tmp_path / ".config" / "systemd" / "user"


def test_install_writes_starts_and_records_the_surroundings(
    service, calls, units, programs, persona_env
):
    home, dsn = Path(persona_env["PERSONA_HOME"]), persona_env["PERSONA_DATABASE_URL"]
    done = service("install", "--user", "--agent", "assistant", "--concurrency", "2")

    assert done.returncode == 0, done.stderr
    assert calls() == [
        "--user daemon-reload",
        "--user enable --now persona-runner.service",
    ]
    unit = (units / files.RUNNER).read_text()
    worker = Path(sys.executable).parent / "persona-worker"
    assert f"ExecStart={worker} --agent assistant --concurrency 2\n" in unit
    assert f'Environment="PATH={programs}:' in unit
    assert "relative" not in unit
    assert f"Environment=HOME={persona_env['HOME']}\n" in unit
    for line in ("Type=notify", "NotifyAccess=all", "KillMode=mixed", "WatchdogSec=60",
                 "TimeoutStopSec=330", "Restart=on-failure", "OOMPolicy=continue", "Delegate=yes",
                 "WantedBy=default.target"):  # fmt: skip
        assert f"\n{line}\n" in unit
    # A database is configured, so there is no server of ours to start.
    assert not (units / files.POSTGRES).exists()
    # The address, with its password, is for the user only.
    secret = home / "service.env"
    assert f"EnvironmentFile={secret}\n" in unit
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert f'PERSONA_DATABASE_URL="{dsn}"' in secret.read_text()
    assert "PERSONA_DATABASE_URL" not in unit

    before = len(calls())
    (programs / "systemctl.state").write_text("active\n")
    again = service("install", "--agent", "assistant", "--concurrency", "2")
    assert "wrote" not in again.stdout
    assert calls()[before:] == calls()[:before]  # and nothing is restarted
    service("install", "--agent", "assistant", "--concurrency", "3")
    assert calls()[-1] == "--user try-restart --no-block persona-runner.service"


def test_uninstall_removes_what_is_ours_and_only_that(service, calls, units, home):
    service("install", "--force")
    (units / files.POSTGRES).write_text("# somebody's own\n")

    done = service("uninstall")

    assert done.returncode == 0, done.stderr
    assert calls()[-2:] == ["--user disable --now persona-runner.service", "--user daemon-reload"]
    assert [unit.name for unit in units.iterdir()] == [files.POSTGRES]
    assert not (home / "service.env").exists()
    assert "no service of ours" in service("uninstall").stderr


def test_a_missing_program_of_an_enabled_agent_is_refused_by_name(
    service, programs, units, cli, calls
):
    (programs / "gemini").unlink()

    refused = service("install")

    assert refused.returncode == 78
    assert "gemini is not on your PATH; it is needed by: gemini-researcher" in refused.stderr
    assert "persona agents disable gemini-researcher" in refused.stderr
    assert not units.exists()
    assert calls() == []
    # Who is not served, or not enabled, does not count.
    assert service("install", "--agent", "assistant").returncode == 0
    assert service("install", "--force").returncode == 0
    cli("agents", "disable", "gemini-researcher")
    assert service("install").returncode == 0


def test_the_key_that_turns_a_subscription_into_bills_is_named(service, programs, home):
    key = {"ANTHROPIC_API_KEY": "sk-made-up"}

    assert "API_KEY" not in service("install").stderr
    shell_only = service("install", **key)
    assert "does not go with the service" in shell_only.stderr
    assert "sk-made-up" not in (home / "service.env").read_text()

    along = service("install", "--pass", "ANTHROPIC_API_KEY", **key)
    assert "is billed to that key" in along.stderr
    assert 'ANTHROPIC_API_KEY="sk-made-up"' in (home / "service.env").read_text()
    assert service("install", "--pass", "ANTHROPIC_API_KEY").returncode == 78

    (programs / "systemctl.environment").write_text("ANTHROPIC_API_KEY=sk-other\n")
    assert "the service manager has it" in service("install").stderr


def test_status_tells_whether_the_runner_runs(service, programs):
    service("install")
    assert service("status").returncode == 1
    (programs / "systemctl.state").write_text("active\n")

    done = service("status", "--json")

    assert done.returncode == 0
    runner = json.loads(done.stdout)[0]
    assert runner["state"] == "active"
    assert runner["isInstalled"] is True


def test_a_manager_that_does_not_answer_is_one_line(service, programs):
    (programs / "systemctl.broken").touch()

    done = service("install")

    assert done.returncode == 1
    assert "Failed to connect to bus" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def odd_plan(tmp_path):
    """A plan in which nothing is plain."""
    # systemd takes no quotes in the name of a program, whatever is done about them.
    folder = tmp_path / "a b 50% $HOME"
    folder.mkdir()
    for name in ("persona-worker", "persona"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    loaded = settings.load(environ={"PERSONA_HOME": str(folder)}, dotenv=None)
    environ = {"PATH": "/usr/bin:/bin", "HOME": '/a "b" \\c', "KEY": 'a"b\\c$d`e'}
    made = plan.make(loaded, environ, passed=["KEY"], arguments=["--name", 'a "b" $c %d'])
    return plan.Plan(**{**vars(made), "worker": folder / "persona-worker",
                        "persona": folder / "persona", "is_embedded": True})  # fmt: skip


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_to_say_about_the_units(odd_plan, tmp_path):
    folder = tmp_path / "units"
    for file in files.systemd(odd_plan, folder):
        file.write()

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", folder / files.RUNNER, folder / files.POSTGRES],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    unit = (folder / files.RUNNER).read_text()
    # The server before the runner, and with a unit of its own.
    assert f"Requires={files.POSTGRES}\nAfter={files.POSTGRES}\n" in unit
    # The shell reads that file by the same rules.
    read = subprocess.run(
        ["sh", "-c", '. "$1"; printf %s "$KEY"', "sh", odd_plan.state / "service.env"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert read.stdout == 'a"b\\c$d`e'


def test_launchd_gets_the_same_as_property_lists(odd_plan, tmp_path):
    written = files.launchd(odd_plan, tmp_path)

    runner, server = (plistlib.loads(file.text.encode()) for file in written)
    assert runner["ProgramArguments"] == [str(odd_plan.worker), "--name", 'a "b" $c %d']
    assert runner["EnvironmentVariables"]["KEY"] == 'a"b\\c$d`e'
    assert runner["KeepAlive"] == {"SuccessfulExit": False}
    assert runner["ExitTimeOut"] > 300
    assert server["ProgramArguments"] == [str(odd_plan.persona), "db", "start"]
    assert server["AbandonProcessGroup"] is True
    assert {file.mode for file in written} == {0o600}


def test_print_shows_the_files_and_writes_none(service, units, calls):
    shown = service("install", "--print")

    assert f"# {units / files.RUNNER} (mode 644)" in shown.stdout
    assert "Type=notify" in shown.stdout
    assert "<key>Label</key>" in service("install", "--print", "--manager", "launchd").stdout
    assert not units.exists()
    assert calls() == []
