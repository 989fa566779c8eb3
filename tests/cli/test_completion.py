"""Completion of commands, options and names, asked as the shells ask."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time

import pytest


@pytest.fixture
def bash(persona, persona_env):
    """Complete a line in a real bash with the script in force; returns what it offers."""

    def complete(line, **env):
        script = (
            'PATH="$2:$PATH"; eval "$(persona completion bash)"; '
            "read -r -a COMP_WORDS <<<\"$1\"; [[ $1 == *' ' ]] && COMP_WORDS+=(''); "
            "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _persona_completion persona; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        found = subprocess.run(
            ["bash", "-c", script, "bash", line, persona.rpartition("/")[0]],
            env=persona_env | env, capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return found.stdout.split(), found.stderr

    return complete


def test_bash_completes_commands_statuses_agents_and_ids(bash, create):
    job = create()
    assert bash("persona mon") == (["monitor"], "")
    assert bash("persona logs ") == ([job[-8:]], "")
    assert bash(f"persona logs {job[-8:-4]}") == ([job[-8:]], "")
    assert bash("persona jobs -s pen") == (["pending"], "")
    assert bash("persona create -a assis") == (["assistant"], "")
    assert bash("persona create -t resea") == (["research"], "")


@pytest.mark.no_database
def test_it_is_silent_and_fast_where_the_database_is_away(bash):
    began = time.monotonic()
    found = bash("persona logs ", PERSONA_DATABASE_URL="postgresql://192.0.2.1:1/nowhere")
    assert found == ([], "")
    # Two starts of the program, and at most 0.8 s of patience.
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_it_accepts(popen, shell):
    out, err = popen("completion", shell).communicate()
    assert "_PERSONA_COMPLETE" in out
    assert err == ""
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=out, text=True, check=True)


def test_fish_completes_as_a_person_types(persona, persona_env, create, home):
    job = create()
    fish = shutil.which("fish") or pytest.skip("there is no fish on this machine")

    def complete(line):
        script = 'persona completion fish | source; complete --do-complete "$argv"'
        found = subprocess.run(
            [fish, "--no-config", "-c", script, line], capture_output=True, text=True, check=True, timeout=30,
            env=persona_env | {"PATH": f"{persona.rpartition('/')[0]}:/usr/bin:/bin"},
        )  # fmt: skip
        return [offer.split("\t")[0] for offer in found.stdout.splitlines()], found.stderr

    assert complete("persona mon") == (["monitor"], "")
    assert complete(f"persona logs {job[-8:-4]}") == ([job[-8:]], "")
    assert complete("persona jobs -s pen") == (["pending"], "")


def test_zsh_completes_as_a_person_types(persona, persona_env, create, tmp_path):
    job = create()
    zsh = shutil.which("zsh") or pytest.skip("there is no zsh on this machine")
    env = persona_env | {"PATH": f"{persona.rpartition('/')[0]}:/usr/bin:/bin", "TERM": "dumb"}
    env |= {"HOME": str(tmp_path), "PS1": "> "}
    with Terminal([zsh, "-f", "-i"], env) as terminal:
        terminal.type(
            'autoload -U compinit; compinit -u; eval "$(persona completion zsh)"; echo rea""dy\n'
        )
        terminal.see("ready")
        terminal.type("persona mon\t")
        terminal.see("persona monitor ")
        terminal.type("\x15persona logs " + job[-8:-4] + "\t")
        terminal.see(job[-8:] + " ")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, argv, env):
        self._argv, self._env = argv, env
        self._text = ""

    def __enter__(self):
        pid, self._fd = pty.fork()
        if pid == 0:
            os.execve(self._argv[0], self._argv, self._env)
        self._pid = pid
        return self

    def __exit__(self, *_):
        os.close(self._fd)
        os.waitpid(self._pid, 0)

    def type(self, text):
        self._text = ""
        os.write(self._fd, text.encode())

    def see(self, text):
        deadline = time.monotonic() + 30
        while text not in self._text:
            assert select.select([self._fd], [], [], deadline - time.monotonic())[0], self._text
            self._text += os.read(self._fd, 4096).decode(errors="replace")
