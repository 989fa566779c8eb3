"""Fixtures for tests that run agent programs: the real ones, and a stand-in that stores its input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from agents import fake_claude as fake_claude_source
from agents import programs
from agents.standin import Standin

from persona_pg.verdict import Verdict, open_reader


@pytest.fixture
def standin():
    with Standin() as server:
        yield server


@dataclass(frozen=True)
class Ended:
    verdict: Verdict
    exit_code: int  # negative: the signal
    stdout: bytes
    stderr: bytes


class Launcher:
    """Runs a real program outside the queue, as the runner would: files, own session, own HOME."""

    def __init__(self, folder: Path, standin: Standin) -> None:
        self.folder = folder
        self.standin = standin
        self.mark = uuid.uuid4().hex  # in the environment of all that the program starts

    def start(self, program, scenario, output_format, *options) -> subprocess.Popen[bytes]:
        home, vault = self.folder / "home", self.folder / "vault"
        home.mkdir()
        vault.mkdir()
        prompt = self.folder / "prompt"
        prompt.write_text("Why?")
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
        env |= programs.settings(program, home, self.standin.url(scenario))
        with (
            prompt.open("rb") as stdin,
            (self.folder / "out").open("wb") as stdout,
            (self.folder / "err").open("wb") as stderr,
        ):
            return subprocess.Popen(
                programs.argv(program, output_format, *options),
                env=env | {"TEST_MARK": self.mark},
                cwd=vault,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def judge(self, process, output_format, timeout=60) -> Ended:
        code = process.wait(timeout)
        stdout, stderr = (self.folder / "out").read_bytes(), (self.folder / "err").read_bytes()
        reader = open_reader(output_format)
        reader.feed("stderr", stderr)
        reader.feed("stdout", stdout)
        verdict = reader.finish(code if code >= 0 else None, -code if code < 0 else None)
        return Ended(verdict, code, stdout, stderr)

    def run(self, program, scenario, output_format, *options) -> Ended:
        return self.judge(self.start(program, scenario, output_format, *options), output_format)

    def survivors(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process) -> bool:
        try:
            return process.environ().get("TEST_MARK") == self.mark
        except psutil.Error:
            return False


@pytest.fixture
def launcher(tmp_path, standin):
    found = Launcher(tmp_path, standin)
    yield found
    for process in found.survivors():
        process.kill()


class FakeClaude:
    """A folder for PATH whose `claude` stores what it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        program = folder / "claude"
        source = Path(fake_claude_source.__file__).read_text(encoding="utf-8")
        program.write_text(f"#!{sys.executable} -IS\n{source}", encoding="utf-8")
        program.chmod(0o755)

    @property
    def path(self) -> str:
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def calls(self) -> list[Path]:
        return sorted((self.folder / "calls").glob("*"), key=lambda call: int(call.name))

    def stdin(self, call=-1) -> bytes:
        return (self.calls()[call] / "stdin").read_bytes()

    def argv(self, call=-1) -> list[str]:
        return json.loads((self.calls()[call] / "argv.json").read_text())

    def about(self, call=-1) -> dict:
        return json.loads((self.calls()[call] / "about.json").read_text())


@pytest.fixture
def processes_left():
    """List the processes of jobs that are alive: by the mark, or by what they do."""
    return programs.left_behind


@pytest.fixture
def fake_claude(tmp_path):
    return FakeClaude(tmp_path / "fake")


@pytest.fixture
def real_claude(tmp_path):
    """A folder for PATH that holds the real `claude`."""
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "claude").symlink_to(programs.find("claude").resolve())
    assert shutil.which("claude", path=str(folder))
    return folder
