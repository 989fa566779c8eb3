"""Finding JSON objects in the output of a program, in bounded memory, whatever it prints.

A JsonScanner takes the bytes as they come, cut anywhere, and hands on each object that starts at
the beginning of a line. Everything else is garbage, and is skipped at the speed of a search for the
next newline. An object of up to 256 KiB is parsed as it is. A larger one goes through a _Trimmer,
which keeps its structure and the beginning of each of its strings: so the verdict at the end of
a line of 50 MB is still found, and its text is cut with a note.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from persona_pg.verdict.model import TEXT_LIMIT
from persona_pg.verdict.values import cut_note

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_LIMIT = 256 * 1024  # parsed at once; what is longer is trimmed
OBJECT_LIMIT = 4 * TEXT_LIMIT  # of a trimmed object; what is still larger is dropped
_LONG_STRING = TEXT_LIMIT - 256  # with the note still within the limit
_ROOMY = 2 * TEXT_LIMIT  # from here on, strings are cut much shorter
_SHORT_STRING = 1024
_SNIFF = 512  # so many bytes of a line decide whether it can be an object

_BLANK = b"\xef\xbb\xbf \t\r"  # a byte order mark counts as blank
_STRUCTURE = re.compile(rb'["{}\[\]]')
_BETWEEN = re.compile(rb"[{\]]")
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_STRING_BODY = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_DECODER = json.JSONDecoder(parse_constant=lambda _name: None)


class JsonScanner:
    """Hands each JSON object of one stream to *on_object(object, was_cut)*.

    *multiline*: objects may go over several lines, and stand in an array. One that begins in the
    first column ends an unfinished one before it, so that a stray brace swallows nothing.
    *skip*: beginnings of lines that are of no interest. *prefix*: what may stand before an object.
    """

    def __init__(
        self,
        on_object: Callable[[dict[str, Any], bool], None],
        *,
        multiline: bool = False,
        skip: tuple[bytes, ...] = (),
        prefix: bytes | None = None,
    ) -> None:
        self._on_object = on_object
        self._multiline = multiline
        self._skip = skip
        self._prefix = prefix
        self._pending = bytearray()  # the line so far, where its end has not come yet
        self._skipping = False  # the rest of this line is of no interest
        self._inside = False  # the rest of this line goes straight to the trimmer
        self._trimmer: _Trimmer | None = None
        self.is_truncated = False  # an object did not come to its end
        self.has_dropped = False  # an object was too large even without its strings

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        at, end = 0, len(data)
        while at < end:
            newline = data.find(b"\n", at)
            stop = end if newline < 0 else newline
            if self._inside:
                self._continue(data[at:stop])
            elif not self._skipping:
                if newline >= 0 and not self._pending:
                    self._line(data[at:stop])
                else:
                    self._gather(data[at:stop], is_complete=newline >= 0)
            if newline >= 0:
                self._end_line()
            at = stop + 1

    def finish(self) -> None:
        """Take the end of the stream: a last line needs no newline."""
        if self._pending:
            line = bytes(self._pending)
            self._pending.clear()
            if not self._line(line):
                self.is_truncated = True
        if self._trimmer is not None:
            self.is_truncated = self.is_truncated or self._trimmer.is_recording
            self._trimmer = None

    def _gather(self, piece: bytes, *, is_complete: bool) -> None:
        """Add to a line that comes in pieces; decide early what it is, so as to hold little."""
        self._pending += piece
        if is_complete:
            line = bytes(self._pending)
            self._pending.clear()
            self._line(line)
            return
        if len(self._pending) < _SNIFF:
            return
        if self._trimmer is None and self._candidate(bytes(self._pending[:_SNIFF])) is None:
            self._pending.clear()
            self._skipping = True
        elif len(self._pending) > LINE_LIMIT:
            line = bytes(self._pending)
            self._pending.clear()
            self._inside = True
            found = self._candidate(line)
            if found is None:
                self._continue(line)
            else:
                self._begin(found)

    def _end_line(self) -> None:
        self._skipping = False
        if not self._inside and self._multiline:
            return
        self._inside = False
        self._drop_broken()

    def _drop_broken(self) -> None:
        """At a newline: it ends an object of one line, and is an error inside a string."""
        if self._trimmer is not None and (not self._multiline or self._trimmer.is_in_string):
            self._trimmer = None
            self.is_truncated = True

    def _line(self, line: bytes) -> bool:
        """Take a complete line; False where it began an object and did not end it."""
        found = self._candidate(line)
        if found is None:
            self._continue(line)  # of the object that is open, if one is
            self._drop_broken()
            return True
        if self._parse(found):
            self._trimmer = None
            return True
        if not self._multiline:
            return False
        self._begin(found)
        self._drop_broken()
        return self._trimmer is None

    def _candidate(self, line: bytes) -> bytes | None:
        """Return the line from where an object can begin; None if it cannot."""
        found = line.lstrip(_BLANK)
        if self._trimmer is not None and len(found) != len(line):
            return None  # inside an object over several lines, an indented brace is part of it
        if self._prefix is not None and found.startswith(self._prefix):
            found = found[len(self._prefix) :].lstrip(_BLANK)
        if found.startswith(b"{"):
            if self._trimmer is not None and self._trimmer.is_array:
                return None
            return None if self._skip and found.startswith(self._skip) else found
        if self._multiline and self._trimmer is None and found.startswith(b"["):
            inner = found[1:].lstrip(_BLANK)
            return found if not inner or inner.startswith(b"{") else None
        return None

    def _parse(self, line: bytes) -> bool:
        """Hand on all objects of a line; False where its first value is not complete JSON."""
        text = line.decode("utf-8", "replace")
        at, count = 0, 0
        while text.startswith(("{", "["), at):
            try:
                value, at = _DECODER.raw_decode(text, at)
            except (ValueError, RecursionError):
                return count > 0
            count += 1
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    self._on_object(item, False)
            while text[at : at + 1].isspace():
                at += 1
        return True

    def _begin(self, line: bytes) -> None:
        self._trimmer = _Trimmer(is_array=line.startswith(b"["))
        self._continue(line)

    def _continue(self, piece: bytes) -> None:
        """Take more of an unfinished object: a whole line of it, or a piece of a long one."""
        at = 0
        while self._trimmer is not None:
            at = self._trimmer.scan(piece, at)
            if self._trimmer.is_recording:
                if self._trimmer.is_too_large:
                    self.has_dropped = True
                    self._give_up()
                return
            kept, was_cut = self._trimmer.take()
            if kept:
                self._hand_on(kept, was_cut=was_cut)
            if self._trimmer.is_array and not self._trimmer.is_closed:
                if at >= len(piece):
                    return
                continue
            rest = piece[at:].lstrip(_BLANK)
            self._trimmer = None
            if rest.startswith(b"{"):  # two objects without a newline between them
                self._trimmer = _Trimmer(is_array=False)
                piece, at = rest, 0
            elif rest:
                self._give_up()
            else:
                self._inside = False  # the next one may begin with the next piece

    def _give_up(self) -> None:
        self._trimmer = None
        self._skipping, self._inside = self._inside, False

    def _hand_on(self, kept: bytes, *, was_cut: bool) -> None:
        try:
            value = _DECODER.decode(kept.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            self._on_object(value, was_cut)


class _Trimmer:
    """Collects one JSON object, or those of an array one by one, cutting long strings."""

    __slots__ = (
        "_depth",
        "_kept",
        "_odd",
        "_string_at",
        "_string_limit",
        "_string_total",
        "_was_cut",
        "is_array",
        "is_closed",
        "is_in_string",
    )

    def __init__(self, *, is_array: bool) -> None:
        self.is_array = is_array
        self.is_closed = False  # the array has ended
        self.is_in_string = False
        self._kept = bytearray()
        self._depth = 0  # of braces and brackets, without the array's own
        self._odd = False  # the last byte was a backslash that escapes the next one
        self._string_at = 0
        self._string_limit = 0
        self._string_total = 0
        self._was_cut = False

    @property
    def is_recording(self) -> bool:
        return self._depth > 0

    @property
    def is_too_large(self) -> bool:
        return len(self._kept) > OBJECT_LIMIT

    def take(self) -> tuple[bytes, bool]:
        """Return the object that has come to its end, if one has, and whether it was cut."""
        kept, was_cut = bytes(self._kept), self._was_cut
        self._kept.clear()
        self._was_cut = False
        return kept, was_cut

    def scan(self, data: bytes, at: int) -> int:
        """Take *data* from *at* on, as far as the end of an object; return that place."""
        end = len(data)
        start = at  # what is kept next begins here
        while at < end and len(self._kept) <= OBJECT_LIMIT:
            if self.is_in_string:
                at = start = self._scan_string(data, at)
                continue
            if self._depth == 0:
                at = start = self._find_object(data, at)
                if self.is_closed:
                    return at
                continue
            match = _STRUCTURE.search(data, at)
            if match is None:
                break
            at = match.end()
            if match[0] == b'"':
                self._kept += data[start:at]
                self._enter_string()
            elif match[0] in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    self._kept += data[start:at]
                    return at
        if self._depth > 0 and not self.is_in_string:
            self._kept += data[start:end]
        return end

    def _find_object(self, data: bytes, at: int) -> int:
        """Go to just behind the next opening brace; only an array has anything before it."""
        match = _BETWEEN.search(data, at)
        if match is None:
            return len(data)
        if match[0] == b"{":
            self._depth = 1
            self._kept += b"{"
        else:
            self.is_closed = True
        return match.end()

    def _enter_string(self) -> None:
        self.is_in_string = True
        self._odd = False
        self._string_at = len(self._kept)
        self._string_limit = _LONG_STRING if self._string_at < _ROOMY else _SHORT_STRING
        self._string_total = 0

    def _scan_string(self, data: bytes, start: int) -> int:
        """Take the inside of a string, up to its closing quote or the end of *data*."""
        escaped = start + 1 if self._odd else start  # a backslash ended the piece before this one
        match = _STRING_BODY.match(data, escaped)
        stop = match.end() if match else escaped
        is_closed = data[stop : stop + 1] == b'"'
        # What stops the match before a quote is a backslash that is the last byte of the piece.
        self._odd = not is_closed and stop < len(data)
        if not is_closed:
            stop = len(data)
        self._keep_string(data, start, stop)
        if is_closed:
            self._leave_string()
            stop += 1
        return stop

    def _keep_string(self, data: bytes, start: int, stop: int) -> None:
        room = self._string_limit - (len(self._kept) - self._string_at)
        if room > 0:
            self._kept += data[start : min(stop, start + room)]
        self._string_total += stop - start

    def _leave_string(self) -> None:
        self.is_in_string = False
        if self._string_total > self._string_limit:
            del self._kept[_whole_characters(self._kept, self._string_at) :]
            kept = len(self._kept) - self._string_at
            self._kept += cut_note(kept, self._string_total, "bytes").encode()
            self._was_cut = True
        self._kept += b'"'


def _whole_characters(text: bytearray, start: int) -> int:
    """Return where *text* can end without half an escape or half a character."""
    end = len(text)
    slash = text.rfind(b"\\", max(start, end - 6))
    if slash >= 0 and _is_escape(text, start, slash):
        length = 6 if text[slash + 1 : slash + 2] == b"u" else 2
        if end - slash < length:
            end = slash
    if _HIGH_SURROGATE.fullmatch(text, max(start, end - 6), end) and _is_escape(
        text, start, end - 6
    ):
        return end - 6
    for back in range(1, min(4, end - start) + 1):
        byte = text[end - back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end - back if back < length else end
    return end


def _is_escape(text: bytearray, start: int, slash: int) -> bool:
    """Whether the backslash at *slash* escapes, and is not escaped itself."""
    before = bytes(text[start:slash])
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0
