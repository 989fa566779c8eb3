"""The runner's loop: what is due goes out together, heartbeats first, and then it waits.

One asyncio loop and one connection. It waits for the socket, the children and the next deadline;
it holds no transaction open and asks nothing without a cause. All rules about jobs are in SQL.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

from persona_pg.errors import PersonaError
from persona_pg.runner import control, notify, procfs, spool
from persona_pg.runner.configuration import Configuration
from persona_pg.runner.deliveries import Deliveries
from persona_pg.runner.exchange import exchange
from persona_pg.runner.execution import Equipment
from persona_pg.runner.fence import Fence
from persona_pg.runner.heartbeats import Heartbeats
from persona_pg.runner.intake import Intake
from persona_pg.runner.jobdesk import JobDesk
from persona_pg.runner.jobfolder import JobFolder
from persona_pg.runner.limits import LimitWatch
from persona_pg.runner.oversight import Oversight
from persona_pg.runner.process import Processes
from persona_pg.runner.registration import Registration
from persona_pg.runner.roster import Roster
from persona_pg.runner.session import ConnectionLost, Session
from persona_pg.runner.shutdown import Shutdown
from persona_pg.runner.upkeep import Upkeep
from persona_pg.runner.watchdog import Watchdog

if TYPE_CHECKING:
    from persona_pg.runner.exchange import Due
    from persona_pg.runner.guardian_link import GuardianLink
    from persona_pg.runner.lockfile import Owner
    from persona_pg.runner.options import Options
    from persona_pg.settings import Settings

log = logging.getLogger("persona.runner")


class Runner:
    """Claims jobs, runs them, and reports; lives until it is told to end."""

    def __init__(
        self,
        link: GuardianLink,
        loaded: Settings,
        dsn: str,
        *,
        name: str,
        options: Options,
        predecessor: Owner | None,
    ) -> None:
        self._link = link
        self._configuration = told = Configuration(loaded, options)
        self._name = name
        self._loop = loop = asyncio.get_running_loop()
        self._kick = asyncio.Event()
        kick = self._kick.set
        lease_seconds = loaded.hung_timeout.total_seconds()
        self._session = Session(
            dsn,
            application_name=f"persona-worker {name}"[:63],
            on_notify=self._on_notify,
            on_lost=self._on_lost,
            # Several tries must fit into a lease.
            deadline=min(20.0, max(5.0, lease_seconds / 3)),
        )
        self._control = control.choose(loaded.process_control, link.delegated)
        self._control.own(str(loaded.home), name)
        self._processes = Processes(instance=link.instance, control=self._control)
        self._notifier = notify.Notifier()
        self._watchdog = Watchdog(loop, self._notifier, notify.watchdog_interval())
        self._roster = Roster(
            loop, slots=self._slots, taken=self._slots_taken, on_fault=self._on_fault
        )
        self._shutdown = Shutdown(loop, told, self._roster, self._notifier, kick=kick)
        self._heartbeats = Heartbeats(
            loop, self._roster, self._processes, kick=kick, on_late=self._start_over
        )
        self._deliveries = Deliveries(
            loop,
            self._roster,
            spool.path_for(loaded.home, name, dsn),
            kick=kick,
            is_verbose=options.verbose,
        )
        environ = {**os.environ, "PERSONA_RUNNER_NAME": name}
        self._folder = JobFolder(loaded.home, name, environ)
        self._desk = JobDesk(
            self._folder,
            self._processes,
            begun=lambda: self._roster.begun,
            concurrency=lambda: told.concurrency,
            kick=kick,
            on_lent=self._claim_again,
            on_progress=self._heartbeats.soon,
        )
        self._registration = Registration(
            loop,
            self._session,
            dsn,
            name=name,
            agents=options.agents,
            predecessor=predecessor,
            lease_seconds=lease_seconds,
            roster=self._roster,
            deliveries=self._deliveries,
            kick=kick,
            on_registered=self._on_registered,
            on_return=self._on_return,
            on_drain=self._shutdown.begin,
        )
        self._upkeep = Upkeep(
            loop,
            on_refused=self._registration.refused,
            on_drain=self._shutdown.begin,
            on_ticked=self._desk.waits.look,  # the net, as the poll interval is for claims
            on_deaf=self._on_deaf,
        )
        self._fence = Fence(
            loop, self._roster, freeze=self._processes.freeze, ask=self._heartbeats.at_once
        )
        Oversight(loop, link, self._processes, self._roster, kick=kick)
        self._limits = LimitWatch(loop, self._roster, self._processes)
        self._intake = Intake(
            loop,
            told,
            Equipment(environ, self._processes, link, self._desk),
            registration=self._registration,
            roster=self._roster,
            deliveries=self._deliveries,
            heartbeats=self._heartbeats,
            limits=self._limits,
            notifier=self._notifier,
            kick=kick,
        )

    def _slots(self) -> int:
        """Return how many jobs may be under way here, unless they have lent their slots."""
        can_start = not (self._shutdown.is_begun or self._link.lost)
        return self._configuration.concurrency if can_start else 0

    def _slots_taken(self) -> int:
        return self._desk.waits.taken

    # The loop

    async def run(self) -> int:
        """Work until the end; returns the exit code."""
        for number, handler in (
            (signal.SIGTERM, self._shutdown.demand),
            (signal.SIGINT, self._shutdown.demand),
            (signal.SIGHUP, self._on_hup),
        ):
            self._loop.add_signal_handler(number, handler)
        self._link.attach(self._loop)
        try:
            while not self._is_over():
                self._watchdog.begin_turn()
                if self._session.is_connected:
                    await self._exchange()
                elif self._loop.time() >= self._registration.connect_at:
                    told = self._configuration
                    await self._registration.connect(
                        capacity=told.concurrency, net_interval=told.net_interval
                    )
                self._watchdog.end_turn()
                if not self._is_over():
                    await self._wait()
        finally:
            await self._end()
            # Without its handlers, one more SIGTERM would kill what is ending well.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        return self._shutdown.exit_code

    async def _wait(self) -> None:
        """Sleep until something is due or somebody kicks."""
        timer = None
        if not self._kick.is_set() and (until := self._next_deadline()) is not None:
            timer = self._loop.call_at(until, self._kick.set)
        await self._kick.wait()
        if timer is not None:
            timer.cancel()
        self._kick.clear()

    def _next_deadline(self) -> float | None:
        due: list[float | None] = [self._shutdown.last_at]
        if self._session.is_connected:
            due += [
                self._heartbeats.next_at,
                self._upkeep.next_at,
                self._registration.reconcile_at,
                self._deliveries.current.next_at(),
                self._desk.requests.next_at(),
                self._intake.next_at(),
            ]
        else:
            due.append(self._registration.connect_at)
        return min((at for at in due if at is not None), default=None)

    def _is_over(self) -> bool:
        if len(self._roster):
            return False
        is_delivered = self._deliveries.is_empty
        if self._shutdown.is_begun:
            return self._shutdown.is_over(is_delivered=is_delivered)
        if self._intake.is_over:
            return is_delivered
        return self._configuration.options.drain and self._intake.is_drained and is_delivered

    async def _end(self) -> None:
        self._notifier.stopping("ending")
        await self._processes.close()
        await self._roster.close()
        if not self._shutdown.has_failed:
            await self._registration.sign_off()
        await self._deliveries.spool.close()
        self._session.close()
        self._heartbeats.close()
        self._fence.close()
        self._desk.close_all()
        self._folder.close()
        self._limits.close()
        self._link.close()

    # Talking to the database

    async def _exchange(self) -> None:
        """Send what is due, each kind in a transaction of its own, and act on the answers."""
        due = self._due(self._loop.time(), procfs.boottime())
        if not due:
            return
        try:
            await exchange(self._session, due)
        except ConnectionLost as exc:
            log.warning("lost the database: %s", exc)
        self._fence.arm()

    def _due(self, now: float, sent_at: float) -> list[Due]:
        """Collect what is to be sent now: heartbeats, log lines, reports, upkeep, the claim."""
        runner_id = self._registration.id
        due: list[Due] = []
        claim, is_something_due = self._intake.due(now, sent_at)
        is_tick_due = now >= self._upkeep.next_at or is_something_due
        # Our own upkeep must not find a lease run out that we are only late to renew.
        if now >= self._heartbeats.next_at or (is_tick_due and len(self._roster)):
            interval = self._configuration.heartbeat_seconds
            lease = self._registration.lease_seconds
            due.append(
                self._heartbeats.due(runner_id, interval=interval, lease=lease, sent_at=sent_at)
            )
        due += self._deliveries.current.steps(runner_id, now, has_company=claim is not None)
        due += self._desk.requests.steps(runner_id, now)
        if (at := self._registration.reconcile_at) is not None and now >= at:
            due.append(self._registration.reconcile())
        due += self._upkeep.plans_due()
        if is_tick_due:
            due.append(self._upkeep.due(runner_id, self._configuration.settings))
        if claim is not None:
            due.append(claim)
        return due

    def _on_registered(self) -> None:
        told = self._configuration
        served = ", ".join(told.options.agents) or "all agents"
        log.info(
            "runner %s is ready: %d at once, %s; process control: %s",
            self._name, told.concurrency, served, self._control.kind,
        )  # fmt: skip
        self._notifier.ready(f"0/{told.concurrency} running")

    def _on_return(self) -> None:
        self._desk.waits.look()
        self._heartbeats.at_once()

    def _on_lost(self) -> None:
        self._registration.lost()

    def _on_deaf(self) -> None:
        self._session.close()
        self._registration.lost()

    # What comes from outside

    def _claim_again(self) -> None:
        self._intake.again()

    def _start_over(self) -> None:
        self._intake.start_over()

    def _on_notify(self, channel: str, payload: str) -> None:
        runner_id = self._registration.id
        if channel == "persona_wake":
            if payload == "@schedules":
                self._upkeep.next_at = 0.0
                self._kick.set()
            elif self._configuration.serves(payload):
                self._intake.notified()
        elif payload == f"children {runner_id}":
            self._desk.waits.look()
        elif payload == runner_id:
            if channel == "persona_cancel":
                self._heartbeats.at_once()
            elif channel == "persona_control":
                self._shutdown.begin()

    def _on_fault(self) -> None:
        self._shutdown.fail()

    def _on_hup(self) -> None:
        self._notifier.reloading()
        try:
            self._configuration.reload()
        except PersonaError as exc:
            log.error("the configuration was not reloaded: %s", exc)  # noqa: TRY400
        else:
            if self._registration.cycle is not None:
                self._registration.cycle.net_interval = self._configuration.net_interval
            self._intake.again()
            self._heartbeats.at_once()
            log.info("configuration reloaded: %d at once", self._configuration.concurrency)
        if self._registration.was_known:
            self._notifier.ready()
            self._intake.show_status()
        self._kick.set()
