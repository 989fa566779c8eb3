"""Whether a runner is woken faster than it could go to sleep, and therefore stays awake.

Each notification costs its sender a lock that all commits share, and each idle runner a claim that
mostly finds that somebody else was faster. Like a network card's driver that turns its interrupts
off under load and polls, a runner that is notified again and again takes its idle mark away: it
looks every few milliseconds, and nobody needs to notify it. When it has found nothing for a while
it goes to sleep by the usual rule, which misses nothing.
"""

from __future__ import annotations

# It looks so often.
LOOK_SECONDS = 0.005
# Who has slept for so long has slept.
_NAP_SECONDS = 0.002
# So many notifications in a row before it has slept are often.
_OFTEN = 2
# As many looks as cost about what being woken and going to sleep again does.
_FRUITLESS = 10


class Wakefulness:
    """Counts notifications that let the runner have no sleep, and looks that find nothing."""

    def __init__(self) -> None:
        self._early = 0
        self._fruitless = 0
        self._is_notified = False

    @property
    def is_awake(self) -> bool:
        """Tell whether the runner is to look by itself."""
        return self._early >= _OFTEN

    def notified(self, slept: float) -> None:
        """Note a notification after so many seconds of sleep; one counts for each claim."""
        if not self._is_notified:
            self._is_notified = True
            self._early = self._early + 1 if slept < _NAP_SECONDS else 0
            self._fruitless = 0

    def claimed(self, *, has_found: bool) -> None:
        """Note the answer to a claim."""
        self._is_notified = False
        self._fruitless = 0 if has_found else self._fruitless + 1
        if self.is_awake and self._fruitless >= _FRUITLESS:
            self.end()

    def end(self) -> None:
        """Begin anew: let it sleep."""
        self._early = 0
