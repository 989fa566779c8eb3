"""The runner's loop: what is due goes out together, heartbeats first, and then it waits.

One asyncio loop and one connection. It waits for the socket, the children and the next deadline;
it holds no transaction open and asks nothing without a cause. All rules about jobs are in SQL.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from typing import TYPE_CHECKING, Any

import psycopg

from persona_pg import connections, settings
from persona_pg.errors import DatabaseUnreachable, PersonaError, translated
from persona_pg.runner import calls, notify, procfs
from persona_pg.runner.claims import ClaimCycle
from persona_pg.runner.execution import Execution
from persona_pg.runner.outbox import PAUSE_BYTES, RESUME_BYTES, Outbox
from persona_pg.runner.process import Processes
from persona_pg.runner.session import ConnectionLost, Session, StepError

if TYPE_CHECKING:
    from collections.abc import Callable

    from persona_pg.runner.guardian_link import GuardianLink
    from persona_pg.runner.main import Options
    from persona_pg.runner.session import Answer, Step
    from persona_pg.settings import Settings

log = logging.getLogger("persona.runner")

# Steps that belong together, and what to do with their answers.
_Due = tuple[list["Step"], "Callable[[list[Answer]], None]"]

EXIT_REPLACED = 75
_TICK_SECONDS = 60.0
# Log lines wait so long for company before they go out by themselves.
_FLUSH_SECONDS = 0.05
# A pid is worth a heartbeat of its own once the job has lasted so long.
_PID_REPORT_SECONDS = 1.0
_FIRST_CONTACT_SECONDS = 60.0
# After the drain timeout, so long for killing, reporting and an absent database.
_LAST_WORDS_SECONDS = 60.0


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
        may_take_over: bool,
    ) -> None:
        self._link = link
        self._settings = loaded
        self._options = options
        self._name = name
        self._may_take_over = may_take_over
        self._environ = {**os.environ, "PERSONA_RUNNER_NAME": name}
        self._loop = asyncio.get_running_loop()
        self._kick = asyncio.Event()
        self._session = Session(
            dsn,
            application_name=f"persona-worker {name}"[:63],
            on_notify=self._on_notify,
            on_lost=self._on_lost,
        )
        self._processes = Processes(instance=link.instance)
        self._outbox = Outbox(on_line=self._on_line_added)
        self._notifier = notify.Notifier()
        self._watchdog = notify.watchdog_interval()
        self._executions: dict[tuple[str, int], Execution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner_id = ""
        self._cycle: ClaimCycle | None = None
        self._delays = connections.backoff_delays()
        self._connect_at = 0.0
        self._started_at = self._loop.time()
        self._beat_at = 0.0
        self._tick_at = 0.0
        self._flush_at: float | None = None
        self._watchdog_at = 0.0
        self._fence: asyncio.TimerHandle | None = None
        self._drain_deadline: float | None = None
        self._claims_left = 1 if options.once else None
        self._is_paused = False
        self._exit_code: int | None = None
        self._singles = False

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
                if self._session.is_connected:
                    await self._exchange()
                elif self._loop.time() >= self._connect_at:
                    await self._connect()
                await self._wait()
        finally:
            await self._end()
        return self._exit_code or 0

    async def _wait(self) -> None:
        """Sleep until something is due or somebody kicks."""
        now = self._loop.time()
        if self._watchdog is not None and now >= self._watchdog_at:
            self._notifier.watchdog()
            self._watchdog_at = now + self._watchdog / 2
        until = self._next_deadline()
        if until is None or until > now:
            try:
                async with asyncio.timeout_at(until):
                    await self._kick.wait()
            except TimeoutError:
                pass
        self._kick.clear()

    def _next_deadline(self) -> float | None:
        due: list[float | None] = [self._drain_deadline]
        if self._watchdog is not None:
            due.append(self._watchdog_at)
        if not self._session.is_connected:
            due.append(self._connect_at)
        else:
            due += [self._beat_at, self._tick_at, self._flush_at]
            if self._cycle is not None and self._free_slots() > 0:
                due.append(self._cycle.next_at)
        return min((at for at in due if at is not None), default=None)

    def _free_slots(self) -> int:
        if self._drain_deadline is not None or self._claims_left == 0:
            return 0
        return self._concurrency - len(self._executions)

    def _is_over(self) -> bool:
        if self._exit_code is not None:
            return not self._executions
        if self._executions:
            return False
        if self._drain_deadline is not None:
            late = self._loop.time() > self._drain_deadline + _LAST_WORDS_SECONDS
            if late and not self._outbox.is_empty:
                log.error("ending without having delivered all results: no database")
            return late or self._outbox.is_empty
        if self._claims_left == 0:
            return self._outbox.is_empty
        is_drained = self._cycle is not None and self._cycle.is_asleep
        return self._options.drain and is_drained and self._outbox.is_empty

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
        self._session.close()
        self._link.close()

    # Talking to the database

    async def _connect(self) -> None:
        try:
            await self._session.connect()
            if self._runner_id:
                await self._return()
            else:
                await self._register()
        except (psycopg.Error, ConnectionLost, TimeoutError) as exc:
            if isinstance(exc, psycopg.Error) and not connections.is_transient(exc):
                raise
            self._session.close()
            now = self._loop.time()
            words = " ".join(str(exc).split()) or "no answer"
            if not self._runner_id and now - self._started_at > _FIRST_CONTACT_SECONDS:
                raise DatabaseUnreachable(f"no connection to the database: {words}") from None
            delay = next(self._delays)
            self._connect_at = now + delay
            log.warning("no connection to the database, next try in %.1f s: %s", delay, words)
        else:
            self._delays = connections.backoff_delays()

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
                takeover=self._may_take_over,
            )
        )
        self._runner_id = answer["id"]
        if self._may_take_over:
            for job in await self._one(calls.recover_predecessor(self._runner_id)) or ():
                log.warning(
                    "job %s was left by the last runner: now %s", job["short_id"], job["status"]
                )
        net = self._settings.poll_interval
        self._cycle = ClaimCycle(self._runner_id, net_interval=net.total_seconds() if net else None)
        served = ", ".join(self._options.agents) or "all agents"
        log.info("runner %s is ready: %d at once, %s", self._name, self._concurrency, served)
        self._notifier.ready(f"0/{self._concurrency} running")

    async def _return(self) -> None:
        """After a reconnect: say what we hold, and hear what became of it meanwhile."""
        assert self._cycle is not None
        if await self._one(calls.directive(self._runner_id)) == "drain":
            self._begin_drain()
        held = [*self._executions, *self._outbox.unreported]
        for job in await self._one(calls.reconcile(self._runner_id, held)) or ():
            log.warning("gave back job %s: the answer to its claim was lost", job["job_id"])
        self._cycle.wake()
        self._beat_at = 0.0
        log.info("connected to the database again")

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
        if error.is_transient:
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
            return
        for steps, handler in due:
            handler(answers[: len(steps)])
            answers = answers[len(steps) :]
        if self._outbox.has_lines or self._outbox.has_ready_reports:
            self._kick.set()
        self._arm_fence()

    def _due(self, now: float, sent_at: float) -> list[_Due]:
        """Collect what is to be sent now: heartbeats, log lines, reports, upkeep, the claim."""
        due: list[_Due] = []
        if now >= self._beat_at:
            interval = self._settings.heartbeat_interval.total_seconds()
            self._beat_at = now + interval * random.uniform(0.9, 1)  # noqa: S311 - spreads load
            beats = [calls.heartbeats(self._runner_id, self._beats())]
            due.append((beats, lambda a: self._beaten(a[0], sent_at)))
        self._flush_at = None
        count = 0
        if (lines := self._outbox.next_lines()) is not None:
            count, text = lines
            logs = [calls.append_logs(self._runner_id, text)]
            due.append((logs, lambda a: self._logged(a[0], count)))
        reports = self._outbox.next_reports(count, only_one=self._singles)
        if reports is not None:
            complete = [calls.complete(self._runner_id, reports)]
            due.append((complete, lambda a: self._reported(a[0])))
        if now >= self._tick_at:
            self._tick_at = now + _TICK_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - as above
            due.append(([calls.tick()], lambda a: self._ticked(a[0])))
        assert self._cycle is not None
        if claim := self._cycle.steps(self._free_slots(), now):
            due.append((claim, lambda a: self._claimed(a, sent_at)))
        return due

    def _beats(self) -> list[dict[str, Any]]:
        usage = self._processes.usage() if self._executions else {}
        return [
            execution.beat(usage.get(execution.child) if execution.child else None)
            for execution in self._executions.values()
        ]

    def _beaten(self, answer: Answer, sent_at: float) -> None:
        if isinstance(answer, StepError):
            self._complain("heartbeat", answer)
            self._beat_at = min(self._beat_at, self._loop.time() + 1)
            return
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

    def _logged(self, answer: Answer, count: int) -> None:
        if isinstance(answer, StepError):
            self._complain("log lines", answer)
            if not answer.is_transient and not self._outbox.narrow_lines(count):
                log.error("dropped a log line that the database refuses: %s", answer.message)
        else:
            self._outbox.lines_done(count)
        if self._is_paused and self._outbox.line_bytes < RESUME_BYTES:
            self._is_paused = False
            for execution in self._executions.values():
                execution.resume_output()

    def _reported(self, answer: Answer) -> None:
        if isinstance(answer, StepError):
            self._complain("results", answer)
            if not answer.is_transient:
                # One bad report must not hold up the others: from now on one by one.
                if self._singles:
                    self._outbox.replace_first_report(answer.message)
                self._singles = True
            return
        self._singles = False
        for item in answer or ():
            self._outbox.report_done(item["job_id"], item["lease"])
            if item["status"] == "lost":
                log.warning("job %s: its result came too late and was put aside", item["job_id"])
            elif self._options.verbose:
                log.info("job %s: %s", item["job_id"], item["result_status"])

    def _ticked(self, answer: Answer) -> None:
        if isinstance(answer, StepError):
            self._complain("tick", answer)

    def _claimed(self, answers: list[Answer], sent_at: float) -> None:
        assert self._cycle is not None
        now = self._loop.time()
        for answer in answers:
            if isinstance(answer, StepError):
                if answer.sqlstate == "PJ410":
                    self._dismiss(answer.message)
                else:
                    self._complain("claim", answer)
                self._cycle.failed(now)
                return
        for job in self._cycle.take(answers, now):
            if self._claims_left is not None:
                self._claims_left -= 1
            self._start(job, sent_at)
        if (self._cycle.next_at or 0.0) <= now and self._free_slots() > 0:
            self._kick.set()

    def _complain(self, what: str, error: StepError) -> None:
        level = logging.WARNING if error.is_transient else logging.ERROR
        log.log(level, "the database refused %s: %s (%s)", what, error.message, error.sqlstate)

    # Executions

    def _start(self, job: dict[str, Any], sent_at: float) -> None:
        execution = Execution(
            job,
            settings=self._settings,
            environ=self._environ,
            processes=self._processes,
            link=self._link,
            outbox=self._outbox,
            lease_base=sent_at,
            on_end=self._on_execution_end,
        )
        self._executions[execution.job_id, execution.lease] = execution
        if self._options.verbose:
            log.info("starting %s", execution.describe())
        task = self._loop.create_task(execution.run())
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        self._beat_at = min(self._beat_at, self._loop.time() + _PID_REPORT_SECONDS)
        self._show_status()

    def _on_execution_end(self, execution: Execution) -> None:
        self._executions.pop((execution.job_id, execution.lease), None)
        if self._cycle is not None and self._drain_deadline is None:
            self._cycle.wake()
        self._kick.set()
        self._show_status()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of ours: the guardian and the lease end the job, and nobody hears of it
            # unless we stop here.
            log.critical("an execution failed inside the runner", exc_info=error)
            self._exit_code = 1
            self._stop_all("drain", force=True)
            self._kick.set()

    def _show_status(self) -> None:
        if self._notifier.enabled:
            self._notifier.status(f"{len(self._executions)}/{self._concurrency} running")

    def _stop_all(self, reason: Any, *, force: bool = False) -> None:
        for execution in list(self._executions.values()):
            execution.stop(reason, force=force)

    def _arm_fence(self) -> None:
        """Self-fencing: wake when the first lease can no longer be renewed in time."""
        if self._fence is not None:
            self._fence.cancel()
            self._fence = None
        if self._executions:
            first = min(execution.fence_at for execution in self._executions.values())
            self._fence = self._loop.call_later(
                max(0.0, first - procfs.boottime()), self._fence_expired
            )

    def _fence_expired(self) -> None:
        now = procfs.boottime()
        for execution in list(self._executions.values()):
            if execution.fence_at <= now and execution.reason not in ("lease", "lost"):
                log.error("job %s: no heartbeat got through, killing it", execution.job["short_id"])
                execution.stop("lease")
        waiting = [e.fence_at for e in self._executions.values() if e.fence_at > now]
        self._fence = (
            self._loop.call_later(min(waiting) - now, self._fence_expired) if waiting else None
        )

    # What comes from outside

    def _on_line_added(self) -> None:
        if self._flush_at is None:
            self._flush_at = self._loop.time() + _FLUSH_SECONDS
            # The loop may sleep past it; it does not while an exchange is under way.
            self._loop.call_soon(self._kick.set)
        if not self._is_paused and self._outbox.line_bytes > PAUSE_BYTES:
            self._is_paused = True
            for execution in self._executions.values():
                execution.pause_output()

    def _on_notify(self, channel: str, payload: str) -> None:
        if channel == "persona_wake":
            served = self._options.agents
            if self._cycle is not None and (not served or payload == "*" or payload in served):
                self._cycle.wake()
                self._kick.set()
        elif payload == self._runner_id:
            if channel == "persona_cancel":
                self._beat_at = 0.0
            elif channel == "persona_control":
                self._begin_drain()
            self._kick.set()

    def _on_lost(self) -> None:
        self._connect_at = 0.0
        self._kick.set()

    def _on_guardian_lost(self) -> None:
        log.error("the guardian died; starting another one")
        self._processes.exempt(self._link.restart())

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
        self._notifier.ready()
        self._show_status()
        self._kick.set()

    def _dismiss(self, message: str) -> None:
        log.error("this runner was replaced: %s; killing what it runs and ending", message)
        self._exit_code = EXIT_REPLACED
        self._stop_all("lost")
        self._kick.set()
