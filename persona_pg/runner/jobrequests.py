"""What running jobs ask of the database: each a step of the runner's one pipeline.

A request stays until it is answered, so one that was cut off is sent again over the next
connection; all of them can be repeated.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persona_pg.runner import calls
from persona_pg.runner.jobsocket import failure
from persona_pg.runner.outbox import storable
from persona_pg.runner.session import StepError

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.runner.session import Answer, Step

# So many in one exchange, so that heartbeats never wait long behind them.
_BATCH = 20
_RESEND_SECONDS = 1.0
# So long a job waits for an absent database before it is told.
PATIENCE = 60.0


@dataclass(slots=True, eq=False)
class _Request:
    step: Callable[[str], Step]
    answered: asyncio.Future[dict[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class JobRequests:
    """Requests in the order they came, until they are answered."""

    def __init__(self, *, kick: Callable[[], None]) -> None:
        self._kick = kick
        self._loop = asyncio.get_running_loop()
        self._open: dict[_Request, None] = {}
        self._resend_at = 0.0

    async def call(
        self,
        job_id: str,
        lease: int,
        command: str,
        body: dict[str, Any],
        *,
        patience: float | None = PATIENCE,
    ) -> dict[str, Any]:
        """Return the database's answer; one of our own where it does not come in time."""
        text = json.dumps(storable(body))
        request = _Request(lambda runner: calls.job_call(runner, job_id, lease, command, text))
        self._open[request] = None
        self._kick()
        try:
            async with asyncio.timeout(patience):
                return await request.answered
        except TimeoutError:
            words = (
                f"the database has not answered for {patience:g} s; whether it was done is unknown"
            )
            return failure("db_unreachable", words)
        finally:
            self._open.pop(request, None)

    def next_at(self) -> float | None:
        """Return the loop's time when something is to go out; None: there is nothing."""
        return self._resend_at if self._open else None

    def steps(
        self, runner_id: str, now: float
    ) -> list[tuple[list[Step], Callable[[list[Answer]], None]]]:
        """Return what is to go out now, each with what its answer is to be given to."""
        if now < self._resend_at:
            return []
        return [
            ([request.step(runner_id)], lambda a, r=request: self._take(r, a[0]))  # type: ignore[misc]
            for request in list(self._open)[:_BATCH]
        ]

    def _take(self, request: _Request, answer: Answer) -> None:
        if request.answered.done():
            return
        if isinstance(answer, StepError):
            if answer.is_transient:
                self._resend_at = self._loop.time() + _RESEND_SECONDS
                return
            answer.complain("the request of a job")
            answer = failure("internal", answer.message)
        self._open.pop(request, None)
        request.answered.set_result(answer)
