"""Completion of commands, options and names, asked as the shells ask."""

from __future__ import annotations

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
