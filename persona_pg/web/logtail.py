"""New log lines for those who follow a job: read once, sent to all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID

from markupsafe import Markup

from persona_pg.errors import JobNotFound
from persona_pg.web import ansi, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from persona_pg.model import LogLine
    from persona_pg.web.sources import Source, Sources
    from persona_pg.web.viewer import Viewer

_PAGE = 1000
# One who is further behind than this gets the latest lines, and is told of the gap.
_MOST_PAGES = 5
_MOST_CHARACTERS = 2_000_000
_JOB_PAGE = re.compile(r"/jobs/([0-9a-f-]{36})(?:\?.*)?")
_PLACE = re.compile(r"(\d+)\.(\d+)")

Place = tuple[int, int]
_LINE = Markup('<div class="line {}{}" data-at="{}.{}">{}<span class="text">{}</span></div>')
_GAP = '<div class="line gap">… lines left out: the log was faster than this page …</div>'


class LogTails:
    """The logs that somebody follows, each with the place up to which everybody has it."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._followers: dict[str, set[Viewer]] = {}
        self._places: dict[str, Place] = {}

    @property
    def job_ids(self) -> frozenset[str]:
        """The jobs of which lines are wanted."""
        return frozenset(self._followers)

    async def join(self, viewer: Viewer) -> None:
        """Send what is there behind the viewer's place, and what comes."""
        found = _JOB_PAGE.fullmatch(viewer.page)
        place = _PLACE.fullmatch(viewer.log_at or "")
        if found is None or place is None:
            return
        job_id = found[1]
        await self.read({job_id})
        html, reached = await self._sources.run(
            _read, job_id, (int(place[1]), int(place[2])), self._places.get(job_id)
        )
        if viewer.is_over:
            return
        if html:
            viewer.print(html, _written(reached), most=_MOST_CHARACTERS)
        self._places.setdefault(job_id, reached)
        self._followers.setdefault(job_id, set()).add(viewer)

    def leave(self, viewer: Viewer) -> None:
        """Send no more."""
        for job_id in list(self._followers):
            self._followers[job_id].discard(viewer)
            if not self._followers[job_id]:
                del self._followers[job_id]
                self._places.pop(job_id, None)

    async def read(self, job_ids: set[str]) -> None:
        """Read the new lines of these jobs, as far as somebody follows them."""
        for job_id in job_ids & self._places.keys():
            try:
                html, reached = await self._sources.run(_read, job_id, self._places[job_id], None)
            except JobNotFound:  # cleaned up meanwhile
                continue
            if job_id in self._places:
                self._places[job_id] = reached
            if html:
                for viewer in self._followers.get(job_id, ()):
                    viewer.print(html, _written(reached), most=_MOST_CHARACTERS)


def _read(source: Source, job_id: str, place: Place, until: Place | None) -> tuple[str, Place]:
    """Read from a place up to another, or to the end; return HTML and the place reached."""
    job = UUID(job_id)
    out: list[str] = []
    for _ in range(_MOST_PAGES):
        if until is not None and place >= until:
            break
        lines = source.queue.get_logs(
            job, after_lease=place[0], after_seq=place[1], max_lines=_PAGE
        )
        if until is not None:
            lines = [line for line in lines if (line.lease, line.seq) <= until]
        out.append(as_html(lines))
        if lines:
            place = (lines[-1].lease, lines[-1].seq)
        if len(lines) < _PAGE:
            return "".join(out), place
    else:
        lines = source.queue.tail_logs(job, _PAGE)
        lines = [line for line in lines if (line.lease, line.seq) > place]
        if lines:
            out += [_GAP, as_html(lines)]
            place = (lines[-1].lease, lines[-1].seq)
    return "".join(out), place


def as_html(lines: Sequence[LogLine]) -> Markup:
    """Write log lines."""
    return Markup("").join(
        _LINE.format(
            line.stream,
            "" if line.level == "info" else f" {line.level}",
            line.lease,
            line.seq,
            shown.moment(line.at, "clock"),
            ansi.to_html(line.message),
        )
        for line in lines
    )


def _written(place: Place) -> str:
    return f"{place[0]}.{place[1]}"
