"""Persona PG: a durable queue for AI-agent and command runs, living in PostgreSQL."""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
