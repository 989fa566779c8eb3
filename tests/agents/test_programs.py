"""The real programs outside the queue, against the stand-in provider: the verdicts hold."""

from __future__ import annotations

import os
import signal

import pytest
from pgtest import eventually

pytestmark = [pytest.mark.agents, pytest.mark.timeout(900)]  # the first one installs from npm

ANSWER = {"text": "The answer is 42."}
FORMATS = {
    "claude": ("claude-json", "claude-stream-json"),
    "gemini": ("gemini-json", "gemini-stream-json"),
    "codex": ("codex-jsonl",),
}
EVERY = [(program, name) for program, names in FORMATS.items() for name in names]
# test_through_the_runner has the other formats.
OTHERS = [("claude", "claude-json"), ("gemini", "gemini-stream-json")]


@pytest.mark.parametrize("program, output_format", OTHERS)
def test_a_good_answer_is_completed(launcher, program, output_format):
    ended = launcher.run(program, "good", output_format)

    assert ended.exit_code == 0, ended.stderr
    assert ended.verdict.outcome == "completed"
    assert ended.verdict.result == ANSWER
    assert ended.verdict.session_id
    assert ended.verdict.tokens["output"] > 0
    # Claude leaves a `ps` behind that ends by itself in a moment.
    eventually(lambda: not launcher.survivors(), what="nothing is left")


@pytest.mark.parametrize("program, output_format", OTHERS)
def test_a_refused_key_is_an_auth_failure(launcher, program, output_format):
    ended = launcher.run(program, "unauthorized", output_format)

    assert (ended.verdict.outcome, ended.verdict.failure_kind) == ("failed", "auth")
    assert "authentication_error" in ended.verdict.error


@pytest.mark.parametrize(
    "scenario, kind",
    [("limited", "rate_limited"), ("broken", "overloaded"), ("overloaded", "overloaded")],
)
@pytest.mark.parametrize(
    "program, output_format", [("claude", "claude-json"), ("codex", "codex-jsonl")]
)
def test_limits_and_trouble_are_told_apart(launcher, program, output_format, scenario, kind):
    ended = launcher.run(program, scenario, output_format)

    assert ended.verdict.failure_kind == kind, ended.stdout
    assert ended.verdict.outcome == ("rate_limited" if kind == "rate_limited" else "failed")


@pytest.mark.parametrize("program, output_format", EVERY)
def test_sigterm_while_the_provider_hangs_is_never_success(
    launcher, standin, program, output_format
):
    process = launcher.start(program, "hang", output_format)
    eventually(lambda: standin.asked("hang"), 60)
    os.killpg(process.pid, signal.SIGTERM)

    ended = launcher.judge(process, output_format)

    assert ended.verdict.outcome == "failed"
    assert ended.verdict.failure_kind == ("bad_output" if ended.exit_code == 0 else "crashed")
    eventually(lambda: not launcher.survivors(), what="nothing is left")


@pytest.mark.parametrize("output_format", FORMATS["claude"])
def test_claude_at_its_turn_limit(launcher, output_format):
    ended = launcher.run("claude", "loop", output_format, "--max-turns", "1")

    assert ended.verdict.failure_kind == "max_turns"
    assert ended.verdict.cost_usd > 0
    assert ended.verdict.permission_denials[0]["tool_name"] == "Bash"
