"""Secrets of agents: the database knows their names, the runner's machine their values.

An agent's environment may say {"API_KEY": {"secret": "openai"}}. The value is read from a file of
that name when a job starts: from the credentials that systemd gives the service
($CREDENTIALS_DIRECTORY), else from the folder `secrets` of PERSONA_HOME.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
# `LoadCredential=persona:FOLDER` puts this before the names of the folder's files.
_PREFIX = "persona_"
_LONGEST = 64 << 10


class SecretError(Exception):
    """A secret that an agent names cannot be had on this machine."""


def is_named(value: Any) -> bool:
    """Tell whether a value of an agent's environment names a secret."""
    return isinstance(value, dict) and value.keys() == {"secret"}


def read(value: Mapping[str, Any], environ: Mapping[str, str], home: Path) -> str:
    """Return the text of a secret, without the newline at its end."""
    name = value["secret"]
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise SecretError(f"secret {name!r}: a plain file name is needed")
    paths = [home / "secrets" / name]
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        paths[:0] = [Path(folder) / name, Path(folder) / f"{_PREFIX}{name}"]
    for path in paths:
        try:
            with path.open("rb") as file:
                # systemd makes credentials readable for the service alone, whatever the bits say.
                if str(path.parent) != folder and stat.S_IMODE(path.stat().st_mode) & 0o077:
                    raise SecretError(f"secret {name}: {path} is open to others; chmod 600 it")
                text = file.read(_LONGEST + 1)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise SecretError(f"secret {name}: {path} cannot be read: {exc.strerror}") from exc
        if len(text) > _LONGEST or b"\0" in text:
            raise SecretError(f"secret {name}: {path} is no text of at most 64 kB")
        return text.decode("utf-8", "surrogateescape").removesuffix("\n")
    looked = ", ".join(dict.fromkeys(str(path.parent) for path in paths))
    raise SecretError(f"secret {name} is not there; looked in {looked}")
