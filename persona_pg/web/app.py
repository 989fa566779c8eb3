"""Routes, and what goes around every request."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from persona_pg.errors import (
    AmbiguousId,
    DatabaseUnreachable,
    IllegalTransition,
    InvalidInput,
    JobNotFound,
    NotPermitted,
    PersonaError,
    TryLater,
    UpdateConflictError,
)
from persona_pg.model import new_job_id
from persona_pg.web import jobpage, pages
from persona_pg.web.actions import ACTIONS, Done
from persona_pg.web.feed import Feed, Full
from persona_pg.web.guard import Guard
from persona_pg.web.templating import FOLDER, templates
from persona_pg.web.viewer import version_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from persona_pg.model import LogLine
    from persona_pg.web.auth import Gatekeeper
    from persona_pg.web.sources import Source, Sources

log = logging.getLogger(__name__)

_CSRF = 'name="csrf" value=""'
_LOG_PAGE = 1000

_STATUS: dict[type[Exception], int] = {
    JobNotFound: 404,
    AmbiguousId: 409,
    UpdateConflictError: 409,
    IllegalTransition: 409,
    InvalidInput: 422,
    NotPermitted: 403,
    DatabaseUnreachable: 503,
    TryLater: 503,
}
_TITLES = {
    "overview": "Overview",
    "jobs": "Jobs",
    "new": "New job",
    "job": "Job",
    "log": "Log",
    "agents": "Agents",
    "agent": "Agent",
    "schedules": "Schedules",
    "costs": "Costs",
    "runners": "Runners",
    "alerts": "Alerts",
    "questions": "Questions",
    "plots": "Plots",
}


class Dashboard:
    """The application: its pages over a few connections, for whoever has the token."""

    def __init__(self, sources: Sources, keeper: Gatekeeper, *, secure: bool = False) -> None:
        self._sources = sources
        self._keeper = keeper
        self._secure = secure
        self._may: set[str] = set()
        self._templates = templates()
        self.feed = Feed(sources, self._render)

    def asgi(self) -> ASGIApp:
        """Return the application, with what goes around it."""

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            yield
            await self.feed.close()
            self._sources.close()

        app = Starlette(
            routes=[
                Route("/login", self._login, methods=["GET", "POST"]),
                Route("/logout", self._logout, methods=["POST"]),
                Route("/healthz", _healthz),
                Route("/stream", self._stream),
                Route("/do/{action}", self._act, methods=["POST"]),
                Route("/jobs/{ref}/log.txt", self._download),
                Mount("/static", StaticFiles(directory=FOLDER / "static")),
                Route("/{path:path}", self._show),
            ],
            lifespan=lifespan,
            exception_handlers={HTTPException: self._failed, PersonaError: self._failed},
        )
        return Guard(app, self._keeper, self._refused)

    # -- pages -----------------------------------------------------------------------------------

    async def _show(self, request: Request) -> Response:
        url = _url_of(request)
        if request.url.path == "/jobs" and (wanted := request.query_params.get("q", "").strip()):
            found = await self._sources.run(pages.jump, wanted) if _is_id(wanted) else None
            if found is not None:
                return RedirectResponse(found, 303)
        content, _ = await self._sources.run(self._render, url)
        return self._whole(request, url, content)

    def _render(self, source: Source, url: str) -> tuple[str, Any]:
        """Write the inside of a page; also return the job that it shows, if that has ended."""
        found = pages.find(url)
        if found is None:
            raise HTTPException(404, "there is no such page")
        page, query, parts = found
        if not self._may:
            self._may = source.looks.permitted([a.function for a in ACTIONS.values()])
        context = page.load(source, query, parts)
        template = self._templates.get_template(page.template)
        content = template.render(
            context,
            page=page.name,
            url=url,
            may={name for name, action in ACTIONS.items() if action.function in self._may},
            people=source.looks.waiting_for_people(),
            new_id=new_job_id,
        )
        job = context.get("job") if page.name == "job" else None
        return content, job.id if job is not None and job.is_finished else None

    def _whole(
        self, request: Request, url: str, content: str, *, title: str = "", status: int = 200
    ) -> Response:
        session = request.scope["session"]
        found = pages.find(url)
        html = self._templates.get_template("base.html").render(
            content=Markup(content.replace(_CSRF, f'name="csrf" value="{session.csrf}"')),  # noqa: S704
            version=version_of(content),
            url=url,
            csrf=session.csrf,
            title=title or (_TITLES[found[0].name] if found else "Persona"),
            is_live=status == 200 and found is not None and found[0].name not in {"log", "new"},
        )
        return HTMLResponse(html, status, headers={"cache-control": "no-store"})

    async def _failed(self, request: Request, exc: Exception) -> Response:
        status, words, hint = _explained(exc)
        if _wants_json(request):
            return JSONResponse({"ok": False, "words": words, "hint": hint}, status)
        content = self._templates.get_template("message.html").render(
            title=_REASONS.get(status, "That did not work"),
            words=words,
            hint=hint,
            back=_back(request),
            page="",
            people={"alerts": 0, "questions": 0},
            is_away=status == 503,
        )
        return self._whole(request, "", content, title=_REASONS.get(status, "Error"), status=status)

    # -- streams and files -----------------------------------------------------------------------

    async def _stream(self, request: Request) -> Response:
        url = request.query_params.get("page", "/")
        if pages.find(url) is None:
            raise HTTPException(404, "there is no such page")
        if request.method == "HEAD":
            # Whether we are signed in. A stream that never ends would keep the connection from
            # the requests that come after it.
            return Response(headers={"cache-control": "no-store"})
        place = request.headers.get("last-event-id") or request.query_params.get("place")
        try:
            viewer = self.feed.join(url, seen=request.query_params.get("seen", ""), place=place)
        except Full:
            raise HTTPException(503, "too many are looking") from None

        async def messages() -> AsyncIterator[str]:
            try:
                async for message in viewer.messages():
                    yield message
            finally:
                self.feed.leave(viewer)

        return StreamingResponse(
            messages(),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _download(self, request: Request) -> Response:
        job = await self._sources.run(lambda s: s.queue.get_job(request.path_params["ref"]))

        async def parts() -> AsyncIterator[str]:
            lease = seq = 0
            if request.method == "HEAD":
                return
            while lines := await self._sources.run(_log_page, job.id, lease, seq):
                yield "".join(jobpage.text_pages(lines))
                lease, seq = lines[-1].lease, lines[-1].seq

        return StreamingResponse(
            parts(),
            media_type="text/plain; charset=utf-8",
            headers={
                "content-disposition": f'attachment; filename="{job.short_id}.log"',
                "cache-control": "no-store",
            },
        )

    # -- actions ---------------------------------------------------------------------------------

    async def _act(self, request: Request) -> Response:
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            raise HTTPException(404, "there is no such action")
        form = request.scope["form"]
        done: Done = await self._sources.run(action.work, form)
        self.feed.hurry()
        if _wants_json(request):
            return JSONResponse({"ok": True, "words": done.words, "goto": done.goto})
        if done.goto is not None:
            return RedirectResponse(done.goto, 303)
        content = self._templates.get_template("message.html").render(
            title="Done",
            words=done.words,
            hint=None,
            back=_back(request),
            page="",
            people={"alerts": 0, "questions": 0},
            is_away=False,
        )
        return self._whole(request, "", content, title="Done")

    # -- sessions --------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        given = request.scope.get("form", {}).get("token") or request.query_params.get("token")
        if given is None:
            return self._ask(200)
        if not self._keeper.is_token(given):
            return self._ask(403, "That is not the token of this dashboard.")
        # No redirect: it would still count as coming from where the link was followed, and a
        # strict cookie would not be sent with it.
        html = self._templates.get_template("welcome.html").render()
        return HTMLResponse(
            html,
            headers={
                "set-cookie": self._keeper.set_cookie(secure=self._secure),
                "cache-control": "no-store",
            },
        )

    async def _logout(self, _request: Request) -> Response:
        return RedirectResponse(
            "/login",
            303,
            headers={"set-cookie": f"{self._keeper.cookie}=; Path=/; Max-Age=0; SameSite=Strict"},
        )

    def _ask(self, status: int, problem: str = "") -> Response:
        html = self._templates.get_template("login.html").render(problem=problem)
        return HTMLResponse(html, status, headers={"cache-control": "no-store"})

    def _refused(self, request: Request, status: int, words: str) -> Response:
        if status == 401 and request.method == "GET" and not _wants_json(request):
            return self._ask(401)
        if _wants_json(request) or request.url.path == "/stream":
            return JSONResponse({"ok": False, "words": words, "hint": None}, status)
        return PlainTextResponse(words + "\n", status)


def _log_page(source: Source, job_id: UUID, lease: int, seq: int) -> list[LogLine]:
    return source.queue.get_logs(job_id, after_lease=lease, after_seq=seq, max_lines=_LOG_PAGE)


def _url_of(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def _is_id(text: str) -> bool:
    return 6 <= len(text) <= 36 and all(c in "0123456789abcdef-" for c in text.lower())


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _back(request: Request) -> str:
    """Return where a person came from: a path of ours, whatever the form says."""
    back = urlsplit(request.scope.get("form", {}).get("back", "/"))
    if back.scheme or back.netloc or not back.path.startswith("/") or back.path.startswith("//"):
        return "/"
    return f"{back.path}?{back.query}" if back.query else back.path


_REASONS = {
    403: "Not permitted",
    404: "Not found",
    409: "Not possible now",
    422: "Not understood",
    503: "The database is away",
}


def _explained(exc: Exception) -> tuple[int, str, str | None]:
    if isinstance(exc, HTTPException):
        return exc.status_code, str(exc.detail), None
    assert isinstance(exc, PersonaError)
    status = next((code for kind, code in _STATUS.items() if isinstance(exc, kind)), 500)
    words = str(exc)
    if candidates := exc.detail.get("candidates"):
        words += f": {', '.join(map(str, candidates))}"
    return status, words, exc.hint


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")
