"""What a tool is, how its arguments are described, and how its answer is written for a model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Arguments = dict[str, Any]
Schema = dict[str, Any]

# A model pays for each word: of a long text it gets the beginning, and is told how to get the rest.
_LONGEST_TEXT = 4000
_LONGEST_ANSWER = 60_000


class ToolError(Exception):
    """What the model is told instead of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool: its description is all that the model knows of it."""

    name: str
    description: str
    arguments: dict[str, Schema]
    call: Callable[[Arguments], Awaitable[Any]]
    needed: tuple[str, ...] = ()
    reads_only: bool = False
    destroys: bool = False
    can_be_repeated: bool = False

    @property
    def schema(self) -> Schema:
        """Return the JSON schema of the arguments."""
        found: Schema = {
            "type": "object",
            "properties": self.arguments,
            "additionalProperties": False,
        }
        if self.needed:
            found["required"] = list(self.needed)
        return found


def text(description: str, **more: Any) -> Schema:
    """Describe a text."""
    return {"type": "string", "description": description, **more}


def number(description: str, **more: Any) -> Schema:
    """Describe a whole number."""
    return {"type": "integer", "description": description, **more}


def flag(description: str) -> Schema:
    """Describe a yes or no."""
    return {"type": "boolean", "description": description}


def texts(description: str, **more: Any) -> Schema:
    """Describe a list of texts."""
    return {"type": "array", "items": {"type": "string"}, "description": description, **more}


def document(description: str) -> Schema:
    """Describe a JSON object."""
    return {"type": "object", "description": description}


def written(answer: Any, *, whole: bool = False) -> str:
    """Write an answer for a model: without what is not there, and long texts cut."""
    words = (
        answer
        if isinstance(answer, str)
        else json.dumps(_short(answer, whole=whole), ensure_ascii=False, default=str)
    )
    if whole or len(words) <= _LONGEST_ANSWER:
        return words
    return f"{words[:_LONGEST_ANSWER]}\n... ({len(words) - _LONGEST_ANSWER} more characters)"


def _short(value: Any, *, whole: bool) -> Any:
    if isinstance(value, dict):
        return {
            key: _short(inner, whole=whole)
            for key, inner in value.items()
            if inner is not None and inner != []
        }
    if isinstance(value, list):
        return [_short(inner, whole=whole) for inner in value]
    if isinstance(value, str) and len(value) > _LONGEST_TEXT and not whole:
        return f"{value[:_LONGEST_TEXT]}... ({len(value) - _LONGEST_TEXT} more characters)"
    return value
