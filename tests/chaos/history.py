"""What was executed, against what the database says of it.

The jobs write when they start and end (job.py), a trigger in the test database writes every change
of a job's status. Afterwards both are read, and whatever breaks a promise is one line.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from persona_pg.runner import procfs

FINAL = ("completed", "failed", "cancelled")
# Clock readings of two processes, and the moment between a claim and the row's time stamp.
SLACK = 0.005

AUDIT = """
create schema chaos;
create table chaos.changes (
  n bigint generated always as identity primary key, job_id uuid not null, was text, status text not null,
  lease bigint not null, at timestamptz not null default clock_timestamp());
create table chaos.strays (pid integer);
create function chaos.note() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into chaos.changes (job_id, was, status, lease)
  values (new.id, case when tg_op = 'UPDATE' then old.status end, new.status, new.lease);
  return null;
end $$;
create trigger chaos_update after update of status on persona.jobs for each row
  when (old.status is distinct from new.status) execute function chaos.note();
create trigger chaos_insert after insert on persona.jobs for each row execute function chaos.note();
"""


@dataclass(frozen=True)
class Event:
    """One line of the history."""

    kind: str
    job_id: str
    token: int
    pid: int
    start_time: int
    boottime: float
    time: float


@dataclass
class Execution:
    """One start, and the end if it got that far."""

    start: Event
    end: Event | None = None

    @property
    def is_alive(self):
        return procfs.start_time(self.start.pid) == self.start.start_time and is_running(
            self.start.pid
        )


def is_running(pid):
    process = procfs.read_process(pid)
    return process is not None and process.is_alive


class History:
    """Reads the file that the jobs write."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.path = self.folder / "history"
        self.folder.chmod(0o777)
        self.path.touch()
        self.path.chmod(0o666)
        self._offset = 0
        self._events = []

    def events(self):
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            new = stream.read()
        new = new[: new.rfind(b"\n") + 1]
        self._offset += len(new)
        for line in new.decode().splitlines():
            kind, job_id, token, pid, started, boottime, at = line.split()
            self._events.append(
                Event(kind, job_id, int(token), int(pid), int(started), float(boottime), float(at))
            )
        return self._events

    def executions(self, job_ids):
        """List the executions of each job in the order of their starts."""
        wanted = set(job_ids)
        found = {job_id: [] for job_id in wanted}
        for event in self.events():
            if event.job_id not in wanted:
                continue
            if event.kind == "start":
                found[event.job_id].append(Execution(event))
            elif event.kind == "end":
                for one in found[event.job_id]:
                    if (one.start.pid, one.start.token) == (event.pid, event.token):
                        one.end = event
        return found

    def alive(self, job_ids):
        """List the executions whose process is alive now."""
        return [
            one
            for runs in self.executions(job_ids).values()
            for one in runs
            if one.end is None and one.is_alive
        ]

    def overlaps(self, job_ids):
        wanted = set(job_ids)
        broken = [
            f"job {e.job_id}: an execution began while another was alive (pid {e.pid})"
            for e in self.events()
            if e.kind == "overlap" and e.job_id in wanted
        ]
        for job_id, runs in self.executions(job_ids).items():
            for first, second in itertools.pairwise(runs):
                if first.end is not None and first.end.boottime > second.start.boottime:
                    broken.append(f"job {job_id}: two executions overlap in time")
        return broken


def processes_left(job_ids, tokens):
    """List what still runs with one of the jobs' ids in its environment, or one of the tokens."""
    marks = {f"PERSONA_JOB_ID={job_id}" for job_id in job_ids}
    found = []
    for folder in Path("/proc").iterdir():
        entry = folder.name
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environ = (folder / "environ").read_bytes().decode(errors="replace")
            limits = (folder / "limits").read_text()
        except OSError:
            continue
        soft = next(line for line in limits.splitlines() if line.startswith("Max file locks"))
        word = soft.split()[3]
        is_marked = bool(marks.intersection(environ.split("\0")))
        if (is_marked or (word.isdigit() and int(word) in tokens)) and is_running(int(entry)):
            found.append(int(entry))
    return found


