"""Binds the socket and runs the application until it is told to end."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from persona_pg.errors import ConfigurationError
from persona_pg.web.app import Dashboard
from persona_pg.web.auth import Gatekeeper
from persona_pg.web.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Where and how to serve."""

    host: str
    port: int
    token: str
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


def bind(host: str, port: int) -> socket.socket:
    """Take the address; say in one line why that does not work."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, number)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {exc.strerror}",
            hint="choose another with --port; 0 takes any that is free",
        ) from exc
    return found


def serve(dsn: str, options: Options, started: Callable[[str], None]) -> None:
    """Serve the dashboard; *started* gets its address."""
    listener = bind(options.host, options.port)
    port = int(listener.getsockname()[1])
    secure = options.certificate is not None
    sources = Sources(dsn)
    keeper = Gatekeeper(options.token, host=options.host, port=port, names=options.names)
    dashboard = Dashboard(sources, keeper, secure=secure)
    config = uvicorn.Config(
        dashboard.asgi(),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        loop="asyncio",
        http="h11",
        ws="none",
        timeout_graceful_shutdown=2,
        ssl_certfile=None if options.certificate is None else os.fspath(options.certificate),
        ssl_keyfile=None if options.key is None else os.fspath(options.key),
    )
    name = options.host if ":" not in options.host else f"[{options.host}]"
    url = f"http{'s' if secure else ''}://{name}:{port}"
    _Server(config, dashboard, lambda: started(url)).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it listens, and ends the streams when it shall end: uvicorn would wait for them."""

    def __init__(
        self, config: uvicorn.Config, dashboard: Dashboard, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._dashboard = dashboard
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin."""
        await super().startup(sockets)
        if self.started:
            self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        await self._dashboard.feed.close()
        await super().shutdown(sockets)
