"""Being known to the database: the first contact, coming back after an outage, being given up."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import psycopg

from persona_pg import connections
from persona_pg.errors import ConfigurationError, DatabaseUnreachable, PersonaError, translated
from persona_pg.runner import calls, identity, procfs
from persona_pg.runner.claims import ClaimCycle
from persona_pg.runner.logs import about
from persona_pg.runner.session import ConnectionLost, StepError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from persona_pg.runner.deliveries import Deliveries
    from persona_pg.runner.lockfile import Owner
    from persona_pg.runner.roster import Roster
    from persona_pg.runner.session import Answer, Session, Step

log = logging.getLogger("persona.runner")

EXIT_REPLACED = 75
_FIRST_CONTACT_SECONDS = 60.0
# A claim that was under way when the connection broke may still be committed up to then.
_RECONCILE_AGAIN_SECONDS = 30.0
# A connection that did not live for so long is not replaced at once.
_SHORT_CONNECTION_SECONDS = 5.0


class Registration:
    """Under which id we claim and report, and when to connect again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        dsn: str,
        *,
        name: str,
        agents: tuple[str, ...],
        predecessor: Owner | None,
        lease_seconds: float,
        roster: Roster,
        deliveries: Deliveries,
        kick: Callable[[], None],
        on_registered: Callable[[], None],
        on_return: Callable[[], None],
        on_drain: Callable[[], None],
    ) -> None:
        self.lease_seconds = lease_seconds
        self.cycle: ClaimCycle | None = None
        self.connect_at = 0.0
        self.reconcile_at: float | None = None
        self._loop = loop
        self._session = session
        self._dsn = dsn
        self._name = name
        self._agents = agents
        self._predecessor = predecessor
        self._roster = roster
        self._deliveries = deliveries
        self._kick = kick
        self._on_registered = on_registered
        self._on_return = on_return
        self._on_drain = on_drain
        self._delays = self._new_delays()
        self._connected_at = 0.0
        self._give_up_at: float | None = loop.time() + _FIRST_CONTACT_SECONDS

    @property
    def id(self) -> str:
        """Ours at the database; empty: there is none now."""
        return self._deliveries.runner_id

    @property
    def was_known(self) -> bool:
        """Tell whether there has been a registration: from then on jobs are at stake."""
        return self._give_up_at is None

    async def connect(self, *, capacity: int, net_interval: float | None) -> None:
        """Connect, and register or come back; raises what waiting does not cure."""
        try:
            await self._session.connect()
            self._connected_at = self._loop.time()
            if self.id:
                await self._return()
            else:
                await self._deliveries.deliver_left(self._session)
                await self._register(capacity, net_interval)
        except (psycopg.Error, ConfigurationError, ConnectionLost, TimeoutError) as exc:
            self._session.close()
            is_new = not self.was_known
            is_refused = isinstance(exc, (psycopg.Error, ConfigurationError))
            if is_new and is_refused and not connections.is_transient(exc):
                raise
            # Once registered there are jobs at stake: whatever it is, it may be put right.
            now = self._loop.time()
            words = connections.masked(" ".join(str(exc).split()), self._dsn) or "no answer"
            if self._give_up_at is not None and now > self._give_up_at:
                raise DatabaseUnreachable(f"no connection to the database: {words}") from None
            delay = next(self._delays)
            self.connect_at = now + delay
            log.warning("no connection to the database, next try in %.1f s: %s", delay, words)

    def lost(self) -> None:
        """Note that the connection is gone: there is to be another one."""
        now = self._loop.time()
        if now - self._connected_at > _SHORT_CONNECTION_SECONDS:
            self._delays = self._new_delays()
            self.connect_at = now
        else:
            self.connect_at = now + next(self._delays)
        self._kick()

    def refused(self, error: StepError) -> None:
        """Note that the runner itself was refused something."""
        error.complain("the runner")
        if error.sqlstate == "PJ410" and self.id:
            self._dismiss(error.message)

    def reconcile(self) -> tuple[list[Step], Callable[[list[Answer]], None]]:
        """Say what we hold: what else there is under our name is given back."""
        self.reconcile_at = None
        return [self._reconcile()], lambda answers: self._reconciled(answers[0])

    async def sign_off(self) -> None:
        """Say that we are gone."""
        if self._session.is_connected and self.id:
            try:
                await self._session.exchange([calls.deregister(self.id)])
            except ConnectionLost as exc:
                log.warning("could not sign off: %s", exc)

    async def _register(self, capacity: int, net_interval: float | None) -> None:
        answer = await self._one(
            calls.register(
                self._name,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                pid_started=str(procfs.start_time(os.getpid())),
                host=identity.host(),
                capacity=capacity,
                agents=self._agents,
                lease_seconds=self.lease_seconds,
                predecessor=self._predecessor,
            )
        )
        if answer["may_recover"]:
            for job in await self._one(calls.recover_predecessor(answer["id"])) or ():
                log.warning(
                    "job %s was left by the last runner: now %s",
                    job["short_id"],
                    job["status"],
                    extra=about(job, status=job["status"]),
                )
        # Only now: what is cut off before is done again as a whole.
        self._deliveries.runner_id = answer["id"]
        self.lease_seconds = answer["lease_seconds"]
        self.cycle = ClaimCycle(answer["id"], net_interval=net_interval)
        self._give_up_at = None
        self._on_registered()

    async def _return(self) -> None:
        """After a reconnect: say what we hold, and hear what became of it meanwhile."""
        assert self.cycle is not None
        directive, self.cycle.connection = await self._all(
            calls.directive(self.id), calls.open_connection(self.id)
        )
        if directive == "drain":
            self._on_drain()
        self._reconciled(await self._one(self._reconcile()))
        self.reconcile_at = self._loop.time() + _RECONCILE_AGAIN_SECONDS
        self.cycle.start_over()
        self._on_return()
        log.info("connected to the database again")

    def _reconcile(self) -> Step:
        assert self.cycle is not None
        held = [*self._roster.keys, *self._deliveries.current.outbox.unreported]
        return calls.reconcile(self.id, self.cycle.connection, held)

    def _reconciled(self, answer: Answer) -> None:
        if isinstance(answer, StepError):
            answer.complain("reconciling")
            return
        for job in answer or ():
            log.warning(
                "gave back job %s: the answer to its claim was lost", job["job_id"],
                extra=about({"id": job["job_id"]}),
            )  # fmt: skip

    async def _one(self, step: Step) -> Any:
        (answer,) = await self._all(step)
        return answer

    async def _all(self, *steps: Step) -> list[Any]:
        answers = await self._session.exchange(steps)
        for answer in answers:
            if isinstance(answer, StepError):
                self._raise(answer)
        return answers

    def _raise(self, error: StepError) -> None:
        """Raise what cannot go on; a runner that was replaced stops everything."""
        if error.sqlstate == "PJ410":
            self._dismiss(error.message)
            raise ConnectionLost(error.message)
        if error.is_transient or (self.was_known and not error.blames_input):
            raise ConnectionLost(error.message)
        if error.sqlstate == "PJ409":
            failure = error.exception()
            assert isinstance(failure, PersonaError)
            failure.exit_code = EXIT_REPLACED  # type: ignore[misc]
            raise failure
        with translated():
            raise error.exception()

    def _dismiss(self, message: str) -> None:
        """Our registration is over: kill what ran under it, and see whether the name is free.

        Somebody else may have it now. Or nobody had heard of us for so long that we were given up.
        """
        log.error("%s; killing what it runs", message)
        self._roster.stop_all("lost")
        self._deliveries.leave()
        self._predecessor = None
        self._session.close()
        self.lost()

    def _new_delays(self) -> Iterator[float]:
        # A pause between two tries must not eat up a short lease.
        return connections.backoff_delays(cap=min(5.0, self.lease_seconds / 10))
