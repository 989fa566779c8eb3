"""Starts the runner, and the embedded server, when the user logs in: systemd or launchd."""
