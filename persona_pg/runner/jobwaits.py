"""Slots that jobs lend while they wait for what they delegated.

A job lends its slot while at least one of its requests waits, and goes on only when it has it
again: here, and at the database where its agent has a limit.  A claim leaves free slots to those
that want theirs back.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.runner.execution import Execution
    from persona_pg.runner.jobrequests import JobRequests

# What the database refuses, because the agent's limit is reached, is asked again after so long.
_FIRST_REST = 0.5
_LONGEST_REST = 5.0


class Waits:
    """Who waits, who has lent a slot, and who wants one back."""

    def __init__(
        self,
        requests: JobRequests,
        *,
        begun: Callable[[], int],
        concurrency: Callable[[], int],
        on_lent: Callable[[], None],
    ) -> None:
        self._requests = requests
        self._begun = begun
        self._concurrency = concurrency
        self._on_lent = on_lent
        self._open: dict[Execution, int] = {}
        self._lent: set[Execution] = set()
        self._returning: dict[Execution, asyncio.Task[None]] = {}
        self._changes: set[asyncio.Event] = set()
        self._freed = asyncio.Event()

    @property
    def taken(self) -> int:
        """Slots that are in use, or kept for jobs that want theirs back."""
        return self._active() + len(self._returning)

    def _active(self) -> int:
        return self._begun() - len(self._lent)

    def look(self) -> None:
        """Ask again for whatever is waited for: something may have ended."""
        for change in self._changes:
            change.set()
        self._freed.set()

    def forget(self, execution: Execution) -> None:
        """Note that this execution has ended."""
        self._lent.discard(execution)
        self._open.pop(execution, None)
        if (task := self._returning.pop(execution, None)) is not None:
            task.cancel()
        self._freed.set()

    async def wait(self, execution: Execution, ids: list[Any]) -> dict[str, Any]:
        """Return the jobs of these ids when all have ended and the slot is ours again."""
        change = asyncio.Event()
        self._changes.add(change)
        is_counted = False
        try:
            while True:
                change.clear()
                answer = await self._call(execution, "wait", {"ids": ids})
                if not answer["ok"] or answer["data"]["done"]:
                    break
                ids = answer["data"]["ids"]
                if not is_counted:
                    is_counted = True
                    self._open[execution] = self._open.get(execution, 0) + 1
                    self._lend(execution)
                await change.wait()
        finally:
            self._changes.discard(change)
            returning = self._close(execution) if is_counted else None
        if returning is not None:
            # Cut short where the same job begins to wait for something else.
            await asyncio.wait({returning})
        return answer

    def _lend(self, execution: Execution) -> None:
        if (task := self._returning.pop(execution, None)) is not None:
            task.cancel()
        if execution not in self._lent:
            self._lent.add(execution)
            execution.is_waiting = True
            self._freed.set()
            self._on_lent()

    def _close(self, execution: Execution) -> asyncio.Task[None] | None:
        """End one wait; with the last one the slot is wanted back, also where nobody listens."""
        if execution not in self._open:
            return None  # it has ended
        self._open[execution] -= 1
        if self._open[execution]:
            return None
        del self._open[execution]
        task = asyncio.get_running_loop().create_task(self._regain(execution))
        self._returning[execution] = task
        return task

    async def _regain(self, execution: Execution) -> None:
        rest = _FIRST_REST
        while True:
            self._freed.clear()
            if self._active() < self._concurrency():
                # Counted as taken while the database is asked.
                self._lent.discard(execution)
                answer = await self._call(execution, "regain", {})
                if not answer["ok"] or answer["data"]:
                    break
                self._lent.add(execution)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rest):
                        await self._freed.wait()
                rest = min(rest * 2, _LONGEST_REST)
            else:
                await self._freed.wait()
        self._returning.pop(execution, None)
        execution.is_waiting = False

    async def _call(
        self, execution: Execution, command: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        # A wait outlasts any absence of the database; the job's timeout ends it.
        return await self._requests.call(
            execution.job_id, execution.lease, command, body, patience=None
        )
