"""News of finished answers: a connection that listens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg

from persona_pg import connections, poolers

if TYPE_CHECKING:
    from collections.abc import Callable

_CHANNEL = "persona_notes"
_RECONNECT_EVERY = 5.0


class News:
    """Waits for a notification; where none can be had it only waits."""

    def __init__(self, dsn: str, vault: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._dsn = dsn
        self._vault = vault
        self._sleep = sleep
        self._conn: psycopg.Connection[Any] | None = None
        self._next_try = 0.0
        self._is_deaf = False

    def close(self) -> None:
        """Stop listening."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; tell whether an answer may be there.

        It may after every new connection: what was said before that was not heard.
        """
        try:
            if self._conn is None:
                if not self._is_deaf and time.monotonic() >= self._next_try:
                    self._listen()
                    return True
                self._sleep(seconds)
                return False
            heard = list(self._conn.notifies(timeout=seconds, stop_after=1))
        except psycopg.Error:
            self.close()
            self._next_try = time.monotonic() + _RECONNECT_EVERY
            return False
        return any(notice.payload == self._vault for notice in heard)

    def _listen(self) -> None:
        kwargs = connections.connection_kwargs(self._dsn, application_name="persona notes")
        self._conn = psycopg.connect(self._dsn, **kwargs)
        if poolers.can_listen(self._conn, self._dsn, kwargs):
            self._conn.execute(f"listen {_CHANNEL}")
        else:
            self._is_deaf = True
            self.close()
