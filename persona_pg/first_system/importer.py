"""Takes the first system over, file by file."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from persona_pg.first_system import agents, history, reading, routes, schedules
from persona_pg.first_system.report import Report
from persona_pg.first_system.writer import write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from persona_pg.database import Database
    from persona_pg.first_system.leftovers import Leftover
    from persona_pg.first_system.report import FileReport
    from persona_pg.first_system.writer import Writer


class Importer:
    """One run over PERSONA_ROOT."""

    def __init__(
        self,
        database: Database,
        root: Path,
        *,
        business: str | None = None,
        first: str | None = None,
        dry_run: bool = False,
        requeue: bool = False,
        left: Sequence[Leftover] = (),
        zone: str = "UTC",
    ) -> None:
        self._database = database
        self._root = root
        self._dry_run = dry_run
        self._requeue = requeue
        self._left = left
        self._zone = zone
        self.instances = reading.instances(root, business, first)
        self.report = Report()

    def executions(self) -> None:
        """Take over what ran: executions.json and running-agents.json."""
        for one in self.instances:
            state = one.path / "state"
            recorded = self._jobs(
                state / "executions.json", partial(history.executions, business=one.business)
            )
            self._jobs(
                state / "running-agents.json",
                partial(history.running_agents, business=one.business, recorded=recorded),
            )

    def waiting(self) -> None:
        """Take over what waited: queue.json and pending-notes.json."""
        for one in self.instances:
            state = one.path / "state"
            self._jobs(state / "queue.json", partial(history.queue, business=one.business))
            path = state / "pending-notes.json"
            changed = datetime.fromtimestamp(path.stat().st_mtime if path.exists() else 0, UTC)
            self._jobs(
                path, partial(history.pending_notes, business=one.business, modified=changed)
            )

    def agents(self) -> None:
        """Take over the agents' definitions and the places of their actions."""
        provider = routes.read(self._root).get("default_provider", "claude")
        taken: dict[str, str] = {}
        for one in self.instances:
            for path in sorted((one.path / "agents").glob("*.md")):
                self._file(
                    path,
                    partial(agents.read, business=one.business, provider=provider),
                    partial(agents.save, business=one.business, taken=taken),
                )
        folders = [one.path for one in self.instances]
        if any(agents.actions(folders)):
            self._write(
                self.report.add("agents/*/actions/*.md"),
                partial(agents.save_actions, root=self._root, folders=folders),
            )

    def schedules(self) -> None:
        """Take over config/schedules.yaml."""
        for one in self.instances:
            path = one.path / "config" / "schedules.yaml"
            self._file(
                path,
                partial(schedules.read, business=one.business),
                partial(schedules.save, left=self._left, zone=self._zone),
            )

    def routes(self) -> None:
        """Take over the routing in config/env.md."""
        self._file(self._root / "config" / "env.md", routes.read_file, routes.save)

    def _jobs(self, path: Path, read: Callable[[Any], history.Found]) -> Any:
        """Import the jobs of a JSON file; returns its document, for whoever needs it too."""
        documents = []

        def parse(found: Path) -> list[tuple[str, dict[str, Any] | None, str]]:
            documents.append(reading.read_json(found))
            return list(read(documents[0]))

        def save(
            writer: Writer,
            found: list[tuple[str, dict[str, Any] | None, str]],
            report: FileReport,
        ) -> None:
            for what, job, reason in found:
                if job is None:
                    report.skip(what, reason)
            jobs = [job for _, job, _ in found if job is not None]
            writer.import_jobs(jobs, report, requeue=self._requeue)

        is_good = self._file(path, parse, save)
        return documents[0] if is_good else None

    def _file(
        self,
        path: Path,
        read: Callable[[Path], Any],
        save: Callable[[Writer, Any, FileReport], None],
    ) -> bool:
        """Read a file whole, then write what is in it; a broken one changes nothing."""
        if not path.exists():
            return False
        report = self.report.add(str(path.relative_to(self._root)))
        try:
            found = read(path)
        except reading.BrokenFile as exc:
            report.error = str(exc)
            return False

        def work(writer: Writer, counted: FileReport) -> None:
            save(writer, found, counted)

        return self._write(report, work)

    def _write(self, report: FileReport, work: Callable[[Writer, FileReport], None]) -> bool:
        return write(self._database, report, work, dry_run=self._dry_run)