def check(history, conn, job_ids):
    """Return every broken promise about these jobs, which have all ended; [] is what is wanted."""
    job_ids = [str(job_id) for job_id in job_ids]
    broken = history.overlaps(job_ids)
    runs = history.executions(job_ids)
    rows = conn.execute(
        "select j.id::text, j.status, j.attempt, j.interruptions, j.lease from persona.jobs as j"
        " where j.id = any(%s::uuid[])",
        (job_ids,),
    ).fetchall()
    jobs = {row[0]: row for row in rows}
    attempts = defaultdict(list)
    for row in conn.execute(
        "select a.job_id::text, a.lease, a.outcome, extract(epoch from a.started_at)::float8,"
        " extract(epoch from a.ended_at)::float8 from persona.job_attempts as a"
        " where a.job_id = any(%s::uuid[]) order by a.lease",
        (job_ids,),
    ):
        attempts[row[0]].append(row[1:])
    changes = defaultdict(list)
    for row in conn.execute(
        "select c.job_id::text, c.was, c.status, c.lease from chaos.changes as c"
        " where c.job_id = any(%s::uuid[]) order by c.n",
        (job_ids,),
    ):
        changes[row[0]].append(row[1:])
    for job_id in job_ids:
        if job_id not in jobs:
            broken.append(f"job {job_id}: its create was acknowledged, and it is not there")
            continue
        broken += (
            f"job {job_id}: {words}"
            for words in (
                *_check_states(jobs[job_id][1], changes[job_id]),
                *_check_outcomes(jobs[job_id][1], runs[job_id], attempts[job_id]),
            )
        )
    broken += _check_lines(conn, job_ids)
    live = conn.execute(
        "select count(*) from persona.job_leases as l where l.job_id = any(%s::uuid[])", (job_ids,)
    ).fetchone()[0]
    if live:
        broken.append(f"{live} lease(s) of ended jobs are left")
    tokens = {one.start.token for executions in runs.values() for one in executions}
    broken += [f"process {pid} was left behind" for pid in processes_left(job_ids, tokens)]
    return broken


def _check_states(status, changes):
    if status not in FINAL:
        yield f"never ended: {status}"
    ends = [change for change in changes if change[1] in FINAL]
    if len(ends) != 1:
        yield f"ended {len(ends)} times"
    if ends and changes[-1] is not ends[-1]:
        yield f"went on after its end: {changes}"
    leases = [lease for _, new, lease in changes if new == "running"]
    if any(later <= earlier for earlier, later in itertools.pairwise(leases)):
        yield f"lease numbers do not grow: {leases}"


def _check_outcomes(status, executions, attempts):
    """Every execution falls into the span of exactly one recorded attempt, and no two into one."""
    taken = defaultdict(int)
    for one in executions:
        at = one.start.time
        spans = [a for a in attempts if a[2] - SLACK <= at <= a[3] + SLACK]
        if len(spans) != 1:
            yield f"an execution (pid {one.start.pid}) belongs to {len(spans)} recorded attempts"
        for span in spans:
            taken[span[0]] += 1
        if one.end is not None and len(spans) == 1 and one.end.time > spans[0][3] + SLACK:
            yield f"an execution (pid {one.start.pid}) ended after its outcome was recorded"
    for lease, outcome, *_ in attempts:
        if taken[lease] > 1:
            yield f"{taken[lease]} executions under lease {lease}"
        if outcome in ("completed", "failed", "timeout", "idle_timeout") and not taken[lease]:
            yield f"{outcome} is recorded of lease {lease}, and nothing was executed"
    good = [a for a in attempts if a[1] == "completed"]
    if status == "completed" and len(good) != 1:
        yield f"completed, with {len(good)} completed attempts"
    if status == "completed" and not any(one.end is not None for one in executions):
        yield "completed, and no execution got to its end"


def _check_lines(conn, job_ids):
    """Every line of a completed execution is there, once, and in its order."""
    for job_id, expected, found in conn.execute(
        "select j.id::text, (j.payload -> 'args' ->> 2)::integer, array("
        "   select l.message from persona.job_logs as l where l.job_id = j.id and l.lease = j.lease"
        "   and l.stream = 'stdout' order by l.seq)"
        " from persona.jobs as j where j.id = any(%s::uuid[]) and j.status = 'completed'",
        (job_ids,),
    ):
        wanted = [f"line {number} of {expected}" for number in range(1, expected + 1)]
        if found != wanted:
            yield f"job {job_id}: {len(found)} log lines of {expected}, or out of order"
