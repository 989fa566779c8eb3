"""The templates, and what they may use: everything is escaped, always."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from persona_pg import __version__
from persona_pg.web import ansi, shown

FOLDER = Path(__file__).parent


def templates() -> jinja2.Environment:
    """Make the environment of the templates."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "duration": shown.duration,
        "moment": shown.moment,
        "money": shown.money,
        "count": shown.count,
        "as_json": shown.as_json,
        "told": shown.told,
        "words": shown.words,
    }
    found.globals |= {"assets": _assets(), "package": __version__}
    return found


def _plain(value: Any) -> Any:
    """Take out of a text what a terminal would obey; what is HTML already has no such thing."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return ansi.to_plain(value) if is_text and not value.isprintable() else value


def _assets() -> str:
    """Name the version of the static files, so that browsers keep them until they change."""
    files = sorted((FOLDER / "static").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:10]
