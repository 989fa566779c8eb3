"""One execution of one job: from the claim to the report."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from persona_pg import verdict
from persona_pg.runner import ending, procfs, render
from persona_pg.runner.lease import Lease
from persona_pg.runner.limits import Limits
from persona_pg.runner.outbox import LogWriter, Outbox
from persona_pg.runner.output import OutputPump
from persona_pg.runner.process import ChildSpec, SpawnError
from persona_pg.runner.shownargv import secret_values, shown
from persona_pg.runner.timeouts import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from persona_pg.runner.ending import Reason
    from persona_pg.runner.guardian_link import GuardianLink
    from persona_pg.runner.jobdesk import JobDesk
    from persona_pg.runner.process import Child, Exit, Processes, Usage
    from persona_pg.settings import Settings

_OUTPUT_GRACE = 1.0


class Equipment(NamedTuple):
    """What all executions of a runner have in common."""

    environ: Mapping[str, str]
    processes: Processes
    link: GuardianLink
    desk: JobDesk


class Execution:
    """A claimed job, its processes, and what is known of them."""

    def __init__(
        self,
        job: Mapping[str, Any],
        settings: Settings,
        equipment: Equipment,
        *,
        outbox: Outbox,
        lease_base: float,
        on_start: Callable[[Execution, Sequence[str]], None],
        on_end: Callable[[Execution], None],
    ) -> None:
        self.job = job
        self.job_id: str = job["id"]
        self.lease: int = job["lease"]
        self.token = equipment.processes.new_token()
        self.child: Child | None = None
        # Its command line as people may see it; told with a heartbeat of a job that lasts, and
        # with the report.
        self.argv: list[str] | None = None
        self.is_argv_sent = self.is_argv_told = False
        self.limits = Limits.of(job)
        # The machine could not start it, which is no fault of the job.
        self.was_not_startable = False
        # What the job has said of itself through its socket.
        self.progress: tuple[float, str | None] | None = None
        self.given_result: Any = None
        # When it was last looked at, and how much processor time it had had by then.
        self.cpu_seen: tuple[float, float] | None = None
        self.is_output_paused = False
        self._settings = settings
        self._environ, self._processes, self._link, self._desk = equipment
        self._log = LogWriter(outbox, self.job_id, self.lease)
        self._outbox = outbox
        self._on_start = on_start
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        # Resolved: it has a slot, or is to end without one.
        self._turn: asyncio.Future[None] = self._loop.create_future()
        self._pump: OutputPump | None = None
        self._reader = verdict.open_reader(job["output_format"])
        self._is_waiting = False
        self._session_id: str | None = None
        grace = job.get("kill_grace_seconds")
        self._grace: float = settings.kill_grace.total_seconds() if grace is None else grace
        total: float = job.get("timeout_seconds") or settings.job_timeout.total_seconds()
        silence = settings.job_idle_timeout
        idle: float | None = job.get("idle_timeout_seconds") or (
            silence.total_seconds() if silence else None
        )
        self._timeouts = Timeouts(self._loop, total, idle, self.stop)
        self._ending = ending.Ending(total, idle)
        self._held = Lease(float(job["lease_seconds"]), lease_base, self._grace)
        # Long before there is a process; what is claimed together is sent together.
        self._link.register(self.token, self._held.guardian_deadline)

    # Leases

    @property
    def fence_at(self) -> float:
        """When to begin killing the tree for want of a heartbeat, on the boottime clock."""
        return self._held.fence_at

    @property
    def is_fenced(self) -> bool:
        """Tell whether it is being killed for want of its lease."""
        return self._ending.is_for_lease

    @property
    def is_suspended(self) -> bool:
        """Tell whether its processes stand still until a heartbeat is answered."""
        return self._held.is_suspended

    def suspended(self) -> None:
        """Note that its processes were stopped: it is not known whose the lease is."""
        self._held.suspend()

    def renewed(self, sent_at: float) -> None:
        """Note a heartbeat that the server answered with keep; *sent_at* is when we sent it."""
        was_suspended = self._held.is_suspended
        if not self._held.renew(sent_at):
            return
        if was_suspended:
            self._log.write("system", "info", "stood still past its lease; nobody took it: goes on")
            if self.child is not None:
                self._processes.thaw(self.child)
        self._link.renew(self.token, self._held.guardian_deadline)

    # The life of the execution

    def begin(self) -> None:
        """Let it start: it has a slot."""
        if not self._turn.done():
            self._turn.set_result(None)

    async def run(self) -> None:
        """Start the program, wait until its processes are gone, leave the report in the outbox."""
        try:
            if not self._turn.done():
                await self._turn
            report = await self._run()
            if self._ending.reason != "lost":
                self._outbox.add_report(self._log, report)
        finally:
            self._desk.close(self)
            self._timeouts.cancel()
            self._link.release(self.token)
            self._on_end(self)

    async def _run(self) -> dict[str, Any]:
        try:
            resumption = await self._resumption()
            if isinstance(resumption, str):
                return self._report("given_back", error=resumption)
            command = render.command(
                self.job, self._settings, self._environ, self._timeouts.total, resumption
            )
        except render.RenderError as exc:
            return self._not_started(f"agent {self.job['agent']}: {exc}", "not_found")
        if self._ending.reason is not None:
            return self._report("failed")
        if self.fence_at <= procfs.boottime():
            # We were stopped, or the network was slow: by now the job may be somebody else's.
            return self._report("given_back", error="the answer to its claim came too late")
        self._session_id = command.session_id
        self.argv = shown(
            (*self.limits.launcher, *command.argv),
            secret_values(self.job.get("env") or {}, command.env),
        )
        self._link.announce()
        limit = self.job.get("output_limit") or self._settings.output_limit
        try:
            self.child = child = self._processes.spawn(
                ChildSpec(
                    argv=command.argv,
                    env=self._desk.open(self, command.env, limit),
                    cwd=command.cwd,
                    stdin=command.stdin,
                    token=self.token,
                    mark=self.job_id,
                    launcher=self.limits.launcher,
                    processors=self.limits.processors(),
                )
            )
        except SpawnError as exc:
            self.argv = None
            return self._spawn_failed(exc)
        self._link.started(self.token, child)
        self._on_start(self, command.argv)
        self._pump = OutputPump(
            child,
            limit_bytes=limit,
            on_line=self._on_line,
            on_bytes=self._reader.feed,
            on_notice=self._on_notice,
        )
        if self.is_output_paused:
            self._pump.pause()
        pump = self._pump
        # Silent because we do not read, or because it waits for others: that is not the job's.
        self._timeouts.arm(
            lambda: pump.last_output_at, lambda: self.is_output_paused or self._is_waiting
        )
        exit_ = await self._processes.wait_gone(child)
        await self._pump.finish(grace=_OUTPUT_GRACE)
        return self._ended(exit_)

    async def _resumption(self) -> dict[str, Any] | str | None:
        """Ask how to go on with the conversation, where there is one; a text: nobody can say."""
        if not (self.job["keeps_conversation"] and self.job["session_id"]):
            return None
        answer = await self._desk.requests.call(self.job_id, self.lease, "resume", {})
        if not answer["ok"]:
            return str(answer["error"]["message"])
        found: dict[str, Any] = answer["data"]
        return found

    @property
    def is_waiting(self) -> bool:
        """Tell whether it waits for what it delegated: its silence is no sign of anything."""
        return self._is_waiting

    @is_waiting.setter
    def is_waiting(self, value: bool) -> None:
        self._is_waiting = value
        self._timeouts.excuse_ends()

    def write_log(self, level: str, text: str, *, is_part: bool) -> None:
        """Take a line that the job wrote through its socket."""
        details = {"source": "job", **({"part": True} if is_part else {})}
        self._log.write("system", level, text, details=details)

    def stop(self, reason: Reason, *, force: bool = False, detail: str | None = None) -> None:
        """End the processes: SIGTERM, grace, SIGKILL; the strongest reason given is reported."""
        if self.child is not None and self.child.has_exited:
            if reason in ("lost", "lease"):
                self._ending.reason = reason
                self._processes.begin_stop(self.child, 0.0)  # what it has left behind
            return
        if not self._ending.demand(reason, force=force, detail=detail):
            return
        self.begin()  # only to end at once, if it had no slot
        if self.child is not None:
            lease_left = max(0.0, self._held.guardian_deadline - procfs.boottime())
            grace = 0.0 if force or reason == "lost" else min(self._grace, lease_left)
            if reason not in ("lost", "drain", "busy"):
                self._log.write("system", "warn", self._ending.words(reason, grace))
            self._processes.begin_stop(self.child, grace)

    def exceed(self, words: str, usage: Usage) -> None:
        """Kill it for a limit that all its processes together are over."""
        self._ending.exceeded = words
        self.stop("limit", force=True)
        if self.has_exceeded:
            used = f"{usage.processes} process(es) with {usage.memory_bytes / (1 << 20):.1f} MB"
            self._log.write("system", "error", f"{words}: there were {used}")

    @property
    def has_exceeded(self) -> bool:
        """Tell whether it is being killed for a limit."""
        return self._ending.reason == "limit"

    def pause_output(self) -> None:
        """Read nothing until resume_output: the job waits in its writes."""
        self.is_output_paused = True
        if self._pump is not None:
            self._pump.pause()

    def resume_output(self) -> None:
        """Read on."""
        self.is_output_paused = False
        if self._pump is not None:
            self._pump.resume()

    # Output

    def _on_line(self, stream: str, text: str, is_partial: bool) -> None:
        level = "info" if stream == "stdout" else "warn"
        self._log.write(stream, level, text, is_part=is_partial)

    def _on_notice(self, stream: str, level: str, message: str) -> None:
        self._log.write("system", level, message, details={"stream": stream})

    # Reports

    def _ended(self, exit_: Exit) -> dict[str, Any]:
        child = self.child
        assert child is not None
        for level, words in ending.leftovers(exit_):
            self._log.write("system", level, words)
        ruling = self._reader.finish(exit_.code if exit_.signal is None else None, exit_.signal)
        ended_for = self.limits.named_by(exit_) if ruling.outcome == "failed" else None
        return self._report(
            ruling.outcome,
            **{
                **ending.of_verdict(ruling, self.given_result),
                "exit_code": exit_.code,
                "error": ended_for or ruling.error,
                # A program that was stopped could not say which conversation it had begun.
                "session_id": ruling.session_id
                or (self._session_id if self._ending.reason else None),
                "pid": child.pid,
            },
        )

    def _report(self, outcome: str, **details: Any) -> dict[str, Any]:
        report = self._ending.report(outcome, **details)
        if self.argv is not None:
            report["argv"] = self.argv
        return {"job_id": self.job_id, "lease": self.lease, **report}

    def _not_started(self, error: str, kind: str) -> dict[str, Any]:
        self._log.write("system", "error", error)
        return self._report("failed", error=error, failure_kind=kind)

    def _spawn_failed(self, exc: SpawnError) -> dict[str, Any]:
        agent = self.job["agent"]
        if exc.is_transient:
            self.was_not_startable = True
            self._log.write("system", "warn", f"agent {agent}: {exc}; the job is given back")
            return self._report("given_back", error=str(exc))
        runner = self._environ.get("PERSONA_RUNNER_NAME", "")
        return self._not_started(f"agent {agent}: {exc.words(runner)}", "not_found")
