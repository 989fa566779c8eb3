"""The runner's loop: what is due goes out together, heartbeats first, and then it waits.

One asyncio loop and one connection. It waits for the socket, the children and the next deadline;
it holds no transaction open and asks nothing without a cause. All rules about jobs are in SQL.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shlex
import signal
import socket
from typing import TYPE_CHECKING, Any

import psycopg

from persona_pg import connections, settings
from persona_pg.errors import ConfigurationError, DatabaseUnreachable, PersonaError, translated
from persona_pg.runner import calls, control, notify, procfs, spool
from persona_pg.runner.claims import ClaimCycle
from persona_pg.runner.delivery import Delivery
from persona_pg.runner.execution import Execution
from persona_pg.runner.fence import Fence
from persona_pg.runner.jobdesk import JobDesk
from persona_pg.runner.jobfolder import JobFolder
from persona_pg.runner.limits import LimitWatch
from persona_pg.runner.process import Processes
from persona_pg.runner.session import CHANNELS, ConnectionLost, Session, StepError
from persona_pg.runner.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from persona_pg.runner.guardian_link import GuardianLink
    from persona_pg.runner.lockfile import Owner
    from persona_pg.runner.main import Options
    from persona_pg.runner.outbox import Outbox
    from persona_pg.runner.process import Child, Usage
    from persona_pg.runner.session import Answer, Step
    from persona_pg.settings import Settings

log = logging.getLogger("persona.runner")

# Steps that belong together, and what to do with their answers.
_Due = tuple[list["Step"], "Callable[[list[Answer]], None]"]

EXIT_REPLACED = 75
_TICK_SECONDS = 60.0
# A pid is worth a heartbeat of its own once the job has lasted so long.
_PID_REPORT_SECONDS = 1.0
_FIRST_CONTACT_SECONDS = 60.0
# After the drain timeout, so long for killing, reporting and an absent database.
_LAST_WORDS_SECONDS = 60.0
# A claim that was under way when the connection broke may still be committed up to then.
_RECONCILE_AGAIN_SECONDS = 30.0
# A connection that did not live for so long is not replaced at once.
_SHORT_CONNECTION_SECONDS = 5.0
# After a program could not be started for want of processes or memory: doubling up to this.
_LONGEST_REST_SECONDS = 30.0
_LOGGED_COMMAND = 200
# So many jobs may wait for what they delegated; then no more are claimed.
_MOST_WAITING = 100
# So often is the database asked to take what an earlier runner has left, before we begin without.
_LEFT_TRIES = 10


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
        self._settings = loaded
        self._options = options
        self._name = name
        self._dsn = dsn
        self._predecessor = predecessor
        self._environ = {**os.environ, "PERSONA_RUNNER_NAME": name}
        self._loop = asyncio.get_running_loop()
        self._kick = asyncio.Event()
        self._session = Session(
            dsn,
            application_name=f"persona-worker {name}"[:63],
            on_notify=self._on_notify,
            on_lost=self._on_lost,
            # Several tries must fit into a lease.
            deadline=min(20.0, max(5.0, loaded.hung_timeout.total_seconds() / 3)),
        )
        self._control = control.choose(loaded.process_control)
        self._control.own(str(loaded.home), name)
        self._processes = Processes(instance=link.instance, control=self._control)
        self._executions: dict[tuple[str, int], Execution] = {}
        self._delivery = self._new_delivery()
        # What is still to be delivered under earlier registrations.
        self._left: list[tuple[str, Delivery]] = []
        self._left_tries = 0
        path = spool.path_for(loaded.home, name, dsn)
        self._spool = spool.Spool(self._loop, path, self._outboxes)
        for runner_id, outbox in self._spool.read():
            self._left.append((runner_id, self._new_delivery(outbox)))
        self._notifier = notify.Notifier()
        self._watchdog = Watchdog(self._loop, self._notifier, notify.watchdog_interval())
        self._fence = Fence(
            self._loop,
            self._executions.values,
            freeze=self._processes.freeze,
            ask=self._ask_about_leases,
        )
        self._folder = JobFolder(loaded.home, name, self._environ)
        self._desk = JobDesk(
            self._folder,
            self._processes,
            self._executions.values,
            concurrency=lambda: self._concurrency,
            kick=self._kick.set,
            on_lent=self._claim_again,
            on_progress=self._beat_soon,
        )
        self._limits = LimitWatch(self._loop, self._executions.values, self._processes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner_id = ""
        self._cycle: ClaimCycle | None = None
        self._lease_seconds = loaded.hung_timeout.total_seconds()
        self._delays = self._new_delays()
        self._connect_at = 0.0
        self._connected_at = 0.0
        self._give_up_at: float | None = self._loop.time() + _FIRST_CONTACT_SECONDS
        self._beat_at = 0.0
        self._beaten_at = procfs.boottime()
        self._tick_at = 0.0
        self._plans: list[dict[str, Any]] = []
        self._reconcile_at: float | None = None
        self._rest_until = 0.0
        self._rest_seconds = 0.0
        self._drain_deadline: float | None = None
        self._claims_left = 1 if options.once else None
        self._exit_code: int | None = None

    def _new_delivery(self, outbox: Outbox | None = None) -> Delivery:
        return Delivery(
            self._loop,
            self._executions.values,
            kick=self._on_output,
            is_verbose=self._options.verbose,
            outbox=outbox,
        )

    def _outboxes(self) -> list[tuple[str, Outbox]]:
        now = [(self._runner_id, self._delivery)] if self._runner_id else []
        return [(runner_id, delivery.outbox) for runner_id, delivery in (*self._left, *now)]

    @property
    def _is_all_delivered(self) -> bool:
        return self._delivery.outbox.is_empty and not self._left

    @property
    def _concurrency(self) -> int:
        return self._options.concurrency or self._settings.worker_concurrency

    # The loop

    async def run(self) -> int:
        """Work until the end; returns the exit code."""
        for number, handler in (
            (signal.SIGTERM, self._on_term),
            (signal.SIGINT, self._on_term),
            (signal.SIGHUP, self._on_hup),
        ):
            self._loop.add_signal_handler(number, handler)
        self._link.attach(self._loop)
        self._link.on_lost = self._on_guardian_lost
        self._link.on_killed = self._on_guardian_killed
        try:
            while not self._is_over():
                self._watchdog.begin_turn()
                if self._session.is_connected:
                    await self._exchange()
                elif self._loop.time() >= self._connect_at:
                    await self._connect()
                self._watchdog.end_turn()
                if not self._is_over():
                    await self._wait()
        finally:
            await self._end()
            # Without its handlers, one more SIGTERM would kill what is ending well.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        return self._exit_code or 0

    async def _wait(self) -> None:
        """Sleep until something is due or somebody kicks."""
        until = self._next_deadline()
        try:
            async with asyncio.timeout_at(until):
                await self._kick.wait()
        except TimeoutError:
            pass
        self._kick.clear()

    def _next_deadline(self) -> float | None:
        due: list[float | None] = []
        if self._drain_deadline is not None:
            due.append(self._drain_deadline + _LAST_WORDS_SECONDS)
        if not self._session.is_connected:
            due.append(self._connect_at)
        else:
            due += [self._beat_at, self._tick_at, self._reconcile_at, self._delivery.next_at()]
            due.append(self._desk.requests.next_at())
            if self._cycle is not None and self._free_slots() > 0:
                claim_at = self._cycle.next_at
                due.append(None if claim_at is None else max(claim_at, self._rest_until))
        return min((at for at in due if at is not None), default=None)

    def _free_slots(self) -> int:
        if self._drain_deadline is not None or self._claims_left == 0 or self._link.lost:
            return 0
        # Jobs that wait have lent their slots, but are there all the same.
        room = self._concurrency + _MOST_WAITING - len(self._executions)
        return min(self._concurrency - self._desk.waits.taken, room)

    def _is_over(self) -> bool:
        if self._executions:
            return False
        if self._drain_deadline is not None:
            late = self._loop.time() > self._drain_deadline + _LAST_WORDS_SECONDS
            if late and not self._is_all_delivered:
                log.error("ending without having delivered all results: no database")
            return late or self._is_all_delivered
        if self._claims_left == 0:
            return self._is_all_delivered
        is_drained = self._cycle is not None and self._cycle.is_asleep
        return self._options.drain and is_drained and self._is_all_delivered

    async def _end(self) -> None:
        self._notifier.stopping("ending")
        await self._processes.close()
        for task in list(self._tasks):
            await asyncio.wait({task}, timeout=10)
        if self._session.is_connected and self._runner_id and self._exit_code is None:
            try:
                await self._session.exchange([calls.deregister(self._runner_id)])
            except ConnectionLost as exc:
                log.warning("could not sign off: %s", exc)
        await self._spool.close()
        self._session.close()
        self._fence.close()
        self._folder.close()
        self._limits.close()
        self._link.close()

    # Talking to the database

    async def _connect(self) -> None:
        try:
            await self._session.connect()
            self._connected_at = self._loop.time()
            if self._runner_id:
                await self._return()
            else:
                await self._deliver_left()
                await self._register()
        except (psycopg.Error, ConfigurationError, ConnectionLost, TimeoutError) as exc:
            self._session.close()
            is_new = self._give_up_at is not None
            is_refused = isinstance(exc, (psycopg.Error, ConfigurationError))
            if is_new and is_refused and not connections.is_transient(exc):
                raise
            # Once registered there are jobs at stake: whatever it is, it may be put right.
            now = self._loop.time()
            words = connections.masked(" ".join(str(exc).split()), self._dsn) or "no answer"
            if self._give_up_at is not None and now > self._give_up_at:
                raise DatabaseUnreachable(f"no connection to the database: {words}") from None
            delay = next(self._delays)
            self._connect_at = now + delay
            log.warning("no connection to the database, next try in %.1f s: %s", delay, words)

    async def _deliver_left(self) -> None:
        """Hand in what earlier registrations have left, before what they held is given to others.

        Under their ids, so that it counts where nobody has taken the job since, and is put aside
        as late where somebody has.
        """
        while self._left:
            runner_id, delivery = self._left[0]
            while due := delivery.steps(runner_id, self._loop.time()):
                answers = await self._session.exchange([step for steps, _ in due for step in steps])
                self._handle(due, answers)
            if delivery.outbox.is_empty:
                self._left.pop(0)
                self._left_tries = 0
                self._spool.watch()  # which then forgets it
            elif self._left_tries < _LEFT_TRIES:
                self._left_tries += 1
                raise ConnectionLost("the database does not take what was left by the last runner")
            else:
                log.error("the database refuses what was left: kept beside %s", self._spool.path)
                self._left.clear()
                self._spool.set_aside()

    async def _register(self) -> None:
        answer = await self._one(
            calls.register(
                self._name,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                pid_started=str(procfs.start_time(os.getpid())),
                host=procfs.host(),
                capacity=self._concurrency,
                agents=self._options.agents,
                lease_seconds=self._settings.hung_timeout.total_seconds(),
                predecessor=self._predecessor,
            )
        )
        if answer["may_recover"]:
            for job in await self._one(calls.recover_predecessor(answer["id"])) or ():
                log.warning(
                    "job %s was left by the last runner: now %s", job["short_id"], job["status"]
                )
        net = self._settings.poll_interval
        # Only now: what is cut off before is done again as a whole.
        self._runner_id = answer["id"]
        self._lease_seconds = answer["lease_seconds"]
        self._cycle = ClaimCycle(self._runner_id, net_interval=net.total_seconds() if net else None)
        self._give_up_at = None
        served = ", ".join(self._options.agents) or "all agents"
        log.info(
            "runner %s is ready: %d at once, %s; process control: %s",
            self._name, self._concurrency, served, self._control.kind,
        )  # fmt: skip
        self._notifier.ready(f"0/{self._concurrency} running")

    async def _return(self) -> None:
        """After a reconnect: say what we hold, and hear what became of it meanwhile."""
        assert self._cycle is not None
        if await self._one(calls.directive(self._runner_id)) == "drain":
            self._begin_drain()
        self._cycle.connection = await self._one(calls.open_connection(self._runner_id))
        self._reconciled(await self._one(self._reconcile()))
        self._reconcile_at = self._loop.time() + _RECONCILE_AGAIN_SECONDS
        self._desk.waits.look()
        self._cycle.wake()
        self._beat_at = 0.0
        log.info("connected to the database again")

    def _reconcile(self) -> Step:
        assert self._cycle is not None
        held = [*self._executions, *self._delivery.outbox.unreported]
        return calls.reconcile(self._runner_id, self._cycle.connection, held)

    def _reconciled(self, answer: Answer) -> None:
        if isinstance(answer, StepError):
            answer.complain("reconciling")
            return
        for job in answer or ():
            log.warning("gave back job %s: the answer to its claim was lost", job["job_id"])

    async def _one(self, step: Step) -> Any:
        (answer,) = await self._session.exchange([step])
        if isinstance(answer, StepError):
            self._refused(answer)
        return answer

    def _refused(self, error: StepError) -> None:
        """Raise what cannot go on; a runner that was replaced stops everything."""
        if error.sqlstate == "PJ410":
            self._dismiss(error.message)
            raise ConnectionLost(error.message)
        is_known = self._give_up_at is None
        if error.is_transient or (is_known and not error.blames_input):
            raise ConnectionLost(error.message)
        if error.sqlstate == "PJ409":
            failure = error.exception()
            assert isinstance(failure, PersonaError)
            failure.exit_code = EXIT_REPLACED  # type: ignore[misc]
            raise failure
        with translated():
            raise error.exception()

    async def _exchange(self) -> None:
        """Send what is due, each kind in a transaction of its own, and act on the answers."""
        due = self._due(self._loop.time(), procfs.boottime())
        if not due:
            return
        try:
            answers = await self._session.exchange([step for steps, _ in due for step in steps])
        except ConnectionLost as exc:
            log.warning("lost the database: %s", exc)
            answers = exc.answers
        self._handle(due, answers)
        self._fence.arm()

    @staticmethod
    def _handle(due: Sequence[_Due], answers: list[Answer]) -> None:
        for steps, handler in due:
            if len(answers) < len(steps):
                break
            handler(answers[: len(steps)])
            answers = answers[len(steps) :]

    def _due(self, now: float, sent_at: float) -> list[_Due]:
        """Collect what is to be sent now: heartbeats, log lines, reports, upkeep, the claim."""
        assert self._cycle is not None
        due: list[_Due] = []
        free = self._free_slots() if now >= self._rest_until else 0
        is_tick_due = now >= self._tick_at or (free > 0 and self._cycle.is_something_due(now))
        # Our own upkeep must not find a lease run out that we are only late to renew.
        if now >= self._beat_at or (is_tick_due and self._executions):
            due.append(self._heartbeat(now, sent_at))
        due += self._delivery.steps(self._runner_id, now)
        due += self._desk.requests.steps(self._runner_id, now)
        if self._reconcile_at is not None and now >= self._reconcile_at:
            self._reconcile_at = None
            due.append(([self._reconcile()], lambda a: self._reconciled(a[0])))
        if self._plans:
            due.append(([calls.plan_schedules(self._plans)], self._planned))
            self._plans = []
        if is_tick_due:
            self._tick_at = now + _TICK_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - as above
            # The queue's own setting holds, unless this runner was told otherwise.
            is_told = "JOB_LOG_RETENTION_DAYS" in self._settings.sources
            days = self._settings.log_retention_days if is_told else None
            upkeep = [calls.directive(self._runner_id), calls.tick(days), calls.listening()]
            due.append((upkeep, self._ticked))
        if claim := self._cycle.steps(free, now):
            due.append((claim, lambda a: self._claimed(a, sent_at)))
        return due

    def _heartbeat(self, now: float, sent_at: float) -> _Due:
        # No rarer than the leases we have been given allow, whatever was configured since.
        interval = self._settings.heartbeat_interval.total_seconds()
        interval = min(interval, self._lease_seconds / 3) * random.uniform(0.9, 1)  # noqa: S311 - spreads load
        self._beat_at = now + interval
        beats = [calls.heartbeats(self._runner_id, self._beats())]
        return beats, lambda a: self._beaten(a[0], sent_at)

    def _beats(self) -> list[dict[str, Any]]:
        usage: dict[Child, Usage] = {}
        if self._executions:
            try:
                usage = self._processes.usage()
            except OSError as exc:
                # A heartbeat says that we are alive: it does not depend on what it costs.
                log.warning("cannot look at the processes: %s", exc)
        return [
            execution.beat(usage.get(execution.child) if execution.child else None)
            for execution in self._executions.values()
        ]

    def _beaten(self, answer: Answer, sent_at: float) -> None:
        if isinstance(answer, StepError):
            answer.complain("heartbeat")
            self._beat_at = min(self._beat_at, self._loop.time() + 1)
            return
        if self._cycle is not None and sent_at - self._beaten_at > self._lease_seconds:
            # Our idle mark did not count while nobody had heard of us for so long (stopped, or
            # asleep with the machine): what was created meanwhile has notified nobody.
            self._cycle.wake()
        self._beaten_at = sent_at
        for beat in answer or ():
            execution = self._executions.get((beat["job_id"], beat["lease"]))
            if execution is None:
                continue
            if beat["directive"] == "lost":
                log.warning("job %s: the lease is lost, killing it", execution.job["short_id"])
                execution.stop("lost")
                continue
            execution.renewed(sent_at)
            if beat["directive"] == "cancel":
                execution.stop("cancel", force=bool(beat["force"]), detail=beat["reason"])

    def _ticked(self, answers: list[Answer]) -> None:
        directive, tick, heard = answers
        if isinstance(directive, StepError):
            self._claim_refused(directive)
        elif directive == "drain":
            self._begin_drain()
        if isinstance(tick, StepError):
            tick.complain("upkeep")
        else:
            self._plan(tick)
        self._desk.waits.look()  # the net, as the poll interval is for claims
        if not isinstance(heard, StepError) and not set(CHANNELS) <= set(heard):
            # Somebody between us and the server, or a session that was reset: it works, but deaf.
            log.error("this connection hears no notifications any more: opening another one")
            self._session.close()
            self._on_lost()

    def _plan(self, tick: dict[str, Any]) -> None:
        """Read the cron expressions that are due, and come back when the next schedule is."""
        if tick.get("to_plan"):
            from persona_pg import schedules

            self._plans = schedules.plan(tick["to_plan"])
            self._tick_at = 0.0  # the answer goes first, and then says what is next
        elif (seconds := tick.get("next_schedule_seconds")) is not None:
            # A millisecond more, so that it is due by the server's clock too.
            self._tick_at = min(self._tick_at, self._loop.time() + seconds + 0.001)

    def _planned(self, answers: list[Answer]) -> None:
        (answer,) = answers
        if isinstance(answer, StepError):
            answer.complain("planning schedules")
            # Whatever it was, it is not tried again without a pause.
            self._tick_at = self._loop.time() + _TICK_SECONDS

    def _claimed(self, answers: list[Answer], sent_at: float) -> None:
        assert self._cycle is not None
        now = self._loop.time()
        errors = [answer for answer in answers if isinstance(answer, StepError)]
        for error in errors:
            self._claim_refused(error)
        cycle = self._cycle
        for job in cycle.failed(answers, now) if errors else cycle.take(answers, now):
            if self._claims_left is not None:
                self._claims_left -= 1
            self._start(job, sent_at)

    def _claim_refused(self, error: StepError) -> None:
        error.complain("the runner")
        if error.sqlstate == "PJ410" and self._runner_id:
            self._dismiss(error.message)

    # Executions

    def _start(self, job: dict[str, Any], sent_at: float) -> None:
        execution = Execution(
            job,
            settings=self._settings,
            environ=self._environ,
            processes=self._processes,
            link=self._link,
            outbox=self._delivery.outbox,
            desk=self._desk,
            lease_base=sent_at,
            on_start=self._on_execution_start,
            on_end=self._on_execution_end,
        )
        self._executions[execution.job_id, execution.lease] = execution
        task = self._loop.create_task(execution.run())
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        self._beat_soon()
        self._show_status()

    def _beat_soon(self) -> None:
        self._beat_at = min(self._beat_at, self._loop.time() + _PID_REPORT_SECONDS)
        self._kick.set()

    def _claim_again(self) -> None:
        if self._cycle is not None and self._drain_deadline is None:
            self._cycle.wake()
        self._kick.set()

    def _on_execution_start(self, execution: Execution, argv: Sequence[str]) -> None:
        self._limits.arm()
        if self._options.verbose:
            job = execution.job
            line = shlex.join(argv)[:_LOGGED_COMMAND]
            log.info("job %s (%s): started %s", job["short_id"], job["agent"], line)

    def _on_output(self) -> None:
        self._spool.watch()
        self._kick.set()

    def _on_execution_end(self, execution: Execution) -> None:
        self._executions.pop((execution.job_id, execution.lease), None)
        self._rest(needed=execution.was_not_startable)
        self._claim_again()
        self._on_output()
        self._show_status()

    def _rest(self, *, needed: bool) -> None:
        """Leave jobs to others for a while when none can be started here."""
        now = self._loop.time()
        if not needed:
            self._rest_seconds = 0.0
        elif now >= self._rest_until:  # those that were claimed together fail together
            self._rest_seconds = min(max(1.0, self._rest_seconds * 2), _LONGEST_REST_SECONDS)
            self._rest_until = now + self._rest_seconds
            log.error("cannot start programs: no new jobs for %g s", self._rest_seconds)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of ours: the guardian and the lease end the job, and nobody hears of it
            # unless we stop here.
            log.critical("an execution failed inside the runner", exc_info=error)
            self._exit_code = 1
            self._begin_drain()
            self._drain_deadline = self._loop.time()
            self._stop_all("drain", force=True)

    def _show_status(self) -> None:
        if self._notifier.enabled:
            self._notifier.status(f"{len(self._executions)}/{self._concurrency} running")

    def _ask_about_leases(self) -> None:
        self._beat_at = 0.0
        self._kick.set()

    def _stop_all(self, reason: Any, *, force: bool = False) -> None:
        for execution in list(self._executions.values()):
            execution.stop(reason, force=force)

    # What comes from outside

    def _on_notify(self, channel: str, payload: str) -> None:
        if channel == "persona_wake":
            served = self._options.agents
            if payload == "@schedules":
                self._tick_at = 0.0
                self._kick.set()
            elif self._cycle is not None and (not served or payload == "*" or payload in served):
                self._cycle.wake()
                self._kick.set()
        elif payload == f"children {self._runner_id}":
            self._desk.waits.look()
        elif payload == self._runner_id:
            if channel == "persona_cancel":
                self._beat_at = 0.0
            elif channel == "persona_control":
                self._begin_drain()
            self._kick.set()

    def _new_delays(self) -> Iterator[float]:
        # A pause between two tries must not eat up a short lease.
        return connections.backoff_delays(cap=min(5.0, self._lease_seconds / 10))

    def _on_lost(self) -> None:
        now = self._loop.time()
        if now - self._connected_at > _SHORT_CONNECTION_SECONDS:
            self._delays = self._new_delays()
            self._connect_at = now
        else:
            self._connect_at = now + next(self._delays)
        self._kick.set()

    def _on_guardian_lost(self) -> None:
        log.error("the guardian died; starting another one")
        try:
            self._processes.exempt(self._link.restart())
        except OSError as exc:
            # Until there is one, no job is started.
            log.error("there is no new guardian yet: %s", exc)  # noqa: TRY400
            self._loop.call_later(1.0, self._on_guardian_lost)
        self._kick.set()

    def _on_guardian_killed(self, token: int) -> None:
        for execution in self._executions.values():
            if execution.token == token:
                execution.stop("lease", force=True)

    def _on_term(self) -> None:
        if self._drain_deadline is None:
            self._begin_drain()
        else:
            log.info("told to end a second time: giving all jobs back")
            self._drain_deadline = self._loop.time()
            self._stop_all("drain")
        self._kick.set()

    def _begin_drain(self) -> None:
        if self._drain_deadline is not None:
            return
        seconds = self._settings.drain_timeout.total_seconds()
        self._drain_deadline = self._loop.time() + seconds
        self._loop.call_later(seconds, self._stop_all, "drain")
        log.info("ending: no new jobs, %d running", len(self._executions))
        self._notifier.stopping(f"draining, {len(self._executions)} running")
        self._notifier.extend_timeout(seconds + _LAST_WORDS_SECONDS)
        self._kick.set()

    def _on_hup(self) -> None:
        self._notifier.reloading()
        try:
            loaded = settings.load()
        except PersonaError as exc:
            log.error("the configuration was not reloaded: %s", exc)  # noqa: TRY400
        else:
            self._settings = loaded
            if self._cycle is not None:
                net = loaded.poll_interval
                self._cycle.net_interval = net.total_seconds() if net else None
                self._cycle.wake()
            self._beat_at = 0.0
            log.info("configuration reloaded: %d at once", self._concurrency)
        if self._give_up_at is None:
            self._notifier.ready()
            self._show_status()
        self._kick.set()

    def _dismiss(self, message: str) -> None:
        """Our registration is over: kill what ran under it, and see whether the name is free.

        Somebody else may have it now. Or nobody had heard of us for so long that we were given up.
        """
        log.error("%s; killing what it runs", message)
        self._stop_all("lost")
        if self._runner_id and not self._delivery.outbox.is_empty:
            self._left.append((self._runner_id, self._delivery))
            self._delivery = self._new_delivery()
        self._runner_id = ""
        self._predecessor = None
        self._session.close()
        self._on_lost()
