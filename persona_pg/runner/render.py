"""From a claimed job to a command line: placeholders, environment, working directory.

Every placeholder is filled in one pass over the template, and what was filled in is never looked
at again: a question that contains "{vault}" arrives as that text. A placeholder never leaves its
one argument, whatever its value contains; only an element that is nothing but `{payload.KEY...}`
becomes several, one for each element of that array. No shell is involved. And what fills an
argument from its beginning does not begin with "-", unless the template says "--" before it: who
writes a payload does not choose options of the program.
"""

from __future__ import annotations

import json
import re
import stat
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_pg.runner import secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from persona_pg.settings import Settings

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z_]+(?:\.[A-Za-z0-9_-]+)*)\}")
_SPREAD = re.compile(r"\{payload\.([A-Za-z0-9_.-]+)\.\.\.\}")

# What a program needs of its surroundings. Nothing of ours (PERSONA_*, PG*), of the service
# manager (NOTIFY_SOCKET, CREDENTIALS_DIRECTORY) or of an agent around us (CLAUDECODE*) is here.
_PASSED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "NVM_DIR"),
        *("LANG", "LANGUAGE", "TERM", "COLORTERM", "NO_COLOR", "SSH_AUTH_SOCK"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        "NODE_EXTRA_CA_CERTS",
    )
)
_PASSED_PREFIXES = ("LC_", "XDG_")
# Keys and settings of a provider go to the agents of that provider only.
_PROVIDER_PREFIXES = {
    "anthropic": ("ANTHROPIC_", "CLAUDE_CODE_", "CLAUDE_CONFIG_DIR", "AWS_", "CLOUD_ML_REGION"),
    "google": ("GEMINI_", "GOOGLE_"),
    "openai": ("OPENAI_", "CODEX_"),
    # Not a company: the agent that delivers alerts.
    "alert": ("ALERT_",),
}
# A session that the runner itself was started from is not one to continue.
_NEVER = ("CLAUDE_CODE_SESSION", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "CODEX_SANDBOX")


class RenderError(Exception):
    """The agent's template and the job's payload do not make a command line."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be started."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    stdin: bytes | None
    # The conversation that it begins or resumes, where that is known beforehand.
    session_id: str | None


def command(
    job: Mapping[str, Any],
    settings: Settings,
    environ: Mapping[str, str],
    timeout: float,
    resumption: Mapping[str, Any] | None = None,
) -> Command:
    """Return the command line, environment, working directory and input of a claimed job.

    A *resumption* says how it goes on with its conversation.
    """
    values = _values(job, settings, environ, timeout)
    session_id = None
    script = _argv(job["script_argv"], values) if job.get("script_argv") else []
    if len(script) > 1 and _is_file(script[1]):
        argv, stdin = script, None
    else:
        prompt, arguments = _prompt(job, values), job["argv"]
        if resumption is not None and resumption["argv"]:
            arguments, session_id = resumption["argv"], values["session_id"]
            prompt = resumption["prompt"] or resumption["preface"] + prompt
        else:
            prompt += _answers(job["payload"])
            if any("{new_session_id}" in argument for argument in arguments):
                session_id = values["new_session_id"]
        values["prompt"] = prompt
        argv = _argv(arguments, values)
        template = job.get("stdin_template")
        stdin = None if template is None else _fill(template, values)
    cwd = _fill(job.get("workdir") or "", values) or environ.get("HOME") or "/"
    return Command(
        argv=(*(job.get("launcher") or ()), *argv),
        env=_environment(job, settings, environ, cwd),
        cwd=cwd,
        stdin=None if stdin is None else stdin.encode("utf-8", "surrogatepass"),
        session_id=session_id,
    )


def seconds(value: float) -> str:
    """Write a number of seconds without an exponent and without needless zeros."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _values(
    job: Mapping[str, Any], settings: Settings, environ: Mapping[str, str], timeout: float
) -> dict[str, Any]:
    default_model = (
        settings.gemini_model if job.get("provider") == "google" else settings.claude_model
    )
    return {
        "payload": job["payload"],
        "model": job.get("model") or default_model,
        "vault": settings.vault_path or "",
        "root": settings.root or "",
        "home": environ.get("HOME", ""),
        "python": sys.executable,
        "business": job.get("business") or settings.business or "",
        "agent": job["agent"],
        "job_id": job["id"],
        "short_id": job["short_id"],
        "job_type": job["job_type"],
        "attempt": job["attempt"],
        "timeout": seconds(timeout),
        "max_cost": _usd(job.get("max_cost_usd")),
        "session_id": job.get("session_id") or "",
        "new_session_id": str(uuid.uuid4()),
    }


def _usd(amount: float | None) -> str:
    return "" if amount is None else f"{max(0.0, amount):.4f}"


