"""How log lines and reports get to the database: when they go out, and what its answers mean."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from persona_pg.runner import calls
from persona_pg.runner.logs import about
from persona_pg.runner.outbox import PAUSE_BYTES, RESUME_BYTES, Outbox
from persona_pg.runner.session import StepError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from persona_pg.runner.exchange import Due
    from persona_pg.runner.roster import Roster
    from persona_pg.runner.session import Answer

log = logging.getLogger("persona.runner")

# Log lines wait so long for company before they go out by themselves.
_FLUSH_SECONDS = 0.05
# While jobs end so fast that others wait for their slots, results wait so long for company.
_REPORT_SECONDS = 0.02
# What the database refuses through no fault of ours, it is asked again after so long.
_RESEND_SECONDS = 1.0


class Delivery:
    """Empties the outbox, and holds the outputs back while that does not get on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roster: Roster,
        *,
        kick: Callable[[], None],
        is_verbose: bool,
        outbox: Outbox | None = None,
    ) -> None:
        self.outbox = outbox or Outbox(on_line=self._on_line)
        # Outputs are not read: so many lines wait that jobs have to wait too.
        self.is_paused = False
        self._loop = loop
        self._roster = roster
        self._kick = kick
        self._is_verbose = is_verbose
        self._flush_at: float | None = None
        self._report_at: float | None = None
        self._resend_at = 0.0
        self._singles = False

    def next_at(self) -> float | None:
        """Return the loop's time when something is to go out; None: there is nothing."""
        if self.outbox.is_empty:
            return None
        at = 0.0
        if self.outbox.has_reports:
            at = self._next_report_at()
        elif not self.outbox.has_full_batch:
            at = self._flush_at or 0.0
        return max(at, self._resend_at)

    def _next_report_at(self) -> float:
        if not self._roster.has_waiting:
            return 0.0
        if self._report_at is None:
            self._report_at = self._loop.time() + _REPORT_SECONDS
        return self._report_at

    def steps(self, runner_id: str, now: float, *, has_company: bool = False) -> list[Due]:
        """Return what is to go out now; *has_company*: something else goes out anyway."""
        due: list[Due] = []
        next_at = self.next_at()
        if next_at is None or now < (self._resend_at if has_company else next_at):
            return due
        self._report_at = None
        self._flush_at = None
        count = 0
        if (lines := self.outbox.next_lines()) is not None:
            count, text = lines
            due.append(
                ([calls.append_logs(runner_id, text)], lambda a: self._lines_sent(a[0], count))
            )
        reports = self.outbox.next_reports(count, only_one=self._singles)
        if reports is not None:
            due.append(([calls.complete(runner_id, reports)], lambda a: self._reports_sent(a[0])))
        return due

    def _lines_sent(self, answer: Answer, count: int) -> None:
        if not isinstance(answer, StepError):
            self.outbox.lines_done(count)
        elif self._was_refused("log lines", answer) and not self.outbox.narrow_lines(count):
            log.error("dropped a log line that the database refuses: %s", answer.message)
        if self.is_paused and self.outbox.line_bytes < RESUME_BYTES:
            self.is_paused = False
            for execution in self._roster:
                execution.resume_output()

    def _reports_sent(self, answer: Answer) -> None:
        if isinstance(answer, StepError):
            if self._was_refused("results", answer):
                # One bad report must not hold up the others: from now on one by one.
                if self._singles:
                    self.outbox.replace_report(answer.message)
                self._singles = True
            return
        self._singles = False
        for item in answer or ():
            fields = about({"id": item["job_id"]}, status=item["result_status"])
            self.outbox.report_done(item["job_id"], item["lease"])
            if item["status"] == "lost":
                log.warning(
                    "job %s: its result came too late and was put aside", item["job_id"],
                    extra=fields,
                )  # fmt: skip
            elif item["status"] == "invalid":
                log.error(
                    "job %s: the database does not understand its result", item["job_id"],
                    extra=fields,
                )  # fmt: skip
            elif self._is_verbose:
                log.info("job %s: %s", item["job_id"], item["result_status"], extra=fields)

    def _was_refused(self, what: str, error: StepError) -> bool:
        """Tell whether it would be refused again; if not, it is sent again in a while."""
        error.complain(what)
        if not error.blames_input:
            self._resend_at = self._loop.time() + _RESEND_SECONDS
        return error.blames_input

    def _on_line(self) -> None:
        if self._flush_at is None:
            self._flush_at = self._loop.time() + _FLUSH_SECONDS
            self._kick()  # the loop may be asleep until later
        elif self.outbox.has_full_batch:
            self._kick()
        if not self.is_paused and self.outbox.line_bytes > PAUSE_BYTES:
            self.is_paused = True
            for execution in self._roster:
                execution.pause_output()
