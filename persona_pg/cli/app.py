"""What a command works with: the configuration and the queue, made when first used."""

from __future__ import annotations

import gc
import sys
from functools import cached_property
from typing import TYPE_CHECKING

import click

from persona_pg.cli.edge import say

if TYPE_CHECKING:
    from persona_pg.queue import Queue
    from persona_pg.settings import Settings

# A command that follows a job lives through an outage of the database of this length.
FOLLOW_PATIENCE = 600.0
_RETRY_IS_TOLD_AFTER = 1.0


class App:
    """Configuration and queue of one call."""

    def __init__(self) -> None:
        self._has_told_retry = False

    @cached_property
    def settings(self) -> Settings:
        """Read the configuration."""
        from persona_pg import settings

        return settings.load()

    @cached_property
    def queue(self) -> Queue:
        """Open the queue; it is closed when the command ends."""
        from persona_pg.database import Database
        from persona_pg.embedded import resolve_dsn
        from persona_pg.queue import Queue

        # main() has switched it off for the imports; what follows may take hours.
        gc.freeze()
        gc.enable()
        queue = Queue(Database(resolve_dsn(self.settings), on_retry=self._tell_retry))
        click.get_current_context().find_root().call_on_close(queue.close)
        return queue

    def be_patient(self) -> None:
        """Live through an outage: a job goes on without us, so we wait for it."""
        self.queue.database.patience = FOLLOW_PATIENCE

    def _tell_retry(self, error: Exception, elapsed: float) -> None:
        if elapsed > _RETRY_IS_TOLD_AFTER and not self._has_told_retry and sys.stderr.isatty():
            self._has_told_retry = True
            say(f"{error}; trying again")


pass_app = click.make_pass_decorator(App, ensure=True)
