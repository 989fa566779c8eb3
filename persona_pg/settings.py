"""The configuration: environment variables, and the same names in a .env file.

The real environment wins over the file.  A value that is set but empty counts as not set.
A wrong value ends the program with one line that names the variable, its value and what is
allowed; so does a combination that would break a promise (a lease shorter than three heartbeats
and the grace).
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field, fields
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from persona_pg.errors import ConfigurationError
from persona_pg.resources import checkout_root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DISCOVER: Literal["discover"] = "discover"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_OFF = frozenset({"off", "none", "never", "0"})
_SUPABASE_HELP = (
    "Supabase shows the connection string in the dashboard under Connect, Session pooler:"
    " put it into PERSONA_DATABASE_URL"
)


def parse_duration(text: str) -> timedelta:
    """Read '30', '30s', '1.5m', '2h', '1d', '500ms' (a bare number is seconds)."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|min|m|h|d)?", text.strip().lower())
    if match is None:
        raise ValueError(text)
    return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])


def parse_size(text: str) -> int:
    """Read '10MB', '512kB', '1g', '4096' (a bare number is bytes; k, M, G are powers of 1024)."""
    pattern = r"([0-9]{1,18}(?:\.[0-9]{1,6})?)\s*(?:([kmg])i?b?|b)?"
    match = re.fullmatch(pattern, text.strip().lower())
    if match is None:
        raise ValueError(text)
    return int(Decimal(match[1]) * _SIZES[match[2] or ""])


def format_duration(value: timedelta) -> str:
    """Write a duration the way it is read."""
    seconds = value.total_seconds()
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds >= factor and seconds % factor == 0:
            return f"{int(seconds // factor)}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def format_size(value: int) -> str:
    """Write a size the way it is read."""
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if value >= factor and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)


@dataclass(frozen=True)
class _Kind:
    """How a variable's text is read, and what the message says is allowed."""

    read: Callable[[str], Any]
    allowed: str
    secret: bool = False


