"""What goes out together, each part in transactions of its own, and who gets the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona_pg.runner.session import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from persona_pg.runner.session import Answer, Session, Step

# Steps that belong together, and what to do with their answers.
Due = tuple[list["Step"], "Callable[[list[Answer]], None]"]


async def exchange(session: Session, due: Sequence[Due]) -> None:
    """Send it all at once and hand out the answers; ConnectionLost where some did not come."""
    try:
        answers = await session.exchange([step for steps, _ in due for step in steps])
    except ConnectionLost as exc:
        _hand_out(due, exc.answers)
        raise
    _hand_out(due, answers)


def _hand_out(due: Sequence[Due], answers: list[Answer]) -> None:
    for steps, handler in due:
        if len(answers) < len(steps):
            break
        handler(answers[: len(steps)])
        answers = answers[len(steps) :]
