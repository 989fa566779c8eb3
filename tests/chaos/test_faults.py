"""Every fault once, short; `tests/chaos/soak` repeats them for as long as one likes.

Most of the time of an episode is waiting: for a lease to run out, for a dead connection to be
noticed. So they go on side by side, each lane with a server of its own, and a test waits for its.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future

import pytest
from chaos import faults
from chaos.world import new_world

LANES = 3
# Other tests may be running on the same machine.
PATIENCE = 3.0
pytestmark = pytest.mark.timeout(180)


def _work(waiting):
    with new_world() as world:
        while True:
            try:
                name, future = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                future.set_result(faults.run(world, name, seed=1, patience=PATIENCE))
            except BaseException as exc:  # noqa: BLE001 it is the test's
                future.set_exception(exc)


@pytest.fixture(scope="module")
def episodes(request):
    """The episodes of all selected tests of this file, under way."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    futures = {name: Future() for name in chosen}
    waiting = queue.Queue()
    for name in sorted(chosen, key=lambda name: not faults.FAULTS[name].is_slow):
        waiting.put((name, futures[name]))
    lanes = [
        threading.Thread(target=_work, args=(waiting,)) for _ in range(min(LANES, len(chosen)))
    ]
    for lane in lanes:
        lane.start()
    yield futures
    for lane in lanes:
        lane.join()


@pytest.mark.parametrize("name", faults.FAULTS)
def test_fault(episodes, name):
    episode = episodes[name].result()
    if episode.skipped:
        pytest.skip(episode.skipped)
    assert episode.broken + episode.late == []
