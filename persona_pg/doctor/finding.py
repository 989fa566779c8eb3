"""What a check of the doctor returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has seen; *advice* is what to do about it."""

    check: str
    state: State
    seen: str
    advice: str = ""
