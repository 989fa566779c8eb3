"""Readers hold little, lose nothing that counts and never raise, whatever the bytes are."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_pg.verdict import OUTPUT_FORMATS, open_reader
from persona_pg.verdict.model import TEXT_LIMIT
from persona_pg.verdict.scan import LINE_LIMIT, JsonScanner

MB = 1_000_000
RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "yes"}


def pieces(*parts, size=65536):
    """The bytes of all parts, cut into chunks regardless of where a part ends."""
    rest = b""
    for part in parts:
        rest += part
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
    yield rest


def judge(output_format, chunks, *, exit_code=0, stream="stdout"):
    reader = open_reader(output_format)
    for chunk in chunks:
        reader.feed(stream, chunk)
    return reader.finish(exit_code, None)


def output_with_answer(output_format, answer):
    """A good run's stdout, as JSON of one line or several."""
    gemini_piece = {"type": "message", "role": "assistant", "content": answer, "delta": True}
    codex_item = {"type": "item.completed", "item": {"type": "agent_message", "text": answer}}
    events = {
        "claude-json": [RESULT | {"result": answer, "total_cost_usd": 1.5}],
        "claude-stream-json": [{"type": "system"}, RESULT | {"result": answer}],
        "gemini-json": [{"session_id": "s", "response": answer, "stats": {}}],
        "gemini-stream-json": [gemini_piece, {"type": "result", "status": "success"}],
        "codex-jsonl": [codex_item, {"type": "turn.completed"}],
        "jsonl": [{"type": "result", "text": answer}],
    }.get(output_format)
    if events is None:
        return answer
    indent = 2 if output_format == "gemini-json" else None
    return "\n".join(json.dumps(event, indent=indent) for event in events)


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
@pytest.mark.parametrize("answer", ["a" * 50 * MB, 'say "hi" \\ \n\u00e9\U0001f600' * 300_000])
def test_an_answer_of_50_mb_is_cut_and_its_verdict_found(output_format, answer):
    text = output_with_answer(output_format, answer).encode()

    tracemalloc.start()
    started = time.perf_counter()
    verdict = judge(output_format, (text[at : at + 65536] for at in range(0, len(text), 65536)))
    seconds = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert verdict.outcome == "completed"
    assert verdict.result["truncated"] is True
    kept = verdict.result["text"]
    if output_format == "plain":
        assert answer.endswith(kept)
        assert len(kept.encode()) <= 65536
    else:
        note = kept.rindex(" [... cut: the first ")
        assert answer.startswith(kept[:note])
        assert len(kept) <= TEXT_LIMIT + 100
    assert peak < 12 * MB
    assert seconds < 10


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
@pytest.mark.parametrize("junk", [b"x" * 65536, b"\x00" * 65536, b"\xff\xfe" * 32768])
def test_an_endless_line_of_junk_costs_nothing(output_format, junk):
    reader = open_reader(output_format)
    tracemalloc.start()
    started = time.perf_counter()
    for _ in range(3000):  # 200 MB
        reader.feed("stdout", junk)
        reader.feed("stderr", junk)
    seconds = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    verdict = reader.finish(1, None)

    assert verdict.outcome == "failed"
    assert peak < 3 * MB
    assert seconds < 2  # 400 MB at far beyond 300 MB/s


@pytest.mark.parametrize("output_format", ["claude-json", "gemini-stream-json", "plain"])
@pytest.mark.parametrize("opening", [b'{"a":"', b"{", b"[{", b'{"a":[', b'[{"a":"\\'])
def test_an_object_that_never_ends_is_bounded_and_followed_by_a_good_one(output_format, opening):
    good = output_with_answer(output_format, "yes").encode()
    stuff = b'[1,2,{"k":"v\\"w"},' * 20_000

    verdict = judge(output_format, pieces(opening, *[stuff] * 15, b"\n", good, b"\n"))

    assert verdict.outcome == "completed"
    if output_format != "plain":
        assert verdict.result["text"] == "yes"


@pytest.mark.parametrize("output_format", [name for name in OUTPUT_FORMATS if name != "plain"])
@pytest.mark.parametrize(
    "garbage",
    [
        b"npm notice new version\n",
        b"\xff\xfe\x00{\n",
        b'{"type":"res\n',
        b'{"a": [1, 2\n',
        b"{}\n[]\n[1]\nnull\n123\n",
        b"{" * 200_000 + b"\n",
        b"[" * 200_000 + b"\n",
        b'{"type": 5, "subtype": [], "result": {}, "message": 3, "item": "x", "error": 1}\n',
        b'{"n": ' + b"9" * 10_000 + b"}\n",
        b"[STARTUP] it's \"quoted\n",
        b"\r\n   \t\n",
        b"\xef\xbb\xbf",
    ],
)
def test_garbage_between_events_is_passed_over(output_format, garbage):
    good = output_with_answer(output_format, "yes").encode()

    for text in (garbage + good, garbage + good + b"\n" + garbage):
        verdict = judge(output_format, [text])
        if output_format == "jsonl" and b'"type": 5' in garbage:
            continue  # any object may be this format's result, but not after a result event
        assert verdict.outcome == "completed", text
        assert verdict.result["text"] == "yes"


@pytest.mark.parametrize("output_format", [name for name in OUTPUT_FORMATS if name != "plain"])
def test_a_truncated_last_line_is_no_result(output_format):
    text = output_with_answer(output_format, "yes" * 10).rstrip().encode()

    for end in (-1, -2, -5):
        verdict = judge(output_format, [text[:end]])
        assert (verdict.outcome, verdict.failure_kind) == ("failed", "bad_output")
        assert "broken off" in verdict.error


