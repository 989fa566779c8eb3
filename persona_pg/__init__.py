"""Persona PG: a durable queue for AI-agent and command runs, living in PostgreSQL."""

from __future__ import annotations

from contextlib import suppress

__all__ = ["__version__"]

# Written by the build, from the tag; a checkout that was never installed has none.
__version__ = "0.1.0"
with suppress(ImportError):
    from persona_pg._version import version as __version__
