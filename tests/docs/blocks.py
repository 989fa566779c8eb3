"""The fenced blocks of a document, and the bash script that runs them in their order.

Run are ```sh (as it is), ```sql (through psql) and ```console (the lines that begin with `$ `).
A comment on the line before the block, which a reader does not see, says otherwise:
<!-- not run: why -->, <!-- in a job --> (of the agent "writer"), or, for what a console block shows, <!-- output not compared: why -->.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

_BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = ("sh", "sql", "console")
SEPARATOR = "=== block "
# What differs from run to run: times, ids, numbers.
_VOLATILE = (
    (r"\d{4}-\d\d-\d\d[T ][\d:.]+(?:\+\d\d|Z)?", r"\S+ ?\S+"),
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "[0-9a-f-]{36}"),
    (r"\b[0-9a-f]{8}\b", "[0-9a-f]{8}"),
    (r"\d+(?:[.,]\d+)*", r"[\\d.,]+"),
    (r"[ \t]+", r"\\s+"),
)


@dataclass(frozen=True)
class Block:
    """One block."""

    language: str
    text: str
    marker: str
    line: int

    @property
    def is_run(self) -> bool:
        return self.language in RUN and not self.marker.startswith("not run: ")

    def commands(self) -> list[str]:
        """Return what a console block types."""
        typed = re.findall(r"^\$ .*(?:\n> .*)*", self.text, re.MULTILINE)
        return [re.sub(r"^[$>] ", "", one, flags=re.MULTILINE) for one in typed]

    def shown(self) -> list[str]:
        """Return the lines that a console block prints, but for those that say that some are left out."""
        if self.language != "console" or self.marker.startswith("output not compared: "):
            return []
        lines = [line for line in self.text.splitlines() if not line.startswith(("$ ", "> "))]
        return [line for line in lines if line.strip() not in {"", "..."}]


def blocks_of(text: str) -> list[Block]:
    return [
        Block(m["language"], m["text"], m["marker"] or "", text[: m.start()].count("\n") + 1)
        for m in _BLOCK.finditer(text)
    ]


def script(blocks: list[Block]) -> str:
    """Write a script that says before each block which one it is, and ends where one fails."""
    parts = ["set -euo pipefail", "exec 2>&1"]
    for number, block in enumerate(blocks):
        parts.append(f"printf '\\n{SEPARATOR}{number}\\n'")
        if block.marker == "in a job":
            payload = shlex.quote(json.dumps({"script": block.text}))
            parts.append(f"ID=$(persona create -a writer -t writing --payload {payload})")
            parts.append('persona wait "$ID" || { persona logs "$ID"; exit 1; }')
        elif block.language == "sh":
            parts.append(block.text)
        elif block.language == "sql":
            psql = 'psql -X -q -v ON_ERROR_STOP=1 -d "$PERSONA_DATABASE_URL"'
            parts.append(f"{psql} <<'end of block'\n{block.text}end of block")
        else:
            # A command may fail where the document shows that: `...; echo $?`.
            parts += [f"{{ {one}\n}} || exit" for one in block.commands()]
    return "\n".join(parts) + "\n"


def pattern(line: str) -> re.Pattern[str]:
    """Return what a printed line has to look like: the same but for times, ids and numbers."""
    wanted = line.strip().removesuffix("...").rstrip()
    holes: list[str] = []
    for found, instead in _VOLATILE:
        text = instead.replace("\\\\", "\\")

        def hole(_: re.Match[str], text: str = text) -> str:
            holes.append(text)
            return f"\x00{chr(0xE000 + len(holes) - 1)}"

        wanted = re.sub(found, hole, wanted)
    escaped = re.escape(wanted)
    for number, text in enumerate(holes):
        escaped = escaped.replace(re.escape(f"\x00{chr(0xE000 + number)}"), text)
    return re.compile(escaped)
