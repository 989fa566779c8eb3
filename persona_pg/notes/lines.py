"""Which lines of a note are text: not in code, comments, formulas, quotes or front matter.

Where Markdown leaves a doubt, a line counts as hidden: a question that was missed is asked again,
one that was code costs money.  A fence without an end hides the rest of the note, as it does in
Obsidian; quotes and callouts are other people's words and never ask anything.
Every function is linear in the length of its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The ends of lines in Markdown; str.splitlines() knows seven more.
LINE_END = re.compile(r"\r\n|\n|\r")

_FENCE = re.compile(r"((?:[ \t]*(?:[-*+]|\d{1,9}[.)])(?=[ \t]))*[ \t]*)(`{3,}|~{3,})(.*)")
_COMMENT_PART = re.compile(r"`+|%%|<!--|-->")
_TAB = 4
_FENCE_SLACK = 3


def split(text: str) -> list[str]:
    """Return the lines of a note."""
    return LINE_END.split(text)


def visible(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield (index, text) of the lines that are text, with comments taken out of them."""
    block = _Block(max((i for i, line in enumerate(lines) if "$$" in line), default=-1))
    comment: str | None = None  # what ends it
    for index in range(_after_front_matter(lines), len(lines)):
        line = lines[index]
        if comment is None and block.hides(index, line):
            continue
        if comment is None and "%%" not in line and "<!--" not in line:
            yield index, line
            continue
        shown, comment = _without_comments(line, comment)
        if shown.strip():
            yield index, shown


class _Block:
    """The fence or formula that lines are in."""

    def __init__(self, last_dollars: int) -> None:
        self._last_dollars = last_dollars
        self._fence: _Fence | None = None
        self._in_formula = False

    def hides(self, index: int, line: str) -> bool:
        """Tell whether a line is no text; to be asked of one line after the other."""
        if self._fence is not None:
            if self._fence.is_closed_by(line):
                self._fence = None
            return True
        if self._in_formula:
            self._in_formula = "$$" not in line
            return True
        start = line.lstrip(" \t")[:2]
        self._fence = _fence_opened_by(line)
        # One that is never closed is no formula, but somebody's "$$".
        self._in_formula = start == "$$" and line.count("$$") == 1 and index < self._last_dollars
        return self._fence is not None or self._in_formula or start[:1] in {"", ">"}


@dataclass(frozen=True, slots=True)
class _Fence:
    mark: str
    column: int

    def is_closed_by(self, line: str) -> bool:
        """Tell whether a line is the fence's end: as long at least, and alone on its line."""
        text = line.strip(" \t")
        if len(text) < len(self.mark) or text.strip(self.mark[0]):
            return False
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        # Further to the right it may be code that looks like an end.
        return len(indent.expandtabs(_TAB)) <= max(_FENCE_SLACK, self.column)


def _fence_opened_by(line: str) -> _Fence | None:
    match = _FENCE.match(line)
    if match is None:
        return None
    before, mark, info = match.groups()
    if mark[0] == "`" and "`" in info:
        return None  # code within the line
    return _Fence(mark, len(before.expandtabs(_TAB)))


def _after_front_matter(lines: Sequence[str]) -> int:
    """Return the index behind the YAML at the top; 0 where there is none, or no end of it."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    for index in range(1, len(lines)):
        if lines[index].rstrip() in {"---", "..."}:
            return index + 1
    return 0


def _without_comments(line: str, comment: str | None) -> tuple[str, str | None]:
    """Take %%...%% and <!--...--> out of a line; return the rest and what ends an open one."""
    parts = list(_COMMENT_PART.finditer(line))
    partner = _partners(parts)
    kept: list[str] = []
    at = 0
    i = 0
    while i < len(parts):
        part = parts[i]
        if comment is not None:
            if part[0] == comment:
                comment, at = None, part.end()
        elif part[0][0] == "`":
            # Code within the line is left alone: `%%` in it is no comment.
            i = partner.get(i, i)
        elif part[0] != "-->":
            kept.append(line[at : part.start()])
            comment = "%%" if part[0] == "%%" else "-->"
        i += 1
    if comment is None:
        kept.append(line[at:])
    return "".join(kept), comment


def _partners(parts: Sequence[re.Match[str]]) -> dict[int, int]:
    """Find for each run of backticks the next one of the same length."""
    found: dict[int, int] = {}
    latest: dict[int, int] = {}
    for i in range(len(parts) - 1, -1, -1):
        if parts[i][0][0] == "`":
            length = len(parts[i][0])
            if length in latest:
                found[i] = latest[length]
            latest[length] = i
    return found
