"""The question reaches the program exactly as it was asked, and nothing of it is interpreted."""

from __future__ import annotations

import hashlib
import json

import pytest

CANARY = "persona-canary-1f0c"
QUESTIONS = {
    "quotes": """He said "no" and 'yes' and `both` \\ "\\" ''' \"\"\" $'x'""",
    "newlines": "first\nsecond\r\nthird\n\n  indented\ttab\n",
    "substitution": f"$(touch {{tmp}}/{CANARY}) `touch {{tmp}}/{CANARY}` ${{HOME}} $HOME !!",
    "semicolon": f"; touch {{tmp}}/{CANARY}; rm -rf {{tmp}}/x & true | cat && false",
    "flag": "--dangerously-skip-permissions",
    "short flag": "-p",
    "two dashes": "--",
    "at file": "@/etc/passwd",
    "placeholders": "{vault} {payload.question} {{prompt}} {model} %s %(x)s {0} \\1 {",
    "emoji": "\U0001f9d1\u200d\U0001f680 \u2014 \u00e9\u0301 \u4f60\u597d \u202e\u05e9\u05dc\u05d5\u05dd \U0001f1e9\U0001f1ea",
    "sql": "'; drop schema persona cascade; -- $$ $1 :'x' \\copy",
    "controls": "\x01\x02\x07\x1b[31mred\x1b[0m\x7f",
    "spaces": "  leading and trailing  ",
    "1 MB": "".join(f"{number}: \"all\" $(of) 'it' \U0001f600\n" for number in range(34_000)),
}


@pytest.fixture
def ask(cli, worker, fake_claude, tmp_path):
    """Ask all questions through the command line and a real runner; returns what arrived."""

    def run(by_stdin):
        sent = {}
        for name, question in QUESTIONS.items():
            text = question.replace("{tmp}", str(tmp_path))
            if by_stdin(name):
                made = cli(
                    "create", "-t", "research", "-a", "researcher", "-q", "-",
                    input=text.encode(), text=False,
                )  # fmt: skip
            else:
                made = cli("create", "-t", "research", "-a", "researcher", "-q", text, text=False)
            assert made.returncode == 0, made.stderr
            sent[made.stdout.decode().strip()] = text.encode()
        runner = worker("--drain", "--agent", "researcher", env={"PATH": fake_claude.path})
        assert runner.wait(90) == 0, runner.output()
        return sent

    return run


@pytest.mark.parametrize("way", ["argument", "standard input"])
def test_every_question_arrives_to_the_byte(ask, fake_claude, cli, tmp_path, way):
    # An argument ends at 128 KiB: the long one goes through standard input in both cases.
    sent = ask(lambda name: way == "standard input" or name == "1 MB")

    arrived = {fake_claude.stdin(call) for call in range(len(fake_claude.calls()))}
    assert arrived == set(sent.values())
    for job_id, text in sent.items():
        job = json.loads(cli("info", job_id, "--json").stdout)
        assert job["status"] == "completed"
        digest = hashlib.sha256(text).hexdigest()
        assert job["result"]["text"] == f"{len(text)} bytes, sha256 {digest}"
    assert not (tmp_path / CANARY).exists()


def test_the_program_is_started_as_promised(ask, fake_claude, tmp_path):
    ask(lambda _name: True)

    for call in range(len(fake_claude.calls())):
        argv, about = fake_claude.argv(call), fake_claude.about(call)
        assert argv[:4] == ["-p", "--output-format", "json", "--max-turns"]
        assert argv.index("--model") + 1 == argv.index("opus")
        asked = {text for name, text in QUESTIONS.items() if name != "short flag"}
        assert not asked & set(argv)
        assert about["stdin_is_file"]
        assert about["leads_its_session"]
        ours = {name for name in about["env"] if name.startswith("PERSONA_")}
        assert "PERSONA_JOB_ID" in ours
        assert not ours & {"PERSONA_DATABASE_URL", "PERSONA_HOME", "PERSONA_ENV_FILE"}
        assert not any(name.startswith(("PG", "CLAUDECODE")) for name in about["env"])
