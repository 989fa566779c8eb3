"""When to ask for work, and when it is safe to sleep.

The rule is that of the design's section on wake-ups. A claim that gets less than it asked for
marks the runner idle in the same transaction; creators notify only idle runners. A creator that
looked before that mark was visible has not notified, so the runner may sleep only when every
transaction from before has ended *and* a claim after that found nothing: until then it asks again.
A claim that finds work while settling starts it all over, because it may have taken the mark away.
Once that is done it holds for as long as the mark stays: everybody since has seen it. A runner that
is notified and gets less than it asked for needs only to look again, without locks.
A runner that is notified all the time stays awake for a while, without a mark: see `wakefulness`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from persona_pg.runner import calls
from persona_pg.runner.wakefulness import LOOK_SECONDS, Wakefulness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from persona_pg.runner.session import Step

_FIRST_WAIT = 0.001
_LONGEST_WAIT = 1.0
# After so long a stranger's long transaction is told apart from one that writes to the queue.
_PATIENCE = 1.0
# What is overdue and not ours to claim is looked at again after so long at most.
_LONGEST_OVERDUE = 4.0
# The net's interval doubles up to this while it catches nothing.
_NET_LONGEST = 60.0


class Phase(enum.Enum):
    """Where the cycle stands."""

    CLAIM = "claim"
    HORIZON = "horizon"
    SETTLING = "settling"
    LOOKING = "looking"
    ASLEEP = "asleep"


class ClaimCycle:
    """Decides which steps go out next for claiming, and reads their answers."""

    def __init__(self, runner_id: str, *, net_interval: float | None) -> None:
        self.runner_id = runner_id
        self.connection = 0
        self.phase = Phase.CLAIM
        self.net_interval = net_interval
        self._net_wait = net_interval
        self._next_at = 0.0
        self._sent = self.phase
        self._horizon = ""
        self._holders: Sequence[str] = ()
        self._wait = _FIRST_WAIT
        self._settling_since = 0.0
        self._asked = 0
        self._due_at = float("inf")
        self._overdue_wait = _FIRST_WAIT
        # A notification may come while the answers are under way: they do not know of it.
        self._was_woken = False
        # All who could not see our idle mark have ended, and it has been there ever since.
        self._is_known = False
        self._was_forgotten = False
        self._wakefulness = Wakefulness()
        self._stays_awake = False
        self._asleep_since = 0.0
        # The last claim got all that it asked for: there may be more.
        self.is_queue_deep = False

    def wake(self) -> None:
        """Start over: there may be work."""
        self._was_woken = True
        self.phase = Phase.CLAIM
        self._next_at = 0.0
        self._wait = _FIRST_WAIT
        self._net_wait = self.net_interval

    def notified(self, now: float) -> bool:
        """Start over because of a notification, unless we look by ourselves anyway.

        Who stays awake claims at least once more before it sleeps. Returns whether there is
        something to send at once.
        """
        if self._wakefulness.is_awake:
            return False
        self._wakefulness.notified(now - self._asleep_since if self.is_asleep else 0.0)
        self.wake()
        return True

    def start_over(self) -> None:
        """Start over as if we had never been idle: our mark was gone, or did not count."""
        self._is_known = False
        self._was_forgotten = True
        self.wake()

    @property
    def is_asleep(self) -> bool:
        """Tell whether there was nothing claimable when last asked, for certain."""
        return self.phase is Phase.ASLEEP

    @property
    def next_at(self) -> float | None:
        """Loop time of the next step; None: only a notification wakes it."""
        return None if self._next_at == float("inf") else self._next_at

    def is_something_due(self, now: float) -> bool:
        """Tell whether that has come for which the sleep was bounded.

        It may be something to claim, or a matter of upkeep, such as the end of a lease.
        """
        return self.phase is Phase.ASLEEP and now >= self._due_at

    def steps(self, free: int, now: float) -> list[Step]:
        """Return the steps to send now, for so many free slots."""
        if free <= 0 or now < self._next_at:
            return []
        if self.phase is Phase.ASLEEP:
            self.phase = Phase.CLAIM
        self._asked = free
        self._was_woken = self._was_forgotten = False
        self._sent = self.phase
        if self.phase is Phase.HORIZON:
            return [calls.idle_horizon(self.runner_id)]
        if self.phase is Phase.LOOKING:
            return [calls.idle_state(self.runner_id)]
        if self.phase is Phase.CLAIM:
            self._stays_awake = awake = self._wakefulness.is_awake
            return [calls.claim(self.runner_id, self.connection, free, stays_awake=awake)]
        is_patient = now - self._settling_since > _PATIENCE
        return [
            calls.is_settled(self._horizon, self._holders if is_patient else None),
            calls.claim(self.runner_id, self.connection, free),
            calls.idle_state(self.runner_id),
        ]

    def take(self, answers: Sequence[Any], now: float) -> list[dict[str, Any]]:
        """Read the answers to those steps, none of them an error; return the claimed jobs."""
        was_woken, self.phase = self._was_woken, self._sent
        jobs = self._taken(answers, now)
        if was_woken:
            self.wake()
        self._is_known = self._is_known and not self._was_forgotten
        return jobs

    def _taken(self, answers: Sequence[Any], now: float) -> list[dict[str, Any]]:
        if self.phase is Phase.HORIZON:
            (horizon,) = answers
            self._horizon, self._holders = horizon["horizon"], horizon["holders"]
            self.phase = Phase.SETTLING
            self._settling_since = now
            self._wait = _FIRST_WAIT
            return []
        if self.phase is Phase.LOOKING:
            self._looked(answers[0], now)
            return []
        jobs: list[dict[str, Any]] = (answers[0] if self.phase is Phase.CLAIM else answers[1]) or []
        self.is_queue_deep = len(jobs) >= self._asked
        if self.phase is Phase.CLAIM:
            self._claimed(has_found=bool(jobs), now=now)
        elif jobs:
            self._is_known = False
            self.wake()
        else:
            settled, _, state = answers
            self._is_known = settled
            self._looked(state, now)
        return jobs

    def _claimed(self, *, has_found: bool, now: float) -> None:
        self._wakefulness.claimed(has_found=has_found)
        # Either takes the mark away.
        self._is_known = self._is_known and not (self.is_queue_deep or self._stays_awake)
        if self.is_queue_deep:
            return
        if not self._stays_awake:
            self.phase = Phase.LOOKING if self._is_known else Phase.HORIZON
        elif self._wakefulness.is_awake:
            self._next_at = now + LOOK_SECONDS

    def _looked(self, state: dict[str, Any], now: float) -> None:
        """Sleep, if it is certain that there is nothing; else ask again a little later."""
        if self._is_known and not state["claimable"]:
            self._sleep(state["due_in_seconds"], now)
            return
        if self.phase is Phase.LOOKING:
            self.phase = Phase.CLAIM
        self._next_at = now + self._wait
        self._wait = min(self._wait * 2, _LONGEST_WAIT)

    def failed(self, answers: Sequence[Any], now: float) -> list[dict[str, Any]]:
        """Ask again a little later, from the start: one of the steps was refused.

        Each step is a transaction of its own, so the claim may have succeeded beside it: its jobs
        are ours and are returned.
        """
        claim = {Phase.CLAIM: 0, Phase.SETTLING: 1}.get(self._sent)
        self.phase = Phase.CLAIM
        self._is_known = False
        self._wakefulness.end()
        self._next_at = now + _LONGEST_WAIT
        jobs = None if claim is None else answers[claim]
        return jobs if isinstance(jobs, list) else []

    def _sleep(self, due_in: float | None, now: float) -> None:
        self.phase = Phase.ASLEEP
        self._asleep_since = now
        self._due_at = float("inf")
        waits = []
        if due_in is not None:
            # A millisecond more, so that what is due then is due by the server's clock too. What
            # stays overdue is in other hands (a row that is locked, a job of other agents).
            is_overdue = due_in <= 0
            self._overdue_wait = (
                min(self._overdue_wait * 2, _LONGEST_OVERDUE) if is_overdue else _FIRST_WAIT
            )
            waits.append(max(due_in, 0.0) + self._overdue_wait)
            self._due_at = now + waits[0]
        if self._net_wait is not None:
            waits.append(self._net_wait)
            self._net_wait = min(self._net_wait * 2, max(_NET_LONGEST, self.net_interval or 0.0))
        self._next_at = now + min(waits) if waits else float("inf")
