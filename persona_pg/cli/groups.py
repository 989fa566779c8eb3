"""A group of commands that lists when it is called without one."""

from __future__ import annotations

import click


class ListingGroup(click.Group):
    """Calls `list` where no subcommand is named: `persona agents` lists the agents."""

    default_command = "list"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default subcommand in."""
        if not args or (args[0].startswith("-") and args[0] not in {"-h", "--help"}):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)