def _duration(least: str, most: str, *, off: bool = False) -> _Kind:
    low, high = parse_duration(least), parse_duration(most)

    def read(text: str) -> timedelta | None:
        if off and text.lower() in _OFF:
            return None
        value = parse_duration(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    allowed = f"a duration from {least} to {most}, such as 30, 30s, 5m or 2h"
    return _Kind(read, allowed + (", or off" if off else ""))


def _integer(least: int, most: int) -> _Kind:
    def read(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,9}", text) is None or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return _Kind(read, f"a whole number from {least} to {most}")


def _size(least: str, most: str) -> _Kind:
    def read(text: str) -> int:
        value = parse_size(text)
        if not parse_size(least) <= value <= parse_size(most):
            raise ValueError(text)
        return value

    return _Kind(read, f"a size from {least} to {most}, such as 512kB, 10MB or 1GB")


def _matching(pattern: str, allowed: str, *, secret: bool = False) -> _Kind:
    def read(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(text)
        return text

    return _Kind(read, allowed, secret=secret)


def _read_folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute() or (path.exists() and not path.is_dir()):
        raise ValueError(text)
    return path


def _read_dsn(text: str) -> str:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        ports = str(conninfo_to_dict(text).get("port", ""))
    except psycopg.Error as exc:
        raise ValueError(text) from exc
    # libpq looks at the port only when it connects.
    if any(port and not 0 < int(port) < 1 << 16 for port in ports.split(",")):
        raise ValueError(text)
    return text


_FOLDER = _Kind(_read_folder, "the absolute path of a folder")
_MODEL = _matching(r"[A-Za-z0-9][\w.:/@\[\]-]{0,199}", "the name of a model, without spaces")
_DSN = _Kind(
    _read_dsn,
    "a libpq connection string: postgresql://user@host:5432/database or 'host=... dbname=...'",
    secret=True,
)


def _default_home() -> Path:
    """Return the user's data folder for us."""
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/persona").expanduser()
    base = os.environ.get("XDG_DATA_HOME", "")
    folder = Path(base) if base.startswith("/") else Path("~/.local/share").expanduser()
    return folder / "persona"


def _variable(name: str, kind: _Kind, default: Any = None) -> Any:
    return field(default=default, metadata={"variable": name, "kind": kind})


@dataclass(frozen=True)
class Settings:
    """All settings, checked.  load() makes one; the field names are those of the code."""

    database_url: str | None = _variable("PERSONA_DATABASE_URL", _DSN)
    home: Path = field(
        default_factory=_default_home, metadata={"variable": "PERSONA_HOME", "kind": _FOLDER}
    )
    root: Path | None = _variable("PERSONA_ROOT", _FOLDER)
    vault_path: Path | None = _variable("PERSONA_VAULT_PATH", _FOLDER)
    vault_name: str | None = _variable(
        "PERSONA_VAULT_NAME", _matching(r"[^/\x00-\x1f]{1,100}", "a name without '/'")
    )
    business: str | None = _variable(
        "PERSONA_BUSINESS", _matching(r"[\w.@-]{1,100}", "letters, digits, and any of _ . @ -")
    )
    heartbeat_interval: timedelta = _variable(
        "JOB_HEARTBEAT_INTERVAL", _duration("100ms", "1h"), timedelta(seconds=30)
    )
    hung_timeout: timedelta = _variable(
        "JOB_HUNG_TIMEOUT", _duration("1s", "1d"), timedelta(seconds=300)
    )
    job_timeout: timedelta = _variable(
        "JOB_TIMEOUT", _duration("100ms", "30d"), timedelta(seconds=600)
    )
    job_idle_timeout: timedelta | None = _variable(
        "JOB_IDLE_TIMEOUT", _duration("100ms", "30d", off=True)
    )
    max_attempts: int | None = _variable("JOB_MAX_ATTEMPTS", _integer(1, 100))
    kill_grace: timedelta = _variable(
        "JOB_KILL_GRACE", _duration("0s", "10m"), timedelta(seconds=10)
    )
    process_control: str = _variable(
        "JOB_PROCESS_CONTROL",
        _matching(r"auto|cgroup|systemd|subreaper", "auto, cgroup, systemd or subreaper"),
        "auto",
    )
    output_limit: int = _variable("JOB_OUTPUT_LIMIT", _size("1kB", "1GB"), 10 << 20)
    log_retention_days: int = _variable("JOB_LOG_RETENTION_DAYS", _integer(1, 3650), 30)
    worker_concurrency: int = _variable("WORKER_CONCURRENCY", _integer(1, 1000), 3)
    poll_interval: timedelta | None = _variable(
        "WORKER_POLL_INTERVAL", _duration("100ms", "1d", off=True), timedelta(seconds=5)
    )
    drain_timeout: timedelta = _variable(
        "WORKER_DRAIN_TIMEOUT", _duration("0s", "7d"), timedelta(seconds=300)
    )
    log_format: str = _variable(
        "PERSONA_LOG_FORMAT",
        _matching(r"auto|text|json|journald", "auto, text, json or journald"),
        "auto",
    )
    claude_model: str = _variable("CLAUDE_MODEL", _MODEL, "opus")
    gemini_model: str = _variable("GEMINI_MODEL", _MODEL, "pro")
    alert_webhook_url: str | None = _variable(
        "ALERT_WEBHOOK_URL", _matching(r"https?://\S+", "an http:// or https:// URL", secret=True)
    )
    alert_smtp_url: str | None = _variable(
        "ALERT_SMTP_URL", _matching(r"smtps?://\S+", "an smtp:// or smtps:// URL", secret=True)
    )
    alert_mail_to: str | None = _variable(
        "ALERT_MAIL_TO", _matching(r"[^\s@]+@[^\s@]+", "a mail address")
    )
    supabase_url: str | None = _variable(
        "SUPABASE_URL", _matching(r"https?://\S+", "an http:// or https:// URL")
    )
    # Where each variable came from ('environment' or the file), for `persona config`.
    sources: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    # The variables of libpq (PG*) that were found in the file.
    libpq_from_file: dict[str, str] = field(default_factory=dict, repr=False, compare=False)


def load(
    environ: Mapping[str, str] | None = None,
    dotenv: Path | Literal["discover"] | None = _DISCOVER,
) -> Settings:
    """Read and check the configuration; raise ConfigurationError at the first wrong value."""
    environ = os.environ if environ is None else environ
    path = _discover(environ) if dotenv == _DISCOVER else dotenv
    from_file = {} if path is None else _read_file(path)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    texts: dict[str, str] = {}
    for item in fields(Settings):
        name = item.metadata.get("variable")
        if name is None:
            continue
        for source, mapping in (("environment", environ), (str(path), from_file)):
            # An empty value counts as not set, in both places.
            if text := mapping.get(name, "").strip():
                values[item.name] = _read(name, text, item.metadata["kind"])
                sources[name] = source
                texts[name] = text
                break
    settings = Settings(
        **values,
        sources=sources,
        libpq_from_file={k: v for k, v in from_file.items() if k.startswith("PG") and v},
    )
    _check_together(settings, texts)
    return settings


def variables() -> list[tuple[str, str, bool]]:
    """List (variable, field, secret) for every setting, in the order of the documentation."""
    return [
        (item.metadata["variable"], item.name, item.metadata["kind"].secret)
        for item in fields(Settings)
        if "variable" in item.metadata
    ]


def _read(name: str, text: str, kind: _Kind) -> Any:
    try:
        return kind.read(text)
    except ValueError:
        # A connection string or a webhook may hold a password: never repeat it.
        shown = "(not shown)" if kind.secret else repr(text[:200])
        raise ConfigurationError(
            f"{name}: the value {shown} is not allowed; it must be {kind.allowed}",
            detail={"variable": name},
        ) from None


def _check_together(settings: Settings, texts: Mapping[str, str]) -> None:
    least = 3 * settings.heartbeat_interval + settings.kill_grace
    if settings.hung_timeout < least:
        value = texts.get("JOB_HUNG_TIMEOUT", format_duration(settings.hung_timeout))
        raise ConfigurationError(
            f"JOB_HUNG_TIMEOUT: the value '{value}' is not allowed; it must be at least"
            f" {format_duration(least)}: 3 x JOB_HEARTBEAT_INTERVAL"
            f" ({format_duration(settings.heartbeat_interval)}) + JOB_KILL_GRACE"
            f" ({format_duration(settings.kill_grace)})",
            detail={"variable": "JOB_HUNG_TIMEOUT"},
        )
    if settings.supabase_url and not settings.database_url:
        raise ConfigurationError(
            f"SUPABASE_URL: the value '{settings.supabase_url}' needs PERSONA_DATABASE_URL"
            f" beside it; {_SUPABASE_HELP}",
            detail={"variable": "SUPABASE_URL"},
        )


def _discover(environ: Mapping[str, str]) -> Path | None:
    """Find the .env file: PERSONA_ENV_FILE, else the checkout's, else PERSONA_HOME's."""
    named = environ.get("PERSONA_ENV_FILE", "").strip()
    if named:
        return Path(named).expanduser()
    root = checkout_root()
    home = environ.get("PERSONA_HOME", "").strip()
    folders = [root, Path(home).expanduser() if home else _default_home()]
    return next((f / ".env" for f in folders if f is not None and (f / ".env").is_file()), None)


def _read_file(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values

    try:
        with path.open(encoding="utf-8") as stream:
            # No ${...} expansion: a password may contain a dollar sign.
            found = dotenv_values(stream=stream, interpolate=False)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"PERSONA_ENV_FILE: the file '{path}' cannot be read ({exc});"
            " it must be a readable file of NAME=VALUE lines"
        ) from None
    return {name: value for name, value in found.items() if value is not None}
