"""A command line as people see it."""

from __future__ import annotations

import pytest

from persona_pg.runner.shownargv import secret_values, shown


@pytest.mark.parametrize(
    ("argv", "seen"),
    [
        (["claude", "-p", "what is a token?"], ["claude", "-p", "what is a token?"]),
        (["x", "--token", "abc", "y"], ["x", "--token", "***", "y"]),
        (["x", "--token", "--verbose"], ["x", "--token", "--verbose"]),
        (["x", "--openai-api-key=abc"], ["x", "--openai-api-key=***"]),
        (["env", "API_KEY=abc", "A=b"], ["env", "API_KEY=***", "A=b"]),
        (["x", "postgres://me:abc@host/db"], ["x", "postgres://me:***@host/db"]),
        (["curl", "-H", "Authorization: Bearer abc"], ["curl", "-H", "Authorization: Bearer ***"]),
        (["x", "prefix-hidden-value-suffix"], ["x", "prefix-***-suffix"]),
    ],
)
def test_what_is_secret_is_not_shown(argv, seen):
    assert shown(argv, ["hidden-value"]) == seen


def test_what_is_long_is_cut():
    few = shown(["x" * 100_000] * 1000)
    assert len(few) < 12
    assert sum(map(len, few)) < 2300
    assert few[0] == f"{'x' * 300}… (100000 characters)"
    assert few[-1].startswith("… and 99")
    assert len(shown(["x"] * 1000)) == 61


def test_only_values_of_named_secrets_are_hidden():
    env = {"KEY": "long-enough", "PIN": "1234", "PLAIN": "something else"}
    named = {"KEY": {"secret": "a"}, "PIN": {"secret": "b"}, "PLAIN": "something else"}
    assert secret_values(named, env) == ["long-enough"]
