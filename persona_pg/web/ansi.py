"""What a job printed, as HTML: colours as classes, everything else as text.

A terminal obeys; we only show. So every control character and every escape sequence but colours
is dropped, the text is escaped, and colours are one of sixteen classes, because the page allows
no inline style.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

# CSI ... final byte; OSC, DCS, SOS, PM and APC up to their end; any other escape of two characters.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<arguments>[0-9;:<=>?]*)[ -/]*(?P<final>[@-~])?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# C0, C1, and the marks that reorder text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST = 20_000
_DARK, _BRIGHT = 128, 200


def to_html(text: str) -> Markup:
    """Return a line with its colours."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + " …"
    # A progress bar paints over itself; what was painted last counts.
    text = text.rstrip("\r\n").rpartition("\r")[2]
    out: list[str] = []
    style = _Style()
    at = 0
    for found in _SEQUENCE.finditer(text):
        out.append(style.wrap(text[at : found.start()]))
        at = found.end()
        if found["final"] == "m":
            style.apply(found["arguments"])
    out.append(style.wrap(text[at:]))
    return Markup("".join(out))  # noqa: S704 - each piece was escaped by wrap()


def to_plain(text: str) -> str:
    """Return a text, of a line or of several, without what a terminal would obey."""
    return "\n".join(map(to_text, text.split("\n")))


def to_text(text: str) -> str:
    """Return a line without colours and controls."""
    return _CONTROLS.sub("", _SEQUENCE.sub("", text.rstrip("\r\n").rpartition("\r")[2]))


class _Style:
    """The colours at one place of a line."""

    def __init__(self) -> None:
        self.front: int | None = None
        self.back: int | None = None
        self.flags: set[str] = set()

    def wrap(self, text: str) -> str:
        text = str(escape(_CONTROLS.sub("", text)))
        names = sorted(self.flags)
        names += [f"f{self.front}"] if self.front is not None else []
        names += [f"b{self.back}"] if self.back is not None else []
        return f'<span class="{" ".join(names)}">{text}</span>' if names and text else text

    def apply(self, arguments: str) -> None:
        codes = [int(c) if c.isdigit() else 0 for c in re.split("[;:]", arguments)][:32]
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.__init__()  # type: ignore[misc]
            elif code in _FLAGS:
                self.flags.add(_FLAGS[code])
            elif code in _ENDS:
                self.flags -= _ENDS[code]
            elif code in (38, 48):
                colour = _extended(codes)
                if code == 38:
                    self.front = colour
                else:
                    self.back = colour
            elif code in (39, 49):
                self.front, self.back = (None, self.back) if code == 39 else (self.front, None)
            elif 30 <= code <= 37 or 90 <= code <= 97:
                self.front = code - 30 if code < 40 else code - 82
            elif 40 <= code <= 47 or 100 <= code <= 107:
                self.back = code - 40 if code < 50 else code - 92


_FLAGS = {1: "bold", 2: "dim", 3: "italic", 4: "under", 7: "inverse", 9: "struck"}
_ENDS = {
    22: {"bold", "dim"},
    23: {"italic"},
    24: {"under"},
    27: {"inverse"},
    29: {"struck"},
}


def _extended(codes: list[int]) -> int | None:
    """Take 5;N or 2;R;G;B; return the nearest of the sixteen colours."""
    kind = codes.pop(0) if codes else 0
    if kind == 5 and codes:
        number = codes.pop(0)
        if number < 16:
            return number
        if number >= 232:
            return _nearest(*[8 + 10 * (number - 232)] * 3) if number < 256 else None
        number -= 16
        return _nearest(*(51 * (number // step % 6) for step in (36, 6, 1)))
    if kind == 2 and len(codes) >= 3:
        red, green, blue = codes[:3]
        del codes[:3]
        return _nearest(red, green, blue)
    return None


def _nearest(red: int, green: int, blue: int) -> int:
    most = max(red, green, blue)
    if most - min(red, green, blue) < 32:  # a grey
        return 0 if most < 64 else 8 if most < _DARK else 7 if most < _BRIGHT else 15
    bits = sum(bit for bit, part in ((1, red), (2, green), (4, blue)) if part > most * 0.6)
    return bits + (8 if most > _BRIGHT else 0)
