"""Agent definitions: Markdown with front matter, as agents that a runner can start.

The text below the front matter becomes the agent's instructions.  The first system started its
programs with every permission check off; here an agent may do what its `tools` say, and without
any only read and search.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from persona_pg.first_system.reading import BrokenFile, clean, first, front_matter, name
from persona_pg.settings import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from persona_pg.first_system.report import FileReport
    from persona_pg.first_system.writer import Writer

# An argument ends at 128 KiB.
_MOST_INSTRUCTIONS = 100_000
_READ_ONLY = "Read,Glob,Grep,WebSearch,WebFetch"
_PROVIDERS = {
    "claude": "anthropic",
    "anthropic": "anthropic",
    "gemini": "google",
    "google": "google",
    "codex": "openai",
    "openai": "openai",
}
_ACTIONS_HERE = "{root}/agents/{agent}/actions/{payload.action}.md"
_ACTIONS_BY_BUSINESS = "{root}/instances/{business}/agents/{agent}/actions/{payload.action}.md"


@dataclass
class Definition:
    """One agent, as its file describes it."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    # Why it cannot be registered.
    problem: str = ""

    @property
    def argv(self) -> list[str]:
        """Return program and arguments."""
        return list(self.changes["argv"])


def read(path: Path, business: str, provider: str) -> Definition:
    """Read a definition; *provider* is that of agents that name none."""
    parsed = front_matter(path)
    if parsed is None:
        return Definition(path.stem, problem="it has no front matter, so it defines no agent")
    fields, instructions = parsed
    called = name(first(fields, "name") or path.stem)
    if not called:
        raise BrokenFile("its name has no letter or digit in it")
    own = str(first(fields, "provider") or provider).lower()
    if own not in _PROVIDERS:
        return Definition(
            called,
            problem=f"its provider {own!r} has no template here; register it by hand:"
            f" persona agents add {called} -- PROGRAM ARG...",
        )
    if len(instructions.encode()) > _MOST_INSTRUCTIONS:
        return Definition(called, problem="its text is longer than an argument may be (100 kB)")
    program = _program(_PROVIDERS[own], _escaped(instructions), fields.get("tools"))
    role = first(fields, "role")
    tier = first(fields, "tier")
    changes = program | {
        "provider": _PROVIDERS[own],
        "role": None if role is None else str(role),
        "description": f"{role or called} of {business}" + (f" ({tier})" if tier else ""),
        "model": None if (model := first(fields, "model")) is None else str(model),
        "workdir": "{vault}",
        "costs_money": True,
        "may_delegate_to": _names(fields.get("direct_reports")),
    }
    changes |= _timeouts(fields)
    if _is_off(fields):
        changes["is_active"] = False
    return Definition(called, clean(changes))


def save(
    writer: Writer, found: Definition, report: FileReport, business: str, taken: dict[str, str]
) -> None:
    """Register the agent, or bring the one of its name up to date."""
    if found.problem:
        report.skip(found.name, found.problem)
        return
    if (owner := taken.setdefault(found.name, business)) != business:
        report.skip(
            found.name,
            f"the agent of that name is the one of {owner}; jobs of {business} use it too",
        )
        return
    existing = writer.agent(found.name)
    changed = sorted(
        column
        for column, value in found.changes.items()
        if existing is None or _comparable(existing[column]) != _comparable(value)
    )
    if not changed:
        report.unchanged += 1
        return
    writer.save_agent(found.name, found.argv, found.changes)
    if existing is None:
        report.imported += 1
    else:
        report.changed += 1
        report.notes.append(f"changed in {found.name}: {', '.join(changed)}")


def actions(folders: Sequence[Path]) -> list[Path]:
    """List the files that hold the prompts of actions."""
    return [path for folder in folders for path in folder.glob("agents/*/actions/*.md")]


