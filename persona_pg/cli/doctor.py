"""persona doctor."""

from __future__ import annotations

from dataclasses import asdict

import click

from persona_pg.cli import output
from persona_pg.cli.app import App, pass_app

_ADVICE = {
    "configuration": "Mend it in the environment or in .env; persona config shows the rest.",
    "connection": "Set PERSONA_DATABASE_URL, or start the embedded server: persona db start",
}
_STYLES = {"ok": "ok", "warn": "warn", "fail": "FAIL"}


@click.command("doctor")
@output.json_option
@pass_app
def doctor_command(app: App, *, as_json: bool) -> None:
    """Look whether everything that the queue needs is there, and say what to do where it is not.

    Changes nothing. Exit code 1: something is broken; warnings alone do not count. Run it as the
    user and in the environment of a runner to see what that sees.
    """
    from persona_pg.doctor import Finding, examine
    from persona_pg.embedded import resolve_dsn
    from persona_pg.errors import PersonaError, one_line

    findings: list[Finding] = []
    check = "configuration"
    try:
        settings = app.settings
        findings.append(Finding(check, "ok", "no value that is not allowed"))
        check = "connection"
        dsn = resolve_dsn(settings, start_embedded=False)
    except PersonaError as exc:
        findings.append(Finding(check, "fail", one_line(str(exc)), exc.hint or _ADVICE[check]))
    else:
        findings += examine(settings, dsn)
    if as_json:
        output.put_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            output.put(
                f"{_STYLES[finding.state]:<5} {finding.check:<19} {output.clean(finding.seen)}"
            )
            if finding.state != "ok" and finding.advice:
                output.put(f"{'':<25} {finding.advice}")
    if any(finding.state == "fail" for finding in findings):
        raise click.exceptions.Exit(1)