def _prompt(job: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    path = _prompt_file(job, values)
    if path is not None:
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            raise RenderError(f"prompt file {path} cannot be read: {exc.strerror}") from exc
    template = job.get("prompt_template")
    return _fill("{payload.prompt}" if template is None else template, values)


def _answers(payload: Mapping[str, Any]) -> str:
    """Return what a person has answered, for a program that has forgotten its questions."""
    given = payload.get("answers")
    return "".join(
        f"\n\nYou asked: {_text(one.get('question'))}\nAnswer: {_text(one.get('answer'))}"
        for one in (given if isinstance(given, list) else ())
        if isinstance(one, dict) and "answer" in one
    )


def _prompt_file(job: Mapping[str, Any], values: Mapping[str, Any]) -> Path | None:
    template = job.get("prompt_file")
    if not template or not values["root"]:
        return None
    for name in re.findall(r"\{payload\.([A-Za-z0-9_.-]+)\}", template):
        part = _text(_look_up(f"payload.{name}", values))
        if not part:
            return None
        # The payload names a file in the agent's folder, it does not choose the folder.
        if "/" in part or part.startswith("."):
            raise RenderError(f"payload.{name} is {part!r}: a plain name is needed, without '/'")
    path = _fill(template, values)
    return Path(path) if _is_file(path) else None


def _is_file(path: str) -> bool:
    try:
        # Path.is_file hides every error from Python 3.14 on.
        return stat.S_ISREG(Path(path).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL
        return False
    except OSError as exc:  # too long, or in a folder that is closed to us
        raise RenderError(f"{path[:200]} cannot be looked at: {exc.strerror}") from exc


def _argv(template: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    argv: list[str] = []
    for position, element in enumerate(template):
        spread = _SPREAD.fullmatch(element)
        # A program that is itself from the payload (for admins only) brings its options with it.
        is_free = position == 0 or "--" in template[:position]
        if spread is None:
            argv.append(_fill(element, values))
            begins = _PLACEHOLDER.match(element)
            if begins is not None and begins[1] is not None and not is_free:
                _refuse_option(element, argv[-1])
            continue
        items = _look_up(f"payload.{spread[1]}", values)
        if not isinstance(items, list) or not all(isinstance(i, str | int | float) for i in items):
            raise RenderError(
                f"payload.{spread[1]} must be an array of texts, it is {_text(items)[:100]!r}"
            )
        argv.extend(_text(item) for item in items)
        for item in () if is_free else items:
            _refuse_option(element, _text(item))
    if not argv or not argv[0]:
        raise RenderError("the command line is empty: the agent's argv must begin with a program")
    for argument in argv:
        if "\0" in argument:
            raise RenderError(
                f"argument {argument[:100]!r} contains a NUL, which no program can be given"
            )
    return argv


def _refuse_option(element: str, argument: str) -> None:
    if argument.startswith("-"):
        raise RenderError(
            f"{argument[:100]!r} for {element} would be an option of the program: the agent's"
            ' arguments need "--" before it, or the form --name={...}'
        )


def _fill(template: str, values: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]  # {{ and }} stand for the braces themselves
        return _text(_look_up(match[1], values))

    return _PLACEHOLDER.sub(value, template)


def _look_up(name: str, values: Mapping[str, Any]) -> Any:
    first, *path = name.split(".")
    if first not in values or (path and first != "payload"):
        raise RenderError(
            f"unknown placeholder {{{name}}}; for the text itself write {{{{{name}}}}}"
        )
    value: Any = values[first]
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _environment(
    job: Mapping[str, Any], settings: Settings, environ: Mapping[str, str], cwd: str
) -> dict[str, str]:
    prefixes = _PASSED_PREFIXES + _PROVIDER_PREFIXES.get(job.get("provider") or "", ())
    env = {
        name: value
        for name, value in environ.items()
        if (name in _PASSED or name.startswith(prefixes)) and not name.startswith(_NEVER)
    }
    if job.get("provider") == "alert":
        # They may stand in the .env file, which is no part of our environment.
        from_file = {
            "ALERT_WEBHOOK_URL": settings.alert_webhook_url,
            "ALERT_SMTP_URL": settings.alert_smtp_url,
            "ALERT_MAIL_TO": settings.alert_mail_to,
        }
        env.update({name: value for name, value in from_file.items() if value})
    for name, value in (job.get("env") or {}).items():
        try:
            named = secrets.is_named(value)
            env[name] = secrets.read(value, environ, settings.home) if named else _text(value)
        except secrets.SecretError as exc:
            raise RenderError(str(exc)) from exc
    ours = {
        "PERSONA_JOB_ID": job["id"],
        "PERSONA_SHORT_ID": job["short_id"],
        "PERSONA_JOB_TYPE": job["job_type"],
        "PERSONA_ATTEMPT": str(job["attempt"]),
        "PERSONA_AGENT": job["agent"],
        "PERSONA_PARENT_JOB_ID": job.get("parent_job_id"),
        "PERSONA_WORKDIR": cwd,
        "PERSONA_ROOT": settings.root,
        "PERSONA_VAULT_PATH": settings.vault_path,
        "PERSONA_BUSINESS": job.get("business") or settings.business,
    }
    env.update({name: str(value) for name, value in ours.items() if value})
    return env
