"""Which lines of a note are marked, and which only look like it."""

from __future__ import annotations

import time

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from persona_pg.notes import files
from persona_pg.notes.markers import MAX_TEXT, heading_word, parse


def found(text):
    return [(m.kind, m.text) for m in parse(text) if not m.answered]


def questions(text):
    return [m.text for m in parse(text) if not m.answered]


@pytest.mark.parametrize(
    "line, expected",
    [
        ("[?] Why?", ("?", "Why?")),
        ("[A] do it", ("A", "do it")),
        ("[Q] later", ("Q", "later")),
        ("[M] Standup", ("M", "Standup")),
        ("[CB?] how?", ("CB?", "how?")),
        ("[?]Why?", ("?", "Why?")),
        ("-[?]Why?", ("?", "Why?")),
        ("* [?] Why?", ("?", "Why?")),
        ("+ [?] Why?", ("?", "Why?")),
        ("12. [?] Why?", ("?", "Why?")),
        ("  \t- [?] Why?", ("?", "Why?")),
        ("\t\t\t\t[?] Why?", ("?", "Why?")),
        ("- [?]  Why\t [[this]]? ", ("?", "Why [[this]]?")),
        ("- [?] Why? ^block-1", ("?", "Why?")),
        ("- [?] Why? %% my note %%", ("?", "Why?")),
        ("%% x %%- [?] Why?", ("?", "Why?")),
        ("- [?] Why <!-- not sent --> that?", ("?", "Why that?")),
        ("- [?] what is `%%` and `` <!-- ` ``?", ("?", "what is `%%` and `` <!-- ` ``?")),
        ("- [?] was ~~this~~ right?", ("?", "was ~~this~~ right?")),
        ("- [?] Why? [[Embeds/0123abcd-research|answer]]", ("?", "Why?")),
        ("- [?] Why? [[0123abcd-research]] ^id", ("?", "Why?")),
        ("- [?] see [[2026 research]]", ("?", "see [[2026 research]]")),
        ("- [?] a\x00b", ("?", "ab")),
    ],
)
def test_a_marked_line(line, expected):
    assert found(f"text\n{line}\nmore") == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "[?]",
        "- [?]   ",
        "text [?] no",
        "- [ ] [?] a task",
        "- [x] done",
        "[a] lower case",
        "[A](https://example.org) a link",
        "- [?](https://example.org)",
        "[A][ref] a link",
        "[A]: https://example.org",
        "[[A]] a note",
        "[^1] a footnote",
        "**[?]** bold",
        "> [?] somebody else's",
        "> - [?] in a quote",
        "> [!question] callout\n> [?] in a callout",
        "| [?] in a table |\n|---|\n| [?] a |",
        "%% [?] comment %%",
        "%%\n[?] comment\n%%",
        "%%\n```\n%%",
        "<!--\n[?] comment\n-->",
        "text %% [?] a\n[?] b",
        "$$\n[A] = x\n$$",
        "~~ [?] two tildes",
        "`[?] code`",
    ],
)
def test_no_marked_line(line):
    assert found(line) == []


def test_a_struck_line_is_answered():
    text = "- ~~[?] a~~\n~~[?] b~~ because\n* [?] ~~c~~\n1. ~~ [A] d ~~ [[x|answer]]"

    assert [(m.kind, m.text, m.answered) for m in parse(text)] == [
        ("?", "a", True), ("?", "b", True), ("?", "c", True), ("A", "d", True)]  # fmt: skip


def test_struck_or_linked_the_marker_is_the_same():
    plain, *others = parse(
        "[?] Why so?\n~~[?] Why  so?~~\n- [?] ~~Why so?~~\n- [?] Why so? [[x/0123abcd-research|a]]"
    )

    assert {other.digest for other in others} == {plain.digest}


def test_a_formula_that_never_ends_is_none():
    assert questions("$$ pays\n[?] a") == ["a"]
    assert questions("$$\n[?] x\n$$\n[?] a") == ["a"]


def test_front_matter_is_no_text_and_a_rule_is_no_front_matter():
    assert questions("---\nlist:\n- [?] no\n---\n[?] a") == ["a"]
    assert questions("---\n- [?] a") == ["a"]
    assert questions("x\n---\n[?] a\n---") == ["a"]


