"""Who may see the dashboard: a token, the cookie that it buys, and what keeps others out.

The cookie is signed with the token, so that nothing is stored: it outlives a restart of the
dashboard, and a new token ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from persona_pg.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SESSION_SECONDS = 14 * 86400
_LEAST_TOKEN = 16

# Nothing from elsewhere, no inline script or style, nothing that frames us or is sent elsewhere.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types persona",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Session:
    """A browser that has shown the token."""

    nonce: str
    csrf: str


class Gatekeeper:
    """Checks tokens, cookies, CSRF tokens and host names."""

    def __init__(self, token: str, *, host: str, port: int, names: tuple[str, ...] = ()) -> None:
        self._key = hashlib.sha256(b"persona dashboard " + token.encode()).digest()
        self._names = {name.lower() for name in names}
        self._is_local = is_loopback(host)
        # Cookies of one host reach all its ports.
        self.cookie = f"persona_{port}"

    def is_token(self, given: str) -> bool:
        """Tell whether this is the token, in a time that does not tell how much of it is right."""
        key = hashlib.sha256(b"persona dashboard " + given.strip().encode()).digest()
        return hmac.compare_digest(key, self._key)

    def new_cookie(self) -> str:
        """Make the value of a session's cookie."""
        body = f"{int(time.time()) + _SESSION_SECONDS}.{secrets.token_urlsafe(18)}"
        return f"{body}.{self._sign('session', body)}"

    def set_cookie(self, *, secure: bool) -> str:
        """Write the header that gives a browser its session."""
        flags = "; Secure" if secure else ""
        return (
            f"{self.cookie}={self.new_cookie()}; Path=/; Max-Age={_SESSION_SECONDS};"
            f" HttpOnly; SameSite=Strict{flags}"
        )

    def session(self, cookies: Mapping[str, str]) -> Session | None:
        """Find the session of a request."""
        body, _, signature = cookies.get(self.cookie, "").rpartition(".")
        expires, _, nonce = body.partition(".")
        if not hmac.compare_digest(signature, self._sign("session", body)):
            return None
        if not expires.isdigit() or int(expires) < time.time():
            return None
        return Session(nonce, self._sign("csrf", nonce))

    def is_from_us(self, session: Session, csrf: str, headers: Mapping[str, str]) -> bool:
        """Tell whether a request that changes something comes from one of our own pages."""
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return False
        origin = headers.get("origin")
        # A page without referrer sends its own origin as null where it posts a form.
        if origin not in {None, "null"} and urlsplit(origin).netloc != headers.get("host"):
            return False
        return hmac.compare_digest(csrf, session.csrf)

    def is_our_name(self, host: str) -> bool:
        """Refuse names that others have pointed at us (DNS rebinding)."""
        name = urlsplit(f"//{host}").hostname or ""
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._is_local

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose} {text}".encode(), hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path) -> str:
    """Read a token from a file that nobody else may read."""
    try:
        token = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"--token-file: {path} cannot be read: {exc}") from exc
    if len(token) < _LEAST_TOKEN:
        raise ConfigurationError(
            f"--token-file: {path} holds {len(token)} characters;"
            f" a token needs at least {_LEAST_TOKEN}",
            hint=f"make one: (umask 077; openssl rand -hex 32 > {path})",
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and not _is_credential(path):
        raise ConfigurationError(
            f"--token-file: others may read {path} (mode {stat.S_IMODE(mode):o})",
            hint=f"chmod 600 {path}",
        )
    return token


def own_token(home: Path, *, renew: bool = False) -> str:
    """Return the token kept in our home, made at the first time: links and sessions go on."""
    path = home / "dashboard.token"
    if path.exists() and not renew:
        return read_token(path)
    token = secrets.token_urlsafe(32)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
    except OSError as exc:
        raise ConfigurationError(
            f"the token cannot be kept in {path}: {exc.strerror}",
            hint="set PERSONA_HOME to a folder of yours, or give --token-file",
        ) from exc
    return token


def _is_credential(path: Path) -> bool:
    """Tell whether the service manager has put it there for us (LoadCredential=)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.resolve().is_relative_to(Path(str(folder)).resolve())
