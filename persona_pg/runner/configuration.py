"""What a runner was told, by its command line and its environment; the latter can be read anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_pg import settings

if TYPE_CHECKING:
    from persona_pg.runner.options import Options
    from persona_pg.settings import Settings


class Configuration:
    """The settings of the moment, and the options for good."""

    def __init__(self, loaded: Settings, options: Options) -> None:
        self.settings = loaded
        self.options = options

    def reload(self) -> None:
        """Read the environment again; PersonaError where it is wrong, and nothing has changed."""
        self.settings = settings.load()

    @property
    def concurrency(self) -> int:
        """How many jobs run at once."""
        return self.options.concurrency or self.settings.worker_concurrency

    @property
    def net_interval(self) -> float | None:
        """Seconds after which to look for work that nobody told of; None: never."""
        net = self.settings.poll_interval
        return net.total_seconds() if net else None

    @property
    def heartbeat_seconds(self) -> float:
        """Seconds between two heartbeats."""
        return self.settings.heartbeat_interval.total_seconds()

    @property
    def drain_seconds(self) -> float:
        """Seconds that running jobs have to finish when the runner is to end."""
        return self.settings.drain_timeout.total_seconds()

    def serves(self, agent: str) -> bool:
        """Tell whether jobs of this agent are for this runner; "*" is any agent."""
        served = self.options.agents
        return not served or agent == "*" or agent in served