def test_line_ends_and_byte_order_mark():
    data = "\ufeff---\r\nx: 1\r\n---\r\n- [?] a\r\n[?] b\r[?] c\n\u2028[?] d\x0b[?] e".encode()
    marks = parse(files.decode(data))

    assert [(m.text, m.line) for m in marks] == [("a", 4), ("b", 5), ("c", 6), ("d [?] e", 7)]


def test_broken_utf8_is_read_around():
    assert questions(files.decode(b"\xff\xfe[?] no\n- [?] a\xc3 b\n\xe2\x82\n[?] c")) == [
        "a\ufffd b", "c"]  # fmt: skip


def test_a_code_question_names_its_path():
    marks = parse(
        "[CB?] /src/my app - where - is main?\n[CB?] ~/x - y\n[CB?] a - b\n[CB?] /only/path"
    )

    assert [(m.code_path, m.text) for m in marks] == [
        ("/src/my app", "where - is main?"), ("~/x", "y"), (None, "a - b"), (None, "/only/path")
    ]  # fmt: skip


def test_the_nearest_second_level_heading_routes():
    text = "[?] a\n## 🏢 **Acme** Corp\n[?] b\n### Sub\n# Top\n[?] c\n##Not\n[?] d\n## \n[?] e"

    assert [m.heading for m in parse(text)] == ["", "acme", "acme", "acme", ""]


@pytest.mark.parametrize(
    "title, word",
    [
        ("🏢 Acme Corp", "acme"),
        ("👩‍💻 Work: today", "work"),
        ("1️⃣ First", "first"),
        ("[[Acme]] x", "acme"),
        ("Zu\u0308rich", "zürich"),
        ("R&D", "r&d"),
        ("🚀", ""),
    ],
)
def test_the_word_of_a_heading(title, word):
    assert heading_word(title) == word


def test_meetings_are_the_entries_below_their_heading():
    text = (
        "- no\n## 📅 Meetings\nwords\n- 10:00 Standup\n\t- a note\n- [ ] 11:00 [[Review]]\n"
        "- [x] 12:00 Lunch ^id\n- [-] 13:00 cancelled\n- ~~14:00 struck~~\n- [?] Why?\n-\n"
        "[M] Extra\n```\n- code\n```\n## Other\n- no"
    )

    assert found(text) == [
        ("M", "10:00 Standup"), ("M", "11:00 [[Review]]"), ("M", "12:00 Lunch"), ("?", "Why?"),
        ("M", "Extra")]  # fmt: skip


def test_below_titles_of_meetings_lists_are_their_notes():
    text = "## Meetings\n- before\n### 10:00 Standup ###\n- a note\n#### Tasks\n- b\n# End\n- c"

    assert found(text) == [("M", "before"), ("M", "10:00 Standup")]


# -- fences


@pytest.mark.parametrize(
    "fence",
    [
        "```\n[?] x\n```",
        "~~~ python\n[?] x\n~~~",
        "````\n```\n[?] x\n```\n[?] x\n````",
        "```\n~~~\n[?] x\n~~~\n```",
        "```\n``` not an end\n[?] x\n```",
        "```\n    ```\n[?] x\n```",
        "  ```\n[?] x\n   ````",
        "- ```\n  [?] x\n  ```",
        "- a\n\t```\n\t[?] x\n\t```",
        "1. - ~~~\n     [?] x\n     ~~~",
        "- a\n    ```\n[?] x\n     ```\n[?] x\n    ```",
        "```\n%%\n```",
        "```\n<!--\n```",
    ],
)
def test_a_fence_hides_what_is_in_it_and_nothing_behind_it(fence):
    assert questions(f"{fence}\n[?] behind") == ["behind"]


def test_a_fence_without_an_end_hides_the_rest():
    assert questions("[?] a\n```\n[?] x\n\n## h\n[?] x") == ["a"]


def test_code_within_a_line_opens_no_fence():
    assert questions("```code``` text\n[?] a") == ["a"]


