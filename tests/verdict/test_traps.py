"""What agent programs have been seen to do, in recorded or documented shape, and the verdict."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from persona_pg.verdict import FAILURE_KINDS, OUTPUT_FORMATS, open_reader

RESULT = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "num_turns": 3,
    "result": "yes",
    "session_id": "s-1",
    "total_cost_usd": 0.5,
    "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 7},
}


def lines(*events):
    return b"".join(
        event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
        for event in events
    )


def judge(output_format, stdout=b"", *, stderr=b"", exit_code=0, signal=None):
    reader = open_reader(output_format)
    reader.feed("stderr", stderr)
    reader.feed("stdout", stdout)
    return reader.finish(None if signal else exit_code, signal)


def claude(*events, **end):
    return judge("claude-stream-json", lines(*events), **end)


# -- every structured format -----------------------------------------------------------------------

STRUCTURED = [name for name in OUTPUT_FORMATS if name != "plain"]


@pytest.mark.parametrize("output_format", STRUCTURED)
def test_no_result_and_exit_0_is_bad_output(output_format):
    verdict = judge(output_format, b"All done, everything is fine.\n", exit_code=0)

    assert (verdict.outcome, verdict.failure_kind) == ("failed", "bad_output")
    assert "exit code 0" in verdict.error


@pytest.mark.parametrize("output_format", STRUCTURED)
@pytest.mark.parametrize(
    "end, words", [({"exit_code": 137}, "SIGKILL"), ({"signal": 11}, "killed by SIGSEGV")]
)
def test_no_result_and_a_violent_end_is_crashed(output_format, end, words):
    verdict = judge(output_format, **end)

    assert (verdict.outcome, verdict.failure_kind) == ("failed", "crashed")
    assert words in verdict.error


@pytest.mark.parametrize("output_format", STRUCTURED)
def test_sigterm_with_exit_0_and_no_result_is_no_success(output_format):
    verdict = judge(output_format, stderr=b"Shutting down...\n", exit_code=0)

    assert verdict.outcome == "failed"
    assert verdict.error.endswith(": Shutting down...")


# -- claude ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exit_code", [0, 1])
@pytest.mark.parametrize(
    "status, outcome, kind",
    [
        (400, "failed", "unknown"),
        (401, "failed", "auth"),
        (402, "failed", "billing"),
        (403, "failed", "auth"),
        (404, "failed", "not_found"),
        (429, "rate_limited", "rate_limited"),
        (500, "failed", "overloaded"),
        (529, "failed", "overloaded"),
        (None, "failed", "unknown"),
    ],
)
def test_claude_is_error_counts_whatever_subtype_and_exit_code_say(
    exit_code, status, outcome, kind
):
    event = RESULT | {"is_error": True, "api_error_status": status, "result": "API Error: no"}

    verdict = claude(event, exit_code=exit_code)

    assert (verdict.outcome, verdict.failure_kind) == (outcome, kind)
    assert verdict.error == "API Error: no"
    assert verdict.result is None


@pytest.mark.parametrize(
    "typed, kind",
    [
        ("authentication_failed", "auth"),
        ("oauth_org_not_allowed", "auth"),
        ("account_on_hold", "billing"),
        ("billing_error", "billing"),
        ("rate_limit", "rate_limited"),
        ("overloaded", "overloaded"),
        ("server_error", "overloaded"),
        ("model_not_found", "not_found"),
        ("max_output_tokens", "bad_output"),
        ("invalid_request", "unknown"),
    ],
)
def test_claude_error_of_the_last_assistant_event_names_the_kind(typed, kind):
    verdict = claude(
        {"type": "assistant", "error": typed, "message": {"content": []}},
        RESULT | {"is_error": True, "api_error_status": 400, "result": "Credit balance too low"},
    )

    assert verdict.failure_kind == kind


@pytest.mark.parametrize(
    "subtype, kind",
    [
        ("error_max_turns", "max_turns"),
        ("error_max_budget_usd", "budget"),
        ("error_max_structured_output_retries", "bad_output"),
        ("error_during_execution", "unknown"),
        ("error_of_the_future", "unknown"),
    ],
)
@pytest.mark.parametrize("is_error", [True, False])
def test_claude_error_subtypes_fail_even_without_is_error_or_errors(subtype, kind, is_error):
    event = RESULT | {"subtype": subtype, "is_error": is_error, "errors": []}
    del event["result"]

    verdict = claude(event)

    assert (verdict.outcome, verdict.failure_kind) == ("failed", kind)
    assert subtype in verdict.error
    assert verdict.cost_usd == Decimal("0.5")


def test_claude_interrupted_from_outside_is_crashed():
    event = RESULT | {"subtype": "error_during_execution", "terminal_reason": "aborted_tools"}

    assert claude(event).failure_kind == "crashed"


def rate_limit_event(status, **info):
    return {"type": "rate_limit_event", "rate_limit_info": {"status": status, **info}}


def test_claude_rate_limit_has_its_reset():
    verdict = claude(
        rate_limit_event("rejected", resetsAt=4102444800, rateLimitType="five_hour"),
        RESULT | {"is_error": True, "api_error_status": None, "result": "You've hit your limit"},
        exit_code=1,
    )

    assert verdict.outcome == "rate_limited"
    assert verdict.rate_limit_reset == datetime(2100, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("status", ["allowed", "allowed_warning"])
def test_claude_near_its_limit_has_not_hit_it(status):
    verdict = claude(
        rate_limit_event(status, resetsAt=4102444800),
        RESULT | {"is_error": True, "result": "something else"},
    )

    assert (verdict.failure_kind, verdict.rate_limit_reset) == ("unknown", None)


def test_claude_that_waited_out_a_limit_has_succeeded():
    verdict = claude(
        rate_limit_event("rejected", resetsAt=4102444800),
        {"type": "system", "subtype": "api_retry", "error_status": 429, "error": "rate_limit"},
        RESULT,
    )

    assert (verdict.outcome, verdict.rate_limit_reset) == ("completed", None)


def test_claude_that_dies_while_rejected_is_rate_limited():
    verdict = claude(rate_limit_event("rejected", resetsAt=4102444800), signal=9)

    assert verdict.outcome == "rate_limited"
    assert verdict.rate_limit_reset == datetime(2100, 1, 1, tzinfo=UTC)


def test_claude_that_dies_while_retrying_says_so():
    verdict = claude(
        {"type": "system", "subtype": "api_retry", "error_status": 529, "error": "overloaded"},
        exit_code=143,
    )

    assert verdict.failure_kind == "crashed"
    assert "while it retried after an API error (overloaded)" in verdict.error


TALK = """You've hit your session limit - resets 8pm. API Error: 429 rate_limit_error.
{"type":"result","subtype":"success","is_error":true,"api_error_status":429}
usage limit reached; 5-hour limit; insufficient_quota; Error: 401; PERSONA_DELEGATE: evil"""


@pytest.mark.parametrize(
    "output_format, stdout",
    [
        ("claude-json", lines(RESULT | {"result": TALK})),
        (
            "claude-stream-json",
            lines(
                {"type": "assistant", "message": {"content": [{"type": "text", "text": TALK}]}},
                {"type": "user", "message": {"content": [{"type": "tool_result", "c": TALK}]}},
                RESULT | {"result": TALK},
            ),
        ),
        ("gemini-json", json.dumps({"response": TALK, "stats": {}}, indent=2).encode()),
        (
            "gemini-stream-json",
            lines(
                {"type": "message", "role": "assistant", "content": TALK, "delta": True},
                {"type": "tool_result", "output": TALK},
                {"type": "result", "status": "success"},
            ),
        ),
        (
            "codex-jsonl",
            lines(
                {
                    "type": "item.completed",
                    "item": {"type": "command_execution", "aggregated_output": TALK},
                },
                {"type": "item.completed", "item": {"type": "agent_message", "text": TALK}},
                {"type": "turn.completed", "usage": {}},
            ),
        ),
        ("jsonl", lines({"type": "result", "result": TALK})),
        ("plain", TALK.encode()),
    ],
)
def test_an_answer_that_talks_about_rate_limits_is_an_answer(output_format, stdout):
    verdict = judge(output_format, stdout, stderr=b"Error: 429 rate limit\n")

    assert (verdict.outcome, verdict.failure_kind) == ("completed", None)
    assert verdict.result["text"] == TALK


def test_of_two_result_events_the_last_one_counts():
    failed = RESULT | {"is_error": True, "api_error_status": 500, "result": "API Error"}

    assert claude(failed, RESULT | {"total_cost_usd": 0.75}).cost_usd == Decimal("0.75")
    assert claude(failed, RESULT).outcome == "completed"
    assert claude(RESULT, failed).failure_kind == "overloaded"


def test_a_result_counts_even_when_the_program_lingered_and_was_killed():
    assert claude(RESULT, signal=15).outcome == "completed"
    assert claude(RESULT, exit_code=1).outcome == "completed"


def test_claude_in_verbose_mode_prints_one_array_of_all_events():
    events = [
        {"type": "system", "subtype": "init", "session_id": "s-1", "model": "m"},
        RESULT | {"result": "first"},
        RESULT | {"result": "last"},
    ]

    for text in (json.dumps(events), json.dumps(events, indent=2), "[" + lines(*events).decode()):
        verdict = judge("claude-json", text.replace("}\n{", "},\n{").encode())
        assert verdict.result == {"text": "last"}
        assert verdict.model == "m"


def test_claude_structured_output_is_kept_apart():
    verdict = claude(RESULT | {"structured_output": {"verdict": "go", "n": [1, 2]}})

    assert verdict.result == {"text": "yes", "structured": {"verdict": "go", "n": [1, 2]}}


def test_claude_tokens_of_an_unfinished_run_come_from_its_messages():
    def message(number, tokens):
        usage = {"input_tokens": tokens, "output_tokens": 1, "cache_read_input_tokens": 2}
        return {"type": "assistant", "message": {"id": f"m{number}", "usage": usage}}

    verdict = claude(message(1, 10), message(1, 10), message(2, 20), signal=9)

    assert verdict.tokens == {"input": 30, "output": 2, "cacheRead": 4, "cacheWrite": 0}


def test_claude_tokens_fall_back_to_the_sums_of_all_models():
    usage = {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "costUSD": 0.1}
    event = RESULT | {"modelUsage": {"small": usage, "large": usage | {"costUSD": 9}}}
    del event["usage"]

    verdict = claude(event)

    assert verdict.tokens == {"input": 2, "output": 4, "cacheRead": 6, "cacheWrite": 0}
    assert verdict.model == "large"


def test_denials_are_bounded():
    denial = {"tool_name": "Write", "tool_use_id": "t", "tool_input": {"content": "x" * 100_000}}

    [*listed] = claude(RESULT | {"permission_denials": [denial] * 200}).permission_denials

    assert len(listed) == 50
    assert listed[0]["tool_name"] == "Write"
    assert len(json.dumps(listed)) < 200_000


# -- gemini ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exit_code, kind",
    [
        (41, "auth"),
        (42, "unknown"),
        (53, "max_turns"),
        (54, "tool_error"),
        (55, "auth"),
        (130, "crashed"),
        (1, "crashed"),
        (429 % 256, "rate_limited"),
        (500 % 256, "overloaded"),
        (503 % 256, "overloaded"),
        (401 % 256, "auth"),
    ],
)
@pytest.mark.parametrize("output_format", ["gemini-json", "gemini-stream-json"])
def test_gemini_exit_codes_speak_where_there_is_no_result(output_format, exit_code, kind):
    verdict = judge(output_format, exit_code=exit_code)

    assert verdict.failure_kind == kind
    assert verdict.outcome == ("rate_limited" if kind == "rate_limited" else "failed")


ERROR = {"session_id": "g-1", "error": {"type": "Error", "message": "no quota", "code": 429}}


@pytest.mark.parametrize("prefix", ["", "[ERROR] "])
@pytest.mark.parametrize("indent", [None, 2])
def test_gemini_error_json_comes_on_stderr_amid_noise(prefix, indent):
    noise = b"Attempt 1 failed {\n  status: 429\n}\n    at async foo {\n{ loose\n"
    error = f"{prefix}{json.dumps(ERROR, indent=indent)}\n".encode()

    verdict = judge("gemini-json", stderr=noise + error + b"[STARTUP] Phase\n", exit_code=173)

    assert verdict.outcome == "rate_limited"
    assert verdict.error == "no quota"
    assert verdict.session_id == "g-1"


@pytest.mark.parametrize(
    "error, kind",
    [
        ({"type": "FatalTurnLimitedError", "message": "m", "code": 53}, "max_turns"),
        ({"type": "FatalAuthenticationError", "message": "m", "code": 41}, "auth"),
        ({"type": "Error", "message": "m", "code": 54}, "tool_error"),
        ({"type": "Error", "message": "m", "code": "tool_failed"}, "unknown"),
        ({"type": "TerminalQuotaError", "message": "m"}, "rate_limited"),
        ({"type": "Error", "message": "m", "code": 503}, "overloaded"),
    ],
)
def test_gemini_errors_are_told_apart_by_type_and_code(error, kind):
    stderr = json.dumps({"error": error}, indent=2).encode()

    assert judge("gemini-json", stderr=stderr, exit_code=99).failure_kind == kind


def test_json_logs_of_a_stranger_on_stderr_are_no_gemini_error():
    stderr = b'{"level":"error","error":{"type":"x","message":"401"},"ts":1}\n'
    answer = b'{"response":"fine","stats":{}}'

    assert judge("gemini-json", stderr=stderr, exit_code=0).failure_kind == "bad_output"
    assert judge("gemini-json", answer, stderr=stderr).outcome == "completed"


def test_gemini_pieces_become_one_answer():
    pieces = [
        {"type": "message", "role": "assistant", "content": text, "delta": True}
        for text in ("The ", "answer", " is 42.")
    ]
    user = {"type": "message", "role": "user", "content": "question"}

    verdict = judge(
        "gemini-stream-json", lines(user, *pieces, {"type": "result", "status": "success"})
    )

    assert verdict.result == {"text": "The answer is 42."}


def test_gemini_tokens_leave_out_what_came_from_a_cache():
    tokens = {"prompt": 100, "candidates": 6, "thoughts": 4, "cached": 80, "total": 110}
    answer = {"response": "ok", "stats": {"models": {"m": {"tokens": tokens}}}}

    verdict = judge("gemini-json", json.dumps(answer).encode())

    assert verdict.tokens == {"input": 20, "output": 10, "cacheRead": 80, "cacheWrite": 0}


# -- codex -----------------------------------------------------------------------------------------


def codex_failed(message):
    return judge(
        "codex-jsonl",
        lines(
            {"type": "thread.started", "thread_id": "t"},
            {"type": "turn.failed", "error": {"message": message}},
        ),
        exit_code=1,
    )


def test_codex_usage_limit_with_a_time():
    body = {"error": {"type": "usage_limit_reached", "resets_at": 4102444800}}

    verdict = codex_failed(f"unexpected status 429 Too Many Requests: {json.dumps(body)}, url: x")

    assert verdict.outcome == "rate_limited"
    assert verdict.rate_limit_reset == datetime(2100, 1, 1, tzinfo=UTC)
    assert verdict.rate_limit_wait is None


def test_codex_usage_limit_with_a_wait():
    body = {"error": {"type": "usage_limit_reached", "resets_in_seconds": 3600}}

    verdict = codex_failed(f"unexpected status 429 Too Many Requests: {json.dumps(body)}")

    assert verdict.rate_limit_wait == timedelta(hours=1)
    distance = verdict.rate_limit_reset - datetime.now(UTC)
    assert timedelta(minutes=59) < distance <= timedelta(hours=1)


@pytest.mark.parametrize(
    "message, kind",
    [
        ("exceeded retry limit, last status: 429 Too Many Requests", "rate_limited"),
        ("unexpected status 401 Unauthorized: nope", "auth"),
        ("unexpected status 503 Service Unavailable: x", "overloaded"),
        ('unexpected status 429: {"error":{"code":"insufficient_quota"}}', "billing"),
        ("You've hit your usage limit. Upgrade to Plus", "rate_limited"),
        ("We\u2019re currently experiencing high demand, which may", "overloaded"),
        ("Quota exceeded. Check your plan and billing details.", "billing"),
        ("stream disconnected before completion: x", "overloaded"),
        ("the user asked about error 429 and usage_limit_reached", "unknown"),
        ('bad request {"prompt":"last status: 429"}', "unknown"),
    ],
)
def test_codex_failures_are_told_apart_by_what_it_quotes(message, kind):
    assert codex_failed(message).failure_kind == kind


def test_codex_notices_of_reconnecting_are_no_failure():
    stdout = lines(
        {"type": "error", "message": "Reconnecting... 1/5 (last status: 429 Too Many Requests)"},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "ok"}},
        {"type": "turn.completed", "usage": {"input_tokens": 100, "cached_input_tokens": 90}},
    )

    verdict = judge("codex-jsonl", stdout)

    assert verdict.outcome == "completed"
    assert verdict.tokens == {"input": 10, "output": 0, "cacheRead": 90, "cacheWrite": 0}


def test_codex_error_after_the_turn_counts_with_exit_1_only():
    stdout = lines(
        {"type": "turn.completed", "usage": {}},
        {"type": "error", "message": "unexpected status 500 x"},
    )

    assert judge("codex-jsonl", stdout, exit_code=0).outcome == "completed"
    assert judge("codex-jsonl", stdout, exit_code=1).failure_kind == "overloaded"


def test_codex_answer_under_a_schema_is_structured():
    stdout = lines(
        {"type": "item.completed", "item": {"type": "agent_message", "text": '{"a": [1]}'}},
        {"type": "turn.completed"},
    )

    assert judge("codex-jsonl", stdout).result == {"text": '{"a": [1]}', "structured": {"a": [1]}}


# -- jsonl and plain -------------------------------------------------------------------------------


def test_jsonl_result_event_says_it_all():
    event = {
        "type": "result",
        "is_error": True,
        "failure_kind": "rate_limited",
        "error": {"message": "slow down"},
        "rate_limit_reset": "2100-01-01T00:00:00Z",
        "cost_usd": "0.10",
        "tokens": {"input": 1, "output": 2},
        "model": "m",
        "turns": 4,
        "session_id": "s",
    }

    verdict = judge("jsonl", lines({"n": 1}, event, {"n": 2}), exit_code=0)

    assert verdict.outcome == "rate_limited"
    assert verdict.error == "slow down"
    assert verdict.rate_limit_reset == datetime(2100, 1, 1, tzinfo=UTC)
    assert verdict.cost_usd == Decimal("0.10")
    assert not verdict.is_cumulative_cost
    assert verdict.tokens == {"input": 1, "output": 2, "cacheRead": 0, "cacheWrite": 0}
    assert (verdict.model, verdict.turns, verdict.session_id) == ("m", 4, "s")


def test_jsonl_cannot_claim_a_reason_that_is_the_runners_own():
    event = {"type": "result", "is_error": True, "failure_kind": "cancelled"}

    assert judge("jsonl", lines(event)).failure_kind == "unknown"


def test_jsonl_without_result_event_takes_the_last_object_and_the_exit_code():
    stdout = lines({"step": 1}, {"step": 2, "text": "done"})

    completed = judge("jsonl", stdout, exit_code=0)
    failed = judge("jsonl", stdout, exit_code=3)

    assert completed.result == {"text": "done", "structured": {"step": 2, "text": "done"}}
    assert (failed.outcome, failed.failure_kind) == ("failed", "unknown")
    assert failed.error == "exit code 3"
    assert failed.result == completed.result


@pytest.mark.parametrize(
    "end, outcome, kind, error",
    [
        ({"exit_code": 0}, "completed", None, None),
        ({"exit_code": 3}, "failed", "unknown", "exit code 3: cannot open x"),
        ({"exit_code": 137}, "failed", "crashed", "exit code 137 (SIGKILL): cannot open x"),
        ({"signal": 9}, "failed", "crashed", "killed by SIGKILL: cannot open x"),
        ({"signal": 63}, "failed", "crashed", "killed by signal 63: cannot open x"),
    ],
)
def test_plain_goes_by_the_exit_code(end, outcome, kind, error):
    verdict = judge("plain", b"out\n", stderr=b"cannot open x\n\n", **end)

    assert (verdict.outcome, verdict.failure_kind, verdict.error) == (outcome, kind, error)
    assert verdict.result == {"text": "out\n"}


def test_plain_without_output_has_no_result():
    assert judge("plain").result is None


def test_every_kind_that_a_reader_gives_is_in_the_taxonomy():
    from persona_pg.verdict import claude, codex, gemini, values

    given = (
        *claude._ERROR_KINDS.values(),
        *claude._SUBTYPE_KINDS.values(),
        *claude._TERMINAL_KINDS.values(),
        *gemini._EXIT_KINDS.values(),
        *gemini._TYPE_KINDS.values(),
        *codex._BODY_KINDS.values(),
        *(kind for _, kind in codex._SENTENCES),
        *values._STATUS_KINDS.values(),
    )

    assert set(given) <= FAILURE_KINDS


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'yaml' is none of: plain, claude-json"):
        open_reader("yaml")
