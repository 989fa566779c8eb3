"""Around every request: the right name, a session, a CSRF token, and the security headers."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.requests import Request

from persona_pg.web.auth import HEADERS, Gatekeeper, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_BODY = 2_000_000
_OPEN = {"/login", "/healthz"}


class Guard:
    """Lets through what may pass."""

    def __init__(
        self,
        app: ASGIApp,
        keeper: Gatekeeper,
        refused: Callable[[Request, int, str], Response],
    ) -> None:
        self._app = app
        self._keeper = keeper
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    *((k.encode(), v.encode()) for k, v in HEADERS.items()),
                ]
            await send(message)

        request = Request(scope, receive)
        app = await self._checked(request) or self._app
        await app(scope, receive, with_headers)

    async def _checked(self, request: Request) -> ASGIApp | None:
        """Return the refusal of a request, if it is refused."""
        if not self._keeper.is_our_name(request.headers.get("host", "")):
            return self._refused(request, 421, "this name is not known here; see --allow-host")
        session = self._keeper.session(_cookies(request))
        is_open = request.url.path in _OPEN or request.url.path.startswith("/static/")
        if session is None and not is_open:
            return self._refused(request, 401, "sign in first: open the link that was printed")
        request.scope["session"] = session or Session("", "")
        if "\0" in request.url.path or "%00" in request.url.query:
            return self._refused(request, 400, "the address has a NUL character in it")
        if request.method not in {"GET", "HEAD"}:
            try:
                form = await _form(request)
            except ValueError as exc:
                return self._refused(request, 413, str(exc))
            request.scope["form"] = form
            csrf = request.headers.get("x-csrf-token") or form.get("csrf", "")
            is_ours = session is not None and self._keeper.is_from_us(
                session, csrf, request.headers
            )
            if not is_open and not is_ours:
                return self._refused(
                    request, 403, "this did not come from a page of ours: reload it"
                )
        return None


async def _form(request: Request) -> dict[str, str]:
    """Read a form as browsers post it, of a bounded size."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded" and request.headers.get("content-length") != "0":
        raise ValueError("a form is needed (application/x-www-form-urlencoded)")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            raise ValueError(f"the form is larger than {_MOST_BODY} bytes")
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
    except UnicodeDecodeError:
        raise ValueError("the form is not UTF-8") from None
    if any("\0" in value for value in form.values()):
        raise ValueError("the form has a NUL character in it")
    return form


def _cookies(request: Request) -> dict[str, str]:
    try:
        found: SimpleCookie = SimpleCookie(request.headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}
