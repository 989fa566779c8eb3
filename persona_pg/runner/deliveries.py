"""The outboxes of this registration and of earlier ones, and the spool that keeps them on disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from persona_pg.runner.delivery import Delivery
from persona_pg.runner.exchange import exchange
from persona_pg.runner.session import ConnectionLost
from persona_pg.runner.spool import Spool

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from persona_pg.runner.outbox import Outbox
    from persona_pg.runner.roster import Roster
    from persona_pg.runner.session import Session

log = logging.getLogger("persona.runner")

# So often is the database asked to take what an earlier runner has left, before we begin without.
_LEFT_TRIES = 10


class Deliveries:
    """Everything that is still to be delivered, each under the registration that made it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roster: Roster,
        path: Path,
        *,
        kick: Callable[[], None],
        is_verbose: bool,
    ) -> None:
        self._loop = loop
        self._roster = roster
        self._kick = kick
        self._is_verbose = is_verbose
        self.runner_id = ""
        self.current = self._new()
        # What is still to be delivered under earlier registrations.
        self._left: list[tuple[str, Delivery]] = []
        self._left_tries = 0
        self.spool = Spool(loop, path, self._outboxes)
        for runner_id, outbox in self.spool.read():
            self._left.append((runner_id, self._new(outbox)))

    @property
    def is_empty(self) -> bool:
        """Tell whether everything is acknowledged."""
        return self.current.outbox.is_empty and not self._left

    def on_output(self) -> None:
        """Note that there may be something to deliver."""
        self.spool.watch()
        self._kick()

    def leave(self) -> None:
        """Begin anew: the registration is over, what was made under it is not."""
        if self.runner_id and not self.current.outbox.is_empty:
            self._left.append((self.runner_id, self.current))
            self.current = self._new()
        self.runner_id = ""

    async def deliver_left(self, session: Session) -> None:
        """Hand in what earlier registrations have left, before what they held is given to others.

        Under their ids, so that it counts where nobody has taken the job since, and is put aside
        as late where somebody has.
        """
        while self._left:
            runner_id, delivery = self._left[0]
            while due := delivery.steps(runner_id, self._loop.time()):
                await exchange(session, due)
            if delivery.outbox.is_empty:
                self._left.pop(0)
                self._left_tries = 0
                self.spool.watch()  # which then forgets it
            elif self._left_tries < _LEFT_TRIES:
                self._left_tries += 1
                raise ConnectionLost("the database does not take what was left by the last runner")
            else:
                log.error("the database refuses what was left: kept beside %s", self.spool.path)
                self._left.clear()
                self.spool.set_aside()

    def _new(self, outbox: Outbox | None = None) -> Delivery:
        return Delivery(
            self._loop,
            self._roster,
            kick=self.on_output,
            is_verbose=self._is_verbose,
            outbox=outbox,
        )

    def _outboxes(self) -> list[tuple[str, Outbox]]:
        now = [(self.runner_id, self.current)] if self.runner_id else []
        return [(runner_id, delivery.outbox) for runner_id, delivery in (*self._left, *now)]
