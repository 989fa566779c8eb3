"""Every error with a documented meaning, and how the database's errors become one.

    PersonaError                        exit 1
    +-- JobNotFound          PJ404      exit 3
    +-- AmbiguousId          PJ300      exit 4
    +-- OverBudget           PJ402      exit 5
    +-- UpdateConflictError  PJ409      exit 4
    +-- LeaseLost            PJ410      exit 4
    +-- InvalidInput         PJ422      exit 2
    +-- IllegalTransition    PJ423      exit 4
    +-- NotPermitted         PJ403      exit 5
    +-- ProtocolMismatch     PJ426      exit 78
    +-- DatabaseUnreachable             exit 69
    +-- TryLater                        exit 75
    +-- ConfigurationError              exit 78
    +-- SchemaMissing                   exit 78
    +-- SchemaTooNew                    exit 78

The exit codes are those of sysexits.h where it has one.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg


class PersonaError(Exception):
    """Base of every error with a documented meaning."""

    by_sqlstate: ClassVar[dict[str, type[PersonaError]]] = {}
    exit_code: ClassVar[int] = 1
    sqlstate: ClassVar[str | None] = None

    def __init__(
        self, message: str = "", *, detail: dict[str, Any] | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n", 1)[0])
        self.detail: dict[str, Any] = detail or {}
        self.hint = hint

    def __init_subclass__(
        cls, *, sqlstate: str | None = None, exit_code: int = 1, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.exit_code = exit_code
        cls.sqlstate = sqlstate
        if sqlstate is not None:
            PersonaError.by_sqlstate[sqlstate] = cls


class JobNotFound(PersonaError, sqlstate="PJ404", exit_code=3):
    """No such job."""


class AmbiguousId(PersonaError, sqlstate="PJ300", exit_code=4):
    """More than one job matches; the detail lists the candidates."""


class OverBudget(PersonaError, sqlstate="PJ402", exit_code=5):
    """A budget has no room for this job."""


class UpdateConflictError(PersonaError, sqlstate="PJ409", exit_code=4):
    """Somebody else changed the job in the meantime."""


class LeaseLost(PersonaError, sqlstate="PJ410", exit_code=4):
    """The execution belongs to someone else now; its result must be dropped."""


class InvalidInput(PersonaError, sqlstate="PJ422", exit_code=2):
    """An argument has a value that is not allowed."""


class IllegalTransition(PersonaError, sqlstate="PJ423", exit_code=4):
    """The job's status does not allow this."""


class NotPermitted(PersonaError, sqlstate="PJ403", exit_code=5):
    """The database role may not do this."""


class ProtocolMismatch(PersonaError, sqlstate="PJ426", exit_code=78):
    """This program is too old or too new for the database's schema."""


class DatabaseUnreachable(PersonaError, exit_code=69):
    """The database does not answer."""


class TryLater(PersonaError, exit_code=75):
    """Not now: another attempt in a moment may succeed."""


class ConfigurationError(PersonaError, exit_code=78):
    """A configuration value is wrong; the message names it and what is allowed."""


class SchemaMissing(PersonaError, exit_code=78):
    """The database lacks the schema, or a part of it."""


class SchemaTooNew(PersonaError, exit_code=78):
    """The database's schema is newer than this package."""


# The server goes away (57P01-57P05) or the connection breaks (class 08).
_UNREACHABLE = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "53300"})
# Another transaction was in the way; the callers' retries are over by now.
_IN_THE_WAY = frozenset({"40001", "40P01", "55P03"})
_REFUSED: dict[str, tuple[type[PersonaError], str]] = {
    "42501": (NotPermitted, "use a role that is granted this; see db/roles.sql"),
    "54000": (InvalidInput, "a value is larger than PostgreSQL can hold"),
}
# No schema, no table, no function: whether it is ours, the message says.
_MISSING = frozenset({"3F000", "42P01", "42883"})


def one_line(text: str) -> str:
    """Fold a message of several lines into one."""
    return " ".join(text.split())


def with_hint(exc: PersonaError) -> str:
    """Write an error in one line: what is wrong; what to do."""
    words = one_line(str(exc)).rstrip(".")
    if candidates := exc.detail.get("candidates"):
        words += f": {', '.join(map(str, candidates))}"
    if not exc.hint:
        return words
    hint = one_line(exc.hint).rstrip(".")
    return f"{words}; {hint[0].lower()}{hint[1:]}" if hint[1:2].islower() else f"{words}; {hint}"


def from_database(exc: psycopg.Error) -> PersonaError | None:
    """Find the documented meaning of a database error; None where there is none."""
    import psycopg

    diag = exc.diag
    state = exc.sqlstate or ""
    message = one_line(diag.message_primary or str(exc))
    known = PersonaError.by_sqlstate.get(state)
    if known is not None:
        return known(message, detail=_detail(diag.message_detail), hint=diag.message_hint)
    if state in _MISSING and "persona" in message:
        return SchemaMissing(message, hint="run: persona db migrate")
    if state in _REFUSED:
        kind, hint = _REFUSED[state]
        return kind(message, hint=hint)
    if state in _IN_THE_WAY:
        return TryLater(message)
    # libpq reports a failed connection, and psycopg a lost one, without a code.
    lost = isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)) and not state
    if lost or state in _UNREACHABLE or state.startswith("08"):
        return DatabaseUnreachable(f"the database does not answer: {message}")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's errors into ours where they have a meaning; let all else pass."""
    import psycopg

    try:
        yield
    except psycopg.Error as exc:
        error = from_database(exc)
        if error is None:
            raise
        raise error from exc


def _detail(text: str | None) -> dict[str, Any]:
    """Read the JSON detail that our functions attach; any other text is kept as it is."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"text": text}