def save_actions(writer: Writer, report: FileReport, root: Path, folders: Sequence[Path]) -> None:
    """Say where the prompts of actions are; they stay files, and are read when a job starts."""
    count = len(actions(folders))
    wanted = _ACTIONS_BY_BUSINESS if (root / "instances").is_dir() else _ACTIONS_HERE
    current = writer.prompt_file("agent_action")
    if current == wanted:
        report.unchanged = count
    elif current in (None, _ACTIONS_HERE, _ACTIONS_BY_BUSINESS):
        writer.set_prompt_file("agent_action", wanted)
        report.imported = count
    else:
        report.skip(
            f"{count} actions",
            f"job type agent_action has a prompt file of its own: {current}",
        )
    if (root / "scripts" / "run-agent.sh").is_file():
        report.notes.append(
            "agent_action jobs run scripts/run-agent.sh as long as it exists;"
            " rename it, and the agents run the actions themselves"
        )


def _program(provider: str, instructions: str, tools: Any) -> dict[str, Any]:
    if provider == "anthropic":
        argv = ["claude", "-p", "--output-format", "json", "--max-turns", "20",
                "--model", "{model}", "--allowedTools", _allowed(tools)]  # fmt: skip
        if instructions:
            argv += ["--append-system-prompt", instructions]
        return {
            "argv": argv,
            "stdin_template": "{prompt}",
            "output_format": "claude-json",
            "env": {"DISABLE_AUTOUPDATER": "1"},
            "keeps_conversation": True,
        }
    stdin = f"{instructions}\n\n{{prompt}}" if instructions else "{prompt}"
    if provider == "google":
        argv = ["gemini", "-m", "{model}", "-o", "json", "--skip-trust",
                "--approval-mode", "default", "-p", "Answer the request above."]  # fmt: skip
        return {"argv": argv, "stdin_template": stdin, "output_format": "gemini-json"}
    argv = ["codex", "exec", "--json", "--skip-git-repo-check", "-s", "read-only",
            "--color", "never", "-"]  # fmt: skip
    return {"argv": argv, "stdin_template": stdin, "output_format": "codex-jsonl"}


def _allowed(tools: Any) -> str:
    """Write the list of tools the way claude takes it: Read:PATH is Read(PATH)."""
    rules = []
    for tool in tools if isinstance(tools, list) else []:
        kind, _, path = str(tool).partition(":")
        if not re.fullmatch(r"[A-Za-z_]\w*", kind) or re.search(r"[(),]", path):
            continue
        # Its rules on files know two kinds: reading, and every way to change one.
        kind = "Edit" if kind == "Write" else kind
        rules.append(_escaped(f"{kind}({path})" if path else kind))
    return ",".join(dict.fromkeys(rules)) or _READ_ONLY


def _escaped(text: str) -> str:
    """Keep the braces of a text out of the placeholders."""
    return text.replace("{", "{{").replace("}", "}}")


def _timeouts(fields: dict[str, Any]) -> dict[str, Any]:
    found = fields.get("timeouts")
    table = found if isinstance(found, dict) else {"total": found}
    total = first(fields, "timeout", "timeout_seconds") or first(table, "total", "default")
    wanted = {"timeout": total, "idle_timeout": first(table, "idle", "silence")}
    return {
        column: _duration(value, column) for column, value in wanted.items() if value is not None
    }


def _duration(value: Any, what: str) -> timedelta:
    try:
        read = parse_duration(str(value))
    except ValueError:
        raise BrokenFile(f"its {what} {str(value)[:40]!r} is no duration") from None
    if not read:
        raise BrokenFile(f"its {what} is zero")
    return read


def _names(value: Any) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [name(one) for one in found if one is not None and str(one).lower() != "none"]


def _is_off(fields: dict[str, Any]) -> bool:
    return fields.get("enabled") is False or str(fields.get("status", "")).lower() in {
        "inactive",
        "disabled",
    }


def _comparable(value: Any) -> Any:
    """Bring a column and a wish for it into one form."""
    return value.total_seconds() if isinstance(value, timedelta) else value
