"""What get_metrics returns, in the words of Prometheus. Needs the extra [metrics]."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from psycopg.rows import namedtuple_row

from persona_pg import wholefile
from persona_pg.errors import ConfigurationError, PersonaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from persona_pg.database import Connection, Database

_QUERY = "select m.name, m.kind, m.help, m.labels, m.value from persona.get_metrics() as m"
# The samples of a histogram or counter are named after it, and more.
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ()}


class Queue(Collector):
    """Reads the queue whenever it is asked; one reader at a time."""

    def __init__(self, database: Database, *, on_error: Callable[[PersonaError], None]) -> None:
        self._database = database
        self._on_error = on_error
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """Return the families; where the database is out of reach, that one which says so."""
        is_up = Metric("persona_up", "1 where the queue could be asked.", "gauge")
        families: dict[str, Metric] = {}
        try:
            with self._lock:
                rows = self._database.run(_rows)
        except PersonaError as exc:
            self._on_error(exc)
            is_up.add_sample("persona_up", {}, 0)
            return [is_up]
        for row in rows:
            name = row.name
            for part in _PARTS[row.kind]:
                name = name.removesuffix(part)
            family = families.setdefault(name, Metric(name, row.help, row.kind))
            labels = {label: str(value) for label, value in row.labels.items()}
            family.add_sample(row.name, labels, row.value)
        is_up.add_sample("persona_up", {}, 1)
        return [is_up, *families.values()]


def _rows(conn: Connection) -> list[Any]:
    with conn.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(_QUERY).fetchall()


def registry_of(queue: Queue) -> CollectorRegistry:
    """Return a registry with the queue and nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(queue)
    return registry


def text(registry: CollectorRegistry) -> bytes:
    """Return everything, as Prometheus reads it."""
    return generate_latest(registry)


def write(path: Path, content: bytes) -> None:
    """Write a file for a textfile collector, which must never see half of it."""
    try:
        wholefile.write(path, content, 0o644)
    except OSError as exc:
        raise ConfigurationError(f"--textfile {path}: {exc.strerror}") from exc


def serve(registry: CollectorRegistry, host: str, port: int) -> tuple[str, Callable[[], None]]:
    """Answer scrapes in the background; returns the address, and what waits for the end."""
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {exc.strerror}", hint="choose another --port"
        ) from exc
    return f"http://{host}:{server.server_port}/metrics", thread.join
