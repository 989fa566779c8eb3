"""persona dashboard."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from persona_pg.cli import output
from persona_pg.cli.app import App, pass_app
from persona_pg.cli.edge import say
from persona_pg.cli.types import INTEGER
from persona_pg.errors import ConfigurationError, NotPermitted

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("dashboard")
@click.option("--port", type=INTEGER, default=8680, show_default=True, help="0: any free one.")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Serve other machines too, on this address of ours; needs --token-file.",
)
@click.option(
    "--token-file", type=_FILE, help="Token that opens it; else one is kept in PERSONA_HOME."
)
@click.option("--new-token", is_flag=True, help="Make another token: everybody signs in anew.")
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Name under which it is reached. Repeatable.",
)
@click.option("--cert", type=_FILE, help="Certificate for HTTPS.")
@click.option("--key", type=_FILE, help="Its key.")
@click.option("--open", "in_browser", is_flag=True, help="Open it in the browser.")
@pass_app
def dashboard_command(
    app: App,
    *,
    port: int,
    listen: str | None,
    token_file: Path | None,
    new_token: bool,
    allow_host: tuple[str, ...],
    cert: Path | None,
    key: Path | None,
    in_browser: bool,
) -> None:
    """Serve a web page that shows the queue live and lets you act.

    Only this machine can reach it, and only who has the token that the printed link carries. What
    a viewer may do is what the database role in PERSONA_DATABASE_URL may do: with persona_viewer
    everybody may look and nobody may act. Ctrl-C ends it.
    """
    try:
        from persona_pg.web import auth, server
    except ImportError as exc:
        raise ConfigurationError(
            f"the dashboard needs the extra [web] ({exc.name} is missing)",
            hint="pip install 'persona-pg[web]'",
        ) from exc
    host = listen or "127.0.0.1"
    if not auth.is_loopback(host) and token_file is None:
        raise ConfigurationError(
            f"--listen {host} reaches beyond this machine: choose a token with --token-file",
            hint="make one: (umask 077; openssl rand -hex 32 > dashboard.token)",
        )
    if token_file is not None and new_token:
        raise click.UsageError("--new-token is for the token that we keep, not for --token-file")
    if (key is not None) and cert is None:
        raise click.UsageError("--key belongs to --cert")
    _check_role(app)
    if token_file is not None:
        token = auth.read_token(token_file)
    else:
        token = auth.own_token(app.settings.home, renew=new_token)

    def started(url: str) -> None:
        if not auth.is_loopback(host) and cert is None:
            say("without --cert the token and everything shown travel in clear text")
        link = f"{url}/login" if token_file is not None else f"{url}/login?token={token}"
        output.put(link)
        sys.stdout.flush()
        say("dashboard is served; Ctrl-C ends it")
        if in_browser:
            click.launch(link)

    dsn = app.queue.database.dsn
    app.queue.close()
    server.serve(
        dsn, server.Options(host, port, token, names=allow_host, certificate=cert, key=key), started
    )


def _check_role(app: App) -> None:
    """Refuse a role that may not even look, before anybody is let in."""
    from persona_pg.looks import Looks

    needed = ("monitor_snapshot", "search_jobs", "list_events", "watch")
    missing = set(needed) - Looks(app.queue.database).permitted(needed)
    if missing:
        raise NotPermitted(
            f"this database role may not look at the queue ({', '.join(sorted(missing))})",
            hint="use a role that has persona_viewer, or persona_client or persona_admin to act",
        )
