"""A relay between a runner and its server that counts the statements the runner sends.

The server's own counters know databases, and in them autovacuum and whoever else is there too.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg import Connection

# Messages of the frontend that make the server run a statement: Query and Execute.
_STATEMENTS = frozenset(b"QE")
_CHUNK = 1 << 16
_TYPE, _LENGTH = 1, 4


class Relay:
    """Listens on loopback, and passes everything on to the server."""

    def __init__(self, server: Connection[tuple[object, ...]], dsn: str) -> None:
        host, port = server.info.host, server.info.port
        self._server: str | tuple[str, int] = (
            f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Encrypted, there would be nothing to count.
        self.dsn = make_conninfo(**{
            **conninfo_to_dict(dsn), "host": "127.0.0.1", "hostaddr": "127.0.0.1",
            "port": self._listener.getsockname()[1], "sslmode": "disable", "gssencmode": "disable",
        })  # fmt: skip
        self.statements = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            family = socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET
            server = socket.socket(family)
            server.connect(self._server)
            for source, target, counts in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._pass_on, args=(source, target, counts), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        count = self._counter()
        next(count)
        try:
            while data := source.recv(_CHUNK):
                if counts:
                    count.send(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            # One side is gone: so is the other one.
            source.close()
            target.close()

    def _counter(self) -> Generator[None, bytes, None]:
        """Follow one stream of messages: the first one has no type, all have a length."""
        waiting = bytearray()
        header = _LENGTH
        while True:
            waiting += yield
            while len(waiting) >= header:
                length = (
                    int.from_bytes(waiting[header - _LENGTH : header], "big") + header - _LENGTH
                )
                if len(waiting) < length:
                    break
                if header > _LENGTH and waiting[0] in _STATEMENTS:
                    self.statements += 1
                del waiting[:length]
                header = _TYPE + _LENGTH
