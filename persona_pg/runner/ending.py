"""Why an execution is ended by us, and the report of how it ended.

Decided in this order: our own reason (lost lease, cancel, timeout, drain), what the program said of
itself in its structured output, its exit code. No text is searched for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from persona_pg.runner import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persona_pg.runner.spawn import Exit
    from persona_pg.verdict import Verdict

Reason = Literal[
    "lost", "lease", "cancel", "ask", "timeout", "idle_timeout", "limit", "drain", "busy"
]

# A stop for one of these is not overruled by a later one of a weaker kind.
_RANK: dict[Reason, int] = {
    "busy": 1,
    "drain": 1,
    "idle_timeout": 2,
    "timeout": 2,
    "limit": 2,
    "ask": 3,
    "cancel": 3,
    "lease": 4,
    "lost": 5,
}


class Ending:
    """The strongest reason given so far, in words and as an outcome."""

    def __init__(self, timeout: float, idle_timeout: float | None) -> None:
        self.reason: Reason | None = None
        # What the limit was that is exceeded.
        self.exceeded = ""
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._cancel_reason: str | None = None
        self._is_forced = False

    @property
    def is_for_lease(self) -> bool:
        """Tell whether it ends for want of its lease."""
        return self.reason in ("lease", "lost")

    def demand(self, reason: Reason, *, force: bool, detail: str | None) -> bool:
        """Take another reason; False: it was asked for before, each heartbeat says so again."""
        is_known = reason == self.reason or (reason == "cancel" and self.reason == "ask")
        if is_known and force <= self._is_forced:
            return False
        self._is_forced |= force
        if self.reason is None or _RANK[reason] > _RANK[self.reason]:
            self.reason = reason
        if reason in ("cancel", "ask"):
            self._cancel_reason = detail
        return True

    def words(self, reason: Reason, grace: float) -> str:
        """Say in the job's log what is done, and why."""
        words = {
            "timeout": self._timeout_words,
            "idle_timeout": self._silence_words,
            "ask": f"asked: {self._cancel_reason}",
            "cancel": f"cancelled: {self._cancel_reason or 'no reason given'}",
            "lease": "the lease could not be renewed in time",
            "limit": self.exceeded,
        }[reason]
        return f"{words}; SIGTERM, and SIGKILL after {grace:g} s" if grace else f"{words}; SIGKILL"

    def report(self, outcome: str, **details: Any) -> dict[str, Any]:
        """Return what is reported: our own reason, if there is one, comes before the outcome."""
        ours: dict[str, tuple[str, str | None, str | None]] = {
            "timeout": ("timeout", self._timeout_words, "timeout"),
            "idle_timeout": ("idle_timeout", self._silence_words, "idle_timeout"),
            "ask": ("held", None, None),
            "cancel": ("cancelled", self._cancel_reason, "cancelled"),
            "lease": ("orphaned", "the lease could not be renewed in time", "orphaned"),
            "limit": ("failed", self.exceeded, "crashed"),
            "drain": ("given_back", "its runner was stopped", None),
            "busy": ("given_back", "all slots of its runner were in use", None),
        }
        if self.reason in ours:
            outcome, details["error"], details["failure_kind"] = ours[self.reason]
        report = {"outcome": outcome, **details}
        return {name: value for name, value in report.items() if value is not None}

    @property
    def _timeout_words(self) -> str:
        return f"timeout after {render.seconds(self._timeout)} s"

    @property
    def _silence_words(self) -> str:
        return f"no output for {render.seconds(self._idle_timeout or 0.0)} s"


def leftovers(exit_: Exit) -> Iterator[tuple[str, str]]:
    """Say what the program has left behind, each with its level."""
    if exit_.strays:
        yield "info", f"ended {len(exit_.strays)} process(es) that the program left behind"
    if exit_.survivors:
        pids = ", ".join(str(pid) for pid in exit_.survivors)
        yield "error", f"could not be killed (uninterruptible): {pids}"


def of_verdict(ruling: Verdict, given: Any) -> dict[str, Any]:
    """Return what a report says of the program's own answer, and of the result that it has set."""
    report: dict[str, Any] = {
        "failure_kind": ruling.failure_kind,
        "result": _merged(_with_details(ruling), given),
        "model": ruling.model,
    }
    if ruling.cost_usd is not None:
        report["cost_usd"] = str(ruling.cost_usd)
        report["is_cumulative_cost"] = ruling.is_cumulative_cost
    if ruling.tokens:
        report["tokens"] = ruling.tokens
    if ruling.rate_limit_wait is not None:
        # A span, so that only the server's clock counts.
        report["retry_in"] = ruling.rate_limit_wait.total_seconds()
    elif ruling.rate_limit_reset is not None:
        report["retry_at"] = ruling.rate_limit_reset.isoformat()
    return report


def _merged(found: dict[str, Any] | None, given: Any) -> dict[str, Any] | None:
    """Return the program's answer together with the result that the job has set itself."""
    if given is None:
        return found
    return {**(found or {}), **(given if isinstance(given, dict) else {"value": given})}


def _with_details(ruling: Verdict) -> dict[str, Any] | None:
    details: dict[str, Any] = {}
    if ruling.turns is not None:
        details["turns"] = ruling.turns
    if ruling.permission_denials:
        details["permissionDenials"] = ruling.permission_denials
    return {**(ruling.result or {}), **details} if details else ruling.result
