"""The real agent programs, installed from npm, and their settings for the stand-in provider."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pgtest
import psutil
from agents.standin import STRAY_SECONDS

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "agents"
# Pinned: another version may print other things, and that is news for a person.
PACKAGES = {
    "claude": "@anthropic-ai/claude-code@2.1.197",
    "gemini": "@google/gemini-cli@0.61.0",
    "codex": "@openai/codex@0.169.0",
}


def find(program: str) -> Path:
    """Return the path of *program*; install it into the cache if need be."""
    given = os.environ.get("PERSONA_TEST_AGENTS")
    for folder in (given, ROOT / ".venv" / "agents" / "node_modules" / ".bin"):
        if folder and (Path(folder) / program).exists():
            return Path(folder) / program
    home = CACHE / program
    path = home / "node_modules" / ".bin" / program
    home.mkdir(parents=True, exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    with (CACHE / f"{program}.lock").open("w") as lock:  # tests may run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            if shutil.which("npm") is None:
                raise LookupError(f"no {program}, and no npm to install it with")
            options = ["--silent", "--no-audit", "--no-fund", "--prefix", str(home)]
            subprocess.run(["npm", "install", *options, PACKAGES[program]], check=True, timeout=600)
    return path


def left_behind(job_ids) -> list[psutil.Process]:
    """List the processes of jobs that are alive: by the mark, or by what they do."""
    found = {process.pid: process for process in pgtest.processes_of("-", job_ids)}
    for process in psutil.process_iter(["cmdline"]):
        if str(STRAY_SECONDS) in (process.info["cmdline"] or []):
            found[process.pid] = process
    return list(found.values())


def settings(program: str, home: Path, url: str) -> dict[str, str]:
    """Return the environment in which *program* asks the stand-in at *url*, and nobody else."""
    if program == "claude":
        return {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "sk-ant-standin",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
    if program == "gemini":
        (home / ".gemini").mkdir(parents=True, exist_ok=True)
        given = {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            # Else it tries a server in trouble again for minutes.
            "general": {"maxAttempts": 1},
        }
        (home / ".gemini" / "settings.json").write_text(json.dumps(given))
        return {"GEMINI_API_KEY": "standin", "GOOGLE_GEMINI_BASE_URL": url}
    (home / ".codex").mkdir(parents=True, exist_ok=True)
    (home / ".codex" / "config.toml").write_text(
        f"""
model = "stand-in"
model_provider = "standin"

[model_providers.standin]
name = "stand-in"
base_url = "{url}/v1"
env_key = "STANDIN_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
"""
    )
    return {"STANDIN_KEY": "standin"}


def argv(program: str, output_format: str, *options: str) -> list[str]:
    """Return the command line of a headless run; the prompt comes on standard input."""
    path = str(find(program))
    if program == "claude":
        kind = ["stream-json", "--verbose"] if "stream" in output_format else ["json"]
        return [path, "-p", "--output-format", *kind, *options]
    if program == "gemini":
        kind = ["stream-json"] if "stream" in output_format else ["json"]
        return [path, "-m", "gemini-2.5-flash", "-o", *kind, "--skip-trust", "-p", "Go.", *options]
    return [path, "exec", "--json", "--skip-git-repo-check", "-s", "read-only", *options, "-"]
