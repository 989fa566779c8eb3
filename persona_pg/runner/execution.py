"""One execution of one job: from the claim to the report.

Why it ended is decided in this order: our own reason (lost lease, cancel, timeout, drain), what
the program said of itself in its structured output, its exit code. No text is searched for.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Literal

from persona_pg import verdict
from persona_pg.runner import procfs, render
from persona_pg.runner.guardian import AFTER_SLEEP_SECONDS
from persona_pg.runner.limits import Limits
from persona_pg.runner.outbox import LogWriter, Outbox, storable
from persona_pg.runner.output import OutputPump
from persona_pg.runner.process import ChildSpec, SpawnError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from persona_pg.runner.guardian_link import GuardianLink
    from persona_pg.runner.jobdesk import JobDesk
    from persona_pg.runner.process import Child, Exit, Processes, Usage
    from persona_pg.settings import Settings

Reason = Literal["lost", "lease", "cancel", "ask", "timeout", "idle_timeout", "limit", "drain"]

# A stop for one of these is not overruled by a later one of a weaker kind.
_RANK: dict[Reason, int] = {
    "drain": 1,
    "idle_timeout": 2,
    "timeout": 2,
    "limit": 2,
    "ask": 3,
    "cancel": 3,
    "lease": 4,
    "lost": 5,
}
_OUTPUT_GRACE = 1.0
# Time kept between the end of our kill and the end of the lease at the server.
SAFETY = 5.0


class Execution:
    """A claimed job, its processes, and what is known of them."""

    def __init__(
        self,
        job: Mapping[str, Any],
        *,
        settings: Settings,
        environ: Mapping[str, str],
        processes: Processes,
        link: GuardianLink,
        outbox: Outbox,
        desk: JobDesk,
        lease_base: float,
        on_start: Callable[[Execution, Sequence[str]], None],
        on_end: Callable[[Execution], None],
    ) -> None:
        self.job = job
        self.job_id: str = job["id"]
        self.lease: int = job["lease"]
        self.child: Child | None = None
        self.reason: Reason | None = None
        # The machine could not start it, which is no fault of the job.
        self.was_not_startable = False
        self._settings = settings
        self._environ = environ
        self._processes = processes
        self._link = link
        self._log = LogWriter(outbox, self.job_id, self.lease)
        self._outbox = outbox
        self._desk = desk
        # What the job has said of itself through its socket.
        self.progress: tuple[float, str | None] | None = None
        self.given_result: Any = None
        self._is_waiting = False
        self._waited_until = 0.0
        self._session_id: str | None = None
        self._on_start = on_start
        self._on_end = on_end
        self._pump: OutputPump | None = None
        self.is_output_paused = False
        self._reader = verdict.open_reader(job["output_format"])
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._lease_base = lease_base
        self.token = processes.new_token()
        # Set while it is suspended: then it is killed.
        self._patience_until: float | None = None
        self._cancel_reason: str | None = None
        self._is_forced = False
        self._cpu_seen: tuple[float, float] | None = None
        self.limits = Limits.of(job)
        self._exceeded = ""
        grace = job.get("kill_grace_seconds")
        self.grace: float = settings.kill_grace.total_seconds() if grace is None else grace
        self.timeout: float = job.get("timeout_seconds") or settings.job_timeout.total_seconds()
        idle = settings.job_idle_timeout
        self.idle_timeout: float | None = job.get("idle_timeout_seconds") or (
            idle.total_seconds() if idle else None
        )

    # Leases

    @property
    def fence_at(self) -> float:
        """When to begin killing the tree for want of a heartbeat, on the boottime clock."""
        if self._patience_until is not None:
            return self._patience_until
        lease = float(self.job["lease_seconds"])
        return self._lease_base + lease - min(self.grace, lease / 4) - self._safety

    @property
    def is_fenced(self) -> bool:
        """Tell whether it is being killed for want of its lease."""
        return self.reason in ("lease", "lost")

    @property
    def _safety(self) -> float:
        return float(min(SAFETY, self.job["lease_seconds"] / 10))

    @property
    def _guardian_deadline(self) -> float:
        return self._lease_base + float(self.job["lease_seconds"]) - self._safety / 2

    @property
    def is_suspended(self) -> bool:
        """Tell whether its processes stand still until a heartbeat is answered."""
        return self._patience_until is not None

    def suspended(self) -> None:
        """Note that its processes were stopped: it is not known whose the lease is."""
        self._patience_until = procfs.boottime() + AFTER_SLEEP_SECONDS

    def renewed(self, sent_at: float) -> None:
        """Note a heartbeat that the server answered with keep; *sent_at* is when we sent it."""
        before, self._lease_base = self._lease_base, sent_at
        if self._patience_until is not None:
            if self._guardian_deadline <= procfs.boottime():
                self._lease_base = before
                return  # an answer from before we stood still
            self._patience_until = None
            self._log.write("system", "info", "stood still past its lease; nobody took it: goes on")
            if self.child is not None:
                self._processes.thaw(self.child)
        self._link.renew(self.token, self._guardian_deadline)

    # The life of the execution

    async def run(self) -> None:
        """Start the program, wait until its processes are gone, leave the report in the outbox."""
        try:
            report = await self._run()
            if self.reason != "lost":
                self._outbox.add_report(self._log, report)
        finally:
            self._desk.close(self)
            for timer in self._timers.values():
                timer.cancel()
            self._link.release(self.token)
            self._on_end(self)

    async def _run(self) -> dict[str, Any]:
        try:
            resumption = await self._resumption()
            if isinstance(resumption, str):
                return self._report("given_back", error=resumption)
            command = render.command(
                self.job, self._settings, self._environ, self.timeout, resumption
            )
        except render.RenderError as exc:
            return self._not_started(f"agent {self.job['agent']}: {exc}", "not_found")
        if self.reason is not None:
            return self._report("failed")
        if self.fence_at <= procfs.boottime():
            # We were stopped, or the network was slow: by now the job may be somebody else's.
            return self._report("given_back", error="the answer to its claim came too late")
        self._link.register(self.token, self._guardian_deadline)
        self._session_id = command.session_id
        limit = self.job.get("output_limit") or self._settings.output_limit
        try:
            self.child = child = self._processes.spawn(
                ChildSpec(
                    argv=command.argv,
                    env=self._with_socket(command.env, limit),
                    cwd=command.cwd,
                    stdin=command.stdin,
                    token=self.token,
                    mark=self.job_id,
                    launcher=self.limits.launcher,
                    processors=self.limits.processors(),
                )
            )
        except SpawnError as exc:
            return self._spawn_failed(exc)
        self._link.register(self.token, self._guardian_deadline, child.pid, child.start_time)
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
        self._arm("timeout", self.timeout, self._total_timeout)
        if self.idle_timeout is not None:
            self._arm("idle", self.idle_timeout, self._look_for_silence)
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

    def _with_socket(self, env: Mapping[str, str], limit: int) -> Mapping[str, str]:
        path = self._desk.open(self, limit)
        if path is None:
            return env
        programs = f"{self._desk.programs}{os.pathsep}{env.get('PATH', os.defpath)}"
        return {**env, "PERSONA_SOCKET": path, "PATH": programs}

    @property
    def is_waiting(self) -> bool:
        """Tell whether it waits for what it delegated: its silence is no sign of anything."""
        return self._is_waiting

    @is_waiting.setter
    def is_waiting(self, value: bool) -> None:
        self._is_waiting = value
        self._waited_until = time.monotonic()

    def write_log(self, level: str, text: str, *, is_part: bool) -> None:
        """Take a line that the job wrote through its socket."""
        details = {"source": "job", **({"part": True} if is_part else {})}
        self._log.write("system", level, text, details=details)

    def stop(self, reason: Reason, *, force: bool = False, detail: str | None = None) -> None:
        """End the processes: SIGTERM, grace, SIGKILL; the strongest reason given is reported."""
        if self.child is not None and self.child.has_exited:
            if reason in ("lost", "lease"):
                self.reason = reason
                self._processes.begin_stop(self.child, 0.0)  # what it has left behind
            return
        is_known = reason == self.reason or (reason == "cancel" and self.reason == "ask")
        if is_known and force <= self._is_forced:
            return  # asked for again: each heartbeat says so until we have reported
        self._is_forced |= force
        if self.reason is None or _RANK[reason] > _RANK[self.reason]:
            self.reason = reason
        if reason in ("cancel", "ask"):
            self._cancel_reason = detail
        if self.child is not None:
            lease_left = max(0.0, self._guardian_deadline - procfs.boottime())
            grace = 0.0 if force or reason == "lost" else min(self.grace, lease_left)
            if reason not in ("lost", "drain"):
                self._log.write("system", "warn", self._stop_words(reason, grace))
            self._processes.begin_stop(self.child, grace)

    def exceed(self, words: str, usage: Usage) -> None:
        """Kill it for a limit that all its processes together are over."""
        self._exceeded = words
        self.stop("limit", force=True)
        if self.reason == "limit":
            used = f"{usage.processes} process(es) with {usage.memory_bytes / (1 << 20):.1f} MB"
            self._log.write("system", "error", f"{words}: there were {used}")

    @property
    def _timeout_words(self) -> str:
        return f"timeout after {render.seconds(self.timeout)} s"

    @property
    def _silence_words(self) -> str:
        return f"no output for {render.seconds(self.idle_timeout or 0.0)} s"

    def _stop_words(self, reason: Reason, grace: float) -> str:
        words = {
            "timeout": self._timeout_words,
            "idle_timeout": self._silence_words,
            "ask": f"asked: {self._cancel_reason}",
            "cancel": f"cancelled: {self._cancel_reason or 'no reason given'}",
            "lease": "the lease could not be renewed in time",
            "limit": self._exceeded,
        }[reason]
        return f"{words}; SIGTERM, and SIGKILL after {grace:g} s" if grace else f"{words}; SIGKILL"

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

    def beat(self, usage: Usage | None) -> dict[str, Any]:
        """Return this job's part of a heartbeat."""
        beat: dict[str, Any] = {"job_id": self.job_id, "lease": self.lease}
        if self.child is not None:
            beat["pid"] = self.child.pid
            beat["pid_started"] = str(self.child.start_time)
            beat["token"] = self.token
        if self.progress is not None:
            beat["progress"], text = self.progress
            beat["progress_text"] = None if text is None else storable(text)
        if usage is not None:
            now = procfs.boottime()
            if self._cpu_seen is not None and now > self._cpu_seen[0]:
                spent = usage.cpu_seconds - self._cpu_seen[1]
                beat["cpu_percent"] = round(max(0.0, spent) / (now - self._cpu_seen[0]) * 100, 1)
            self._cpu_seen = now, usage.cpu_seconds
            beat["memory_mb"] = round(usage.memory_bytes / (1 << 20), 1)
        return beat

    # Timers

    def _arm(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, action)

    def _total_timeout(self) -> None:
        self.stop("timeout")

    def _look_for_silence(self) -> None:
        assert self._pump is not None
        assert self.idle_timeout is not None
        silent = time.monotonic() - max(self._pump.last_output_at, self._waited_until)
        if self.is_output_paused or self._is_waiting:
            # It is we who do not read, or it waits for others: the silence is not the job's.
            self._arm("idle", self.idle_timeout, self._look_for_silence)
        elif silent >= self.idle_timeout:
            self.stop("idle_timeout")
        else:
            self._arm("idle", self.idle_timeout - silent, self._look_for_silence)

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
        if exit_.strays:
            self._log.write(
                "system",
                "info",
                f"ended {len(exit_.strays)} process(es) that the program left behind",
            )
        if exit_.survivors:
            pids = ", ".join(str(pid) for pid in exit_.survivors)
            self._log.write("system", "error", f"could not be killed (uninterruptible): {pids}")
        ruling = self._reader.finish(exit_.code if exit_.signal is None else None, exit_.signal)
        ended_for = self.limits.named_by(exit_) if ruling.outcome == "failed" else None
        report = self._report(
            ruling.outcome,
            exit_code=exit_.code,
            error=ended_for or ruling.error,
            failure_kind=ruling.failure_kind,
            result=_merged(_with_details(ruling), self.given_result),
            # A program that was stopped could not say which conversation it had begun.
            session_id=ruling.session_id or (self._session_id if self.reason else None),
            model=ruling.model,
            pid=child.pid,
        )
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

    def _report(self, outcome: str, **details: Any) -> dict[str, Any]:
        ours: dict[str, tuple[str, str | None, str | None]] = {
            "timeout": ("timeout", self._timeout_words, "timeout"),
            "idle_timeout": ("idle_timeout", self._silence_words, "idle_timeout"),
            "ask": ("held", None, None),
            "cancel": ("cancelled", self._cancel_reason, "cancelled"),
            "lease": ("orphaned", "the lease could not be renewed in time", "orphaned"),
            "limit": ("failed", self._exceeded, "crashed"),
            "drain": ("given_back", "its runner was stopped", None),
        }
        if self.reason in ours:
            outcome, details["error"], details["failure_kind"] = ours[self.reason]
        report = {"job_id": self.job_id, "lease": self.lease, "outcome": outcome, **details}
        return {name: value for name, value in report.items() if value is not None}

    def _not_started(self, error: str, kind: str) -> dict[str, Any]:
        self._log.write("system", "error", error)
        return self._report("failed", error=error, failure_kind=kind)

    def _spawn_failed(self, exc: SpawnError) -> dict[str, Any]:
        agent = self.job["agent"]
        if exc.is_transient:
            self.was_not_startable = True
            self._log.write("system", "warn", f"agent {agent}: {exc}; the job is given back")
            return self._report("given_back", error=str(exc))
        if exc.kind == "not_found":
            host = self._environ.get("PERSONA_RUNNER_NAME", "")
            error = f"agent {agent}: program '{exc.program}' not found on PATH of runner {host}"
        else:
            error = f"agent {agent}: {exc}"
        return self._not_started(error, "not_found")


def _merged(found: dict[str, Any] | None, given: Any) -> dict[str, Any] | None:
    """Return the program's answer together with the result that the job has set itself."""
    if given is None:
        return found
    return {**(found or {}), **(given if isinstance(given, dict) else {"value": given})}


def _with_details(ruling: verdict.Verdict) -> dict[str, Any] | None:
    details: dict[str, Any] = {}
    if ruling.turns is not None:
        details["turns"] = ruling.turns
    if ruling.permission_denials:
        details["permissionDenials"] = ruling.permission_denials
    return {**(ruling.result or {}), **details} if details else ruling.result
