"""What the real programs printed (tests/agents ran them), and the verdict on it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from persona_pg.verdict import Verdict, open_reader

RECORDED = Path(__file__).with_name("recorded")
ANSWER = {"text": "The answer is 42."}

# file, format, exit code, signal -> outcome, failure kind
CASES = [
    ("claude-good.json", "claude-json", 0, None, "completed", None),
    ("claude-401.json", "claude-json", 1, None, "failed", "auth"),
    ("claude-500.json", "claude-json", 1, None, "failed", "overloaded"),
    ("claude-max-turns.json", "claude-json", 1, None, "failed", "max_turns"),
    ("claude-good.jsonl", "claude-stream-json", 0, None, "completed", None),
    ("claude-429.jsonl", "claude-stream-json", 1, None, "rate_limited", "rate_limited"),
    ("claude-529.jsonl", "claude-stream-json", 1, None, "failed", "overloaded"),
    ("claude-max-turns.jsonl", "claude-stream-json", 1, None, "failed", "max_turns"),
    ("claude-sigterm.jsonl", "claude-stream-json", 143, None, "failed", "crashed"),
    ("gemini-good.json", "gemini-json", 0, None, "completed", None),
    ("gemini-401.stderr", "gemini-json", 145, None, "failed", "auth"),
    ("gemini-500.stderr", "gemini-json", 244, None, "failed", "overloaded"),
    ("gemini-sigterm.stderr", "gemini-json", 0, None, "failed", "bad_output"),
    ("gemini-good.jsonl", "gemini-stream-json", 0, None, "completed", None),
    ("gemini-401.jsonl", "gemini-stream-json", 145, None, "failed", "auth"),
    ("codex-good.jsonl", "codex-jsonl", 0, None, "completed", None),
    ("codex-401.jsonl", "codex-jsonl", 1, None, "failed", "auth"),
    ("codex-429.jsonl", "codex-jsonl", 1, None, "rate_limited", "rate_limited"),
    ("codex-529.jsonl", "codex-jsonl", 1, None, "failed", "overloaded"),
    ("codex-sigterm.jsonl", "codex-jsonl", None, 15, "failed", "crashed"),
]


def judge(name, output_format, exit_code, signal=None, *, step=1 << 30) -> Verdict:
    data = (RECORDED / name).read_bytes()
    reader = open_reader(output_format)
    stream = "stderr" if name.endswith(".stderr") else "stdout"
    for at in range(0, len(data), step):
        reader.feed(stream, memoryview(data)[at : at + step])
    return reader.finish(exit_code, signal)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_a_recording_has_its_verdict(case):
    name, output_format, exit_code, signal, outcome, kind = case

    verdict = judge(name, output_format, exit_code, signal)

    assert (verdict.outcome, verdict.failure_kind) == (outcome, kind)
    assert verdict.result == (ANSWER if outcome == "completed" else None)
    assert (verdict.error is None) == (outcome == "completed")


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_verdict_is_the_same_however_the_output_is_cut(case, step):
    name, output_format, exit_code, signal, *_ = case

    assert judge(name, output_format, exit_code, signal, step=step) == judge(
        name, output_format, exit_code, signal
    )


def test_no_recording_is_left_without_a_case():
    assert {path.name for path in RECORDED.iterdir()} == {case[0] for case in CASES}


def test_claude_tells_cost_tokens_turns_and_session():
    verdict = judge("claude-good.json", "claude-json", 0)

    assert verdict.cost_usd == Decimal("0.000235")
    assert verdict.is_cumulative_cost
    assert verdict.tokens == {"input": 12, "output": 7, "cacheRead": 0, "cacheWrite": 0}
    assert verdict.turns == 1
    assert verdict.model == "claude-opus-4-8[1m]"
    assert verdict.session_id is not None
    assert len(verdict.session_id) == 36


def test_claude_tells_what_it_was_not_allowed_to_do():
    [denial] = judge("claude-max-turns.json", "claude-json", 1).permission_denials

    assert denial["tool_name"] == "Bash"
    assert "command" in denial["tool_input"]


def test_claude_that_was_ended_still_has_a_session_to_resume():
    verdict = judge("claude-sigterm.jsonl", "claude-stream-json", 143)

    assert verdict.session_id is not None
    assert verdict.model == "claude-opus-4-8[1m]"
    assert verdict.error == "claude gave no result: exit code 143 (SIGTERM)"


@pytest.mark.parametrize(
    "name, output_format, model",
    [
        ("gemini-good.json", "gemini-json", "gemini-x"),
        ("gemini-good.jsonl", "gemini-stream-json", "gemini-2.5-flash"),
        ("codex-good.jsonl", "codex-jsonl", None),
    ],
)
def test_gemini_and_codex_tell_tokens_but_no_cost(name, output_format, model):
    verdict = judge(name, output_format, 0)

    assert verdict.cost_usd is None
    assert verdict.tokens == {"input": 9, "output": 6, "cacheRead": 0, "cacheWrite": 0}
    assert verdict.model == model
    assert verdict.session_id is not None
