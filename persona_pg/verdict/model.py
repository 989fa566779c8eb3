"""What a verdict is, and what every reader of agent output promises."""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from decimal import Decimal

Stream = Literal["stdout", "stderr"]
Outcome = Literal["completed", "failed", "rate_limited"]

FAILURE_KINDS = frozenset(
    {
        "rate_limited",  # the provider refuses until a time; costs no attempt
        "overloaded",  # the provider is in trouble (5xx, 529, no connection)
        "auth",  # key or login refused, folder not trusted: needs a person
        "billing",  # no credit, account on hold: needs a person
        "max_turns",
        "budget",  # the program's own limit on money
        "bad_output",  # ended well by its own account, but without a usable result
        "tool_error",  # a tool of the agent failed fatally
        "crashed",  # killed, or ended with an error and without a result
        "timeout",
        "idle_timeout",
        "cancelled",
        "orphaned",
        "not_found",  # program or model does not exist
        "unknown",
    }
)
"""The failure taxonomy of `jobs.failure_kind`.

The readers never answer timeout, idle_timeout, cancelled or orphaned: those are the runner's own
reasons, which it puts before any verdict."""

TEXT_LIMIT = 1024 * 1024  # of an answer, in bytes of JSON
ERROR_LIMIT = 4000  # of an error text, in characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one execution, according to what its program printed."""

    outcome: Outcome
    failure_kind: str | None = None
    error: str | None = None
    result: dict[str, Any] | None = None
    """`text`, `structured` where the program gave one, `truncated: true` where something was cut.

    Safe for jsonb: no NUL, no lone surrogate, no NaN."""
    cost_usd: Decimal | None = None
    is_cumulative_cost: bool = False
    """The cost is that of the whole conversation: book the difference to what is booked already."""
    tokens: dict[str, int] = field(default_factory=dict)
    """`input` (without what came from a cache), `output`, `cacheRead`, `cacheWrite`."""
    model: str | None = None
    turns: int | None = None
    session_id: str | None = None
    rate_limit_reset: datetime | None = None
    rate_limit_wait: timedelta | None = None
    """Where the provider gave a duration instead of a time.

    `rate_limit_reset` is then reckoned with this machine's clock: prefer to add this to the
    server's."""
    permission_denials: list[dict[str, Any]] = field(default_factory=list)


class Reader(Protocol):
    """Reads both outputs of one execution as they come, in bounded memory."""

    def feed(self, stream: Stream, data: bytes | bytearray | memoryview) -> None:
        """Take the next piece of *stream*, cut anywhere.

        The buffer may be reused afterwards. Never raises, whatever the bytes are.
        """

    def finish(self, exit_code: int | None, signal: int | None) -> Verdict:
        """Give the verdict, at the end of both streams.

        *signal* is set where the process died of one, *exit_code* otherwise.
        """


# What a shell (and many a program) answers when it was, or its child was, ended by a signal.
_FATAL_SIGNALS = (
    signals.SIGHUP,
    signals.SIGINT,
    signals.SIGILL,
    signals.SIGABRT,
    signals.SIGBUS,
    signals.SIGFPE,
    signals.SIGKILL,
    signals.SIGSEGV,
    signals.SIGPIPE,
    signals.SIGTERM,
    signals.SIGXCPU,
)
_SIGNAL_EXITS = {128 + number: number.name for number in _FATAL_SIGNALS}


def died_of_signal(exit_code: int | None, signal: int | None) -> bool:
    """Whether the end looks like a signal's, directly or as reported by a shell."""
    return signal is not None or exit_code is None or exit_code in _SIGNAL_EXITS


def describe_end(exit_code: int | None, signal: int | None) -> str:
    """Say how a process ended, for people."""
    if signal is not None:
        try:
            name = signals.Signals(signal).name
        except ValueError:
            name = f"signal {signal}"
        return f"killed by {name}"
    if exit_code is None:
        return "ended in an unknown way"
    if exit_code in _SIGNAL_EXITS:
        return f"exit code {exit_code} ({_SIGNAL_EXITS[exit_code]})"
    return f"exit code {exit_code}"
