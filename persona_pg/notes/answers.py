"""Answers come back as new notes, each written once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona_pg.errors import ConfigurationError
from persona_pg.notes import files
from persona_pg.notes.scan import this_machine
from persona_pg.notes.vault import inside

if TYPE_CHECKING:
    from uuid import UUID

    from persona_pg.model import NoteAnswer
    from persona_pg.notes.vault import Vault
    from persona_pg.queue import Queue

# Another file may bear the name already: never write over it.
_NAMES = 9
# JSON's strings are YAML's, but for characters that YAML counts as not printable.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Written:
    """An answer that is in the vault now, or the reason why it is not."""

    job_id: UUID
    short_id: str
    path: str | None
    problem: str | None = None

    def complaint(self) -> str:
        """Say why it is not there."""
        return f"the answer to {self.short_id} is not written: {self.problem}"


def write_answers(queue: Queue, vault: Vault) -> list[Written]:
    """Write the finished answers that no other machine is writing."""
    done: list[Written] = []
    seen: set[UUID] = set()
    host = this_machine()
    while True:
        batch = [a for a in queue.take_note_answers(vault.name, host) if a.job_id not in seen]
        if not batch:
            return done
        for answer in batch:
            seen.add(answer.job_id)
            try:
                path = _write(vault, answer)
            except (OSError, ConfigurationError) as exc:
                done.append(Written(answer.job_id, answer.short_id, None, str(exc)))
                continue
            # False: another scan on this machine has written it a moment ago.
            if queue.record_note_answer(vault.name, answer.job_id, path):
                done.append(Written(answer.job_id, answer.short_id, path))


def _write(vault: Vault, answer: NoteAnswer) -> str:
    """Write one answer; return its path inside the vault."""
    data = render(answer).encode("utf-8", "replace")
    for number in range(1, _NAMES + 1):
        name = answer.file_name if number == 1 else f"{answer.file_name}-{number}"
        path = inside(f"{answer.folder}/{name}.md", f"the answer to {answer.short_id}")
        if files.create(vault.path(path), data) or _is_ours(vault, path, answer):
            return path
    raise FileExistsError(f"{answer.folder}/{answer.file_name}.md is there already")


def _is_ours(vault: Vault, path: str, answer: NoteAnswer) -> bool:
    """Tell whether the file was written for this job, by a scan that could not say so."""
    try:
        content = files.read(vault.path(path))
    except files.Unreadable:
        return False
    return content is not None and f"\njob: {quoted(answer.job_id)}\n" in content.text[:20_000]


def render(answer: NoteAnswer) -> str:
    """Return the note: front matter, then the answer as it came."""
    source = answer.path.removesuffix(".md")
    head = [
        f"type: {quoted(answer.job_type)}",
        f"question: {quoted(answer.question or '')}",
        # Bare, so that Obsidian takes it for a date.
        f"date: {answer.completed_at.astimezone().date().isoformat()}",
        f"source: {quoted(f'[[{source}]]')}",
        f"agent: {quoted(answer.agent)}",
        f"job: {quoted(answer.job_id)}",
    ]
    if answer.business:
        head.append(f"business: {quoted(answer.business)}")
    return "\n".join(["---", *head, "---", "", _body(answer.result), ""])


def _body(result: dict[str, Any] | None) -> str:
    text = (result or {}).get("text")
    if isinstance(text, str) and text.strip():
        return text.strip("\n")
    if result:
        return f"```json\n{json.dumps(result, ensure_ascii=False, indent=2)}\n```"
    return "The job ended without an answer."


def quoted(value: object) -> str:
    """Write a text so that YAML reads exactly that text again."""
    text = json.dumps(str(value), ensure_ascii=False)
    return _NOT_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
