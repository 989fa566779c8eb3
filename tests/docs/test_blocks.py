"""Every command block of the documents is run, in its order, with a live runner."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pgtest
import psycopg
import pytest
from agents import fake_claude
from docs.blocks import RUN, SEPARATOR, blocks_of, pattern, script
from pgtest import ROOT

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", ROOT / "db" / "README.md", *(ROOT / "docs").glob("*.md"))
)
# Blocks that are only looked at. A language that is not here would be neither run nor looked at.
LOOKED_AT = {"", "text", "ini", "json", "mermaid", "typescript", "yaml"}
# What needs a network, a service manager or somebody else's server. A new one is a decision.
NOT_RUN = 18


def read(document):
    return blocks_of((ROOT / document).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def world(databases, postgresql_noproc, tmp_path_factory):
    """One database with the schema, a runner with a stand-in for claude, a vault, a first system."""
    folder = tmp_path_factory.mktemp("documents")
    database = databases.create(postgresql_noproc.template_dbname)
    for name in ("home", "vault", "programs"):
        (folder / name).mkdir(mode=0o700)
    (folder / "programs" / "claude.py").write_text(Path(fake_claude.__file__).read_text())
    claude = folder / "programs" / "claude"
    claude.write_text(f'#!/bin/sh\nexec {sys.executable} "{folder}/programs/claude.py" "$@"\n')
    claude.chmod(0o755)
    root = folder / "vault" / "Projects" / "Persona"
    state = root / "instances" / "PersonalMCO" / "state"
    state.mkdir(parents=True)
    (state / "executions.json").write_text(json.dumps({"executions": []}))
    (root / "python" / "persona").mkdir(parents=True)
    (root / "python" / "persona" / "bridge.py").write_text("raise SystemExit\n")
    path = [Path(sys.executable).parent, folder / "programs"]
    path += [Path(pgtest.client_program("psql")).parent, "/usr/local/bin", "/usr/bin", "/bin"]
    env = {
        "PATH": os.pathsep.join(map(str, path)),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "PAGER": "cat",
        "PERSONA_HOME": str(folder / "home"),
        "PERSONA_ENV_FILE": os.devnull,
        "PERSONA_DATABASE_URL": databases.dsn(database),
        "PERSONA_VAULT_PATH": str(folder / "vault"),
        "PERSONA_ROOT": str(root),
    }
    with psycopg.connect(env["PERSONA_DATABASE_URL"]) as connection:
        connection.execute(
            "select persona.register_agent('writer', admin_only => true, argv => '{bash,-e,-c,\"{payload.script}\"}',"
            " may_delegate_to => '{researcher}')"
        )
    worker = pgtest.WorkerProcess(
        ["persona-worker", "--concurrency", "4"], env, folder / "worker.log"
    )
    try:
        pgtest.eventually(lambda: " is ready: " in worker.output(), 30, what=worker.output)
        yield env
    finally:
        worker.stop()
        databases.drop(database)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if any(b.is_run for b in read(d))])
def test_every_command_of_the_document_runs_and_prints_what_it_shows(document, world):
    blocks = [block for block in read(document) if block.is_run]

    done = subprocess.run(
        ["bash", "-c", script(blocks)],
        env=world, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip

    parts = re.split(rf"\n{SEPARATOR}\d+\n", done.stdout)[1:]
    failed = blocks[len(parts) - 1]
    assert done.returncode == 0, f"{document}:{failed.line}\n{failed.text}\nprinted:\n{parts[-1]}"
    assert len(parts) == len(blocks)
    for block, printed in zip(blocks, parts, strict=True):
        for line in block.shown():
            assert pattern(line).search(printed), f"{document}:{block.line}: {line!r}\n{printed}"


def test_no_block_hides():
    blocks = {(document, block) for document in DOCUMENTS for block in read(document)}
    hidden = [
        f"{document}:{block.line}: {block.marker}"
        for document, block in sorted(blocks, key=lambda one: (one[0], one[1].line))
        if block.language in RUN and not block.is_run
    ]

    assert {block.language for _, block in blocks} <= {*RUN, *LOOKED_AT}
    assert len(hidden) == NOT_RUN, "\n".join(hidden)


def test_the_links_of_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        text = re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert ((ROOT / document).parent / target).exists(), f"{document}: {target}"


def test_what_explain_says_stands_under_troubleshooting():
    source = (ROOT / "db" / "functions" / "client" / "explain_job.sql").read_text()
    table = (ROOT / "docs" / "troubleshooting.md").read_text().split("## A job failed")[0]
    # Each line from its beginning to the first value or colon.
    said = set(
        re.findall(
            r"return (?:format\()?'((?:waits|needs|held|hung|ready|pending)[^%',;]*)", source
        )
    )

    assert len(said) > 10
    for words in {re.split(r"(?<!waits):", words)[0].strip() for words in said}:
        assert f"`{words}" in table, words


# -- the plugin guide --------------------------------------------------------------------------


def without_types(text):
    """Take the types out of the guide's TypeScript, as far as it uses them."""
    text = re.sub(
        r"^(export )?(interface \w+ \{.*?^\}|type [^;]*;)\n",
        "",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    kind = r"(?:string|number|boolean|unknown|object|void|Buffer|Error|Job|Answer|Promise<[\w<>]+>)"
    text = re.sub(rf"(?<=[\w)])\??: {kind}(?:\[\])?(?: \| \w+)*(?=[,)=;\s])", "", text)
    text = re.sub(r"\b(readonly|private) ", "", text)
    text = re.sub(r" as \w+", "", text)
    return re.sub(r"(?<=\w)<\w+>(?=\()", "", text)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_typescript_of_the_plugin_guide_runs(world, tmp_path):
    texts = [b.text for b in read("docs/plugin-guide.md") if b.language == "typescript"]
    program = tmp_path / "guide.mjs"
    program.write_text(without_types("\n".join(texts)))
    # What a window application has: no PATH worth the name.
    env = {"PERSONA_RPC": str(ROOT / "bin" / "persona-rpc"), "PATH": "/usr/bin:/bin"}
    kept = ("HOME", "PERSONA_HOME", "PERSONA_ENV_FILE", "PERSONA_DATABASE_URL")

    done = subprocess.run(
        [shutil.which("node"), program],
        env=env | {name: world[name] for name in kept},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0].startswith("contract 1, schema ")
    assert "not_found, retryable: false" in told
    assert any(re.fullmatch(r"[0-9a-f]{8} completed: hello", line) for line in told), told
