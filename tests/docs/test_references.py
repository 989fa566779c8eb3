"""docs/sql-reference.md and docs/cli-reference.md say what the schema and the programs say."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import pytest
from pgtest import ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate():
    loader = SourceFileLoader("generate", str(DOCS / "generate"))
    module = module_from_spec(spec_from_loader("generate", loader))
    loader.exec_module(module)
    return module


def test_the_sql_reference_is_what_docs_generate_writes(generate, conn):
    assert generate.sql_reference(conn) == (DOCS / "sql-reference.md").read_text(), (
        "run docs/generate"
    )


def test_the_command_line_reference_is_what_docs_generate_writes(generate):
    assert generate.cli_reference() == (DOCS / "cli-reference.md").read_text(), "run docs/generate"


def test_everything_public_has_its_place_in_the_sql_reference(conn):
    text = (DOCS / "sql-reference.md").read_text()
    public = conn.execute(
        "select p.proname from pg_proc as p where p.pronamespace = 'persona'::regnamespace"
        " and left(p.proname, 1) <> '_' and p.prorettype <> 'trigger'::regtype"
    ).fetchall()
    granted_to_nobody = [name for (name,) in public if f"\n#### {name}\n" not in text]

    assert public
    assert sorted(set(granted_to_nobody)) == []
