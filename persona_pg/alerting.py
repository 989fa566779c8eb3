"""persona-alert: delivers what a job of the agent alert was given; any program could do it.

Reads the payload as JSON from standard input: {"delivery": {"to": ...}, "alerts": [...]}. Where to
comes from the environment only, by name: ALERT_WEBHOOK_URL (or another ALERT_... that the rule
names), ALERT_SMTP_URL and ALERT_MAIL_TO. A delivery that fails ends with 1, and the queue tries it
again later; short disturbances are sat out here.
"""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRIES = 4
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 20.0
_ANSWER_SECONDS = 15.0
# What Discord takes; Slack takes more.
_LONGEST_TEXT = 1900
# Not to be tried again: it would be refused the same way.
_RETRYABLE = (408, 425, 429, 500, 502, 503, 504)


class DeliveryFailed(Exception):
    """It was not delivered, and why; never with the address, which may be a secret."""


def main() -> NoReturn:
    """Deliver what is on standard input."""
    try:
        deliver(json.load(sys.stdin), os.environ)
    except (ValueError, KeyError, TypeError) as exc:
        print(f"persona-alert: the payload is no delivery: {exc!r}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except DeliveryFailed as exc:
        print(f"persona-alert: {exc}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    sys.exit(0)


def deliver(payload: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Deliver alerts the way that their rule says."""
    delivery = payload["delivery"]
    way = delivery["to"]
    if way == "mail":
        _mail(payload, environ)
    elif way == "command":
        _command(payload, delivery["argv"])
    else:
        name = delivery.get("url_from") or "ALERT_WEBHOOK_URL"
        shaped = {"slack": _slack, "discord": _discord}.get(way, _plain)
        _post(_needed(environ, name), name, shaped(payload))


def _needed(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise DeliveryFailed(f"{name} is not set for the runner that delivers; set it there")
    return value


def text_of(payload: Mapping[str, Any]) -> str:
    """Write the alerts for people, a line each."""
    lines = [f"[{alert['kind']}] {alert['message']}" for alert in payload["alerts"]]
    if more := payload.get("more"):
        lines.append(f"and {more} more: persona alerts")
    return "\n".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 4] + " ..."


def _plain(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": "persona",
        "rule": payload.get("rule"),
        "text": text_of(payload),
        "alerts": payload["alerts"],
        "more": payload.get("more", 0),
    }


def _slack(payload: Mapping[str, Any]) -> dict[str, Any]:
    escaped = _cut(text_of(payload))
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        escaped = escaped.replace(plain, entity)
    return {"text": escaped}


def _discord(payload: Mapping[str, Any]) -> dict[str, Any]:
    # What a job printed must not call everybody.
    return {"content": _cut(text_of(payload)), "allowed_mentions": {"parse": []}}


def _post(url: str, name: str, document: Mapping[str, Any]) -> None:
    if not url.startswith(("https://", "http://")):
        raise DeliveryFailed(f"{name} is no http:// or https:// URL")
    body = json.dumps(document).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "persona-alert"}
    pause = _FIRST_PAUSE
    for tries_left in reversed(range(_TRIES)):
        wait = pause
        try:
            request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS):  # noqa: S310
                return
        except urllib.error.HTTPError as exc:
            reason = f"the server of {name} answered {exc.code}"
            if exc.code not in _RETRYABLE:
                raise DeliveryFailed(reason) from None
            asked = exc.headers.get("Retry-After", "")
            wait = max(pause, float(asked)) if asked.isdigit() else pause
        except (OSError, ValueError) as exc:
            cause = getattr(exc, "reason", exc)
            reason = f"the server of {name} cannot be reached: {type(cause).__name__}"
        if not tries_left or wait > _LONGEST_PAUSE:
            raise DeliveryFailed(reason)
        time.sleep(wait)
        pause *= 2


def _mail(payload: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    url = urlsplit(_needed(environ, "ALERT_SMTP_URL"))
    to = _needed(environ, "ALERT_MAIL_TO")
    if url.scheme not in {"smtp", "smtps"} or not url.hostname:
        raise DeliveryFailed("ALERT_SMTP_URL is no smtp:// or smtps:// URL")
    first = " ".join(payload["alerts"][0]["message"].split())
    count = len(payload["alerts"]) + payload.get("more", 0)
    message = EmailMessage()
    message["Subject"] = f"persona: {first[:120]}" + (f" (+{count - 1})" if count > 1 else "")
    message["From"] = environ.get("ALERT_MAIL_FROM") or to
    message["To"] = to
    message["Date"] = formatdate(localtime=False)
    message["Message-ID"] = make_msgid(domain="persona.invalid")
    message.set_content(text_of(payload))
    try:
        with _smtp(url.scheme, url.hostname, url.port) as server:
            if url.username:
                server.login(unquote(url.username), unquote(url.password or ""))
            server.send_message(message)
    except (smtplib.SMTPException, OSError) as exc:
        raise DeliveryFailed(f"the mail server refused: {type(exc).__name__}: {exc}") from None


def _smtp(scheme: str, host: str, port: int | None) -> smtplib.SMTP:
    trusted = ssl.create_default_context()
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=_ANSWER_SECONDS, context=trusted)
    server = smtplib.SMTP(host, port or 25, timeout=_ANSWER_SECONDS)
    server.ehlo()
    if server.has_extn("starttls"):
        server.starttls(context=trusted)
        server.ehlo()
    return server


def _command(payload: Mapping[str, Any], argv: list[str]) -> None:
    try:
        done = subprocess.run(argv, input=json.dumps(payload), text=True, check=False)
    except OSError as exc:
        raise DeliveryFailed(f"command {argv[0]!r} cannot be run: {exc.strerror}") from exc
    if done.returncode:
        raise DeliveryFailed(f"command {argv[0]!r} ended with {done.returncode}")


if __name__ == "__main__":
    main()