MARK = st.sampled_from(["[?] ", "- [A] ", "\t1. [Q] ", "* [CB?] /x - ", "[M] ", "~~[?] "])
NOISE = st.sampled_from(
    ["", "text", "> quote", "# h", "## h", "| a |", "- item", "``", "~~", "%", "<!-", "`a`", "---"]
)


@st.composite
def fences(draw):
    """Lines of a fence, with marked lines and everything that looks like its end in it."""
    mark = draw(st.sampled_from("`~")) * draw(st.integers(3, 6))
    indent = " " * draw(st.integers(0, 3))
    other = {"`": "~", "~": "`"}[mark[0]]
    inside = st.one_of(
        MARK.map(lambda start: f"{start}INSIDE"),
        NOISE,
        st.sampled_from(
            [mark[:-1], other * 7, f"{mark} x", f"x {mark}", f"    {mark}", "%%", "<!--", "-->"]
        ),
    )
    opening = indent + mark + draw(st.sampled_from(["", " ", "python", " [?] INSIDE"]))
    closing = " " * draw(st.integers(0, 3)) + mark + mark[0] * draw(st.integers(0, 2)) + "  "
    return [opening, *draw(st.lists(inside, max_size=6)), closing]


OUTSIDE = st.one_of(MARK.map(lambda start: [f"{start}OUTSIDE"]), NOISE.map(lambda line: [line]))


@given(st.lists(st.one_of(fences(), OUTSIDE), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
@settings(max_examples=200, deadline=None)
def test_no_marker_is_ever_found_inside_a_fence_and_none_outside_is_missed(blocks, line_end):
    # A "---" at the top would make front matter of what follows.
    lines = ["top", *(line for block in blocks for line in block)]
    outside = sum(
        len(block) == 1 and "OUTSIDE" in block[0] and not block[0].startswith("~~")
        for block in blocks
    )

    texts = [marker.text for marker in parse(line_end.join(lines))]

    assert not any("INSIDE" in text for text in texts)
    assert len([text for text in texts if text == "OUTSIDE"]) == outside


@given(st.one_of(st.binary(max_size=400), st.text("`~%<!->[]?AQM*$ \t\r\n#\ufeff\ud83d", max_size=200).map(
    lambda text: text.encode("utf-8", "surrogatepass"))))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_the_parser_reads_anything(data):
    for marker in parse(files.decode(data)):
        assert marker.text
        assert marker.text == marker.text.strip()
        marker.digest.encode()


SIZE = 300_000
HARD = {
    "backticks": "".join("`" * n + " " for n in range(1, 800)) + "%%",
    "comments": "%%" * (SIZE // 2),
    "comment starts": "<!--" * (SIZE // 4),
    "bullets": "- " * (SIZE // 2),
    "spaces": " " * SIZE + "[x",
    "tildes": "- ~~[?] " + "~" * SIZE,
    "brackets": "- [?] " + "[[" * (SIZE // 2),
    "links": "- [?] " + "[[0123abcd-" * (SIZE // 11),
    "block ids": "- [?] " + " ^a" * (SIZE // 3),
    "hashes": "## " + "# " * (SIZE // 2) + "x",
    "combining marks": "- [?] " + "a\u0316\u0301" * (SIZE // 5),
    "lines": "- [?] why\n" * (SIZE // 10),
    "dollars": "$$\n" * (SIZE // 3),
    "digits": "1" * SIZE + ". [?]",
    "fences": "````\n```\n" * (SIZE // 9),
}


@pytest.mark.parametrize("what", HARD)
def test_the_worst_notes_are_read_in_linear_time(what):
    started = time.process_time()
    parse(HARD[what])

    # Anything quadratic would take hours.
    assert time.process_time() - started < 20


def test_a_note_of_five_megabytes_is_read():
    text = f"{'some words of a long day ' * 4}\n" * 50_000 + "- [?] Why?"

    assert [(m.text, m.line) for m in parse(text)] == [("Why?", 50_001)]


def test_a_line_of_so_many_characters_is_no_question():
    [marker] = parse("- [?] " + "x" * SIZE)

    assert marker.is_too_long
    assert len(marker.text) <= 2 * MAX_TEXT
