"""A command line as people are shown it: bounded, and without what is secret in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from persona_pg.runner import secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_MOST_ARGUMENTS = 60
_LONGEST_ARGUMENT = 300
_LONGEST = 2000
_MASK = "***"
# Shorter ones would be found in words that have nothing to do with them.
_LEAST_SECRET = 8

_NAMES = r"(?:api[-_]?key|access[-_]?key|auth|bearer|credentials?|password|passwd|secret|token)"
_OPTION = re.compile(rf"--?[\w-]*{_NAMES}", re.IGNORECASE)
_ASSIGNED = re.compile(
    rf"^((?:--?)?[\w.-]*{_NAMES}=|[\w-]*authorization: *(?:\w+ +)?).+", re.IGNORECASE | re.DOTALL
)
_IN_ADDRESS = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_HINT = re.compile(rf"{_NAMES}|authorization|://", re.IGNORECASE)


def shown(argv: Sequence[str], hidden: Iterable[str] = ()) -> list[str]:
    """Return its arguments, the long ones cut; *hidden* texts do not appear in them."""
    found: list[str] = []
    left = _LONGEST
    hides_next = False
    for argument in argv:
        if len(found) == _MOST_ARGUMENTS or left <= 0:
            found.append(f"… and {len(argv) - len(found)} more")
            break
        text = _MASK if hides_next and not argument.startswith("-") else _masked(argument, hidden)
        hides_next = _OPTION.fullmatch(argument) is not None
        room = min(_LONGEST_ARGUMENT, left)
        if len(text) > room:
            text = f"{text[:room]}… ({len(argument)} characters)"
        left -= len(text)
        found.append(text)
    return found


def secret_values(named: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """Return the secrets in the environment of a program, which *named* says where they are."""
    values = [env[name] for name, value in named.items() if secrets.is_named(value)]
    return [value for value in values if len(value) >= _LEAST_SECRET]


def _masked(argument: str, hidden: Iterable[str]) -> str:
    for secret in hidden:
        argument = argument.replace(secret, _MASK)
    # Only the beginning is shown, so what lies behind it need not be looked through.
    text = argument[: 2 * _LONGEST_ARGUMENT]
    if _HINT.search(text) is None:
        return argument
    text = _ASSIGNED.sub(rf"\g<1>{_MASK}", text)
    return _IN_ADDRESS.sub(rf"\g<1>{_MASK}", text)