def test_events_without_a_newline_between_them_are_both_read():
    long = json.dumps({"type": "system", "filler": "x" * 2 * LINE_LIMIT})
    short = '{"type":"system"}'
    good = json.dumps(RESULT)

    for first in (long, short):
        assert judge("claude-stream-json", [first.encode(), good.encode()]).result == {
            "text": "yes"
        }


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm():
    text = b"\xef\xbb\xbf" + b'{"type":"system"}\r\n' + json.dumps(RESULT).encode() + b"\r\n"

    assert judge("claude-stream-json", [text]).outcome == "completed"


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_what_jsonb_refuses_never_comes_out(output_format):
    answer = "nul \x00 lone \ud800 pair \U0001f600"
    text = output_with_answer(output_format, answer)
    raw = text.encode("utf-8", "surrogatepass")

    result = judge(output_format, [raw]).result

    assert "\x00" not in result["text"]
    assert result["text"].encode("utf-8")  # no lone surrogate
    assert result["text"].endswith("pair \U0001f600")


def test_numbers_that_are_none_become_null():
    event = '{"type":"result","structured_output":{"a":NaN,"b":-Infinity,"c":1e999,"d":1}}'

    result = judge("claude-json", [event.encode()]).result

    assert result == {"structured": {"a": None, "b": None, "c": None, "d": 1}}
    json.dumps(result, allow_nan=False)


def test_structured_output_beyond_the_limit_is_dropped_and_said():
    event = RESULT | {"structured_output": [["x" * 1000] * 100] * 20}

    verdict = judge("claude-json", [json.dumps(event).encode()])

    assert verdict.result == {"text": "yes", "truncated": True}


@pytest.mark.parametrize("value", [-1, True, "x", None, [], {}, 1e30, float("nan"), 10**400])
def test_absurd_counts_costs_and_times_are_ignored(value):
    event = RESULT | {
        "total_cost_usd": value,
        "num_turns": value,
        "usage": {"input_tokens": value},
        "session_id": value if not isinstance(value, str) else 5,
    }
    limit = {
        "type": "rate_limit_event",
        "rate_limit_info": {"status": "rejected", "resetsAt": value},
    }
    failed = event | {"is_error": True}

    text = "\n".join(json.dumps(item) for item in (limit, failed))
    verdict = judge("claude-stream-json", [text.encode()])

    assert verdict.outcome == "rate_limited"
    assert verdict.cost_usd is None
    assert verdict.turns is None
    assert verdict.rate_limit_reset is None
    assert verdict.session_id is None


def test_the_plain_tail_begins_with_a_whole_character():
    text = ("\u20ac" * 40_000).encode()

    result = judge("plain", [text[at : at + 999] for at in range(0, len(text), 999)]).result

    assert result["truncated"] is True
    assert set(result["text"]) == {"\u20ac"}


def test_the_buffer_may_be_reused_after_feed():
    buffer = bytearray(b"first ")
    reader = open_reader("plain")

    reader.feed("stdout", memoryview(buffer))
    buffer[:] = b"second"
    reader.feed("stdout", memoryview(buffer))

    assert reader.finish(0, None).result == {"text": "first second"}


# -- whatever comes ------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
KEYS = (
    *("type", "subtype", "is_error", "result", "message", "item", "error", "usage", "session_id"),
    *("structured_output", "errors", "modelUsage", "permission_denials", "rate_limit_info"),
    *("response", "stats", "status", "content", "role", "tokens", "failure_kind", "num_turns"),
    *("api_error_status", "total_cost_usd", "thread_id", "text"),
)
TYPES = (
    *("result", "assistant", "system", "rate_limit_event", "init", "message", "error"),
    *("turn.completed", "turn.failed", "item.completed", "thread.started"),
)
events = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=8).flatmap(
    lambda event: st.sampled_from(TYPES).map(lambda kind: event | {"type": kind})
)
chunk_lists = st.lists(
    st.binary(max_size=50)
    | events.map(lambda event: json.dumps(event).encode())
    | st.sampled_from([b"\n", b"{", b"}", b"[", b"]", b'"', b"\\", b'{"type":"result"}\n']),
    max_size=20,
)


def strings(value):
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(OUTPUT_FORMATS), chunk_lists, chunk_lists, st.integers(0, 255))
def test_no_output_makes_a_reader_raise(output_format, stdout, stderr, exit_code):
    reader = open_reader(output_format)
    for chunk in stdout:
        reader.feed("stdout", chunk)
    for chunk in stderr:
        reader.feed("stderr", chunk)

    verdict = reader.finish(exit_code, None)

    json.dumps([verdict.result, verdict.permission_denials, verdict.tokens], allow_nan=False)
    (verdict.error or "").encode()
    for text in strings([verdict.result, verdict.permission_denials, verdict.error]):
        assert "\x00" not in text


@settings(max_examples=150, deadline=None)
@given(chunk_lists, st.integers(1, 9), st.booleans())
def test_where_the_output_is_cut_makes_no_difference(chunks, size, multiline):
    text = b"".join(chunks)

    def scan(step):
        found = []
        scanner = JsonScanner(lambda value, cut: found.append((value, cut)), multiline=multiline)
        for at in range(0, len(text), step):
            scanner.feed(text[at : at + step])
        scanner.finish()
        return json.dumps(found), scanner.is_truncated

    assert scan(size) == scan(max(1, len(text)))
